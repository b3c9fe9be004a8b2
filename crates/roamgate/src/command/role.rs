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
        RoleCommand::Set { role_id, internal_url, mode, gateway_traffic } => {
            let body = json!({
                "internal_url": internal_url,
                "mode": mode,
                "gateway_traffic": gateway_traffic.map(|word| word == "on"),
            });
            output::record(format, &api.put(&format!("roles/{}", element(&role_id)), &body).await?, COLUMNS);
        }
    }
    Ok(())
}
