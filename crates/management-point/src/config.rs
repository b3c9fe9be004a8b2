//! The section `[management-point]` of a configuration file.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use runtime::config::HumanDuration;
use serde::Deserialize;

/// Connections at once unless the file says otherwise.
const MAX_CONNECTIONS: usize = 10_000;
/// Requests at once unless the file says otherwise.
const MAX_REQUESTS: usize = 256;
/// Time for a request's body unless the file says otherwise.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// A management point of this host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address and port that clients inside, and connection points, reach.
    pub listen: SocketAddr,
    /// `host` or `host:port` by which clients inside know this management point. `None`: the
    /// address that it listens on.
    pub public_name: Option<String>,
    /// How clients reach it.
    pub mode: Mode,
    /// Connections at once; one above is closed at once, and its device tries again later.
    pub max_connections: usize,
    /// Requests answered at once; others wait their turn, and after ten seconds get 503. Bounds memory: a
    /// message may take some 40 MB while it is read.
    pub max_requests: usize,
    /// Longest time for the body of a request; a slower one is refused.
    pub body_timeout: HumanDuration,
}

/// How clients reach a management point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Plain HTTP inside; messages carry their own signatures.
    #[default]
    Http,
}

impl Mode {
    /// `SSLState` in lists of management points: 0 is HTTP [talk].
    pub(crate) const fn ssl_state(self) -> u32 {
        match self {
            Self::Http => 0,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 80),
            public_name: None,
            mode: Mode::Http,
            max_connections: MAX_CONNECTIONS,
            max_requests: MAX_REQUESTS,
            body_timeout: HumanDuration::new(BODY_TIMEOUT),
        }
    }
}

impl Config {
    /// The name that clients inside are told, once the listener's own address is known.
    pub(crate) fn name_at(&self, bound: SocketAddr) -> String {
        self.public_name.clone().unwrap_or_else(|| bound.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_without_keys_is_the_default_and_a_misspelt_key_is_an_error() {
        assert_eq!(serde_json::from_str::<Config>("{}").unwrap(), Config::default());
        assert!(serde_json::from_str::<Config>(r#"{"lisen":"127.0.0.1:80"}"#).is_err());
        assert!(serde_json::from_str::<Config>(r#"{"mode":"approve-everything"}"#).is_err());
    }

    #[test]
    fn without_a_public_name_clients_are_told_the_address() {
        let bound = "127.0.0.1:8080".parse().unwrap();
        assert_eq!(Config::default().name_at(bound), "127.0.0.1:8080");
        let named = Config { public_name: Some("mp1.example.org".into()), ..Config::default() };
        assert_eq!(named.name_at(bound), "mp1.example.org");
    }
}
