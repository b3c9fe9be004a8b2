//! `/tenants`: whose tokens count, where their keys and users are fetched, what is still off.

use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, State};
use http::StatusCode;
use proto::entra::entra_issuers;
use proto::id::Guid;
use proto::time::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use site::{NewTenant, SyncError, SyncSource, SyncState, Tenant, TenantError};

use super::authenticate::Caller;
use super::bulk_token::Nothing;
use super::error::{ApiError, Code};
use super::extract::{JsonBody, Name};
use super::{Api, time};

/// Where users of Entra tenants are discovered.
const GRAPH: &str = "https://graph.microsoft.com";
/// How long an operator waits for a run of the discovery.
const SYNC_PATIENCE: Duration = Duration::from_secs(40);
/// How long for keys. What was met before and is met again looks like nothing new, so not too long.
const KEYS_PATIENCE: Duration = Duration::from_secs(12);
/// How often it is looked whether it has met something.
const LOOK: Duration = Duration::from_millis(200);

/// Body of `POST tenants`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct New {
    tenant_id: Guid,
    #[serde(default)]
    name: String,
    authority: Option<String>,
    #[serde(default)]
    issuers: Vec<String>,
    resource: String,
    #[serde(default)]
    audiences: Vec<String>,
    client_app_id: String,
    discovery_app_id: Option<String>,
    secret: Option<String>,
    secret_expires: Option<String>,
    graph_url: Option<String>,
    ca_pem: Option<String>,
}

/// Body of a `sync`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sync {
    #[serde(default)]
    pub(super) full: bool,
}

/// `GET tenants`.
pub(super) async fn list(State(api): State<Api>) -> Result<Json<Value>, ApiError> {
    let mut rows = Vec::new();
    for tenant in api.site.list_tenants().await? {
        rows.push(view(&api, &tenant).await?);
    }
    Ok(Json(rows.into()))
}

/// `POST tenants`: ends with what is still off.
pub(super) async fn add(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    JsonBody(new): JsonBody<New>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let authority = new.authority.unwrap_or_else(|| entra_authority(new.tenant_id));
    let issuers = if new.issuers.is_empty() && authority == entra_authority(new.tenant_id) {
        entra_issuers(new.tenant_id).to_vec()
    } else {
        new.issuers
    };
    let tenant = NewTenant {
        tenant: new.tenant_id,
        name: if new.name.is_empty() { new.tenant_id.to_string() } else { new.name },
        issuers,
        audiences: if new.audiences.is_empty() { vec![new.resource.clone()] } else { new.audiences },
        client_app_id: new.client_app_id,
        resource: new.resource,
        authority,
        graph_url: new.graph_url.unwrap_or_else(|| GRAPH.to_owned()),
        discovery: new.discovery_app_id.is_some(),
        discovery_app_id: new.discovery_app_id.unwrap_or_default(),
        secret: new.secret.map(Into::into),
        secret_expires_at: new.secret_expires.as_deref().map(day).transpose()?,
        ca_pem: new.ca_pem,
    };
    let before = api.site.add_tenant(&caller.by(), tenant).await?;
    api.site.want_keys(before.tenant);
    let tenant = wait(&api, before.tenant, KEYS_PATIENCE, |now| keys_have_moved(&before, now)).await?;
    Ok((StatusCode::CREATED, Json(view(&api, &tenant).await?)))
}

/// `GET tenants/{id or name}`.
pub(super) async fn show(State(api): State<Api>, Name(name): Name) -> Result<Json<Value>, ApiError> {
    Ok(Json(view(&api, &find(&api, &name).await?).await?))
}

/// `POST tenants/{id or name}/verify`.
pub(super) async fn verify(
    State(api): State<Api>,
    Name(name): Name,
    JsonBody(Nothing {}): JsonBody<Nothing>,
) -> Result<Json<Value>, ApiError> {
    let before = find(&api, &name).await?;
    api.site.want_keys(before.tenant);
    let tenant = wait(&api, before.tenant, KEYS_PATIENCE, |now| keys_have_moved(&before, now)).await?;
    Ok(Json(view(&api, &tenant).await?))
}

/// `POST tenants/{id or name}/sync`.
pub(super) async fn sync(
    State(api): State<Api>,
    Name(name): Name,
    JsonBody(wanted): JsonBody<Sync>,
) -> Result<Json<Value>, ApiError> {
    let before = find(&api, &name).await?;
    api.site.want_sync(SyncSource::Tenant(before.tenant), wanted.full).await?;
    let moved = |now: &Tenant| sync_has_moved(&before.sync, &now.sync);
    let tenant = wait(&api, before.tenant, SYNC_PATIENCE, moved).await?;
    Ok(Json(view(&api, &tenant).await?))
}

/// `POST tenants/{id or name}/disable`.
pub(super) async fn disable(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Name(name): Name,
    JsonBody(Nothing {}): JsonBody<Nothing>,
) -> Result<Json<Value>, ApiError> {
    set_enabled(&api, &caller, &name, false).await
}

/// `POST tenants/{id or name}/enable`.
pub(super) async fn enable(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Name(name): Name,
    JsonBody(Nothing {}): JsonBody<Nothing>,
) -> Result<Json<Value>, ApiError> {
    set_enabled(&api, &caller, &name, true).await
}

