//! The table of routes, each with the right that it needs.

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, on};
use http::StatusCode;

use super::authenticate::{Caller, guard};
use super::error::{ApiError, Code};
use super::{
    Api, alarm, approval_rule, audit, bulk_token, client_settings, collection, connection_point, device,
    directory, expected_device, gateway, key, log, policy, request, role, setting, site, tenant, trust, user,
};

/// What all paths begin with.
const BASE: &str = "/api/v1";

/// What an operator may be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Right {
    /// To see.
    Read,
    /// To change something.
    Change,
}

/// What a request does to what its path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Verb {
    Get,
    Post,
    Put,
    Delete,
}

impl Verb {
    const fn filter(self) -> MethodFilter {
        match self {
            Self::Get => MethodFilter::GET,
            Self::Post => MethodFilter::POST,
            Self::Put => MethodFilter::PUT,
            Self::Delete => MethodFilter::DELETE,
        }
    }
}

/// One row: who may do what by which handler.
pub(crate) struct Route {
    pub(crate) verb: Verb,
    /// Behind the base, in the router's spelling.
    pub(crate) path: &'static str,
    pub(crate) right: Right,
    handler: Handler,
}

type Handler = fn(MethodFilter) -> MethodRouter<Api>;

const fn read(path: &'static str, handler: Handler) -> Route {
    Route { verb: Verb::Get, path, right: Right::Read, handler }
}

const fn change(verb: Verb, path: &'static str, handler: Handler) -> Route {
    Route { verb, path, right: Right::Change, handler }
}

/// Looks and changes nothing; POST because it is work, or because what is looked at is not for addresses.
const fn look(path: &'static str, handler: Handler) -> Route {
    Route { verb: Verb::Post, path, right: Right::Read, handler }
}

