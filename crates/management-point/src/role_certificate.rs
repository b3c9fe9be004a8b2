//! The certificate that the HTTPS listener shows: made by the site (enhanced HTTP) or read from files
//! (HTTPS mode), renewed and exchanged while it serves.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use proto::combination::Mode;
use proto::id::Thumbprint;
use proto::time::Timestamp;
use proto::trust::Purpose;
use runtime::tls::{CertificateFiles, LoadError, MaterialError, OwnCertificate};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use site::Site;
use site::keys::{CertificateError, ServerNames};

/// What the listener shows; nothing: it refuses every handshake. New handshakes see the newest,
/// connections that exist go on.
#[derive(Debug, Default)]
pub(crate) struct Shown(RwLock<Option<Arc<CertifiedKey>>>);

impl Shown {
    fn set(&self, certificate: Option<Arc<CertifiedKey>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = certificate;
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Why there is no certificate to show, or no newer one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RoleCertificateError {
    /// The mode wants files and the configuration names none.
    #[error("mode https needs `certificate` and `key` in the configuration")]
    NoFiles,
    /// The files cannot be used.
    #[error("the role's certificate was not read")]
    Files(#[from] LoadError),
    /// The site made none.
    #[error("the site made no role certificate")]
    Issue(#[from] CertificateError),
    /// What the site made cannot be shown.
    #[error("the role certificate of the site cannot be used")]
    Material(#[from] MaterialError),
}

/// What became of the certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// What was shown is shown still.
    None,
    /// From now on this one is shown.
    Shows {
        /// Its thumbprint.
        thumbprint: Thumbprint,
        /// Its end.
        until: Timestamp,
    },
    /// From now on none.
    Nothing,
}

/// Keeps the right certificate in [`Shown`].
#[derive(Debug)]
pub(crate) struct Keeper {
    site: Site,
    files: Option<CertificateFiles>,
    shown: Arc<Shown>,
    source: Source,
}

/// Where the certificate that is shown came from.
#[derive(Debug)]
enum Source {
    Nothing,
    Issued { names: ServerNames, renew_at: Timestamp },
    Files { thumbprint: Thumbprint },
}

impl Keeper {
    pub(crate) fn new(site: Site, files: Option<CertificateFiles>, shown: Arc<Shown>) -> Self {
        Self { site, files, shown, source: Source::Nothing }
    }

    /// Does what mode and time ask for. On an error the old certificate stays, unless the mode is
    /// another one now: a site-issued certificate never stands in for a PKI's, nor the other way.
    pub(crate) fn keep(
        &mut self,
        mode: Mode,
        names: &ServerNames,
        now: Timestamp,
    ) -> Result<Change, RoleCertificateError> {
        match (mode, &self.source) {
            (Mode::Http, Source::Nothing) => return Ok(Change::None),
            (Mode::Ehttp, Source::Issued { names: had, renew_at }) if had == names && now < *renew_at => {
                return Ok(Change::None);
            }
            (Mode::Ehttp, Source::Issued { .. }) | (Mode::Https, Source::Files { .. }) => {}
            _ => self.show_nothing(),
        }
        match mode {
            Mode::Http => Ok(Change::Nothing),
            Mode::Ehttp => self.issue(names, now),
            Mode::Https => self.read(),
        }
    }

    fn issue(&mut self, names: &ServerNames, now: Timestamp) -> Result<Change, RoleCertificateError> {
        let issued = self.site.issue_server_certificate(Purpose::RoleTls, names)?;
        let chain = issued.chain.into_iter().map(CertificateDer::from).collect();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(issued.key.to_vec()));
        let own = OwnCertificate::from_der(chain, key)?;
        let until = Timestamp::from_seconds(own.leaf().not_after());
        self.source = Source::Issued { names: names.clone(), renew_at: renewal(now, until) };
        Ok(self.show(&own))
    }

    fn read(&mut self) -> Result<Change, RoleCertificateError> {
        let files = self.files.as_ref().ok_or(RoleCertificateError::NoFiles)?;
        let own = files.load()?;
        let thumbprint = Thumbprint::from_bytes(own.leaf().thumbprint_sha256());
        if matches!(&self.source, Source::Files { thumbprint: had } if *had == thumbprint) {
            return Ok(Change::None);
        }
        self.source = Source::Files { thumbprint };
        Ok(self.show(&own))
    }

    fn show(&self, own: &OwnCertificate) -> Change {
        self.shown.set(Some(Arc::clone(own.certified())));
        Change::Shows {
            thumbprint: Thumbprint::from_bytes(own.leaf().thumbprint_sha256()),
            until: Timestamp::from_seconds(own.leaf().not_after()),
        }
    }

    fn show_nothing(&mut self) {
        self.source = Source::Nothing;
        self.shown.set(None);
    }
}

/// When two thirds of a certificate's life are over.
fn renewal(now: Timestamp, until: Timestamp) -> Timestamp {
    let life = until.since(now);
    now.plus(Duration::from_secs(life.as_secs() / 3 * 2))
}

/// The names of a certificate: hosts and addresses apart, each once.
pub(crate) fn server_names<'n>(hosts: impl IntoIterator<Item = &'n str>) -> ServerNames {
    let mut names = ServerNames::default();
    for host in hosts {
        match host.parse::<IpAddr>() {
            // "Everywhere" is no address that anybody dials.
            Ok(address) if address.is_unspecified() || names.addresses.contains(&address) => {}
            Ok(address) => names.addresses.push(address),
            Err(_) => {
                let host = host.to_ascii_lowercase();
                if !host.is_empty() && !names.dns.contains(&host) {
                    names.dns.push(host);
                }
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_after_two_thirds_of_its_life() {
        let at = Timestamp::from_seconds;
        assert_eq!(renewal(at(100), at(1000)), at(700));
        assert_eq!(renewal(at(1000), at(100)), at(1000), "one that is over is renewed at once");
    }

    #[test]
    fn names_and_addresses_stand_once_each() {
        let names = server_names(["MP.example.org", "192.0.2.1", "mp.example.org", "0.0.0.0", "::1", ""]);
        assert_eq!(names.dns, ["mp.example.org"]);
        assert_eq!(names.addresses, ["192.0.2.1".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()]);
    }
}
