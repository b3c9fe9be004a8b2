//! Confirmation: a registered device shows its key, and gets its status and its means of life.
//!
//! It is also the road back. A device whose self-prove token has ended is still known by its key,
//! for the recovery window; after that an operator readmits it, or new evidence at a registration
//! does (see [`crate::registration`]).

use std::net::IpAddr;
use std::time::Duration;

use proto::id::{ClientId, Thumbprint};
use proto::reason::Reason;
use proto::request::registration::CloudGateway;
use proto::time::Timestamp;
use proto::token::{Token, TokenClass};
use serde_json::json;

use crate::audit::{Actor, By};
use crate::client_settings::resolve_for;
use crate::db::{self, DbError};
use crate::device::{Approval, Device};
use crate::keys::RingError;
use crate::name::{NameError, check_text};
use crate::token::CcmToken;
use crate::{Site, random_guid, stranded};

/// Life of the CCM token by which a device with an ended self-prove token comes to its confirmation.
const RECOVERY_TOKEN: Duration = Duration::from_hours(1);

/// A confirmed registration: the device's status and its means of life.
#[derive(Clone, PartialEq, Eq)]
pub struct Confirmation {
    /// `ApprovalStatus` of the reply: 1 approved, 3 approved by Entra, -1 held.
    pub approval_status: i8,
    /// The self-prove token.
    pub token: String,
    /// When it ends.
    pub expires: Timestamp,
    /// Whether and where it may use gateways: travels with the reply.
    pub cloud_gateway: CloudGateway,
    /// Whether its last token had ended: it has just come back by its key.
    pub recovered: bool,
}

impl std::fmt::Debug for Confirmation {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = f.debug_struct("Confirmation");
        out.field("approval_status", &self.approval_status)
            .field("expires", &self.expires)
            .field("recovered", &self.recovered)
            .finish_non_exhaustive()
    }
}

/// A confirmation was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum ConfirmError {
    /// Not on record.
    #[error("there is no device {0}")]
    Unknown(ClientId),
    /// Blocked.
    #[error("device {0} is blocked")]
    Blocked(ClientId),
    /// Held as a copy.
    #[error("device {0} is held because its key or its hardware is used twice")]
    CloneSuspected(ClientId),
    /// Its token ended too long ago for its key alone to prove it.
    #[error(
        "device {device} came back after its recovery window, which ended at {ended}; an operator can readmit it"
    )]
    TooLate {
        /// The device.
        device: ClientId,
        /// When the window ended.
        ended: Timestamp,
    },
    /// A value is out of bounds.
    #[error("confirmation not taken")]
    Name(#[from] NameError),
    /// The token was not signed.
    #[error("self-prove token not made")]
    Sign(#[from] RingError),
    /// The database failed.
    #[error("confirmation not written")]
    Database(#[from] DbError),
}

impl ConfirmError {
    /// What the caller is told; it has proved its key.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unknown(_) => Reason::MessageRefused,
            Self::Blocked(_) => Reason::Blocked,
            Self::CloneSuspected(_) => Reason::CloneSuspected,
            Self::TooLate { .. } => Reason::RecoveryWindowOver,
            Self::Name(_) => Reason::RegistrationMalformed,
            Self::Database(error) if error.is_passing() => Reason::Busy,
            Self::Sign(_) | Self::Database(_) => Reason::InternalError,
        }
    }
}

/// A device with an ended self-prove token gets no token to come back with.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// Not on record.
    #[error("there is no device {0}")]
    Unknown(ClientId),
    /// Registered with another key.
    #[error("device {0} is registered with another key")]
    OtherKey(ClientId),
    /// It may not come back now.
    #[error("device does not come back by its key")]
    Refused(#[source] ConfirmError),
    /// The signature was not made.
    #[error("recovery token not made")]
    Sign(#[from] RingError),
    /// The database failed.
    #[error("recovery token not made")]
    Database(#[from] DbError),
}

impl RecoverError {
    /// What the caller is told by the token service; it has proved its key.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unknown(_) => Reason::StsUnknownDevice,
            Self::OtherKey(_) => Reason::StsTokenNotAccepted,
            Self::Refused(ConfirmError::Blocked(_)) => Reason::StsDeviceBlocked,
            Self::Refused(error) => error.reason(),
            Self::Database(error) if error.is_passing() => Reason::Busy,
            Self::Sign(_) | Self::Database(_) => Reason::InternalError,
        }
    }
}

/// `ApprovalStatus` on the wire (settled point 11): 3 for those whom the rule `entra` approved.
pub(crate) fn approval_status(device: &Device) -> i8 {
    match device.approval {
        Approval::Held => -1,
        Approval::Approved if is_by_entra(&device.approval_by) => 3,
        Approval::Approved => 1,
    }
}

