//! Who may connect, and whose handshake is made.
//!
//! A connection costs little before its ClientHello and a signature after it, so it is counted when it comes and
//! charged when it greets. Places are kept for tunnels: devices hold a place of their own beside that of the cap,
//! and there are fewer of these. When all are taken, the rest is for those who want a tunnel: half of it for
//! sources that are known to have one, half for anybody, two for each source.

use std::hash::RandomState;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::link::TUNNEL_ALPN;
use runtime::listen::{Admission, Welcome};
use rustls::ServerConnection;
use rustls::server::ClientHello;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::bucket::Bucket;
use super::config::Config;
use super::key::Key;
use super::origins::{Origins, TunnelHere};
use super::shares::{Share, Shares};
use super::table::Table;
use super::{Limits, Over, Rate};

/// How much more than an IPv6 /64 a /48 may have.
const SITE_TIMES: u32 = 4;
/// The same for open connections: half of the cap, by default.
const SITE_CONNECTIONS_TIMES: u32 = 2;
/// Handshakes for tunnels of sources that are known to have one, beside all limits: one of each shard of a gateway
/// and connection point that lost each other, several times over.
const TUNNEL_HANDSHAKES: (u32, Duration, u32) = (20, Duration::from_secs(1), 200);
/// Connections of one source that wait in the places kept for tunnels.
const WAITING_OF_A_SOURCE: u32 = 2;

/// What is held and charged before anything is asked for.
#[derive(Debug)]
pub(super) struct Connections {
    source_handshakes: Option<Table>,
    site_handshakes: Option<Table>,
    all_handshakes: Option<(Bucket, Rate)>,
    tunnel_handshakes: Option<(Bucket, Rate)>,
    open: Arc<Shares>,
    waiting: Arc<Shares>,
    of_a_source: Option<u32>,
    for_devices: Arc<Semaphore>,
    kept_for_known: Arc<Semaphore>,
    kept_for_anybody: Arc<Semaphore>,
    origins: Arc<Origins>,
}

/// What an open connection holds.
#[derive(Debug)]
pub struct Pass {
    source: IpAddr,
    /// Whether its source has a tunnel.
    known: bool,
    /// Whether there is room for it only if it becomes a tunnel.
    only_tunnel: bool,
    held: Option<HeldPlace>,
}

/// The place of a connection that is no tunnel, or none yet.
#[derive(Debug)]
struct HeldPlace {
    _shares: [Option<Share>; 2],
    _place: OwnedSemaphorePermit,
}

impl Connections {
    pub(super) fn new(config: &Config, max_connections: u32, started: Instant) -> Self {
        let rate = config.source_handshakes.0;
        let table = |rate: Option<Rate>| rate.map(|rate| Table::new(rate, RandomState::new()));
        let (count, window, burst) = TUNNEL_HANDSHAKES;
        let kept = config.kept_for_tunnels(max_connections);
        let places = |count: u32| Arc::new(Semaphore::new(count as usize));
        Self {
            source_handshakes: table(rate),
            site_handshakes: table(rate.map(|rate| rate.times(SITE_TIMES))),
            all_handshakes: config.all_handshakes.0.map(|rate| (Bucket::default(), rate)),
            tunnel_handshakes: Rate::new(count, window, burst).ok().map(|rate| (Bucket::default(), rate)),
            open: Arc::new(Shares::new(RandomState::new())),
            waiting: Arc::new(Shares::new(RandomState::new())),
            of_a_source: config.source_connections.of(max_connections),
            for_devices: places(max_connections - kept),
            kept_for_known: places(kept - kept / 2),
            kept_for_anybody: places(kept / 2),
            origins: Arc::new(Origins::new(started, RandomState::new())),
        }
    }

    /// What one more connection of this source holds, if it may.
    fn share(&self, source: IpAddr) -> Option<[Option<Share>; 2]> {
        let Some(most) = self.of_a_source else { return Some([None, None]) };
        let own = self.open.take(&Key::source(source), most)?;
        let site = match Key::site(source) {
            None => None,
            Some(site) => Some(self.open.take(&site, most.saturating_mul(SITE_CONNECTIONS_TIMES))?),
        };
        Some([Some(own), site])
    }
}

fn place(places: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    Arc::clone(places).try_acquire_owned().ok()
}

