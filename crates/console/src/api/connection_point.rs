//! `/connection-points`: the hosts that dial the gateways, whether they are linked to the site, and which
//! gateways they reach.

use axum::Json;
use axum::extract::{Extension, State};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use site::{Connector, ConnectorError, Gateway, NewConnector};

use super::authenticate::Caller;
use super::error::{ApiError, Code};
use super::extract::{JsonBody, Name};
use super::{Api, gateway, time};

/// Body of `POST connection-points`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewHost {
    name: String,
}

/// `GET connection-points`.
pub(super) async fn list(State(api): State<Api>) -> Result<Json<Value>, ApiError> {
    let (connectors, gateways) = (api.site.list_connectors().await?, api.site.list_gateways().await?);
    Ok(Json(connectors.iter().map(|connector| view(&api, connector, &gateways)).collect()))
}

/// `POST connection-points`: the only answer that ever holds the host's link key.
pub(super) async fn add(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    JsonBody(new): JsonBody<NewHost>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let new = NewConnector { name: new.name, site_links: api.links.addresses() };
    let bundle = api.site.add_connector(&caller.by(), new).await?;
    let mut answer = view(&api, &find(&api, &bundle.connector.to_string()).await?, &[]);
    answer["bundle"] = json!(bundle);
    Ok((StatusCode::CREATED, Json(answer)))
}

/// `DELETE connection-points/{id or name}`: its link certificate is withdrawn.
pub(super) async fn remove(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Name(name): Name,
) -> Result<Json<Value>, ApiError> {
    let connector = find(&api, &name).await?;
    api.site.remove_connector(&caller.by(), connector.id).await?;
    Ok(Json(json!({ "id": connector.id, "name": connector.name, "removed": true })))
}

async fn find(api: &Api, name: &str) -> Result<Connector, ApiError> {
    let id = name.parse().ok();
    let all = api.site.list_connectors().await?;
    all.into_iter().find(|connector| Some(connector.id) == id || connector.name == name).ok_or_else(|| {
        ApiError::new(
            Code::NotFound,
            format!("there is no connection point {name:?}"),
            "`roamgate connection-point list` shows all.",
        )
    })
}

fn view(api: &Api, connector: &Connector, gateways: &[Gateway]) -> Value {
    let since = api.links.up_since(connector.id);
    // What it told before it went away says nothing about now.
    let gateways = if since.is_some() { reached(api, connector, gateways) } else { Vec::new() };
    let tunnels = |gateway: &Value| Some((gateway["name"].as_str()?.to_owned(), gateway["tunnels"].clone()));
    let tunnels: Map<_, _> = gateways.iter().filter_map(tunnels).collect();
    json!({
        "id": connector.id,
        "name": connector.name,
        "connected": since.is_some(),
        "since": since.map(time),
        "tunnels": tunnels,
        "gateways": gateways,
        "last_seen_at": connector.last_seen.as_ref().map(|(at, _)| time(*at)),
        "program": connector.last_seen.as_ref().map(|(_, program)| program),
        "certificate_expires_at": time(connector.certificate_expires_at),
        "created_at": time(connector.created_at),
    })
}

/// The gateways that it has told of, with its tunnels to each.
fn reached(api: &Api, connector: &Connector, gateways: &[Gateway]) -> Vec<Value> {
    let tunnels = |gateway: &Gateway| {
        let mut view = gateway::tunnels(api, gateway, connector.id)?;
        view["name"] = json!(gateway.name);
        Some(view)
    };
    gateways.iter().filter_map(tunnels).collect()
}

impl From<ConnectorError> for ApiError {
    fn from(error: ConnectorError) -> Self {
        match error {
            ConnectorError::Name(_) => {
                Self::told(Code::Invalid, &error, "Choose a name of at most 255 characters.")
            }
            ConnectorError::NoSiteLink => Self::new(
                Code::Conflict,
                "this host has no site link that a connection point could dial",
                "Add the section [site-link] to its configuration file and restart it.",
            ),
            ConnectorError::Exists(_) => Self::told(
                Code::Conflict,
                &error,
                "Choose another name. A bundle is given once; if it was lost: \
                     `roamgate connection-point remove NAME`, then add it anew.",
            ),
            ConnectorError::Unknown(_) => {
                Self::told(Code::NotFound, &error, "`roamgate connection-point list` shows all.")
            }
            ConnectorError::Certificate(error) => error.into(),
            ConnectorError::Database(error) => error.into(),
        }
    }
}
