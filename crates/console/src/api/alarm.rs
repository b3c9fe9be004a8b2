//! `/alarms`: what weakens the site, is about to end, or waits for a person.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::error::ApiError;
use super::{Api, time};

/// `GET alarms`.
pub(super) async fn list(State(api): State<Api>) -> Result<Json<Value>, ApiError> {
    let alarms = api.site.list_alarms().await?;
    let rows = alarms.iter().map(|alarm| {
        json!({
            "since": alarm.since.map(time),
            "about": format!("{} {}", alarm.kind, alarm.object),
            "kind": alarm.kind,
            "object": alarm.object,
            "text": alarm.text,
            "fix": alarm.fix,
        })
    });
    Ok(Json(rows.collect()))
}