impl Limits {
    /// A connection point has proved itself on a connection from `source`; what is answered is kept as long as its
    /// tunnel is up. Meanwhile, and for an hour, tunnels from there come through whatever others do.
    pub(crate) fn tunnel_here(&self, source: IpAddr) -> TunnelHere {
        self.connections.origins.tunnel(&Key::source(source))
    }

    /// Whether one more connection of `source` is taken.
    pub(super) fn connect(&self, source: IpAddr, now: Instant) -> Option<Pass> {
        let connections = &self.connections;
        let known = connections.origins.knows(&Key::source(source), self.moment(now));
        let share = connections.share(source);
        if share.is_none() && !known {
            self.counts.add(Over::SourceConnections);
            return None;
        }
        let pass = |only_tunnel, shares, place| {
            let held = Some(HeldPlace { _shares: shares, _place: place });
            Some(Pass { source, known, only_tunnel, held })
        };
        if let Some(shares) = share
            && let Some(place) = place(&connections.for_devices)
        {
            return pass(false, shares, place);
        }
        if known && let Some(place) = place(&connections.kept_for_known) {
            return pass(true, [None, None], place);
        }
        if let Some(waiting) = connections.waiting.take(&Key::source(source), WAITING_OF_A_SOURCE)
            && let Some(place) = place(&connections.kept_for_anybody)
        {
            return pass(true, [Some(waiting), None], place);
        }
        self.counts.add(Over::TunnelConnections);
        None
    }

    /// Whether the handshake of a connection that greeted is made.
    pub(super) fn greet(&self, pass: &Pass, wants_tunnel: bool, now: Instant) -> bool {
        if pass.only_tunnel && !wants_tunnel {
            self.counts.add(Over::TunnelConnections);
            return false;
        }
        let moment = self.moment(now);
        let of_tunnels = self.connections.tunnel_handshakes.as_ref();
        if pass.known
            && wants_tunnel
            && of_tunnels.is_some_and(|(bucket, rate)| bucket.take(moment, *rate).is_ok())
        {
            return true;
        }
        self.handshake(pass.source, pass.known, now)
    }

    /// Charges a handshake. The source first: what one is denied must not be taken from all.
    fn handshake(&self, source: IpAddr, known: bool, now: Instant) -> bool {
        let (connections, now) = (&self.connections, self.moment(now));
        let own = connections.source_handshakes.as_ref();
        if self.take(Over::SourceHandshakes, own, &Key::source(source), now).is_err() {
            return false;
        }
        let around = connections.site_handshakes.as_ref();
        if Key::site(source)
            .is_some_and(|site| self.take(Over::SourceHandshakes, around, &site, now).is_err())
        {
            return false;
        }
        known || self.take_of_all(Over::AllHandshakes, connections.all_handshakes.as_ref(), now).is_ok()
    }

    /// Whether a connection that made its handshake goes on. A tunnel is not one of its source's connections, and
    /// needs no device's place.
    pub(super) fn go_on(pass: &mut Pass, is_tunnel: bool) -> bool {
        if is_tunnel {
            pass.held = None;
        }
        is_tunnel || !pass.only_tunnel
    }
}

fn welcome(is_admitted: bool, wants_tunnel: bool) -> Welcome {
    match (is_admitted, wants_tunnel) {
        (false, _) => Welcome::Refused,
        (true, true) => Welcome::First,
        (true, false) => Welcome::InTurn,
    }
}

impl Admission for Limits {
    type Pass = Pass;

    fn connected(&self, peer: IpAddr) -> Option<Pass> {
        self.connect(peer, Instant::now())
    }

    /// Tunnels first: no device is answered before its gateway has one. Whoever offers the protocol of tunnels gets
    /// before devices by it, and only that: the others who do so have turns of their own.
    fn greeted(&self, pass: &mut Pass, hello: &ClientHello<'_>) -> Welcome {
        let wants_tunnel = hello.alpn().is_some_and(|mut offered| offered.any(|name| name == TUNNEL_ALPN));
        welcome(self.greet(pass, wants_tunnel, Instant::now()), wants_tunnel)
    }

    fn shook_hands(&self, pass: &mut Pass, tls: &ServerConnection) -> bool {
        Self::go_on(pass, tls.alpn_protocol() == Some(TUNNEL_ALPN))
    }
}

#[cfg(test)]
mod tests;
