//! `/gateways`: the internet-facing hosts, and how connection points see them.

use axum::Json;
use axum::extract::{Extension, State};
use http::StatusCode;
use proto::id::Guid;
use serde::Deserialize;
use serde_json::{Value, json};
use site::{Connector, Gateway, GatewayError, NewGateway};

use super::authenticate::Caller;
use super::error::{ApiError, Code};
use super::extract::{JsonBody, Name};
use super::{Api, time};

/// Body of `POST gateways`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewHost {
    name: String,
    address: String,
    /// As devices write it; the address unless named.
    host: Option<String>,
}

/// `GET gateways`.
pub(super) async fn list(State(api): State<Api>) -> Result<Json<Value>, ApiError> {
    Ok(Json(views(&api).await?.into()))
}

/// `GET gateways/{id or name}`.
pub(super) async fn show(State(api): State<Api>, Name(name): Name) -> Result<Json<Value>, ApiError> {
    let gateway = find(&api, &name).await?;
    Ok(Json(view(&api, &gateway, &api.site.list_connectors().await?)))
}

/// `POST gateways`: the only answer that ever holds the gateway's link key.
pub(super) async fn add(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    JsonBody(new): JsonBody<NewHost>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    if !has_port(&new.address, true) {
        return Err(bad_address("address", &new.address));
    }
    let host = new.host.unwrap_or_else(|| new.address.clone());
    if !has_port(&host, false) {
        return Err(bad_address("host", &host));
    }
    let new = NewGateway { name: new.name, host, address: new.address };
    let bundle = api.site.add_gateway(&caller.by(), new).await?;
    let mut answer = view(&api, &find(&api, &bundle.gateway.to_string()).await?, &[]);
    answer["bundle"] = json!(bundle);
    Ok((StatusCode::CREATED, Json(answer)))
}

/// `DELETE gateways/{id or name}`: its link certificate is withdrawn.
pub(super) async fn remove(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Name(name): Name,
) -> Result<Json<Value>, ApiError> {
    let gateway = find(&api, &name).await?;
    api.site.remove_gateway(&caller.by(), gateway.id).await?;
    Ok(Json(json!({ "id": gateway.id, "name": gateway.name, "removed": true })))
}

/// Whether this is `HOST:PORT`, or where the port may be left out, `HOST`. A gateway under an
/// address that nobody can dial would only show up later, as one that is never connected.
fn has_port(text: &str, needed: bool) -> bool {
    let Ok(authority) = text.parse::<http::uri::Authority>() else { return false };
    let port_fits = match authority.port() {
        Some(_) => authority.port_u16().is_some_and(|port| port > 0),
        // A port that is no number does not count as one, and stays in the text.
        None => !needed && text == authority.host(),
    };
    port_fits && !authority.host().is_empty()
}

fn bad_address(what: &str, text: &str) -> ApiError {
    let form = if what == "host" { "HOST or HOST:PORT" } else { "HOST:PORT" };
    ApiError::new(
        Code::Invalid,
        format!("gateway not taken: its {what} is not {form}: {text:?}"),
        "Write for instance gw.example.org:443, with a port of 1 to 65535.",
    )
}

async fn find(api: &Api, name: &str) -> Result<Gateway, ApiError> {
    let id = name.parse().ok();
    let all = api.site.list_gateways().await?;
    all.into_iter().find(|gateway| Some(gateway.id) == id || gateway.name == name).ok_or_else(|| {
        ApiError::new(
            Code::NotFound,
            format!("there is no gateway {name:?}"),
            "`roamgate gateway list` shows all.",
        )
    })
}

/// All gateways as answers show them.
pub(super) async fn views(api: &Api) -> Result<Vec<Value>, ApiError> {
    let (gateways, connectors) = (api.site.list_gateways().await?, api.site.list_connectors().await?);
    Ok(gateways.iter().map(|gateway| view(api, gateway, &connectors)).collect())
}

fn view(api: &Api, gateway: &Gateway, connectors: &[Connector]) -> Value {
    let site_version = api.site.current_snapshot().version;
    let seen = Seen::by(gateway, |connector| api.links.is_up(connector));
    json!({
        "id": gateway.id,
        "name": gateway.name,
        "address": gateway.address,
        "host": gateway.host,
        "tunnels": seen.tunnels,
        "shards": seen.shards,
        "version": seen.version,
        "site_version": site_version,
        "state": seen.state(),
        "problem": seen.problem(),
        "connection_points": connection_points(api, gateway, connectors),
        "last_ack_at": api.links.acknowledged_at(gateway.id).map(time),
        "certificate_expires_at": time(gateway.certificate_expires_at),
        "created_at": time(gateway.created_at),
    })
}

/// What each connection point that is up says of a gateway.
fn connection_points(api: &Api, gateway: &Gateway, connectors: &[Connector]) -> Vec<Value> {
    let up = connectors.iter().filter(|connector| api.links.is_up(connector.id));
    let tunnels = |connector: &Connector| {
        tunnels(api, gateway, connector.id).map(|mut view| {
            view["name"] = json!(connector.name);
            view
        })
    };
    up.filter_map(tunnels).collect()
}

