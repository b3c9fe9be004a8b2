//! Devices: their records, and what operators do with them.

use std::net::IpAddr;
use std::time::Duration;

use proto::combination::Join;
use proto::id::{ClientId, Thumbprint};
use proto::identity::Method;
use proto::time::Timestamp;
use serde::Serialize;
use serde_json::json;

use crate::audit::By;
use crate::clone::CloneSuspicion;
use crate::confirmation::recovery_end;
use crate::contact::Seen;
use crate::db::{self, DbError};
use crate::method::{DeviceEntra, PkiCredential, RefusedMethod};
use crate::name::NameError;
use crate::site::lock;
use crate::{Site, clone, limits};

/// Whether a device is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Approval {
    /// A rule or an operator approved it.
    Approved,
    /// It is registered and gets nothing more.
    Held,
}

impl Approval {
    /// The word in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Held => "held",
        }
    }

    pub(crate) fn parse(word: &str) -> Option<Self> {
        [Self::Approved, Self::Held].into_iter().find(|approval| approval.as_str() == word)
    }
}

/// The road by which a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SeenVia {
    /// Straight to a management point.
    Intranet,
    /// Through a gateway.
    Gateway,
}

impl SeenVia {
    /// The word in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Intranet => "intranet",
            Self::Gateway => "gateway",
        }
    }

    pub(crate) fn parse(word: &str) -> Option<Self> {
        [Self::Intranet, Self::Gateway].into_iter().find(|via| via.as_str() == word)
    }
}

/// A device's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Device {
    /// Its id, chosen by the site.
    pub id: ClientId,
    /// Its name, as it says.
    pub name: String,
    /// Its full name, as it says; may be empty.
    pub fqdn: String,
    /// Its hardware id, as it says.
    pub hardware_id: Option<String>,
    /// SHA-256 of its signing certificate: the key that counts.
    pub signing_thumbprint: Thumbprint,
    /// Its signing certificate, DER.
    #[serde(skip)]
    pub signing_certificate: Vec<u8>,
    /// Its encryption certificate, DER: secret policy is encrypted to it.
    #[serde(skip)]
    pub encryption_certificate: Vec<u8>,
    /// Its client's version.
    pub client_version: String,
    /// Whether it signs every request. Set at registration and never lowered.
    pub signs_requests: bool,
    /// When it registered first.
    pub registered_at: Timestamp,
    /// Whether it is trusted.
    pub approval: Approval,
    /// The rule or the operator that decided.
    pub approval_by: String,
    /// When.
    pub approval_at: Timestamp,
    /// Whether it is shut out.
    pub blocked: bool,
    /// Why, as the operator wrote.
    pub block_note: String,
    /// The other record that claims the same hardware id or name with another key.
    pub conflict_with: Option<ClientId>,
    /// How it proves itself.
    pub method: Method,
    /// Why so, and why not better.
    pub method_reason: String,
    /// Since when it has proved itself so.
    pub method_since: Timestamp,
    /// Why none of the methods that are better, or that an operator prefers.
    pub methods_refused: Vec<RefusedMethod>,
    /// Since when it has been below the certificate that it had: an alarm until the certificate is
    /// back or an operator settles it (R74).
    pub fell_back_at: Option<Timestamp>,
    /// How it is joined, as it says.
    pub join: Option<Join>,
    /// Its identity in a tenant, bound at a registration that proved it.
    pub entra: Option<DeviceEntra>,
    /// The PKI certificate that it proved last.
    pub pki: Option<PkiCredential>,
    /// When it confirmed its registration last.
    pub confirmed_at: Option<Timestamp>,
    /// When its newest self-prove token ends.
    pub token_expires_at: Option<Timestamp>,
    /// Its last authenticated request.
    pub last_seen_at: Timestamp,
    /// The road of that request.
    pub last_seen_via: SeenVia,
    /// The address that it came from, as the management point saw it.
    pub last_address: Option<IpAddr>,
    /// Its clock minus the site's in milliseconds, as last measured.
    pub clock_skew_ms: Option<i64>,
    /// When it last came back after its token had ended, by itself or readmitted.
    pub recovered_at: Option<Timestamp>,
    /// Why it is held as a copy. Until an operator settles it, it is not approved.
    pub clone_suspicion: Option<CloneSuspicion>,
    /// Serial of the policy that it says it applied last; 0: none yet.
    pub policy_serial: u64,
    /// When it said so.
    pub policy_applied_at: Option<Timestamp>,
    /// What its last heartbeat said, as JSON; empty before the first.
    pub heartbeat: String,
    /// When.
    pub heartbeat_at: Option<Timestamp>,
    /// Whether its last authenticated request lies within the online window. There is no live
    /// channel yet: this is derived from policy polls.
    pub online: bool,
}

