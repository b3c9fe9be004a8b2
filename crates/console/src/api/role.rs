//! `/roles`: published management points, and the addresses by which devices know them.

use axum::Json;
use axum::extract::{Extension, State};
use http::StatusCode;
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
}

/// `GET roles`.
pub(super) async fn list(State(api): State<Api>) -> Result<Json<Value>, ApiError> {
    let roles = api.site.list_roles().await?;
    let gateways = api.site.list_gateways().await?;
    Ok(Json(roles.iter().map(|role| view(role, &gateways)).collect()))
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
        mode: new.mode.unwrap_or(RoleMode::Http),
        gateway_traffic: new.gateway_traffic.unwrap_or(true),
    };
    check_scheme(new.mode, &new.internal_url)?;
    let role = api.site.add_role(&caller.by(), new).await?;
    Ok((StatusCode::CREATED, Json(view(&role, &api.site.list_gateways().await?))))
}

/// `PUT roles/{id}`.
pub(super) async fn set(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Name(id): Name,
    JsonBody(change): JsonBody<Change>,
) -> Result<Json<Value>, ApiError> {
    let id: RoleId = id.parse().map_err(|error| {
        ApiError::told(Code::Invalid, &error, "Give the number as `roamgate role list` shows it.")
    })?;
    if let Some(before) = api.site.list_roles().await?.into_iter().find(|role| role.id == id) {
        let url = change.internal_url.as_deref().unwrap_or(&before.internal_url);
        check_scheme(change.mode.unwrap_or(before.mode), url)?;
    }
    let change = RoleChange {
        internal_url: change.internal_url,
        mode: change.mode,
        gateway_traffic: change.gateway_traffic,
    };
    let role = api.site.set_role(&caller.by(), id, change).await?;
    Ok(Json(view(&role, &api.site.list_gateways().await?)))
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

/// What devices are told as `CCMHOSTNAME`: the role's MutualAuth door at the first gateway. `None`
/// without a gateway, or when gateways pass nothing to the role.
pub(super) fn ccm_hostname(role: &Role, gateways: &[Gateway]) -> Option<String> {
    let gateway = gateways.first().filter(|_| role.gateway_traffic)?;
    Some(format!("{}/CCM_Proxy_MutualAuth/{}", gateway.host, role.id))
}

fn view(role: &Role, gateways: &[Gateway]) -> Value {
    let doors = |door: &str| -> Vec<String> {
        let open = gateways.iter().filter(|_| role.gateway_traffic);
        open.map(|gateway| format!("https://{}/CCM_Proxy_{door}/{}", gateway.host, role.id)).collect()
    };
    json!({
        "role_id": role.id,
        "kind": role.kind,
        "name": role.name,
        "mode": role.mode,
        "internal_url": role.internal_url,
        "gateway_traffic": role.gateway_traffic,
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
