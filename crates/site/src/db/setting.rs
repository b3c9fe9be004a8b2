//! Site settings that differ from their defaults.

use proto::time::Timestamp;

use super::{DbError, Tx, stmt};

/// A setting as stored.
#[derive(Debug, Clone)]
pub(crate) struct SettingRow {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) changed_at: Timestamp,
    pub(crate) changed_by: String,
}

stmt! {
    LIST_SETTINGS () -> (Text, Text, Int, Text) = "SELECT name, value, changed_at, changed_by FROM setting ORDER BY name";
    PUT_SETTING (Text, Text, Int, Text) -> () =
        "INSERT INTO setting (name, value, changed_at, changed_by) VALUES ($1, $2, $3, $4)
         ON CONFLICT (name) DO UPDATE SET value = excluded.value, changed_at = excluded.changed_at,
         changed_by = excluded.changed_by";
}

pub(crate) fn list(tx: &mut dyn Tx) -> Result<Vec<SettingRow>, DbError> {
    let rows = tx.query(&LIST_SETTINGS, &[])?;
    rows.iter()
        .map(|row| {
            Ok(SettingRow {
                name: row.get(0)?,
                value: row.get(1)?,
                changed_at: row.get(2)?,
                changed_by: row.get(3)?,
            })
        })
        .collect()
}

pub(crate) fn put(tx: &mut dyn Tx, row: &SettingRow) -> Result<(), DbError> {
    let values = [(&row.name).into(), (&row.value).into(), row.changed_at.into(), (&row.changed_by).into()];
    tx.exec(&PUT_SETTING, &values).map(drop)
}
