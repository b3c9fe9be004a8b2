//! The token endpoint: a device by its key, a user by a code, an app by its secret.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use proto::id::Guid;
use proto::time::Timestamp;
use serde_json::json;

use crate::assertion::prove_device;
use crate::claims::{Subject, claims};
use crate::config::TenantConfig;
use crate::device_code;
use crate::form::Form;
use crate::refusal::Refusal;
use crate::state::{Session, Shared, Tenant, secret_text};

/// How long a refresh token counts.
const SESSION: Duration = Duration::from_hours(90 * 24);
/// What the public service calls its lists of users and devices.
const PUBLIC_GRAPH: &str = "https://graph.microsoft.com";

/// What a token is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resource {
    /// The server app.
    Site,
    /// The lists of users and devices.
    Graph,
}

/// `POST /{tenant}/oauth2/v2.0/token`, and the same without `v2.0`.
pub(crate) async fn token(
    State(shared): State<Arc<Shared>>,
    Path(segment): Path<String>,
    body: String,
) -> Response {
    let (now, form) = (shared.now(), Form::parse(&body));
    let base = shared.base.as_str();
    let granted = shared.tenant_of_path(&segment, |tenant| {
        let endpoints = endpoints(base, tenant.config.tenant);
        let request = Request { base, endpoints: &endpoints, form: &form, now };
        match form.get("grant_type").ok_or_else(|| Refusal::missing("grant_type"))? {
            "client_credentials" => request.app(tenant),
            "urn:ietf:params:oauth:grant-type:jwt-bearer" => request.device(tenant),
            "urn:ietf:params:oauth:grant-type:device_code" => request.user_by_code(tenant),
            "refresh_token" => request.user_by_session(tenant),
            other => {
                let shown: String = other.chars().take(60).collect();
                Err(Refusal::bad(
                    "unsupported_grant_type",
                    70_003,
                    format!("Grant type '{shown}' is not supported."),
                ))
            }
        }
    });
    granted.unwrap_or_else(|refusal| refusal.answer(now))
}

/// The addresses of the token endpoint: a proof may be made out to either.
pub(crate) fn endpoints(base: &str, tenant: Guid) -> [String; 2] {
    [format!("{base}/{tenant}/oauth2/v2.0/token"), format!("{base}/{tenant}/oauth2/token")]
}

/// An access token to the server app, signed with the current key.
pub(crate) fn sign(tenant: &Tenant, base: &str, subject: Subject<'_>, now: Timestamp) -> String {
    tenant.keys.current().sign(&claims(&tenant.config, base, subject, now))
}

struct Request<'r> {
    base: &'r str,
    endpoints: &'r [String],
    form: &'r Form,
    now: Timestamp,
}

