//! Objects of client settings, where they are aimed at, and the bodies that they lead to.

use std::collections::BTreeMap;

use proto::id::Guid;
use proto::time::Timestamp;

use super::{DbError, Row, Tx, stmt};
use crate::client_settings::{DEFAULT_NAME, DEFAULT_PRIORITY, Object};

/// An object as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ObjectRow {
    pub(crate) id: Guid,
    pub(crate) name: String,
    pub(crate) priority: u32,
    pub(crate) values: BTreeMap<String, String>,
    pub(crate) changed_at: Timestamp,
    pub(crate) changed_by: String,
}

impl ObjectRow {
    /// The default settings before anybody set one.
    pub(crate) fn default_settings(now: Timestamp) -> Self {
        Self {
            id: Guid::nil(),
            name: DEFAULT_NAME.to_owned(),
            priority: DEFAULT_PRIORITY,
            values: BTreeMap::new(),
            changed_at: now,
            changed_by: String::new(),
        }
    }
}

stmt! {
    FIND_CLIENT_SETTINGS (Text) -> (Bytes, Text, Int, Text, Int, Text) =
        "SELECT settings_id, name, priority, settings, changed_at, changed_by FROM client_settings
         WHERE name_key = $1";
    LIST_CLIENT_SETTINGS () -> (Bytes, Text, Int, Text, Int, Text) =
        "SELECT settings_id, name, priority, settings, changed_at, changed_by FROM client_settings
         ORDER BY priority LIMIT 10000";
    COUNT_CLIENT_SETTINGS () -> (Int) = "SELECT CAST(count(*) AS BIGINT) FROM client_settings";
    PUT_CLIENT_SETTINGS (Bytes, Text, Text, Int, Text, Int, Text) -> () =
        "INSERT INTO client_settings (settings_id, name, name_key, priority, settings, changed_at, changed_by)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (settings_id) DO UPDATE SET priority = excluded.priority, settings = excluded.settings,
            changed_at = excluded.changed_at, changed_by = excluded.changed_by";
    DELETE_CLIENT_SETTINGS (Bytes) -> () = "DELETE FROM client_settings WHERE settings_id = $1";
    LIST_TARGETS () -> (Bytes, Text, Text, Int) =
        "SELECT t.settings_id, t.collection_id, c.name, t.excluded FROM client_settings_target AS t
         JOIN collection AS c ON c.collection_id = t.collection_id ORDER BY t.settings_id, c.name LIMIT 200000";
    INSERT_TARGET (Bytes, Text, Int) -> () =
        "INSERT INTO client_settings_target (settings_id, collection_id, excluded) VALUES ($1, $2, $3)";
    DELETE_TARGETS (Bytes) -> () = "DELETE FROM client_settings_target WHERE settings_id = $1";
    DELETE_TARGETS_AT (Text) -> () = "DELETE FROM client_settings_target WHERE collection_id = $1";
    FIND_VARIANT (Text) -> (Bytes, Text) =
        "SELECT content, version FROM client_settings_variant WHERE variant = $1";
    FIND_VARIANT_BY_CONTENT (Bytes) -> (Text) =
        "SELECT version FROM client_settings_variant WHERE content = $1 LIMIT 1";
    LIST_VARIANTS () -> (Text) = "SELECT variant FROM client_settings_variant ORDER BY variant LIMIT 10000";
    PUT_VARIANT (Text, Bytes, Text) -> () =
        "INSERT INTO client_settings_variant (variant, content, version) VALUES ($1, $2, $3)
         ON CONFLICT (variant) DO UPDATE SET content = excluded.content, version = excluded.version";
    FORGET_VARIANT (Text) -> () = "DELETE FROM client_settings_variant WHERE variant = $1";
}

/// An object by its name, in any case.
pub(crate) fn find(tx: &mut dyn Tx, name: &str) -> Result<Option<ObjectRow>, DbError> {
    tx.query_opt(&FIND_CLIENT_SETTINGS, &[name.to_lowercase().into()])?.as_ref().map(read).transpose()
}

pub(crate) fn count(tx: &mut dyn Tx) -> Result<u64, DbError> {
    tx.query_one(&COUNT_CLIENT_SETTINGS, &[])?.get(0)
}

