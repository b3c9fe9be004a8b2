//! Rows of the audit trail.

use super::{DbError, Row, Tx, stmt};
use crate::audit::AuditRecord;

/// The newest row's position and hash, sealed.
pub(crate) struct Head {
    pub(crate) seq: i64,
    pub(crate) hash: Vec<u8>,
    pub(crate) seal: Vec<u8>,
}

stmt! {
    FIND_HEAD () -> (Int, Bytes, Bytes) = "SELECT seq, hash, seal FROM audit_head WHERE id = 1";
    PUT_HEAD (Int, Bytes, Bytes) -> () =
        "INSERT INTO audit_head (id, seq, hash, seal) VALUES (1, $1, $2, $3)
         ON CONFLICT (id) DO UPDATE SET seq = excluded.seq, hash = excluded.hash, seal = excluded.seal";
    INSERT (Int, Int, Text, OptText, Text, Text, Text, Bytes) -> () =
        "INSERT INTO audit (seq, at, actor, origin, act, object, detail, hash)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    LIST_AFTER (Int, Int) -> (Int, Int, Text, OptText, Text, Text, Text, Bytes) =
        "SELECT seq, at, actor, origin, act, object, detail, hash FROM audit
         WHERE seq > $1 ORDER BY seq LIMIT $2";
    LIST_NEWEST (Int, Int) -> (Int, Int, Text, OptText, Text, Text, Text) =
        "SELECT seq, at, actor, origin, act, object, detail FROM audit
         WHERE seq < $1 ORDER BY seq DESC LIMIT $2";
}

pub(crate) fn find_head(tx: &mut dyn Tx) -> Result<Option<Head>, DbError> {
    let row = tx.query_opt(&FIND_HEAD, &[])?;
    row.map(|row| Ok(Head { seq: row.get(0)?, hash: row.get(1)?, seal: row.get(2)? })).transpose()
}

pub(crate) fn put_head(tx: &mut dyn Tx, head: &Head) -> Result<(), DbError> {
    tx.exec(&PUT_HEAD, &[head.seq.into(), (&head.hash).into(), (&head.seal).into()]).map(drop)
}

pub(crate) fn insert(tx: &mut dyn Tx, record: &AuditRecord, hash: &[u8]) -> Result<(), DbError> {
    let values = [
        record.seq.into(),
        record.at.into(),
        (&record.actor).into(),
        record.from.clone().into(),
        (&record.act).into(),
        (&record.object).into(),
        (&record.detail).into(),
        hash.into(),
    ];
    tx.exec(&INSERT, &values).map(drop)
}

pub(crate) fn list_after(
    tx: &mut dyn Tx,
    seq: i64,
    limit: u32,
) -> Result<Vec<(AuditRecord, Vec<u8>)>, DbError> {
    let rows = tx.query(&LIST_AFTER, &[seq.into(), limit.into()])?;
    rows.iter().map(|row| Ok((read(row)?, row.get(7)?))).collect()
}

pub(crate) fn list_newest(
    tx: &mut dyn Tx,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<AuditRecord>, DbError> {
    let rows = tx.query(&LIST_NEWEST, &[before.unwrap_or(i64::MAX).into(), limit.into()])?;
    rows.iter().map(read).collect()
}

fn read(row: &Row) -> Result<AuditRecord, DbError> {
    Ok(AuditRecord {
        seq: row.get(0)?,
        at: row.get(1)?,
        actor: row.get(2)?,
        from: row.get(3)?,
        act: row.get(4)?,
        object: row.get(5)?,
        detail: row.get(6)?,
    })
}
