//! The certificate that a listener shows, exchanged while it serves.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::{CertificateFiles, LoadError, OwnCertificate};

/// A server's certificate. New handshakes see the newest; connections that exist go on undisturbed.
#[derive(Debug)]
pub struct ServerCertificate {
    /// Where it is read from again; `None` for one that was given by value.
    files: Option<CertificateFiles>,
    current: ArcSwap<OwnCertificate>,
}

/// What reading the files again brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// Another certificate than before is shown from now on.
    Changed,
    /// The files hold what was shown already.
    Unchanged,
}

impl ServerCertificate {
    /// Reads `files` now and again at each [`ServerCertificate::reload`].
    pub fn from_files(files: CertificateFiles) -> Result<Self, LoadError> {
        let current = ArcSwap::from_pointee(files.load()?);
        Ok(Self { files: Some(files), current })
    }

    /// Shows `certificate` until [`ServerCertificate::replace`].
    pub fn new(certificate: OwnCertificate) -> Self {
        Self { files: None, current: ArcSwap::from_pointee(certificate) }
    }

    /// Reads the files again. When that fails the old certificate stays in use, and the error says why; a
    /// role reports it and goes on.
    pub fn reload(&self) -> Result<Reloaded, LoadError> {
        let Some(files) = &self.files else { return Ok(Reloaded::Unchanged) };
        Ok(self.replace(files.load()?))
    }

    /// Shows `certificate` from now on.
    pub fn replace(&self, certificate: OwnCertificate) -> Reloaded {
        let new = Arc::new(certificate);
        let old = self.current.swap(Arc::clone(&new));
        if old.chain() == new.chain() { Reloaded::Unchanged } else { Reloaded::Changed }
    }

    /// What is shown now.
    pub fn current(&self) -> Arc<OwnCertificate> {
        self.current.load_full()
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(self.current.load().certified()))
    }
}

/// Shows one certificate to most, and others to those who ask for certain protocols by ALPN: on one port the
/// public one to devices and the site-issued one to connectors.
///
/// The same protocol names belong into [`super::ServerTls::alpn`].
#[derive(Debug)]
pub struct CertificateByAlpn {
    default: Arc<ServerCertificate>,
    special: Vec<(Vec<u8>, Arc<ServerCertificate>)>,
}

impl CertificateByAlpn {
    /// Shows `default` to all, as long as nothing is added.
    pub fn new(default: Arc<ServerCertificate>) -> Self {
        Self { default, special: Vec::new() }
    }

    /// Shows `certificate` to those who offer `protocol`. Of several matches the first one added counts.
    #[must_use]
    pub fn with(mut self, protocol: impl Into<Vec<u8>>, certificate: Arc<ServerCertificate>) -> Self {
        self.special.push((protocol.into(), certificate));
        self
    }

    fn choose<'a>(&self, mut offered: impl Iterator<Item = &'a [u8]>) -> &ServerCertificate {
        if self.special.is_empty() {
            return &self.default;
        }
        let matching = offered.find_map(|offer| self.special.iter().find(|(protocol, _)| protocol == offer));
        matching.map_or(&self.default, |(_, certificate)| certificate)
    }
}

impl ResolvesServerCert for CertificateByAlpn {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let chosen = self.choose(client_hello.alpn().into_iter().flatten());
        Some(Arc::clone(chosen.current.load().certified()))
    }
}
