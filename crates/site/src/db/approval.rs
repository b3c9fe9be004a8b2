//! The approval rules, in their order, and the devices that one of them expects.

use proto::id::{Guid, Thumbprint};
use proto::time::Timestamp;

use super::{DbError, Row, Tx, Value, stmt};
use crate::approval::{ApprovalRule, ExpectedDevice};

stmt! {
    LIST_RULES () -> (Text, Text) = "SELECT kind, argument FROM approval_rule ORDER BY position";
    DELETE_RULES () -> () = "DELETE FROM approval_rule";
    INSERT_RULE (Int, Text, Text) -> () = "INSERT INTO approval_rule (position, kind, argument) VALUES ($1, $2, $3)";
    COUNT_EXPECTED () -> (Int) = "SELECT CAST(count(*) AS BIGINT) FROM expected_device";
    INSERT_EXPECTED (Bytes, Text, Text, Text, Text, Int, Text) -> () =
        "INSERT INTO expected_device (entry_id, name, name_key, hardware_id, note, added_at, added_by)
         VALUES ($1, $2, $3, $4, $5, $6, $7)";
    LIST_EXPECTED (Bytes, Int) -> (Bytes, Text, Text, Text, Int, Text, OptBytes) =
        "SELECT entry_id, name, hardware_id, note, added_at, added_by, taken_by FROM expected_device
         WHERE entry_id > $1 ORDER BY entry_id LIMIT $2";
    FIND_EXPECTED_BY_HARDWARE (Text, Text, Bytes) -> (Bytes) =
        "SELECT entry_id FROM expected_device
         WHERE hardware_id = $1 AND (name_key = '' OR name_key = $2) AND (taken_by IS NULL OR taken_by = $3)
         ORDER BY taken_by IS NULL, entry_id LIMIT 1";
    FIND_EXPECTED_BY_NAME (Text, Bytes) -> (Bytes) =
        "SELECT entry_id FROM expected_device
         WHERE name_key = $1 AND hardware_id = '' AND (taken_by IS NULL OR taken_by = $2)
         ORDER BY taken_by IS NULL, entry_id LIMIT 1";
    COUNT_EXPECTED_BY_NAME_ALONE () -> (Int) =
        "SELECT CAST(count(*) AS BIGINT) FROM expected_device WHERE hardware_id = '' AND taken_by IS NULL";
    TAKE_EXPECTED (Bytes, Bytes, Int) -> () =
        "UPDATE expected_device SET taken_by = $2, taken_at = $3 WHERE entry_id = $1 AND taken_by IS NULL";
    DELETE_EXPECTED (Bytes) -> () = "DELETE FROM expected_device WHERE entry_id = $1";
}

pub(crate) fn list(tx: &mut dyn Tx) -> Result<Vec<ApprovalRule>, DbError> {
    let rows = tx.query(&LIST_RULES, &[])?;
    rows.iter()
        .map(|row| {
            let (kind, argument): (String, String) = (row.get(0)?, row.get(1)?);
            ApprovalRule::parse(&kind, &argument)
                .ok_or(DbError::Column { statement: "LIST_RULES", column: 0 })
        })
        .collect()
}

pub(crate) fn replace(tx: &mut dyn Tx, rules: &[ApprovalRule]) -> Result<(), DbError> {
    tx.exec(&DELETE_RULES, &[])?;
    for (position, rule) in (1_i64..).zip(rules) {
        tx.exec(&INSERT_RULE, &[position.into(), rule.kind().into(), rule.argument().into()])?;
    }
    Ok(())
}

pub(crate) fn count_expected(tx: &mut dyn Tx) -> Result<u64, DbError> {
    tx.query_one(&COUNT_EXPECTED, &[])?.get(0)
}

/// Entries that wait for a device of some name, whatever its hardware: anybody can claim a name.
pub(crate) fn count_expected_by_name_alone(tx: &mut dyn Tx) -> Result<u64, DbError> {
    tx.query_one(&COUNT_EXPECTED_BY_NAME_ALONE, &[])?.get(0)
}

pub(crate) fn insert_expected(tx: &mut dyn Tx, entry: &ExpectedDevice) -> Result<(), DbError> {
    let values = [
        entry.id.into(),
        (&entry.name).into(),
        entry.name.to_lowercase().into(),
        (&entry.hardware_id).into(),
        (&entry.note).into(),
        entry.added_at.into(),
        (&entry.added_by).into(),
    ];
    tx.exec(&INSERT_EXPECTED, &values).map(drop)
}

pub(crate) fn list_expected(
    tx: &mut dyn Tx,
    after: Option<Guid>,
    limit: u32,
) -> Result<Vec<ExpectedDevice>, DbError> {
    let after = after.map_or_else(|| Value::Bytes(Vec::new()), Value::from);
    tx.query(&LIST_EXPECTED, &[after, limit.into()])?.iter().map(read_expected).collect()
}

/// The entry that fits, hardware before name, and that this key has taken or nobody has.
pub(crate) fn find_expected(
    tx: &mut dyn Tx,
    name: &str,
    hardware_id: &str,
    key: Thumbprint,
) -> Result<Option<Guid>, DbError> {
    let name = name.to_lowercase();
    let mut row = None;
    if !hardware_id.is_empty() {
        let values = [hardware_id.into(), (&name).into(), key.into()];
        row = tx.query_opt(&FIND_EXPECTED_BY_HARDWARE, &values)?;
    }
    if row.is_none() && !name.is_empty() {
        row = tx.query_opt(&FIND_EXPECTED_BY_NAME, &[name.into(), key.into()])?;
    }
    row.map(|row| row.get(0)).transpose()
}

pub(crate) fn take_expected(
    tx: &mut dyn Tx,
    entry: Guid,
    key: Thumbprint,
    now: Timestamp,
) -> Result<(), DbError> {
    tx.exec(&TAKE_EXPECTED, &[entry.into(), key.into(), now.into()]).map(drop)
}

/// Whether there was such an entry.
pub(crate) fn delete_expected(tx: &mut dyn Tx, entry: Guid) -> Result<bool, DbError> {
    tx.exec(&DELETE_EXPECTED, &[entry.into()]).map(|rows| rows > 0)
}

fn read_expected(row: &Row) -> Result<ExpectedDevice, DbError> {
    Ok(ExpectedDevice {
        id: row.get(0)?,
        name: row.get(1)?,
        hardware_id: row.get(2)?,
        note: row.get(3)?,
        added_at: row.get(4)?,
        added_by: row.get(5)?,
        taken_by: row.get(6)?,
    })
}
