//! `roamgate trace`.

use super::element;
use crate::api::Api;
use crate::exit::{Exit, Failure};
use crate::output::{self, Column, Format};

const COLUMNS: &[Column] = &[
    ("When", "at"),
    ("Hop", "hop"),
    ("Request", "target"),
    ("Status", "status"),
    ("Reason", "reason"),
    ("Device", "device"),
    ("ms", "elapsed_ms"),
    ("Cause", "detail"),
];

pub(crate) async fn run(request_id: &str, api: &Api, format: Format) -> Result<(), Failure> {
    let found = api.get(&format!("requests/{}", element(request_id))).await?;
    let events = &found["events"];
    if format == Format::Json {
        output::json(&found);
    } else {
        output::list(format, events, COLUMNS, "");
    }
    if events.as_array().is_none_or(Vec::is_empty) {
        return Err(Failure::new(Exit::NotFound, "no refusal is known under this request id").help(
            "Refused and slow requests are kept for a while only. Logs of every hop have the id too.",
        ));
    }
    Ok(())
}
