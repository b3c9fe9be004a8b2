//! `roamgate role`.

use serde_json::json;

use super::element;
use crate::api::Api;
use crate::cli::RoleCommand;
use crate::exit::Failure;
use crate::output::{self, Column, Format};

const COLUMNS: &[Column] = &[
    ("Role", "role_id"),
    ("Kind", "kind"),
    ("Name", "name"),
    ("Mode", "mode"),
    ("Inside", "internal_url"),
    ("Gateway traffic", "gateway_traffic"),
    ("Certificate demanded", "demand_client_certificate"),
    ("CCMHOSTNAME", "ccm_hostname"),
];

pub(crate) async fn run(command: RoleCommand, api: &Api, format: Format) -> Result<(), Failure> {
    match command {
        RoleCommand::Add { name, internal_url, mode, gateway_traffic } => {
            let body = json!({
                "name": name,
                "internal_url": internal_url,
                "mode": mode,
                "gateway_traffic": gateway_traffic == "on",
            });
            output::record(format, &api.post("roles", &body).await?, COLUMNS);
        }
        RoleCommand::List => {
            let rows = api.get("roles").await?;
            output::list(
                format,
                &rows,
                COLUMNS,
                "No roles. Publish a management point with `roamgate role add`.",
            );
        }
        RoleCommand::Show { role } => show(&api.get(&format!("roles/{}", element(&role))).await?, format),
        RoleCommand::Set { role, internal_url, mode, gateway_traffic, demand_client_certificate } => {
            let body = json!({
                "internal_url": internal_url,
                "mode": mode,
                "gateway_traffic": gateway_traffic.map(|word| word == "on"),
                "demand_client_certificate": demand_client_certificate.map(|word| word == "on"),
            });
            output::record(format, &api.put(&format!("roles/{}", element(&role)), &body).await?, COLUMNS);
        }
    }
    Ok(())
}

/// The role, what protects each hop to it, and which clients its mode takes.
fn show(role: &serde_json::Value, format: Format) {
    output::record(format, role, COLUMNS);
    if format == Format::Json {
        return;
    }
    output::line("\nWhat protects each hop:");
    output::list(format, &role["hops"], &[("Hop", "hop"), ("Protected by", "by")], "");
    output::line("\nWhich clients its mode takes:");
    let columns = &[
        ("From", "way"),
        ("Join", "join"),
        ("Proved by", "method"),
        ("For", "scenario"),
        ("Taken", "allowed"),
        ("Why not", "why_not"),
    ];
    output::list(format, &role["combinations"], columns, "");
}