/// The tunnels of one connection point to one gateway, by its last report; `None`: it has not told yet.
pub(super) fn tunnels(api: &Api, gateway: &Gateway, connector: Guid) -> Option<Value> {
    let (_, at, state) = gateway.seen_by.iter().find(|(id, ..)| *id == connector)?;
    Some(json!({
        "tunnels": state.tunnels,
        "shards": state.shards,
        "since": api.site.tunnels_since(gateway.id, connector).map(time),
        "version": state.version,
        "problem": state.problem,
        "reported_at": time(*at),
    }))
}

/// What the connection points that are up say of a gateway, taken together.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    reports: usize,
    tunnels: u32,
    shards: u16,
    version: u64,
    problem: Option<String>,
}

impl Seen {
    /// Reports of connection points that are gone say nothing about now.
    fn by(gateway: &Gateway, is_up: impl Fn(Guid) -> bool) -> Self {
        let mut seen = Self::default();
        for (_, _, state) in gateway.seen_by.iter().filter(|(connector, ..)| is_up(*connector)) {
            seen.reports += 1;
            seen.tunnels += u32::from(state.tunnels);
            seen.shards = seen.shards.max(state.shards);
            seen.version = seen.version.max(state.version);
            seen.problem = seen.problem.take().or_else(|| state.problem.clone());
        }
        seen
    }

    fn state(&self) -> &'static str {
        match (self.reports, self.tunnels) {
            (0, _) => "unknown",
            (_, 0) => "disconnected",
            (_, tunnels) if tunnels < u32::from(self.shards) => "partly-connected",
            _ => "connected",
        }
    }

    fn problem(&self) -> Option<String> {
        match self.state() {
            "unknown" => Some("no connection point reports on it".to_owned()),
            "disconnected" => Some(self.problem.clone().unwrap_or_else(|| "no tunnel is up".to_owned())),
            _ => self.problem.clone(),
        }
    }
}

impl From<GatewayError> for ApiError {
    fn from(error: GatewayError) -> Self {
        match error {
            GatewayError::Name(_) => Self::told(
                Code::Invalid,
                &error,
                "Write the address as HOST:PORT and the host as HOST or HOST:PORT.",
            ),
            GatewayError::Exists(_) => Self::told(
                Code::Conflict,
                &error,
                "Choose another name. A bundle is given once; if it was lost: `roamgate gateway remove NAME`, then add it anew.",
            ),
            GatewayError::Unknown(_) => {
                Self::told(Code::NotFound, &error, "`roamgate gateway list` shows all.")
            }
            GatewayError::Certificate(error) => error.into(),
            GatewayError::Snapshot(error) => error.into(),
            GatewayError::Database(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::id::Thumbprint;
    use proto::link::GatewayState;
    use proto::time::Timestamp;

    use super::*;

    fn gateway(reports: &[(u8, u16, u64)]) -> Gateway {
        let now = Timestamp::from_seconds(0);
        let id = Guid::nil();
        let state = |tunnels, version| GatewayState {
            gateway: id,
            tunnels,
            shards: 2,
            version,
            problem: (tunnels == 0).then(|| "refused".to_owned()),
        };
        Gateway {
            id,
            name: "gw".into(),
            host: "gw".into(),
            address: "gw:443".into(),
            thumbprint: Thumbprint::of(b""),
            certificate_expires_at: now,
            created_at: now,
            seen_by: reports
                .iter()
                .map(|(connector, tunnels, version)| {
                    (Guid::from_bytes([*connector; 16]), now, state(*tunnels, *version))
                })
                .collect(),
        }
    }

    #[test]
    fn only_connection_points_that_are_up_have_a_say() {
        let gateway = gateway(&[(1, 2, 5), (2, 0, 4)]);
        let all = Seen::by(&gateway, |_| true);
        assert_eq!((all.state(), all.version, all.tunnels), ("connected", 5, 2));
        let second = Seen::by(&gateway, |connector| connector == Guid::from_bytes([2; 16]));
        assert_eq!((second.state(), second.problem().as_deref()), ("disconnected", Some("refused")));
        let none = Seen::by(&gateway, |_| false);
        assert_eq!((none.state(), none.tunnels), ("unknown", 0));
    }

    #[test]
    fn an_address_that_nobody_can_dial_is_not_taken() {
        for good in ["gw.example.org:443", "192.0.2.1:8443", "[2001:db8::1]:443"] {
            assert!(has_port(good, true), "{good}");
        }
        for bad in ["gw", "gw:", "gw:0", "gw:99999", "gw:https", ":443", "a b:1", ""] {
            assert!(!has_port(bad, true), "{bad}");
        }
        assert!(has_port("gw.example.org", false) && has_port("gw:8443", false));
        assert!(!has_port("gw:99999", false) && !has_port("gw:", false));
    }

    #[test]
    fn a_shard_without_tunnel_is_told() {
        assert_eq!(Seen::by(&gateway(&[(1, 1, 5)]), |_| true).state(), "partly-connected");
    }
}
