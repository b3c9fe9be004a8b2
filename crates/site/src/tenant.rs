//! Tenants: identity providers whose tokens count.
//!
//! Their keys are in `tenant_key`, the discovery of their users in `sync`.

use proto::id::Guid;
use proto::jose::JwkSet;
use proto::snapshot::Change;
use proto::time::Timestamp;
use serde::Serialize;
use serde_json::json;
use zeroize::Zeroizing;

use crate::audit::{By, Scribe};
use crate::db::tenant::TenantRow;
use crate::db::{self, DbError, Tx};
use crate::keys::SealError;
use crate::name::{NameError, check_name, check_text, check_url};
use crate::site::lock;
use crate::sync::{SyncSource, SyncState};
use crate::{Site, limits, snapshot};

/// What a tenant's secret is sealed for.
const SECRET_PURPOSE: &str = "tenant-secret";

/// Accepted issuers or audiences of one tenant.
pub(crate) const NAMES: usize = 10;

/// A tenant to be onboarded.
#[derive(Clone)]
pub struct NewTenant {
    /// Its id: `tid` in tokens.
    pub tenant: Guid,
    /// Its name, for logs and pages.
    pub name: String,
    /// Accepted `iss`, exactly; empty: what its discovery document names at the first fetch.
    pub issuers: Vec<String>,
    /// Accepted `aud`, exactly; empty: the resource alone.
    pub audiences: Vec<String>,
    /// The client app that devices ask tokens with.
    pub client_app_id: String,
    /// The resource that they ask tokens for (App ID URI).
    pub resource: String,
    /// Where they ask, and where the discovery document is: `https://host[/path]`.
    pub authority: String,
    /// Where users are discovered: `https://host[/path]`; empty: nowhere.
    pub graph_url: String,
    /// The server app that discovers users.
    pub discovery_app_id: String,
    /// Its secret.
    pub secret: Option<Zeroizing<String>>,
    /// When the secret ends, where that is known.
    pub secret_expires_at: Option<Timestamp>,
    /// Certificates that the provider's TLS may also lead to, PEM; `None`: the system's alone.
    pub ca_pem: Option<String>,
    /// Whether its users are discovered.
    pub discovery: bool,
}

impl std::fmt::Debug for NewTenant {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewTenant")
            .field("tenant", &self.tenant)
            .field("name", &self.name)
            .field("authority", &self.authority)
            .finish_non_exhaustive()
    }
}

/// An onboarded tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tenant {
    /// Its id: `tid` in tokens.
    pub tenant: Guid,
    /// Its name.
    pub name: String,
    /// Accepted `iss`.
    pub issuers: Vec<String>,
    /// Accepted `aud`.
    pub audiences: Vec<String>,
    /// The client app that devices ask tokens with.
    pub client_app_id: String,
    /// The resource that they ask tokens for.
    pub resource: String,
    /// Where they ask.
    pub authority: String,
    /// Where users are discovered.
    pub graph_url: String,
    /// The server app that discovers users.
    pub discovery_app_id: String,
    /// Whether a secret is kept for it.
    pub has_secret: bool,
    /// When that ends, where it is known.
    pub secret_expires_at: Option<Timestamp>,
    /// Certificates that the provider's TLS may also lead to, PEM.
    pub ca_pem: Option<String>,
    /// Whether its users are discovered.
    pub discovery: bool,
    /// Whether its tokens count.
    pub enabled: bool,
    /// When it was onboarded.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// How many signing keys are known.
    pub keys: usize,
    /// When they were fetched last.
    pub keys_fetched_at: Option<Timestamp>,
    /// Until when they count as published.
    pub keys_until: Option<Timestamp>,
    /// What the last attempt to fetch them met.
    pub keys_problem: Option<String>,
    /// When a user of it came to the token service last.
    pub user_seen_at: Option<Timestamp>,
    /// How the discovery of its users stands.
    pub sync: SyncState,
}

impl Tenant {
    /// The first thing that is wrong, keys before users.
    pub fn problem(&self) -> Option<&str> {
        self.keys_problem.as_deref().or(self.sync.problem.as_deref())
    }
}

/// What of a tenant failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TenantPart {
    /// Its discovery document or keys.
    Keys,
    /// The discovery of its users or devices.
    Users,
}

