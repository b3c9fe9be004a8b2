//! Bulk registration tokens and their uses.

use proto::id::{ClientId, Guid, Thumbprint};
use proto::time::Timestamp;

use super::{DbError, Row, Tx, stmt};
use crate::bulk_token::{BulkToken, BulkTokenApproval};

stmt! {
    INSERT_BULK_TOKEN (Bytes, Int, Int, OptInt, Text, Text, Text) -> () =
        "INSERT INTO bulk_token (token_id, created_at, expires_at, max_uses, approval, note, created_by, blocked, uses)
         VALUES ($1, $2, $3, $4, $5, $6, $7, 0, 0)";
    FIND_BULK_TOKEN (Bytes) -> (Bytes, Int, Int, OptInt, Int, Text, Text, Text, Int) =
        "SELECT token_id, created_at, expires_at, max_uses, uses, approval, note, created_by, blocked
         FROM bulk_token WHERE token_id = $1";
    LIST_BULK_TOKENS () -> (Bytes, Int, Int, OptInt, Int, Text, Text, Text, Int) =
        "SELECT token_id, created_at, expires_at, max_uses, uses, approval, note, created_by, blocked
         FROM bulk_token ORDER BY created_at DESC, token_id LIMIT 1000";
    LIST_BLOCKED_BULK_TOKENS (Int) -> (Bytes) =
        "SELECT token_id FROM bulk_token WHERE blocked = 1 AND expires_at > $1";
    SET_BULK_TOKEN_BLOCKED (Bytes, Int) -> () = "UPDATE bulk_token SET blocked = $2 WHERE token_id = $1";
    FIND_USE (Bytes, Bytes) -> (Bytes) =
        "SELECT client_id FROM bulk_token_use WHERE token_id = $1 AND thumbprint = $2";
    INSERT_USE (Bytes, Bytes, Bytes, Int) -> () =
        "INSERT INTO bulk_token_use (token_id, thumbprint, client_id, used_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (token_id, thumbprint) DO NOTHING";
    COUNT_USE (Bytes) -> () = "UPDATE bulk_token SET uses = uses + 1 WHERE token_id = $1";
}

pub(crate) fn insert(tx: &mut dyn Tx, token: &BulkToken) -> Result<(), DbError> {
    let values = [
        token.id.into(),
        token.created_at.into(),
        token.expires_at.into(),
        token.max_uses.into(),
        token.approval.as_str().into(),
        (&token.note).into(),
        (&token.created_by).into(),
    ];
    tx.exec(&INSERT_BULK_TOKEN, &values).map(drop)
}

pub(crate) fn find(tx: &mut dyn Tx, id: Guid) -> Result<Option<BulkToken>, DbError> {
    tx.query_opt(&FIND_BULK_TOKEN, &[id.into()])?.as_ref().map(read).transpose()
}

pub(crate) fn list(tx: &mut dyn Tx) -> Result<Vec<BulkToken>, DbError> {
    tx.query(&LIST_BULK_TOKENS, &[])?.iter().map(read).collect()
}

/// Blocked tokens that would otherwise still count.
pub(crate) fn list_blocked(tx: &mut dyn Tx, now: Timestamp) -> Result<Vec<Guid>, DbError> {
    tx.query(&LIST_BLOCKED_BULK_TOKENS, &[now.into()])?.iter().map(|row| row.get(0)).collect()
}

pub(crate) fn set_blocked(tx: &mut dyn Tx, id: Guid, blocked: bool) -> Result<(), DbError> {
    tx.exec(&SET_BULK_TOKEN_BLOCKED, &[id.into(), blocked.into()]).map(drop)
}

pub(crate) fn was_used_by(tx: &mut dyn Tx, id: Guid, key: Thumbprint) -> Result<bool, DbError> {
    Ok(tx.query_opt(&FIND_USE, &[id.into(), key.into()])?.is_some())
}

/// Notes a use; the second of the same key is none.
pub(crate) fn register_use(
    tx: &mut dyn Tx,
    id: Guid,
    key: Thumbprint,
    device: ClientId,
    now: Timestamp,
) -> Result<(), DbError> {
    let new = tx.exec(&INSERT_USE, &[id.into(), key.into(), device.into(), now.into()])? > 0;
    if new { tx.exec(&COUNT_USE, &[id.into()]).map(drop) } else { Ok(()) }
}

fn read(row: &Row) -> Result<BulkToken, DbError> {
    let approval: String = row.get(5)?;
    let approval = BulkTokenApproval::parse(&approval);
    Ok(BulkToken {
        id: row.get(0)?,
        created_at: row.get(1)?,
        expires_at: row.get(2)?,
        max_uses: row.get(3)?,
        uses: row.get(4)?,
        approval: approval.ok_or(DbError::Column { statement: "FIND_BULK_TOKEN", column: 5 })?,
        note: row.get(6)?,
        created_by: row.get(7)?,
        blocked: row.get(8)?,
    })
}
