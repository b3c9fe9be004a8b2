//! The site's keys: certificates in the clear, private keys sealed.

use proto::id::Guid;
use proto::time::Timestamp;

use super::{DbError, Row, Tx, stmt};
use crate::keys::{KeyPurpose, KeyRecord, KeyState};

stmt! {
    LIST_KEYS () -> (Bytes, Text, Text, Bytes, Bytes, Int, Int, Int) =
        "SELECT key_id, purpose, state, certificate, sealed, created_at, changed_at, last_expiry
         FROM site_key ORDER BY created_at, key_id";
    INSERT_KEY (Bytes, Text, Text, Bytes, Bytes, Int, Int, Int) -> () =
        "INSERT INTO site_key (key_id, purpose, state, certificate, sealed, created_at, changed_at, last_expiry)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    SET_KEY_STATE (Bytes, Text, Int) -> () = "UPDATE site_key SET state = $2, changed_at = $3 WHERE key_id = $1";
    RAISE_LAST_EXPIRY (Bytes, Int) -> () =
        "UPDATE site_key SET last_expiry = $2 WHERE key_id = $1 AND last_expiry < $2";
}

pub(crate) fn list(tx: &mut dyn Tx) -> Result<Vec<KeyRecord>, DbError> {
    tx.query(&LIST_KEYS, &[])?.iter().map(read).collect()
}

pub(crate) fn insert(tx: &mut dyn Tx, record: &KeyRecord) -> Result<(), DbError> {
    let values = [
        record.id.into(),
        record.purpose.as_str().into(),
        record.state.as_str().into(),
        (&record.certificate).into(),
        (&record.sealed).into(),
        record.created_at.into(),
        record.changed_at.into(),
        record.last_expiry.into(),
    ];
    tx.exec(&INSERT_KEY, &values).map(drop)
}

pub(crate) fn set_state(tx: &mut dyn Tx, id: Guid, state: KeyState, now: Timestamp) -> Result<(), DbError> {
    tx.exec(&SET_KEY_STATE, &[id.into(), state.as_str().into(), now.into()]).map(drop)
}

/// Notes the end of a token that the key signed, in the transaction that issues the token.
pub(crate) fn raise_last_expiry(tx: &mut dyn Tx, id: Guid, expires: Timestamp) -> Result<(), DbError> {
    tx.exec(&RAISE_LAST_EXPIRY, &[id.into(), expires.into()]).map(drop)
}

fn read(row: &Row) -> Result<KeyRecord, DbError> {
    let word = |column| row.get::<String>(column);
    let unknown = |column| DbError::Column { statement: "LIST_KEYS", column };
    Ok(KeyRecord {
        id: row.get(0)?,
        purpose: KeyPurpose::parse(&word(1)?).ok_or_else(|| unknown(1))?,
        state: KeyState::parse(&word(2)?).ok_or_else(|| unknown(2))?,
        certificate: row.get(3)?,
        sealed: row.get(4)?,
        created_at: row.get(5)?,
        changed_at: row.get(6)?,
        last_expiry: row.get(7)?,
    })
}
