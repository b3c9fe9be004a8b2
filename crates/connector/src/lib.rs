//! The connection point: dials out to every gateway, forwards in, listens nowhere.
//!
//! It keeps one link to the site, which tells it the gateways, the roles and what is to be published, and one
//! tunnel to every shard of every gateway. A request comes out of a tunnel, is held against the endpoint table and
//! the published roles, is written anew, and goes to the role's internal address; the answer travels back.
//! Nothing that a gateway says names a host, a path outside the table, or a header of its own.
//!
//! | for | module |
//! |---|---|
//! | configuration, bundle | `config` |
//! | the site link, what it said, what goes up | `link`, `known`, `uplink` |
//! | who may be at the other end | `peer` |
//! | tunnels: which, and how they run | `dial`, `coverage`, `tunnel`, `stream` |
//! | a request and its answer | `forward`, `request`, `answer`, `role`, `role_client` |
//! | the certificate for roles that demand one | `role_certificate` |
//! | publications on their way to gateways | `publish` |
//! | what is told of it all | `log`, `counters`, `events`, `upkeep`, `admin` |

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

mod admin;
mod answer;
mod config;
mod context;
mod counters;
mod coverage;
mod dial;
mod events;
mod forward;
mod known;
mod link;
mod log;
mod peer;
mod publish;
mod request;
mod role;
mod role_certificate;
mod role_client;
mod stream;
mod tunnel;
mod upkeep;
mod uplink;
mod workers;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use proto::time::Timestamp;
use runtime::config::private_dir::{self, PrivateDirError};
use runtime::{Clock, Drain};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use config::{BundleError, Config, Paths};
pub use log::COMPONENTS;

use crate::config::Identity;
use crate::context::Context;
use crate::counters::Counters;
use crate::events::Events;
use crate::known::Known;
use crate::publish::Publisher;
use crate::role_certificate::{Files, RoleCertificates};
use crate::role_client::RoleClient;
use crate::uplink::Uplink;
use crate::workers::Workers;

/// The role; [`ConnectionPoint::bind`] is its beginning.
#[derive(Debug)]
pub struct ConnectionPoint;

/// A connection point that has everything it needs and has not dialled yet.
#[derive(Debug)]
pub struct Bound {
    context: Arc<Context>,
    admin: Option<(TcpListener, SocketAddr)>,
}

/// Why a connection point cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The bundle cannot be used.
    #[error("the connection point has no identity")]
    Bundle(#[source] BundleError),
    /// The state folder cannot be used.
    #[error("the connection point has no state folder")]
    StateDirectory(#[source] PrivateDirError),
    /// The operating system gave no thread.
    #[error("no threads for device traffic")]
    Threads(#[source] io::Error),
    /// The address for monitors could not be listened on.
    #[error("the connection point cannot listen for monitors")]
    Admin(#[from] runtime::listen::BindError),
    /// The system does not tell where that is.
    #[error("the connection point's address for monitors cannot be read")]
    Address(#[source] io::Error),
}

impl ConnectionPoint {
    /// Reads the bundle and what was known last, and starts the threads for device traffic. Opens no
    /// socket but the one for monitors, if it is wanted: a connection point listens nowhere else.
    pub fn bind(config: &Config, clock: Clock) -> Result<Bound, BindError> {
        let Identity { name, root, certificate, site_links } =
            Identity::load(&config.bundle).map_err(BindError::Bundle)?;
        private_dir::create(&config.state_directory).map_err(BindError::StateDirectory)?;
        let root = Arc::new(root);
        let known = Known::load(&config.state_directory);
        let files = Files::new(config.client_certificate.paths(), config.client_key.paths());
        let role_certificates = Arc::new(RoleCertificates::new(files));
        role_certificates.refresh(&known.roles(), Timestamp::from_micros(clock.now()));
        let roles = RoleClient::new(Arc::clone(&root), Arc::clone(&role_certificates), clock.clone());
        let workers = Workers::start(config.thread_count(), &roles).map_err(BindError::Threads)?;
        let admin = config.admin_listen.map(runtime::listen::bind).transpose()?;
        let admin = admin.map(|listener| listener.local_addr().map(|address| (listener, address)));
        let admin = admin.transpose().map_err(BindError::Address)?;
        let context = Context {
            name,
            root,
            certificate,
            site_links,
            request_timeout: config.request_timeout.get(),
            max_requests: config.max_requests_per_tunnel.get(),
            verbose: config.verbose_logging,
            admin_names: config.admin_names.clone(),
            known,
            role_certificates,
            publisher: Publisher::default(),
            uplink: Uplink::default(),
            counters: Counters::new(Timestamp::from_micros(clock.now())),
            role_connections: Arc::clone(&roles.counts),
            events: Events::default(),
            workers,
            clock,
        };
        Ok(Bound { context: Arc::new(context), admin })
    }
}

impl Bound {
    /// Where `/livez`, `/readyz` and `/metrics` are, if anywhere.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|(_, address)| *address)
    }

    /// Runs until `drain` begins and the requests that were under way have ended, at most until the drain's
    /// deadline.
    pub async fn run(self, drain: Drain) {
        let context = self.context;
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        if let Some((listener, _)) = self.admin {
            let (monitored, end) = (admin::Monitored::new(&context, &drain), stop.clone());
            tasks.spawn(async move { admin::serve(monitored, listener, end.cancelled()).await });
        }
        tasks.spawn(drain.track(link::keep_link(Arc::clone(&context), stop.clone())));
        let upkeep = tasks.spawn(drain.track(upkeep::keep_up(Arc::clone(&context))));
        dial::keep_gateways(Arc::clone(&context), drain.clone()).await;
        upkeep.abort();
        upkeep::last_report(&context);
        stop.cancel();
        while tasks.join_next().await.is_some() {}
    }
}
