//! Who asks: the proofs that a request and its connection carry, judged.
//!
//! | what came | what it proves |
//! |---|---|
//! | a bearer token, at either door | the token decides, whatever certificate came along |
//! | none, at `MutualAuth` | the certificate of the handshake, if the site trusts its chain |
//! | none, at `ServerAuth` | nothing |
//!
//! A device's own token that has ended still opens the token service, with its key: there it may come back.
//!
//! Until a signature or a key is proved the device learns one code; the exact cause is for the operator.

use std::sync::Arc;

use proto::endpoint::{Caller, Endpoint};
use proto::entra::{EntraError, EntraToken};
use proto::id::{ClientId, Thumbprint};
use proto::identity::{self, Identity};
use proto::path::Door;
use proto::pki::Distrust;
use proto::reason::Reason;
use proto::snapshot::Snapshot;
use proto::status;
use proto::time::Timestamp;
use proto::token::{Token, TokenClass, TokenError};

use super::{Asked, Refused};

/// Checks what costs signatures, and remembers what it has seen.
pub trait Verify {
    /// Form, signature and origin of a bearer token.
    fn bearer(&self, text: &str) -> Result<Bearer, NotAccepted>;

    /// Whether the site trusts the certificate that the connection showed, with its whole chain.
    fn certificate(&self, now: Timestamp) -> Result<(), NotTrusted>;
}

/// A bearer token whose signature holds. Its time, key and blocks are not judged yet.
#[derive(Debug, Clone)]
pub enum Bearer {
    /// The site made it.
    Site(Arc<Token>),
    /// An onboarded tenant made it.
    Tenant(Arc<EntraToken>),
}

/// Why a bearer token is not accepted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NotAccepted {
    /// As one of the site.
    #[error(transparent)]
    Site(#[from] TokenError),
    /// As one of a tenant.
    #[error(transparent)]
    Tenant(#[from] EntraError),
}

/// Why a certificate opens no door.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotTrusted {
    /// A device's own: it is the key that tokens are bound to, and proves nothing without one.
    #[error("the certificate is self-signed")]
    SelfSigned,
    /// The true cause.
    #[error(transparent)]
    Distrust(Distrust),
}

