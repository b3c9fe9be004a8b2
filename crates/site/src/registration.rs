//! Registration: making a device known, and what it proves itself with. Whether it is trusted is
//! another question, answered by the approval rules in the same transaction.
//!
//! One key is one record. The same key again keeps its id, whatever else it shows: a better method
//! is taken by itself, a fall is noted, and evidence that would approve a stranger brings a device
//! back whose recovery window is over.

mod admit;
mod rate;
mod record;
mod user;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use proto::combination::Join;
use proto::id::{ClientId, Guid, Thumbprint};
use proto::identity::Method;
use proto::reason::Reason;
use proto::request::registration::CloudGateway;
use serde_json::json;
use tracing::{error, warn};

use self::admit::{admit_bulk_token, check_blocks, decide_in_lab_too, gather};
pub(crate) use self::rate::{Burst, Door, Rates};
use self::rate::{Doors, Limits};
use self::record::{insert_device, new_device, renew_device};
pub(crate) use self::user::USER_LIMIT;
use self::user::limit_users;
use crate::approval::{ApprovalRule, Evidence};
use crate::audit::{Actor, By, Scribe};
use crate::client_settings::resolve_for;
use crate::confirmation::approval_status;
use crate::db::{self, DbError, Tx};
use crate::device::{Approval, SeenVia};
use crate::method::Credentials;
use crate::name::{NameError, check_name, check_text};
use crate::setting::Settings;
use crate::site::lock;
use crate::{Site, random_guid, stranded};

/// Longest certificate taken, in bytes of DER. An RSA-4096 one with everything has some 2,000.
const CERTIFICATE_BYTES: usize = 8 * 1024;
/// Most certificates of a PKI chain that are kept.
const CHAIN_CERTIFICATES: usize = proto::limits::CHAIN_CERTIFICATES;

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
    /// How it is joined, as it says.
    pub join: Option<Join>,
    /// What it proved besides its key. The site chooses the method among it.
    pub credentials: Credentials,
    /// Why not the methods that it did not prove, as management point or device said.
    pub refused: Vec<(Method, String)>,
    /// How it came; the reason of its method where the site's token carries it.
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
    /// `ApprovalStatus` of the reply: 1 approved, 3 approved by Entra, -1 held.
    pub approval_status: i8,
    /// The rule or operator that decided.
    pub approval_by: String,
    /// The other record that claims the same hardware, tenant's device, certificate or name.
    pub conflict_with: Option<ClientId>,
    /// How it proves itself from now on.
    pub method: Method,
    /// Why so.
    pub method_reason: String,
    /// What it proved itself with before, where that was something else.
    pub method_before: Option<Method>,
    /// Whether it is held because its key or its hardware is used twice.
    pub suspected: bool,
    /// Whether and where it may use gateways: travels with the reply, so that first contact works.
    pub cloud_gateway: CloudGateway,
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
    /// The PKI certificate or the tenant's device belongs to a blocked device.
    #[error("the {0} is that of a blocked device")]
    CredentialBlocked(&'static str),
    /// The key is registered for another device of a tenant.
    #[error("the key of device {0} is registered for another device of a tenant")]
    OtherEntraDevice(ClientId),
    /// More new devices came by this token, tenant or authority, this proof, or from this address, than may
    /// at once.
    #[error("too many new devices at once; one more may come in {} s", wait.as_secs())]
    TooFast {
        /// When a place will be free for this one.
        wait: Duration,
    },
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
            Self::HardwareBlocked | Self::CredentialBlocked(_) => Reason::HardwareBlocked,
            Self::OtherEntraDevice(_) => Reason::StsOtherEntraDevice,
            Self::TooFast { .. } => Reason::RegistrationTooFast,
            Self::Database(error) if error.is_passing() => Reason::Busy,
            Self::NotALab | Self::Database(_) => Reason::InternalError,
        }
    }
}

