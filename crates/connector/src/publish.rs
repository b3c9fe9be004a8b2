//! Publications of the site on their way to the gateways, and what the site is told of each gateway.
//!
//! A publication goes to one live tunnel of every gateway that is behind it; the gateway hands it to its shards,
//! and says which version it has. Nothing is kept here but version numbers: who needs another publication
//! gets it from the site.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use proto::id::Guid;
use proto::link::{GatewayState, GatewayTarget, ToGateway, Up};
use proto::snapshot::Signed;
use tracing::warn;

use crate::log::COMPONENT;
use crate::publish::book::Book;
use crate::tunnel::Tunnel;
use crate::uplink::Uplink;

pub(crate) mod book;

/// The book, and its effects.
#[derive(Debug, Default)]
pub(crate) struct Publisher {
    book: Mutex<Book<Arc<Tunnel>>>,
}

impl Publisher {
    /// Passes a publication on to the gateways that are behind `version`.
    pub(crate) fn publish(&self, version: u64, signed: Signed) {
        let Ok(message) = serde_json::to_vec(&ToGateway::Publication { signed }) else { return };
        let message = Bytes::from(message);
        for (gateway, tunnels) in self.lock().behind(version) {
            // Any tunnel of a gateway will do; the latest is the least likely to be dying.
            let taken = tunnels.iter().rev().any(|tunnel| tunnel.send_control(message.clone()).is_ok());
            if !taken {
                warn!(component = COMPONENT, %gateway, version, "publication not passed on, the gateway will be asked again");
            }
        }
    }

    /// Everything to be said on a new site link.
    pub(crate) fn begin_link(&self, latest: u64) -> Vec<Up> {
        self.lock().begin_link(latest, Instant::now())
    }

    /// How each gateway stands.
    pub(crate) fn gateway_states(&self) -> Vec<GatewayState> {
        let states = self.lock().states().into_iter();
        states.filter_map(|up| if let Up::Gateway(state) = up { Some(state) } else { None }).collect()
    }

    /// Gateways that are to be known; others are forgotten.
    pub(crate) fn set_gateways(&self, gateways: &[GatewayTarget]) {
        self.lock().retain(gateways);
    }

    /// Runs `change` on the book, and tells the site what follows from it.
    pub(crate) fn change(
        &self,
        uplink: &Uplink,
        change: impl FnOnce(&mut Book<Arc<Tunnel>>, Instant) -> Vec<Up>,
    ) {
        let messages = change(&mut self.lock(), Instant::now());
        if !messages.is_empty() {
            uplink.state(messages);
        }
    }

    /// A tunnel of `gateway` was kept.
    pub(crate) fn up(&self, uplink: &Uplink, latest: u64, gateway: Guid, news: &book::Greeting<Arc<Tunnel>>) {
        self.change(uplink, |book, now| book.up(gateway, news, latest, now));
    }

    fn lock(&self) -> MutexGuard<'_, Book<Arc<Tunnel>>> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
