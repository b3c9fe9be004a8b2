//! `roamgate gateway`.

use serde_json::json;

use super::element;
use crate::api::Api;
use crate::cli::GatewayCommand;
use crate::exit::Failure;
use crate::output::{self, Column, Format};

const COLUMNS: &[Column] = &[
    ("Name", "name"),
    ("Id", "id"),
    ("State", "state"),
    ("Devices reach it at", "host"),
    ("Tunnels", "tunnels"),
    ("Version", "version"),
    ("Site's version", "site_version"),
    ("Problem", "problem"),
];

pub(crate) async fn run(command: GatewayCommand, api: &Api, format: Format) -> Result<(), Failure> {
    match command {
        GatewayCommand::Add { name, address, host, bundle } => {
            let body = json!({"name": name, "address": address, "host": host});
            let mut made = api.post("gateways", &body).await?;
            super::write_bundle(&bundle, &made["bundle"].take())?;
            made["bundle"] = json!(bundle);
            output::record(
                format,
                &made,
                &[("Name", "name"), ("Id", "id"), ("Host", "host"), ("Bundle", "bundle")],
            );
            if format == Format::Table {
                output::line("Next: copy the bundle to the gateway's host, and `roamgate serve` there.");
            }
        }
        GatewayCommand::List => {
            let rows = api.get("gateways").await?;
            output::list(format, &rows, COLUMNS, "No gateways. Add one with `roamgate gateway add`.");
        }
        GatewayCommand::Show { gateway } => {
            output::record(format, &api.get(&format!("gateways/{}", element(&gateway))).await?, COLUMNS);
        }
    }
    Ok(())
}
