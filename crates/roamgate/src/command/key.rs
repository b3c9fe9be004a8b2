//! `roamgate key`.

use serde_json::json;

use super::element;
use crate::api::Api;
use crate::cli::KeyCommand;
use crate::exit::Failure;
use crate::output::{self, Column, Format};

const COLUMNS: &[Column] = &[
    ("Purpose", "purpose"),
    ("State", "state"),
    ("x5t", "x5t"),
    ("Valid until", "not_after"),
    ("Made", "created_at"),
    ("Id", "id"),
];

pub(crate) async fn run(command: KeyCommand, api: &Api, format: Format) -> Result<(), Failure> {
    match command {
        KeyCommand::List => output::list(format, &api.get("keys").await?, COLUMNS, "No keys."),
        KeyCommand::Rotate => {
            let rows = api.post("keys/rotate", &json!({"purpose": "token-signing"})).await?;
            output::list(format, &rows, COLUMNS, "No keys.");
        }
        KeyCommand::Drop { id } => {
            let rows = api.post(&format!("keys/{}/drop", element(&id)), &json!({})).await?;
            output::list(format, &rows, COLUMNS, "No keys.");
        }
        KeyCommand::Export { certificate } => {
            let path = match certificate.as_str() {
                "site-root" => "site/root",
                "site-crl" => "site/crl",
                _ => "keys/token-signing-certificate",
            };
            let answer = api.get(path).await?;
            match format {
                Format::Json => output::json(&answer),
                Format::Table => output::line(answer["pem"].as_str().unwrap_or_default().trim_end()),
            }
        }
    }
    Ok(())
}
