//! From a configuration to a listening stand-in.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use proto::id::Guid;
use runtime::http::HttpOptions;
use runtime::listen::{AcceptOptions, serve_tls};
use runtime::tls::{ServerCertificate, ServerTls, TlsSetupError};
use runtime::{Clock, Drain};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tracing::{debug, error, info};

use crate::certificate::{Ca, CaError};
use crate::config::{Config, TokenVersion};
use crate::control::Control;
use crate::keys::KeyError;
use crate::route::{Fate, fate, never, routes};
use crate::state::{Shared, Tenant};
use crate::{claims, token};

/// Connections at once.
const CONNECTIONS: usize = 1_000;

/// A stand-in did not start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// No certificate for its listener.
    #[error("no certificate for the stand-in")]
    Certificate(#[from] CaError),
    /// A tenant has no signing keys.
    #[error("no signing keys for tenant {tenant}")]
    Keys {
        /// Which.
        tenant: Guid,
        /// Why.
        source: KeyError,
    },
    /// TLS cannot be set up.
    #[error("the stand-in cannot speak TLS")]
    Tls(#[from] TlsSetupError),
    /// The address is not to be had.
    #[error("the stand-in is not bound")]
    Listen(#[from] runtime::listen::BindError),
    /// The socket does not tell its address.
    #[error("the stand-in has no address")]
    Address(#[source] io::Error),
}

/// A tenant for lab and tests, not bound yet.
#[derive(Debug)]
pub struct StandIn;

/// A stand-in that listens and does not serve yet.
pub struct Bound {
    listener: std::net::TcpListener,
    address: SocketAddr,
    ca: Ca,
    tls: Arc<ServerConfig>,
    shared: Arc<Shared>,
}

impl StandIn {
    /// Makes keys and certificate, and listens. Tokens live by `clock`.
    pub fn bind(config: Config, clock: Clock) -> Result<Bound, BindError> {
        let ca = match config.ca {
            Some(ca) => ca,
            None => Ca::make("Roamgate stand-in CA")?,
        };
        let mut names = vec![config.host.clone(), "localhost".to_owned(), "127.0.0.1".to_owned()];
        names.sort();
        names.dedup();
        let certificate = Arc::new(ServerCertificate::new(ca.issue(names)?));
        let tls = ServerTls::new(clock.clone(), certificate).alpn(["http/1.1"]).build()?;
        let listener = runtime::listen::bind(config.listen)?;
        let address = listener.local_addr().map_err(BindError::Address)?;
        let base = format!("https://{}:{}", config.host, address.port());
        let mut tenants = BTreeMap::new();
        for seed in config.tenants {
            let tenant = seed.tenant;
            let made = Tenant::make(seed).map_err(|source| BindError::Keys { tenant, source })?;
            tenants.insert(tenant, made);
        }
        let shared = Arc::new(Shared::new(clock, base, tenants));
        Ok(Bound { listener, address, ca, tls, shared })
    }
}

impl std::fmt::Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bound").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Bound {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `https://host:port`; also the resource of its lists of users and devices, and their address.
    pub fn base(&self) -> &str {
        &self.shared.base
    }

    /// Where a tenant's tokens are asked for. Its discovery document is at
    /// `…/.well-known/openid-configuration` below.
    pub fn authority(&self, tenant: Guid) -> String {
        claims::issuer(&self.shared.base, tenant, TokenVersion::V2)
    }

    /// `iss` of a tenant's tokens: both forms.
    pub fn issuers(&self, tenant: Guid) -> Vec<String> {
        [TokenVersion::V1, TokenVersion::V2]
            .map(|form| claims::issuer(&self.shared.base, tenant, form))
            .into()
    }

    /// The addresses of a tenant's token endpoint: what a device's proof is made out to.
    pub fn token_endpoints(&self, tenant: Guid) -> [String; 2] {
        token::endpoints(&self.shared.base, tenant)
    }

    /// The authority behind its certificate, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca.certificate
    }

    /// The same authority with its key, for another stand-in or a fault in front of this one.
    pub fn ca(&self) -> &Ca {
        &self.ca
    }

    /// What changes it while it runs.
    pub fn control(&self) -> Control {
        Control::new(Arc::clone(&self.shared))
    }

    /// Serves until the drain begins.
    pub async fn run(self, drain: Drain) {
        let listener = match TcpListener::from_std(self.listener) {
            Ok(listener) => listener,
            Err(error) => {
                error!(%error, "stand-in cannot serve");
                return;
            }
        };
        info!(address = %self.address, "stand-in of a tenant is served");
        let gate = Arc::clone(&self.shared);
        let admits = move |_: std::net::IpAddr| !gate.faults().refuses();
        let options = AcceptOptions::new(CONNECTIONS).admit(Arc::new(admits));
        let (routes, shared, connections) = (routes(Arc::clone(&self.shared)), self.shared, drain.clone());
        let serve = serve_tls(listener, self.tls, options, drain, move |stream, peer| {
            let (routes, shared, drain) = (routes.clone(), Arc::clone(&shared), connections.clone());
            async move {
                let service = service_fn(|request: Request<Incoming>| {
                    let (fate, routes) = (fate(&shared, request.map(Body::new)), routes.clone());
                    let drain = drain.clone();
                    async move {
                        match fate {
                            Fate::Handle(request) => routes.call(request).await.map_err(never),
                            Fate::Answer(answer) => Ok(answer),
                            Fate::Hang => {
                                drain.started().await;
                                Err(io::ErrorKind::TimedOut.into())
                            }
                            Fate::Close => Err(io::ErrorKind::ConnectionReset.into()),
                        }
                    }
                });
                let served = runtime::http::serve(stream, &HttpOptions::default(), &drain, service).await;
                if let Err(error) = served {
                    debug!(%peer, %error, "connection ended");
                }
            }
        });
        serve.await;
    }
}
