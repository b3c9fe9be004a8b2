//! Who answers which path, and the faults in front of it.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, StatusCode};
use hyper_util::service::TowerToHyperService;

use crate::fault::{Fault, Part};
use crate::state::Shared;
use crate::{device_code, discovery, graph, sign_in, token};

/// Longest form.
const FORM_BYTES: usize = 64 * 1024;
/// Size of the key set that is far too large.
const HUGE: usize = 50 * 1024 * 1024;

/// The service of the stand-in.
pub(crate) type Routes = TowerToHyperService<Router>;

pub(crate) fn routes(shared: Arc<Shared>) -> Routes {
    let router = Router::new()
        .route("/{tenant}/.well-known/openid-configuration", get(discovery::document_v1))
        .route("/{tenant}/v2.0/.well-known/openid-configuration", get(discovery::document_v2))
        .route("/{tenant}/discovery/keys", get(discovery::keys))
        .route("/{tenant}/discovery/v2.0/keys", get(discovery::keys))
        .route("/{tenant}/oauth2/token", post(token::token))
        .route("/{tenant}/oauth2/v2.0/token", post(token::token))
        .route("/{tenant}/oauth2/devicecode", post(device_code::begin))
        .route("/{tenant}/oauth2/v2.0/devicecode", post(device_code::begin))
        .route("/{tenant}/device", get(sign_in::page).post(sign_in::submit))
        .route("/v1.0/users", get(graph::users))
        .route("/v1.0/users/delta", get(graph::users_delta))
        .route("/v1.0/devices", get(graph::devices))
        .route("/v1.0/devices/delta", get(graph::devices_delta))
        .layer(DefaultBodyLimit::max(FORM_BYTES))
        .with_state(shared);
    TowerToHyperService::new(router)
}

/// What is done with a request before any handler sees it.
pub(crate) enum Fate {
    /// It is handled.
    Handle(Request<Body>),
    /// It is answered so.
    Answer(Response),
    /// It waits for ever.
    Hang,
    /// Its connection is closed.
    Close,
}

/// Counts a request and lets the fault that is set have its way.
pub(crate) fn fate(shared: &Shared, request: Request<Body>) -> Fate {
    let part = Part::of(request.uri().path());
    shared.count(part);
    match shared.faults().at(part) {
        None => Fate::Handle(request),
        Some(Fault::Refuse) => Fate::Close,
        Some(Fault::Hang) => Fate::Hang,
        Some(Fault::ServerError) => {
            Fate::Answer((StatusCode::INTERNAL_SERVER_ERROR, "something went wrong\n").into_response())
        }
        Some(Fault::Html) => {
            let page = "<!doctype html><html><body><h1>Please sign in to the network</h1></body></html>";
            Fate::Answer(Html(page).into_response())
        }
        Some(Fault::EmptyKeySet) => Fate::Answer(json(Bytes::from_static(b"{\"keys\":[]}"))),
        Some(Fault::HugeKeySet) => Fate::Answer(json(huge())),
    }
}

fn json(body: Bytes) -> Response {
    ([(CONTENT_TYPE, "application/json")], Body::from(body)).into_response()
}

/// A key set that is good but for its size. Made once.
fn huge() -> Bytes {
    static HUGE_SET: OnceLock<Bytes> = OnceLock::new();
    let make = || {
        let mut text = String::with_capacity(HUGE + 200);
        text.push_str("{\"keys\":[");
        while text.len() < HUGE {
            text.push_str(
                "{\"kty\":\"RSA\",\"use\":\"sig\",\"kid\":\"padding\",\"n\":\"AQAB\",\"e\":\"AQAB\"},",
            );
        }
        text.push_str("{}]}");
        Bytes::from(text)
    };
    HUGE_SET.get_or_init(make).clone()
}

/// A router answers always.
pub(crate) fn never(error: Infallible) -> std::io::Error {
    match error {}
}
