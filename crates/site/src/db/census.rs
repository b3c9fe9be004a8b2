//! How many devices there are of each kind.

use super::{DbError, Tx, stmt};

stmt! {
    COUNT_DEVICES () -> (Text, Text, Int, Int) =
        "SELECT approval, method, blocked, CAST(count(*) AS BIGINT) FROM device GROUP BY approval, method, blocked";
}

/// Devices that are alike in what is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceCount {
    /// `approved`, `pending`, `denied`.
    pub approval: String,
    /// By what they prove themselves.
    pub method: String,
    /// Whether an operator blocked them.
    pub blocked: bool,
    /// How many.
    pub devices: u64,
}

/// Counts all devices. Reads an index or the whole table, so ask seldom.
pub(crate) fn count(tx: &mut dyn Tx) -> Result<Vec<DeviceCount>, DbError> {
    let rows = tx.query(&COUNT_DEVICES, &[])?;
    rows.iter()
        .map(|row| {
            let blocked: i64 = row.get(2)?;
            let devices: i64 = row.get(3)?;
            Ok(DeviceCount {
                approval: row.get(0)?,
                method: row.get(1)?,
                blocked: blocked != 0,
                devices: u64::try_from(devices).unwrap_or(0),
            })
        })
        .collect()
}
