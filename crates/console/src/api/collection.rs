//! `/collections`: sets of devices that settings and policy are aimed at.

use axum::Json;
use axum::extract::{Extension, State};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use site::{Collection, CollectionError};

use super::Api;
use super::authenticate::Caller;
use super::error::{ApiError, Code};
use super::extract::{JsonBody, Name, TwoNames};

/// Most devices of one answer.
const LISTED: usize = 10_000;

/// Body of `POST collections`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct New {
    name: String,
}

/// Nothing: the path says it all.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Member {}

/// `GET collections`.
pub(super) async fn list(State(api): State<Api>) -> Result<Json<Value>, ApiError> {
    Ok(Json(api.site.list_collections().await?.iter().map(view).collect()))
}

/// `POST collections`.
pub(super) async fn add(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    JsonBody(new): JsonBody<New>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let made = api.site.add_collection(&caller.by(), &new.name, Vec::new()).await?;
    Ok((StatusCode::CREATED, Json(view(&made))))
}

/// `GET collections/{id or name}`: with its devices.
pub(super) async fn show(State(api): State<Api>, Name(name): Name) -> Result<Json<Value>, ApiError> {
    let collection = api.site.find_collection(&name).await?;
    let mut members = Vec::new();
    let mut after = None;
    while members.len() < LISTED {
        let page = api.site.list_members(&collection.id, after).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.device);
        members.extend(page);
    }
    let mut view = view(&collection);
    view["devices"] =
        members.iter().map(|member| json!(format!("{} ({})", member.name, member.device))).collect();
    Ok(Json(view))
}

/// `PUT collections/{id or name}/devices/{id or name}`.
pub(super) async fn add_device(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    TwoNames(collection, device): TwoNames,
    JsonBody(Member {}): JsonBody<Member>,
) -> Result<Json<Value>, ApiError> {
    let device = super::device::find(&api, &device).await?;
    Ok(Json(view(&api.site.add_member(&caller.by(), &collection, device.id).await?)))
}

/// `DELETE collections/{id or name}/devices/{id or name}`.
pub(super) async fn remove_device(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    TwoNames(collection, device): TwoNames,
) -> Result<Json<Value>, ApiError> {
    let device = super::device::find(&api, &device).await?;
    Ok(Json(view(&api.site.remove_member(&caller.by(), &collection, device.id).await?)))
}

/// `DELETE collections/{id or name}`.
pub(super) async fn remove(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Name(name): Name,
) -> Result<Json<Value>, ApiError> {
    let gone = api.site.remove_collection(&caller.by(), &name).await?;
    Ok(Json(json!({ "id": gone.id, "name": gone.name, "removed": true })))
}

fn view(collection: &Collection) -> Value {
    json!({ "id": collection.id, "name": collection.name, "members": collection.members })
}

impl From<CollectionError> for ApiError {
    fn from(error: CollectionError) -> Self {
        match error {
            CollectionError::Database(error) => error.into(),
            CollectionError::Name(_) => Self::told(Code::Invalid, &error, "Choose another name."),
            CollectionError::Exists(_) => Self::told(Code::Conflict, &error, "Choose another name."),
            CollectionError::Unknown(_) => {
                Self::told(Code::NotFound, &error, "`roamgate collection list` shows all.")
            }
            CollectionError::UnknownDevice(_) => {
                Self::told(Code::NotFound, &error, "`roamgate device list` shows all.")
            }
            CollectionError::AllDevices => Self::told(
                Code::Conflict,
                &error,
                "Make a collection of your own: `roamgate collection add`.",
            ),
        }
    }
}
