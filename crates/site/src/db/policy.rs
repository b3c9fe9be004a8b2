//! Policy bodies, collections and assignments.

use proto::id::ClientId;
use proto::text::hex;
use proto::time::Timestamp;

use super::{DbError, Row, Tx, stmt};
use crate::policy::{ALL_DEVICES, Assignment, Collection, Policy};

/// A policy with its body as stored.
#[derive(Debug, Clone)]
pub(crate) struct PolicyRow {
    pub(crate) id: String,
    pub(crate) version: String,
    pub(crate) hash: Vec<u8>,
    pub(crate) body: Vec<u8>,
    pub(crate) category: String,
    pub(crate) flags: u32,
    pub(crate) revision: u32,
    pub(crate) created_at: Timestamp,
}

impl PolicyRow {
    pub(crate) fn policy(&self) -> Policy {
        Policy {
            id: self.id.clone(),
            version: self.version.clone(),
            hash: written(&self.hash),
            category: self.category.clone(),
            flags: self.flags,
            created_at: self.created_at,
        }
    }
}

stmt! {
    NEWEST_REVISION (Text) -> (Int) =
        "SELECT CAST(coalesce(max(revision), 0) AS BIGINT) FROM policy WHERE policy_id = $1";
    INSERT_POLICY (Text, Text, Bytes, Bytes, Text, Int, Int, Int) -> () =
        "INSERT INTO policy (policy_id, version, hash, body, category, flags, revision, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    FIND_POLICY (Text, Text) -> (Text, Text, Bytes, Bytes, Text, Int, Int, Int) =
        "SELECT policy_id, version, hash, body, category, flags, revision, created_at
         FROM policy WHERE policy_id = $1 AND version = $2";
    FIND_POLICY_BY_HASH (Text, Bytes) -> (Text, Text, Bytes, Bytes, Text, Int, Int, Int) =
        "SELECT policy_id, version, hash, body, category, flags, revision, created_at
         FROM policy WHERE policy_id = $1 AND hash = $2 ORDER BY revision DESC LIMIT 1";
    LIST_NEWEST_POLICIES () -> (Text, Text, Bytes, Text, Int, Int) =
        "SELECT policy_id, version, hash, category, flags, created_at FROM policy AS p
         WHERE revision = (SELECT max(revision) FROM policy AS q WHERE q.policy_id = p.policy_id)
         ORDER BY policy_id LIMIT 10000";
    ASSIGN_POLICY (Bytes, Text, Text, Text, Int) -> () =
        "INSERT INTO policy_assignment (assignment_id, policy_id, version, collection_id, created_at, changed_at)
         VALUES ($1, $2, $3, $4, $5, $5)
         ON CONFLICT (policy_id, collection_id)
         DO UPDATE SET version = excluded.version, changed_at = excluded.changed_at";
    LIST_ASSIGNMENTS (Bytes, Text) -> (Bytes, Int, Text, Text, Bytes, Text, Int, Int) =
        "SELECT a.assignment_id, a.changed_at, p.policy_id, p.version, p.hash, p.category, p.flags, p.created_at
         FROM policy_assignment AS a
         JOIN policy AS p ON p.policy_id = a.policy_id AND p.version = a.version
         WHERE a.collection_id = $2
            OR a.collection_id IN (SELECT collection_id FROM collection_member WHERE client_id = $1)
         ORDER BY a.created_at, a.assignment_id LIMIT 10000";
    HAS_COLLECTION (Text) -> (Text) = "SELECT collection_id FROM collection WHERE collection_id = $1";
    INSERT_COLLECTION (Text, Text, Int) -> () =
        "INSERT INTO collection (collection_id, name, created_at) VALUES ($1, $2, $3)";
    INSERT_MEMBER (Text, Bytes) -> () =
        "INSERT INTO collection_member (collection_id, client_id) VALUES ($1, $2)
         ON CONFLICT (collection_id, client_id) DO NOTHING";
    LIST_COLLECTIONS () -> (Text, Text) = "SELECT collection_id, name FROM collection ORDER BY name LIMIT 10000";
    POLICY_SERIAL () -> (Int) = "SELECT CAST(coalesce(max(serial), 0) AS BIGINT) FROM policy_serial";
    RAISE_POLICY_SERIAL () -> () =
        "INSERT INTO policy_serial (id, serial) VALUES (1, 1)
         ON CONFLICT (id) DO UPDATE SET serial = policy_serial.serial + 1";
}

pub(crate) fn newest_revision(tx: &mut dyn Tx, id: &str) -> Result<u32, DbError> {
    tx.query_one(&NEWEST_REVISION, &[id.into()])?.get(0)
}

