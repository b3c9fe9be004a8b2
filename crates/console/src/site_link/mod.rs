//! The site's end of the site link: the listener that connection points dial.
//!
//! HTTPS with the link certificates of both sides; `GET /link` with `Upgrade: roamgate-link/1`,
//! and from then on messages in both directions ([`proto::link`]). Down come the signed snapshot
//! and its changes, the gateways, the roles and what is withdrawn; up go states, counters and
//! events. Each message is four bytes of length (big-endian) and JSON; an empty one is a sign of
//! life.
//!
//! Who may come in is judged on every connection, after the handshake has proved the key: chain
//! under the site root, purpose, name, on record, not withdrawn (R8, R59). A connection point that
//! is withdrawn while it is linked is cut off at once.

mod config;
mod frame;
mod links;
mod publish;
mod receive;
mod session;
mod upgrade;

use std::net::SocketAddr;
use std::sync::Arc;

use proto::link::connector_name;
use proto::time::Timestamp;
use runtime::listen::{AcceptOptions, TlsConnection, bind, serve_tls};
use runtime::telemetry::Chain;
use runtime::tls::{ClientCertificates, PeerCertificate, ServerTls};
use runtime::{Clock, Drain};
use rustls::ServerConfig;
use site::{LinkParty, Site};
use tokio::net::TcpListener;
use tracing::{debug, error, info, warn};

use crate::listener::{HostCertificate, ListenError, dialled};
use crate::log::SITE_LINK;

pub use self::config::SiteLinkConfig;
pub use self::links::Links;

/// The site link, not bound yet.
#[derive(Debug)]
pub struct SiteLink;

/// A listening site link that does not serve yet.
pub struct BoundSiteLink {
    listener: std::net::TcpListener,
    address: SocketAddr,
    certificate: HostCertificate,
    tls: Arc<ServerConfig>,
    options: AcceptOptions,
    site: Site,
    links: Links,
}

impl SiteLink {
    /// Has a certificate issued by the site and listens.
    #[expect(clippy::unused_async, reason = "roles are bound alike, and others wait for something")]
    pub async fn bind(
        config: SiteLinkConfig,
        site: Site,
        clock: Clock,
    ) -> Result<BoundSiteLink, ListenError> {
        let certificate = HostCertificate::issue(&site, &config.host)?;
        let tls = ServerTls::new(clock, certificate.shown())
            .client_certificates(ClientCertificates::ProveKeyOnly)
            .alpn(["http/1.1"])
            .build()?;
        let listener = bind(config.listen)?;
        let address = listener.local_addr().map_err(ListenError::Address)?;
        let links = Links::at(vec![dialled(&config.host, address)]);
        let options = AcceptOptions::new(config.max_connections);
        Ok(BoundSiteLink { listener, address, certificate, tls, options, site, links })
    }
}

impl std::fmt::Debug for BoundSiteLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BoundSiteLink").field("address", &self.address).finish_non_exhaustive()
    }
}

impl BoundSiteLink {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What is known of the links, for the operator API.
    pub fn links(&self) -> Links {
        self.links.clone()
    }

    /// Serves until the drain begins; then every link is closed, and connection points dial again.
    pub async fn run(self, drain: Drain) {
        let listener = match TcpListener::from_std(self.listener) {
            Ok(listener) => listener,
            Err(error) => {
                error!(component = SITE_LINK, %error, "site link cannot serve");
                return;
            }
        };
        info!(component = SITE_LINK, address = %self.address, "site link is served");
        let (site, links, connections) = (self.site, self.links, drain.clone());
        let serve = serve_tls(listener, self.tls, self.options, drain.clone(), move |stream, peer| {
            let (site, links, drain) = (site.clone(), links.clone(), connections.clone());
            async move { connection(&site, &links, stream, peer, &drain).await }
        });
        tokio::select! {
            () = serve => {}
            () = self.certificate.keep_fresh() => {}
        }
    }
}

/// One connection, from the finished handshake to its end.
async fn connection(site: &Site, links: &Links, stream: TlsConnection, peer: SocketAddr, drain: &Drain) {
    let chain: Vec<Vec<u8>> = stream
        .get_ref()
        .1
        .peer_certificates()
        .unwrap_or_default()
        .iter()
        .take(3)
        .map(|der| der.to_vec())
        .collect();
    let party = match authenticate(site, &chain).await {
        Ok(party) => party,
        Err(error) => {
            error!(component = SITE_LINK, error = %Chain(&error), "connection point not looked up");
            return;
        }
    };
    // A stranger gets the same answer as a connection point that was removed: none that helps.
    let Some(io) = upgrade::accept(stream, party.is_some()).await else {
        debug!(component = SITE_LINK, %peer, "no link was made");
        return;
    };
    let Some(party) = party else { return };
    let joined = links.join(party.id, site.now());
    info!(component = SITE_LINK, connection_point = party.name, %peer, "connection point is linked");
    let ended = session::Session { site, links, party: &party, chain: &chain }.run(io, &joined, drain).await;
    if ended.is_ordinary() {
        info!(component = SITE_LINK, connection_point = party.name, reason = %ended, "link ended");
    } else {
        warn!(component = SITE_LINK, connection_point = party.name, reason = %ended, "link ended");
    }
}

/// The connection point that shows this chain, if it may be linked.
async fn authenticate(site: &Site, chain: &[Vec<u8>]) -> Result<Option<LinkParty>, site::db::DbError> {
    let Some(party) = site.authenticate_connector(chain).await? else { return Ok(None) };
    let names = chain.first().and_then(|leaf| PeerCertificate::parse(&leaf.as_slice().into()).ok());
    let expected = connector_name(party.id);
    let is_named =
        names.is_some_and(|leaf| leaf.dns_names().iter().any(|name| name.eq_ignore_ascii_case(&expected)));
    Ok(is_named.then_some(party))
}

/// Text of a connection point, fit for a store: of bounded length, without control characters.
fn bounded(text: &str, most: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(most).collect()
}

/// The moment of something that a connection point reports, which may not lie ahead.
fn not_ahead(moment: Timestamp, now: Timestamp) -> Timestamp {
    moment.min(now)
}

#[cfg(test)]
mod tests;
