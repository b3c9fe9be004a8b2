//! Which servers a device trusts for TLS, and who vouched for each.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proto::id::Thumbprint;
use proto::time::Timestamp;
use proto::trust::{Purpose, SiteRoot};
use runtime::Clock;
use runtime::tls::{ClientTls, OwnCertificate, RootsError, TlsSetupError, provider, roots_from_pem};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};

use crate::credential::revocation::{RevocationLists, Verdict};
use crate::trust::Channel;

/// Servers whose verdict is remembered. A device knows at most some dozens.
const SERVERS: usize = 256;
/// Certificates of a server's chain that are looked at.
const CHAIN: usize = 8;

/// TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The named roots cannot be read.
    #[error("the trusted roots cannot be used")]
    Roots(#[source] RootsError),
    /// The system's store cannot be used.
    #[error("the system's store of trusted roots cannot be used")]
    System(#[source] rustls::Error),
    /// A verifier could not be built.
    #[error("the trusted roots cannot be used for TLS")]
    Verifier(#[source] rustls::client::VerifierBuilderError),
    /// rustls refused.
    #[error(transparent)]
    Setup(TlsSetupError),
}

/// Whom a device trusts for TLS.
#[derive(Debug, Clone, Copy)]
pub struct TlsTrust<'a> {
    /// Roots named at setup (PEM), besides the system's.
    pub ca: Option<&'a str>,
    /// Whether the system's store counts. Off for simulated devices, which have only theirs.
    pub system: bool,
}

/// Remembers who vouched for which server.
#[derive(Debug, Default)]
pub(crate) struct Verdicts(Mutex<BTreeMap<String, Channel>>);

impl Verdicts {
    /// Who vouched for the server of this host name, as of its last full handshake.
    pub(crate) fn of(&self, host: &str) -> Option<Channel> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&host.to_ascii_lowercase()).copied()
    }

    fn note(&self, name: &ServerName<'_>, channel: Channel) {
        let mut verdicts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if verdicts.len() >= SERVERS {
            verdicts.clear();
        }
        verdicts.insert(name.to_str().to_ascii_lowercase(), channel);
    }
}

/// How far the device's clock is off, in microseconds, by the site's word. Shared by everything that
/// judges or writes a time.
#[derive(Debug, Default)]
pub(crate) struct Skew(AtomicI64);

impl Skew {
    pub(crate) fn new(micros: i64) -> Self {
        Self(AtomicI64::new(micros))
    }

    pub(crate) fn micros(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }

    pub(crate) fn set(&self, micros: i64) {
        self.0.store(micros, Ordering::SeqCst);
    }

    /// Now, by the clock as it was corrected.
    pub(crate) fn now(&self, clock: &Clock) -> Timestamp {
        Timestamp::from_micros(clock.now().saturating_add(self.micros()))
    }
}

/// The site's own certificates as roots of TLS: an enhanced-HTTP management point shows one of them.
#[derive(Debug, Default)]
pub(crate) struct SiteAnchor(Mutex<(Option<Vec<u8>>, Option<Thumbprint>)>);

impl SiteAnchor {
    /// The root, once known, and the fingerprint that setup pinned.
    pub(crate) fn set(&self, root: Option<Vec<u8>>, fingerprint: Option<Thumbprint>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (root, fingerprint);
    }

    /// Whether the chain is a role's certificate of the pinned site.
    fn vouches(&self, chain: &[Vec<u8>], now: Timestamp) -> bool {
        let (root, fingerprint) = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Before the first answer only the fingerprint is known; then the chain must bring its root.
        let shown = || chain.iter().find(|der| fingerprint == Some(Thumbprint::of(der))).cloned();
        let Some(root) = root.or_else(shown) else { return false };
        SiteRoot::new(root).is_ok_and(|root| root.verify(chain, Purpose::RoleTls, now).is_ok())
    }
}

/// What judges servers: one for all connections of a device.
#[derive(Debug)]
pub(crate) struct Judge {
    named: Option<Arc<dyn ServerCertVerifier>>,
    named_roots: Vec<Vec<u8>>,
    system: Option<Arc<dyn ServerCertVerifier>>,
    pub(crate) site: SiteAnchor,
    pub(crate) verdicts: Verdicts,
    pub(crate) revocation: RevocationLists,
    pub(crate) skew: Skew,
}

