//! `/site`: what the site is called, how its devices fare, what weakens it.

use axum::Json;
use axum::extract::State;
use proto::id::Thumbprint;
use serde_json::{Value, json};
use site::{Approval, Device};

use super::error::ApiError;
use super::{Api, device, gateway, pem};

/// `GET site`.
pub(super) async fn show(State(api): State<Api>) -> Result<Json<Value>, ApiError> {
    let facts = api.site.facts();
    let devices = device::list_all(&api, site::DeviceFilter::default()).await?;
    let gateways = gateway::views(&api).await?;
    let connectors = api.site.list_connectors().await?;
    let alarms = alarms(&api, &gateways, connectors.len()).await?;
    Ok(Json(json!({
        "site_code": facts.code,
        "name": facts.name,
        "hierarchy_id": facts.hierarchy,
        "site_root_sha256": root_thumbprint(&api),
        "program": env!("CARGO_PKG_VERSION"),
        "devices": counts(&devices),
        "gateways": gateways.len(),
        "connection_points": connectors.len(),
        "snapshot_version": api.site.current_snapshot().version,
        "alarms": alarms,
    })))
}

/// `GET site/root`.
pub(super) async fn show_root(State(api): State<Api>) -> Json<Value> {
    Json(json!({ "pem": pem::certificate(&api.site.root_certificate()) }))
}

/// What devices pin.
pub(super) fn root_thumbprint(api: &Api) -> Thumbprint {
    Thumbprint::of(&api.site.root_certificate())
}

fn counts(devices: &[Device]) -> Value {
    let count = |which: fn(&Device) -> bool| devices.iter().filter(|device| which(device)).count();
    json!({
        "total": devices.len(),
        "approved": count(|device| device.approval == Approval::Approved),
        "held": count(|device| device.approval == Approval::Held),
        "blocked": count(|device| device.blocked),
        "online": count(|device| device.online),
    })
}

/// What an operator should look at: settings and rules that weaken the site (R71), links that are down.
async fn alarms(api: &Api, gateways: &[Value], connectors: usize) -> Result<Vec<String>, ApiError> {
    let standing = api.site.list_alarms().await?;
    let mut alarms: Vec<_> =
        standing.iter().map(|alarm| format!("{} {}: {}", alarm.kind, alarm.object, alarm.text)).collect();
    if !gateways.is_empty() && connectors == 0 {
        alarms.push(
            "there are gateways and no connection point: no device reaches the site from outside".to_owned(),
        );
    }
    for gateway in gateways {
        if let (Some(name), Some(problem)) = (gateway["name"].as_str(), gateway["problem"].as_str()) {
            alarms.push(format!("gateway {name}: {problem}"));
        }
    }
    Ok(alarms)
}