/// Every route. What is not here does not exist.
pub(crate) const ROUTES: &[Route] = &[
    read("/site", |verb| on(verb, site::show)),
    read("/site/root", |verb| on(verb, site::show_root)),
    read("/site/crl", |verb| on(verb, trust::show_site_crl)),
    read("/alarms", |verb| on(verb, alarm::list)),
    read("/approval-rules", |verb| on(verb, approval_rule::list)),
    change(Verb::Put, "/approval-rules", |verb| on(verb, approval_rule::set)),
    read("/bulk-tokens", |verb| on(verb, bulk_token::list)),
    change(Verb::Post, "/bulk-tokens", |verb| on(verb, bulk_token::create)),
    read("/bulk-tokens/{id}", |verb| on(verb, bulk_token::show)),
    change(Verb::Post, "/bulk-tokens/{id}/block", |verb| on(verb, bulk_token::block)),
    change(Verb::Post, "/bulk-tokens/{id}/unblock", |verb| on(verb, bulk_token::unblock)),
    read("/expected-devices", |verb| on(verb, expected_device::list)),
    change(Verb::Post, "/expected-devices", |verb| on(verb, expected_device::add)),
    change(Verb::Delete, "/expected-devices/{id}", |verb| on(verb, expected_device::remove)),
    read("/trust", |verb| on(verb, trust::list)),
    change(Verb::Post, "/trust", |verb| on(verb, trust::add)),
    change(Verb::Delete, "/trust/{id}", |verb| on(verb, trust::remove)),
    read("/trust/{id}/effect", |verb| on(verb, trust::effect)),
    change(Verb::Put, "/trust/{id}/distribution-point", |verb| on(verb, trust::name_distribution_point)),
    change(Verb::Post, "/trust/crl", |verb| on(verb, trust::put_crl)),
    look("/trust/check", |verb| on(verb, trust::check)),
    look("/tokens/check", |verb| on(verb, trust::check_token)),
    read("/tenants", |verb| on(verb, tenant::list)),
    change(Verb::Post, "/tenants", |verb| on(verb, tenant::add)),
    read("/tenants/{tenant}", |verb| on(verb, tenant::show)),
    change(Verb::Delete, "/tenants/{tenant}", |verb| on(verb, tenant::remove)),
    change(Verb::Post, "/tenants/{tenant}/verify", |verb| on(verb, tenant::verify)),
    change(Verb::Post, "/tenants/{tenant}/sync", |verb| on(verb, tenant::sync)),
    change(Verb::Post, "/tenants/{tenant}/disable", |verb| on(verb, tenant::disable)),
    change(Verb::Post, "/tenants/{tenant}/enable", |verb| on(verb, tenant::enable)),
    read("/directories", |verb| on(verb, directory::list)),
    change(Verb::Post, "/directories", |verb| on(verb, directory::add)),
    read("/directories/unsynced-units", |verb| on(verb, directory::unsynced)),
    change(Verb::Post, "/directories/{directory}/sync", |verb| on(verb, directory::sync)),
    change(Verb::Delete, "/directories/{directory}", |verb| on(verb, directory::remove)),
    read("/users", |verb| on(verb, user::list)),
    read("/users/{user}", |verb| on(verb, user::show)),
    read("/collections", |verb| on(verb, collection::list)),
    change(Verb::Post, "/collections", |verb| on(verb, collection::add)),
    read("/collections/{collection}", |verb| on(verb, collection::show)),
    change(Verb::Delete, "/collections/{collection}", |verb| on(verb, collection::remove)),
    change(Verb::Put, "/collections/{collection}/devices/{device}", |verb| on(verb, collection::add_device)),
    change(Verb::Delete, "/collections/{collection}/devices/{device}", |verb| {
        on(verb, collection::remove_device)
    }),
    read("/client-settings", |verb| on(verb, client_settings::list)),
    read("/client-settings-known", |verb| on(verb, client_settings::list_known)),
    change(Verb::Post, "/client-settings", |verb| on(verb, client_settings::add)),
    change(Verb::Put, "/client-settings/{name}", |verb| on(verb, client_settings::set)),
    change(Verb::Delete, "/client-settings/{name}", |verb| on(verb, client_settings::remove)),
    read("/stranded-devices", |verb| on(verb, device::list_stranded)),
    read("/expiring-credentials", |verb| on(verb, device::list_expiring)),
    read("/devices", |verb| on(verb, device::list)),
    read("/devices/{device}", |verb| on(verb, device::show)),
    change(Verb::Post, "/devices/{device}/approve", |verb| on(verb, device::approve)),
    change(Verb::Post, "/devices/{device}/block", |verb| on(verb, device::block)),
    change(Verb::Post, "/devices/{device}/unblock", |verb| on(verb, device::unblock)),
    change(Verb::Post, "/devices/{device}/hold", |verb| on(verb, device::hold)),
    change(Verb::Post, "/devices/{device}/readmit", |verb| on(verb, device::readmit)),
    change(Verb::Post, "/devices/{device}/settle", |verb| on(verb, device::settle)),
    change(Verb::Delete, "/devices/{device}", |verb| on(verb, device::delete)),
    read("/devices/{device}/settings", |verb| on(verb, device::show_settings)),
    read("/gateways", |verb| on(verb, gateway::list)),
    change(Verb::Post, "/gateways", |verb| on(verb, gateway::add)),
    read("/gateways/{gateway}", |verb| on(verb, gateway::show)),
    change(Verb::Delete, "/gateways/{gateway}", |verb| on(verb, gateway::remove)),
    read("/connection-points", |verb| on(verb, connection_point::list)),
    change(Verb::Post, "/connection-points", |verb| on(verb, connection_point::add)),
    change(Verb::Delete, "/connection-points/{connector}", |verb| on(verb, connection_point::remove)),
    read("/roles", |verb| on(verb, role::list)),
    change(Verb::Post, "/roles", |verb| on(verb, role::add)),
    read("/roles/{id}", |verb| on(verb, role::show)),
    change(Verb::Put, "/roles/{id}", |verb| on(verb, role::set)),
    read("/keys", |verb| on(verb, key::list)),
    change(Verb::Post, "/keys/rotate", |verb| on(verb, key::rotate)),
    change(Verb::Post, "/keys/{id}/drop", |verb| on(verb, key::withdraw)),
    read("/keys/token-signing-certificate", |verb| on(verb, key::show_token_certificate)),
    read("/settings", |verb| on(verb, setting::list)),
    change(Verb::Put, "/settings/{name}", |verb| on(verb, setting::set)),
    read("/audit", |verb| on(verb, audit::list)),
    look("/audit/verify", |verb| on(verb, audit::verify)),
    read("/requests/{request}", |verb| on(verb, request::show)),
    read("/policies", |verb| on(verb, policy::list)),
    change(Verb::Post, "/policies", |verb| on(verb, policy::add)),
    read("/logs", |verb| on(verb, log::list)),
    change(Verb::Put, "/logs/{component}", |verb| on(verb, log::set)),
];

