//! `/devices`: who they are, whether they are trusted, when they were seen.

use std::net::IpAddr;
use std::time::Duration;

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

/// How long an operator waits for the gateways' acknowledgements of a block (R67).
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(5);
/// How often it is looked whether they have come.
const LOOK: Duration = Duration::from_millis(20);

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
    let version = api.site.block_device(&caller.by(), id, &remark.note).await?;
    told(&api, id, version).await
}

/// `POST devices/{id or name}/unblock`.
pub(super) async fn unblock(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Name(name): Name,
    JsonBody(_): JsonBody<Remark>,
) -> Result<Json<Value>, ApiError> {
    let id = find(&api, &name).await?.id;
    let version = api.site.unblock_device(&caller.by(), id).await?;
    told(&api, id, version).await
}

/// `POST devices/{id or name}/hold`.
pub(super) async fn hold(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Name(name): Name,
    JsonBody(_): JsonBody<Remark>,
) -> Result<Json<Value>, ApiError> {
    let id = find(&api, &name).await?.id;
    api.site.withdraw_approval(&caller.by(), id).await?;
    again(&api, id).await
}

/// `POST devices/{id or name}/readmit`.
pub(super) async fn readmit(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Name(name): Name,
    JsonBody(_): JsonBody<Remark>,
) -> Result<Json<Value>, ApiError> {
    let id = find(&api, &name).await?.id;
    api.site.readmit_device(&caller.by(), id).await?;
    again(&api, id).await
}

/// `POST devices/{id or name}/settle`.
pub(super) async fn settle(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Name(name): Name,
    JsonBody(_): JsonBody<Remark>,
) -> Result<Json<Value>, ApiError> {
    let id = find(&api, &name).await?.id;
    api.site.settle_conflict(&caller.by(), id).await?;
    again(&api, id).await
}

/// `DELETE devices/{id or name}`.
pub(super) async fn delete(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Name(name): Name,
) -> Result<Json<Value>, ApiError> {
    let device = find(&api, &name).await?;
    api.site.delete_device(&caller.by(), device.id).await?;
    Ok(Json(json!({ "client_id": device.id, "name": device.name, "deleted": true })))
}

/// `GET devices/{id or name}/settings`: what results for it, and what it says it applied.
pub(super) async fn show_settings(State(api): State<Api>, Name(name): Name) -> Result<Json<Value>, ApiError> {
    let id = find(&api, &name).await?.id;
    let rows = api.site.resultant(id).await?;
    let view = |row: &site::Resultant| {
        json!({
            "name": row.setting,
            "value": row.value,
            "from": row.from,
            "reason": row.reason,
            "reported": row.reported,
            "differs": row.differs,
        })
    };
    Ok(Json(rows.iter().map(view).collect()))
}

/// `GET stranded-devices`: who knocks with dead credentials.
pub(super) async fn list_stranded(State(api): State<Api>) -> Result<Json<Value>, ApiError> {
    let rows = api.site.list_stranded().await?;
    let view = |row: &site::Stranded| {
        json!({
            "client_id": row.device,
            "certificate_sha256": row.key,
            "name": row.name,
            "registered": row.registered,
            "reason": row.reason,
            "cause": row.cause,
            "detail": row.detail,
            "place": place(row.via, row.address),
            "since": time(row.since),
            "last": time(row.last),
            "count": row.count,
            "advice": row.advice,
        })
    };
    Ok(Json(rows.iter().map(view).collect()))
}

/// Query of `GET expiring-credentials`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Within {
    days: Option<u32>,
}

