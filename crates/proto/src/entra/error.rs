//! Why a tenant's token is not accepted, and which little of that is told.

use crate::id::Guid;
use crate::jose::JwsError;
use crate::reason::Reason;
use crate::time::Timestamp;

/// Why a tenant's token was not accepted. Outside nobody learns which, unless the token proved to
/// be the tenant's and meant for this site.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntraError {
    /// Its form, found before any signature was computed.
    #[error(transparent)]
    Malformed(#[from] JwsError),
    /// It says that it is something else than an access token.
    #[error("the token says that it is a {0:?}")]
    Kind(String),
    /// It names no tenant, or none that is onboarded.
    #[error("the token's tenant is not onboarded")]
    UnknownTenant,
    /// Signed by a key that the tenant's set does not hold (any more, or yet): fetch it anew.
    #[error("tenant {tenant} has no key {kid:?}")]
    UnknownKey {
        /// The tenant that the token claims.
        tenant: Guid,
        /// The key that it names, at most 80 characters.
        kid: String,
    },
    /// It names no key, and the tenant's keys have names.
    #[error("the token names no key")]
    NoKeyNamed,
    /// The signature does not fit.
    #[error("the token's signature does not fit")]
    Signature,
    /// Issuer, audience or tenant is another.
    #[error("the token is for somebody else: wrong {0}")]
    Foreign(&'static str),
    /// A claim is missing, or of another type than it must be.
    #[error("the token's claim {0:?} is missing, or not what it must be")]
    Claim(&'static str),
    /// An operator switched this tenant off.
    #[error("authentication by tenant {0} is switched off")]
    TenantDisabled(Guid),
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

impl EntraError {
    /// What a gateway answers. Every forgery gets the same; only the bearer of a token that the
    /// tenant did sign for this site learns that it came too late or that the tenant is off.
    pub const fn reason_at_gateway(&self) -> Reason {
        match self {
            Self::Malformed(_)
            | Self::Kind(_)
            | Self::UnknownTenant
            | Self::UnknownKey { .. }
            | Self::NoKeyNamed
            | Self::Signature
            | Self::Foreign(_)
            | Self::Claim(_)
            | Self::NoSubject(_) => Reason::TokenNotAccepted,
            Self::TenantDisabled(_) => Reason::TenantDisabled,
            Self::Expired(_) => Reason::TokenExpired,
            Self::NotYetValid(_) => Reason::TokenNotYetValid,
            Self::KeysTooOld => Reason::TenantKeysTooOld,
        }
    }

    /// What the token service answers. It tells an app from a forgery, since whoever set up that
    /// app cannot find out otherwise; it has no code of its own for a token that is not valid yet.
    pub const fn reason_at_token_service(&self) -> Reason {
        match self {
            Self::Malformed(_)
            | Self::Kind(_)
            | Self::UnknownTenant
            | Self::UnknownKey { .. }
            | Self::NoKeyNamed
            | Self::Signature
            | Self::Foreign(_)
            | Self::Claim(_)
            | Self::NotYetValid(_) => Reason::StsTokenNotAccepted,
            Self::TenantDisabled(_) => Reason::StsTenantDisabled,
            Self::NoSubject(_) => Reason::StsNotADevice,
            Self::Expired(_) => Reason::StsTokenExpired,
            Self::KeysTooOld => Reason::StsTenantKeysTooOld,
        }
    }
}