pub(crate) fn insert(tx: &mut dyn Tx, row: &PolicyRow) -> Result<(), DbError> {
    let values = [
        (&row.id).into(),
        (&row.version).into(),
        (&row.hash).into(),
        (&row.body).into(),
        (&row.category).into(),
        row.flags.into(),
        row.revision.into(),
        row.created_at.into(),
    ];
    tx.exec(&INSERT_POLICY, &values).map(drop)
}

pub(crate) fn find(tx: &mut dyn Tx, id: &str, version: &str) -> Result<Option<PolicyRow>, DbError> {
    tx.query_opt(&FIND_POLICY, &[id.into(), version.into()])?.as_ref().map(read).transpose()
}

pub(crate) fn find_by_hash(tx: &mut dyn Tx, id: &str, hash: &[u8]) -> Result<Option<PolicyRow>, DbError> {
    tx.query_opt(&FIND_POLICY_BY_HASH, &[id.into(), hash.into()])?.as_ref().map(read).transpose()
}

pub(crate) fn list_newest(tx: &mut dyn Tx) -> Result<Vec<Policy>, DbError> {
    let rows = tx.query(&LIST_NEWEST_POLICIES, &[])?;
    rows.iter().map(|row| read_policy(row, 0)).collect()
}

/// Aims a version at a collection; an earlier version's assignment moves on and keeps its id.
pub(crate) fn assign(
    tx: &mut dyn Tx,
    id: &str,
    version: &str,
    collection: &str,
    now: Timestamp,
) -> Result<(), DbError> {
    let assignment = crate::random_guid();
    tx.exec(&ASSIGN_POLICY, &[assignment.into(), id.into(), version.into(), collection.into(), now.into()])
        .map(drop)
}

pub(crate) fn list_for(tx: &mut dyn Tx, device: ClientId) -> Result<Vec<Assignment>, DbError> {
    let rows = tx.query(&LIST_ASSIGNMENTS, &[device.into(), ALL_DEVICES.into()])?;
    rows.iter()
        .map(|row| Ok(Assignment { id: row.get(0)?, changed_at: row.get(1)?, policy: read_policy(row, 2)? }))
        .collect()
}

pub(crate) fn has_collection(tx: &mut dyn Tx, id: &str) -> Result<bool, DbError> {
    Ok(tx.query_opt(&HAS_COLLECTION, &[id.into()])?.is_some())
}

pub(crate) fn insert_collection(
    tx: &mut dyn Tx,
    collection: &Collection,
    now: Timestamp,
) -> Result<(), DbError> {
    tx.exec(&INSERT_COLLECTION, &[(&collection.id).into(), (&collection.name).into(), now.into()]).map(drop)
}

pub(crate) fn insert_member(tx: &mut dyn Tx, collection: &str, device: ClientId) -> Result<(), DbError> {
    tx.exec(&INSERT_MEMBER, &[collection.into(), device.into()]).map(drop)
}

pub(crate) fn list_collections(tx: &mut dyn Tx) -> Result<Vec<Collection>, DbError> {
    let rows = tx.query(&LIST_COLLECTIONS, &[])?;
    rows.iter().map(|row| Ok(Collection { id: row.get(0)?, name: row.get(1)? })).collect()
}

pub(crate) fn serial(tx: &mut dyn Tx) -> Result<u64, DbError> {
    tx.query_one(&POLICY_SERIAL, &[])?.get(0)
}

pub(crate) fn raise_serial(tx: &mut dyn Tx) -> Result<u64, DbError> {
    tx.exec(&RAISE_POLICY_SERIAL, &[])?;
    serial(tx)
}

fn read(row: &Row) -> Result<PolicyRow, DbError> {
    Ok(PolicyRow {
        id: row.get(0)?,
        version: row.get(1)?,
        hash: row.get(2)?,
        body: row.get(3)?,
        category: row.get(4)?,
        flags: row.get(5)?,
        revision: row.get(6)?,
        created_at: row.get(7)?,
    })
}

fn read_policy(row: &Row, first: usize) -> Result<Policy, DbError> {
    Ok(Policy {
        id: row.get(first)?,
        version: row.get(first + 1)?,
        hash: written(&row.get::<Vec<u8>>(first + 2)?),
        category: row.get(first + 3)?,
        flags: row.get(first + 4)?,
        created_at: row.get(first + 5)?,
    })
}

fn written(hash: &[u8]) -> String {
    format!("SHA256:{}", hex::encode(hash))
}