/// `GET expiring-credentials?days=…`.
pub(super) async fn list_expiring(
    State(api): State<Api>,
    Filter(within): Filter<Within>,
) -> Result<Json<Value>, ApiError> {
    let days = within.days.unwrap_or(30).min(3650);
    let rows = api.site.list_expiring(Duration::from_hours(24) * days).await?;
    let view = |row: &site::ExpiringCredential| {
        json!({
            "client_id": row.device,
            "name": row.name,
            "credential": row.credential,
            "ends": time(row.ends),
            "recovers_until": row.recovers_until.map(time),
        })
    };
    Ok(Json(rows.iter().map(view).collect()))
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
pub(super) async fn find(api: &Api, name: &str) -> Result<Device, ApiError> {
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

/// The device once every gateway has acknowledged a block, or when patience ends: a gateway that is
/// down takes nothing in, and learns it before it takes anything in again.
async fn told(api: &Api, id: ClientId, version: u64) -> Result<Json<Value>, ApiError> {
    let began = tokio::time::Instant::now();
    let reached = loop {
        let reached = api.site.acknowledgements(version).await?;
        if reached.acknowledged == reached.all || began.elapsed() >= ACKNOWLEDGED_WITHIN {
            break reached;
        }
        tokio::time::sleep(LOOK).await;
    };
    let Json(mut view) = again(api, id).await?;
    view["gateways_told"] = json!(format!("{} of {}", reached.acknowledged, reached.all));
    view["gateways_waiting"] = json!(reached.waiting);
    view["told_after_ms"] = json!(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
    Ok(Json(view))
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
        "methods_not_used": methods_not_used(device),
        "fell_back_at": device.fell_back_at.map(time),
        "join": device.join.map(proto::combination::Join::as_str),
        "entra_tenant": device.entra.map(|entra| entra.tenant),
        "entra_device": device.entra.and_then(|entra| entra.device),
        "pki_subject": device.pki.as_ref().map(|pki| &pki.subject),
        "pki_sha256": device.pki.as_ref().map(|pki| pki.thumbprint),
        "pki_not_after": device.pki.as_ref().map(|pki| time(pki.not_after)),
        "token_expires_at": device.token_expires_at.map(time),
        "recovered_at": device.recovered_at.map(time),
        "clock_skew_ms": device.clock_skew_ms,
        "clock": device.clock_text(),
        "clone_suspicion": device.clone_suspicion,
        "certificate": certificate_kind(device),
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
        certificate_kind(device),
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

/// Why not a better method: as the device and its management point said, the best first.
fn methods_not_used(device: &Device) -> Vec<Value> {
    let better = device.methods_refused.iter();
    better.map(|one| json!({ "method": one.method.to_string(), "reason": one.reason })).collect()
}

/// By what a device would go on without its certificate.
pub(super) fn next_method(device: &Device) -> String {
    let entra = device.entra.is_some_and(|entra| entra.device.is_some());
    let next = match device.method {
        Method::Certificate if entra => Method::EntraDevice,
        Method::Certificate => Method::SiteToken,
        other => other,
    };
    next.to_string()
}

fn place(via: SeenVia, address: Option<IpAddr>) -> String {
    let via = match via {
        SeenVia::Intranet => "intranet",
        SeenVia::Gateway => "gateway",
    };
    address.map_or_else(|| via.to_owned(), |address| format!("{via} ({address})"))
}

/// What kind of certificate speaks for it: the organisation's, else whether its own vouches for itself.
fn certificate_kind(device: &Device) -> &'static str {
    if device.method == Method::Certificate {
        return "PKI";
    }
    match X509Certificate::from_der(&device.signing_certificate) {
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
            DeviceError::CloneSuspected(_) => Self::told(
                Code::Conflict,
                &error,
                "`roamgate device show` shows both sides; then `device settle`.",
            ),
            DeviceError::NoReadmission { .. } => Self::told(
                Code::Conflict,
                &error,
                "Let it connect; if it does not come back, `roamgate device show` and `roamgate device list --stranded` say more.",
            ),
            DeviceError::NothingToSettle(_) => {
                Self::told(Code::Conflict, &error, "Nothing is to be done: `roamgate device show` shows it.")
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
}
