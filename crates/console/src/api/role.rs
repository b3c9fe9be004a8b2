//! `/roles`: published management points, and the addresses by which devices know them.

use axum::Json;
use axum::extract::{Extension, State};
use http::StatusCode;
use proto::combination;
use proto::id::RoleId;
use serde::Deserialize;
use serde_json::{Value, json};
use site::{Gateway, NewRole, Role, RoleChange, RoleError, RoleMode};

use super::authenticate::Caller;
use super::error::{ApiError, Code};
use super::extract::{JsonBody, Name};
use super::{Api, time};

/// Body of `POST roles`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct New {
    name: String,
    internal_url: String,
    mode: Option<RoleMode>,
    gateway_traffic: Option<bool>,
}

/// Body of `PUT roles/{id}`; what is left out or `null` stays.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    internal_url: Option<String>,
    mode: Option<RoleMode>,
    gateway_traffic: Option<bool>,
    demand_client_certificate: Option<bool>,
}

/// `GET roles`.
pub(super) async fn list(State(api): State<Api>) -> Result<Json<Value>, ApiError> {
    let roles = api.site.list_roles().await?;
    let gateways = api.site.list_gateways().await?;
    Ok(Json(roles.iter().map(|role| view(role, &gateways)).collect()))
}

/// `GET roles/{id or name}`: also what protects each hop, and which clients its mode takes.
pub(super) async fn show(State(api): State<Api>, Name(name): Name) -> Result<Json<Value>, ApiError> {
    let role = find(&api, &name).await?;
    let mut view = view(&role, &api.site.list_gateways().await?);
    view["hops"] = hops(&role);
    view["combinations"] = table(role.mode);
    Ok(Json(view))
}

/// `POST roles`.
pub(super) async fn add(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    JsonBody(new): JsonBody<New>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let new = NewRole {
        name: new.name,
        internal_url: new.internal_url,
        mode: new.mode.unwrap_or_default(),
        gateway_traffic: new.gateway_traffic.unwrap_or(true),
    };
    check_scheme(new.mode, &new.internal_url)?;
    let role = api.site.add_role(&caller.by(), new).await?;
    Ok((StatusCode::CREATED, Json(view(&role, &api.site.list_gateways().await?))))
}

/// `PUT roles/{id or name}`.
pub(super) async fn set(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Name(name): Name,
    JsonBody(change): JsonBody<Change>,
) -> Result<Json<Value>, ApiError> {
    let before = find(&api, &name).await?;
    let id = before.id;
    let url = change.internal_url.as_deref().unwrap_or(&before.internal_url);
    check_scheme(change.mode.unwrap_or(before.mode), url)?;
    let change = RoleChange {
        internal_url: change.internal_url,
        mode: change.mode,
        gateway_traffic: change.gateway_traffic,
        demand_client_certificate: change.demand_client_certificate,
    };
    let role = api.site.set_role(&caller.by(), id, change).await?;
    Ok(Json(view(&role, &api.site.list_gateways().await?)))
}

async fn find(api: &Api, name: &str) -> Result<Role, ApiError> {
    let id = name.parse::<RoleId>().ok();
    let roles = api.site.list_roles().await?;
    roles.into_iter().find(|role| Some(role.id) == id || role.name == name).ok_or_else(|| {
        ApiError::new(Code::NotFound, format!("there is no role {name:?}"), "`roamgate role list` shows all.")
    })
}

/// What protects each hop of a request to this role, in words.
fn hops(role: &Role) -> Value {
    let (outside, inside, straight) = match role.mode {
        RoleMode::Http => (
            "nothing passes: a management point in plain HTTP mode takes nothing from gateways",
            "nothing passes",
            "plain HTTP; every message is signed by the device, secrets are encrypted to it",
        ),
        RoleMode::Ehttp => (
            "TLS with the gateway's certificate; the device proves its key or its PKI certificate",
            "TLS with the role's certificate, issued and renewed by the site itself (enhanced HTTP)",
            "HTTP, or TLS with the role's certificate; every message is signed, secrets are encrypted",
        ),
        RoleMode::Https => (
            "TLS with the gateway's certificate; the device proves its key or its PKI certificate",
            if role.demand_client_certificate {
                "TLS with the role's PKI certificate, and the connection point's own client certificate"
            } else {
                "TLS with the role's PKI certificate"
            },
            "TLS with the role's PKI certificate; every message is signed, secrets are encrypted",
        ),
    };
    json!([
        { "hop": "device to gateway", "by": outside },
        { "hop": "gateway to connection point", "by": "TLS under the site root, both ends proved; dialled from inside" },
        { "hop": "connection point to management point", "by": inside },
        { "hop": "device inside to management point", "by": straight },
    ])
}

