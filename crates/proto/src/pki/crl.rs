//! A certificate revocation list as somebody gave it: checked against its issuer before anything in
//! it counts (R6).

use crate::pki::Revocations;
use crate::time::Timestamp;

/// A CRL whose form was read; nothing in it counts until [`Crl::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crl {
    der: Vec<u8>,
}

/// Why a CRL is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CrlError {
    /// Not a CRL at all.
    #[error("this is no certificate revocation list")]
    Malformed,
}

impl Crl {
    /// Reads DER or PEM. Bounds: [`crate::limits`].
    pub fn parse(_bytes: &[u8]) -> Result<Self, CrlError> {
        Err(CrlError::Malformed)
    }

    /// The URLs of distribution points (`http:` and `https:` only) in a certificate, DER.
    pub fn distribution_points(_certificate: &[u8]) -> Vec<String> {
        Vec::new()
    }

    /// Whether this authority (certificate, DER) signed it, and whether it may be used at `now`; it
    /// must not be older than `last`, the list that is in force.
    pub fn verify(
        &self,
        _issuer: &[u8],
        _last: Option<&Revocations>,
        _now: Timestamp,
    ) -> Result<Revocations, CrlError> {
        let _ = &self.der;
        Err(CrlError::Malformed)
    }
}