impl Request<'_> {
    /// An app with a secret: its lists, or the server app in its own name.
    fn app(&self, tenant: &mut Tenant) -> Result<Response, Refusal> {
        let app = self.required("client_id")?;
        let secret = self.required("client_secret")?;
        let known = tenant.config.discovery_app;
        if app.parse() != Ok(known) {
            return Err(Refusal::unknown_app(app));
        }
        if secret != tenant.config.discovery_secret {
            return Err(Refusal::client(7_000_215, "The client secret is not valid."));
        }
        let text = match self.resource(&tenant.config)? {
            Resource::Site => sign(tenant, self.base, Subject::App(known), self.now),
            Resource::Graph => {
                // Others must not read it, so nothing stands in it.
                let text = format!("graph.{}", secret_text());
                let until = self.now.plus(Duration::from_secs(tenant.config.token_lifetime));
                tenant.graph_tokens.insert(&text, until, (), self.now);
                text
            }
        };
        Ok(granted(&tenant.config, &text, None))
    }

    /// A device by its workplace-join key.
    fn device(&self, tenant: &mut Tenant) -> Result<Response, Refusal> {
        self.client_app(tenant)?;
        self.site_only(tenant)?;
        let proof = self.form.get("assertion").or_else(|| self.form.get("client_assertion"));
        let proof = proof.ok_or_else(|| Refusal::missing("assertion"))?;
        let device = prove_device(tenant, proof, self.endpoints, self.now)?;
        let text = sign(tenant, self.base, Subject::Device(&device), self.now);
        Ok(granted(&tenant.config, &text, None))
    }

    /// A user who typed a code into the sign-in page.
    fn user_by_code(&self, tenant: &mut Tenant) -> Result<Response, Refusal> {
        self.client_app(tenant)?;
        let code = self.required("device_code")?;
        let user = device_code::redeem(tenant, code, self.now)?;
        self.user(tenant, user, None)
    }

    /// A user who signed in before.
    fn user_by_session(&self, tenant: &mut Tenant) -> Result<Response, Refusal> {
        self.client_app(tenant)?;
        let token = self.required("refresh_token")?;
        let ended =
            || Refusal::bad("invalid_grant", 700_082, "The refresh token is not known, or has ended.");
        let session = tenant.sessions.remove(token, self.now).ok_or_else(ended)?;
        self.user(tenant, session.user, session.device)
    }

    /// A user's token. With the proof of a device it names that device too, as it does where the
    /// device's own sign-in made it.
    fn user(&self, tenant: &mut Tenant, user: Guid, device: Option<Guid>) -> Result<Response, Refusal> {
        self.site_only(tenant)?;
        let device = match self.form.get("client_assertion") {
            Some(proof) => Some(prove_device(tenant, proof, self.endpoints, self.now)?.id),
            None => device,
        };
        let user = tenant.users.get(user).cloned().ok_or_else(unknown_user)?;
        let text = sign(tenant, self.base, Subject::User { user: &user, device }, self.now);
        let refresh = secret_text();
        let session = Session { user: user.id, device };
        tenant.sessions.insert(&refresh, self.now.plus(SESSION), session, self.now);
        Ok(granted(&tenant.config, &text, Some(&refresh)))
    }

    fn required(&self, name: &str) -> Result<&str, Refusal> {
        self.form.get(name).ok_or_else(|| Refusal::missing(name))
    }

    /// Devices and users ask through the client app.
    fn client_app(&self, tenant: &Tenant) -> Result<(), Refusal> {
        let app = self.required("client_id")?;
        if app.parse() == Ok(tenant.config.client_app) { Ok(()) } else { Err(Refusal::unknown_app(app)) }
    }

    fn site_only(&self, tenant: &Tenant) -> Result<(), Refusal> {
        match self.resource(&tenant.config)? {
            Resource::Site => Ok(()),
            Resource::Graph => Err(Refusal::bad("invalid_grant", 65_001, "Nobody consented to that.")),
        }
    }

    /// What the token is for: `resource`, or the first of `scope` that names one.
    fn resource(&self, tenant: &TenantConfig) -> Result<Resource, Refusal> {
        let scope = || {
            let scopes = self.form.get("scope")?.split(' ');
            scopes.filter(|scope| scope.contains("://")).find_map(|scope| {
                scope.strip_suffix("/.default").or_else(|| scope.strip_suffix("/user_impersonation"))
            })
        };
        let named = self.form.get("resource").or_else(scope).ok_or_else(|| Refusal::missing("scope"))?;
        let named = named.trim_end_matches('/');
        if named == tenant.resource.trim_end_matches('/') || named.parse() == Ok(tenant.server_app) {
            return Ok(Resource::Site);
        }
        if named == self.base || named == PUBLIC_GRAPH {
            return Ok(Resource::Graph);
        }
        let shown: String = named.chars().take(80).collect();
        Err(Refusal::bad(
            "invalid_resource",
            500_011,
            format!("The resource '{shown}' is not in the tenant."),
        ))
    }
}

fn granted(tenant: &TenantConfig, text: &str, refresh: Option<&str>) -> Response {
    let mut body = json!({
        "token_type": "Bearer",
        "expires_in": tenant.token_lifetime,
        "ext_expires_in": tenant.token_lifetime,
        "access_token": text,
    });
    if let Some(refresh) = refresh {
        body["refresh_token"] = json!(refresh);
        body["scope"] = json!(format!("{}/user_impersonation", tenant.resource));
    }
    Json(body).into_response()
}

fn unknown_user() -> Refusal {
    Refusal::bad("invalid_grant", 50_034, "The user is not in the directory.")
}