impl Device {
    /// Whether it may have more than its own status (R29).
    pub fn may_operate(&self) -> bool {
        self.approval == Approval::Approved && !self.blocked
    }

    /// What its clock does, for people: "this device's clock is 9 minutes slow". `None` while
    /// nothing was measured, or less than a minute.
    ///
    /// A client of ours works by the site's time once it has heard it, so that nothing is left to measure;
    /// it reports what it adds to its own clock.
    pub fn clock_text(&self) -> Option<String> {
        let corrected = reported_clock_offset(&self.heartbeat);
        let measured = self.clock_skew_ms.or(corrected.map(|_| 0))?;
        clock_text(measured.saturating_sub(corrected.unwrap_or_default()))
    }

    fn see(&mut self, seen: Seen) {
        if seen.at >= self.last_seen_at {
            self.last_seen_at = seen.at;
            self.last_seen_via = seen.contact.via;
            self.last_address = seen.contact.address;
            self.clock_skew_ms = seen.contact.skew_ms.or(self.clock_skew_ms);
        }
    }

    fn judge_online(&mut self, window: Duration, now: Timestamp) {
        self.online = !self.blocked && now.since(self.last_seen_at) <= window;
    }
}

/// Name of the fact in a heartbeat's data that says how many seconds a device adds to its clock to have the
/// site's time.
pub const CLOCK_OFFSET_FACT: &str = "clock_offset_seconds";

/// That offset in milliseconds, from the data of a heartbeat.
fn reported_clock_offset(heartbeat: &str) -> Option<i64> {
    let facts: serde_json::Value = serde_json::from_str(heartbeat).ok()?;
    let seconds: i64 = facts.get(CLOCK_OFFSET_FACT)?.as_str()?.trim().parse().ok()?;
    seconds.checked_mul(1000)
}

/// A measured skew in words; `None` for less than a minute.
fn clock_text(skew_ms: i64) -> Option<String> {
    let minutes = skew_ms.unsigned_abs() / 60_000;
    let (count, unit) = match minutes {
        0 => return None,
        1..=119 => (minutes, "minute"),
        120..=2879 => (minutes / 60, "hour"),
        _ => (minutes / 1440, "day"),
    };
    let plural = if count == 1 { "" } else { "s" };
    let way = if skew_ms < 0 { "slow" } else { "fast" };
    Some(format!("this device's clock is {count} {unit}{plural} {way}"))
}

/// What may be so of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceMark {
    /// It is held as a copy.
    Suspected,
    /// It has proved a PKI certificate.
    Pki,
    /// It fell back from the certificate that it had.
    FellBack,
}

/// Which devices to list. Fields left out do not filter.
#[derive(Debug, Clone, Default)]
pub struct DeviceFilter {
    /// Names that begin so, in any case.
    pub name: Option<String>,
    /// In this state of approval.
    pub approval: Option<Approval>,
    /// Blocked or not.
    pub blocked: Option<bool>,
    /// Only records that conflict with another.
    pub conflicts: bool,
    /// Only those of which this is so.
    pub mark: Option<DeviceMark>,
    /// After this id, in the order of ids: for the next page.
    pub after: Option<ClientId>,
    /// At most 1,000; 0 means that many.
    pub limit: u32,
}

