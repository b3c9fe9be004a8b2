//! A site with its fetcher, and the small servers of the tests.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use fetch::{Config, Proxies};
use proto::id::Guid;
use proto::time::Timestamp;
use runtime::tls::{ServerCertificate, ServerTls};
use runtime::{Clock, Drain};
use site::db::DbOptions;
use site::{By, InitConfig, NewTenant, Site, Tenant};
use stand_in::{Bound, Ca, TenantConfig};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use zeroize::Zeroizing;

/// How long a test waits for a state before it fails.
const PATIENCE: Duration = Duration::from_mins(2);

/// A site that fetches. Its clock stands still until it is moved.
pub(crate) struct Fetching {
    pub(crate) site: Site,
    pub(crate) clock: Clock,
    drain: Drain,
    _folder: TempDir,
}

impl Drop for Fetching {
    fn drop(&mut self) {
        self.drain.begin(Duration::ZERO);
    }
}

impl Fetching {
    /// Makes the site; nothing is fetched until [`Fetching::run`].
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Clock::system().now());
        let config = InitConfig {
            database: folder.path().join("site.db"),
            key_file: folder.path().join("site.key"),
            code: "RG1".parse().unwrap(),
            name: "Test".to_owned(),
            hierarchy: None,
            intranet: Vec::new(),
            operator: "anna".to_owned(),
            operator_key_file: folder.path().join("anna.key"),
            options: DbOptions::default(),
            lab: false,
        };
        let site = Site::init(config, clock.clone()).await.unwrap();
        Self { site, clock, drain: Drain::new(), _folder: folder }
    }

    pub(crate) fn run(&self) {
        self.run_with(config());
    }

    pub(crate) fn run_with(&self, config: Config) {
        self.drain.spawn(fetch::run(self.site.clone(), config, self.clock.clone(), self.drain.clone()));
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.site.now()
    }

    pub(crate) async fn tenant(&self, id: Guid) -> Tenant {
        self.site.find_tenant(id).await.unwrap().unwrap()
    }
}

/// The system's proxies would be asked for servers of this machine.
pub(crate) fn config() -> Config {
    Config { proxies: Proxies::None, ..Config::default() }
}

/// Waits until `state` gives something; fails with `what` when it does not come.
pub(crate) async fn wait_for<T>(what: &str, mut state: impl AsyncFnMut() -> Option<T>) -> T {
    let wait = async {
        loop {
            if let Some(reached) = state().await {
                return reached;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never: {what}"))
}

pub(crate) fn operator() -> By {
    By::site()
}

/// A tenant of a stand-in as an operator onboards it.
pub(crate) fn onboarding(bound: &Bound, tenant: &TenantConfig) -> NewTenant {
    NewTenant {
        tenant: tenant.tenant,
        name: tenant.name.clone(),
        issuers: Vec::new(),
        audiences: vec![tenant.resource.clone(), tenant.server_app.to_string()],
        client_app_id: tenant.client_app.to_string(),
        resource: tenant.resource.clone(),
        authority: bound.authority(tenant.tenant),
        graph_url: bound.base().to_owned(),
        discovery_app_id: tenant.discovery_app.to_string(),
        secret: Some(Zeroizing::new(tenant.discovery_secret.clone())),
        secret_expires_at: None,
        ca_pem: Some(bound.ca_pem().to_owned()),
        discovery: true,
    }
}

/// Runs until the handle is dropped.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves routes over plain HTTP.
pub(crate) async fn serve_plain(routes: Router) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    Served { address, task }
}

/// A listener with TLS. `admit` says whether a connection is taken at all.
pub(crate) struct TlsListener<A> {
    tcp: TcpListener,
    tls: TlsAcceptor,
    admit: A,
}

impl<A: Fn() -> bool + Send + 'static> TlsListener<A> {
    pub(crate) async fn bind(ca: &Ca, admit: A) -> Self {
        let certificate = ca.issue(vec!["localhost".to_owned()]).unwrap();
        let certificate = Arc::new(ServerCertificate::new(certificate));
        let tls = ServerTls::new(Clock::system(), certificate).alpn(["http/1.1"]).build().unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { tcp, tls: TlsAcceptor::from(tls), admit }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.tcp.local_addr().unwrap()
    }

    pub(crate) fn serve(self, routes: Router) -> Served {
        let address = self.address();
        let task = tokio::spawn(async move { axum::serve(self, routes).await.unwrap() });
        Served { address, task }
    }
}

impl<A: Fn() -> bool + Send + 'static> Listener for TlsListener<A> {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, peer)) = self.tcp.accept().await else { continue };
            if !(self.admit)() {
                continue;
            }
            if let Ok(stream) = self.tls.accept(stream).await {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.tcp.local_addr()
    }
}

/// A stand-in that runs until the handle is dropped.
pub(crate) struct Running(Drain);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.begin(Duration::ZERO);
    }
}

pub(crate) fn run_stand_in(bound: Bound) -> Running {
    let drain = Drain::new();
    drain.spawn(bound.run(drain.clone()));
    Running(drain)
}
