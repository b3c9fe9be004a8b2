//! The file that an operator carries to a gateway's or a connection point's host.
//!
//! It holds that host's own link key, so it is written with mode 0600 and belongs on that
//! host alone. It holds no key of the site.

use serde::{Deserialize, Serialize};

use crate::id::{Guid, SiteCode};
use crate::snapshot::Signed;

/// A host's own certificate and key for links.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkIdentity {
    /// Certificate chain as PEM, leaf first, without the root.
    pub certificate_pem: String,
    /// Private key as PEM (PKCS#8).
    pub key_pem: String,
}

impl std::fmt::Debug for LinkIdentity {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkIdentity").field("certificate_pem", &self.certificate_pem).finish_non_exhaustive()
    }
}

/// What `roamgate gateway add` writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayBundle {
    /// Always `roamgate-gateway/1`.
    pub format: String,
    /// The site.
    pub site_code: SiteCode,
    /// The gateway's id.
    pub gateway: Guid,
    /// The gateway's name.
    pub name: String,
    /// The site root (PEM): judges publications and connection points.
    pub site_root_pem: String,
    /// Its own end of a tunnel.
    pub link: LinkIdentity,
    /// What the site published when the bundle was written.
    pub snapshot: Signed,
}

impl GatewayBundle {
    /// Value of `format`.
    pub const FORMAT: &'static str = "roamgate-gateway/1";
}

/// What `roamgate connection-point add` writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectorBundle {
    /// Always `roamgate-connection-point/1`.
    pub format: String,
    /// The site.
    pub site_code: SiteCode,
    /// The connection point's id.
    pub connector: Guid,
    /// The connection point's name.
    pub name: String,
    /// The site root (PEM): judges gateways and the site link.
    pub site_root_pem: String,
    /// Its own end of tunnels and of the site link.
    pub link: LinkIdentity,
    /// `host:port` of the site link, in the order of trying.
    pub site_links: Vec<String>,
}

impl ConnectorBundle {
    /// Value of `format`.
    pub const FORMAT: &'static str = "roamgate-connection-point/1";
}
