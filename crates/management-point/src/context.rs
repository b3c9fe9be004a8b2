//! What every handler needs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use proto::combination::Mode;
use proto::id::Guid;
use proto::message::ReplyStamp;
use proto::time::Timestamp;
use runtime::Clock;
use site::Site;

use crate::Options;
use crate::audit::Mismatches;
use crate::authenticate::verified::Verified;
use crate::body::Shares;
use crate::bounds::Bounds;
use crate::config::{Config, host_of};
use crate::counts::Counts;
use crate::event::Events;
use crate::manner::{Manner, Manners};
use crate::request::Transport;

/// Shared by all requests of one management point. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) site: Site,
    pub(crate) events: Events,
    pub(crate) mismatches: Arc<Mismatches>,
    pub(crate) verified: Arc<Verified>,
    /// `host[:port]` by which clients inside know us.
    pub(crate) name: Arc<str>,
    manners: Manners,
    pub(crate) approve_everything: bool,
    pub(crate) body_timeout: Duration,
    pub(crate) bodies: Shares,
    pub(crate) bounds: Bounds,
    pub(crate) counts: Counts,
    clock: Clock,
}

impl Context {
    pub(crate) fn new(
        site: Site,
        clock: Clock,
        config: &Config,
        bound: SocketAddr,
        options: Options,
        events: Events,
        manners: Manners,
    ) -> Self {
        Self {
            site,
            events,
            mismatches: Arc::default(),
            verified: Arc::default(),
            name: config.name_at(bound).into(),
            manners,
            approve_everything: options.approve_everything,
            body_timeout: config.body_timeout.get(),
            bodies: Shares::default(),
            bounds: Bounds::new(config.max_requests),
            counts: Counts::default(),
            clock,
        }
    }

    /// The same with these counters.
    pub(crate) fn counted(self, counts: Counts) -> Self {
        Self { counts, ..self }
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.clock.now())
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// How we serve right now.
    pub(crate) fn manner(&self) -> Arc<Manner> {
        self.manners.current()
    }

    /// The host part of our name.
    pub(crate) fn host(&self) -> &str {
        host_of(&self.name)
    }

    /// `host[:port]` by which whoever sent over this transport reaches us.
    pub(crate) fn name_for(&self, transport: &Transport) -> String {
        match transport {
            Transport::Plain => self.name.to_string(),
            Transport::Tls { .. } => self.manner().https_name.clone(),
        }
    }

    /// The name that clients inside are told: in HTTPS mode that of HTTPS, because nothing else is
    /// open to them.
    pub(crate) fn intranet_name(&self) -> String {
        let manner = self.manner();
        match manner.mode {
            Mode::Http | Mode::Ehttp => self.name.to_string(),
            Mode::Https => manner.https_name.clone(),
        }
    }

    /// The port in our name, where one stands there.
    pub(crate) fn port(&self) -> Option<u16> {
        self.name.rsplit_once(':').and_then(|(_, port)| port.parse().ok())
    }

    /// What a reply says of its making, with a fresh id.
    pub(crate) fn stamp(&self) -> ReplyStamp<'_> {
        ReplyStamp { message_id: fresh_id(), now: self.now(), source_host: self.host() }
    }
}

/// A random id for a reply.
fn fresh_id() -> Guid {
    let mut bytes = [0; 16];
    runtime::id::fill(&mut bytes);
    Guid::from_random(bytes)
}
