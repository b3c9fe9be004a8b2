//! Changes of what is published, one row a version.

use proto::time::Timestamp;

use super::{DbError, Tx, Value, stmt};

stmt! {
    NEWEST_VERSION () -> (Int) = "SELECT CAST(coalesce(max(version), 0) AS BIGINT) FROM snapshot_change";
    INSERT_CHANGE (Int, Int, Text) -> () = "INSERT INTO snapshot_change (version, at, change) VALUES ($1, $2, $3)";
    LIST_CHANGES (Int, Int) -> (Text) =
        "SELECT change FROM snapshot_change WHERE version > $1 AND version <= $2 ORDER BY version";
    FORGET_CHANGES (Int) -> () = "DELETE FROM snapshot_change WHERE version < $1";
}

pub(crate) fn newest_version(tx: &mut dyn Tx) -> Result<u64, DbError> {
    tx.query_one(&NEWEST_VERSION, &[])?.get(0)
}

pub(crate) fn insert(tx: &mut dyn Tx, version: u64, now: Timestamp, change: &str) -> Result<(), DbError> {
    tx.exec(&INSERT_CHANGE, &[number(version), now.into(), change.into()]).map(drop)
}

/// Changes after `from` up to `to`, as JSON. At most as many as are kept.
pub(crate) fn list_between(tx: &mut dyn Tx, from: u64, to: u64) -> Result<Vec<String>, DbError> {
    tx.query(&LIST_CHANGES, &[number(from), number(to)])?.iter().map(|row| row.get(0)).collect()
}

pub(crate) fn forget_before(tx: &mut dyn Tx, version: u64) -> Result<(), DbError> {
    tx.exec(&FORGET_CHANGES, &[number(version)]).map(drop)
}

/// Versions count acts of operators: no site reaches the end of 63 bits.
fn number(version: u64) -> Value {
    Value::Int(i64::try_from(version).unwrap_or(i64::MAX))
}
