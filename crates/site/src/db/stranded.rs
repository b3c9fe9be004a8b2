//! Who knocks with dead credentials.

use proto::id::{ClientId, Thumbprint};

use super::{DbError, Row, Tx, stmt};
use crate::device::SeenVia;
use crate::stranded::{Knocker, StrandedRow, Waiting};

stmt! {
    PUT_STRANDED (Text, OptBytes, OptBytes, Text, Text, Text, Text, OptText, Int, Int, Int) -> () =
        "INSERT INTO stranded (subject, client_id, thumbprint, name, reason, detail, via, address, first_at,
            last_at, knocks)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
         ON CONFLICT (subject) DO UPDATE SET
            name = CASE WHEN excluded.name = '' THEN stranded.name ELSE excluded.name END,
            reason = excluded.reason, detail = excluded.detail, via = excluded.via, address = excluded.address,
            last_at = excluded.last_at, knocks = stranded.knocks + excluded.knocks";
    LIST_STRANDED () -> (OptBytes, OptBytes, Text, OptText, OptInt, Text, Text, Text, OptText, Int, Int, Int) =
        "SELECT s.client_id, s.thumbprint, s.name, d.name, d.blocked, s.reason, s.detail, s.via, s.address, s.first_at,
            s.last_at, s.knocks
         FROM stranded AS s LEFT JOIN device AS d ON d.client_id = s.client_id
         WHERE d.last_seen_at IS NULL OR d.last_seen_at <= s.last_at
         ORDER BY s.last_at DESC, s.subject LIMIT 1000";
    COUNT_STRANDED () -> (Int) = "SELECT CAST(count(*) AS BIGINT) FROM stranded";
    FORGET_SURPLUS_STRANDED (Int) -> () =
        "DELETE FROM stranded WHERE subject IN (
            SELECT s.subject FROM stranded AS s LEFT JOIN device AS d ON d.client_id = s.client_id
            ORDER BY d.client_id IS NOT NULL, s.last_at LIMIT $1)";
    FORGET_STRANDED (Text, Text) -> () = "DELETE FROM stranded WHERE subject = $1 OR subject = $2";
}

/// Adds knocks to those of the same knocker.
pub(crate) fn put(tx: &mut dyn Tx, knocker: Knocker, waiting: &Waiting) -> Result<(), DbError> {
    let knock = &waiting.knock;
    let values = [
        knocker.subject().into(),
        knock.device.into(),
        knock.key.into(),
        knock.name.clone().unwrap_or_default().into(),
        knock.reason.to_string().into(),
        (&knock.detail).into(),
        knock.via.as_str().into(),
        knock.address.map(|address| address.to_string()).into(),
        waiting.first.into(),
        waiting.last.into(),
        waiting.count.into(),
    ];
    tx.exec(&PUT_STRANDED, &values).map(drop)
}

pub(crate) fn list(tx: &mut dyn Tx) -> Result<Vec<StrandedRow>, DbError> {
    tx.query(&LIST_STRANDED, &[])?.iter().map(read).collect()
}

/// Drops what is over the bound: those that no record knows first, then the oldest.
pub(crate) fn forget_surplus(tx: &mut dyn Tx, kept: i64) -> Result<(), DbError> {
    let surplus = tx.query_one(&COUNT_STRANDED, &[])?.get::<i64>(0)? - kept;
    if surplus <= 0 {
        return Ok(());
    }
    tx.exec(&FORGET_SURPLUS_STRANDED, &[surplus.into()]).map(drop)
}

pub(crate) fn forget(tx: &mut dyn Tx, device: ClientId, key: Thumbprint) -> Result<(), DbError> {
    let subjects = [Knocker::Device(device).subject(), Knocker::Key(key).subject()];
    tx.exec(&FORGET_STRANDED, &subjects.map(Into::into)).map(drop)
}

fn read(row: &Row) -> Result<StrandedRow, DbError> {
    let via: String = row.get(7)?;
    let record: Option<String> = row.get(3)?;
    Ok(StrandedRow {
        device: row.get(0)?,
        key: row.get(1)?,
        registered: record.is_some(),
        name: match record {
            Some(name) => name,
            None => row.get(2)?,
        },
        blocked: row.get::<Option<bool>>(4)?.unwrap_or_default(),
        reason: row.get(5)?,
        detail: row.get(6)?,
        via: SeenVia::parse(&via).ok_or(DbError::Column { statement: "LIST_STRANDED", column: 7 })?,
        address: row.get::<Option<String>>(8)?.and_then(|text| text.parse().ok()),
        first: row.get(9)?,
        last: row.get(10)?,
        count: row.get(11)?,
    })
}
