//! `/logs`: how much each component of this host writes, changed while it runs.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Extension, State};
use runtime::telemetry::Level;
use serde::Deserialize;
use tracing::warn;

use super::Api;
use super::authenticate::Caller;
use super::error::{ApiError, Code};
use super::extract::{JsonBody, Name};

/// Body of `PUT logs/{component}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewLevel {
    level: u8,
}

type Levels = BTreeMap<&'static str, u8>;

/// `GET logs`.
pub(super) async fn list(State(api): State<Api>) -> Json<Levels> {
    Json(levels(&api))
}

/// `PUT logs/{component}`. It lasts until the process ends; the configuration file has the level
/// of the next start.
pub(super) async fn set(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Name(component): Name,
    JsonBody(new): JsonBody<NewLevel>,
) -> Result<Json<Levels>, ApiError> {
    let level = Level::try_from(new.level)
        .map_err(|error| ApiError::told(Code::Invalid, &error, "Write a number from 0 to 3."))?;
    api.logs.set_level(&component, level).map_err(|error| {
        ApiError::told(Code::NotFound, &error, "`roamgate logs list` shows all components.")
    })?;
    api.site.note_log_level(&caller.by(), &component, new.level).await?;
    // Written at `warn`, so that it stands in the log at every level but one.
    warn!(by = %caller.by().actor, changed = component, level = new.level, "log level changed");
    Ok(Json(levels(&api)))
}

fn levels(api: &Api) -> Levels {
    api.logs.levels().into_iter().map(|(component, level)| (component, u8::from(level))).collect()
}
