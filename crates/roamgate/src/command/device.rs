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
    ("Blocked because", "block_note"),
    ("Held as a copy", "clone_suspicion"),
    ("Method", "method"),
    ("Since", "method_since"),
    ("Because", "method_reason"),
    ("Not better", "methods_not_used"),
    ("Fell back", "fell_back_at"),
    ("Came back", "recovered_at"),
    ("Certificate", "certificate"),
    ("SHA-256", "certificate_sha256"),
    ("Client version", "client_version"),
    ("Hardware id", "hardware_id"),
    ("Policy version", "policy_version"),
    ("Signs requests", "signs_requests"),
    ("Registered", "registered_at"),
    ("Conflicts with", "conflict_with"),
    ("Join", "join"),
    ("Entra device", "entra_device"),
    ("PKI certificate", "pki_subject"),
    ("It ends", "pki_not_after"),
    ("Self-prove token ends", "token_expires_at"),
    ("Clock", "clock"),
];

const STRANDED: &[Column] = &[
    ("Device", "name"),
    ("Client id", "client_id"),
    ("Knocks since", "since"),
    ("Last", "last"),
    ("Times", "count"),
    ("By way of", "place"),
    ("Refused because", "cause"),
    ("What to do", "advice"),
];

const EXPIRING: &[Column] =
    &[("Device", "name"), ("Client id", "client_id"), ("Credential", "credential"), ("Ends", "ends")];

pub(crate) async fn run(command: DeviceCommand, api: &Api, format: Format) -> Result<(), Failure> {
    match command {
        DeviceCommand::List { stranded: true, .. } => {
            let rows = api.get("stranded-devices").await?;
            output::list(format, &rows, STRANDED, "Nobody knocks with dead credentials.");
        }
        DeviceCommand::List { expiring: Some(days), .. } => {
            let rows = api.get(&format!("expiring-credentials?days={days}")).await?;
            output::list(format, &rows, EXPIRING, "No credential ends within this time.");
        }
        DeviceCommand::List { state, .. } => {
            let query = state.map(|state| format!("?state={state}")).unwrap_or_default();
            let rows = api.get(&format!("devices{query}")).await?;
            output::list(
                format,
                &rows,
                COLUMNS,
                "No such devices. To register one: `roamgate bulk-token new`.",
            );
        }
        DeviceCommand::Show { device } => {
            let mut record = api.get(&format!("devices/{}", element(&device))).await?;
            if format == Format::Table {
                flatten_methods(&mut record);
                flatten_suspicion(&mut record);
            }
            output::record(format, &record, FIELDS);
        }
        DeviceCommand::Approve { device } => act(api, &device, "approve", format).await?,
        DeviceCommand::Block { device } => act(api, &device, "block", format).await?,
        DeviceCommand::Unblock { device } => act(api, &device, "unblock", format).await?,
        DeviceCommand::Hold { device } => act(api, &device, "hold", format).await?,
        DeviceCommand::Readmit { device } => act(api, &device, "readmit", format).await?,
        DeviceCommand::Settle { device } => act(api, &device, "settle", format).await?,
        DeviceCommand::Delete { device } => {
            let gone = api.delete(&format!("devices/{}", element(&device))).await?;
            output::record(
                format,
                &gone,
                &[("Name", "name"), ("Client id", "client_id"), ("Deleted", "deleted")],
            );
        }
    }
    Ok(())
}

async fn act(api: &Api, device: &str, verb: &str, format: Format) -> Result<(), Failure> {
    let record = api.post(&format!("devices/{}/{verb}", element(device)), &json!({})).await?;
    output::record(
        format,
        &record,
        &[
            ("Name", "name"),
            ("Client id", "client_id"),
            ("Approval", "approval"),
            ("Blocked", "blocked"),
            ("Gateways told", "gateways_told"),
            ("Waiting for", "gateways_waiting"),
        ],
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

/// What was observed, and a line each for what differs: "key: 3F… and 9A…".
fn flatten_suspicion(record: &mut serde_json::Value) {
    let Some(suspicion) = record.get_mut("clone_suspicion").filter(|value| value.is_object()) else {
        return;
    };
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let mut lines = vec![text(&suspicion["evidence"])];
    for difference in suspicion["differences"].as_array().into_iter().flatten() {
        let (what, one, other) = (&difference["what"], &difference["one"], &difference["other"]);
        lines.push(format!("{}: {} and {}", text(what), text(one), text(other)));
    }
    *suspicion = json!(lines);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_shown_with_what_differs() {
        let mut record = json!({"clone_suspicion": {
            "evidence": "one key in two places", "kind": "same-key",
            "differences": [{"what": "name", "one": "PC1", "other": "PC2"}],
        }});
        flatten_suspicion(&mut record);
        assert_eq!(record["clone_suspicion"], json!(["one key in two places", "name: PC1 and PC2"]));
        let mut healthy = json!({"clone_suspicion": null});
        flatten_suspicion(&mut healthy);
        assert!(healthy["clone_suspicion"].is_null());
    }
}
