//! Tokens of Entra ID and of any other OpenID provider that an operator onboarded as a tenant:
//! whose they are and what they say (R10 to R14; facts: `entra.md`).
//!
//! As with the site's own tokens, the dear step ([`TenantSet::verify`]) looks at no clock and can
//! be cached; [`EntraToken::check_time`] is cheap.

mod error;
mod subject;
mod tenant;

use std::time::Duration;

pub use error::EntraError;
pub use subject::EntraSubject;
pub use tenant::{AuthInfo, PublishedTenant, TenantSet};

use crate::id::{Guid, Thumbprint};
use crate::time::Timestamp;

/// How far the provider's clock may be off (R11).
pub const CLOCK_SKEW: Duration = Duration::from_mins(5);
/// How long known keys go on when the provider cannot be reached (R13).
pub const KEYS_LIFETIME: Duration = Duration::from_hours(24);

/// The two `iss` of an Entra tenant, versions 1 and 2 of its tokens [docs]: what `tenant add` proposes.
pub fn entra_issuers(tenant: Guid) -> [String; 2] {
    [format!("https://sts.windows.net/{tenant}/"), format!("https://login.microsoftonline.com/{tenant}/v2.0")]
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

impl EntraToken {
    /// Judges `exp`, `nbf` and the age of the key at `now`, with [`CLOCK_SKEW`] in the token's favour.
    ///
    /// The key comes first: where it does not count any more, nothing that it signed does.
    pub fn check_time(&self, now: Timestamp) -> Result<(), EntraError> {
        if now >= self.keys_until {
            return Err(EntraError::KeysTooOld);
        }
        if now >= self.expires.plus(CLOCK_SKEW) {
            return Err(EntraError::Expired(self.expires));
        }
        if now < self.not_before.minus(CLOCK_SKEW) {
            return Err(EntraError::NotYetValid(self.not_before));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_judged_with_five_minutes_of_grace_and_old_keys_without_any() {
        let at = |seconds: i64| Timestamp::from_seconds(1_800_000_000 + seconds);
        let token = EntraToken {
            tenant: Guid::nil(),
            subject: EntraSubject::Device { device: Guid::nil() },
            not_before: at(0),
            expires: at(3_600),
            keys_until: at(86_400),
            digest: Thumbprint::of(b"text"),
        };
        assert_eq!(token.check_time(at(-300)), Ok(()));
        assert_eq!(token.check_time(at(-301)), Err(EntraError::NotYetValid(at(0))));
        assert_eq!(token.check_time(at(3_899)), Ok(()));
        assert_eq!(token.check_time(at(3_900)), Err(EntraError::Expired(at(3_600))));
        assert_eq!(token.check_time(at(86_399)), Err(EntraError::Expired(at(3_600))));
        assert_eq!(token.check_time(at(86_400)), Err(EntraError::KeysTooOld));
        let stale = EntraToken { keys_until: at(10), ..token };
        assert_eq!(stale.check_time(at(10)), Err(EntraError::KeysTooOld));
    }

    #[test]
    fn an_entra_tenant_has_two_issuers() {
        let tenant = "c8c82542-203c-4df9-9d86-cdd4dae67e0a".parse().unwrap();
        assert_eq!(
            entra_issuers(tenant),
            [
                "https://sts.windows.net/c8c82542-203c-4df9-9d86-cdd4dae67e0a/",
                "https://login.microsoftonline.com/c8c82542-203c-4df9-9d86-cdd4dae67e0a/v2.0"
            ]
        );
    }
}