/// Names are data, bounded and printable (R28).
fn check(new: &NewRegistration) -> Result<(), RegistrationError> {
    check_name("name", &new.name)?;
    check_text("fqdn", &new.fqdn)?;
    check_text("hardware id", new.hardware_id.as_deref().unwrap_or_default())?;
    check_text("client version", &new.client_version)?;
    let chain = new.credentials.pki.iter().flat_map(|pki| &pki.chain);
    let mut certificates = chain.chain([&new.signing_certificate, &new.encryption_certificate]);
    if certificates.any(|certificate| certificate.len() > CERTIFICATE_BYTES) {
        return Err(RegistrationError::Certificate);
    }
    Ok(())
}

/// What decides about a registration besides the tables.
struct Asked<'a> {
    rules: &'a [ApprovalRule],
    settings: &'a Settings,
    new: &'a NewRegistration,
    evidence: Evidence,
    /// The message that asked, where it was signed: its id is taken in the transaction.
    message: Option<Guid>,
}

/// What comes to a registration besides what the device says.
struct Asking {
    evidence: Evidence,
    rules: Arc<Vec<ApprovalRule>>,
    /// The id of a new record.
    fresh: ClientId,
    message: Option<Guid>,
}

/// Everything of a registration that is decided inside its transaction.
fn register(
    tx: &mut dyn Tx,
    scribe: &Scribe,
    asked: &Asked<'_>,
    fresh: ClientId,
) -> Result<Registration, RegistrationError> {
    let new = asked.new;
    let key = Thumbprint::of(&new.signing_certificate);
    let hardware_id = new.hardware_id.clone().filter(|id| !id.is_empty());
    let known = db::device::find_by_key(tx, key)?;
    if let Some(blocked) = known.as_ref().filter(|device| device.blocked) {
        return Err(RegistrationError::Blocked(blocked.id));
    }
    check_blocks(tx, &new.credentials, hardware_id.as_deref())?;
    let mut evidence = gather(tx, asked, hardware_id.as_deref(), key, scribe.now)?;
    let bulk = admit_bulk_token(tx, &evidence, key, scribe.now)?;
    let token = bulk.as_ref().map(|token| token.approval);
    let full = limit_users(tx, asked, &mut evidence, known.as_ref(), key, scribe.now)?;
    let mut decision = decide_in_lab_too(asked.rules, &evidence, token);
    if full && !decision.approved {
        USER_LIMIT.clone_into(&mut decision.rule);
    }
    let is_new = known.is_none();
    let (device, method_before, resolved) = if let Some(known) = known {
        let (device, before) = renew_device(tx, scribe, asked, &known, hardware_id, &decision)?;
        (device, before, None)
    } else {
        let resolved = resolve_for(tx, None)?;
        let device = new_device(new, fresh, key, hardware_id, &decision, scribe.now);
        (insert_device(tx, scribe, asked, device, &resolved)?, None, Some(resolved))
    };
    if let Some(pki) = &new.credentials.pki {
        db::device::put_certificate(tx, device.id, pki, scribe.now)?;
    }
    if let Some(token) = bulk {
        db::bulk_token::register_use(tx, token.id, key, device.id, scribe.now)?;
    }
    stranded::forget(tx, &device)?;
    if let Some(message) = asked.message {
        // Whether it was free is not asked: a key that is on record had its id taken before.
        db::message::take(tx, device.id, message, scribe.now)?;
    }
    // A new record is in no collection yet, so what was resolved for strangers is what results for it.
    let resolved = match resolved {
        Some(resolved) => resolved,
        None => resolve_for(tx, Some(device.id))?,
    };
    Ok(Registration {
        client_id: device.id,
        is_new,
        approval: device.approval,
        approval_status: approval_status(&device),
        method: device.method,
        method_before,
        suspected: device.clone_suspicion.is_some(),
        cloud_gateway: resolved.cloud_gateway(tx)?,
        approval_by: device.approval_by,
        method_reason: device.method_reason,
        conflict_with: device.conflict_with,
    })
}

