//! `roamgate context`.

use serde_json::json;

use crate::cli::ContextCommand;
use crate::context::{Context, SiteFlags};
use crate::exit::{Exit, Failure};
use crate::output::{self, Column, Format};

const FIELDS: &[Column] = &[
    ("Server", "server"),
    ("Site root", "ca_file"),
    ("Operator key", "operator_key_file"),
    ("Kept in", "file"),
];

pub(crate) fn run(command: &ContextCommand, flags: &SiteFlags, format: Format) -> Result<(), Failure> {
    let mut shown = json!(null);
    let context = match command {
        ContextCommand::Set => {
            let mut context = Context::find(flags)?;
            for path in [&mut context.ca_file, &mut context.operator_key_file] {
                *path =
                    std::path::absolute(&*path).map_err(|error| Failure::from_error(Exit::Usage, &error))?;
            }
            shown = json!(context.save()?);
            context
        }
        ContextCommand::Show => Context::find(flags)?,
    };
    let record = json!({
        "server": context.server,
        "ca_file": context.ca_file,
        "operator_key_file": context.operator_key_file,
        "file": shown,
    });
    output::record(format, &record, FIELDS);
    Ok(())
}
