//! `roamgate logs`.

use serde_json::{Value, json};

use super::element;
use crate::api::Api;
use crate::cli::LogsCommand;
use crate::exit::Failure;
use crate::output::{self, Format};

pub(crate) async fn run(command: LogsCommand, api: &Api, format: Format) -> Result<(), Failure> {
    let levels = match command {
        LogsCommand::List => api.get("logs").await?,
        LogsCommand::Set { component, level } => {
            api.put(&format!("logs/{}", element(&component)), &json!({"level": level})).await?
        }
    };
    if format == Format::Json {
        output::json(&levels);
        return Ok(());
    }
    let rows: Vec<Value> = levels
        .as_object()
        .into_iter()
        .flatten()
        .map(|(component, level)| json!({"component": component, "level": level}))
        .collect();
    output::list(format, &json!(rows), &[("Component", "component"), ("Level", "level")], "No components.");
    Ok(())
}
