//! What every handler needs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use proto::id::Guid;
use proto::message::ReplyStamp;
use proto::time::Timestamp;
use runtime::Clock;
use site::Site;

use crate::Options;
use crate::audit::Mismatches;
use crate::bounds::Bounds;
use crate::config::{Config, Mode};
use crate::event::Events;

/// Shared by all requests of one management point. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) site: Site,
    pub(crate) events: Events,
    pub(crate) mismatches: Arc<Mismatches>,
    /// `host[:port]` by which clients inside know us.
    pub(crate) name: Arc<str>,
    pub(crate) mode: Mode,
    pub(crate) approve_everything: bool,
    pub(crate) body_timeout: Duration,
    pub(crate) bounds: Bounds,
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
    ) -> Self {
        Self {
            site,
            events,
            mismatches: Arc::default(),
            name: config.name_at(bound).into(),
            mode: config.mode,
            approve_everything: options.approve_everything,
            body_timeout: config.body_timeout.get(),
            bounds: Bounds::new(config.max_requests),
            clock,
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.clock.now())
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The host part of our name.
    pub(crate) fn host(&self) -> &str {
        match self.name.rsplit_once(':') {
            // `[::1]` has colons inside its brackets and none that begins a port.
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
            _ => &self.name,
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
