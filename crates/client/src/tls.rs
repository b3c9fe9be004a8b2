//! Which servers a device trusts for TLS, and who vouched for each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use runtime::Clock;
use runtime::tls::{ClientTls, OwnCertificate, RootsError, TlsSetupError, provider, roots_from_pem};
use rustls::ClientConfig;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};

use crate::trust::Channel;

/// Servers whose verdict is remembered. A device knows at most some dozens.
const SERVERS: usize = 256;

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

/// The configuration for all connections of one device: its own certificate is shown to every
/// server that asks.
pub(crate) fn config(
    trust: TlsTrust<'_>,
    own: &OwnCertificate,
    clock: &Clock,
) -> Result<(Arc<ClientConfig>, Arc<Verdicts>), TlsError> {
    let named = match trust.ca {
        Some(pem) => {
            let roots = roots_from_pem(pem.as_bytes()).map_err(TlsError::Roots)?;
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
    let verdicts = Arc::new(Verdicts::default());
    let verifier = NamedThenSystem { named, system, verdicts: Arc::clone(&verdicts) };
    let config = ClientTls::with_verifier(clock.clone(), Arc::new(verifier))
        .certificate(own)
        .alpn(["http/1.1"])
        .build()
        .map_err(TlsError::Setup)?;
    Ok((config, verdicts))
}

/// Tries the roots named at setup, then the system's; notes which of them vouched.
#[derive(Debug)]
struct NamedThenSystem {
    named: Option<Arc<dyn ServerCertVerifier>>,
    system: Option<Arc<dyn ServerCertVerifier>>,
    verdicts: Arc<Verdicts>,
}

impl NamedThenSystem {
    /// Signatures in the handshake are checked alike by every verifier of our provider.
    fn any(&self) -> Result<&Arc<dyn ServerCertVerifier>, rustls::Error> {
        let either = self.named.as_ref().or(self.system.as_ref());
        either.ok_or_else(|| rustls::Error::General("no trusted roots".into()))
    }
}

impl ServerCertVerifier for NamedThenSystem {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let ways = [(&self.named, Channel::NamedRoot), (&self.system, Channel::SystemRoot)];
        let mut first_error = None;
        for (verifier, channel) in ways {
            let Some(verifier) = verifier else { continue };
            match verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
                Ok(verified) => {
                    self.verdicts.note(server_name, channel);
                    return Ok(verified);
                }
                // The named roots were named for this gateway: their verdict says more.
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
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
