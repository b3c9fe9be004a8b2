//! `/keys`: the site's keys, of which only certificates are ever shown.

use axum::Json;
use axum::extract::{Extension, State};
use proto::id::Guid;
use proto::time::Timestamp;
use runtime::tls::PeerCertificate;
use rustls::pki_types::CertificateDer;
use serde::Deserialize;
use serde_json::{Value, json};
use site::keys::{KeyPurpose, KeyState};
use site::{KeyError, SiteKey};

use super::authenticate::Caller;
use super::bulk_token::Nothing;
use super::error::{ApiError, Code};
use super::extract::{JsonBody, Name};
use super::{Api, pem, time};

/// Body of `POST keys/rotate`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rotation {
    purpose: String,
}

/// `GET keys`.
pub(super) async fn list(State(api): State<Api>) -> Result<Json<Value>, ApiError> {
    let keys = api.site.list_keys().await?;
    Ok(Json(keys.iter().map(view).collect()))
}

/// `POST keys/rotate`.
pub(super) async fn rotate(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    JsonBody(rotation): JsonBody<Rotation>,
) -> Result<Json<Value>, ApiError> {
    if rotation.purpose != KeyPurpose::TokenSigning.as_str() {
        return Err(ApiError::new(
            Code::Invalid,
            "only the token signing key is rotated",
            "Ask for the purpose token-signing. Other keys last as long as their certificates.",
        ));
    }
    api.site.rotate_token_key(&caller.by()).await?;
    list(State(api)).await
}

/// `POST keys/{id}/drop`: tokens of that key count no more.
pub(super) async fn withdraw(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Name(id): Name,
    JsonBody(Nothing {}): JsonBody<Nothing>,
) -> Result<Json<Value>, ApiError> {
    let id: Guid = id.parse().map_err(|error| {
        ApiError::told(Code::Invalid, &error, "Give the id as `roamgate key list` shows it.")
    })?;
    api.site.drop_token_key(&caller.by(), id).await?;
    list(State(api)).await
}

/// `GET keys/token-signing-certificate`: of the key that signs now.
pub(super) async fn show_token_certificate(State(api): State<Api>) -> Result<Json<Value>, ApiError> {
    let keys = api.site.list_keys().await?;
    let signs =
        |key: &&SiteKey| key.purpose == KeyPurpose::TokenSigning.as_str() && key.state == KeyState::Current;
    let key = keys.iter().find(signs).ok_or_else(|| {
        ApiError::new(
            Code::NotFound,
            "the site has no token signing key in use",
            "`roamgate key rotate` makes one.",
        )
    })?;
    Ok(Json(json!({ "pem": pem::certificate(&key.certificate), "x5t": key.x5t })))
}

fn view(key: &SiteKey) -> Value {
    let read = PeerCertificate::parse(&CertificateDer::from(key.certificate.as_slice())).ok();
    let bound = |pick: fn(&PeerCertificate) -> i64| {
        read.as_ref().map(|certificate| time(Timestamp::from_seconds(pick(certificate))))
    };
    json!({
        "id": key.id,
        "purpose": key.purpose,
        "state": key.state,
        "x5t": key.x5t,
        "sha256": key.thumbprint,
        "not_before": bound(PeerCertificate::not_before),
        "not_after": bound(PeerCertificate::not_after),
        "created_at": time(key.created_at),
        "verifies_until": key.verifies_until.map(time),
    })
}

impl From<KeyError> for ApiError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Unknown(_) => {
                Self::told(Code::NotFound, &error, "`roamgate key list` shows the keys of the ring.")
            }
            KeyError::Database(error) => error.into(),
            other => Self::failed(&other),
        }
    }
}
