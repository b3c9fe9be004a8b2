//! Policy bodies and assignments.

use proto::id::{ClientId, Guid};
use proto::text::hex;
use proto::time::Timestamp;

use super::{DbError, Row, Tx, stmt};
use crate::assignment::{Assignment, UserRef, UserTarget};
use crate::policy::{ALL_DEVICES, Policy};

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

/// Stands for all users of a tenant.
const EVERY_USER: Guid = Guid::nil();

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
    UNASSIGN_FROM (Text) -> () = "DELETE FROM policy_assignment WHERE collection_id = $1";
    ASSIGN_TO_USERS (Bytes, Text, Text, Bytes, Bytes, Int) -> () =
        "INSERT INTO user_policy_assignment (assignment_id, policy_id, version, tenant_id, user_id, created_at,
            changed_at)
         VALUES ($1, $2, $3, $4, $5, $6, $6)
         ON CONFLICT (policy_id, tenant_id, user_id)
         DO UPDATE SET version = excluded.version, changed_at = excluded.changed_at";
    LIST_USER_ASSIGNMENTS (Bytes, Bytes, Bytes) -> (Bytes, Int, Text, Text, Bytes, Text, Int, Int) =
        "SELECT a.assignment_id, a.changed_at, p.policy_id, p.version, p.hash, p.category, p.flags, p.created_at
         FROM user_policy_assignment AS a
         JOIN policy AS p ON p.policy_id = a.policy_id AND p.version = a.version
         WHERE a.tenant_id = $1 AND (a.user_id = $2 OR a.user_id = $3)
         ORDER BY a.created_at, a.assignment_id LIMIT 10000";
    FIND_TOLD (Bytes) -> (Bytes, Int) = "SELECT digest, changed_at FROM device_policy WHERE client_id = $1";
    PUT_TOLD (Bytes, Bytes, Int) -> () =
        "INSERT INTO device_policy (client_id, digest, changed_at) VALUES ($1, $2, $3)
         ON CONFLICT (client_id) DO UPDATE SET digest = excluded.digest, changed_at = excluded.changed_at";
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

/// A collection that goes away has nothing aimed at it.
pub(crate) fn unassign_from(tx: &mut dyn Tx, collection: &str) -> Result<(), DbError> {
    tx.exec(&UNASSIGN_FROM, &[collection.into()]).map(drop)
}

/// Aims a version at users; an earlier version's assignment moves on and keeps its id.
pub(crate) fn assign_to_users(
    tx: &mut dyn Tx,
    id: &str,
    version: &str,
    target: UserTarget,
    now: Timestamp,
) -> Result<(), DbError> {
    let (tenant, user) = match target {
        UserTarget::User(UserRef { tenant, user }) => (tenant, user),
        UserTarget::Tenant(tenant) => (tenant, EVERY_USER),
    };
    let assignment = crate::random_guid();
    let values = [assignment.into(), id.into(), version.into(), tenant.into(), user.into(), now.into()];
    tx.exec(&ASSIGN_TO_USERS, &values).map(drop)
}

/// What is aimed at a device's collections. The client settings are not among it.
pub(crate) fn list_for(tx: &mut dyn Tx, device: ClientId) -> Result<Vec<Assignment>, DbError> {
    let rows = tx.query(&LIST_ASSIGNMENTS, &[device.into(), ALL_DEVICES.into()])?;
    rows.iter().map(read_assignment).collect()
}

/// What is aimed at a user, or at all users of the tenant.
pub(crate) fn list_for_user(tx: &mut dyn Tx, user: UserRef) -> Result<Vec<Assignment>, DbError> {
    let values = [user.tenant.into(), user.user.into(), EVERY_USER.into()];
    tx.query(&LIST_USER_ASSIGNMENTS, &values)?.iter().map(read_assignment).collect()
}

/// The hash of the list that a device was told last, and when it changed.
pub(crate) fn find_told(tx: &mut dyn Tx, device: ClientId) -> Result<Option<(Vec<u8>, Timestamp)>, DbError> {
    let row = tx.query_opt(&FIND_TOLD, &[device.into()])?;
    row.map(|row| Ok((row.get(0)?, row.get(1)?))).transpose()
}

pub(crate) fn put_told(
    tx: &mut dyn Tx,
    device: ClientId,
    digest: &[u8],
    changed_at: Timestamp,
) -> Result<(), DbError> {
    tx.exec(&PUT_TOLD, &[device.into(), digest.into(), changed_at.into()]).map(drop)
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

fn read_assignment(row: &Row) -> Result<Assignment, DbError> {
    Ok(Assignment { id: row.get(0)?, changed_at: row.get(1)?, policy: read_policy(row, 2)? })
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
