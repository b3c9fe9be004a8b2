//! `/audit`: who did what, and whether the trail is as it was written.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};
use site::{AuditFault, AuditRecord, AuditVerdict};

use super::bulk_token::Nothing;
use super::error::ApiError;
use super::extract::{Filter, JsonBody};
use super::{Api, time};

/// Records of an answer unless the query says otherwise.
const USUAL: u32 = 50;
/// Most records of an answer.
const MOST: u32 = 1000;

/// Query of `GET audit`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    /// Only records behind this number: what is new since.
    after: Option<i64>,
    /// Only records before this number: the page before.
    before: Option<i64>,
    limit: Option<u32>,
}

/// `GET audit`: the newest records, the newest first.
pub(super) async fn list(
    State(api): State<Api>,
    Filter(page): Filter<Page>,
) -> Result<Json<Value>, ApiError> {
    let limit = page.limit.unwrap_or(USUAL).min(MOST);
    let mut records = api.site.list_audit(page.before, limit).await?;
    records.retain(|record| page.after.is_none_or(|after| record.seq > after));
    Ok(Json(records.iter().map(view).collect()))
}

/// `POST audit/verify`.
pub(super) async fn verify(
    State(api): State<Api>,
    JsonBody(Nothing {}): JsonBody<Nothing>,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(verdict(&api.site.verify_audit().await?)))
}

fn verdict(verdict: &AuditVerdict) -> Value {
    match verdict {
        AuditVerdict::Whole { rows } => json!({ "rows": rows, "ok": true }),
        AuditVerdict::Broken { seq, fault } => json!({
            "rows": seq - 1,
            "ok": false,
            "first_bad": seq,
            "problem": match fault {
                AuditFault::Missing => format!("record {seq} is missing"),
                AuditFault::Altered => format!("record {seq} is not as it was written"),
                AuditFault::HeadAltered => format!("the seal behind record {seq} is not as it was written"),
            },
        }),
    }
}

fn view(record: &AuditRecord) -> Value {
    json!({
        "sequence": record.seq,
        "at": time(record.at),
        "actor": record.actor,
        "source": record.from,
        "action": record.act,
        "subject": record.object,
        // Written by the site as JSON; text stays text, should it ever be something else.
        "detail": serde_json::from_str(&record.detail).unwrap_or_else(|_| json!(record.detail)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_trail_names_the_first_bad_record() {
        let broken = verdict(&AuditVerdict::Broken { seq: 7, fault: AuditFault::Altered });
        assert_eq!(broken["ok"], false);
        assert_eq!((broken["rows"].as_i64(), broken["first_bad"].as_i64()), (Some(6), Some(7)));
        assert_eq!(broken["problem"], "record 7 is not as it was written");
    }
}
