//! The judgement of a chain.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::Thumbprint;
use crate::pki::{Distrust, IssuerId, Revocations, TrustList};
use crate::time::Timestamp;

/// What a certificate is shown for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Usage {
    /// A device, or a connection point, as TLS client.
    Client,
    /// A gateway or management point as TLS server. The name is judged elsewhere.
    Server,
}

/// What happens to the clients of an issuer whose list is missing or past its `nextUpdate` (R7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CrlPolicy {
    /// They are refused, after the grace. The default.
    #[default]
    Hard,
    /// They go on by the last list, or without one. An alarm.
    Soft,
}

/// Site settings about revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevocationSettings {
    /// Whether revocation of client certificates is checked at all. Off is an alarm.
    pub check: bool,
    /// What a stale or missing list means.
    pub policy: CrlPolicy,
    /// How long after `nextUpdate` a list still counts under [`CrlPolicy::Hard`], in seconds; at
    /// most 24 hours.
    pub grace_seconds: u32,
}

impl Default for RevocationSettings {
    fn default() -> Self {
        Self { check: true, policy: CrlPolicy::Hard, grace_seconds: 0 }
    }
}

impl RevocationSettings {
    /// The grace.
    pub fn grace(&self) -> Duration {
        Duration::from_secs(u64::from(self.grace_seconds))
    }
}

/// A chain that is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trusted {
    /// SHA-256 of the leaf.
    pub thumbprint: Thumbprint,
    /// Subject of the leaf in RFC 4514 form.
    pub subject: String,
    /// The earliest end of any certificate of the path and of any revocation list that was read
    /// (with its grace): until then the verdict may be kept.
    pub until: Timestamp,
    /// Authorities of the path, the issuer of the leaf first, the root last: SHA-256 each.
    pub path: Vec<Thumbprint>,
}

/// A trust list that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the authority {0} cannot be used as such")]
pub struct TrustStoreError(pub Thumbprint);

/// The trust list made ready for judging. Immutable: a change makes a new one.
#[derive(Debug, Default)]
pub struct TrustStore {}

impl TrustStore {
    /// Makes it ready.
    pub fn new(
        _list: &TrustList,
        _revocations: &BTreeMap<IssuerId, Arc<Revocations>>,
        _settings: RevocationSettings,
    ) -> Result<Self, TrustStoreError> {
        Ok(Self {})
    }

    /// Whether nobody is trusted: no certificate can pass.
    pub fn is_empty(&self) -> bool {
        true
    }

    /// Judges a chain: leaf first, then whatever else was shown, DER. At most
    /// [`crate::limits::CHAIN_CERTIFICATES`] are looked at.
    pub fn judge(&self, _chain: &[Vec<u8>], _usage: Usage, _now: Timestamp) -> Result<Trusted, Distrust> {
        Err(Distrust::Missing)
    }
}
