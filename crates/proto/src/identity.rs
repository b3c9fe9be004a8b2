//! Who is asking: the sum of all ways to prove it, and the one place where the proof that a
//! token needs is judged.

use crate::endpoint::Caller;
use crate::entra::EntraToken;
use crate::id::{ClientId, Guid, Thumbprint};
use crate::reason::Reason;
use crate::time::Timestamp;
use crate::token::{Token, TokenClass, TokenError};

/// How a device proves itself, kept on its record with the reason for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// A certificate of a PKI that the site trusts.
    Certificate,
    /// An Entra device token.
    EntraDevice,
    /// An Entra user token.
    EntraUser,
    /// A token that the site issued, with the device's own key.
    SiteToken,
}

impl Method {
    /// Every method, the preferred one first.
    pub const PREFERENCE: [Self; 4] =
        [Self::Certificate, Self::EntraDevice, Self::EntraUser, Self::SiteToken];

    /// The name on the wire of the operator API, and in the database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::EntraDevice => "entra-device",
            Self::EntraUser => "entra-user",
            Self::SiteToken => "site-token",
        }
    }
}

impl std::fmt::Display for Method {
    /// As an operator reads it: "site token".
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Certificate => "certificate",
            Self::EntraDevice => "Entra device",
            Self::EntraUser => "Entra user",
            Self::SiteToken => "site token",
        })
    }
}

/// What a request has shown about its sender, after judgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Nothing, or nothing that held.
    Anonymous,
    /// A certificate whose chain the site trusts.
    Certificate {
        /// Its thumbprint.
        thumbprint: Thumbprint,
    },
    /// A token of an onboarded tenant, shown with a key of the caller's own.
    Entra(EntraToken),
    /// A token, and the key that it is bound to.
    Token(Token),
}

impl Identity {
    /// The class under which the endpoint table knows it.
    pub fn caller(&self) -> Caller {
        match self {
            Self::Anonymous => Caller::Anonymous,
            Self::Certificate { .. } => Caller::Certificate,
            Self::Entra(_) => Caller::Entra,
            Self::Token(token) => token.class.caller(),
        }
    }

    /// The device that it names, if it names one.
    pub fn device(&self) -> Option<ClientId> {
        match self {
            Self::Token(token) => token.device,
            Self::Anonymous | Self::Certificate { .. } | Self::Entra(_) => None,
        }
    }
}

/// Whether a token counts without the key that it is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenBinding {
    /// The key must be shown. The default, and the only value that is not an alarm.
    #[default]
    Required,
    /// The key need not be shown: for load tools that cannot present certificates.
    Off,
}

/// What the site has blocked, as far as admission needs it.
pub trait Blocked {
    /// Whether an operator has blocked this bulk registration token.
    fn is_bulk_token_blocked(&self, id: Guid) -> bool;
    /// Whether an operator has blocked this device.
    fn is_device_blocked(&self, id: ClientId) -> bool;
    /// Whether nothing counts that this tenant vouched for: it is not onboarded, or switched off. Tokens of
    /// the site that were given for its tokens would outlive the operator's word by hours else.
    fn is_tenant_off(&self, tenant: Guid) -> bool;
}

/// Judges a token whose signature has been verified: its time, its key, its blocks.
///
/// `shown` is the thumbprint of the certificate whose key the caller has proved, in the TLS
/// handshake or by a signed request. The order matters: until a key is proved the caller
/// learns nothing but that the token was not accepted (settled point 12).
pub fn judge_token(
    token: &Token,
    shown: Option<Thumbprint>,
    binding: TokenBinding,
    blocked: &impl Blocked,
    now: Timestamp,
) -> Result<(), Reason> {
    let bound_elsewhere = match (token.confirmation, binding) {
        (Some(required), TokenBinding::Required) => match shown {
            None => return Err(Reason::TokenKeyMissing),
            Some(shown) => shown != required,
        },
        // A bulk token has no key of its own: whoever holds it may use it, once per key.
        (None, _) | (_, TokenBinding::Off) => false,
    };
    if bound_elsewhere {
        return Err(Reason::TokenNotAccepted);
    }
    match token.check_time(now) {
        Ok(()) => {}
        Err(TokenError::NotYetValid { .. }) => return Err(Reason::TokenNotYetValid),
        Err(_) => return Err(Reason::TokenExpired),
    }
    let bulk = if token.class == TokenClass::Bulk { Some(token.unique_id) } else { token.bulk };
    if bulk.is_some_and(|id| blocked.is_bulk_token_blocked(id)) {
        return Err(Reason::BulkTokenBlocked);
    }
    if token.device.is_some_and(|id| blocked.is_device_blocked(id)) {
        return Err(Reason::DeviceBlocked);
    }
    if token.entra.is_some_and(|origin| blocked.is_tenant_off(origin.tenant)) {
        return Err(Reason::TenantDisabled);
    }
    Ok(())
}

/// The text after `Bearer ` of an `Authorization` header; `None` when it is of another kind.
pub fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    let token = token.trim_start_matches(' ');
    (scheme.eq_ignore_ascii_case("Bearer") && !token.is_empty()).then_some(token)
}

