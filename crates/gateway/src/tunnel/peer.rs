//! Who is at the other end of a tunnel, judged by the certificate that it showed.

use std::collections::HashSet;

use proto::id::{Guid, Thumbprint};
use proto::link;
use proto::time::Timestamp;
use proto::trust::{Purpose, SiteRoot, TrustError};
use runtime::tls::PeerCertificate;
use rustls::pki_types::CertificateDer;

/// A connection point that has proved itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Its id, from its certificate.
    pub(crate) connector: Guid,
    /// Its certificate, by which the site withdraws it.
    pub(crate) thumbprint: Thumbprint,
}

/// Why somebody who asked for a tunnel gets none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PeerError {
    /// No certificate, or one that does not speak for the site as a connection point.
    #[error("the certificate is not that of a connection point of this site")]
    Trust(#[from] TrustError),
    /// The certificate names no connection point.
    #[error("the certificate names no connection point")]
    Name,
    /// The site withdrew it.
    #[error("the site withdrew the certificate {0}")]
    Withdrawn(Thumbprint),
}

impl Peer {
    /// Judges a chain, leaf first, whose key the handshake has proved.
    pub(crate) fn judge(
        chain: &[CertificateDer<'_>],
        root: &SiteRoot,
        withdrawn: Option<&HashSet<Thumbprint>>,
        now: Timestamp,
    ) -> Result<Self, PeerError> {
        let leaf = chain.first().ok_or(TrustError::NoCertificate)?;
        // Only so many are looked at.
        let chain: Vec<Vec<u8>> = chain.iter().take(3).map(|der| der.to_vec()).collect();
        root.verify(&chain, Purpose::LinkConnector, now)?;
        let certificate = PeerCertificate::parse(leaf).map_err(|_| PeerError::Name)?;
        let connector = certificate.dns_names().iter().find_map(|name| connector_of(name));
        let peer = Self { connector: connector.ok_or(PeerError::Name)?, thumbprint: Thumbprint::of(leaf) };
        if withdrawn.is_some_and(|withdrawn| withdrawn.contains(&peer.thumbprint)) {
            return Err(PeerError::Withdrawn(peer.thumbprint));
        }
        Ok(peer)
    }
}

/// The id in a name that [`link::connector_name`] made.
fn connector_of(name: &str) -> Option<Guid> {
    let id: Guid = name.split('.').next()?.parse().ok()?;
    (link::connector_name(id) == name).then_some(id)
}