/// What the default says, and the custom objects with their targets, the smallest priority first.
pub(crate) fn list_objects(tx: &mut dyn Tx) -> Result<(BTreeMap<String, String>, Vec<Object>), DbError> {
    let rows: Vec<_> = tx.query(&LIST_CLIENT_SETTINGS, &[])?.iter().map(read).collect::<Result<_, _>>()?;
    let (default, custom): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.name == DEFAULT_NAME);
    let default = default.into_iter().next().map(|row| row.values).unwrap_or_default();
    if custom.is_empty() {
        return Ok((default, Vec::new()));
    }
    let mut targets: BTreeMap<Guid, [Vec<(String, String)>; 2]> = BTreeMap::new();
    for row in tx.query(&LIST_TARGETS, &[])? {
        let side = usize::from(row.get::<bool>(3)?);
        targets.entry(row.get(0)?).or_default()[side].push((row.get(1)?, row.get(2)?));
    }
    let object = |row: ObjectRow| {
        let [aimed, excluded] = targets.remove(&row.id).unwrap_or_default();
        Object {
            id: row.id,
            name: row.name,
            priority: row.priority,
            values: row.values,
            targets: aimed,
            excluded,
        }
    };
    Ok((default, custom.into_iter().map(object).collect()))
}

/// Writes an object; its name never changes.
pub(crate) fn put(tx: &mut dyn Tx, row: &ObjectRow) -> Result<(), DbError> {
    // A map of texts always has a JSON form.
    let values = serde_json::to_string(&row.values).expect("plain data has a JSON form");
    let values = [
        row.id.into(),
        (&row.name).into(),
        row.name.to_lowercase().into(),
        row.priority.into(),
        values.into(),
        row.changed_at.into(),
        (&row.changed_by).into(),
    ];
    tx.exec(&PUT_CLIENT_SETTINGS, &values).map(drop)
}

pub(crate) fn delete(tx: &mut dyn Tx, name: &str) -> Result<(), DbError> {
    let Some(row) = find(tx, name)? else { return Ok(()) };
    tx.exec(&DELETE_TARGETS, &[row.id.into()])?;
    tx.exec(&DELETE_CLIENT_SETTINGS, &[row.id.into()]).map(drop)
}

/// Ids of the collections that an object is for, and not for.
pub(crate) fn list_targets(tx: &mut dyn Tx, id: Guid) -> Result<(Vec<String>, Vec<String>), DbError> {
    let (_, objects) = list_objects(tx)?;
    let ids = |list: Vec<(String, String)>| list.into_iter().map(|(id, _)| id).collect();
    let found = objects.into_iter().find(|object| object.id == id);
    Ok(found.map(|object| (ids(object.targets), ids(object.excluded))).unwrap_or_default())
}

pub(crate) fn replace_targets(
    tx: &mut dyn Tx,
    id: Guid,
    aimed: &[String],
    excluded: &[String],
) -> Result<(), DbError> {
    tx.exec(&DELETE_TARGETS, &[id.into()])?;
    for (list, is_excluded) in [(aimed, false), (excluded, true)] {
        for collection in list {
            tx.exec(&INSERT_TARGET, &[id.into(), collection.into(), is_excluded.into()])?;
        }
    }
    Ok(())
}

/// A collection that goes away is no target any more.
pub(crate) fn forget_target(tx: &mut dyn Tx, collection: &str) -> Result<(), DbError> {
    tx.exec(&DELETE_TARGETS_AT, &[collection.into()]).map(drop)
}

/// What a combination's body says (as a hash), and its version.
pub(crate) fn find_variant(tx: &mut dyn Tx, variant: &str) -> Result<Option<(Vec<u8>, String)>, DbError> {
    let row = tx.query_opt(&FIND_VARIANT, &[variant.into()])?;
    row.map(|row| Ok((row.get(0)?, row.get(1)?))).transpose()
}

/// The version of a body in use that says just that.
pub(crate) fn find_content(tx: &mut dyn Tx, content: &[u8]) -> Result<Option<String>, DbError> {
    tx.query_opt(&FIND_VARIANT_BY_CONTENT, &[content.into()])?.map(|row| row.get(0)).transpose()
}

pub(crate) fn list_variants(tx: &mut dyn Tx) -> Result<Vec<String>, DbError> {
    tx.query(&LIST_VARIANTS, &[])?.iter().map(|row| row.get(0)).collect()
}

pub(crate) fn put_variant(
    tx: &mut dyn Tx,
    variant: &str,
    content: &[u8],
    version: &str,
) -> Result<(), DbError> {
    tx.exec(&PUT_VARIANT, &[variant.into(), content.into(), version.into()]).map(drop)
}

pub(crate) fn forget_variant(tx: &mut dyn Tx, variant: &str) -> Result<(), DbError> {
    tx.exec(&FORGET_VARIANT, &[variant.into()]).map(drop)
}

fn read(row: &Row) -> Result<ObjectRow, DbError> {
    let wrong = |_| DbError::Column { statement: "LIST_CLIENT_SETTINGS", column: 3 };
    Ok(ObjectRow {
        id: row.get(0)?,
        name: row.get(1)?,
        priority: row.get(2)?,
        values: serde_json::from_str(&row.get::<String>(3)?).map_err(wrong)?,
        changed_at: row.get(4)?,
        changed_by: row.get(5)?,
    })
}