/// The router that the table makes. The guard stands before all of it, unknown paths included: who
/// has no key does not learn which paths there are.
pub(crate) fn router(api: &Api) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        let right = route.right;
        let allowed = (route.handler)(route.verb.filter())
            .route_layer(from_fn(move |request, next| require(right, request, next)));
        router = router.route(&format!("{BASE}{}", route.path), allowed);
    }
    router
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(api.clone(), guard))
        .with_state(api.clone())
}

/// Lets a request pass whose operator holds the right.
async fn require(right: Right, request: Request, next: Next) -> Result<Response, ApiError> {
    let allowed = request.extensions().get::<Caller>().is_some_and(|caller| caller.may(right));
    if !allowed {
        return Err(ApiError::new(
            Code::Refused,
            "this operator may not do that",
            "Ask an operator who may; `roamgate audit list` shows who does such things.",
        ));
    }
    Ok(next.run(request).await)
}

async fn unknown() -> ApiError {
    ApiError::new(
        Code::NotFound,
        "there is nothing at this address",
        "Program and site may have different versions: compare `roamgate --version` with `roamgate site show`.",
    )
}

async fn wrong_method() -> ApiError {
    ApiError::new(
        Code::Invalid,
        "this address does not take this method",
        "Program and site may have different versions: compare `roamgate --version` with `roamgate site show`.",
    )
    .with_status(StatusCode::METHOD_NOT_ALLOWED)
}

#[cfg(test)]
mod tests {
    use axum::Extension;
    use axum::body::Body;
    use hyper::service::Service as _;
    use hyper_util::service::TowerToHyperService;

    use super::*;

    async fn status(operator: Option<Caller>, right: Right) -> StatusCode {
        let mut router: Router = Router::new()
            .route("/", on(MethodFilter::GET, async || "done"))
            .route_layer(from_fn(move |request, next| require(right, request, next)));
        if let Some(caller) = operator {
            router = router.layer(Extension(caller));
        }
        let request = http::Request::new(Body::empty());
        TowerToHyperService::new(router).call(request).await.unwrap().status()
    }

    #[tokio::test]
    async fn a_route_is_closed_to_whoever_lacks_its_right() {
        const READER: &[Right] = &[Right::Read];
        assert_eq!(status(Some(Caller::with(READER)), Right::Read).await, StatusCode::OK);
        assert_eq!(status(Some(Caller::with(READER)), Right::Change).await, StatusCode::FORBIDDEN);
        assert_eq!(status(Some(Caller::with(&[])), Right::Read).await, StatusCode::FORBIDDEN);
        assert_eq!(status(None, Right::Read).await, StatusCode::FORBIDDEN);
    }

    #[test]
    fn whatever_changes_something_needs_the_right_to() {
        for route in ROUTES {
            let looks = ["/audit/verify", "/trust/check", "/tokens/check"];
            let reads = route.verb == Verb::Get || looks.contains(&route.path);
            assert_eq!(route.right == Right::Read, reads, "{:?} {}", route.verb, route.path);
        }
    }
}
