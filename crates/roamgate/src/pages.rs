//! Pages of the documentation that are written from the code's own tables.

use std::fmt::Write as _;

use proto::endpoint::{Caller, ENDPOINTS, MESSAGE_RULES};
use proto::reason::Reason;

/// `docs/errors.md`: every reason, in the order of the codes.
pub(crate) fn errors() -> String {
    let mut page = String::from(
        "# Reason codes\n\nEvery refusal carries its code in the header `roamgate-reason` and the request's name in\n\
         `roamgate-request-id`. `roamgate explain CODE` prints the same row. This page is written from the table in\n\
         `crates/proto/src/reason.rs` by `just docs`; a test compares the two.\n\n\
         | Code | HTTP | Where | Client | Cause | Fix |\n|---|---|---|---|---|---|\n",
    );
    for reason in Reason::ALL {
        let row = reason.row();
        let phrase = row.phrase.map(|phrase| format!(" `{phrase}`")).unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = writeln!(
            page,
            "| {reason} | {}{phrase} | {} | {} | {} | {} |",
            row.status, row.hop, row.action, row.cause, row.fix
        );
    }
    page
}

/// `docs/endpoints.md`: everything that may be asked, and by whom.
pub(crate) fn endpoints() -> String {
    let mut page = String::from(
        "# Endpoints\n\nEverything that may be asked over HTTP. What is not in this table does not exist: it is answered 404\n\
         with a reason code. Written from `crates/proto/src/endpoint.rs` by `just docs`; a test compares the two, and\n\
         other tests walk every row with every class of caller.\n\n\
         Through a gateway each path stands behind `/CCM_Proxy_MutualAuth/<role id>` or `/CCM_Proxy_ServerAuth/<role id>`.\n\n\
         | Path | Methods | Body, bytes | Inside | Through a gateway | For |\n|---|---|---|---|---|---|\n",
    );
    for endpoint in ENDPOINTS {
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} | {} | {} |",
            endpoint.path,
            endpoint.methods.join(", "),
            endpoint.max_body,
            callers(endpoint.inside),
            callers(endpoint.outside),
            endpoint.purpose
        );
    }
    page.push_str(
        "\nBesides, a gateway answers `/CCM_Proxy_MutualAuth/ServiceMetadata` and `/CCM_Proxy_ServerAuth/ServiceMetadata` to\n\
         whoever shows an accepted token or certificate, and behind either door `AADAuthInfo?TenantID=<guid>` to anybody: where the\n\
         devices of an onboarded tenant get their tokens; of another tenant nothing.\n\n## Endpoints of the client protocol\n\nThe addressee inside a message \
         (`TargetEndpoint`).\n\n| Endpoint | Callers | Signed by the registered key | Before approval |\n|---|---|---|---|\n",
    );
    for rule in MESSAGE_RULES {
        let yes = |flag| if flag { "yes" } else { "no" };
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} |",
            rule.name,
            callers(rule.callers),
            yes(rule.signed),
            yes(rule.before_approval)
        );
    }
    page
}

fn callers(callers: &[Caller]) -> String {
    if callers.is_empty() {
        return "nobody".to_owned();
    }
    if callers == Caller::ALL {
        return "everybody".to_owned();
    }
    let name = |caller: &Caller| match caller {
        Caller::Anonymous => "anonymous",
        Caller::Certificate => "trusted certificate",
        Caller::Entra => "Entra token",
        Caller::Bulk => "bulk token",
        Caller::SelfProve => "self-prove token",
        Caller::PreAuth => "CCM token before registration",
        Caller::Device => "CCM token of a device",
        Caller::User => "CCM token of a device and user",
    };
    callers.iter().map(name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    fn stored(name: &str) -> String {
        let path = format!("{}/../../docs/{name}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    #[test]
    fn the_generated_pages_are_those_of_the_code() {
        assert!(stored("errors.md") == super::errors(), "docs/errors.md is stale: `just docs`");
        assert!(stored("endpoints.md") == super::endpoints(), "docs/endpoints.md is stale: `just docs`");
    }
}
