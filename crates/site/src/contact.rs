//! Contacts: when a device was last heard, from where, and how far its clock is off.
//!
//! Kept in memory and written with others every few seconds: a contact is not worth an fsync.
//! What one device alone cannot produce is noticed here as well, see [`crate::clone`].

use std::net::IpAddr;

use proto::id::ClientId;
use proto::time::Timestamp;

use crate::clone::{self, Side};
use crate::db::{self, DbError};
use crate::device::SeenVia;
use crate::site::lock;
use crate::{Site, limits};

/// One authenticated request of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contact {
    /// The road that it came by.
    pub via: SeenVia,
    /// The address that it came from, as the management point saw it; through a gateway that is
    /// the connection point's, and nothing is made of it.
    pub address: Option<IpAddr>,
    /// The device's clock minus the site's in milliseconds, where a good signature said when it
    /// was made.
    pub skew_ms: Option<i64>,
}

/// A contact that waits for the next write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) at: Timestamp,
    pub(crate) contact: Contact,
}

impl Site {
    /// Notes an authenticated request of which only the road is known.
    pub fn record_seen(&self, id: ClientId, via: SeenVia) {
        self.record_contact(id, Contact { via, address: None, skew_ms: None });
    }

    /// Notes an authenticated request. A device that is heard from two places in a way that one
    /// device cannot be is held by the next upkeep.
    pub fn record_contact(&self, id: ClientId, contact: Contact) {
        let at = self.now();
        let mut seen = lock(&self.inner.seen);
        let known = seen.get(&id).map(|known| known.contact);
        if seen.len() < limits::SEEN_IN_MEMORY || known.is_some() {
            let skew_ms = contact.skew_ms.or(known.and_then(|known| known.skew_ms));
            seen.insert(id, Seen { at, contact: Contact { skew_ms, ..contact } });
        }
        drop(seen);
        lock(&self.inner.trails).note(id, Side { at, via: contact.via, skew_ms: contact.skew_ms });
    }

    /// Writes the contacts that wait, and holds whom they make suspect.
    pub(crate) async fn flush_seen(&self) -> Result<(), DbError> {
        let waiting: Vec<_> = lock(&self.inner.seen).iter().map(|(id, seen)| (*id, *seen)).collect();
        for chunk in waiting.chunks(limits::SEEN_AT_ONCE) {
            let written = chunk.to_vec();
            let job = chunk.to_vec();
            self.db()
                .write(move |tx| {
                    job.iter().try_for_each(|(id, seen)| db::device::set_last_seen(tx, *id, *seen))
                })
                .await?;
            let mut map = lock(&self.inner.seen);
            for (id, seen) in &written {
                // A contact that came meanwhile stays.
                if map.get(id).is_some_and(|newest| newest.at == seen.at) {
                    map.remove(id);
                }
            }
        }
        if waiting.is_empty() {
            return Ok(());
        }
        clone::watch(self, &waiting).await
    }
}
