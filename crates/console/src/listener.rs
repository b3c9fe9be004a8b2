//! What both listeners of a site's host share: the certificate that they show, and its renewal.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use proto::link::SITE_NAME;
use proto::trust::Purpose;
use runtime::telemetry::Chain;
use runtime::tls::{MaterialError, OwnCertificate, ServerCertificate, TlsSetupError};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use site::Site;
use site::keys::{CertificateError, ServerNames};
use tokio::time::MissedTickBehavior;
use tracing::{error, info};

/// How often the age of the certificate is looked at, which costs nothing: how long a host that slept or
/// was moved in time shows one that is not good.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A listener of the site's host could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The site did not issue the certificate.
    #[error("no certificate for the listener")]
    Certificate(#[from] CertificateError),
    /// The certificate cannot be shown.
    #[error("the listener's certificate cannot be used")]
    Material(#[from] MaterialError),
    /// TLS cannot be set up.
    #[error("the listener cannot speak TLS")]
    Tls(#[from] TlsSetupError),
    /// The address is not to be had.
    #[error("the listener is not bound")]
    Bind(#[from] runtime::listen::BindError),
    /// The socket does not tell its address.
    #[error("the listener has no address")]
    Address(#[source] io::Error),
}

/// The certificate that a listener shows: issued by the site for this process, never stored.
#[derive(Debug)]
pub(crate) struct HostCertificate {
    site: Site,
    names: ServerNames,
    shown: Arc<ServerCertificate>,
}

impl HostCertificate {
    /// Has a certificate issued for `host` (a name or an address, with or without a port), this
    /// machine's loopback names, and the site's own name.
    pub(crate) fn issue(site: &Site, host: &str) -> Result<Self, ListenError> {
        let names = server_names(host);
        let shown = Arc::new(ServerCertificate::new(issue(site, &names)?));
        Ok(Self { site: site.clone(), names, shown })
    }

    /// What the TLS configuration takes.
    pub(crate) fn shown(&self) -> Arc<ServerCertificate> {
        Arc::clone(&self.shown)
    }

    /// Renews the certificate when its time comes, for as long as it is polled. Connections that
    /// exist go on undisturbed.
    pub(crate) async fn keep_fresh(&self) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let leaf = self.shown.current();
            let (from, to) = (leaf.leaf().not_before(), leaf.leaf().not_after());
            if !is_due(from, to, self.site.now().seconds()) {
                continue;
            }
            match issue(&self.site, &self.names) {
                Ok(certificate) => {
                    self.shown.replace(certificate);
                    info!("listener's certificate renewed");
                }
                Err(error) => error!(error = %Chain(&error), "listener's certificate not renewed"),
            }
        }
    }
}

/// Whether a certificate with these bounds (seconds) should be replaced: half of its life is over,
/// or its life has not begun by a clock that was set back.
fn is_due(not_before: i64, not_after: i64, now: i64) -> bool {
    now < not_before || now > not_before.midpoint(not_after)
}

fn issue(site: &Site, names: &ServerNames) -> Result<OwnCertificate, ListenError> {
    let issued = site.issue_server_certificate(Purpose::LinkSite, names)?;
    let chain = issued.chain.into_iter().map(CertificateDer::from).collect();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(issued.key.to_vec()));
    Ok(OwnCertificate::from_der(chain, key)?)
}

fn server_names(host: &str) -> ServerNames {
    let mut names = ServerNames {
        dns: vec!["localhost".to_owned(), SITE_NAME.to_owned()],
        addresses: vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
    };
    let host = host_part(host);
    match host.parse::<IpAddr>() {
        Ok(address) if names.addresses.contains(&address) => {}
        Ok(address) => names.addresses.push(address),
        Err(_) if host.is_empty() || names.dns.iter().any(|name| name.eq_ignore_ascii_case(host)) => {}
        Err(_) => names.dns.push(host.to_owned()),
    }
    names
}

/// The host of `host`, `host:port`, `address`, `[address]` or `[address]:port`.
fn host_part(text: &str) -> &str {
    if let Some(bracketed) = text.strip_prefix('[') {
        return bracketed.split(']').next().unwrap_or_default();
    }
    match text.split_once(':') {
        // More than one colon without brackets is an IPv6 address.
        Some((_, rest)) if rest.contains(':') => text,
        Some((host, _)) => host,
        None => text,
    }
}

/// `host` as others dial it: with the listener's port, unless it names one.
pub(crate) fn dialled(host: &str, bound: SocketAddr) -> String {
    let bare = host_part(host);
    let names_port = if host.starts_with('[') { host.contains("]:") } else { bare.len() < host.len() };
    match bare {
        _ if names_port => host.to_owned(),
        _ if bare.contains(':') => format!("[{bare}]:{}", bound.port()),
        _ => format!("{bare}:{}", bound.port()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_dialled_with_the_listeners_port_unless_it_names_one() {
        let bound = "0.0.0.0:8444".parse().unwrap();
        for (host, expected) in [
            ("site.example", "site.example:8444"),
            ("site.example:443", "site.example:443"),
            ("192.0.2.1", "192.0.2.1:8444"),
            ("fd00::1", "[fd00::1]:8444"),
            ("[fd00::1]", "[fd00::1]:8444"),
            ("[fd00::1]:443", "[fd00::1]:443"),
        ] {
            assert_eq!(dialled(host, bound), expected, "{host}");
        }
    }

    #[test]
    fn a_certificate_speaks_for_loopback_the_site_and_the_host_once_each() {
        assert_eq!(server_names("LOCALHOST:1").dns, ["localhost", SITE_NAME]);
        assert_eq!(server_names("site.example:8443").dns, ["localhost", SITE_NAME, "site.example"]);
        let named = server_names("[fd00::1]:8443");
        assert_eq!(named.dns.len(), 2);
        assert_eq!(named.addresses.last(), Some(&"fd00::1".parse().unwrap()));
        assert_eq!(server_names("127.0.0.1").addresses.len(), 2);
    }

    #[test]
    fn a_certificate_is_renewed_in_the_middle_of_its_life_and_when_the_clock_was_set_back() {
        assert!(!is_due(0, 100, 50) && is_due(0, 100, 51) && is_due(10, 100, 9));
    }
}
