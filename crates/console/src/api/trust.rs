//! `/trust`: authorities whose client certificates are trusted, and their revocation lists; and the
//! judgement of a certificate or token in hand.

use axum::Json;
use axum::extract::{Extension, State};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use proto::entra::TenantSet;
use proto::limits;
use proto::pki::Usage;
use proto::time::Timestamp;
use proto::verdict::Verdict;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde_json::{Value, json};
use site::{Authority, CrlState, PutCrlError, ReadAuthoritiesError, SiteCrlError, TrustError};

use super::authenticate::Caller;
use super::error::{ApiError, Code};
use super::extract::{JsonBody, Name};
use super::{Api, time};

/// Largest body with a revocation list: base64 of it, and room.
const CRL_BODY: usize = limits::CRL_BYTES / 3 * 4 + 4096;

/// Body of `POST trust`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct New {
    /// Base64 of a file: PEM, DER, PKCS#7, PFX.
    file: String,
    /// The password of a PFX.
    #[serde(default)]
    password: Option<String>,
}

/// Body of `POST trust/crl`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewCrl {
    file: String,
}

/// Body of `POST trust/check`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Certificate {
    certificate: String,
    #[serde(default)]
    at: Option<String>,
}

/// Body of `POST tokens/check`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Token {
    token: String,
    #[serde(default)]
    at: Option<String>,
}

/// `GET trust`.
pub(super) async fn list(State(api): State<Api>) -> Result<Json<Value>, ApiError> {
    Ok(Json(api.site.list_trust().await?.iter().map(view).collect()))
}

/// `POST trust`.
pub(super) async fn add(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    JsonBody(new): JsonBody<New>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let file = decode(&new.file)?;
    let authorities = site::read_authorities(&file, new.password.as_deref())?;
    let added = api.site.add_trust(&caller.by(), authorities).await?;
    Ok((StatusCode::CREATED, Json(added.iter().map(view).collect())))
}

/// `GET trust/{id}/effect`: which devices would fail without this authority.
pub(super) async fn effect(State(api): State<Api>, Name(name): Name) -> Result<Json<Value>, ApiError> {
    let authority = find(&api, &name).await?;
    let devices = api.site.judge_without(authority.id).await?;
    let rows = devices.iter().map(|(device, cause)| {
        json!({
            "client_id": device.id,
            "name": device.name,
            "cause": cause.to_string(),
            "reason": cause.gateway_reason().to_string(),
            "falls_back_to": super::device::next_method(device),
        })
    });
    Ok(Json(rows.collect()))
}

/// `DELETE trust/{id}`.
pub(super) async fn remove(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Name(name): Name,
) -> Result<Json<Value>, ApiError> {
    let authority = find(&api, &name).await?;
    let gone = api.site.remove_trust(&caller.by(), authority.id).await?;
    Ok(Json(json!({ "id": gone.id, "subject": gone.subject, "removed": true })))
}

/// Body of `PUT trust/{id}/distribution-point`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Place {
    url: String,
}

/// `PUT trust/{id}/distribution-point`: where an authority publishes its own list.
pub(super) async fn name_distribution_point(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Name(name): Name,
    JsonBody(place): JsonBody<Place>,
) -> Result<Json<Value>, ApiError> {
    let authority = find(&api, &name).await?;
    let named = api.site.name_distribution_point(&caller.by(), authority.id, &place.url).await?;
    Ok(Json(view(&named)))
}

/// `POST trust/crl`.
pub(super) async fn put_crl(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    JsonBody(new): JsonBody<NewCrl, CRL_BODY>,
) -> Result<Json<Value>, ApiError> {
    let state = api.site.put_crl(&caller.by(), &decode(&new.file)?).await?;
    Ok(Json(crl_view(&state)))
}

/// `POST trust/check`.
pub(super) async fn check(
    State(api): State<Api>,
    JsonBody(asked): JsonBody<Certificate>,
) -> Result<Json<Value>, ApiError> {
    let at = moment(&api, asked.at.as_deref())?;
    let file = decode(&asked.certificate)?;
    let chain = if file.first() == Some(&0x30) {
        vec![file]
    } else {
        let read: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(&file).map(|der| der.map(|der| der.to_vec())).collect();
        read.map_err(|error| {
            ApiError::told(Code::Invalid, &error, "Give a certificate as PEM or DER, its chain behind it.")
        })?
    };
    if chain.is_empty() {
        return Err(ApiError::new(
            Code::Invalid,
            "there is no certificate in it",
            "Give a certificate as PEM or DER, its chain behind it.",
        ));
    }
    let judged = api.site.trust_store().judge(&chain, Usage::Client, at);
    let verdict = Verdict::of_certificate(&chain, judged, at, "the site's trust");
    Ok(Json(serde_json::to_value(verdict).unwrap_or_default()))
}

