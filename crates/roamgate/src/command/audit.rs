//! `roamgate audit`.

use serde_json::json;

use crate::api::Api;
use crate::cli::AuditCommand;
use crate::exit::{Exit, Failure};
use crate::output::{self, Column, Format};

const COLUMNS: &[Column] = &[
    ("No.", "sequence"),
    ("When", "at"),
    ("Who", "actor"),
    ("From", "source"),
    ("Did", "action"),
    ("To", "subject"),
    ("Details", "detail"),
];

pub(crate) async fn run(command: AuditCommand, api: &Api, format: Format) -> Result<(), Failure> {
    match command {
        AuditCommand::List { limit } => {
            let rows = api.get(&format!("audit?limit={limit}")).await?;
            output::list(format, &rows, COLUMNS, "The audit trail is empty.");
            Ok(())
        }
        AuditCommand::Verify => {
            let verdict = api.post("audit/verify", &json!({})).await?;
            if format == Format::Json {
                output::json(&verdict);
            }
            let rows = verdict["rows"].as_u64().unwrap_or(0);
            if verdict["ok"] == json!(true) {
                if format == Format::Table {
                    output::line(&format!(
                        "The audit trail is whole: {rows} records, each linked to the one before."
                    ));
                }
                return Ok(());
            }
            let problem = verdict["problem"].as_str().unwrap_or("the chain is broken");
            Err(Failure::new(Exit::Problems, format!("the audit trail was changed: {problem}"))
                .help("Keep the database as it is, and compare it with a backup from before that record."))
        }
    }
}
