//! The management point: the role that answers devices.
//!
//! It authenticates each message, finds the handler of its endpoint and calls one operation of
//! the site. It decides nothing else and keeps nothing: approval, blocks and settings are read
//! from the site on every request, so that a change counts from the next one on.
//!
//! ```text
//! listen → transport (mode, demanded certificate)
//!        → body (read within its time and share) → bounds (a place for the work)
//!        → authenticate (signature, token, certificate) → dispatch → registration | policy | location
//!                                                                  | report | state_message | status_message
//!                                                                  | site_facts | sts            → site
//! upkeep → manner (the role's mode) and role_certificate (made, renewed or read while it serves)
//! ```
//!
//! Before a caller has proved a key it learns one generic code; the exact cause goes to the log
//! and, as an event under the request's id, to the site for `roamgate trace`.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

mod announced;
mod answer;
mod audit;
mod authenticate;
mod body;
mod bounds;
mod config;
mod context;
mod counts;
mod dispatch;
mod event;
mod handler;
mod listen;
mod location;
pub mod log;
mod manner;
mod policy;
mod policy_body;
mod registration;
mod report;
mod request;
mod role_certificate;
mod site_error;
mod site_facts;
mod state_message;
mod status_message;
mod stranded;
mod sts;
mod transport;
mod upkeep;

use std::net::SocketAddr;
use std::sync::Arc;

use runtime::listen::{AcceptOptions, BindError, serve_plain, serve_tls};
use runtime::telemetry::Chain;
use runtime::tls::{ClientCertificates, ServerTls, Tickets};
use runtime::{Clock, Drain};
use site::Site;
use tokio::net::TcpListener;
use tracing::error;

pub use config::Config;
use context::Context;
pub use counts::Counts;
use manner::Manners;
use request::{Peer, Transport};
use role_certificate::{Keeper, Shown};
use upkeep::Upkeep;

/// What only code can ask for. There is no configuration key for any of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Approve whatever registers. For the lab alone, which starts its own children with it; the
    /// site takes it only when it was opened by the lab, too.
    pub approve_everything: bool,
}

/// The management point.
#[derive(Debug)]
pub struct ManagementPoint;

/// A management point that listens and does not answer yet.
#[derive(Debug)]
pub struct Bound {
    http: Listening,
    /// Why HTTPS is not listened for, where its address was nobody's wish.
    https: Result<Listening, BindError>,
    config: Config,
    site: Site,
    clock: Clock,
    options: Options,
    counts: Counts,
}

#[derive(Debug)]
struct Listening {
    listener: std::net::TcpListener,
    address: SocketAddr,
}

impl Listening {
    fn at(wanted: SocketAddr) -> Result<Self, BindError> {
        let listener = runtime::listen::bind(wanted)?;
        let address = listener.local_addr().map_err(|source| BindError { address: wanted, source })?;
        Ok(Self { listener, address })
    }
}

impl ManagementPoint {
    /// Takes the listening addresses, before any role of this process serves: HTTP's, and HTTPS's,
    /// which is served as soon as the role's mode asks for it. An HTTPS address that the configuration
    /// does not name may be taken or forbidden; then HTTPS is not served, and the log says so.
    pub fn bind(config: Config, site: Site, clock: Clock, options: Options) -> Result<Bound, BindError> {
        let http = Listening::at(config.listen)?;
        let https = Listening::at(config.tls_address());
        let https = if config.listen_tls.is_some() { Ok(https?) } else { https };
        Ok(Bound { http, https, config, site, clock, options, counts: Counts::default() })
    }
}

impl Bound {
    /// Where it listens for HTTP: the port that was found when the configuration said 0.
    pub fn address(&self) -> SocketAddr {
        self.http.address
    }

    /// What it counts, also while it runs.
    pub fn counts(&self) -> Counts {
        self.counts.clone()
    }

    /// Where it listens for HTTPS; `None`: nowhere.
    pub fn tls_address(&self) -> Option<SocketAddr> {
        self.https.as_ref().ok().map(|listening| listening.address)
    }

    /// Answers devices until the drain begins, and then those that had asked already. Runs on a
    /// tokio runtime; ends when no new connections are taken.
    ///
    /// Fails only when a listener cannot be handed to the runtime, or TLS not be set up.
    pub async fn run(self, drain: Drain) -> std::io::Result<()> {
        let Self { http, https, config, site, clock, options, counts } = self;
        let https = match https {
            Ok(listening) => Some(listening),
            Err(error) => {
                error!(component = log::MP_CONTROL, error = %Chain(&error), "HTTPS cannot be served: name a free address as `listen_tls`");
                None
            }
        };
        let (manners, shown) = (Manners::default(), Arc::<Shown>::default());
        let mut upkeep = Upkeep {
            site: site.clone(),
            clock: clock.clone(),
            config: config.clone(),
            http: http.address,
            https: https.as_ref().map(|listening| listening.address),
            manners: manners.clone(),
            keeper: Keeper::new(site.clone(), config.certificate_files(), Arc::clone(&shown)),
            complaint: None,
        };
        upkeep.refresh().await;
        let (events, writer) = event::channel(site.clone());
        drain.spawn(writer);
        drain.spawn(upkeep.run(drain.clone()));
        // One count for both listeners.
        let accept = AcceptOptions::new(config.max_connections);
        let context = Context::new(site, clock.clone(), &config, http.address, options, events, manners);
        let context = context.counted(counts);
        let plain = {
            let (context, drain) = (context.clone(), drain.clone());
            let listener = TcpListener::from_std(http.listener)?;
            let serving = drain.clone();
            serve_plain(listener, accept.clone(), serving, move |stream, peer| {
                let peer = Peer { address: peer.ip(), transport: Transport::Plain };
                listen::serve(context.clone(), stream, peer, drain.clone())
            })
        };
        let Some(https) = https else {
            plain.await;
            return Ok(());
        };
        let tls = {
            let listener = TcpListener::from_std(https.listener)?;
            let tls = ServerTls::new(clock, shown)
                .client_certificates(ClientCertificates::ProveKeyOnly)
                .alpn(["http/1.1"])
                .tickets(Tickets::new().map_err(std::io::Error::other)?)
                .build()
                .map_err(std::io::Error::other)?;
            let serving = drain.clone();
            serve_tls(listener, tls, accept, serving, move |stream, peer| {
                let peer = Peer { address: peer.ip(), transport: transport::of(&stream) };
                listen::serve(context.clone(), stream, peer, drain.clone())
            })
        };
        tokio::join!(plain, tls);
        Ok(())
    }
}
