//! `/devices`: who they are, whether they are trusted, when they were seen.

use axum::Json;
use axum::extract::{Extension, State};
use proto::id::ClientId;
use proto::identity::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use site::{Approval, Device, DeviceError, DeviceFilter, SeenVia};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::authenticate::Caller;
use super::error::{ApiError, Code};
use super::extract::{Filter, JsonBody, Name};
use super::{Api, time};

/// Most devices of one answer. Who has more asks by name or state.
const LISTED: usize = 10_000;

/// Query of `GET devices`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    state: Option<State_>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum State_ {
    Approved,
    Held,
    Blocked,
    Online,
}

/// Body of an act on a device.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Remark {
    #[serde(default)]
    note: String,
}

/// `GET devices?state=…`.
pub(super) async fn list(
    State(api): State<Api>,
    Filter(wanted): Filter<Wanted>,
) -> Result<Json<Value>, ApiError> {
    let mut filter = DeviceFilter::default();
    match wanted.state {
        Some(State_::Approved) => filter.approval = Some(Approval::Approved),
        Some(State_::Held) => filter.approval = Some(Approval::Held),
        Some(State_::Blocked) => filter.blocked = Some(true),
        Some(State_::Online) | None => {}
    }
    let mut devices = list_all(&api, filter).await?;
    devices.retain(|device| wanted.state != Some(State_::Online) || device.online);
    Ok(Json(devices.iter().map(|device| view(&api, device)).collect()))
}

/// `GET devices/{id or name}`.
pub(super) async fn show(State(api): State<Api>, Name(name): Name) -> Result<Json<Value>, ApiError> {
    Ok(Json(view(&api, &find(&api, &name).await?)))
}

/// `POST devices/{id or name}/approve`.
pub(super) async fn approve(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Name(name): Name,
    JsonBody(_): JsonBody<Remark>,
) -> Result<Json<Value>, ApiError> {
    let id = find(&api, &name).await?.id;
    api.site.approve_device(&caller.by(), id).await?;
    again(&api, id).await
}

/// `POST devices/{id or name}/block`.
pub(super) async fn block(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Name(name): Name,
    JsonBody(remark): JsonBody<Remark>,
) -> Result<Json<Value>, ApiError> {
    let id = find(&api, &name).await?.id;
    api.site.block_device(&caller.by(), id, &remark.note).await?;
    again(&api, id).await
}

/// `POST devices/{id or name}/unblock`.
pub(super) async fn unblock(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Name(name): Name,
    JsonBody(_): JsonBody<Remark>,
) -> Result<Json<Value>, ApiError> {
    let id = find(&api, &name).await?.id;
    api.site.unblock_device(&caller.by(), id).await?;
    again(&api, id).await
}

/// All devices of a filter, page by page, up to [`LISTED`].
pub(super) async fn list_all(api: &Api, mut filter: DeviceFilter) -> Result<Vec<Device>, ApiError> {
    let mut all = Vec::new();
    while all.len() < LISTED {
        let page = api.site.list_devices(filter.clone()).await?;
        let Some(last) = page.last() else { break };
        filter.after = Some(last.id);
        all.extend(page);
    }
    all.truncate(LISTED);
    Ok(all)
}

/// A device by its id, or by its name where only one has it.
async fn find(api: &Api, name: &str) -> Result<Device, ApiError> {
    let none = || {
        ApiError::new(
            Code::NotFound,
            format!("there is no device {name:?}"),
            "`roamgate device list` shows all.",
        )
    };
    if let Ok(id) = name.parse::<ClientId>() {
        return api.site.find_device(id).await?.ok_or_else(none);
    }
    if name.is_empty() {
        return Err(none());
    }
    let filter = DeviceFilter { name: Some(name.to_owned()), ..DeviceFilter::default() };
    let mut found = list_all(api, filter).await?;
    found.retain(|device| device.name.to_lowercase() == name.to_lowercase());
    match (found.pop(), found.len()) {
        (Some(device), 0) => Ok(device),
        (Some(_), others) => Err(ApiError::new(
            Code::Conflict,
            format!("{} devices are called {name:?}", others + 1),
            "Name the one that is meant by its client id.",
        )),
        (None, _) => Err(none()),
    }
}

async fn again(api: &Api, id: ClientId) -> Result<Json<Value>, ApiError> {
    let device = api.site.find_device(id).await?.ok_or(DeviceError::Unknown(id))?;
    Ok(Json(view(api, &device)))
}

fn view(api: &Api, device: &Device) -> Value {
    let presence = presence(device);
    let approved = device.approval == Approval::Approved;
    json!({
        "client_id": device.id,
        "name": device.name,
        "fqdn": device.fqdn,
        "state": presence,
        "presence": presence,
        "online_rule": online_rule(api),
        "last_seen_at": time(device.last_seen_at),
        "last_seen_path": match device.last_seen_via {
            SeenVia::Intranet => "intranet",
            SeenVia::Gateway => "gateway",
        },
        "approval": device.approval,
        "approved_by": approved.then(|| decided_by(&device.approval_by)),
        "approved_rule": (approved && !device.approval_by.starts_with(OPERATOR)).then_some(&device.approval_by),
        "blocked": device.blocked,
        "block_note": device.block_note,
        "method": device.method.to_string(),
        "method_since": time(device.method_since),
        "method_reason": device.method_reason,
        "methods_not_used": methods_not_used(device.method),
        "certificate": certificate_kind(&device.signing_certificate),
        "certificate_sha256": device.signing_thumbprint,
        "client_version": device.client_version,
        "hardware_id": device.hardware_id,
        "policy_version": policy_version(device),
        "policy_serial": device.policy_serial,
        "policy_reported_at": device.policy_applied_at.or(device.heartbeat_at).map(time),
        "heartbeat_at": device.heartbeat_at.map(time),
        "registered_at": time(device.registered_at),
        "signs_requests": device.signs_requests,
        "conflict_with": device.conflict_with.into_iter().collect::<Vec<_>>(),
        "summary": summary(device),
    })
}

