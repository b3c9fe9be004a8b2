//! What access tokens say.

use std::time::Duration;

use proto::id::Guid;
use proto::time::Timestamp;
use serde_json::{Value, json};

use crate::config::{DeviceSeed, TenantConfig, TokenVersion, UserSeed};
use crate::state::secret_text;

/// A token is dated back so that a clock that lags takes it.
const BACKDATE: Duration = Duration::from_mins(5);

/// Whom a token speaks for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Subject<'s> {
    Device(&'s DeviceSeed),
    User { user: &'s UserSeed, device: Option<Guid> },
    App(Guid),
}

/// `iss` of tokens of a form, and the issuer of the discovery document of that form.
pub(crate) fn issuer(base: &str, tenant: Guid, version: TokenVersion) -> String {
    match version {
        TokenVersion::V1 => format!("{base}/{tenant}/"),
        TokenVersion::V2 => format!("{base}/{tenant}/v2.0"),
    }
}

/// The claims of an access token to the tenant's server app.
pub(crate) fn claims(tenant: &TenantConfig, base: &str, subject: Subject<'_>, now: Timestamp) -> Value {
    let audience = match tenant.version {
        TokenVersion::V1 => tenant.resource.clone(),
        TokenVersion::V2 => tenant.server_app.to_string(),
    };
    let ours = match tenant.version {
        TokenVersion::V1 => [("ver", "1.0"), ("acr", "1"), ("appidacr", "0")].as_slice(),
        TokenVersion::V2 => [("ver", "2.0"), ("azpacr", "0")].as_slice(),
    };
    let mut claims = json!({
        "aud": audience,
        "iss": issuer(base, tenant.tenant, tenant.version),
        "iat": now.minus(BACKDATE).seconds(),
        "nbf": now.minus(BACKDATE).seconds(),
        "exp": now.plus(Duration::from_secs(tenant.token_lifetime)).seconds(),
        "tid": tenant.tenant,
        "uti": secret_text(),
    });
    for (name, value) in ours {
        claims[*name] = json!(value);
    }
    let app = match subject {
        Subject::App(app) => app,
        Subject::Device(_) | Subject::User { .. } => tenant.client_app,
    };
    claims[match tenant.version {
        TokenVersion::V1 => "appid",
        TokenVersion::V2 => "azp",
    }] = json!(app);
    match subject {
        Subject::Device(device) => {
            claims["idtyp"] = json!("device");
            claims["oid"] = json!(device.object);
            claims["sub"] = json!(device.object);
            claims["deviceid"] = json!(device.id);
        }
        Subject::User { user, device } => {
            claims["idtyp"] = json!("user");
            claims["oid"] = json!(user.id);
            claims["sub"] = json!(pairwise(user.id, tenant.server_app));
            claims["name"] = json!(user.name);
            claims["scp"] = json!("user_impersonation");
            claims["amr"] = json!(["pwd"]);
            claims["upn"] = json!(user.upn);
            let name = match tenant.version {
                TokenVersion::V1 => "unique_name",
                TokenVersion::V2 => "preferred_username",
            };
            claims[name] = json!(user.upn);
            if let Some(device) = device {
                claims["deviceid"] = json!(device);
            }
            if let Some(sid) = &user.sid {
                claims["onprem_sid"] = json!(sid);
            }
        }
        Subject::App(app) => {
            claims["idtyp"] = json!("app");
            claims["oid"] = json!(principal(app));
            claims["sub"] = json!(principal(app));
            claims["roles"] = json!([]);
            claims[match tenant.version {
                TokenVersion::V1 => "appidacr",
                TokenVersion::V2 => "azpacr",
            }] = json!("1");
        }
    }
    claims
}

/// The subject of a user differs from app to app.
fn pairwise(user: Guid, app: Guid) -> String {
    proto::id::Thumbprint::of(&[user.as_bytes().as_slice(), app.as_bytes()].concat()).base64url()
}

/// The object id of an app's service principal.
fn principal(app: Guid) -> Guid {
    let mut bytes = *app.as_bytes();
    bytes[0] ^= 0xa5;
    Guid::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(version: TokenVersion) -> TenantConfig {
        let mut tenant = TenantConfig::new(Guid::from_bytes([7; 16]), "Contoso");
        tenant.version = version;
        tenant
    }

    #[test]
    fn the_two_forms_differ_in_issuer_audience_and_names() {
        let user =
            UserSeed::cloud(Guid::from_bytes([1; 16]), "a@contoso.example", "A").with_sid("S-1-5-21-1-2-3-4");
        let subject = Subject::User { user: &user, device: None };
        let now = Timestamp::from_seconds(1_800_000_000);
        let (one, two) = (tenant(TokenVersion::V1), tenant(TokenVersion::V2));
        let v1 = claims(&one, "https://h", subject, now);
        let v2 = claims(&two, "https://h", subject, now);
        assert_eq!(v1["iss"], "https://h/07070707-0707-0707-0707-070707070707/");
        assert_eq!(v2["iss"], "https://h/07070707-0707-0707-0707-070707070707/v2.0");
        assert_eq!(v1["aud"], one.resource.as_str());
        assert_eq!(v2["aud"], two.server_app.to_string());
        assert_eq!(
            (v1["unique_name"].as_str(), v2["preferred_username"].as_str()),
            (v1["upn"].as_str(), v2["upn"].as_str())
        );
        assert_eq!(v1["onprem_sid"], "S-1-5-21-1-2-3-4");
        assert_eq!(v1["exp"], 1_800_003_600);
        assert!(v1.get("deviceid").is_none());
    }

    #[test]
    fn an_apps_token_names_neither_device_nor_user() {
        let tenant = tenant(TokenVersion::V1);
        let claims =
            claims(&tenant, "https://h", Subject::App(tenant.discovery_app), Timestamp::from_seconds(0));
        assert_eq!(claims["idtyp"], "app");
        assert!(
            claims.get("deviceid").is_none() && claims.get("upn").is_none() && claims.get("scp").is_none()
        );
    }
}
