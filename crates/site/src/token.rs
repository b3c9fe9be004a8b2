//! CCM tokens: what `CCM_STS` gives for a proof of identity.

use std::time::Duration;

use proto::id::{ClientId, Guid, Thumbprint};
use proto::reason::Reason;
use proto::time::Timestamp;
use proto::token::{CCM_LIFETIME, EntraOrigin, Token, TokenClass};

use crate::bulk_token::BulkToken;
use crate::db::{self, DbError};
use crate::device::{Approval, Device};
use crate::keys::RingError;
use crate::{Site, random_guid};

/// Whose identity was proved, and with which key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CcmSubject {
    /// A stranger with a bulk registration token and a fresh key.
    Stranger {
        /// The bulk token's id.
        bulk_token: Guid,
        /// The certificate whose key was shown.
        key: Thumbprint,
    },
    /// A registered device with its self-prove token.
    Device {
        /// Its id.
        device: ClientId,
        /// The certificate whose key was shown.
        key: Thumbprint,
    },
    /// Whoever holds this key, with a verified token of a tenant.
    Entra {
        /// Whom the tenant's token named.
        origin: EntraOrigin,
        /// The certificate whose key was shown.
        key: Thumbprint,
    },
    /// Whoever holds this key, with a trusted certificate whose key was proved, too.
    Certificate {
        /// The certificate whose key was shown.
        key: Thumbprint,
        /// The trusted certificate; may be the same one.
        pki: Thumbprint,
    },
}

/// A CCM token just made.
#[derive(Clone, PartialEq, Eq)]
pub struct CcmToken {
    /// The JWT.
    pub text: String,
    /// What it opens: all that a registered device may do, or registration only.
    pub class: TokenClass,
    /// When it ends.
    pub expires: Timestamp,
    /// How long that is from now.
    pub expires_in: Duration,
}

