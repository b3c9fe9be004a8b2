//! Keys that users of tenants have brought by tokens that name no device.

use proto::id::{Guid, Thumbprint};
use proto::time::Timestamp;

use super::{DbError, Tx, stmt};

stmt! {
    FIND_USER_KEY (Bytes, Bytes, Bytes) -> (Int) =
        "SELECT first_at FROM entra_user_key WHERE tenant_id = $1 AND user_id = $2 AND signing_thumbprint = $3";
    COUNT_USER_KEYS (Bytes, Bytes, Int) -> (Int) =
        "SELECT CAST(count(*) AS BIGINT) FROM entra_user_key
         WHERE tenant_id = $1 AND user_id = $2 AND first_at > $3";
    PUT_USER_KEY (Bytes, Bytes, Bytes, Int) -> () =
        "INSERT INTO entra_user_key (tenant_id, user_id, signing_thumbprint, first_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (tenant_id, user_id, signing_thumbprint) DO NOTHING";
    FORGET_USER_KEYS (Int) -> () = "DELETE FROM entra_user_key WHERE first_at <= $1";
    LIST_HELD_FOR_USER (Text, Int) -> (OptBytes, OptBytes, Int, Int) =
        "SELECT entra_tenant, entra_user, CAST(count(*) AS BIGINT), min(approval_at) FROM device
         WHERE approved_by = $1 AND approval = 'held' AND blocked = 0
         GROUP BY entra_tenant, entra_user ORDER BY 4 LIMIT $2";
}

/// Users for whom devices are held, and how many since when.
pub(crate) type HeldForUser = (Option<Guid>, Option<Guid>, u64, Timestamp);

/// Whether the user has brought this key before, within the time that is remembered.
pub(crate) fn is_known(tx: &mut dyn Tx, tenant: Guid, user: Guid, key: Thumbprint) -> Result<bool, DbError> {
    Ok(tx.query_opt(&FIND_USER_KEY, &[tenant.into(), user.into(), key.into()])?.is_some())
}

/// How many keys the user has brought since a moment.
pub(crate) fn count(tx: &mut dyn Tx, tenant: Guid, user: Guid, since: Timestamp) -> Result<u64, DbError> {
    tx.query_one(&COUNT_USER_KEYS, &[tenant.into(), user.into(), since.into()])?.get(0)
}

/// Remembers a key; what is not counted any more goes.
pub(crate) fn put(
    tx: &mut dyn Tx,
    tenant: Guid,
    user: Guid,
    key: Thumbprint,
    now: Timestamp,
    forget_until: Timestamp,
) -> Result<(), DbError> {
    tx.exec(&FORGET_USER_KEYS, &[forget_until.into()])?;
    tx.exec(&PUT_USER_KEY, &[tenant.into(), user.into(), key.into(), now.into()]).map(drop)
}

/// Users with devices that wait under this approver, those that wait longest first.
pub(crate) fn list_held(tx: &mut dyn Tx, approver: &str, most: u32) -> Result<Vec<HeldForUser>, DbError> {
    let rows = tx.query(&LIST_HELD_FOR_USER, &[approver.into(), most.into()])?;
    rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))).collect()
}
