//! What all parts of a connection point share.

use std::sync::Arc;
use std::time::Duration;

use proto::time::Timestamp;
use proto::trust::SiteRoot;
use runtime::Clock;
use runtime::tls::OwnCertificate;

use crate::counters::{Counters, RoleConnections};
use crate::events::Events;
use crate::known::Known;
use crate::publish::Publisher;
use crate::role_certificate::RoleCertificates;
use crate::uplink::Uplink;
use crate::workers::Workers;

/// One connection point.
#[derive(Debug)]
pub(crate) struct Context {
    /// Its name, for reports.
    pub(crate) name: String,
    /// Tells the time.
    pub(crate) clock: Clock,
    /// Judges every peer.
    pub(crate) root: Arc<SiteRoot>,
    /// Shown to every peer that may see it.
    pub(crate) certificate: OwnCertificate,
    /// `host:port` of the site link.
    pub(crate) site_links: Vec<String>,
    /// See [`crate::Config::request_timeout`].
    pub(crate) request_timeout: Duration,
    /// See [`crate::Config::max_requests_per_tunnel`].
    pub(crate) max_requests: u16,
    /// See [`crate::Config::verbose_logging`].
    pub(crate) verbose: bool,
    /// See [`crate::Config::admin_names`].
    pub(crate) admin_names: Vec<String>,
    /// What the site said last.
    pub(crate) known: Known,
    /// Client certificates for roles that demand one.
    pub(crate) role_certificates: Arc<RoleCertificates>,
    /// Publications and the gateways' versions.
    pub(crate) publisher: Publisher,
    /// Messages to the site.
    pub(crate) uplink: Uplink,
    /// Traffic.
    pub(crate) counters: Counters,
    /// Connections to roles, of all threads.
    pub(crate) role_connections: Arc<RoleConnections>,
    /// Refused and slow requests.
    pub(crate) events: Events,
    /// Threads that carry device traffic.
    pub(crate) workers: Workers,
}

impl Context {
    /// The moment.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.clock.now())
    }
}