/// `POST tokens/check`.
pub(super) async fn check_token(
    State(api): State<Api>,
    JsonBody(asked): JsonBody<Token>,
) -> Result<Json<Value>, ApiError> {
    let at = moment(&api, asked.at.as_deref())?;
    let verdict = if TenantSet::looks_like(&asked.token) {
        Verdict::of_tenant_token(api.site.tenant_set().verify(&asked.token), at, "the site's tenants")
    } else {
        Verdict::of_site_token(api.site.token_keys().verify(&asked.token), at, "the site's keys")
    };
    Ok(Json(serde_json::to_value(verdict).unwrap_or_default()))
}

/// `GET site/crl`: certificates that the site itself has withdrawn.
pub(super) async fn show_site_crl(State(api): State<Api>) -> Result<Json<Value>, ApiError> {
    let der = api.site.site_crl().await?;
    Ok(Json(json!({ "pem": super::pem::revocation_list(&der) })))
}

/// An authority by its thumbprint, or the beginning of it where only one begins so.
async fn find(api: &Api, name: &str) -> Result<Authority, ApiError> {
    let wanted = name.to_ascii_lowercase();
    let mut found = api.site.list_trust().await?;
    found.retain(|authority| {
        !wanted.is_empty() && authority.id.to_string().to_ascii_lowercase().starts_with(&wanted)
    });
    match (found.pop(), found.len()) {
        (Some(authority), 0) => Ok(authority),
        (Some(_), _) => Err(ApiError::new(
            Code::Conflict,
            format!("several authorities begin with {name}"),
            "Give more of the SHA-256.",
        )),
        (None, _) => Err(ApiError::new(
            Code::NotFound,
            format!("there is no authority {name:?}"),
            "`roamgate trust list` shows all.",
        )),
    }
}

fn decode(text: &str) -> Result<Vec<u8>, ApiError> {
    STANDARD.decode(text).map_err(|error| {
        ApiError::told(Code::Invalid, &error, "Send the file's bytes as base64, as the command line does.")
    })
}

fn moment(api: &Api, text: Option<&str>) -> Result<Timestamp, ApiError> {
    text.map_or_else(
        || Ok(api.now()),
        |text| {
            Timestamp::parse_iso8601(text).map_err(|error| {
                ApiError::told(Code::Invalid, &error, "Write the moment as 2026-11-21T12:00:00Z.")
            })
        },
    )
}

fn view(authority: &Authority) -> Value {
    json!({
        "id": authority.id,
        "kind": if authority.root { "root" } else { "intermediate" },
        "subject": authority.subject,
        "issuer": authority.issuer,
        "not_before": time(authority.not_before),
        "not_after": time(authority.not_after),
        "added_at": time(authority.added_at),
        "added_by": authority.added_by,
        "crl": authority.crl.as_ref().map_or_else(
            || json!({ "problem": authority.crl_problem }),
            crl_view,
        ),
    })
}

fn crl_view(state: &CrlState) -> Value {
    json!({
        "issuer": state.issuer_name,
        "number": state.number,
        "this_update": time(state.this_update),
        "next_update": time(state.next_update),
        "entries": state.entries,
        "source": state.source,
        "fetched_at": time(state.fetched_at),
        "stale": state.stale,
        "problem": state.problem,
    })
}

impl From<TrustError> for ApiError {
    fn from(error: TrustError) -> Self {
        match error {
            TrustError::Unknown(_) => Self::told(Code::NotFound, &error, "`roamgate trust list` shows all."),
            TrustError::Url(_) => {
                Self::told(Code::Invalid, &error, "Write it as http://HOST/PATH or https://HOST/PATH.")
            }
            TrustError::Database(error) => error.into(),
            TrustError::Stopping => Self::failed(&error),
            other => Self::told(
                Code::Refused,
                &other,
                "Give certificates of your own authorities, at most as many as said.",
            ),
        }
    }
}

impl From<ReadAuthoritiesError> for ApiError {
    fn from(error: ReadAuthoritiesError) -> Self {
        Self::told(
            Code::Invalid,
            &error,
            "PEM, DER, PKCS#7 and PFX files are read; a PFX needs its password.",
        )
    }
}

impl From<PutCrlError> for ApiError {
    fn from(error: PutCrlError) -> Self {
        match error {
            PutCrlError::Database(error) => error.into(),
            PutCrlError::Stopping => Self::failed(&error),
            other => Self::told(
                Code::Refused,
                &other,
                "Give the newest complete list of a trusted authority; `roamgate trust list` shows what is in force.",
            ),
        }
    }
}

impl From<SiteCrlError> for ApiError {
    fn from(error: SiteCrlError) -> Self {
        Self::failed(&error)
    }
}
