//! The other end of a link: who may be there, and the TLS connection to it.
//!
//! A peer is judged inside the handshake, before our own certificate is shown: a server that
//! is not the one we mean learns nothing about us but our address.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use proto::id::Thumbprint;
use proto::limits;
use proto::pki::{Distrust, TrustStore, Usage};
use proto::time::Timestamp;
use proto::trust::{Purpose, SiteRoot, TrustError};
use runtime::Clock;
use runtime::tls::{OwnCertificate, provider};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::SingleCertAndKey;
use rustls::{
    CertificateError, CipherSuite, ClientConfig, DigitallySignedStruct, OtherError, SignatureScheme,
    SupportedProtocolVersion,
};
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Time for a TCP connection and its TLS handshake. A peer that is up answers in a few round
/// trips; a longer wait would delay the next attempt to one that has come back.
pub(crate) const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to a peer. The buffer stands below TLS, whose library asks for 4 KiB at a time: without it a record of
/// 16 KiB, or a handful of requests that arrive together, cost a system call for each 4 KiB.
pub(crate) type PeerStream = TlsStream<BufReader<TcpStream>>;

/// Withdrawn link certificates, as the site listed them last.
pub(crate) type Withdrawn = Arc<ArcSwap<HashSet<Thumbprint>>>;

/// Why a peer is not the one that was meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PeerError {
    /// Its certificate does not speak for the site in this part.
    #[error("the certificate of the other side is not trusted")]
    Trust(#[source] TrustError),
    /// Its certificate was not issued by an authority of the organisation that the site trusts.
    #[error("the certificate of the other side is not trusted")]
    Pki(#[source] Box<Distrust>),
    /// It is somebody else of this site.
    #[error("the certificate of the other side does not name {expected}")]
    AnotherName {
        /// The name that was looked for.
        expected: String,
    },
    /// The site has withdrawn its certificate.
    #[error("the site has withdrawn the certificate of the other side")]
    Withdrawn,
}

/// By whom a peer's certificate must have been issued, and for what.
#[derive(Debug, Clone)]
pub(crate) enum Trust {
    /// By the site.
    Site {
        /// The site's root.
        root: Arc<SiteRoot>,
        /// What the certificate must be for.
        purpose: Purpose,
    },
    /// By an authority of the organisation, for a server.
    Pki(Arc<TrustStore>),
}

/// Judges one peer: chain, purpose, name, and not withdrawn.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Under whom its chain must stand.
    pub(crate) trust: Trust,
    /// The name or address that its certificate must hold.
    pub(crate) name: ServerName<'static>,
    /// Certificates that count no longer.
    pub(crate) withdrawn: Withdrawn,
    /// Tells the time.
    pub(crate) clock: Clock,
}

impl Peer {
    fn judge(&self, chain: &[Vec<u8>]) -> Result<(), PeerError> {
        let now = Timestamp::from_micros(self.clock.now());
        match &self.trust {
            Trust::Site { root, purpose } => {
                root.verify(chain, *purpose, now).map_err(PeerError::Trust)?;
            }
            Trust::Pki(store) => {
                store.judge(chain, Usage::Server, now).map_err(|cause| PeerError::Pki(cause.into()))?;
            }
        }
        let leaf = chain.first().ok_or(PeerError::Trust(TrustError::NoCertificate))?;
        let certificate = CertificateDer::from(leaf.as_slice());
        let parsed = ParsedCertificate::try_from(&certificate)
            .map_err(|_| PeerError::Trust(TrustError::NoCertificate))?;
        verify_server_name(&parsed, &self.name)
            .map_err(|_| PeerError::AnotherName { expected: self.name.to_str().into_owned() })?;
        if self.withdrawn.load().contains(&Thumbprint::of(leaf)) {
            return Err(PeerError::Withdrawn);
        }
        Ok(())
    }

    /// The TLS configuration for dialling this peer. `own` is shown to it when it asks.
    pub(crate) fn tls(
        self,
        own: Option<&OwnCertificate>,
        versions: &[&'static SupportedProtocolVersion],
        alpn: Option<&[u8]>,
    ) -> Result<Arc<ClientConfig>, rustls::Error> {
        let clock = Arc::new(self.clock.clone());
        let builder = ClientConfig::builder_with_details(quick_first(), clock)
            .with_protocol_versions(versions)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(self));
        let mut config = match own {
            Some(own) => builder
                .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(own.certified())))),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.map(<[u8]>::to_vec).into_iter().collect();
        // A resumed session would not be judged again.
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}

