//! What a certificate revocation list comes down to once it was checked: the serials that an issuer
//! took back, with the dates of the list.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::Thumbprint;
use crate::time::Timestamp;

/// Names an issuer by its name **and** key: SHA-256 over the DER of its subject, then the DER of its
/// public key info. Two authorities of one name are two issuers (R4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IssuerId(Thumbprint);

impl IssuerId {
    /// The issuer with this subject and public key info, both DER.
    pub fn new(subject: &[u8], public_key_info: &[u8]) -> Self {
        Self(Thumbprint::of(&[subject, public_key_info].concat()))
    }
}

impl fmt::Display for IssuerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for IssuerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A certificate's serial number: the magnitude's bytes without leading zeros, at most 20.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Serial(pub(crate) Vec<u8>);

/// One issuer's revoked certificates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocations {
    /// Whose.
    pub issuer: IssuerId,
    /// The issuer's name, for messages.
    pub issuer_name: String,
    /// CRL number in hex; a later list has a higher one.
    pub number: String,
    /// When the list was made.
    pub this_update: Timestamp,
    /// When the next one is due.
    pub next_update: Timestamp,
    /// Serials in order, with the moment of revocation.
    pub revoked: Vec<(Serial, Timestamp)>,
}

/// What changes from one list of an issuer to the next: cheap at 10⁶ serials (settled point 6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevocationsDelta {
    /// Whose.
    pub issuer: IssuerId,
    /// CRL number that it leads to, in hex.
    pub number: String,
    /// When the new list was made.
    pub this_update: Timestamp,
    /// When the one after it is due.
    pub next_update: Timestamp,
    /// Newly revoked.
    pub added: Vec<(Serial, Timestamp)>,
    /// No longer on the list: released from hold, or expired.
    pub removed: Vec<Serial>,
}

impl Revocations {
    /// Applies the changes to the next list.
    pub fn amend(&mut self, _delta: RevocationsDelta) {
        unimplemented!()
    }
}
