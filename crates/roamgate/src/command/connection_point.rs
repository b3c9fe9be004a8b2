//! `roamgate connection-point`.

use serde_json::json;

use super::element;
use crate::api::Api;
use crate::cli::ConnectionPointCommand;
use crate::exit::Failure;
use crate::output::{self, Column, Format};

const COLUMNS: &[Column] = &[
    ("Name", "name"),
    ("Id", "id"),
    ("Connected", "connected"),
    ("Since", "since"),
    ("Tunnels", "tunnels"),
    ("Last seen", "last_seen_at"),
];

pub(crate) async fn run(command: ConnectionPointCommand, api: &Api, format: Format) -> Result<(), Failure> {
    match command {
        ConnectionPointCommand::Add { name, bundle } => {
            let made = super::add_host(api, "connection-points", &json!({"name": name}), bundle).await?;
            output::record(format, &made, &[("Name", "name"), ("Id", "id"), ("Bundle", "bundle")]);
            if format == Format::Table {
                output::line(
                    "Next: copy the bundle to the connection point's host, and `roamgate serve` there.",
                );
            }
            Ok(())
        }
        ConnectionPointCommand::Remove { connection_point } => {
            let gone = api.delete(&format!("connection-points/{}", element(&connection_point))).await?;
            output::record(format, &gone, &[("Name", "name"), ("Id", "id"), ("Removed", "removed")]);
            Ok(())
        }
        ConnectionPointCommand::List => {
            let rows = api.get("connection-points").await?;
            output::list(
                format,
                &rows,
                COLUMNS,
                "No connection points. Add one with `roamgate connection-point add`.",
            );
            Ok(())
        }
    }
}