/// The common suites, those with AES-128 before the others. Both keep what they hide for as long as anybody cares to
/// reckon, and one costs a fifth less for each byte, of which all traffic passes here twice.
fn quick_first() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    let reordered = || {
        let mut reordered = CryptoProvider::clone(&provider());
        // Stable: among the quick ones and among the others the order stays.
        reordered.cipher_suites.sort_by_key(|suite| !is_quick(suite.suite()));
        Arc::new(reordered)
    };
    Arc::clone(PROVIDER.get_or_init(reordered))
}

fn is_quick(suite: CipherSuite) -> bool {
    matches!(
        suite,
        CipherSuite::TLS13_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
    )
}

impl ServerCertVerifier for Peer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain: Vec<Vec<u8>> = std::iter::once(end_entity)
            .chain(intermediates)
            .take(limits::CHAIN_CERTIFICATES)
            .map(|der| der.to_vec())
            .collect();
        self.judge(&chain).map_err(|error| {
            rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
        })?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Why a peer could not be reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// No TCP connection.
    #[error("no connection to {address}")]
    Connect {
        /// Whom.
        address: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// A connection, and no TLS on it.
    #[error("no TLS with {address}")]
    Tls {
        /// Whom.
        address: String,
        /// What rustls said.
        source: io::Error,
    },
    /// Somebody else is there.
    #[error("{address} is not who was meant")]
    Peer {
        /// Whom.
        address: String,
        /// What is wrong with its certificate.
        source: PeerError,
    },
    /// Neither yes nor no.
    #[error("{address} did not answer within {} seconds", DIAL_TIMEOUT.as_secs())]
    Silent {
        /// Whom.
        address: String,
    },
    /// The name cannot stand in a TLS handshake.
    #[error("{name:?} is not a host name")]
    Name {
        /// The name.
        name: String,
    },
}

/// A link's name as TLS takes it.
pub(crate) fn server_name(name: &str) -> Result<ServerName<'static>, DialError> {
    ServerName::try_from(name.to_owned()).map_err(|_| DialError::Name { name: name.into() })
}

/// Opens a TCP connection and makes the TLS handshake, both within [`DIAL_TIMEOUT`]. `read_ahead`: bytes that are
/// taken from the connection at once.
pub(crate) async fn dial_tls(
    address: &str,
    server: ServerName<'static>,
    tls: Arc<ClientConfig>,
    read_ahead: usize,
) -> Result<PeerStream, DialError> {
    let dial = async {
        let tcp = BufReader::with_capacity(read_ahead, dial_tcp(address).await?);
        TlsConnector::from(tls).connect(server, tcp).await.map_err(|error| match peer_error(&error) {
            Some(source) => DialError::Peer { address: address.into(), source },
            None => DialError::Tls { address: address.into(), source: error },
        })
    };
    timeout(DIAL_TIMEOUT, dial).await.map_err(|_| DialError::Silent { address: address.into() })?
}

/// Our own verdict, out of the wrappings of a failed handshake.
fn peer_error(error: &io::Error) -> Option<PeerError> {
    match error.get_ref()?.downcast_ref()? {
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(cause))) => {
            cause.downcast_ref().cloned()
        }
        _ => None,
    }
}

/// Opens a TCP connection within [`DIAL_TIMEOUT`].
pub(crate) async fn dial_tcp(address: &str) -> Result<TcpStream, DialError> {
    let connect = async {
        let tcp = TcpStream::connect(address).await?;
        // Frames are gathered before they are written; waiting for more would only add delay.
        tcp.set_nodelay(true)?;
        Ok(tcp)
    };
    timeout(DIAL_TIMEOUT, connect)
        .await
        .map_err(|_| DialError::Silent { address: address.into() })?
        .map_err(|source| DialError::Connect { address: address.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quick_suites_are_offered_first_and_none_is_missing() {
        let (ours, common) = (&quick_first().cipher_suites, &provider().cipher_suites);
        assert_eq!(ours.len(), common.len());
        assert!(common.iter().all(|suite| ours.contains(suite)));
        let quick = ours.iter().take_while(|suite| is_quick(suite.suite())).count();
        assert_eq!((quick, ours.iter().filter(|suite| is_quick(suite.suite())).count()), (3, 3));
    }
}
