//! From a configuration to a gateway that listens, and on to one that serves.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::thread;

use futures_util::future::join_all;
use proto::bundle::GatewayBundle;
use proto::link::TUNNEL_ALPN;
use proto::time::Timestamp;
use proto::trust::{SiteRoot, TrustError};
use runtime::config::private_dir::{self, PrivateDirError};
use runtime::config::private_file::{self, PrivateFileError};
use runtime::http::{Early, HttpOptions};
use runtime::listen::{self, AcceptOptions, ConnectionCap};
use runtime::telemetry::Chain;
use runtime::tls::{
    CertificateByAlpn, CertificateFiles, ClientCertificates, LoadError, MaterialError, OwnCertificate,
    ServerCertificate, ServerTls, Tickets, TlsSetupError,
};
use runtime::{Clock, Drain};
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info};

use crate::config::{Config, ConfigProblem};
use crate::gateway::Gateway;
use crate::limit::{self, Limits};
use crate::log::COMPONENT;
use crate::publication::{BundleSnapshotError, Publisher};
use crate::route::{InFlight, Ledger, Patience};
use crate::tenants::KeyWishes;
use crate::{accept, admin, certificate, control};

/// Threads of one shard that verify publications and store them. Devices never reach them.
const BLOCKING_THREADS: usize = 2;

/// A gateway that listens and does not serve yet. Connections wait in the kernel meanwhile.
#[derive(Debug)]
pub struct Bound {
    config: Config,
    clock: Clock,
    name: String,
    shards: NonZeroU16,
    publisher: Publisher,
    certificate: Arc<ServerCertificate>,
    tls: Arc<ServerConfig>,
    /// For each shard, one listener for each address.
    listeners: Vec<Vec<TcpListener>>,
    addresses: Vec<SocketAddr>,
    admin: Option<(TcpListener, SocketAddr)>,
}

