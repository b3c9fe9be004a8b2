//! How many connections may be open at once, and what became of them.

use std::sync::Arc;
use std::time::Duration;

use rustls::HandshakeKind;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::metrics::{Counter, HANDSHAKE_BOUNDS, Histogram};

/// How many connections may be open at once. Clones share one count, so that the shards of a listener have
/// one cap.
#[derive(Clone, Debug)]
pub struct ConnectionCap {
    places: Arc<Semaphore>,
    connections: usize,
    counts: Arc<ConnectionCounts>,
}

/// One place of a cap; given back when it is dropped.
pub(super) type Place = OwnedSemaphorePermit;

impl ConnectionCap {
    /// At most `connections` at once (and never more than tokio can count, some 2^60).
    pub fn new(connections: usize) -> Self {
        let connections = connections.min(Semaphore::MAX_PERMITS);
        Self { places: Arc::new(Semaphore::new(connections)), connections, counts: Arc::default() }
    }

    /// Places that are free now.
    pub fn free(&self) -> usize {
        self.places.available_permits()
    }

    /// Places that are taken now.
    pub fn taken(&self) -> usize {
        self.connections.saturating_sub(self.free())
    }

    /// Whether most places are taken, so that nobody may keep one for long who has done nothing with it.
    pub fn is_scarce(&self) -> bool {
        self.free() < self.connections / 4
    }

    /// What became of the connections that came.
    pub fn counts(&self) -> &Arc<ConnectionCounts> {
        &self.counts
    }

    pub(super) fn take(&self) -> Option<Place> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }
}

/// What became of connections since the start.
#[derive(Debug)]
pub struct ConnectionCounts {
    /// Taken.
    pub accepted: Counter,
    /// Closed at once because all places were taken.
    pub refused_at_cap: Counter,
    /// Closed because their peer was not admitted: at once, or when its ClientHello was there.
    pub not_admitted: Counter,
    /// Handshakes that were made in full.
    pub handshakes_full: Counter,
    /// Handshakes that resumed an earlier session.
    pub handshakes_resumed: Counter,
    /// Handshakes that failed.
    pub handshakes_failed: Counter,
    /// Handshakes that were not finished in time.
    pub handshakes_late: Counter,
    /// How long those took that were made.
    pub handshake_time: Histogram,
}

impl Default for ConnectionCounts {
    fn default() -> Self {
        Self {
            accepted: Counter::default(),
            refused_at_cap: Counter::default(),
            not_admitted: Counter::default(),
            handshakes_full: Counter::default(),
            handshakes_resumed: Counter::default(),
            handshakes_failed: Counter::default(),
            handshakes_late: Counter::default(),
            handshake_time: Histogram::new(HANDSHAKE_BOUNDS),
        }
    }
}

impl ConnectionCounts {
    pub(super) fn handshake(&self, tls: &rustls::ServerConnection, took: Duration) {
        match tls.handshake_kind() {
            Some(HandshakeKind::Resumed) => self.handshakes_resumed.count(),
            _ => self.handshakes_full.count(),
        }
        self.handshake_time.observe(took);
    }
}
