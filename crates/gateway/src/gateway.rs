//! What all shards of a running gateway share.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use proto::time::Timestamp;
use runtime::http::HttpOptions;
use runtime::listen::ConnectionCap;
use runtime::tls::ServerCertificate;
use runtime::{Clock, Drain};
use tokio_util::sync::CancellationToken;

use crate::limit::{Counts, Limits};
use crate::publication::Publisher;
use crate::route::{InFlight, Ledger, Patience};
use crate::tenants::KeyWishes;
use crate::tunnel::Tunnels;

/// A running gateway. It holds no key but those of its own certificates, and no secret of a device.
#[derive(Debug)]
pub struct Gateway {
    pub(crate) name: String,
    pub(crate) admin_names: Vec<String>,
    pub(crate) clock: Clock,
    pub(crate) drain: Drain,
    /// Given when the last request is done: tunnels may end.
    pub(crate) closing: CancellationToken,
    pub(crate) shards: NonZeroU16,
    pub(crate) publisher: Publisher,
    pub(crate) tunnels: Arc<Tunnels>,
    pub(crate) in_flight: Arc<InFlight>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) key_wishes: KeyWishes,
    pub(crate) patience: Patience,
    pub(crate) http: HttpOptions,
    pub(crate) handshake_timeout: Duration,
    pub(crate) limits: Arc<Limits>,
    pub(crate) cap: ConnectionCap,
    pub(crate) certificate: Arc<ServerCertificate>,
}

impl Gateway {
    /// How often each limit was met since the start.
    pub fn limit_counts(&self) -> &Counts {
        self.limits.counts()
    }

    /// The time by which tokens, certificates and blocks are judged.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.clock.now())
    }
}