/// `DELETE tenants/{id or name}`.
pub(super) async fn remove(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Name(name): Name,
) -> Result<Json<Value>, ApiError> {
    let tenant = find(&api, &name).await?;
    api.site.remove_tenant(&caller.by(), tenant.tenant).await?;
    Ok(Json(json!({ "tenant_id": tenant.tenant, "name": tenant.name, "removed": true })))
}

async fn set_enabled(api: &Api, caller: &Caller, name: &str, on: bool) -> Result<Json<Value>, ApiError> {
    let tenant = find(api, name).await?;
    api.site.set_tenant_enabled(&caller.by(), tenant.tenant, on).await?;
    Ok(Json(view(api, &find(api, name).await?).await?))
}

async fn find(api: &Api, name: &str) -> Result<Tenant, ApiError> {
    let id = name.parse::<Guid>().ok();
    let all = api.site.list_tenants().await?;
    let found = all.into_iter().find(|tenant| Some(tenant.tenant) == id || tenant.name == name);
    found.ok_or_else(|| {
        ApiError::new(
            Code::NotFound,
            format!("there is no tenant {name:?}"),
            "`roamgate tenant list` shows all.",
        )
    })
}

/// The tenant once the fetcher has met something, or as it is when patience ends.
async fn wait(
    api: &Api,
    tenant: Guid,
    patience: Duration,
    moved: impl Fn(&Tenant) -> bool,
) -> Result<Tenant, ApiError> {
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        let now = find(api, &tenant.to_string()).await?;
        if moved(&now) || tokio::time::Instant::now() >= deadline {
            return Ok(now);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn keys_have_moved(before: &Tenant, now: &Tenant) -> bool {
    now.keys_fetched_at != before.keys_fetched_at
        || (now.keys_problem.is_some() && now.keys_problem != before.keys_problem)
}

pub(super) fn sync_has_moved(before: &SyncState, now: &SyncState) -> bool {
    now.running_since.is_none()
        && (now.full_at, now.delta_at, now.failed_at) != (before.full_at, before.delta_at, before.failed_at)
}

/// Where Entra ID publishes a tenant's keys: its second issuer.
fn entra_authority(tenant: Guid) -> String {
    let [_, second] = entra_issuers(tenant);
    second
}

/// A day, or a moment.
fn day(text: &str) -> Result<Timestamp, ApiError> {
    let moment = if text.contains('T') { text.to_owned() } else { format!("{text}T00:00:00Z") };
    Timestamp::parse_iso8601(&moment).map_err(|_| {
        ApiError::new(Code::Invalid, format!("{text:?} is not a day"), "Write the day as 2027-11-01.")
    })
}

async fn view(api: &Api, tenant: &Tenant) -> Result<Value, ApiError> {
    let discovery = if tenant.discovery { "on" } else { "off" };
    Ok(json!({
        "tenant_id": tenant.tenant,
        "name": tenant.name,
        "enabled": tenant.enabled,
        "authority": tenant.authority,
        "issuers": tenant.issuers,
        "audiences": tenant.audiences,
        "resource": tenant.resource,
        "client_app_id": tenant.client_app_id,
        "keys": tenant.keys,
        "keys_fetched_at": tenant.keys_fetched_at.map(time),
        "keys_until": tenant.keys_until.map(time),
        "discovery": discovery,
        "discovery_app_id": tenant.discovery_app_id,
        "graph_url": tenant.graph_url,
        "full_at": tenant.sync.full_at.map(time),
        "delta_at": tenant.sync.delta_at.map(time),
        "next_due_at": tenant.sync.next_due_at.map(time),
        "users": tenant.sync.users,
        "devices": tenant.sync.devices,
        "secret_expires": tenant.secret_expires_at.map(time),
        "problem": tenant.problem(),
        "still_off": api.site.list_still_off(tenant.tenant).await?,
        "created_at": time(tenant.created_at),
        "created_by": tenant.created_by,
    }))
}

impl From<TenantError> for ApiError {
    fn from(error: TenantError) -> Self {
        match error {
            TenantError::Database(error) => error.into(),
            TenantError::Unknown(_) => {
                Self::told(Code::NotFound, &error, "`roamgate tenant list` shows all.")
            }
            TenantError::Exists(_) | TenantError::NameTaken(_) => Self::told(
                Code::Conflict,
                &error,
                "`roamgate tenant show` shows it; remove it first to onboard it anew.",
            ),
            TenantError::Seal(_) => Self::failed(&error),
            other => {
                Self::told(Code::Invalid, &other, "`roamgate tenant add --help` says what each value is.")
            }
        }
    }
}

impl From<SyncError> for ApiError {
    fn from(error: SyncError) -> Self {
        match error {
            SyncError::Database(error) => error.into(),
            SyncError::Unknown => Self::told(
                Code::NotFound,
                &error,
                "Discovery needs an app with a secret: `roamgate tenant add --discovery-app-id`.",
            ),
            other => Self::told(Code::Conflict, &other, "Try again in a moment."),
        }
    }
}
