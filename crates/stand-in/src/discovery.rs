//! The documents by which a tenant says where it is asked, and with which keys it signs.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::claims::issuer;
use crate::config::TokenVersion;
use crate::state::Shared;

/// `GET /{tenant}/.well-known/openid-configuration`.
pub(crate) async fn document_v1(state: State<Arc<Shared>>, path: Path<String>) -> Response {
    document(&state.0, &path.0, TokenVersion::V1)
}

/// `GET /{tenant}/v2.0/.well-known/openid-configuration`.
pub(crate) async fn document_v2(state: State<Arc<Shared>>, path: Path<String>) -> Response {
    document(&state.0, &path.0, TokenVersion::V2)
}

/// `GET /{tenant}/discovery/v2.0/keys`, and the same without `v2.0`.
pub(crate) async fn keys(State(shared): State<Arc<Shared>>, Path(segment): Path<String>) -> Response {
    let keys = shared.tenant_of_path(&segment, |tenant| {
        Ok(tenant.keys.jwks(&issuer(&shared.base, tenant.config.tenant, TokenVersion::V2)))
    });
    keys.map_or_else(|refusal| refusal.answer(shared.now()), |keys| Json(keys).into_response())
}

fn document(shared: &Shared, segment: &str, version: TokenVersion) -> Response {
    let document = shared.tenant_of_path(segment, |tenant| {
        let tenant = tenant.config.tenant;
        let base = format!("{}/{tenant}", shared.base);
        let form = match version {
            TokenVersion::V1 => "",
            TokenVersion::V2 => "v2.0/",
        };
        let document: Value = json!({
            "issuer": issuer(&shared.base, tenant, version),
            "token_endpoint": format!("{base}/oauth2/{form}token"),
            "device_authorization_endpoint": format!("{base}/oauth2/{form}devicecode"),
            "jwks_uri": format!("{base}/discovery/{form}keys"),
            "response_types_supported": ["token"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": ["client_secret_post"],
        });
        Ok(document)
    });
    document.map_or_else(|refusal| refusal.answer(shared.now()), |document| Json(document).into_response())
}
