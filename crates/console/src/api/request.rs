//! `/requests`: what the hops reported of one request.

use axum::Json;
use axum::extract::State;
use proto::id::RequestId;
use serde_json::{Value, json};
use site::StoredEvent;

use super::error::{ApiError, Code};
use super::extract::Name;
use super::{Api, time};

/// `GET requests/{request_id}`: empty where nothing is known, since most requests go well and
/// leave no trace here.
pub(super) async fn show(State(api): State<Api>, Name(id): Name) -> Result<Json<Value>, ApiError> {
    let id: RequestId = id.parse().map_err(|error| {
        ApiError::told(Code::Invalid, &error, "Give the id as an answer's header or a log line has it.")
    })?;
    let events = api.site.find_events(id).await?;
    Ok(Json(json!({ "request_id": id, "events": events.iter().map(view).collect::<Vec<_>>() })))
}

fn view(stored: &StoredEvent) -> Value {
    let event = &stored.event;
    json!({
        "at": time(event.at),
        "hop": event.hop,
        "target": event.target,
        "status": event.status,
        "reason": event.reason,
        "detail": event.detail,
        "device": event.device,
        "elapsed_ms": event.elapsed_ms,
        "reported_by": stored.reported_by,
    })
}
