//! `roamgate settings`.

use serde_json::json;

use super::element;
use crate::api::Api;
use crate::cli::SettingsCommand;
use crate::exit::Failure;
use crate::output::{self, Column, Format};

const COLUMNS: &[Column] = &[
    ("Setting", "name"),
    ("Value", "value"),
    ("Default", "default"),
    ("Unit", "unit"),
    ("Weakens", "weakens"),
    ("Meaning", "description"),
];

const RESULTANT: &[Column] = &[
    ("Setting", "name"),
    ("Value", "value"),
    ("From", "from"),
    ("Because", "reason"),
    ("The device applied", "reported"),
    ("Differs", "differs"),
];

pub(crate) async fn run(command: SettingsCommand, api: &Api, format: Format) -> Result<(), Failure> {
    match command {
        SettingsCommand::List => output::list(format, &api.get("settings").await?, COLUMNS, "No settings."),
        SettingsCommand::Show { device } => {
            let rows = api.get(&format!("devices/{}/settings", element(&device))).await?;
            output::list(format, &rows, RESULTANT, "No settings.");
        }
        SettingsCommand::Set { name, value } => {
            let setting = api.put(&format!("settings/{}", element(&name)), &json!({"value": value})).await?;
            output::record(format, &setting, COLUMNS);
        }
    }
    Ok(())
}
