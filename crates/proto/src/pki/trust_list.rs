//! The authorities that an operator told the site to trust, as they are published.

use serde::{Deserialize, Serialize};

use crate::id::Thumbprint;
use crate::snapshot::base64_bytes;

/// One authority's certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedCa {
    /// DER.
    #[serde(with = "base64_bytes")]
    pub der: Vec<u8>,
    /// Whether chains may end here. An intermediate only helps to build the path, because clients
    /// often leave it out.
    pub root: bool,
}

impl TrustedCa {
    /// SHA-256 of the certificate: its name in commands and logs.
    pub fn id(&self) -> Thumbprint {
        Thumbprint::of(&self.der)
    }
}

/// The complete list, for one purpose: the certificates of devices (R8).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustList {
    /// In the order in which they were added.
    pub authorities: Vec<TrustedCa>,
}
