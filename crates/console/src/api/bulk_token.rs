//! `/bulk-tokens`: tokens that let devices on the internet register.

use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, State};
use http::StatusCode;
use proto::id::Guid;
use proto::token::BULK_LIFETIME;
use serde::Deserialize;
use serde_json::{Value, json};
use site::{BulkToken, BulkTokenApproval, BulkTokenError, BulkTokenState, NewBulkToken};

use super::authenticate::Caller;
use super::error::{ApiError, Code};
use super::extract::{JsonBody, Name};
use super::site::root_thumbprint;
use super::{Api, role, time};

/// Body of `POST bulk-tokens`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewToken {
    lifetime_minutes: Option<u32>,
    max_uses: Option<u32>,
    #[serde(default)]
    approval: BulkTokenApproval,
    note: Option<String>,
}

/// Body of a request that says nothing more.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// `GET bulk-tokens`.
pub(super) async fn list(State(api): State<Api>) -> Result<Json<Value>, ApiError> {
    let tokens = api.site.list_bulk_tokens().await?;
    Ok(Json(tokens.iter().map(|token| view(&api, token)).collect()))
}

/// `GET bulk-tokens/{id}`.
pub(super) async fn show(State(api): State<Api>, Name(id): Name) -> Result<Json<Value>, ApiError> {
    let token = api.site.show_bulk_token(parse(&id)?).await?;
    Ok(Json(view(&api, &token)))
}

/// `POST bulk-tokens`: the only answer that ever holds the token's text (R18).
pub(super) async fn create(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    JsonBody(new): JsonBody<NewToken>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let lifetime = new.lifetime_minutes.map(|minutes| Duration::from_secs(u64::from(minutes) * 60));
    let new = NewBulkToken {
        lifetime: lifetime.unwrap_or(BULK_LIFETIME),
        max_uses: new.max_uses,
        approval: new.approval,
        note: new.note.unwrap_or_default(),
    };
    let made = api.site.create_bulk_token(&caller.by(), new).await?;
    let mut answer = view(&api, &made.token);
    answer["site_root_sha256"] = json!(root_thumbprint(&api));
    if let Some(line) = setup_line(&api, &made.text).await? {
        answer["setup_line"] = json!(line);
    }
    answer["token"] = json!(made.text);
    Ok((StatusCode::CREATED, Json(answer)))
}

/// `POST bulk-tokens/{id}/block`.
pub(super) async fn block(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Name(id): Name,
    JsonBody(Nothing {}): JsonBody<Nothing>,
) -> Result<Json<Value>, ApiError> {
    let id = parse(&id)?;
    api.site.block_bulk_token(&caller.by(), id).await?;
    Ok(Json(view(&api, &api.site.show_bulk_token(id).await?)))
}

/// `POST bulk-tokens/{id}/unblock`.
pub(super) async fn unblock(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Name(id): Name,
    JsonBody(Nothing {}): JsonBody<Nothing>,
) -> Result<Json<Value>, ApiError> {
    let id = parse(&id)?;
    api.site.unblock_bulk_token(&caller.by(), id).await?;
    Ok(Json(view(&api, &api.site.show_bulk_token(id).await?)))
}

/// What an administrator pastes on a device: by the first gateway and role, if there are any.
async fn setup_line(api: &Api, token: &str) -> Result<Option<String>, ApiError> {
    let gateways = api.site.list_gateways().await?;
    let roles = api.site.list_roles().await?;
    let Some(door) = roles.iter().find_map(|role| role::ccm_hostname(role, &gateways)) else {
        return Ok(None);
    };
    Ok(Some(format!(
        "roamgate-client setup /mp:https://{door} CCMHOSTNAME={door} SMSSITECODE={} --site-root sha256:{} \
         /regtoken:{token}",
        api.site.facts().code,
        root_thumbprint(api),
    )))
}

fn view(api: &Api, token: &BulkToken) -> Value {
    let state = match token.state(api.now()) {
        BulkTokenState::Active => "valid",
        BulkTokenState::Blocked => "blocked",
        BulkTokenState::Expired => "expired",
        BulkTokenState::UsedUp => "used-up",
    };
    json!({
        "id": token.id,
        "created_at": time(token.created_at),
        "created_by": token.created_by,
        "valid_from": time(token.created_at),
        "valid_until": time(token.expires_at),
        "max_uses": token.max_uses,
        "uses": token.uses,
        "approval": token.approval,
        "note": token.note,
        "state": state,
    })
}

fn parse(text: &str) -> Result<Guid, ApiError> {
    text.parse().map_err(|error| {
        ApiError::told(
            Code::Invalid,
            &error,
            "Give the id as `roamgate bulk-token list` shows it, not the token.",
        )
    })
}

impl From<BulkTokenError> for ApiError {
    fn from(error: BulkTokenError) -> Self {
        match error {
            BulkTokenError::Lifetime => {
                Self::told(Code::Invalid, &error, "Choose a lifetime within these bounds.")
            }
            BulkTokenError::NoUses => {
                Self::told(Code::Invalid, &error, "Allow at least one use, or leave it out.")
            }
            BulkTokenError::Note(_) => {
                Self::told(Code::Invalid, &error, "Shorten the note, or leave it out.")
            }
            BulkTokenError::Unknown(_) => {
                Self::told(Code::NotFound, &error, "`roamgate bulk-token list` shows all.")
            }
            BulkTokenError::Database(error) => error.into(),
            BulkTokenError::Sign(_) => Self::failed(&error),
        }
    }
}