impl Site {
    /// Registers a device, once for each key. The site chooses the id (R26); a proposal of the
    /// device is not even an argument.
    pub async fn register_client(
        &self,
        from: Option<IpAddr>,
        new: NewRegistration,
        evidence: Evidence,
    ) -> Result<Registration, RegistrationError> {
        self.noted(self.register_with(from, new, evidence, None).await)
    }

    /// The same for a message that its key has signed: the message's id is taken in the same transaction,
    /// so that the message changes nothing when it is sent once more (R41).
    pub async fn register_by_message(
        &self,
        from: Option<IpAddr>,
        new: NewRegistration,
        evidence: Evidence,
        message: Guid,
    ) -> Result<Registration, RegistrationError> {
        self.noted(self.register_with(from, new, evidence, Some(message)).await)
    }

    /// Registers a device under a given id: for the lab, which replays recorded clients.
    pub async fn seed_device(
        &self,
        id: ClientId,
        new: NewRegistration,
    ) -> Result<Registration, RegistrationError> {
        if !self.is_lab() {
            return Err(RegistrationError::NotALab);
        }
        let asking = Asking { evidence: Evidence::Lab, rules: Arc::default(), fresh: id, message: None };
        self.register_under(&By::site(), new, asking).await
    }

    async fn register_with(
        &self,
        from: Option<IpAddr>,
        new: NewRegistration,
        evidence: Evidence,
        message: Option<Guid>,
    ) -> Result<Registration, RegistrationError> {
        if evidence == Evidence::Lab && !self.is_lab() {
            return Err(RegistrationError::NotALab);
        }
        let by = By { actor: Actor::Stranger, from };
        let asking =
            Asking { evidence, rules: self.approval_rules(), fresh: ClientId::new(random_guid()), message };
        let Some(doors) = Doors::of(&new, evidence, from) else {
            return self.register_under(&by, new, asking).await;
        };
        let limits = Limits::of(&self.settings());
        let entered = lock(&self.inner.rates).enter(&doors, self.now(), limits);
        if let Err(wait) = entered {
            let key = Thumbprint::of(&new.signing_certificate);
            if self.db().read(move |tx| db::device::find_by_key(tx, key)).await?.is_none() {
                lock(&self.inner.rates).refused(&doors, self.now(), limits);
                return Err(RegistrationError::TooFast { wait });
            }
        }
        let registered = self.register_under(&by, new, asking).await;
        let is_new = registered.as_ref().is_ok_and(|registered| registered.is_new);
        let bursts = {
            let mut rates = lock(&self.inner.rates);
            if !is_new && entered.is_ok() {
                rates.give_back(&doors, self.now(), limits);
            }
            if is_new { rates.came(&doors, self.now(), limits) } else { [None, None] }
        };
        for burst in bursts.into_iter().flatten() {
            self.note_burst(&burst).await;
        }
        registered
    }

    /// The alarm stands in memory; that there was one, and when, stands in the audit trail.
    async fn note_burst(&self, burst: &Burst) {
        let scribe = self.scribe(&By::site());
        let (object, detail) =
            (burst.door.to_string(), json!({ "devices": burst.came, "since": burst.since }));
        let write = self.db().write(move |tx| scribe.note(tx, "registration.burst", &object, &detail));
        warn!(door = %burst.door, devices = burst.came, "more devices registered in an hour than usual");
        if let Err(error) = write.await {
            // The devices are registered all the same, and the alarm stands.
            error!(%error, "a burst of registrations is not in the audit trail");
        }
    }

    async fn register_under(
        &self,
        by: &By,
        mut new: NewRegistration,
        asking: Asking,
    ) -> Result<Registration, RegistrationError> {
        check(&new)?;
        if let Some(pki) = &mut new.credentials.pki {
            pki.chain.truncate(CHAIN_CERTIFICATES);
        }
        let scribe = self.scribe(by);
        let settings = self.settings();
        self.db()
            .write(move |tx| {
                let Asking { evidence, message, fresh, ref rules } = asking;
                let asked = Asked { rules, settings: &settings, new: &new, evidence, message };
                register(tx, &scribe, &asked, fresh)
            })
            .await
    }
}