/// Whether an approval was given by the rule `entra`.
pub(crate) fn is_by_entra(rule: &str) -> bool {
    rule.split(' ').next() == Some("entra")
}

/// When the key alone stops proving the device. A device that never confirmed counts from its
/// registration, as if it had got its token then.
pub(crate) fn recovery_end(device: &Device, lifetime: Duration, window: Duration) -> Timestamp {
    device.token_expires_at.unwrap_or_else(|| device.registered_at.plus(lifetime)).plus(window)
}

/// Whether a device may come back by its key at this moment.
fn admit(device: &Device, lifetime: Duration, window: Duration, now: Timestamp) -> Result<(), ConfirmError> {
    let ended = recovery_end(device, lifetime, window);
    if device.blocked {
        Err(ConfirmError::Blocked(device.id))
    } else if device.clone_suspicion.is_some() {
        Err(ConfirmError::CloneSuspected(device.id))
    } else if now >= ended {
        Err(ConfirmError::TooLate { device: device.id, ended })
    } else {
        Ok(())
    }
}

impl Site {
    /// Answers a confirmation that the registered key has signed: status, and a new self-prove
    /// token. Nothing that was given before stops to count (R24), so a lost answer costs nothing;
    /// and a device whose token has ended comes back by its key, within the recovery window.
    pub async fn confirm_registration(
        &self,
        from: Option<IpAddr>,
        device: ClientId,
        client_version: &str,
        signs_requests: bool,
    ) -> Result<Confirmation, ConfirmError> {
        check_text("client version", client_version)?;
        let settings = self.settings();
        let (lifetime, window) = (settings.self_prove_lifetime, settings.recovery_window);
        let now = self.now();
        let found = self.db().read(move |tx| db::device::find(tx, device)).await?;
        let found = found.ok_or(ConfirmError::Unknown(device))?;
        admit(&found, lifetime, window, now)?;
        let (token, expires, signer) = self.mint_self_prove(device, found.signing_thumbprint, now)?;
        let scribe = self.scribe(&By { actor: Actor::Device(device), from });
        let version = client_version.to_owned();
        let (approval_status, cloud_gateway, recovered) = self
            .db()
            .write(move |tx| {
                // Asked again: it may have been blocked or deleted meanwhile.
                let device = db::device::find(tx, device)?.ok_or(ConfirmError::Unknown(device))?;
                admit(&device, lifetime, window, scribe.now)?;
                let recovered = device.token_expires_at.is_some_and(|end| end <= scribe.now);
                let version = if version.is_empty() { &device.client_version } else { &version };
                db::device::set_confirmed(tx, device.id, scribe.now, expires, version, signs_requests)?;
                if recovered {
                    db::device::set_recovered(tx, device.id, scribe.now)?;
                }
                // The ended token is what a device outside comes back with, so its key must go on
                // to verify through the recovery window.
                db::key::raise_last_expiry(tx, signer, expires.plus(window))?;
                stranded::forget(tx, &device)?;
                let detail = json!({ "token-expires": expires.iso8601(), "recovered": recovered });
                scribe.note(tx, "device.confirm", device.id, &detail)?;
                let gateway = resolve_for(tx, Some(device.id))?.cloud_gateway(tx)?;
                Ok::<_, ConfirmError>((approval_status(&device), gateway, recovered))
            })
            .await?;
        Ok(Confirmation { approval_status, token, expires, cloud_gateway, recovered })
    }

    /// Gives a device with an ended self-prove token, whose key the caller has seen proved, a
    /// `PreAuth` CCM token for one hour: it opens the registration endpoint and nothing that a
    /// device may, approved or not. Within the recovery window only.
    pub async fn recover_device(&self, device: ClientId, key: Thumbprint) -> Result<CcmToken, RecoverError> {
        let found = self.db().read(move |tx| db::device::find(tx, device)).await?;
        let found = found.ok_or(RecoverError::Unknown(device))?;
        if found.signing_thumbprint != key {
            return Err(RecoverError::OtherKey(device));
        }
        let settings = self.settings();
        let now = self.now();
        admit(&found, settings.self_prove_lifetime, settings.recovery_window, now)
            .map_err(RecoverError::Refused)?;
        let not_before = Timestamp::from_seconds(now.seconds());
        let token = Token {
            class: TokenClass::PreAuth,
            unique_id: random_guid(),
            hierarchy: self.facts().hierarchy,
            device: Some(device),
            user: None,
            bulk: None,
            entra: None,
            confirmation: Some(key),
            not_before,
            expires: not_before.plus(RECOVERY_TOKEN),
        };
        let text = self.keys().current.mint(&token)?;
        self.counts().minted(token.class);
        Ok(CcmToken { text, class: token.class, expires: token.expires, expires_in: RECOVERY_TOKEN })
    }
}
