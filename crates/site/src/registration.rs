//! Registration: making a device known. Whether it is trusted is another question, answered by
//! the approval rules in the same transaction.

use proto::id::{ClientId, Guid, Thumbprint};
use proto::identity::Method;
use proto::limits::NAME_CHARS;
use proto::reason::Reason;
use proto::time::Timestamp;
use serde_json::json;

use crate::approval::{ApprovalRule, Decision, Evidence, decide};
use crate::audit::{Actor, By, Scribe};
use crate::bulk_token::BulkToken;
use crate::db::{self, DbError, Tx};
use crate::device::{Approval, Device, SeenVia};
use crate::keys::RingError;
use crate::name::{NameError, check_name, check_text};
use crate::{Site, random_guid};

/// Longest certificate taken, in bytes of DER. An RSA-4096 one with everything has some 2,000.
const CERTIFICATE_BYTES: usize = 8 * 1024;

/// What a device says of itself, its key proved by the signature of the registration.
#[derive(Debug, Clone)]
pub struct NewRegistration {
    /// The certificate whose key signed the registration, DER.
    pub signing_certificate: Vec<u8>,
    /// The certificate that secrets are encrypted to, DER.
    pub encryption_certificate: Vec<u8>,
    /// NetBIOS name.
    pub name: String,
    /// Full name; may be empty.
    pub fqdn: String,
    /// Hardware id; empty counts as none.
    pub hardware_id: Option<String>,
    /// Client version; may be empty.
    pub client_version: String,
    /// Whether this request was signed as our own client signs: from then on the device must.
    pub signs_requests: bool,
    /// How it proved itself.
    pub method: Method,
    /// Why so, and why not better.
    pub method_reason: String,
    /// The road that it came by.
    pub via: SeenVia,
}

/// A registered device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The id that the site chose, or had chosen before for the same key.
    pub client_id: ClientId,
    /// Whether the record was made just now.
    pub is_new: bool,
    /// Whether it is trusted.
    pub approval: Approval,
    /// The rule or operator that decided.
    pub approval_by: String,
    /// The other record that claims the same hardware id or name.
    pub conflict_with: Option<ClientId>,
}

/// A registration was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    /// A value is out of bounds.
    #[error("registration not taken")]
    Name(#[from] NameError),
    /// A certificate is larger than any real one.
    #[error("a certificate of the registration is larger than {CERTIFICATE_BYTES} bytes")]
    Certificate,
    /// The lab's evidence outside the lab.
    #[error("the lab's evidence does not count at this site")]
    NotALab,
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
    /// The key belongs to a blocked device.
    #[error("the key is that of blocked device {0}")]
    Blocked(ClientId),
    /// The hardware id belongs to a blocked device.
    #[error("the hardware id is that of a blocked device")]
    HardwareBlocked,
    /// The database failed.
    #[error("registration not written")]
    Database(#[from] DbError),
}

impl RegistrationError {
    /// What the caller is told.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Name(_) | Self::Certificate => Reason::RegistrationMalformed,
            Self::UnknownBulkToken(_) => Reason::BulkTokenUnknown,
            Self::BulkToken { reason: Reason::TokenExpired, .. } => Reason::InsideTokenExpired,
            Self::BulkToken { reason, .. } => *reason,
            Self::Blocked(_) => Reason::Blocked,
            Self::HardwareBlocked => Reason::HardwareBlocked,
            Self::Database(error) if error.is_passing() => Reason::Busy,
            Self::NotALab | Self::Database(_) => Reason::InternalError,
        }
    }
}

/// A confirmed registration: the device's status and its means of life.
#[derive(Clone, PartialEq, Eq)]
pub struct Confirmation {
    /// `ApprovalStatus` of the reply: 1 approved, 3 approved by Entra, -1 held.
    pub approval_status: i8,
    /// The self-prove token.
    pub token: String,
    /// When it ends.
    pub expires: Timestamp,
}

impl std::fmt::Debug for Confirmation {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = f.debug_struct("Confirmation");
        out.field("approval_status", &self.approval_status)
            .field("expires", &self.expires)
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
            Self::TooLate { .. } => Reason::NotApproved,
            Self::Name(_) => Reason::RegistrationMalformed,
            Self::Database(error) if error.is_passing() => Reason::Busy,
            Self::Sign(_) | Self::Database(_) => Reason::InternalError,
        }
    }
}

/// Names are data, bounded and printable (R28).
fn check(new: &NewRegistration) -> Result<(), RegistrationError> {
    check_name("name", &new.name)?;
    check_text("fqdn", &new.fqdn)?;
    check_text("hardware id", new.hardware_id.as_deref().unwrap_or_default())?;
    check_text("client version", &new.client_version)?;
    if new.signing_certificate.len().max(new.encryption_certificate.len()) > CERTIFICATE_BYTES {
        return Err(RegistrationError::Certificate);
    }
    Ok(())
}

