//! `/users`: discovered users, and what is missing for them to be let in.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};
use site::{User, UserFilter};

use super::error::{ApiError, Code};
use super::extract::{Filter, Name};
use super::{Api, time};

/// Most users of one answer. Who has more asks by name.
const LISTED: usize = 10_000;

/// Query of `GET users`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    #[serde(default)]
    incomplete: bool,
    text: Option<String>,
}

/// `GET users`.
pub(super) async fn list(
    State(api): State<Api>,
    Filter(wanted): Filter<Wanted>,
) -> Result<Json<Value>, ApiError> {
    let mut filter = UserFilter { text: wanted.text, incomplete: wanted.incomplete, ..UserFilter::default() };
    let mut rows = Vec::new();
    while rows.len() < LISTED {
        let page = api.site.list_users(filter.clone()).await?;
        if page.is_empty() {
            break;
        }
        filter.offset += u32::try_from(page.len()).unwrap_or(u32::MAX);
        rows.extend(page.iter().map(view));
    }
    rows.truncate(LISTED);
    Ok(Json(rows.into()))
}

/// `GET users/{object id, SID or name}`.
pub(super) async fn show(State(api): State<Api>, Name(name): Name) -> Result<Json<Value>, ApiError> {
    let user = api.site.find_user(&name).await?.ok_or_else(|| {
        ApiError::new(
            Code::NotFound,
            format!("no discovery knows a user {name:?}"),
            "`roamgate user list` shows all; `roamgate tenant sync` and `directory sync` look again.",
        )
    })?;
    Ok(Json(view(&user)))
}

fn view(user: &User) -> Value {
    let name = if user.principal_name.is_empty() { &user.account } else { &user.principal_name };
    json!({
        "object_id": user.object_id,
        "sid": user.sid,
        "name": name,
        "display_name": user.display_name,
        "mail": user.mail,
        "account": user.account,
        "domain": user.domain,
        "distinguished_name": user.distinguished_name,
        "in_tenant": user.entra.as_ref().map(|sighting| time(sighting.seen_at)),
        "in_directory": user.directory.as_ref().map(|sighting| time(sighting.seen_at)),
        "missing": user.gap.as_ref().map(|gap| &gap.text),
    })
}
