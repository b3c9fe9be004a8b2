//! Tenants.

use proto::entra::PublishedTenant;
use proto::id::Guid;
use proto::jose::JwkSet;
use proto::time::Timestamp;

use super::{DbError, Row, Tx, stmt};

/// A tenant as stored, its secret sealed.
#[derive(Debug, Clone)]
pub(crate) struct TenantRow {
    pub(crate) tenant: Guid,
    pub(crate) name: String,
    pub(crate) issuers: Vec<String>,
    pub(crate) audiences: Vec<String>,
    pub(crate) client_app_id: String,
    pub(crate) resource: String,
    pub(crate) authority: String,
    pub(crate) graph_url: String,
    pub(crate) discovery_app_id: String,
    pub(crate) secret: Option<Vec<u8>>,
    pub(crate) secret_expires_at: Option<Timestamp>,
    pub(crate) ca_pem: Option<String>,
    pub(crate) discovery: bool,
    pub(crate) enabled: bool,
    pub(crate) created_at: Timestamp,
    pub(crate) created_by: String,
    pub(crate) keys: JwkSet,
    pub(crate) keys_fetched_at: Option<Timestamp>,
    pub(crate) keys_until: Option<Timestamp>,
    pub(crate) keys_problem: String,
    pub(crate) user_seen_at: Option<Timestamp>,
    pub(crate) hybrid_seen_at: Option<Timestamp>,
}

impl TenantRow {
    /// The tenant as gateways know it.
    pub(crate) fn published(&self) -> PublishedTenant {
        PublishedTenant {
            tenant: self.tenant,
            name: self.name.clone(),
            issuers: self.issuers.clone(),
            audiences: self.audiences.clone(),
            client_app_id: self.client_app_id.clone(),
            resource: self.resource.clone(),
            authority: self.authority.clone(),
            enabled: self.enabled,
            keys: self.keys.clone(),
            // Keys that were never fetched count until the beginning of time.
            keys_until: self.keys_until.unwrap_or_default(),
        }
    }
}

macro_rules! columns {
    () => {
        "tenant_id, name, issuers, audiences, client_app_id, resource, authority, graph_url, discovery_app_id,
         secret, secret_expires_at, ca_pem, discovery, enabled, created_at, created_by, keys, keys_fetched_at,
         keys_until, keys_problem, user_seen_at, hybrid_seen_at"
    };
}

stmt! {
    LIST_TENANTS () -> (Bytes, Text, Text, Text, Text, Text, Text, Text, Text, OptBytes, OptInt, OptText, Int, Int,
        Int, Text, Text, OptInt, OptInt, Text, OptInt, OptInt) =
        concat!("SELECT ", columns!(), " FROM tenant ORDER BY name");
    FIND_TENANT (Bytes) -> (Bytes, Text, Text, Text, Text, Text, Text, Text, Text, OptBytes, OptInt, OptText, Int,
        Int, Int, Text, Text, OptInt, OptInt, Text, OptInt, OptInt) =
        concat!("SELECT ", columns!(), " FROM tenant WHERE tenant_id = $1");
    PUT_TENANT (Bytes, Text, Text, Text, Text, Text, Text, Text, Text, OptBytes, OptInt, OptText, Int, Int, Int, Text,
        Text, OptInt, OptInt, Text, OptInt, OptInt) -> () =
        concat!("INSERT INTO tenant (", columns!(), ")
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)
         ON CONFLICT (tenant_id) DO UPDATE SET issuers = excluded.issuers, secret = excluded.secret,
            secret_expires_at = excluded.secret_expires_at, discovery = excluded.discovery,
            enabled = excluded.enabled, keys = excluded.keys, keys_fetched_at = excluded.keys_fetched_at,
            keys_until = excluded.keys_until, keys_problem = excluded.keys_problem");
    DELETE_TENANT (Bytes) -> () = "DELETE FROM tenant WHERE tenant_id = $1";
    SET_USER_SEEN (Bytes, Int, OptInt) -> () =
        "UPDATE tenant SET user_seen_at = $2, hybrid_seen_at = coalesce($3, hybrid_seen_at) WHERE tenant_id = $1";
}

pub(crate) fn list(tx: &mut dyn Tx) -> Result<Vec<TenantRow>, DbError> {
    tx.query(&LIST_TENANTS, &[])?.iter().map(read).collect()
}

pub(crate) fn find(tx: &mut dyn Tx, tenant: Guid) -> Result<Option<TenantRow>, DbError> {
    tx.query_opt(&FIND_TENANT, &[tenant.into()])?.as_ref().map(read).transpose()
}

/// Inserts a tenant, or writes what of a known one can change.
pub(crate) fn put(tx: &mut dyn Tx, row: &TenantRow) -> Result<(), DbError> {
    let values = [
        row.tenant.into(),
        (&row.name).into(),
        json(&row.issuers).into(),
        json(&row.audiences).into(),
        (&row.client_app_id).into(),
        (&row.resource).into(),
        (&row.authority).into(),
        (&row.graph_url).into(),
        (&row.discovery_app_id).into(),
        row.secret.as_deref().into(),
        row.secret_expires_at.into(),
        row.ca_pem.clone().into(),
        row.discovery.into(),
        row.enabled.into(),
        row.created_at.into(),
        (&row.created_by).into(),
        json(&row.keys).into(),
        row.keys_fetched_at.into(),
        row.keys_until.into(),
        (&row.keys_problem).into(),
        row.user_seen_at.into(),
        row.hybrid_seen_at.into(),
    ];
    tx.exec(&PUT_TENANT, &values).map(drop)
}

/// Whether there was such a tenant.
pub(crate) fn delete(tx: &mut dyn Tx, tenant: Guid) -> Result<bool, DbError> {
    tx.exec(&DELETE_TENANT, &[tenant.into()]).map(|rows| rows > 0)
}

/// Notes that a user of the tenant came; `hybrid`: one with an on-premises SID.
pub(crate) fn set_user_seen(
    tx: &mut dyn Tx,
    tenant: Guid,
    now: Timestamp,
    hybrid: bool,
) -> Result<(), DbError> {
    let values = [tenant.into(), now.into(), hybrid.then_some(now).into()];
    tx.exec(&SET_USER_SEEN, &values).map(drop)
}

fn json(value: &impl serde::Serialize) -> String {
    // Texts and keys always have a JSON form.
    serde_json::to_string(value).expect("lists of texts and keys have a JSON form")
}

fn read(row: &Row) -> Result<TenantRow, DbError> {
    Ok(TenantRow {
        tenant: row.get(0)?,
        name: row.get(1)?,
        issuers: parse(row, 2)?,
        audiences: parse(row, 3)?,
        client_app_id: row.get(4)?,
        resource: row.get(5)?,
        authority: row.get(6)?,
        graph_url: row.get(7)?,
        discovery_app_id: row.get(8)?,
        secret: row.get(9)?,
        secret_expires_at: row.get(10)?,
        ca_pem: row.get(11)?,
        discovery: row.get(12)?,
        enabled: row.get(13)?,
        created_at: row.get(14)?,
        created_by: row.get(15)?,
        keys: parse(row, 16)?,
        keys_fetched_at: row.get(17)?,
        keys_until: row.get(18)?,
        keys_problem: row.get(19)?,
        user_seen_at: row.get(20)?,
        hybrid_seen_at: row.get(21)?,
    })
}

fn parse<T: serde::de::DeserializeOwned>(row: &Row, column: usize) -> Result<T, DbError> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|_| DbError::Column { statement: "LIST_TENANTS", column })
}
