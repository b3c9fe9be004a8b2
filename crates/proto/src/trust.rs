//! Trust in the site: one root, and a purpose in every certificate below it.
//!
//! The root ("SMS Issuing", the trusted root key that a device pins) signs intermediates and
//! token signing certificates only. Each certificate below carries exactly one purpose of
//! ours as extended key usage, so that none opens another's door (R8).

use std::time::Duration;

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, anchor_from_trusted_cert};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::time::Timestamp;

/// What a certificate of the site may be used for. Object identifiers stand under 2.25, the
/// arc for identifiers that nobody has to hand out; the last number is ours [ours].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Signs snapshots and policy: what `SITESIGNCERT` returns.
    SiteSigning,
    /// Signs the answers of management points.
    Message,
    /// A gateway's end of a tunnel.
    LinkGateway,
    /// A connection point's end of a tunnel and of the site link.
    LinkConnector,
    /// The site's end of the site link, and its operator API.
    LinkSite,
    /// A role's HTTPS certificate (enhanced HTTP).
    RoleTls,
}

/// First number behind 2.25 of all purposes.
const ARC: u64 = 2_251_730_664_181;

impl Purpose {
    /// Every purpose.
    pub const ALL: [Self; 6] = [
        Self::SiteSigning,
        Self::Message,
        Self::LinkGateway,
        Self::LinkConnector,
        Self::LinkSite,
        Self::RoleTls,
    ];

    /// The object identifier as numbers, for whoever writes a certificate.
    pub const fn oid(self) -> [u64; 4] {
        [2, 25, ARC, self.number()]
    }

    const fn number(self) -> u64 {
        match self {
            Self::SiteSigning => 1,
            Self::Message => 2,
            Self::LinkGateway => 3,
            Self::LinkConnector => 4,
            Self::LinkSite => 5,
            Self::RoleTls => 6,
        }
    }

    fn is_named_by(self, certificate: &X509Certificate<'_>) -> bool {
        let Ok(Some(usage)) = certificate.extended_key_usage() else { return false };
        usage.value.other.iter().any(|oid| oid.iter().is_some_and(|numbers| numbers.eq(self.oid())))
    }
}

/// Why a certificate does not speak for the site.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// The pinned root is no certificate.
    #[error("the site root is not a readable certificate")]
    BadRoot,
    /// No certificate was shown, or it cannot be read.
    #[error("no readable certificate was shown")]
    NoCertificate,
    /// The certificate is for something else.
    #[error("the certificate is not meant for this purpose")]
    WrongPurpose,
    /// The chain does not lead to the root, or a part of it is not valid now.
    #[error("the certificate does not lead to the site root: {0}")]
    Chain(String),
}

/// A pinned site root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteRoot {
    der: Vec<u8>,
}

impl SiteRoot {
    /// Pins this root certificate (DER).
    pub fn new(der: Vec<u8>) -> Result<Self, TrustError> {
        let certificate = CertificateDer::from(der.as_slice());
        anchor_from_trusted_cert(&certificate).map_err(|_| TrustError::BadRoot)?;
        Ok(Self { der })
    }

    /// The certificate's DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Judges a chain (leaf first, DER): does its leaf speak for the site, for this purpose,
    /// at this moment? At most three certificates are looked at.
    pub fn verify(&self, chain: &[Vec<u8>], purpose: Purpose, now: Timestamp) -> Result<(), TrustError> {
        let (leaf, rest) = chain.split_first().ok_or(TrustError::NoCertificate)?;
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| TrustError::NoCertificate)?;
        if !purpose.is_named_by(&parsed) {
            return Err(TrustError::WrongPurpose);
        }
        let root = CertificateDer::from(self.der.as_slice());
        let anchor = anchor_from_trusted_cert(&root).map_err(|_| TrustError::BadRoot)?;
        let intermediates: Vec<_> =
            rest.iter().take(2).map(|der| CertificateDer::from(der.as_slice())).collect();
        let leaf = CertificateDer::from(leaf.as_slice());
        let seconds = u64::try_from(now.seconds()).unwrap_or(0);
        EndEntityCert::try_from(&leaf)
            .map_err(|_| TrustError::NoCertificate)?
            .verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &[anchor],
                &intermediates,
                UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
                AnyUsage,
                None,
                None,
            )
            .map(|_| ())
            .map_err(|error| TrustError::Chain(error.to_string()))
    }
}

/// The signature does not fit, or the certificate holds no RSA key of 2048 bits or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not fit")]
pub struct BadSignature;

/// Verifies RSASSA-PKCS1-v1_5 with SHA-256 (bytes in the usual order) by a certificate's key.
pub fn verify_rsa(certificate: &[u8], message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| BadSignature)?;
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, parsed.public_key().raw)
        .verify(message, signature)
        .map_err(|_| BadSignature)
}

/// The purpose is judged by [`Purpose::is_named_by`], on the leaf alone: our intermediates
/// are bound to theirs by their names, and webpki would ask the same usage of them.
struct AnyUsage;

impl ExtendedKeyUsageValidator for AnyUsage {
    fn validate(&self, mut usages: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        usages.try_for_each(|usage| usage.map(|_| ()))
    }
}
