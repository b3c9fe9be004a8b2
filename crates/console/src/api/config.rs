//! The section `[operator-api]` of a configuration file.

use std::net::{Ipv4Addr, SocketAddr};

use serde::Deserialize;

/// Section `[operator-api]`: the listener that operators' commands call.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OperatorApiConfig {
    /// Address and port. Default 127.0.0.1:8443: who wants operators on other hosts says so.
    pub listen: SocketAddr,
    /// Name or address by which operators reach this host; stands in the certificate, besides
    /// `localhost`. Default `localhost`.
    pub host: String,
    /// Connections at once, default 256; one above is closed at once.
    pub max_connections: usize,
}

impl Default for OperatorApiConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8443)),
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
        assert_eq!(serde_json::from_str::<OperatorApiConfig>("{}").unwrap(), OperatorApiConfig::default());
        assert!(serde_json::from_str::<OperatorApiConfig>(r#"{"key":"x"}"#).is_err());
    }
}
