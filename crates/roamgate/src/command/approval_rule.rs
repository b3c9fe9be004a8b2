//! `roamgate approval-rule`.

use serde_json::json;

use crate::api::Api;
use crate::cli::ApprovalRuleCommand;
use crate::exit::Failure;
use crate::output::{self, Column, Format};

const COLUMNS: &[Column] =
    &[("Order", "order"), ("Approves by", "rule"), ("Of", "argument"), ("Weakens", "weakens")];

pub(crate) async fn run(command: ApprovalRuleCommand, api: &Api, format: Format) -> Result<(), Failure> {
    let rules = match command {
        ApprovalRuleCommand::List => api.get("approval-rules").await?,
        ApprovalRuleCommand::Set { rules } => api.put("approval-rules", &json!({"rules": rules})).await?,
    };
    output::list(format, &rules, COLUMNS, "No rules: an operator approves each device.");
    Ok(())
}