impl Asked<'_> {
    /// Who asks.
    pub(super) fn identify(
        &self,
        door: Door,
        endpoint: Option<&Endpoint>,
        site: &Snapshot,
        verify: &impl Verify,
        now: Timestamp,
    ) -> Result<Identity, Refused> {
        let Some(text) = self.authorization.and_then(identity::bearer) else {
            return match door {
                Door::ServerAuth => Err(Refused::new(Reason::NoToken, "no bearer token")),
                Door::MutualAuth => self.identify_certificate(site, verify, now),
            };
        };
        match verify.bearer(text) {
            Ok(Bearer::Site(token)) => self.judge_token(door, endpoint, &token, site, now),
            Ok(Bearer::Tenant(token)) => self.judge_tenant_token(door, &token, site, now),
            Err(NotAccepted::Site(error)) => {
                Err(refused_token(door, Reason::TokenNotAccepted, error.to_string(), None))
            }
            Err(NotAccepted::Tenant(error)) => Err(refused_tenant_token(door, site, &error)),
        }
    }

    fn identify_certificate(
        &self,
        site: &Snapshot,
        verify: &impl Verify,
        now: Timestamp,
    ) -> Result<Identity, Refused> {
        let refused = |reason, detail: String| Refused {
            phrase: Some(status::INVALID_CLIENT_CERTIFICATE),
            ..Refused::new(reason, detail)
        };
        let Some(thumbprint) = self.shown else {
            return Err(refused(Reason::NoClientCertificate, "neither certificate nor token".to_owned()));
        };
        if site.blocked_certificates.contains(&thumbprint) {
            return Err(refused(Reason::DeviceBlocked, blocked(thumbprint)));
        }
        match verify.certificate(now) {
            Ok(()) => Ok(Identity::Certificate { thumbprint }),
            Err(NotTrusted::SelfSigned) => Err(refused(
                Reason::NoClientCertificate,
                format!("no token, and certificate {thumbprint} is self-signed"),
            )),
            Err(NotTrusted::Distrust(distrust)) => {
                Err(refused(distrust.gateway_reason(), distrust.to_string()))
            }
        }
    }

    fn judge_token(
        &self,
        door: Door,
        endpoint: Option<&Endpoint>,
        token: &Token,
        site: &Snapshot,
        now: Timestamp,
    ) -> Result<Identity, Refused> {
        let binding = site.settings.token_binding;
        let judge = |at| identity::judge_token(token, self.shown, binding, site, at);
        let judged = match judge(now) {
            // So that its blocks count all the same.
            Err(Reason::TokenExpired) if self.comes_back(endpoint, token) => judge(token.expires),
            judged => judged,
        };
        judged.map_err(|reason| {
            let detail = self.judgement(token, reason, now);
            // Only a caller that has shown the key is the device that the token names.
            let proved = !matches!(reason, Reason::TokenNotAccepted | Reason::TokenKeyMissing);
            refused_token(door, reason, detail, token.device.filter(|_| proved))
        })?;
        self.check_block(door, site, token.device)?;
        Ok(Identity::Token(token.clone()))
    }

    /// Whether a device that was away until its own token ended knocks at the token service, with the key
    /// that the token is bound to: whether it may come back is for the site to judge.
    fn comes_back(&self, endpoint: Option<&Endpoint>, token: &Token) -> bool {
        token.class == TokenClass::SelfProve
            && token.confirmation.is_some()
            && self.shown == token.confirmation
            && endpoint.is_some_and(|endpoint| endpoint.open_outside_to(Caller::SelfProve))
    }

    /// A tenant's token needs no key here: it opens the token service alone, and that one asks for a signed
    /// request.
    fn judge_tenant_token(
        &self,
        door: Door,
        token: &EntraToken,
        site: &Snapshot,
        now: Timestamp,
    ) -> Result<Identity, Refused> {
        token.check_time(now).map_err(|error| refused_tenant_token(door, site, &error))?;
        self.check_block(door, site, None)?;
        Ok(Identity::Entra(token.clone()))
    }

    /// A blocked device has no use for a token of anybody's.
    fn check_block(&self, door: Door, site: &Snapshot, device: Option<ClientId>) -> Result<(), Refused> {
        match self.shown.filter(|shown| site.blocked_certificates.contains(shown)) {
            Some(shown) => Err(refused_token(door, Reason::DeviceBlocked, blocked(shown), device)),
            None => Ok(()),
        }
    }

    /// The exact cause of a judgement, for the operator.
    fn judgement(&self, token: &Token, reason: Reason, now: Timestamp) -> String {
        let show =
            |print: Option<Thumbprint>| print.map_or_else(|| "none".to_owned(), |print| print.to_string());
        match reason {
            Reason::TokenNotAccepted | Reason::TokenKeyMissing => format!(
                "the token is bound to certificate {}, the connection showed {}",
                show(token.confirmation),
                show(self.shown)
            ),
            Reason::TokenExpired | Reason::TokenNotYetValid => {
                token.check_time(now).err().map_or_else(String::new, |error| error.to_string())
            }
            Reason::BulkTokenBlocked => {
                format!("bulk token {} is blocked", token.bulk.unwrap_or(token.unique_id))
            }
            Reason::TenantDisabled => {
                let tenant = token.entra.map_or_else(String::new, |origin| origin.tenant.to_string());
                format!("the token was given for one of tenant {tenant}, which is switched off or gone")
            }
            _ => token.device.map_or_else(String::new, |device| format!("device {device} is blocked")),
        }
    }
}

fn blocked(certificate: Thumbprint) -> String {
    format!("certificate {certificate} is that of a blocked device")
}

fn refused_token(door: Door, reason: Reason, detail: String, device: Option<ClientId>) -> Refused {
    // Who comes to the certificate's door with a token that is none has shown nothing acceptable.
    let phrase = (door == Door::MutualAuth && reason == Reason::TokenNotAccepted)
        .then_some(status::INVALID_CLIENT_CERTIFICATE);
    Refused { phrase, device, ..Refused::new(reason, detail) }
}

/// Every forgery looks like every other one. What comes after a good signature is told.
fn refused_tenant_token(door: Door, site: &Snapshot, error: &EntraError) -> Refused {
    // Strangers must not make the site fetch for tenants that nobody onboarded.
    let wants_keys_of = match error {
        EntraError::UnknownKey { tenant, .. } => {
            Some(*tenant).filter(|tenant| site.tenants.get(tenant).is_some_and(|known| known.enabled))
        }
        _ => None,
    };
    Refused { wants_keys_of, ..refused_token(door, error.reason_at_gateway(), error.to_string(), None) }
}
