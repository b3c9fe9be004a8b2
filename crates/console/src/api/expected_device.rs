//! `/expected-devices`: whom the approval rule `expected-list` approves.

use axum::Json;
use axum::extract::{Extension, State};
use http::StatusCode;
use proto::id::Guid;
use serde::Deserialize;
use serde_json::{Value, json};
use site::{ExpectedDevice, ExpectedDeviceError, NewExpectedDevice};

use super::authenticate::Caller;
use super::error::{ApiError, Code};
use super::extract::{JsonBody, Name};
use super::{Api, time};

/// Body of `POST expected-devices`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct New {
    name: Option<String>,
    hardware_id: Option<String>,
    #[serde(default)]
    note: String,
}

/// `GET expected-devices`.
pub(super) async fn list(State(api): State<Api>) -> Result<Json<Value>, ApiError> {
    let mut rows = Vec::new();
    let mut after = None;
    loop {
        let page = api.site.list_expected_devices(after).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        rows.extend(page.iter().map(view));
    }
    Ok(Json(rows.into()))
}

/// `POST expected-devices`.
pub(super) async fn add(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    JsonBody(new): JsonBody<New>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let new = NewExpectedDevice {
        name: new.name.unwrap_or_default(),
        hardware_id: new.hardware_id.unwrap_or_default(),
        note: new.note,
    };
    let added = api.site.add_expected_devices(&caller.by(), vec![new]).await?;
    Ok((StatusCode::CREATED, Json(added.first().map(view).unwrap_or_default())))
}

/// `DELETE expected-devices/{id}`.
pub(super) async fn remove(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Name(id): Name,
) -> Result<Json<Value>, ApiError> {
    let id: Guid = id.parse().map_err(|error| {
        ApiError::told(Code::Invalid, &error, "Give the id as `roamgate expected-device list` shows it.")
    })?;
    api.site.remove_expected_device(&caller.by(), id).await?;
    Ok(Json(json!({ "id": id, "removed": true })))
}

fn view(device: &ExpectedDevice) -> Value {
    json!({
        "id": device.id,
        "name": device.name,
        "hardware_id": device.hardware_id,
        "note": device.note,
        "added_at": time(device.added_at),
        "added_by": device.added_by,
        "came_with_certificate": device.taken_by,
    })
}

impl From<ExpectedDeviceError> for ApiError {
    fn from(error: ExpectedDeviceError) -> Self {
        match error {
            ExpectedDeviceError::Database(error) => error.into(),
            ExpectedDeviceError::Unknown(_) => {
                Self::told(Code::NotFound, &error, "`roamgate expected-device list` shows all.")
            }
            other => Self::told(Code::Invalid, &other, "Give a name, a hardware id, or both."),
        }
    }
}
