//! `/directories`: on-premises directories whose users and computers are discovered.

use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, State};
use http::StatusCode;
use proto::id::Guid;
use serde::Deserialize;
use serde_json::{Value, json};
use site::{Directory, DirectoryError, NewDirectory, SyncSource};

use super::authenticate::Caller;
use super::error::{ApiError, Code};
use super::extract::{JsonBody, Name};
use super::tenant::{Sync, sync_has_moved};
use super::{Api, time};

/// How long an operator waits for what the fetcher meets.
const PATIENCE: Duration = Duration::from_secs(40);
/// How often it is looked whether it has met something.
const LOOK: Duration = Duration::from_millis(200);

/// Body of `POST directories`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct New {
    name: String,
    url: String,
    base: String,
    bind_dn: Option<String>,
    secret: Option<String>,
    #[serde(default)]
    start_tls: bool,
    ca_pem: Option<String>,
    filter: Option<String>,
}

/// `GET directories`.
pub(super) async fn list(State(api): State<Api>) -> Result<Json<Value>, ApiError> {
    Ok(Json(api.site.list_directories().await?.iter().map(view).collect()))
}

/// `GET directories/unsynced-units`.
pub(super) async fn unsynced(State(api): State<Api>) -> Result<Json<Value>, ApiError> {
    let units = api.site.list_unsynced_units().await?;
    let rows = units.iter().map(|unit| {
        json!({
            "unit": unit.unit,
            "computers": unit.missing + unit.synced,
            "missing": unit.missing,
            "examples": unit.examples,
            "fix": "Take the unit into the scope of the synchronisation, or wait for the join to end.",
        })
    });
    Ok(Json(rows.collect()))
}

/// `POST directories`.
pub(super) async fn add(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    JsonBody(new): JsonBody<New>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let new = NewDirectory {
        name: new.name,
        url: new.url,
        base: new.base,
        filter: new.filter.unwrap_or_default(),
        bind_dn: new.bind_dn.unwrap_or_default(),
        secret: new.secret.map(Into::into),
        ca_pem: new.ca_pem,
        start_tls: new.start_tls,
    };
    let directory = api.site.add_directory(&caller.by(), new).await?;
    Ok((StatusCode::CREATED, Json(view(&directory))))
}

/// `POST directories/{name}/sync`.
pub(super) async fn sync(
    State(api): State<Api>,
    Name(name): Name,
    JsonBody(wanted): JsonBody<Sync>,
) -> Result<Json<Value>, ApiError> {
    let before = find(&api, &name).await?;
    api.site.want_sync(SyncSource::Directory(before.id), wanted.full).await?;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let now = find(&api, &name).await?;
        if sync_has_moved(&before.sync, &now.sync) || tokio::time::Instant::now() >= deadline {
            return Ok(Json(view(&now)));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// `DELETE directories/{name}`.
pub(super) async fn remove(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Name(name): Name,
) -> Result<Json<Value>, ApiError> {
    let directory = find(&api, &name).await?;
    api.site.remove_directory(&caller.by(), directory.id).await?;
    Ok(Json(json!({ "name": directory.name, "removed": true })))
}

async fn find(api: &Api, name: &str) -> Result<Directory, ApiError> {
    let id = name.parse::<Guid>().ok();
    let all = api.site.list_directories().await?;
    let found = all.into_iter().find(|directory| Some(directory.id) == id || directory.name == name);
    found.ok_or_else(|| {
        ApiError::new(
            Code::NotFound,
            format!("there is no directory {name:?}"),
            "`roamgate directory list` shows all.",
        )
    })
}

fn view(directory: &Directory) -> Value {
    json!({
        "id": directory.id,
        "name": directory.name,
        "url": directory.url,
        "base": directory.base,
        "filter": directory.filter,
        "bind_dn": directory.bind_dn,
        "start_tls": directory.start_tls,
        "full_at": directory.sync.full_at.map(time),
        "delta_at": directory.sync.delta_at.map(time),
        "next_due_at": directory.sync.next_due_at.map(time),
        "users": directory.sync.users,
        "computers": directory.sync.devices,
        "problem": directory.sync.problem,
        "created_at": time(directory.created_at),
        "created_by": directory.created_by,
    })
}

impl From<DirectoryError> for ApiError {
    fn from(error: DirectoryError) -> Self {
        match error {
            DirectoryError::Database(error) => error.into(),
            DirectoryError::Unknown(_) => {
                Self::told(Code::NotFound, &error, "`roamgate directory list` shows all.")
            }
            DirectoryError::Exists(_) => Self::told(Code::Conflict, &error, "Choose another name."),
            DirectoryError::Seal(_) => Self::failed(&error),
            other => {
                Self::told(Code::Invalid, &other, "`roamgate directory add --help` says what each value is.")
            }
        }
    }
}