/// Request headers by which a stranger could pretend to be somebody: removed at the gateway
/// and again at the connection point, never believed at the management point (R45).
pub const FORGED_IDENTITY_HEADERS: &[&str] = &[
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-client-cert",
    "x-real-ip",
    "x-client-cert",
    "x-arr-clientcert",
    "x-ssl-client-cert",
    "x-original-url",
    "x-rewrite-url",
    "ssl-client-cert",
    "client-cert",
    "client-cert-chain",
    "via",
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    struct Nothing;
    impl Blocked for Nothing {
        fn is_bulk_token_blocked(&self, _: Guid) -> bool {
            false
        }
        fn is_device_blocked(&self, _: ClientId) -> bool {
            false
        }
        fn is_tenant_off(&self, _: Guid) -> bool {
            false
        }
    }

    struct Everything;
    impl Blocked for Everything {
        fn is_bulk_token_blocked(&self, _: Guid) -> bool {
            true
        }
        fn is_device_blocked(&self, _: ClientId) -> bool {
            true
        }
        fn is_tenant_off(&self, _: Guid) -> bool {
            true
        }
    }

    fn token() -> Token {
        Token {
            class: TokenClass::Device,
            unique_id: Guid::nil(),
            hierarchy: Guid::nil(),
            device: Some(ClientId::new(Guid::nil())),
            user: None,
            bulk: None,
            entra: None,
            confirmation: Some(Thumbprint::of(b"mine")),
            not_before: Timestamp::from_seconds(0),
            expires: Timestamp::from_seconds(100),
        }
    }

    #[test]
    fn a_token_counts_only_with_its_key() {
        let now = Timestamp::from_seconds(50);
        let judge = |shown, binding| judge_token(&token(), shown, binding, &Nothing, now);
        let mine = Some(Thumbprint::of(b"mine"));
        let other = Some(Thumbprint::of(b"other"));
        assert_eq!(judge(mine, TokenBinding::Required), Ok(()));
        assert_eq!(judge(other, TokenBinding::Required), Err(Reason::TokenNotAccepted));
        assert_eq!(judge(None, TokenBinding::Required), Err(Reason::TokenKeyMissing));
        assert_eq!(judge(None, TokenBinding::Off), Ok(()));
    }

    #[test]
    fn without_its_key_a_token_tells_nothing_about_itself() {
        let late = Timestamp::from_seconds(0).plus(Duration::from_secs(10_000));
        let other = Some(Thumbprint::of(b"other"));
        for now in [late, Timestamp::from_seconds(50)] {
            assert_eq!(
                judge_token(&token(), other, TokenBinding::Required, &Everything, now),
                Err(Reason::TokenNotAccepted)
            );
        }
    }

    #[test]
    fn blocks_and_ends_are_named_to_whoever_holds_the_key() {
        let mine = Some(Thumbprint::of(b"mine"));
        let judge = |blocked: bool, seconds| {
            let now = Timestamp::from_seconds(seconds);
            if blocked {
                judge_token(&token(), mine, TokenBinding::Required, &Everything, now)
            } else {
                judge_token(&token(), mine, TokenBinding::Required, &Nothing, now)
            }
        };
        assert_eq!(judge(true, 50), Err(Reason::DeviceBlocked));
        assert_eq!(judge(false, 500), Err(Reason::TokenExpired));
        assert_eq!(judge(false, -500), Err(Reason::TokenNotYetValid));
    }

    #[test]
    fn what_a_tenant_vouched_for_counts_as_long_as_the_tenant_does() {
        let mine = Some(Thumbprint::of(b"mine"));
        let now = Timestamp::from_seconds(50);
        let origin = crate::token::EntraOrigin { tenant: Guid::nil(), device: None, user: None };
        for class in [TokenClass::PreAuth, TokenClass::Device, TokenClass::User] {
            let of_tenant = Token { class, device: None, entra: Some(origin), ..token() };
            let required = TokenBinding::Required;
            assert_eq!(
                judge_token(&of_tenant, mine, required, &Everything, now),
                Err(Reason::TenantDisabled)
            );
            assert_eq!(judge_token(&of_tenant, mine, required, &Nothing, now), Ok(()));
            // Whoever has not shown the key is not told.
            let other = Some(Thumbprint::of(b"other"));
            assert_eq!(
                judge_token(&of_tenant, other, required, &Everything, now),
                Err(Reason::TokenNotAccepted)
            );
            let own = Token { entra: None, ..of_tenant };
            assert_eq!(judge_token(&own, mine, required, &Everything, now), Ok(()));
        }
    }

    #[test]
    fn a_bearer_header_is_read_in_any_case() {
        assert_eq!(bearer("Bearer abc"), Some("abc"));
        assert_eq!(bearer("bearer  abc"), Some("abc"));
        assert_eq!(bearer("Basic abc"), None);
        assert_eq!(bearer("Bearer "), None);
    }
}
