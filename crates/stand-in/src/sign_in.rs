//! The page into which a user types the code that a device shows. It asks for no password: whoever
//! reaches it may be anybody, which is why it is served on loopback only.

use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::response::{Html, IntoResponse, Response};
use http::StatusCode;

use crate::device_code::{Decision, decide};
use crate::form::Form;
use crate::state::Shared;

/// `GET /{tenant}/device`.
pub(crate) async fn page(
    State(shared): State<Arc<Shared>>,
    Path(segment): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let form = Form::parse(query.as_deref().unwrap_or_default());
    let code = form.get("user_code").unwrap_or_default();
    let page = shared.tenant_of_path(&segment, |tenant| {
        let mut users = String::new();
        for user in tenant.users.values() {
            users.push_str("<option>");
            users.push_str(&escape(&user.upn));
            users.push_str("</option>");
        }
        Ok(format!(
            "<h1>{}</h1><form method=\"post\"><p>Code <input name=\"user_code\" value=\"{}\"></p>\
             <p>Account <select name=\"account\">{users}</select></p>\
             <p><button name=\"decision\" value=\"approve\">Sign in</button> \
             <button name=\"decision\" value=\"deny\">Decline</button></p></form>",
            escape(&tenant.config.name),
            escape(code),
        ))
    });
    page.map_or_else(|refusal| refusal.answer(shared.now()), |body| html(StatusCode::OK, &body))
}

/// `POST /{tenant}/device`.
pub(crate) async fn submit(
    State(shared): State<Arc<Shared>>,
    Path(segment): Path<String>,
    body: String,
) -> Response {
    let (now, form) = (shared.now(), Form::parse(&body));
    let done = shared.tenant_of_path(&segment, |tenant| {
        let decision = if form.get("decision") == Some("deny") {
            Some(Decision::Denied)
        } else {
            let account = form.get("account").unwrap_or_default();
            tenant.user_named(account).map(|user| Decision::Approved(user.id))
        };
        let code = form.get("user_code").unwrap_or_default();
        Ok(decision.is_some_and(|decision| decide(tenant, code, decision, now)))
    });
    match done {
        Ok(true) => html(StatusCode::OK, "<p>Done. You may close this page.</p>"),
        Ok(false) => html(StatusCode::BAD_REQUEST, "<p>That code or account is not known.</p>"),
        Err(refusal) => refusal.answer(now),
    }
}

fn html(status: StatusCode, body: &str) -> Response {
    let page = format!("<!doctype html><html><head><title>Sign in</title></head><body>{body}</body></html>");
    (status, Html(page)).into_response()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
