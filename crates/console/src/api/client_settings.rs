//! `/client-settings`: what clients are told, by default and for collections.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Extension, State};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use site::{ClientSettings, ClientSettingsChange, ClientSettingsError, NewClientSettings};

use super::authenticate::Caller;
use super::error::{ApiError, Code};
use super::extract::{JsonBody, Name};
use super::{Api, time};

/// Body of `POST client-settings`, and of `PUT client-settings/{name}`, where what is left out or
/// `null` stays.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    #[serde(default)]
    name: String,
    priority: Option<u32>,
    #[serde(default)]
    values: BTreeMap<String, String>,
    collections: Option<Vec<String>>,
    not_for: Option<Vec<String>>,
}

/// `GET client-settings`.
pub(super) async fn list(State(api): State<Api>) -> Result<Json<Value>, ApiError> {
    Ok(Json(api.site.list_client_settings().await?.iter().map(view).collect()))
}

/// `GET client-settings-known`.
pub(super) async fn list_known() -> Json<Value> {
    let rows = site::known_client_settings();
    Json(
        rows.iter()
            .map(|known| {
                json!({
                    "name": known.name,
                    "takes": known.takes,
                    "default": known.default,
                    "meaning": known.meaning,
                })
            })
            .collect(),
    )
}

/// `POST client-settings`.
pub(super) async fn add(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    JsonBody(wanted): JsonBody<Wanted>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let new = NewClientSettings {
        name: wanted.name,
        priority: wanted.priority,
        values: wanted.values,
        collections: wanted.collections.unwrap_or_default(),
        not_for: wanted.not_for.unwrap_or_default(),
    };
    let made = api.site.add_client_settings(&caller.by(), new).await?;
    Ok((StatusCode::CREATED, Json(view(&made))))
}

/// `PUT client-settings/{name}`.
pub(super) async fn set(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Name(name): Name,
    JsonBody(wanted): JsonBody<Wanted>,
) -> Result<Json<Value>, ApiError> {
    let change = ClientSettingsChange {
        priority: wanted.priority,
        values: wanted.values,
        collections: wanted.collections,
        not_for: wanted.not_for,
    };
    Ok(Json(view(&api.site.set_client_settings(&caller.by(), &name, change).await?)))
}

/// `DELETE client-settings/{name}`.
pub(super) async fn remove(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Name(name): Name,
) -> Result<Json<Value>, ApiError> {
    let gone = api.site.remove_client_settings(&caller.by(), &name).await?;
    Ok(Json(json!({ "name": gone.name, "removed": true })))
}

fn view(settings: &ClientSettings) -> Value {
    json!({
        "name": settings.name,
        "priority": settings.priority,
        "values": settings.values,
        "collections": settings.collections,
        "not_for": settings.not_for,
        "changed_at": settings.changed_at.map(time),
        "changed_by": settings.changed_by,
    })
}

impl From<ClientSettingsError> for ApiError {
    fn from(error: ClientSettingsError) -> Self {
        match error {
            ClientSettingsError::Database(error) => error.into(),
            ClientSettingsError::SiteSetting(error) => error.into(),
            ClientSettingsError::Unknown(_) => {
                Self::told(Code::NotFound, &error, "`roamgate client-settings list` shows all.")
            }
            ClientSettingsError::UnknownCollection(_) => {
                Self::told(Code::NotFound, &error, "`roamgate collection list` shows all.")
            }
            ClientSettingsError::Exists(_)
            | ClientSettingsError::PriorityTaken(_)
            | ClientSettingsError::Default => {
                Self::told(Code::Conflict, &error, "`roamgate client-settings list` shows what there is.")
            }
            other => Self::told(
                Code::Invalid,
                &other,
                "`roamgate client-settings known` shows every setting with its bounds.",
            ),
        }
    }
}