/// The bulk token of the evidence, if one more device, or this key again, may use it.
fn admit_bulk_token(
    tx: &mut dyn Tx,
    evidence: Evidence,
    key: Thumbprint,
    now: Timestamp,
) -> Result<Option<BulkToken>, RegistrationError> {
    let Evidence::BulkToken { id } = evidence else { return Ok(None) };
    let token = db::bulk_token::find(tx, id)?.ok_or(RegistrationError::UnknownBulkToken(id))?;
    let used_before = db::bulk_token::was_used_by(tx, id, key)?;
    token.admit(used_before, now).map_err(|reason| RegistrationError::BulkToken { id, reason })?;
    Ok(Some(token))
}

/// The same key again: the same record, with what the device says now. A rule may approve what no
/// rule approved before, and never what an operator took back.
fn renew_device(
    tx: &mut dyn Tx,
    scribe: &Scribe,
    mut device: Device,
    decision: &Decision,
) -> Result<Device, DbError> {
    db::device::update_facts(tx, &device)?;
    db::device::set_method(tx, device.id, device.method, &device.method_reason, scribe.now)?;
    let by_rule = !device.approval_by.starts_with("operator:");
    if decision.approved && device.approval == Approval::Held && by_rule {
        db::device::set_approval(tx, device.id, Approval::Approved, &decision.rule, scribe.now)?;
        device.approval = Approval::Approved;
        device.approval_by.clone_from(&decision.rule);
        scribe.note(
            tx,
            "device.approve",
            device.id,
            &json!({ "name": device.name, "rule": decision.rule }),
        )?;
    }
    Ok(device)
}

/// A key that nobody registered before: a new record under an id of the site's choice. Another
/// record with the same hardware or name goes on working; both are marked (settled point 19).
fn insert_device(tx: &mut dyn Tx, scribe: &Scribe, device: &Device) -> Result<(), DbError> {
    db::device::insert(tx, device)?;
    if let Some(rival) = device.conflict_with {
        db::device::set_conflict(tx, rival, device.id)?;
    }
    let detail = json!({
        "name": device.name, "hardware-id": device.hardware_id, "certificate": device.signing_thumbprint,
        "approval": device.approval.as_str(), "rule": device.approval_by, "conflict-with": device.conflict_with,
        "method": device.method.name(),
    });
    scribe.note(tx, "device.register", device.id, &detail)
}

/// Everything of a registration that is decided inside its transaction.
fn register(
    tx: &mut dyn Tx,
    scribe: &Scribe,
    rules: &[ApprovalRule],
    new: &NewRegistration,
    evidence: Evidence,
    fresh: ClientId,
) -> Result<Registration, RegistrationError> {
    let key = Thumbprint::of(&new.signing_certificate);
    let hardware_id = new.hardware_id.clone().filter(|id| !id.is_empty());
    let known = db::device::find_by_key(tx, key)?;
    if let Some(blocked) = known.as_ref().filter(|device| device.blocked) {
        return Err(RegistrationError::Blocked(blocked.id));
    }
    if let Some(hardware_id) = &hardware_id
        && db::device::has_blocked_hardware(tx, hardware_id)?
    {
        return Err(RegistrationError::HardwareBlocked);
    }
    let bulk = admit_bulk_token(tx, evidence, key, scribe.now)?;
    let decision = decide(rules, evidence, bulk.as_ref().map(|token| token.approval));
    let is_new = known.is_none();
    let device = if let Some(known) = known {
        if known.encryption_certificate != new.encryption_certificate {
            // Secret policy goes to another key from now on.
            let certificate = Thumbprint::of(&new.encryption_certificate);
            scribe.note(tx, "device.encrypt-to", known.id, &json!({ "certificate": certificate }))?;
        }
        let said = Device {
            name: new.name.clone(),
            fqdn: new.fqdn.clone(),
            hardware_id,
            encryption_certificate: new.encryption_certificate.clone(),
            client_version: new.client_version.clone(),
            signs_requests: known.signs_requests || new.signs_requests,
            method: new.method,
            method_reason: new.method_reason.clone(),
            ..known
        };
        renew_device(tx, scribe, said, &decision)?
    } else {
        let conflict_with = db::device::find_rival(tx, fresh, hardware_id.as_deref(), &new.name)?;
        let device = new_device(new, fresh, key, hardware_id, &decision, conflict_with, scribe.now);
        insert_device(tx, scribe, &device)?;
        device
    };
    if let Some(token) = bulk {
        db::bulk_token::register_use(tx, token.id, key, device.id, scribe.now)?;
    }
    Ok(Registration {
        client_id: device.id,
        is_new,
        approval: device.approval,
        approval_by: device.approval_by,
        conflict_with: device.conflict_with,
    })
}

