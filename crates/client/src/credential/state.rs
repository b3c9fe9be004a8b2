//! What the device's memory holds about its credentials.

use proto::combination::Join;
use proto::id::{Guid, Thumbprint};
use proto::reason::Reason;
use proto::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::account::{Accounts, SealedToken};
use super::entra::Onboarding;
use super::revocation::Warning;
use crate::join::Finding;

/// The certificate of the PKI that was chosen at the last look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateState {
    /// SHA-256.
    pub thumbprint: Thumbprint,
    /// Subject.
    pub subject: String,
    /// Issuer.
    pub issuer: String,
    /// End.
    pub not_after: Timestamp,
    /// The file of the store.
    pub source: String,
}

/// A certificate that somebody refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateRefusal {
    /// Which.
    pub thumbprint: Thumbprint,
    /// The code.
    pub reason: String,
    /// In words, with who said so.
    pub text: String,
    /// Whether the site signed the refusal. One that is not signed counts for a short time only.
    pub signed: bool,
    /// When.
    pub at: Timestamp,
}

/// Something that did not work, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Problem {
    /// What.
    pub text: String,
    /// When.
    pub at: Timestamp,
}

/// What the device holds to prove itself with, besides its own key and the site's tokens.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CredentialState {
    /// The site's hierarchy, as its tokens name it.
    pub hierarchy: Option<Guid>,
    /// The certificate of the PKI.
    pub certificate: Option<CertificateState>,
    /// Why there is none.
    pub certificate_problem: Option<String>,
    /// The last refusal of one.
    pub certificate_refused: Option<CertificateRefusal>,
    /// Which app asks for tokens to what, and where.
    pub onboarding: Option<Onboarding>,
    /// The device's token of its tenant.
    pub device_token: Option<SealedToken>,
    /// The device's id in its tenant, as its token says.
    pub entra_device: Option<Guid>,
    /// Why there is no token for the device.
    pub device_token_problem: Option<Problem>,
    /// Why there is no token for a user.
    pub user_token_problem: Option<Problem>,
    /// Users whose tokens are held.
    pub accounts: Accounts,
    /// How the device is joined.
    pub join: Option<Join>,
    /// What its join state comes to.
    pub finding: Option<Finding>,
    /// Servers whose revocation could not be checked.
    pub unchecked_servers: Vec<Warning>,
    /// How far the device's clock is behind the site's, in microseconds; negative: ahead.
    pub clock_offset: i64,
}

impl CertificateRefusal {
    /// Reads the code back.
    pub fn code(&self) -> Option<Reason> {
        self.reason.parse().ok()
    }
}