impl std::fmt::Debug for CcmToken {
    /// Without the text.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CcmToken").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// No CCM token was given.
#[derive(Debug, thiserror::Error)]
pub enum CcmTokenError {
    /// The bulk token is not on record.
    #[error("there is no bulk registration token {0}")]
    UnknownBulkToken(Guid),
    /// The bulk token lets nobody in any more.
    #[error("bulk registration token {id} refused: {}", reason.row().cause)]
    BulkToken {
        /// The token.
        id: Guid,
        /// Why.
        reason: Reason,
    },
    /// The device is not on record.
    #[error("there is no device {0}")]
    UnknownDevice(ClientId),
    /// The device is blocked.
    #[error("device {0} is blocked")]
    Blocked(ClientId),
    /// The device is registered with another key.
    #[error("device {0} is registered with another key")]
    OtherKey(ClientId),
    /// The tenant is not onboarded any more.
    #[error("tenant {0} is not onboarded")]
    UnknownTenant(Guid),
    /// An operator switched the tenant off.
    #[error("authentication by tenant {0} is switched off")]
    TenantDisabled(Guid),
    /// The key is registered for another device of the tenant.
    #[error("device {device} is registered as Entra device {registered}, and the token names {named}")]
    OtherEntraDevice {
        /// The record.
        device: ClientId,
        /// The Entra device on it.
        registered: Guid,
        /// The one in the token.
        named: Guid,
    },
    /// The tenant's device is a blocked one.
    #[error("Entra device {0} is that of a blocked device")]
    EntraDeviceBlocked(Guid),
    /// The record names another certificate.
    #[error("device {0} is on record with another certificate")]
    OtherCertificate(ClientId),
    /// The signature was not made.
    #[error("token not made")]
    Sign(#[from] RingError),
    /// The database failed.
    #[error("token not made")]
    Database(#[from] DbError),
}

impl CcmTokenError {
    /// What the caller is told. It has proved its key by now.
    pub fn reason(&self) -> Reason {
        match self {
            Self::UnknownBulkToken(_) => Reason::BulkTokenUnknown,
            Self::BulkToken { reason: Reason::BulkTokenBlocked, .. } => Reason::StsBulkTokenBlocked,
            Self::BulkToken { reason: Reason::TokenExpired, .. } => Reason::StsTokenExpired,
            Self::BulkToken { reason, .. } => *reason,
            Self::UnknownDevice(_) => Reason::StsUnknownDevice,
            Self::Blocked(_) | Self::EntraDeviceBlocked(_) => Reason::StsDeviceBlocked,
            Self::OtherKey(_) | Self::UnknownTenant(_) => Reason::StsTokenNotAccepted,
            Self::TenantDisabled(_) => Reason::StsTenantDisabled,
            Self::OtherEntraDevice { .. } => Reason::StsOtherEntraDevice,
            Self::OtherCertificate(_) => Reason::CertificateOfAnother,
            Self::Database(error) if error.is_passing() => Reason::Busy,
            Self::Sign(_) | Self::Database(_) => Reason::InternalError,
        }
    }
}

/// What a token may say, once the tables were asked. Pure, so that it is tested at any moment.
#[derive(Debug)]
struct Grant {
    class: TokenClass,
    device: Option<ClientId>,
    bulk: Option<Guid>,
    entra: Option<EntraOrigin>,
    key: Thumbprint,
    /// Never outlives what it came from.
    latest_end: Option<Timestamp>,
}

fn grant_stranger(
    token: &BulkToken,
    used_before: bool,
    key: Thumbprint,
    now: Timestamp,
) -> Result<Grant, CcmTokenError> {
    token.admit(used_before, now).map_err(|reason| CcmTokenError::BulkToken { id: token.id, reason })?;
    Ok(Grant {
        class: TokenClass::PreAuth,
        device: None,
        bulk: Some(token.id),
        entra: None,
        key,
        latest_end: Some(token.expires_at),
    })
}

fn grant_device(device: &Device, key: Thumbprint) -> Result<Grant, CcmTokenError> {
    if device.signing_thumbprint != key {
        return Err(CcmTokenError::OtherKey(device.id));
    }
    if device.blocked {
        return Err(CcmTokenError::Blocked(device.id));
    }
    // Registered is not approved: until then the token says who it is and opens registration only.
    let class = match device.approval {
        Approval::Approved => TokenClass::Device,
        Approval::Held => TokenClass::PreAuth,
    };
    Ok(Grant { class, device: Some(device.id), bulk: None, entra: None, key, latest_end: None })
}

/// The key of somebody whom the tables do not know: the token opens registration only.
fn grant_unregistered(key: Thumbprint, entra: Option<EntraOrigin>) -> Grant {
    Grant { class: TokenClass::PreAuth, device: None, bulk: None, entra, key, latest_end: None }
}

/// A tenant's token is the registered device's own only if the record names no other Entra device.
/// It says the more: with a user in it, the CCM token is a user's.
fn grant_entra(
    device: Option<&Device>,
    origin: EntraOrigin,
    key: Thumbprint,
) -> Result<Grant, CcmTokenError> {
    let Some(device) = device else { return Ok(grant_unregistered(key, Some(origin))) };
    let recorded = device.entra.and_then(|entra| Some((entra.tenant, entra.device?)));
    if let (Some((tenant, registered)), Some(named)) = (recorded, origin.device)
        && (tenant, registered) != (origin.tenant, named)
    {
        return Err(CcmTokenError::OtherEntraDevice { device: device.id, registered, named });
    }
    let grant = grant_device(device, key)?;
    let class = match (grant.class, origin.user) {
        (TokenClass::Device, Some(_)) => TokenClass::User,
        (class, _) => class,
    };
    Ok(Grant { class, entra: Some(origin), ..grant })
}

/// A certificate is the registered device's own only if the record names no other one.
fn grant_certificate(
    device: Option<&Device>,
    pki: Thumbprint,
    key: Thumbprint,
) -> Result<Grant, CcmTokenError> {
    let Some(device) = device else { return Ok(grant_unregistered(key, None)) };
    if device.pki.as_ref().is_some_and(|recorded| recorded.thumbprint != pki) {
        return Err(CcmTokenError::OtherCertificate(device.id));
    }
    grant_device(device, key)
}

impl Site {
    /// Gives a CCM token of eight hours, bound to the key that was shown (R21). Whoever asks has
    /// been authenticated by the caller of this.
    pub async fn issue_ccm_token(&self, subject: CcmSubject) -> Result<CcmToken, CcmTokenError> {
        let now = self.now();
        if let CcmSubject::Entra { origin, .. } = subject {
            match self.current_snapshot().tenants.get(&origin.tenant) {
                None => return Err(CcmTokenError::UnknownTenant(origin.tenant)),
                Some(tenant) if !tenant.enabled => return Err(CcmTokenError::TenantDisabled(origin.tenant)),
                Some(_) => {}
            }
        }
        let grant = self
            .db()
            .read(move |tx| match subject {
                CcmSubject::Stranger { bulk_token, key } => {
                    let token = db::bulk_token::find(tx, bulk_token)?;
                    let token = token.ok_or(CcmTokenError::UnknownBulkToken(bulk_token))?;
                    let used_before = db::bulk_token::was_used_by(tx, bulk_token, key)?;
                    grant_stranger(&token, used_before, key, now)
                }
                CcmSubject::Device { device, key } => {
                    let found = db::device::find(tx, device)?.ok_or(CcmTokenError::UnknownDevice(device))?;
                    grant_device(&found, key)
                }
                CcmSubject::Entra { origin, key } => {
                    let grant = grant_entra(db::device::find_by_key(tx, key)?.as_ref(), origin, key)?;
                    match origin.device {
                        // It does not come back by its tenant under another key.
                        Some(device) if db::device::has_blocked_entra(tx, origin.tenant, device)? => {
                            Err(CcmTokenError::EntraDeviceBlocked(device))
                        }
                        _ => Ok(grant),
                    }
                }
                CcmSubject::Certificate { key, pki } => {
                    grant_certificate(db::device::find_by_key(tx, key)?.as_ref(), pki, key)
                }
            })
            .await?;
        self.mint_ccm(&grant, now)
    }

    /// Issues the token of a registered device whose record the caller has read for this very request, so
    /// that it is not read twice. What changes meanwhile counts all the same: block and approval are read
    /// again wherever the token is used.
    pub fn issue_token_for(&self, device: &Device, key: Thumbprint) -> Result<CcmToken, CcmTokenError> {
        self.mint_ccm(&grant_device(device, key)?, self.now())
    }

    fn mint_ccm(&self, grant: &Grant, now: Timestamp) -> Result<CcmToken, CcmTokenError> {
        let not_before = Timestamp::from_seconds(now.seconds());
        let full = not_before.plus(CCM_LIFETIME);
        let expires = grant.latest_end.map_or(full, |end| full.min(end));
        let token = Token {
            class: grant.class,
            unique_id: random_guid(),
            hierarchy: self.facts().hierarchy,
            device: grant.device,
            user: grant.entra.and_then(|origin| origin.user).filter(|_| grant.class == TokenClass::User),
            bulk: grant.bulk,
            entra: grant.entra,
            confirmation: Some(grant.key),
            not_before,
            expires,
        };
        let text = self.keys().current.mint(&token)?;
        self.counts().minted(token.class);
        Ok(CcmToken { text, class: token.class, expires, expires_in: expires.since(not_before) })
    }

    /// Signs the self-prove token of a device: this certificate belongs to this client. Answers
    /// text, end, and the key that signed it, whose record must note the end.
    pub(crate) fn mint_self_prove(
        &self,
        device: ClientId,
        key: Thumbprint,
        now: Timestamp,
    ) -> Result<(String, Timestamp, Guid), RingError> {
        let not_before = Timestamp::from_seconds(now.seconds());
        let expires = not_before.plus(self.settings().self_prove_lifetime);
        let token = Token {
            class: TokenClass::SelfProve,
            unique_id: random_guid(),
            hierarchy: self.facts().hierarchy,
            device: Some(device),
            user: None,
            bulk: None,
            entra: None,
            confirmation: Some(key),
            not_before,
            expires,
        };
        let keys = self.keys();
        self.counts().minted(token.class);
        Ok((keys.current.mint(&token)?, expires, keys.current.id))
    }
}
