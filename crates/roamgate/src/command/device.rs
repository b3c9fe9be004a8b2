//! `roamgate device`.

use serde_json::json;

use super::element;
use crate::api::Api;
use crate::cli::DeviceCommand;
use crate::exit::Failure;
use crate::output::{self, Column, Format};

const COLUMNS: &[Column] = &[
    ("Name", "name"),
    ("Client id", "client_id"),
    ("Presence", "presence"),
    ("Approval", "approval"),
    ("Blocked", "blocked"),
    ("Method", "method"),
    ("Policy", "policy_version"),
    ("Last seen", "last_seen_at"),
];

const FIELDS: &[Column] = &[
    ("Name", "name"),
    ("Client id", "client_id"),
    ("In short", "summary"),
    ("Presence", "presence"),
    ("Judged by", "online_rule"),
    ("Last seen", "last_seen_at"),
    ("By way of", "last_seen_path"),
    ("Approval", "approval"),
    ("Approved by", "approved_by"),
    ("Blocked", "blocked"),
    ("Method", "method"),
    ("Since", "method_since"),
    ("Because", "method_reason"),
    ("Not better", "methods_not_used"),
    ("Certificate", "certificate"),
    ("SHA-256", "certificate_sha256"),
    ("Client version", "client_version"),
    ("Hardware id", "hardware_id"),
    ("Policy version", "policy_version"),
    ("Signs requests", "signs_requests"),
    ("Registered", "registered_at"),
    ("Conflicts with", "conflict_with"),
];

pub(crate) async fn run(command: DeviceCommand, api: &Api, format: Format) -> Result<(), Failure> {
    match command {
        DeviceCommand::List { state } => {
            let query = state.map(|state| format!("?state={state}")).unwrap_or_default();
            let rows = api.get(&format!("devices{query}")).await?;
            output::list(format, &rows, COLUMNS, "No devices. Let one register: `roamgate bulk-token new`.");
        }
        DeviceCommand::Show { device } => {
            let mut record = api.get(&format!("devices/{}", element(&device))).await?;
            if format == Format::Table {
                flatten_methods(&mut record);
            }
            output::record(format, &record, FIELDS);
        }
        DeviceCommand::Approve { device } => act(api, &device, "approve", format).await?,
        DeviceCommand::Block { device } => act(api, &device, "block", format).await?,
        DeviceCommand::Unblock { device } => act(api, &device, "unblock", format).await?,
    }
    Ok(())
}

async fn act(api: &Api, device: &str, verb: &str, format: Format) -> Result<(), Failure> {
    let record = api.post(&format!("devices/{}/{verb}", element(device)), &json!({})).await?;
    output::record(
        format,
        &record,
        &[("Name", "name"), ("Client id", "client_id"), ("Approval", "approval"), ("Blocked", "blocked")],
    );
    Ok(())
}

/// "certificate: no certificate of a trusted authority" instead of a JSON object a method.
fn flatten_methods(record: &mut serde_json::Value) {
    if let Some(methods) = record.get_mut("methods_not_used").and_then(|value| value.as_array_mut()) {
        for entry in methods {
            let text = |member: &str| entry[member].as_str().unwrap_or_default().to_owned();
            *entry = json!(format!("{}: {}", text("method"), text("reason")));
        }
    }
}
