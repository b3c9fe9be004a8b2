//! Judging the certificates that clients show: not at all in the handshake, or entirely.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::peer::{PeerCertificate, UnreadableCertificate};
use super::{CHAIN_LIMIT, provider};

/// Asks for a certificate, takes any or none, and makes sure of one thing: who shows a certificate holds its
/// key.
///
/// Trust is judged afterwards, per connection. A verifier that judged here could answer a revoked or unknown
/// certificate with a TLS alert only, so that the device would never learn the reason; and the self-signed
/// certificates of devices without a PKI could not come in at all. No authority is hinted at, since clients
/// use such a list to hold certificates back.
#[derive(Debug)]
pub struct ProveKeyOnly {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ProveKeyOnly {
    /// With the signature algorithms of [`provider`].
    pub fn new() -> Self {
        Self { algorithms: provider().signature_verification_algorithms }
    }
}

impl Default for ProveKeyOnly {
    fn default() -> Self {
        Self::new()
    }
}

impl ClientCertVerifier for ProveKeyOnly {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The authorities whose client certificates are good for one purpose, say the links between our own parts.
/// Purposes never share one: a certificate of one opens no other's door.
#[derive(Clone, Debug)]
pub struct ChainTrust {
    anchors: Vec<TrustAnchor<'static>>,
}

/// Why a chain of certificates is not good.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// No certificate was shown.
    #[error("no certificate was shown")]
    Missing,
    /// More certificates than any chain has.
    #[error("the chain has more than {CHAIN_LIMIT} certificates")]
    TooLong,
    /// It leads to none of the roots, or is expired, not yet good, or not for clients.
    #[error("the certificate is not trusted here")]
    NotTrusted(#[source] webpki::Error),
    /// The chain is good but its first certificate cannot be read for its name.
    #[error("the certificate's name cannot be read")]
    Unreadable(#[source] UnreadableCertificate),
}

impl ChainTrust {
    /// Trusts what leads to one of `roots`. Without roots nothing is good.
    ///
    /// # Errors
    /// [`ChainError::NotTrusted`] when a root is not a certificate that could be one.
    pub fn new<'a>(roots: impl IntoIterator<Item = &'a CertificateDer<'a>>) -> Result<Self, ChainError> {
        let anchors = roots
            .into_iter()
            .map(|root| anchor_from_trusted_cert(root).map(|anchor| anchor.to_owned()))
            .collect::<Result<_, _>>()
            .map_err(ChainError::NotTrusted)?;
        Ok(Self { anchors })
    }

    /// Judges `chain`, as a connection gives it in `peer_certificates()`, for client authentication at
    /// `now`, and tells who it is. That its key is held was proved by the handshake.
    pub fn judge(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<PeerCertificate, ChainError> {
        let (end_entity, intermediates) = chain.split_first().ok_or(ChainError::Missing)?;
        self.judge_parts(end_entity, intermediates, now)?;
        PeerCertificate::parse(end_entity).map_err(ChainError::Unreadable)
    }

    fn judge_parts(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), ChainError> {
        if intermediates.len() >= CHAIN_LIMIT {
            return Err(ChainError::TooLong);
        }
        let certificate = EndEntityCert::try_from(end_entity).map_err(ChainError::NotTrusted)?;
        let usage = KeyUsage::client_auth();
        certificate
            .verify_for_usage(ALL_VERIFICATION_ALGS, &self.anchors, intermediates, now, usage, None, None)
            .map(|_path| ())
            .map_err(ChainError::NotTrusted)
    }
}

/// Lets only those in whose chain is good. Whether the one named in it may come in now (it may have been
/// withdrawn) is for the role to decide afterwards.
#[derive(Debug)]
pub(super) struct RequireChain {
    trust: Arc<ChainTrust>,
    key: ProveKeyOnly,
}

impl RequireChain {
    pub(super) fn new(trust: Arc<ChainTrust>) -> Self {
        Self { trust, key: ProveKeyOnly::new() }
    }
}

impl ClientCertVerifier for RequireChain {
    fn client_auth_mandatory(&self) -> bool {
        true
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.trust.judge_parts(end_entity, intermediates, now) {
            Ok(()) => Ok(ClientCertVerified::assertion()),
            Err(error) => {
                Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error)))))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.key.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.key.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.key.supported_verify_schemes()
    }
}