/// An operation on tenants was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum TenantError {
    /// A value is not taken.
    #[error("tenant not taken")]
    Name(#[from] NameError),
    /// It is onboarded already.
    #[error("tenant {0} is onboarded already")]
    Exists(Guid),
    /// The name is in use.
    #[error("there is a tenant called {0:?} already")]
    NameTaken(String),
    /// Tokens must say whose they are.
    #[error("the issuer {0:?} is another tenant's")]
    IssuerTaken(String),
    /// More than a site can need.
    #[error("more than {} tenants", crate::limits::TENANTS)]
    TooMany,
    /// No such tenant.
    #[error("there is no tenant {0}")]
    Unknown(Guid),
    /// The provider calls itself otherwise than an operator said.
    #[error("the discovery document names the issuer {found:?}, and accepted is {accepted:?}")]
    Issuer {
        /// What the document names.
        found: String,
        /// What an operator set, or was learnt at first.
        accepted: String,
    },
    /// More accepted names than a provider has.
    #[error("more than {NAMES} issuers or audiences")]
    TooManyNames,
    /// Its certificates are no PEM file of a sensible size.
    #[error("the certificates of the provider's TLS are no PEM text of at most {CA_PEM_BYTES} bytes")]
    CaPem,
    /// A set without keys is never taken over a known one.
    #[error("the fetched key set is empty")]
    NoKeys,
    /// The secret was not sealed or does not open.
    #[error("tenant's secret not sealed or opened")]
    Seal(#[from] SealError),
    /// The database failed.
    #[error("tenants not read or written")]
    Database(#[from] DbError),
}

impl Site {
    /// Onboards a tenant. Its tokens count as soon as its keys are fetched, which the fetcher is
    /// woken for.
    pub async fn add_tenant(&self, by: &By, new: NewTenant) -> Result<Tenant, TenantError> {
        check(&new)?;
        let id = new.tenant;
        let seal = |secret: &Zeroizing<String>| {
            self.key_file().seal(id.as_bytes(), SECRET_PURPOSE, secret.as_bytes())
        };
        let secret = new.secret.as_ref().map(seal).transpose()?;
        let scribe = self.scribe(by);
        let row = TenantRow {
            tenant: id,
            name: new.name,
            issuers: new.issuers,
            audiences: if new.audiences.is_empty() { vec![new.resource.clone()] } else { new.audiences },
            client_app_id: new.client_app_id,
            resource: new.resource,
            authority: new.authority.trim_end_matches('/').to_owned(),
            graph_url: new.graph_url.trim_end_matches('/').to_owned(),
            discovery_app_id: new.discovery_app_id,
            secret,
            secret_expires_at: new.secret_expires_at,
            ca_pem: new.ca_pem,
            discovery: new.discovery,
            enabled: true,
            created_at: scribe.now,
            created_by: by.actor.to_string(),
            keys: JwkSet::default(),
            keys_fetched_at: None,
            keys_until: None,
            keys_problem: String::new(),
            user_seen_at: None,
            hybrid_seen_at: None,
        };
        let added = self.db().write(move |tx| {
            check_others(&db::tenant::list(tx)?, &row)?;
            publish(tx, scribe.now, &row)?;
            let detail = json!({
                "name": row.name, "authority": row.authority, "issuers": row.issuers,
                "audiences": row.audiences, "discovery": row.discovery,
            });
            scribe.note(tx, "tenant.add", row.tenant, &detail)?;
            Ok::<_, TenantError>(view(row.clone(), SyncState::default()))
        });
        let added = added.await?;
        self.publish_committed().await;
        self.want_keys(id);
        self.wanted_syncs().notify_one();
        Ok(added)
    }

    /// All tenants.
    pub async fn list_tenants(&self) -> Result<Vec<Tenant>, TenantError> {
        self.db()
            .read(|tx| {
                let rows = db::tenant::list(tx)?;
                rows.into_iter().map(|row| Ok(view(row.clone(), sync_state(tx, row.tenant)?))).collect()
            })
            .await
    }

    /// A tenant by its id.
    pub async fn find_tenant(&self, tenant: Guid) -> Result<Option<Tenant>, TenantError> {
        self.db()
            .read(move |tx| {
                let Some(row) = db::tenant::find(tx, tenant)? else { return Ok(None) };
                Ok(Some(view(row, sync_state(tx, tenant)?)))
            })
            .await
    }

    /// Lets a tenant's tokens count, or not: everywhere within seconds.
    pub async fn set_tenant_enabled(&self, by: &By, tenant: Guid, on: bool) -> Result<(), TenantError> {
        let act = if on { "tenant.enable" } else { "tenant.disable" };
        self.change_tenant(by, tenant, act, true, move |row| row.enabled = on).await
    }

    /// Switches the discovery of a tenant's users on or off.
    pub async fn set_tenant_discovery(&self, by: &By, tenant: Guid, on: bool) -> Result<(), TenantError> {
        let act = if on { "tenant.discovery-on" } else { "tenant.discovery-off" };
        self.change_tenant(by, tenant, act, false, move |row| row.discovery = on).await?;
        self.wanted_syncs().notify_one();
        Ok(())
    }

    /// Replaces the secret of the discovering app.
    pub async fn set_tenant_secret(
        &self,
        by: &By,
        tenant: Guid,
        secret: Zeroizing<String>,
        expires_at: Option<Timestamp>,
    ) -> Result<(), TenantError> {
        let sealed = self.key_file().seal(tenant.as_bytes(), SECRET_PURPOSE, secret.as_bytes())?;
        let change = move |row: &mut TenantRow| {
            row.secret = Some(sealed.clone());
            row.secret_expires_at = expires_at;
        };
        self.change_tenant(by, tenant, "tenant.set-secret", false, change).await?;
        self.wanted_syncs().notify_one();
        Ok(())
    }

    async fn change_tenant(
        &self,
        by: &By,
        tenant: Guid,
        act: &'static str,
        is_published: bool,
        change: impl Fn(&mut TenantRow) + Send + 'static,
    ) -> Result<(), TenantError> {
        let scribe = self.scribe(by);
        self.db()
            .write(move |tx| {
                let mut row = db::tenant::find(tx, tenant)?.ok_or(TenantError::Unknown(tenant))?;
                change(&mut row);
                if is_published {
                    publish(tx, scribe.now, &row)?;
                } else {
                    db::tenant::put(tx, &row)?;
                }
                scribe.note(tx, act, tenant, &json!({ "name": row.name }))?;
                Ok::<_, TenantError>(())
            })
            .await?;
        self.publish_committed().await;
        Ok(())
    }

    /// Forgets a tenant with its users and keys. Devices that came by it stay registered.
    pub async fn remove_tenant(&self, by: &By, tenant: Guid) -> Result<(), TenantError> {
        let scribe: Scribe = self.scribe(by);
        self.db()
            .write(move |tx| {
                let row = db::tenant::find(tx, tenant)?.ok_or(TenantError::Unknown(tenant))?;
                db::tenant::delete(tx, tenant)?;
                db::user::delete_source(tx, SyncSource::Tenant(tenant))?;
                snapshot::publish(tx, scribe.now, &Change::RemoveTenant(tenant))?;
                scribe.note(tx, "tenant.remove", tenant, &json!({ "name": row.name }))?;
                Ok::<_, TenantError>(())
            })
            .await?;
        lock(&self.inner.key_wishes).forget(tenant);
        self.publish_committed().await;
        Ok(())
    }

    /// The secret of the discovering app; `None`: none was given.
    pub async fn tenant_secret(&self, tenant: Guid) -> Result<Option<Zeroizing<String>>, TenantError> {
        let row = self.db().read(move |tx| db::tenant::find(tx, tenant)).await?;
        let sealed = row.ok_or(TenantError::Unknown(tenant))?.secret;
        sealed.map(|sealed| self.open_secret(tenant, SECRET_PURPOSE, &sealed)).transpose().map_err(Into::into)
    }

    /// A sealed text.
    pub(crate) fn open_secret(
        &self,
        record: Guid,
        purpose: &str,
        sealed: &[u8],
    ) -> Result<Zeroizing<String>, SealError> {
        let opened = self.key_file().open(record.as_bytes(), purpose, sealed)?;
        // Only texts are sealed under these purposes.
        let text = std::str::from_utf8(&opened).map_err(|_| SealError)?;
        Ok(Zeroizing::new(text.to_owned()))
    }

    /// Notes what an attempt met. Known keys and users stay.
    pub async fn note_tenant_failure(
        &self,
        tenant: Guid,
        part: TenantPart,
        text: &str,
    ) -> Result<(), DbError> {
        let now = self.now();
        let problem: String = text.chars().filter(|c| !c.is_control()).take(limits::PROBLEM_CHARS).collect();
        self.db()
            .write(move |tx| {
                let problem = problem.clone();
                match part {
                    TenantPart::Keys => {
                        let Some(row) = db::tenant::find(tx, tenant)? else { return Ok(()) };
                        db::tenant::put(tx, &TenantRow { keys_problem: problem, ..row })
                    }
                    TenantPart::Users => {
                        let source = SyncSource::Tenant(tenant);
                        let Some(mut row) = db::user::find_sync(tx, source)? else { return Ok(()) };
                        row.state.problem = Some(problem);
                        row.state.failed_at = Some(now);
                        db::user::put_sync(tx, &row)
                    }
                }
            })
            .await
    }
}

/// Longest PEM file of one tenant or directory, in bytes.
pub(crate) const CA_PEM_BYTES: usize = 256 * 1024;

/// Names, addresses and lists within their bounds.
fn check(new: &NewTenant) -> Result<(), TenantError> {
    check_name("tenant name", &new.name)?;
    check_name("client app id", &new.client_app_id)?;
    check_name("resource", &new.resource)?;
    check_url("authority", &new.authority, &["https"])?;
    check_text("discovery app id", &new.discovery_app_id)?;
    if new.discovery || !new.graph_url.is_empty() {
        check_url("Graph address", &new.graph_url, &["https"])?;
    }
    if new.issuers.len() > NAMES || new.audiences.len() > NAMES {
        return Err(TenantError::TooManyNames);
    }
    for issuer in &new.issuers {
        check_name("issuer", issuer)?;
    }
    for audience in &new.audiences {
        check_name("audience", audience)?;
    }
    if new.ca_pem.as_deref().is_some_and(|pem| !is_pem(pem)) {
        return Err(TenantError::CaPem);
    }
    Ok(())
}

/// Whether a text can be what a TLS client is given as further roots.
pub(crate) fn is_pem(text: &str) -> bool {
    text.len() <= CA_PEM_BYTES && text.contains("-----BEGIN CERTIFICATE-----")
}

fn view(row: TenantRow, sync: SyncState) -> Tenant {
    Tenant {
        tenant: row.tenant,
        name: row.name,
        issuers: row.issuers,
        audiences: row.audiences,
        client_app_id: row.client_app_id,
        resource: row.resource,
        authority: row.authority,
        graph_url: row.graph_url,
        discovery_app_id: row.discovery_app_id,
        has_secret: row.secret.is_some(),
        secret_expires_at: row.secret_expires_at,
        ca_pem: row.ca_pem,
        discovery: row.discovery,
        enabled: row.enabled,
        created_at: row.created_at,
        created_by: row.created_by,
        keys: row.keys.keys.len(),
        keys_fetched_at: row.keys_fetched_at,
        keys_until: row.keys_until,
        keys_problem: Some(row.keys_problem).filter(|problem| !problem.is_empty()),
        user_seen_at: row.user_seen_at,
        sync,
    }
}

fn sync_state(tx: &mut dyn Tx, tenant: Guid) -> Result<SyncState, DbError> {
    let row = db::user::find_sync(tx, SyncSource::Tenant(tenant))?;
    Ok(row.map(|row| row.state).unwrap_or_default())
}

/// Writes a tenant and publishes it.
pub(crate) fn publish(tx: &mut dyn Tx, now: Timestamp, row: &TenantRow) -> Result<(), DbError> {
    db::tenant::put(tx, row)?;
    snapshot::publish(tx, now, &Change::SetTenant(row.published())).map(drop)
}

/// Ids, names and issuers tell tenants apart.
fn check_others(others: &[TenantRow], new: &TenantRow) -> Result<(), TenantError> {
    if others.len() >= limits::TENANTS {
        return Err(TenantError::TooMany);
    }
    if others.iter().any(|other| other.tenant == new.tenant) {
        return Err(TenantError::Exists(new.tenant));
    }
    if others.iter().any(|other| other.name == new.name) {
        return Err(TenantError::NameTaken(new.name.clone()));
    }
    check_issuers(others, new)
}

pub(crate) fn check_issuers(others: &[TenantRow], new: &TenantRow) -> Result<(), TenantError> {
    let taken = |issuer: &&String| others.iter().any(|other| other.issuers.contains(issuer));
    match new.issuers.iter().find(taken) {
        Some(issuer) => Err(TenantError::IssuerTaken(issuer.clone())),
        None => Ok(()),
    }
}
