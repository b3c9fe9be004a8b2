//! What a dialer speaks.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, SignatureScheme};

use super::certificate::OwnCertificate;
use super::{TlsSetupError, VERSIONS, provider};
use crate::clock::Clock;

/// Largest file of roots that is read, in bytes. The bundle of a whole operating system has some 250 kB.
const ROOTS_SIZE_LIMIT: u64 = 4 * 1024 * 1024;

/// Why roots could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// The file could not be read.
    #[error("file {} of trusted certificates cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// It holds no certificate in PEM.
    #[error("no certificate is among the trusted ones{}; the file must be PEM", of(path.as_ref()))]
    Empty {
        /// The file, if there was one.
        path: Option<PathBuf>,
    },
    /// A certificate in it is damaged.
    #[error("a trusted certificate{} is damaged", of(path.as_ref()))]
    Damaged {
        /// The file, if there was one.
        path: Option<PathBuf>,
        /// What rustls said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

fn of(path: Option<&PathBuf>) -> String {
    path.map_or_else(String::new, |path| format!(" of {}", path.display()))
}

/// All certificates of PEM files, as roots that servers' chains may lead to.
pub fn roots_from_pem_files<P: AsRef<Path>>(
    paths: impl IntoIterator<Item = P>,
) -> Result<RootCertStore, RootsError> {
    let mut roots = RootCertStore::empty();
    for path in paths {
        let path = path.as_ref();
        let failed = |source| RootsError::Read { path: path.to_owned(), source };
        let length = fs::metadata(path).map_err(failed)?.len();
        if length > ROOTS_SIZE_LIMIT {
            return Err(failed(io::ErrorKind::FileTooLarge.into()));
        }
        add_pem(&mut roots, &fs::read(path).map_err(failed)?, Some(path))?;
    }
    Ok(roots)
}

/// All certificates of a PEM text, as roots.
pub fn roots_from_pem(text: &[u8]) -> Result<RootCertStore, RootsError> {
    let mut roots = RootCertStore::empty();
    add_pem(&mut roots, text, None)?;
    Ok(roots)
}

/// Certificates as roots.
pub fn roots_from_der<'a>(
    certificates: impl IntoIterator<Item = CertificateDer<'a>>,
) -> Result<RootCertStore, RootsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        add(&mut roots, certificate, None)?;
    }
    Ok(roots)
}

fn add_pem(roots: &mut RootCertStore, text: &[u8], path: Option<&Path>) -> Result<(), RootsError> {
    let before = roots.len();
    for certificate in CertificateDer::pem_slice_iter(text) {
        let certificate = certificate.map_err(|source| RootsError::Damaged {
            path: path.map(Path::to_owned),
            source: source.into(),
        })?;
        add(roots, certificate, path)?;
    }
    if roots.len() == before {
        return Err(RootsError::Empty { path: path.map(Path::to_owned) });
    }
    Ok(())
}

fn add(
    roots: &mut RootCertStore,
    certificate: CertificateDer<'_>,
    path: Option<&Path>,
) -> Result<(), RootsError> {
    roots
        .add(certificate)
        .map_err(|source| RootsError::Damaged { path: path.map(Path::to_owned), source: source.into() })
}

/// How a dialer does TLS; [`ClientTls::build`] makes of it what rustls takes.
#[derive(Debug)]
pub struct ClientTls {
    clock: Clock,
    trust: Trust,
    certificate: Option<Arc<CertifiedKey>>,
    alpn: Vec<Vec<u8>>,
    resumes: bool,
}

#[derive(Debug)]
enum Trust {
    Roots(RootCertStore),
    Verifier(Arc<dyn ServerCertVerifier>),
}

impl ClientTls {
    /// Trusts servers whose chain leads to one of `roots` and names them.
    pub fn with_roots(clock: Clock, roots: RootCertStore) -> Self {
        Self::new(clock, Trust::Roots(roots))
    }

    /// Leaves the judgement to `verifier`, for instance that of the operating system. Build it with
    /// [`provider`].
    pub fn with_verifier(clock: Clock, verifier: Arc<dyn ServerCertVerifier>) -> Self {
        Self::new(clock, Trust::Verifier(verifier))
    }

    fn new(clock: Clock, trust: Trust) -> Self {
        Self { clock, trust, certificate: None, alpn: Vec::new(), resumes: true }
    }

    /// Shows `certificate` to every server that asks, whatever authorities it hints at: ours are not among
    /// those that a server would name.
    #[must_use]
    pub fn certificate(mut self, certificate: &OwnCertificate) -> Self {
        self.certificate = Some(Arc::clone(certificate.certified()));
        self
    }

    /// The protocols to offer, the most wanted first.
    #[must_use]
    pub fn alpn<P: Into<Vec<u8>>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.alpn = protocols.into_iter().map(Into::into).collect();
        self
    }

    /// Makes a full handshake each time.
    #[must_use]
    pub fn without_resumption(mut self) -> Self {
        self.resumes = false;
        self
    }

    /// The configuration, to be shared by all connections so that sessions can be resumed.
    pub fn build(self) -> Result<Arc<ClientConfig>, TlsSetupError> {
        let verifier = match self.trust {
            Trust::Verifier(verifier) => verifier,
            Trust::Roots(roots) => WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
                .build()
                .map_err(|error| rustls::Error::General(error.to_string()))?,
        };
        let mut config = ClientConfig::builder_with_details(provider(), Arc::new(self.clock))
            .with_protocol_versions(&VERSIONS)?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(match self.certificate {
                Some(certificate) => Arc::new(SingleCertAndKey::from(certificate)),
                None => Arc::new(NoCertificate),
            });
        config.alpn_protocols = self.alpn;
        if !self.resumes {
            config.resumption = Resumption::disabled();
        }
        Ok(Arc::new(config))
    }
}

/// Has nothing to show.
#[derive(Debug)]
struct NoCertificate;

impl ResolvesClientCert for NoCertificate {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_without_a_certificate_are_a_mistake_that_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("roots.pem");
        assert!(matches!(roots_from_pem_files([&path]), Err(RootsError::Read { .. })));
        fs::write(&path, "nothing here").unwrap();
        let error = roots_from_pem_files([&path]).unwrap_err().to_string();
        assert!(error.contains("roots.pem"), "{error}");
        assert!(matches!(roots_from_pem(b""), Err(RootsError::Empty { path: None })));
    }

    #[test]
    fn a_damaged_root_is_refused() {
        let text = b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        assert!(matches!(roots_from_pem(text), Err(RootsError::Damaged { .. })));
        assert!(roots_from_der([CertificateDer::from(vec![0x30, 0])]).is_err());
    }

    #[test]
    fn all_certificates_of_all_files_are_taken() {
        let folder = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
            params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
        };
        let (one, two) = (folder.path().join("1.pem"), folder.path().join("2.pem"));
        fs::write(&one, make("a") + &make("b")).unwrap();
        fs::write(&two, make("c")).unwrap();
        assert_eq!(roots_from_pem_files([one, two]).unwrap().len(), 3);
    }

    #[test]
    fn a_dialer_without_roots_cannot_be_built() {
        let tls = ClientTls::with_roots(Clock::manual(0), RootCertStore::empty());
        assert!(tls.build().is_err());
    }
}