/// An operation on devices was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// No such device.
    #[error("there is no device {0}")]
    Unknown(ClientId),
    /// A blocked record is what keeps its device out.
    #[error("device {0} is blocked; its record keeps it out, so unblock it first")]
    Blocked(ClientId),
    /// It is held as a copy: what made it suspect is to be settled first.
    #[error("device {0} is held as a copy; give the copy an identity of its own, then settle it")]
    CloneSuspected(ClientId),
    /// Its key alone lets it in, still.
    #[error("device {device} needs no readmission: it may come back by itself until {until}")]
    NoReadmission {
        /// The device.
        device: ClientId,
        /// The end of its recovery window.
        until: Timestamp,
    },
    /// Nothing is marked.
    #[error(
        "device {0} has nothing to settle: no conflict, no suspicion of a copy, no fall from a certificate"
    )]
    NothingToSettle(ClientId),
    /// The note is not taken.
    #[error("device not changed")]
    Note(#[from] NameError),
    /// The database failed.
    #[error("devices not read or written")]
    Database(#[from] DbError),
}

impl Site {
    /// A device's record; `None`: it is not registered. Management points ask on every request, so
    /// that blocks and approvals count at once.
    pub async fn find_device(&self, id: ClientId) -> Result<Option<Device>, DbError> {
        let found = self.db().read(move |tx| db::device::find(tx, id)).await?;
        Ok(found.map(|device| self.with_contact(device)))
    }

    /// The device that registered this signing certificate.
    pub async fn find_device_by_key(&self, key: Thumbprint) -> Result<Option<Device>, DbError> {
        let found = self.db().read(move |tx| db::device::find_by_key(tx, key)).await?;
        Ok(found.map(|device| self.with_contact(device)))
    }

    /// A page of devices, in the order of their ids.
    pub async fn list_devices(&self, filter: DeviceFilter) -> Result<Vec<Device>, DbError> {
        let limit = if filter.limit == 0 { limits::PAGE } else { filter.limit.min(limits::PAGE) };
        let filter = DeviceFilter { limit, ..filter };
        let devices = self.db().read(move |tx| db::device::list(tx, &filter)).await?;
        Ok(devices.into_iter().map(|device| self.with_contact(device)).collect())
    }

    /// Devices that have proved a PKI certificate, chain included, after this id: at most 1,000.
    /// For the dry run of a change of trust.
    pub async fn list_with_pki(&self, after: Option<ClientId>) -> Result<Vec<Device>, DbError> {
        self.list_devices(DeviceFilter { mark: Some(DeviceMark::Pki), after, ..DeviceFilter::default() })
            .await
    }

    /// Devices that fell back from the certificate that they had, at most 1,000: an alarm.
    pub async fn list_fallen_back(&self) -> Result<Vec<Device>, DbError> {
        self.list_devices(DeviceFilter { mark: Some(DeviceMark::FellBack), ..DeviceFilter::default() }).await
    }

    fn with_contact(&self, mut device: Device) -> Device {
        if let Some(seen) = lock(&self.inner.seen).get(&device.id) {
            device.see(*seen);
        }
        device.judge_online(self.settings().online_window, self.now());
        device
    }

    /// Approves a device, as an operator's decision that no rule changes.
    pub async fn approve_device(&self, by: &By, id: ClientId) -> Result<(), DeviceError> {
        self.set_approval(by, id, Approval::Approved, "device.approve").await
    }

    /// Takes an approval back: no policy from the next request on, and no rule gives it again (R30).
    pub async fn withdraw_approval(&self, by: &By, id: ClientId) -> Result<(), DeviceError> {
        self.set_approval(by, id, Approval::Held, "device.withdraw-approval").await
    }

    async fn set_approval(
        &self,
        by: &By,
        id: ClientId,
        approval: Approval,
        act: &'static str,
    ) -> Result<(), DeviceError> {
        let scribe = self.scribe(by);
        self.db()
            .write(move |tx| {
                let device = db::device::find(tx, id)?.ok_or(DeviceError::Unknown(id))?;
                if device.clone_suspicion.is_some() {
                    return Err(DeviceError::CloneSuspected(id));
                }
                db::device::set_approval(tx, id, approval, &scribe.by.actor.to_string(), scribe.now)?;
                let detail = json!({ "name": device.name, "from": device.approval.as_str(), "was-by": device.approval_by });
                scribe.note(tx, act, id, &detail)?;
                Ok(())
            })
            .await
    }

    /// Lets a device whose recovery window is over come back by its key once more: the window
    /// starts anew now. One that still may is refused, lest its operator believes that this was it.
    pub async fn readmit_device(&self, by: &By, id: ClientId) -> Result<(), DeviceError> {
        let scribe = self.scribe(by);
        let settings = self.settings();
        let (lifetime, window) = (settings.self_prove_lifetime, settings.recovery_window);
        self.db()
            .write(move |tx| {
                let device = db::device::find(tx, id)?.ok_or(DeviceError::Unknown(id))?;
                if device.blocked {
                    return Err(DeviceError::Blocked(id));
                }
                let until = recovery_end(&device, lifetime, window);
                if scribe.now < until {
                    return Err(DeviceError::NoReadmission { device: id, until });
                }
                db::device::set_readmitted(tx, id, scribe.now)?;
                db::stranded::forget(tx, id, device.signing_thumbprint)?;
                scribe.note(tx, "device.readmit", id, &json!({ "name": device.name }))?;
                Ok(())
            })
            .await
    }

    /// Settles what was marked: two records that claim the same go on without the mark, a device
    /// held as a copy gets back the approval that it had (and its other record with it), and one
    /// that fell back from its certificate is taken for what it is now.
    pub async fn settle_conflict(&self, by: &By, id: ClientId) -> Result<(), DeviceError> {
        let scribe = self.scribe(by);
        self.db()
            .write(move |tx| {
                let device = db::device::find(tx, id)?.ok_or(DeviceError::Unknown(id))?;
                let marked = device.conflict_with.is_some() || device.clone_suspicion.is_some();
                if !marked && device.fell_back_at.is_none() {
                    return Err(DeviceError::NothingToSettle(id));
                }
                db::device::clear_conflict(tx, id)?;
                clone::release(tx, &scribe, &device)?;
                db::device::clear_fall(tx, id)?;
                let detail = json!({
                    "name": device.name, "other": device.conflict_with, "copy": device.clone_suspicion,
                    "fell-back": device.fell_back_at,
                });
                scribe.note(tx, "device.settle-conflict", id, &detail)?;
                Ok(())
            })
            .await
    }

    /// Deletes a record with its reports. The device must register anew; its old tokens name a
    /// device that the site does not know.
    pub async fn delete_device(&self, by: &By, id: ClientId) -> Result<(), DeviceError> {
        let scribe = self.scribe(by);
        self.db()
            .write(move |tx| {
                let device = db::device::find(tx, id)?.ok_or(DeviceError::Unknown(id))?;
                if device.blocked {
                    return Err(DeviceError::Blocked(id));
                }
                db::device::clear_conflict(tx, id)?;
                clone::release(tx, &scribe, &device)?;
                db::stranded::forget(tx, id, device.signing_thumbprint)?;
                db::device::delete(tx, id)?;
                let detail = json!({ "name": device.name, "certificate": device.signing_thumbprint });
                scribe.note(tx, "device.delete", id, &detail)?;
                Ok(())
            })
            .await?;
        lock(&self.inner.seen).remove(&id);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skewed_clock_is_named_in_the_unit_that_people_use() {
        let text = |seconds: i64| clock_text(seconds * 1000);
        assert_eq!(text(-9 * 60).as_deref(), Some("this device's clock is 9 minutes slow"));
        assert_eq!(text(60).as_deref(), Some("this device's clock is 1 minute fast"));
        assert_eq!(text(-3 * 3600).as_deref(), Some("this device's clock is 3 hours slow"));
        assert_eq!(text(40 * 86_400).as_deref(), Some("this device's clock is 40 days fast"));
        assert_eq!(text(59), None);
        assert_eq!(text(-59), None);
    }

    #[test]
    fn a_heartbeat_says_what_a_device_adds_to_its_clock() {
        assert_eq!(reported_clock_offset(r#"{"clock_offset_seconds":"540"}"#), Some(540_000));
        assert_eq!(reported_clock_offset(r#"{"clock_offset_seconds":"-3600"}"#), Some(-3_600_000));
        for nothing in ["", "{}", r#"{"clock_offset_seconds":"many"}"#, r#"{"clock_offset_seconds":5}"#] {
            assert_eq!(reported_clock_offset(nothing), None, "{nothing}");
        }
        assert_eq!(reported_clock_offset(&format!(r#"{{"clock_offset_seconds":"{}"}}"#, i64::MAX)), None);
    }
}
