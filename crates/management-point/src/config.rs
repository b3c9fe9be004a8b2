//! The section `[management-point]` of a configuration file.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use runtime::config::HumanDuration;
use runtime::tls::CertificateFiles;
use serde::Deserialize;

/// Connections at once unless the file says otherwise.
const MAX_CONNECTIONS: usize = 10_000;
/// Requests at once unless the file says otherwise.
const MAX_REQUESTS: usize = 256;
/// Time that a sender has in hand for a request's body unless the file says otherwise.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// The port of HTTPS, which no address names.
pub(crate) const HTTPS_PORT: u16 = 443;

/// A management point of this host. How it speaks to clients (its mode) is not here: that is an
/// attribute of its role at the site, which operators change while it runs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Name of its role at the site. `None`: the only role there is, or the one whose internal URL
    /// leads here.
    pub role: Option<String>,
    /// Address and port that clients inside reach by HTTP.
    pub listen: SocketAddr,
    /// The same for HTTPS, which is served in the modes `ehttp` and `https` only. `None`: port 443
    /// beside [`Self::listen`], or any free port where that one asks for any.
    pub listen_tls: Option<SocketAddr>,
    /// PEM file with the certificate for mode `https`, its chain behind it. In mode `ehttp` the site
    /// makes one by itself.
    pub certificate: Option<PathBuf>,
    /// PEM file with its key, mode 0600.
    pub key: Option<PathBuf>,
    /// `host` or `host:port` by which clients inside know this management point; the port is that of
    /// HTTP. `None`: the address that it listens on.
    pub public_name: Option<String>,
    /// Connections at once; one above is closed at once, and its device tries again later.
    pub max_connections: usize,
    /// Requests answered at once. Four times as many wait their turn, ten seconds at most; beyond either they
    /// get 503. A quarter is kept for devices that are known, whatever rolls out by bulk registration tokens.
    /// Bounds memory: a message may take some 40 MB while it is read.
    pub max_requests: usize,
    /// How long a sender may keep the body of a request waiting; beyond it 408. Each KiB that it sends gives
    /// it a second back, up to this time, so that a poor line is no reason to refuse a long body.
    pub body_timeout: HumanDuration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            role: None,
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 80),
            listen_tls: None,
            certificate: None,
            key: None,
            public_name: None,
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

    /// Where HTTPS is listened for.
    pub(crate) fn tls_address(&self) -> SocketAddr {
        let port = if self.listen.port() == 0 { 0 } else { HTTPS_PORT };
        self.listen_tls.unwrap_or_else(|| SocketAddr::new(self.listen.ip(), port))
    }

    /// The certificate of mode `https`, where both files are named.
    pub(crate) fn certificate_files(&self) -> Option<CertificateFiles> {
        let (certificate, key) = (self.certificate.clone()?, self.key.clone()?);
        Some(CertificateFiles { certificate, key })
    }
}

/// The host part of `host`, `host:port` or `[address]:port`, without brackets.
pub(crate) fn host_of(name: &str) -> &str {
    let host = match name.rsplit_once(':') {
        // `[::1]` has colons inside its brackets and none that begins a port.
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => name,
    };
    host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_without_keys_is_the_default_and_a_misspelt_key_is_an_error() {
        assert_eq!(serde_json::from_str::<Config>("{}").unwrap(), Config::default());
        assert!(serde_json::from_str::<Config>(r#"{"lisen":"127.0.0.1:80"}"#).is_err());
        assert!(serde_json::from_str::<Config>(r#"{"approve-everything":true}"#).is_err());
    }

    #[test]
    fn without_a_public_name_clients_are_told_the_address() {
        let bound = "127.0.0.1:8080".parse().unwrap();
        assert_eq!(Config::default().name_at(bound), "127.0.0.1:8080");
        let named = Config { public_name: Some("mp1.example.org".into()), ..Config::default() };
        assert_eq!(named.name_at(bound), "mp1.example.org");
    }

    #[test]
    fn https_is_beside_http_unless_it_is_put_elsewhere() {
        let at = |listen: &str, tls: Option<&str>| {
            let listen_tls = tls.map(|address| address.parse().unwrap());
            Config { listen: listen.parse().unwrap(), listen_tls, ..Config::default() }.tls_address()
        };
        assert_eq!(at("192.0.2.1:80", None), "192.0.2.1:443".parse().unwrap());
        assert_eq!(at("127.0.0.1:0", None), "127.0.0.1:0".parse().unwrap());
        assert_eq!(at("127.0.0.1:0", Some("[::1]:8443")), "[::1]:8443".parse().unwrap());
    }

    #[test]
    fn a_host_is_told_from_its_port() {
        for (name, host) in [
            ("mp", "mp"),
            ("mp:80", "mp"),
            ("[::1]:80", "::1"),
            ("[::1]", "::1"),
            ("192.0.2.1:1", "192.0.2.1"),
        ] {
            assert_eq!(host_of(name), host);
        }
    }
}