/// Why a gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A value in its section cannot work.
    #[error("the gateway's configuration cannot work")]
    Config(#[from] ConfigProblem),
    /// The bundle could not be read, or is open to others.
    #[error("the gateway's bundle is not available")]
    Bundle(#[source] PrivateFileError),
    /// The bundle is not what `roamgate gateway add` writes.
    #[error("the gateway's bundle cannot be understood; make a new one with `roamgate gateway add`")]
    BundleContent(#[source] serde_json::Error),
    /// The bundle is of another format.
    #[error("the bundle has the format {0:?}, expected is {expected:?}", expected = GatewayBundle::FORMAT)]
    BundleFormat(String),
    /// The site root in the bundle is no certificate.
    #[error("the bundle's site root cannot be used")]
    SiteRoot(#[source] TrustError),
    /// The link certificate in the bundle cannot be used.
    #[error("the bundle's link certificate cannot be used")]
    Link(#[source] MaterialError),
    /// The snapshot in the bundle is not the site's.
    #[error("the bundle's snapshot cannot be used")]
    Snapshot(#[from] BundleSnapshotError),
    /// The state folder cannot be used.
    #[error("the gateway's state folder cannot be used")]
    State(#[from] PrivateDirError),
    /// The certificate for devices cannot be used.
    #[error("the gateway's certificate cannot be used")]
    Certificate(#[from] LoadError),
    /// TLS refused the pieces.
    #[error("TLS cannot be set up for the gateway")]
    Tls(#[from] TlsSetupError),
    /// An address could not be listened on.
    #[error("the gateway cannot listen")]
    Listen(#[from] listen::BindError),
    /// The system does not tell where it listens.
    #[error("the gateway's address cannot be read")]
    Address(#[source] io::Error),
}

/// A shard could not be started. The gateway is then drained: half of one would lose half of the devices.
#[derive(Debug, thiserror::Error)]
#[error("a thread of the gateway cannot be started")]
pub struct RunError(#[source] io::Error);

impl Gateway {
    /// Reads bundle, stored snapshot and certificate, and listens. Nothing is served before [`Bound::run`],
    /// so that all roles of a process can bind before any serves.
    pub fn bind(config: Config, clock: Clock) -> Result<Bound, BindError> {
        config.check()?;
        let now = Timestamp::from_micros(clock.now());
        let bundle = read_bundle(&config)?;
        let root = SiteRoot::new(root_der(&bundle)?).map_err(BindError::SiteRoot)?;
        private_dir::create(&config.state_directory)?;
        let publisher =
            Publisher::restore(root, bundle.site_code, &bundle.snapshot, &config.state_directory, now)?;
        let (certificate, tls) = tls(&config, &bundle, &clock)?;
        let shards = config.shard_count();
        let (listeners, addresses) = bind_devices(&config.listen, shards)?;
        let admin = config.admin_listen.map(listen::bind).transpose()?;
        let admin = admin.map(with_address).transpose()?;
        let name = bundle.name;
        Ok(Bound { config, clock, name, shards, publisher, certificate, tls, listeners, addresses, admin })
    }
}

impl Bound {
    /// Where devices and connection points are listened for, in the order of the configuration; with the
    /// port that the system chose where it says 0.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where `/livez`, `/readyz` and `/metrics` are, if anywhere.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|(_, address)| *address)
    }

    /// Serves until `drain` begins, finishes the requests under way, says goodbye to the connection points
    /// and returns; at the drain's deadline it breaks off what is left.
    pub async fn run(self, drain: Drain) -> Result<(), RunError> {
        let limits = Arc::new(Limits::new(&self.config.limits, self.config.max_connections));
        let ledger = Arc::<Ledger>::default();
        let early = limit::early::answers(self.clock.clone(), Arc::clone(&ledger), Arc::clone(&limits));
        let gateway = Arc::new(Gateway {
            name: self.name,
            admin_names: self.config.admin_names.clone(),
            clock: self.clock,
            drain: drain.clone(),
            closing: CancellationToken::new(),
            shards: self.shards,
            publisher: self.publisher,
            tunnels: Arc::default(),
            in_flight: Arc::new(InFlight::new(self.config.max_requests as usize)),
            ledger,
            key_wishes: KeyWishes::default(),
            patience: Patience {
                answer: self.config.answer_timeout.get(),
                body: self.config.body_timeout.get(),
            },
            http: http_options(&self.config, early),
            handshake_timeout: self.config.limits.handshake_timeout.get(),
            limits,
            cap: ConnectionCap::new(self.config.max_connections as usize),
            certificate: self.certificate,
        });
        let mut shards = Vec::new();
        for (shard, listeners) in (0_u16..).zip(self.listeners) {
            shards.push(start_shard(&gateway, shard, listeners, &self.tls));
        }
        info!(component = COMPONENT, addresses = ?self.addresses, shards = shards.len(), "gateway serves");
        let shards = async {
            let mut outcome = Ok(());
            for ended in join_all(shards).await {
                outcome = outcome.and(ended);
            }
            outcome
        };
        let admin = async {
            if let Some((listener, _)) = self.admin {
                admin::serve(&gateway, listener).await;
            }
        };
        let poll = self.config.certificate_poll.get();
        let watch = certificate::watch(&gateway.certificate, poll, &drain);
        let (outcome, (), (), ()) = tokio::join!(shards, control::report(&gateway), watch, admin);
        info!(component = COMPONENT, "gateway has stopped");
        outcome
    }
}

/// Starts a shard's thread; the future is ready when the shard has ended.
fn start_shard(
    gateway: &Arc<Gateway>,
    shard: u16,
    listeners: Vec<TcpListener>,
    tls: &Arc<ServerConfig>,
) -> impl Future<Output = Result<(), RunError>> + use<> {
    let (ended, has_ended) = oneshot::channel();
    let (shared, tls) = (Arc::clone(gateway), Arc::clone(tls));
    let thread = thread::Builder::new().name(format!("gateway-{shard}"));
    let started = thread.spawn(move || {
        // If nobody listens any more, the process is on its way out.
        let _ = ended.send(run_shard(&shared, shard, listeners, &tls));
    });
    let drain = gateway.drain.clone();
    async move {
        let outcome = match started {
            // A shard that panicked has ended too; the panic was reported where it happened.
            Ok(_) => has_ended.await.unwrap_or(Ok(())),
            Err(error) => Err(error),
        };
        outcome.map_err(|source| {
            error!(
                component = COMPONENT,
                error = %Chain(&source),
                shard,
                "shard cannot run, the gateway stops"
            );
            drain.begin(std::time::Duration::ZERO);
            RunError(source)
        })
    }
}

fn run_shard(
    gateway: &Arc<Gateway>,
    shard: u16,
    listeners: Vec<TcpListener>,
    tls: &Arc<ServerConfig>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()?;
    runtime.block_on(serve_shard(gateway, shard, listeners, tls))
}

/// Takes connections until the drain begins, and stays until the last of them has ended.
async fn serve_shard(
    gateway: &Arc<Gateway>,
    shard: u16,
    listeners: Vec<TcpListener>,
    tls: &Arc<ServerConfig>,
) -> io::Result<()> {
    let tasks = TaskTracker::new();
    let mut loops = Vec::new();
    for listener in listeners {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let options = AcceptOptions {
            cap: gateway.cap.clone(),
            handshake_timeout: gateway.handshake_timeout,
            admission: Arc::clone(&gateway.limits),
        };
        let (context, tracker) = (Arc::clone(gateway), tasks.clone());
        let handler = move |stream, peer| {
            tracker.track_future(accept::connection(Arc::clone(&context), shard, stream, peer))
        };
        loops.push(listen::serve_tls(listener, Arc::clone(tls), options, gateway.drain.clone(), handler));
    }
    join_all(loops).await;
    tasks.close();
    tasks.wait().await;
    Ok(())
}

fn http_options(config: &Config, early: Early) -> HttpOptions {
    let limits = &config.limits;
    HttpOptions {
        head_timeout: limits.head_timeout.get(),
        idle_timeout: config.idle_timeout.get(),
        write_timeout: limits.write_timeout.get(),
        // Both are far below what a word can count: the configuration was checked.
        head_size: usize::try_from(limits.head_bytes.bytes()).unwrap_or(usize::MAX),
        headers: Some(usize::from(limits.head_lines)),
        early: Some(early),
        ..HttpOptions::default()
    }
}

fn read_bundle(config: &Config) -> Result<GatewayBundle, BindError> {
    let text = private_file::read(&config.bundle).map_err(BindError::Bundle)?;
    let bundle: GatewayBundle = serde_json::from_slice(&text).map_err(BindError::BundleContent)?;
    if bundle.format != GatewayBundle::FORMAT {
        return Err(BindError::BundleFormat(bundle.format));
    }
    Ok(bundle)
}

fn root_der(bundle: &GatewayBundle) -> Result<Vec<u8>, BindError> {
    let root = CertificateDer::from_pem_slice(bundle.site_root_pem.as_bytes());
    Ok(root.map_err(|_| BindError::SiteRoot(TrustError::BadRoot))?.to_vec())
}

/// One port for devices and connection points: who asks for a tunnel sees the link certificate, everybody
/// else the public one; both are asked for a certificate, and judged afterwards.
fn tls(
    config: &Config,
    bundle: &GatewayBundle,
    clock: &Clock,
) -> Result<(Arc<ServerCertificate>, Arc<ServerConfig>), BindError> {
    let files = CertificateFiles { certificate: config.certificate.clone(), key: config.key.clone() };
    let certificate = Arc::new(ServerCertificate::from_files(files)?);
    let link =
        OwnCertificate::from_pem(bundle.link.certificate_pem.as_bytes(), bundle.link.key_pem.as_bytes());
    let link = Arc::new(ServerCertificate::new(link.map_err(BindError::Link)?));
    let shown = CertificateByAlpn::new(Arc::clone(&certificate)).with(TUNNEL_ALPN, link);
    let tls = ServerTls::new(clock.clone(), Arc::new(shown))
        .client_certificates(ClientCertificates::ProveKeyOnly)
        .alpn([TUNNEL_ALPN, b"http/1.1"])
        .tickets(Tickets::new()?)
        .build()?;
    Ok((certificate, tls))
}

type Listeners = (Vec<Vec<TcpListener>>, Vec<SocketAddr>);

fn bind_devices(addresses: &[SocketAddr], shards: NonZeroU16) -> Result<Listeners, BindError> {
    let count = usize::from(shards.get());
    let mut of_shards: Vec<Vec<TcpListener>> = (0..count).map(|_| Vec::new()).collect();
    let mut bound = Vec::new();
    for address in addresses {
        let listeners = listen::bind_shards(*address, count)?;
        if let Some(first) = listeners.first() {
            bound.push(first.local_addr().map_err(BindError::Address)?);
        }
        for (shard, listener) in of_shards.iter_mut().zip(listeners) {
            shard.push(listener);
        }
    }
    Ok((of_shards, bound))
}

fn with_address(listener: TcpListener) -> Result<(TcpListener, SocketAddr), BindError> {
    let address = listener.local_addr().map_err(BindError::Address)?;
    Ok((listener, address))
}
