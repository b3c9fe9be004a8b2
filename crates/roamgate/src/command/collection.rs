//! `roamgate collection`, `roamgate client-settings`, `roamgate expected-device`.

use serde_json::{Map, Value, json};

use super::element;
use crate::api::Api;
use crate::cli::{ClientSettingsArgs, ClientSettingsCommand, CollectionCommand, ExpectedDeviceCommand};
use crate::exit::{Exit, Failure};
use crate::output::{self, Column, Format};

const COLUMNS: &[Column] = &[("Collection", "name"), ("Id", "id"), ("Devices", "members")];

pub(crate) async fn run(command: CollectionCommand, api: &Api, format: Format) -> Result<(), Failure> {
    match command {
        CollectionCommand::Add { name } => {
            output::record(format, &api.post("collections", &json!({"name": name})).await?, COLUMNS);
        }
        CollectionCommand::List => {
            output::list(format, &api.get("collections").await?, COLUMNS, "No collections.");
        }
        CollectionCommand::Show { collection } => {
            let record = api.get(&path(&collection)).await?;
            output::record(format, &record, &[("Collection", "name"), ("Id", "id"), ("Devices", "devices")]);
        }
        CollectionCommand::AddDevice { collection, devices } => {
            for device in devices {
                let path = format!("{}/devices/{}", path(&collection), element(&device));
                api.put(&path, &json!({})).await?;
            }
            output::record(format, &api.get(&path(&collection)).await?, COLUMNS);
        }
        CollectionCommand::RemoveDevice { collection, devices } => {
            for device in devices {
                api.delete(&format!("{}/devices/{}", path(&collection), element(&device))).await?;
            }
            output::record(format, &api.get(&path(&collection)).await?, COLUMNS);
        }
        CollectionCommand::Remove { collection } => {
            let gone = api.delete(&path(&collection)).await?;
            output::record(format, &gone, &[("Collection", "name"), ("Removed", "removed")]);
        }
    }
    Ok(())
}

fn path(collection: &str) -> String {
    format!("collections/{}", element(collection))
}

const SETTINGS: &[Column] = &[
    ("Client settings", "name"),
    ("Priority", "priority"),
    ("Values", "values"),
    ("For", "collections"),
    ("Not for", "not_for"),
];

pub(crate) async fn run_client_settings(
    command: ClientSettingsCommand,
    api: &Api,
    format: Format,
) -> Result<(), Failure> {
    match command {
        ClientSettingsCommand::List => {
            output::list(format, &api.get("client-settings").await?, SETTINGS, "No client settings.");
        }
        ClientSettingsCommand::Known => {
            let rows = api.get("client-settings-known").await?;
            output::list(
                format,
                &rows,
                &[("Setting", "name"), ("Takes", "takes"), ("Default", "default"), ("Meaning", "meaning")],
                "No settings.",
            );
        }
        ClientSettingsCommand::Add(arguments) => {
            output::record(format, &api.post("client-settings", &body(&arguments)?).await?, SETTINGS);
        }
        ClientSettingsCommand::Set(arguments) => {
            let path = format!("client-settings/{}", element(&arguments.name));
            output::record(format, &api.put(&path, &body(&arguments)?).await?, SETTINGS);
        }
        ClientSettingsCommand::Remove { name } => {
            let gone = api.delete(&format!("client-settings/{}", element(&name))).await?;
            output::record(format, &gone, &[("Client settings", "name"), ("Removed", "removed")]);
        }
    }
    Ok(())
}

/// What was not named is left out, so that `set` leaves it.
fn body(arguments: &ClientSettingsArgs) -> Result<Value, Failure> {
    let mut values = Map::new();
    for pair in &arguments.values {
        let (name, value) = pair.split_once('=').ok_or_else(|| {
            Failure::new(Exit::Usage, format!("{pair:?} is no SETTING=VALUE")).help(
                "Write for instance EnableCloudGateway=yes; `roamgate client-settings known` lists all.",
            )
        })?;
        values.insert(name.to_owned(), json!(value));
    }
    let some = |list: &[String]| (!list.is_empty()).then(|| json!(list));
    Ok(json!({
        "name": arguments.name,
        "priority": arguments.priority,
        "values": values,
        "collections": some(&arguments.collections),
        "not_for": some(&arguments.not_for),
    }))
}

const EXPECTED: &[Column] =
    &[("Id", "id"), ("Name", "name"), ("Hardware id", "hardware_id"), ("Added", "added_at")];

pub(crate) async fn run_expected(
    command: ExpectedDeviceCommand,
    api: &Api,
    format: Format,
) -> Result<(), Failure> {
    match command {
        ExpectedDeviceCommand::Add { name, hardware_id } => {
            let body = json!({"name": name, "hardware_id": hardware_id});
            output::record(format, &api.post("expected-devices", &body).await?, EXPECTED);
        }
        ExpectedDeviceCommand::List => {
            let empty = "No device is expected.";
            output::list(format, &api.get("expected-devices").await?, EXPECTED, empty);
        }
        ExpectedDeviceCommand::Remove { id } => {
            let gone = api.delete(&format!("expected-devices/{}", element(&id))).await?;
            output::record(format, &gone, &[("Id", "id"), ("Removed", "removed")]);
        }
    }
    Ok(())
}