/// The interdependency table for one mode, neighbouring joins in one line.
fn table(mode: RoleMode) -> Value {
    let mut rows: Vec<Value> = Vec::new();
    for line in combination::combinations().filter(|line| line.mode == mode) {
        let refused = line.row.result().err();
        let row = json!({
            "way": line.way.as_str(),
            "method": line.method.to_string(),
            "scenario": line.scenario.as_str(),
            "allowed": refused.is_none(),
            "why_not": refused.map(|refused| format!("{}: {}", refused.reason, refused.row.fact)),
        });
        let same = |known: &&mut Value| {
            ["way", "method", "scenario", "allowed", "why_not"]
                .iter()
                .all(|member| known[*member] == row[*member])
        };
        if let Some(known) = rows.iter_mut().find(same) {
            let joins = format!("{}, {}", known["join"].as_str().unwrap_or_default(), line.join.as_str());
            known["join"] = json!(joins);
        } else {
            let mut row = row;
            row["join"] = json!(line.join.as_str());
            rows.push(row);
        }
    }
    rows.into()
}

/// A mode and a URL that contradict each other would have devices come by TLS to a port that speaks
/// none, or the other way round. Anything but a base URL is the site's to refuse.
fn check_scheme(mode: RoleMode, url: &str) -> Result<(), ApiError> {
    let fits = match mode {
        RoleMode::Http => !url.starts_with("https://"),
        RoleMode::Ehttp | RoleMode::Https => !url.starts_with("http://"),
    };
    if fits {
        return Ok(());
    }
    Err(ApiError::new(
        Code::Invalid,
        format!("role not taken: mode {} does not go with {url}", mode.as_str()),
        "Mode http goes with http://HOST:PORT, the modes ehttp and https with https://HOST:PORT: give both.",
    ))
}

/// Whether gateways pass anything to it: one in plain HTTP mode takes nothing, whatever is switched on.
fn takes_gateway_traffic(role: &Role) -> bool {
    role.gateway_traffic && role.mode != RoleMode::Http
}

/// What devices are told as `CCMHOSTNAME`: the role's MutualAuth door at the first gateway. `None`
/// without a gateway, or when gateways pass nothing to the role.
pub(super) fn ccm_hostname(role: &Role, gateways: &[Gateway]) -> Option<String> {
    let gateway = gateways.first().filter(|_| takes_gateway_traffic(role))?;
    Some(format!("{}/CCM_Proxy_MutualAuth/{}", gateway.host, role.id))
}

fn view(role: &Role, gateways: &[Gateway]) -> Value {
    let doors = |door: &str| -> Vec<String> {
        let open = gateways.iter().filter(|_| takes_gateway_traffic(role));
        open.map(|gateway| format!("https://{}/CCM_Proxy_{door}/{}", gateway.host, role.id)).collect()
    };
    json!({
        "role_id": role.id,
        "kind": role.kind,
        "name": role.name,
        "mode": role.mode,
        "internal_url": role.internal_url,
        "gateway_traffic": role.gateway_traffic,
        "demand_client_certificate": role.demand_client_certificate,
        "ccm_hostname": ccm_hostname(role, gateways),
        "mutual_auth": doors("MutualAuth"),
        "server_auth": doors("ServerAuth"),
        "created_at": time(role.created_at),
    })
}

impl From<RoleError> for ApiError {
    fn from(error: RoleError) -> Self {
        match error {
            RoleError::Name(_) => Self::told(
                Code::Invalid,
                &error,
                "Write the URL as http://HOST:PORT, without anything behind it.",
            ),
            RoleError::Exists(_) => Self::told(
                Code::Conflict,
                &error,
                "Choose another name, or change the role: `roamgate role set`.",
            ),
            RoleError::Unknown(_) => Self::told(Code::NotFound, &error, "`roamgate role list` shows all."),
            RoleError::Database(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_goes_with_its_scheme() {
        assert!(check_scheme(RoleMode::Http, "http://mp1:8080").is_ok());
        assert!(check_scheme(RoleMode::Https, "https://mp1").is_ok());
        assert!(check_scheme(RoleMode::Http, "https://mp1").is_err());
        assert!(check_scheme(RoleMode::Ehttp, "http://mp1:8080").is_err());
    }
}
