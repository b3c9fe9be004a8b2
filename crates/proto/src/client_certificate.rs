//! Proof of a PKI certificate by a device whose registered key is another: the certificate's chain
//! and a signature by its key over the device's own key, in a header of a registration or a
//! confirmation ([ours]).
//!
//! The registered key stays the device's identity for life; a certificate is a credential that it
//! gains, renews and loses. So a device changes its method without a new record, and a gateway,
//! which has seen the certificate's key in the handshake, need not be believed (R39).

use crate::id::{Guid, Thumbprint};
use crate::time::Timestamp;

/// The chain (leaf first, base64 DER, separated by commas).
pub const CHAIN: &str = "roamgate-client-certificate";
/// `<created, seconds>.<base64 signature>`.
pub const PROOF: &str = "roamgate-client-certificate-proof";
/// Both headers: what a gateway and a connection point must let through.
pub const HEADERS: &[&str] = &[CHAIN, PROOF];

/// What is signed. The signature is that of TLS 1.3 for the certificate's key: RSASSA-PSS with
/// SHA-256, or ECDSA with the curve's own hash.
#[derive(Debug, Clone, Copy)]
pub struct ProofOf {
    /// The hierarchy, so that a proof for one site says nothing at another.
    pub hierarchy: Guid,
    /// SHA-256 of the device's registered (or to be registered) signing certificate.
    pub device_key: Thumbprint,
    /// The id of the message that carries it: taken once.
    pub message_id: Guid,
    /// When it was made; counts for five minutes.
    pub created: Timestamp,
}
