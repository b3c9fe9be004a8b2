//! The operator API: HTTPS, JSON, and the bearer key of a named operator on every request.
//!
//! Every route stands in the table of [`route`], with the right that it needs; whatever is not
//! there, and whoever shows no key, is refused. A handler turns words into one call of the site,
//! on behalf of the operator and the address that the request came from, and its result into JSON.

mod alarm;
mod approval_rule;
mod audit;
mod authenticate;
mod bulk_token;
mod client_settings;
mod collection;
mod config;
mod connection_point;
mod device;
mod directory;
mod error;
mod expected_device;
mod extract;
mod gateway;
mod key;
mod log;
mod pem;
mod policy;
mod request;
mod role;
mod route;
mod setting;
mod site;
mod tenant;
mod trust;
mod user;

use std::net::SocketAddr;
use std::sync::Arc;

use ::site::Site;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::service::TowerToHyperService;
use proto::time::Timestamp;
use runtime::http::HttpOptions;
use runtime::listen::{AcceptOptions, bind, serve_tls};
use runtime::telemetry::LogHandle;
use runtime::tls::ServerTls;
use runtime::{Clock, Drain};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tracing::{debug, info};

use crate::listener::{HostCertificate, ListenError};
use crate::log::OPERATOR_API;
use crate::site_link::Links;

pub use self::config::OperatorApiConfig;

/// What every handler works with. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    site: Site,
    logs: Arc<LogHandle>,
    links: Links,
    clock: Clock,
}

impl Api {
    fn now(&self) -> Timestamp {
        self.site.now()
    }
}

/// The address from which a request came, as this host saw it.
#[derive(Debug, Clone, Copy)]
struct Peer(SocketAddr);

/// The operator API, not bound yet.
#[derive(Debug)]
pub struct OperatorApi;

/// A listening operator API that does not serve yet.
pub struct BoundOperatorApi {
    listener: std::net::TcpListener,
    address: SocketAddr,
    certificate: HostCertificate,
    tls: Arc<ServerConfig>,
    options: AcceptOptions,
    api: Api,
}

impl OperatorApi {
    /// Has a certificate issued by the site and listens.
    ///
    /// `links` is what the site link of this process knows ([`crate::BoundSiteLink::links`]); its
    /// default where there is none.
    #[expect(clippy::unused_async, reason = "roles are bound alike, and others wait for something")]
    pub async fn bind(
        config: OperatorApiConfig,
        site: Site,
        logs: impl Into<Arc<LogHandle>>,
        clock: Clock,
        links: Links,
    ) -> Result<BoundOperatorApi, ListenError> {
        let certificate = HostCertificate::issue(&site, &config.host)?;
        let tls = ServerTls::new(clock.clone(), certificate.shown()).alpn(["http/1.1"]).build()?;
        let listener = bind(config.listen)?;
        let address = listener.local_addr().map_err(ListenError::Address)?;
        let options = AcceptOptions::new(config.max_connections);
        let api = Api { site, logs: logs.into(), links, clock };
        Ok(BoundOperatorApi { listener, address, certificate, tls, options, api })
    }
}

impl std::fmt::Debug for BoundOperatorApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BoundOperatorApi").field("address", &self.address).finish_non_exhaustive()
    }
}

impl BoundOperatorApi {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the drain begins; requests under way are finished.
    pub async fn run(self, drain: Drain) {
        let listener = match TcpListener::from_std(self.listener) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(component = OPERATOR_API, %error, "operator API cannot serve");
                return;
            }
        };
        info!(component = OPERATOR_API, address = %self.address, "operator API is served");
        let router = TowerToHyperService::new(route::router(&self.api));
        let connections = drain.clone();
        let serve = serve_tls(listener, self.tls, self.options, drain.clone(), move |stream, peer| {
            let (router, drain) = (router.clone(), connections.clone());
            async move {
                let service = service_fn(|request: Request<Incoming>| {
                    let mut request = request.map(Body::new);
                    request.extensions_mut().insert(Peer(peer));
                    router.call(request)
                });
                if let Err(error) =
                    runtime::http::serve(stream, &HttpOptions::default(), &drain, service).await
                {
                    debug!(component = OPERATOR_API, %peer, %error, "connection ended early");
                }
            }
        });
        tokio::select! {
            () = serve => {}
            () = self.certificate.keep_fresh() => {}
        }
    }
}

/// A moment as every answer writes it.
fn time(moment: Timestamp) -> String {
    moment.iso8601()
}

#[cfg(test)]
mod tests;
