//! The management point: the role that answers devices.
//!
//! It authenticates each message, finds the handler of its endpoint and calls one operation of
//! the site. It decides nothing else and keeps nothing: approval, blocks and settings are read
//! from the site on every request, so that a change counts from the next one on.
//!
//! ```text
//! listen → authenticate (signature, token) → dispatch → registration | policy | location
//!                                                     | report | state_message | status_message
//!                                                     | site_facts | sts            → site
//! ```
//!
//! Before a caller has proved a key it learns one generic code; the exact cause goes to the log
//! and, as an event under the request's id, to the site for `roamgate trace`.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

mod answer;
mod audit;
mod authenticate;
mod bounds;
mod config;
mod context;
mod dispatch;
mod event;
mod handler;
mod listen;
mod location;
pub mod log;
mod policy;
mod policy_body;
mod registration;
mod report;
mod request;
mod site_error;
mod site_facts;
mod state_message;
mod status_message;
mod sts;

use std::net::SocketAddr;

use runtime::listen::{AcceptOptions, BindError, serve_plain};
use runtime::{Clock, Drain};
use site::Site;
use tokio::net::TcpListener;

pub use config::{Config, Mode};
use context::Context;

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
    listener: std::net::TcpListener,
    address: SocketAddr,
    config: Config,
    site: Site,
    clock: Clock,
    options: Options,
}

impl ManagementPoint {
    /// Takes the listening address, before any role of this process serves.
    pub fn bind(config: Config, site: Site, clock: Clock, options: Options) -> Result<Bound, BindError> {
        let listener = runtime::listen::bind(config.listen)?;
        let address = listener.local_addr().map_err(|source| BindError { address: config.listen, source })?;
        Ok(Bound { listener, address, config, site, clock, options })
    }
}

impl Bound {
    /// Where it listens: the port that was found when the configuration said 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers devices until the drain begins, and then those that had asked already. Runs on a
    /// tokio runtime; ends when no new connections are taken.
    ///
    /// Fails only when the listener cannot be handed to the runtime.
    pub async fn run(self, drain: Drain) -> std::io::Result<()> {
        let listener = TcpListener::from_std(self.listener)?;
        let (events, writer) = event::channel(self.site.clone());
        drain.spawn(writer);
        let options = AcceptOptions::new(self.config.max_connections);
        let context = Context::new(self.site, self.clock, &self.config, self.address, self.options, events);
        let connection_drain = drain.clone();
        serve_plain(listener, options, drain, move |stream, peer| {
            listen::serve(context.clone(), stream, peer.ip(), connection_drain.clone())
        })
        .await;
        Ok(())
    }
}
