//! Tokens of Entra ID and of any other OpenID provider that an operator onboarded as a tenant:
//! whose they are and what they say (R10 to R14; facts: `entra.md`).
//!
//! As with the site's own tokens, the dear step ([`TenantSet::verify`]) looks at no clock and can
//! be cached; [`EntraToken::check_time`] is cheap.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{Guid, Thumbprint};
use crate::jose::JwkSet;
use crate::time::Timestamp;

/// How far the provider's clock may be off (R11).
pub const CLOCK_SKEW: Duration = Duration::from_mins(5);
/// How long known keys go on when the provider cannot be reached (R13).
pub const KEYS_LIFETIME: Duration = Duration::from_hours(24);

/// A tenant as gateways and management points know it. Nothing secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedTenant {
    /// `tid`.
    pub tenant: Guid,
    /// Its name, for logs and pages.
    pub name: String,
    /// Accepted `iss`, exactly. Entra has two forms for one tenant.
    pub issuers: Vec<String>,
    /// Accepted `aud`, exactly: the App ID URI, or the server app's id.
    pub audiences: Vec<String>,
    /// The client app that devices ask tokens with.
    pub client_app_id: String,
    /// The resource that they ask tokens for.
    pub resource: String,
    /// Where they ask.
    pub authority: String,
    /// Whether its tokens count.
    pub enabled: bool,
    /// Its signing keys as last fetched.
    pub keys: JwkSet,
    /// Until when these keys count without being fetched anew.
    pub keys_until: Timestamp,
}

/// What `AADAuthInfo` answers for an onboarded tenant; nothing for an unknown or disabled one.
/// The member names are ours [ours].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthInfo {
    /// The tenant asked for.
    #[serde(rename = "TenantId")]
    pub tenant: Guid,
    /// `AADCLIENTAPPID`.
    #[serde(rename = "ClientAppId")]
    pub client_app_id: String,
    /// `AADRESOURCEURI`.
    #[serde(rename = "ResourceUri")]
    pub resource: String,
    /// Where to ask for tokens.
    #[serde(rename = "Authority")]
    pub authority: String,
}

/// Whom a token speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntraSubject {
    /// A device and nobody on it (`Device`).
    Device {
        /// The device's id in the tenant.
        device: Guid,
    },
    /// A user, on a device where the token names one (`UDA`).
    User {
        /// The user's object id.
        user: Guid,
        /// The device's id in the tenant.
        device: Option<Guid>,
        /// The user's on-premises SID: a hybrid user.
        sid: Option<String>,
        /// The user's principal name, for people.
        name: String,
    },
}

/// What a tenant's token says, its signature verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntraToken {
    /// The tenant.
    pub tenant: Guid,
    /// Whom it speaks for.
    pub subject: EntraSubject,
    /// Valid from.
    pub not_before: Timestamp,
    /// Valid until.
    pub expires: Timestamp,
    /// Until when the key that verified it counts.
    pub keys_until: Timestamp,
    /// SHA-256 of the text.
    pub digest: Thumbprint,
}

/// Why a tenant's token was not accepted. Outside nobody learns which.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntraError {
    /// Form or signature.
    #[error("the token is malformed")]
    Malformed,
    /// No onboarded tenant made it.
    #[error("the token's tenant is not onboarded")]
    UnknownTenant,
    /// An operator switched this tenant off.
    #[error("authentication by tenant {0} is switched off")]
    TenantDisabled(Guid),
    /// Signed by a key that the tenant's set does not hold (any more, or yet): fetch it anew.
    #[error("tenant {tenant} has no key {kid:?}")]
    UnknownKey {
        /// The tenant that the token claims.
        tenant: Guid,
        /// The key that it names, at most 80 characters.
        kid: String,
    },
    /// The signature does not fit.
    #[error("the token's signature does not fit")]
    Signature,
    /// Issuer, audience or tenant is another.
    #[error("the token is for somebody else: wrong {0}")]
    Foreign(&'static str),
    /// An app's token, or one that names neither device nor user.
    #[error("the token speaks for no device and no user: {0}")]
    NoSubject(&'static str),
    /// Expired.
    #[error("the token expired at {0}")]
    Expired(Timestamp),
    /// Not valid yet.
    #[error("the token is valid from {0}")]
    NotYetValid(Timestamp),
    /// The tenant's keys have not been fetched for too long.
    #[error("the tenant's keys are older than a day")]
    KeysTooOld,
}

impl EntraToken {
    /// Judges `exp`, `nbf` and the age of the key at `now`, with [`CLOCK_SKEW`] in the token's favour.
    pub fn check_time(&self, _now: Timestamp) -> Result<(), EntraError> {
        Err(EntraError::Malformed)
    }
}

/// The onboarded tenants, their keys parsed once.
#[derive(Debug, Default)]
pub struct TenantSet {
    tenants: BTreeMap<Guid, PublishedTenant>,
}

impl TenantSet {
    /// Makes them ready.
    pub fn new<'a>(tenants: impl IntoIterator<Item = &'a PublishedTenant>) -> Self {
        Self { tenants: tenants.into_iter().map(|tenant| (tenant.tenant, tenant.clone())).collect() }
    }

    /// Whether a text could be a tenant's token rather than the site's own: it names a `kid`, or an
    /// issuer that is not the site's. Only tells which verifier to ask.
    pub fn looks_like(_text: &str) -> bool {
        false
    }

    /// Checks form, signature, origin and subject. Not the time: see [`EntraToken::check_time`].
    pub fn verify(&self, _text: &str) -> Result<EntraToken, EntraError> {
        let _ = &self.tenants;
        Err(EntraError::Malformed)
    }
}
