//! `/approval-rules`: what approves a device without an operator, in order.

use axum::Json;
use axum::extract::{Extension, State};
use serde::Deserialize;
use serde_json::{Value, json};
use site::{ApprovalRule, ApprovalRuleError};

use super::Api;
use super::authenticate::Caller;
use super::error::{ApiError, Code};
use super::extract::JsonBody;

/// Body of `PUT approval-rules`: the complete list, each rule as its kind, with `=` and its argument
/// where it has one: `bulk-token`, `network=192.0.2.0/24`, `manual`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRules {
    rules: Vec<String>,
}

/// `GET approval-rules`.
pub(super) async fn list(State(api): State<Api>) -> Json<Value> {
    view(&api)
}

/// `PUT approval-rules`.
pub(super) async fn set(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    JsonBody(new): JsonBody<NewRules>,
) -> Result<Json<Value>, ApiError> {
    let rules: Result<Vec<_>, _> = new.rules.iter().map(|text| read(text)).collect();
    api.site.set_approval_rules(&caller.by(), rules?).await?;
    Ok(view(&api))
}

fn read(text: &str) -> Result<ApprovalRule, ApiError> {
    let (kind, argument) = text.split_once('=').unwrap_or((text, ""));
    ApprovalRule::parse(kind, argument).ok_or_else(|| {
        let shown: String = text.chars().filter(|c| !c.is_control()).take(80).collect();
        ApiError::new(
            Code::Invalid,
            format!("no such approval rule: {shown}"),
            "Write bulk-token, pki, entra, expected-list, network=192.0.2.0/24 or manual.",
        )
    })
}

fn view(api: &Api) -> Json<Value> {
    let rules = api.site.approval_rules();
    let rows = rules.iter().enumerate().map(|(at, rule)| {
        json!({"order": at + 1, "rule": rule.kind(), "argument": rule.argument(), "weakens": rule.is_weak()})
    });
    Json(rows.collect())
}

impl From<ApprovalRuleError> for ApiError {
    fn from(error: ApprovalRuleError) -> Self {
        match error {
            ApprovalRuleError::TooMany => {
                Self::told(Code::Invalid, &error, "Join neighbouring networks into larger ones.")
            }
            ApprovalRuleError::Database(error) => error.into(),
        }
    }
}
