//! Collections and their members.

use proto::id::ClientId;
use proto::time::Timestamp;

use super::{DbError, Row, Tx, Value, stmt};
use crate::collection::{Collection, CollectionMember};
use crate::policy::ALL_DEVICES;

/// A collection with the number of its members.
macro_rules! selected {
    () => {
        "SELECT c.collection_id, c.name, CASE WHEN c.collection_id = 'SMS00001'
            THEN (SELECT CAST(count(*) AS BIGINT) FROM device)
            ELSE (SELECT CAST(count(*) AS BIGINT) FROM collection_member AS m
                WHERE m.collection_id = c.collection_id) END
         FROM collection AS c"
    };
}

stmt! {
    FIND_COLLECTION (Text) -> (Text, Text, Int) = concat!(selected!(), " WHERE c.collection_id = $1");
    FIND_COLLECTION_BY_NAME (Text) -> (Text, Text, Int) =
        concat!(selected!(), " WHERE lower(c.name) = lower($1) OR c.name = $1 ORDER BY c.name <> $1, c.name LIMIT 1");
    LIST_COLLECTIONS () -> (Text, Text, Int) = concat!(selected!(), " ORDER BY c.name LIMIT 10000");
    INSERT_COLLECTION (Text, Text, Int) -> () =
        "INSERT INTO collection (collection_id, name, created_at) VALUES ($1, $2, $3)";
    DELETE_MEMBERS (Text) -> () = "DELETE FROM collection_member WHERE collection_id = $1";
    DELETE_COLLECTION (Text) -> () = "DELETE FROM collection WHERE collection_id = $1";
    INSERT_MEMBER (Text, Bytes) -> () =
        "INSERT INTO collection_member (collection_id, client_id) VALUES ($1, $2)
         ON CONFLICT (collection_id, client_id) DO NOTHING";
    DELETE_MEMBER (Text, Bytes) -> () =
        "DELETE FROM collection_member WHERE collection_id = $1 AND client_id = $2";
    LIST_MEMBERS (Text, Bytes, Int) -> (Bytes, Text) =
        "SELECT d.client_id, d.name FROM collection_member AS m JOIN device AS d ON d.client_id = m.client_id
         WHERE m.collection_id = $1 AND d.client_id > $2 ORDER BY d.client_id LIMIT $3";
    LIST_ALL_MEMBERS (Bytes, Int) -> (Bytes, Text) =
        "SELECT client_id, name FROM device WHERE client_id > $1 ORDER BY client_id LIMIT $2";
    LIST_COLLECTIONS_OF (Bytes) -> (Text) =
        "SELECT collection_id FROM collection_member WHERE client_id = $1 ORDER BY collection_id LIMIT 10000";
}

/// A collection by its id or, in any case, its name.
pub(crate) fn find(tx: &mut dyn Tx, text: &str) -> Result<Option<Collection>, DbError> {
    let mut row = tx.query_opt(&FIND_COLLECTION, &[text.into()])?;
    if row.is_none() {
        row = tx.query_opt(&FIND_COLLECTION_BY_NAME, &[text.into()])?;
    }
    row.as_ref().map(read).transpose()
}

pub(crate) fn list(tx: &mut dyn Tx) -> Result<Vec<Collection>, DbError> {
    tx.query(&LIST_COLLECTIONS, &[])?.iter().map(read).collect()
}

pub(crate) fn insert(tx: &mut dyn Tx, id: &str, name: &str, now: Timestamp) -> Result<(), DbError> {
    tx.exec(&INSERT_COLLECTION, &[id.into(), name.into(), now.into()]).map(drop)
}

/// Deletes a collection that nothing is aimed at any more.
pub(crate) fn delete(tx: &mut dyn Tx, id: &str) -> Result<(), DbError> {
    tx.exec(&DELETE_MEMBERS, &[id.into()])?;
    tx.exec(&DELETE_COLLECTION, &[id.into()]).map(drop)
}

/// Whether it was not in it.
pub(crate) fn insert_member(tx: &mut dyn Tx, collection: &str, device: ClientId) -> Result<bool, DbError> {
    tx.exec(&INSERT_MEMBER, &[collection.into(), device.into()]).map(|rows| rows > 0)
}

/// Whether it was in it.
pub(crate) fn delete_member(tx: &mut dyn Tx, collection: &str, device: ClientId) -> Result<bool, DbError> {
    tx.exec(&DELETE_MEMBER, &[collection.into(), device.into()]).map(|rows| rows > 0)
}

pub(crate) fn list_members(
    tx: &mut dyn Tx,
    collection: &str,
    after: Option<ClientId>,
) -> Result<Vec<CollectionMember>, DbError> {
    let after = after.map_or_else(|| Value::Bytes(Vec::new()), Value::from);
    let limit = crate::limits::PAGE.into();
    let rows = if collection == ALL_DEVICES {
        tx.query(&LIST_ALL_MEMBERS, &[after, limit])?
    } else {
        tx.query(&LIST_MEMBERS, &[collection.into(), after, limit])?
    };
    rows.iter().map(|row| Ok(CollectionMember { device: row.get(0)?, name: row.get(1)? })).collect()
}

/// Ids of the collections that an operator has put a device into.
pub(crate) fn list_of(tx: &mut dyn Tx, device: ClientId) -> Result<Vec<String>, DbError> {
    tx.query(&LIST_COLLECTIONS_OF, &[device.into()])?.iter().map(|row| row.get(0)).collect()
}

fn read(row: &Row) -> Result<Collection, DbError> {
    Ok(Collection { id: row.get(0)?, name: row.get(1)?, members: row.get(2)? })
}
