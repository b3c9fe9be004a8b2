//! The section `[site-link]` of a configuration file.

use std::net::{Ipv4Addr, SocketAddr};

use serde::Deserialize;

/// Section `[site-link]`: the listener that connection points dial.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SiteLinkConfig {
    /// Address and port. Default 0.0.0.0:8444. Gateways never dial it, so it needs no port that
    /// is reached from the internet.
    pub listen: SocketAddr,
    /// `host` or `host:port` by which connection points reach this host; stands in their bundles
    /// and in the certificate. Without a port, that of `listen`. Default `localhost`.
    pub host: String,
    /// Connections at once, default 256; one above is closed at once. A site has a few connection
    /// points.
    pub max_connections: usize,
}

impl Default for SiteLinkConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8444)),
            host: "localhost".to_owned(),
            max_connections: 256,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_without_keys_is_the_default_and_a_misspelt_key_is_an_error() {
        assert_eq!(serde_json::from_str::<SiteLinkConfig>("{}").unwrap(), SiteLinkConfig::default());
        assert!(serde_json::from_str::<SiteLinkConfig>(r#"{"certificate":"x"}"#).is_err());
    }
}