impl Judge {
    pub(crate) fn new(trust: TlsTrust<'_>, skew: i64) -> Result<Arc<Self>, TlsError> {
        let mut named_roots = Vec::new();
        let named = match trust.ca {
            Some(pem) => {
                let roots = roots_from_pem(pem.as_bytes()).map_err(TlsError::Roots)?;
                named_roots = CertificateDer::pem_slice_iter(pem.as_bytes())
                    .filter_map(Result::ok)
                    .map(|der| der.to_vec())
                    .collect();
                let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
                    .build()
                    .map_err(TlsError::Verifier)?;
                Some(verifier as Arc<dyn ServerCertVerifier>)
            }
            None => None,
        };
        let system = if trust.system || named.is_none() {
            let verifier = rustls_platform_verifier::Verifier::new(provider());
            match (verifier, &named) {
                (Ok(verifier), _) => Some(Arc::new(verifier) as Arc<dyn ServerCertVerifier>),
                // A machine without any store of its own is no hindrance when roots were named.
                (Err(_), Some(_)) => None,
                (Err(error), None) => return Err(TlsError::System(error)),
            }
        } else {
            None
        };
        Ok(Arc::new(Self {
            named,
            named_roots,
            system,
            site: SiteAnchor::default(),
            verdicts: Verdicts::default(),
            revocation: RevocationLists::default(),
            skew: Skew::new(skew),
        }))
    }
}

/// The configuration for connections that show `own` to every server that asks. `None` is for those who
/// are no part of the site (a tenant's authority): nothing is shown, and the site's setting about
/// revocation is not theirs.
pub(crate) fn config(
    judge: &Arc<Judge>,
    own: Option<&OwnCertificate>,
    clock: &Clock,
) -> Result<Arc<ClientConfig>, TlsError> {
    let verifier = ByAnyRoot { judge: Arc::clone(judge), checks_revocation: own.is_some() };
    let tls = ClientTls::with_verifier(clock.clone(), Arc::new(verifier)).alpn(["http/1.1"]);
    let tls = match own {
        Some(own) => tls.certificate(own),
        None => tls,
    };
    tls.build().map_err(TlsError::Setup)
}

/// Tries the roots named at setup, then the system's, then the site's own; notes which of them vouched;
/// then judges revocation.
#[derive(Debug)]
struct ByAnyRoot {
    judge: Arc<Judge>,
    checks_revocation: bool,
}

impl ByAnyRoot {
    /// Signatures in the handshake are checked alike by every verifier of our provider.
    fn any(&self) -> Result<&Arc<dyn ServerCertVerifier>, rustls::Error> {
        let either = self.judge.named.as_ref().or(self.judge.system.as_ref());
        either.ok_or_else(|| rustls::Error::General("no trusted roots".into()))
    }

    fn judge_revocation(
        &self,
        channel: Channel,
        chain: &[Vec<u8>],
        server_name: &ServerName<'_>,
        now: Timestamp,
    ) -> Result<(), rustls::Error> {
        if !self.checks_revocation {
            return Ok(());
        }
        let roots: &[Vec<u8>] = if channel == Channel::NamedRoot { &self.judge.named_roots } else { &[] };
        let host = server_name.to_str();
        match self.judge.revocation.judge(&host, chain, roots, now) {
            Verdict::Good => Ok(()),
            Verdict::Revoked(text) => {
                crate::log::line!(warn, CertificateMaintenance, host = %host, why = text, "the server's certificate is revoked");
                Err(CertificateError::Revoked.into())
            }
            Verdict::Unknown => Err(CertificateError::UnknownRevocationStatus.into()),
        }
    }
}

impl ServerCertVerifier for ByAnyRoot {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let judge = &*self.judge;
        let micros = i128::from(judge.skew.micros()) + i128::from(now.as_secs()) * 1_000_000;
        let corrected = Timestamp::from_micros(i64::try_from(micros).unwrap_or(i64::MAX));
        let now =
            UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(corrected.seconds()).unwrap_or(0)));
        let chain: Vec<Vec<u8>> =
            std::iter::once(end_entity).chain(intermediates).take(CHAIN).map(|der| der.to_vec()).collect();
        let ways = [(&judge.named, Channel::NamedRoot), (&judge.system, Channel::SystemRoot)];
        let mut first_error = None;
        for (verifier, channel) in ways {
            let Some(verifier) = verifier else { continue };
            match verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
                Ok(verified) => {
                    self.judge_revocation(channel, &chain, server_name, corrected)?;
                    judge.verdicts.note(server_name, channel);
                    return Ok(verified);
                }
                // The named roots were named for this gateway: their verdict says more.
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        // Within the site its own certificates count: nothing is to be done on clients for them. They are
        // renewed by the site itself and have no lists.
        if judge.site.vouches(&chain, corrected) {
            let parsed = ParsedCertificate::try_from(end_entity)?;
            verify_server_name(&parsed, server_name)?;
            judge.verdicts.note(server_name, Channel::Site);
            return Ok(ServerCertVerified::assertion());
        }
        Err(first_error.unwrap_or_else(|| rustls::Error::General("no trusted roots".into())))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.any()?.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.any()?.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.any().map(|verifier| verifier.supported_verify_schemes()).unwrap_or_default()
    }
}
