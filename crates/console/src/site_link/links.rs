//! Which connection points are linked now, and what gateways acknowledged through them.
//!
//! In memory only: it is true of this process and this moment.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::id::Guid;
use proto::time::Timestamp;
use tokio_util::sync::CancellationToken;

/// Gateways whose last acknowledgement is kept. Connection points name gateways as they like: the
/// map must not grow by it.
const GATEWAYS: usize = 10_000;

/// What is known of the links of this process. A clone shows the same. The default knows of none
/// and has no address that a connection point could dial.
#[derive(Debug, Clone, Default)]
pub struct Links {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    addresses: Vec<String>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By connection point; each has one link.
    up: HashMap<Guid, Up>,
    /// By gateway.
    acknowledged: HashMap<Guid, Acknowledged>,
    next: u64,
}

#[derive(Debug)]
struct Up {
    /// Tells this link from a later one of the same connection point.
    number: u64,
    since: Timestamp,
    displaced: CancellationToken,
}

#[derive(Debug, Clone, Copy)]
struct Acknowledged {
    version: u64,
    at: Timestamp,
}

impl Links {
    /// No links yet, and these addresses (`host:port`) for bundles.
    pub(super) fn at(addresses: Vec<String>) -> Self {
        Self { inner: Arc::new(Inner { addresses, state: Mutex::default() }) }
    }

    /// Where connection points dial; empty without a site link.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.inner.addresses.clone()
    }

    /// Since when a connection point is linked; `None`: it is not.
    pub(crate) fn up_since(&self, connector: Guid) -> Option<Timestamp> {
        self.lock().up.get(&connector).map(|up| up.since)
    }

    /// Whether a connection point is linked.
    pub(crate) fn is_up(&self, connector: Guid) -> bool {
        self.up_since(connector).is_some()
    }

    /// When a gateway last acknowledged a version that it had not acknowledged before.
    pub(crate) fn acknowledged_at(&self, gateway: Guid) -> Option<Timestamp> {
        self.lock().acknowledged.get(&gateway).map(|acknowledged| acknowledged.at)
    }

    /// Notes a new link. An older one of the same connection point is told to go: after a broken
    /// line the new link is the live one.
    pub(super) fn join(&self, connector: Guid, now: Timestamp) -> Joined {
        let displaced = CancellationToken::new();
        let mut state = self.lock();
        state.next += 1;
        let number = state.next;
        let up = Up { number, since: now, displaced: displaced.clone() };
        if let Some(older) = state.up.insert(connector, up) {
            older.displaced.cancel();
        }
        drop(state);
        Joined { links: self.clone(), connector, number, displaced }
    }

    /// Notes which version a gateway has in force.
    pub(super) fn acknowledge(&self, gateway: Guid, version: u64, now: Timestamp) {
        let mut state = self.lock();
        let known = state.acknowledged.get(&gateway).map(|acknowledged| acknowledged.version);
        let has_room = known.is_some() || state.acknowledged.len() < GATEWAYS;
        if version > 0 && known != Some(version) && has_room {
            state.acknowledged.insert(gateway, Acknowledged { version, at: now });
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A link that is up, until it is dropped.
#[derive(Debug)]
pub(super) struct Joined {
    links: Links,
    connector: Guid,
    number: u64,
    displaced: CancellationToken,
}

impl Joined {
    /// Resolves when a newer link of the same connection point took this one's place.
    pub(super) async fn displaced(&self) {
        self.displaced.cancelled().await;
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        let mut state = self.links.lock();
        if state.up.get(&self.connector).is_some_and(|up| up.number == self.number) {
            state.up.remove(&self.connector);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_link_takes_the_place_and_the_older_ones_end_changes_nothing() {
        let (links, id) = (Links::default(), Guid::nil());
        let first = links.join(id, Timestamp::from_seconds(1));
        let second = links.join(id, Timestamp::from_seconds(2));
        assert!(first.displaced.is_cancelled() && !second.displaced.is_cancelled());
        drop(first);
        assert_eq!(links.up_since(id), Some(Timestamp::from_seconds(2)));
        drop(second);
        assert!(!links.is_up(id));
    }

    #[test]
    fn an_acknowledgement_counts_when_the_version_is_another() {
        let (links, id) = (Links::default(), Guid::nil());
        for (version, second) in [(0, 1), (5, 2), (5, 3)] {
            links.acknowledge(id, version, Timestamp::from_seconds(second));
        }
        assert_eq!(links.acknowledged_at(id), Some(Timestamp::from_seconds(2)));
        links.acknowledge(id, 6, Timestamp::from_seconds(4));
        assert_eq!(links.acknowledged_at(id), Some(Timestamp::from_seconds(4)));
    }
}