fn presence(device: &Device) -> &'static str {
    if device.online { "online" } else { "offline" }
}

/// Until there is a live channel, presence is a guess from requests, and says so (settled point 21).
fn online_rule(api: &Api) -> String {
    let minutes = api.site.settings().online_window.as_secs() / 60;
    format!("an authenticated request within {minutes} minutes (setting online_window)")
}

/// The device in one line, as operators know it.
fn summary(device: &Device) -> String {
    let blocked = if device.blocked { ", blocked" } else { "" };
    let trust = match device.approval {
        Approval::Approved => format!("approved by {}", decided_by(&device.approval_by)),
        Approval::Held if device.approval_by == NO_RULE => "held: no rule approves it".to_owned(),
        Approval::Held => format!("held by {}", decided_by(&device.approval_by)),
    };
    let policy =
        policy_version(device).map_or_else(|| "no policy yet".to_owned(), |n| format!("policy version {n}"));
    format!(
        "{}{blocked}, {trust}, method: {}, certificate: {}, {policy}",
        presence(device),
        device.method,
        certificate_kind(&device.signing_certificate),
    )
}

/// How the site writes operators among those who decide.
const OPERATOR: &str = "operator:";

/// What the site writes where no approval rule fitted.
const NO_RULE: &str = "no rule";

/// `operator anna`, `rule network (10.0.0.0/8)`, `rule bulk-token (token …)`.
fn decided_by(decided: &str) -> String {
    if let Some(name) = decided.strip_prefix(OPERATOR) {
        return format!("operator {name}");
    }
    match decided.split_once(' ') {
        Some((rule, argument)) if argument.starts_with('(') => format!("rule {rule} {argument}"),
        Some(("bulk-token", id)) => format!("rule bulk-token (token {id})"),
        Some((rule, argument)) => format!("rule {rule} ({argument})"),
        None => format!("rule {decided}"),
    }
}

/// Why not a better method: what stands above the one in use, the best first.
fn methods_not_used(used: Method) -> Vec<Value> {
    let above: &[(Method, &str)] = &[
        (Method::Certificate, "this version takes no certificates of a PKI as identity"),
        (Method::EntraDevice, "the site is not joined to Entra"),
        (Method::EntraUser, "the site is not joined to Entra"),
    ];
    let better = above.iter().take_while(|(method, _)| *method != used);
    better.map(|(method, reason)| json!({ "method": method.to_string(), "reason": reason })).collect()
}

/// Whether a certificate vouches for itself.
fn certificate_kind(der: &[u8]) -> &'static str {
    match X509Certificate::from_der(der) {
        Ok((_, certificate)) if certificate.issuer() == certificate.subject() => "self-signed",
        Ok(_) => "issued by an authority",
        Err(_) => "unreadable",
    }
}

/// The version of the client settings that the last heartbeat names.
fn policy_version(device: &Device) -> Option<u64> {
    let heartbeat: Value = serde_json::from_str(&device.heartbeat).ok()?;
    version_number(heartbeat.get("policy_version")?).filter(|version| *version > 0)
}

/// `3`, `"3"` or `"3.00"`.
fn version_number(value: &Value) -> Option<u64> {
    let text = value.as_str().map(|text| text.split('.').next().unwrap_or_default());
    value.as_u64().or_else(|| text?.parse().ok())
}

impl From<DeviceError> for ApiError {
    fn from(error: DeviceError) -> Self {
        match error {
            DeviceError::Unknown(_) => {
                Self::told(Code::NotFound, &error, "`roamgate device list` shows all.")
            }
            DeviceError::Blocked(_) => {
                Self::told(Code::Conflict, &error, "`roamgate device unblock` lets it in again.")
            }
            DeviceError::Note(_) => Self::told(Code::Invalid, &error, "Shorten the note, or leave it out."),
            DeviceError::Database(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_decided_is_told_as_a_rule_with_its_argument_or_as_an_operator() {
        for (stored, told) in [
            ("network 127.0.0.0/8", "rule network (127.0.0.0/8)"),
            ("bulk-token", "rule bulk-token"),
            ("bulk-token 3f", "rule bulk-token (token 3f)"),
            ("bulk-token (hold)", "rule bulk-token (hold)"),
            ("operator:anna", "operator anna"),
        ] {
            assert_eq!(decided_by(stored), told);
        }
    }

    #[test]
    fn a_version_is_read_in_each_of_its_spellings() {
        for (value, version) in
            [(json!(3), Some(3)), (json!("3"), Some(3)), (json!("3.00"), Some(3)), (json!("x"), None)]
        {
            assert_eq!(version_number(&value), version, "{value}");
        }
    }

    #[test]
    fn only_better_methods_are_listed_as_not_used() {
        assert_eq!(methods_not_used(Method::SiteToken).len(), 3);
        assert_eq!(methods_not_used(Method::EntraDevice).len(), 1);
        assert!(methods_not_used(Method::Certificate).is_empty());
    }
}
