//! `roamgate token`.

use serde_json::json;

use super::offline;
use crate::api::Api;
use crate::cli::TokenCommand;
use crate::context::{Context, SiteFlags};
use crate::exit::Failure;
use crate::output::{self, Column, Format};

const VERDICT: &[Column] = &[
    ("Token", "kind"),
    ("Verdict", "verdict"),
    ("Because", "cause"),
    ("Reason", "reason"),
    ("What to do", "fix"),
    ("Speaks for", "subject"),
    ("Bound to", "bound_to"),
    ("Valid from", "not_before"),
    ("Valid until", "expires"),
    ("Judged at", "at"),
    ("By", "by"),
];

pub(crate) async fn run(command: TokenCommand, flags: &SiteFlags, format: Format) -> Result<(), Failure> {
    let TokenCommand::Check(arguments) = command;
    let token = offline::read_secret(&arguments.token)?;
    let verdict = if arguments.keys.is_some() {
        offline::judge_token(&token, &arguments)?
    } else {
        let api = Context::find(flags).and_then(Api::new)?;
        api.post("tokens/check", &json!({"token": token, "at": arguments.at})).await?
    };
    output::record(format, &verdict, VERDICT);
    offline::end(&verdict)
}