fn new_device(
    new: &NewRegistration,
    id: ClientId,
    key: Thumbprint,
    hardware_id: Option<String>,
    decision: &Decision,
    conflict_with: Option<ClientId>,
    now: Timestamp,
) -> Device {
    Device {
        id,
        name: new.name.clone(),
        fqdn: new.fqdn.clone(),
        hardware_id,
        signing_thumbprint: key,
        signing_certificate: new.signing_certificate.clone(),
        encryption_certificate: new.encryption_certificate.clone(),
        client_version: new.client_version.clone(),
        signs_requests: new.signs_requests,
        registered_at: now,
        approval: if decision.approved { Approval::Approved } else { Approval::Held },
        approval_by: decision.rule.clone(),
        approval_at: now,
        blocked: false,
        block_note: String::new(),
        conflict_with,
        method: new.method,
        method_reason: new.method_reason.clone(),
        method_since: now,
        confirmed_at: None,
        token_expires_at: None,
        last_seen_at: now,
        last_seen_via: new.via,
        policy_serial: 0,
        policy_applied_at: None,
        heartbeat: String::new(),
        heartbeat_at: None,
        online: false,
    }
}

/// When the key alone stops proving the device. A device that never confirmed counts from its
/// registration, as if it had got its token then.
fn recovery_end(device: &Device, lifetime: std::time::Duration, window: std::time::Duration) -> Timestamp {
    device.token_expires_at.unwrap_or_else(|| device.registered_at.plus(lifetime)).plus(window)
}

impl Site {
    /// Registers a device, once for each key. The site chooses the id (R26); a proposal of the
    /// device is not even an argument.
    pub async fn register_client(
        &self,
        from: Option<std::net::IpAddr>,
        mut new: NewRegistration,
        evidence: Evidence,
    ) -> Result<Registration, RegistrationError> {
        check(&new)?;
        if evidence == Evidence::Lab && !self.is_lab() {
            return Err(RegistrationError::NotALab);
        }
        new.method_reason = new.method_reason.chars().filter(|c| !c.is_control()).take(NAME_CHARS).collect();
        let scribe = self.scribe(&By { actor: Actor::Stranger, from });
        let rules = self.approval_rules();
        let fresh = ClientId::new(random_guid());
        self.db().write(move |tx| register(tx, &scribe, &rules, &new, evidence, fresh)).await
    }

    /// Registers a device under a given id: for the lab, which replays recorded clients.
    pub async fn seed_device(
        &self,
        id: ClientId,
        new: NewRegistration,
    ) -> Result<Registration, RegistrationError> {
        check(&new)?;
        if !self.is_lab() {
            return Err(RegistrationError::NotALab);
        }
        let scribe = self.scribe(&By::site());
        self.db().write(move |tx| register(tx, &scribe, &[], &new, Evidence::Lab, id)).await
    }

    /// Answers a confirmation that the registered key has signed: status, and a new self-prove
    /// token. Nothing that was given before stops to count (R24), so a lost answer costs nothing;
    /// and a device whose token has ended comes back by its key, within the recovery window.
    pub async fn confirm_registration(
        &self,
        from: Option<std::net::IpAddr>,
        device: ClientId,
        client_version: &str,
        signs_requests: bool,
    ) -> Result<Confirmation, ConfirmError> {
        check_text("client version", client_version)?;
        let found = self.db().read(move |tx| db::device::find(tx, device)).await?;
        let found = found.ok_or(ConfirmError::Unknown(device))?;
        let settings = self.settings();
        let now = self.now();
        let ended = recovery_end(&found, settings.self_prove_lifetime, settings.recovery_window);
        if found.blocked {
            return Err(ConfirmError::Blocked(device));
        }
        if now >= ended {
            return Err(ConfirmError::TooLate { device, ended });
        }
        let (token, expires, signer) = self.mint_self_prove(device, found.signing_thumbprint, now)?;
        let scribe = self.scribe(&By { actor: Actor::Device(device), from });
        let version = client_version.to_owned();
        let approval_status = self
            .db()
            .write(move |tx| {
                // Asked again: it may have been blocked or deleted meanwhile.
                let device = db::device::find(tx, device)?.ok_or(ConfirmError::Unknown(device))?;
                if device.blocked {
                    return Err(ConfirmError::Blocked(device.id));
                }
                let version = if version.is_empty() { &device.client_version } else { &version };
                db::device::set_confirmed(tx, device.id, scribe.now, expires, version, signs_requests)?;
                db::key::raise_last_expiry(tx, signer, expires)?;
                scribe.note(
                    tx,
                    "device.confirm",
                    device.id,
                    &json!({ "token-expires": expires.iso8601() }),
                )?;
                Ok(approval_status(&device))
            })
            .await?;
        Ok(Confirmation { approval_status, token, expires })
    }
}

/// `ApprovalStatus` on the wire (settled point 11).
pub(crate) fn approval_status(device: &Device) -> i8 {
    match (device.approval, device.method) {
        (Approval::Held, _) => -1,
        (Approval::Approved, Method::EntraDevice | Method::EntraUser) => 3,
        (Approval::Approved, Method::Certificate | Method::SiteToken) => 1,
    }
}
