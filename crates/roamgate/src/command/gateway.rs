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
            let made = super::add_host(api, "gateways", &body, bundle).await?;
            output::record(
                format,
                &made,
                &[
                    ("Name", "name"),
                    ("Id", "id"),
                    ("Devices reach it at", "host"),
                    ("Connection points", "address"),
                    ("Bundle", "bundle"),
                ],
            );
            if format == Format::Table {
                output::line("Next: copy the bundle to the gateway's host, and `roamgate serve` there.");
            }
        }
        GatewayCommand::List => {
            let rows = api.get("gateways").await?;
            output::list(format, &rows, COLUMNS, "No gateways. Add one with `roamgate gateway add`.");
        }
        GatewayCommand::Remove { gateway } => {
            let gone = api.delete(&format!("gateways/{}", element(&gateway))).await?;
            output::record(format, &gone, &[("Name", "name"), ("Id", "id"), ("Removed", "removed")]);
        }
        GatewayCommand::Show { gateway } => {
            let shown = api.get(&format!("gateways/{}", element(&gateway))).await?;
            let fields = [COLUMNS, &[("Tunnels from", "connection_points")]].concat();
            output::record(format, &shown, &fields);
        }
    }
    Ok(())
}
