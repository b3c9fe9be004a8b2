//! Devices: their records, and what operators do with them.

use std::time::Duration;

use proto::id::{ClientId, Thumbprint};
use proto::identity::Method;
use proto::snapshot::Change;
use proto::time::Timestamp;
use serde::Serialize;
use serde_json::json;

use crate::audit::By;
use crate::db::{self, DbError};
use crate::name::{NameError, check_text};
use crate::site::lock;
use crate::{Site, limits, snapshot};

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
    /// Since when.
    pub method_since: Timestamp,
    /// When it confirmed its registration last.
    pub confirmed_at: Option<Timestamp>,
    /// When its newest self-prove token ends.
    pub token_expires_at: Option<Timestamp>,
    /// Its last authenticated request.
    pub last_seen_at: Timestamp,
    /// The road of that request.
    pub last_seen_via: SeenVia,
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

    fn see(&mut self, seen: Seen) {
        if seen.at > self.last_seen_at {
            self.last_seen_at = seen.at;
            self.last_seen_via = seen.via;
        }
    }

    fn judge_online(&mut self, window: Duration, now: Timestamp) {
        self.online = !self.blocked && now.since(self.last_seen_at) <= window;
    }
}

/// A contact that waits for the next write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) at: Timestamp,
    pub(crate) via: SeenVia,
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
    #[error("device {0} is blocked; its record keeps it out, so unblock it before deleting it")]
    Blocked(ClientId),
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

    fn with_contact(&self, mut device: Device) -> Device {
        if let Some(seen) = lock(&self.inner.seen).get(&device.id) {
            device.see(*seen);
        }
        device.judge_online(self.settings().online_window, self.now());
        device
    }

    /// Notes an authenticated request. Kept in memory and written with others every few seconds:
    /// a contact is not worth an fsync.
    pub fn record_seen(&self, id: ClientId, via: SeenVia) {
        let mut seen = lock(&self.inner.seen);
        if seen.len() < limits::SEEN_IN_MEMORY || seen.contains_key(&id) {
            seen.insert(id, Seen { at: self.now(), via });
        }
    }

    /// Writes the contacts that wait.
    pub(crate) async fn flush_seen(&self) -> Result<(), DbError> {
        let waiting: Vec<_> = lock(&self.inner.seen).iter().map(|(id, seen)| (*id, *seen)).collect();
        for chunk in waiting.chunks(limits::SEEN_AT_ONCE) {
            let written = chunk.to_vec();
            let job = chunk.to_vec();
            self.db()
                .write(move |tx| {
                    job.iter().try_for_each(|(id, seen)| db::device::set_last_seen(tx, *id, *seen))
                })
                .await?;
            let mut map = lock(&self.inner.seen);
            for (id, seen) in written {
                // A contact that came meanwhile stays.
                if map.get(&id).is_some_and(|newest| newest.at == seen.at) {
                    map.remove(&id);
                }
            }
        }
        Ok(())
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
                db::device::set_approval(tx, id, approval, &scribe.by.actor.to_string(), scribe.now)?;
                let detail = json!({ "name": device.name, "from": device.approval.as_str(), "was-by": device.approval_by });
                scribe.note(tx, act, id, &detail)?;
                Ok(())
            })
            .await
    }

    /// Shuts a device out, by key and by hardware id, everywhere within five seconds.
    pub async fn block_device(&self, by: &By, id: ClientId, note: &str) -> Result<(), DeviceError> {
        check_text("note", note)?;
        self.set_block(by, id, Some(note.to_owned())).await
    }

    /// Lets a blocked device in again.
    pub async fn unblock_device(&self, by: &By, id: ClientId) -> Result<(), DeviceError> {
        self.set_block(by, id, None).await
    }

    async fn set_block(&self, by: &By, id: ClientId, note: Option<String>) -> Result<(), DeviceError> {
        let scribe = self.scribe(by);
        self.db()
            .write(move |tx| {
                let device = db::device::find(tx, id)?.ok_or(DeviceError::Unknown(id))?;
                let blocked = note.is_some();
                if device.blocked == blocked {
                    return Ok(());
                }
                let text = note.as_deref().unwrap_or_default();
                db::device::set_blocked(tx, id, blocked, text)?;
                let certificate = device.signing_thumbprint;
                let (act, change) = if blocked {
                    ("device.block", Change::BlockDevice { device: id, certificate })
                } else {
                    ("device.unblock", Change::UnblockDevice { device: id, certificate })
                };
                snapshot::publish(tx, scribe.now, &change)?;
                scribe.note(tx, act, id, &json!({ "name": device.name, "note": text }))?;
                Ok::<_, DeviceError>(())
            })
            .await?;
        self.publish_committed().await;
        Ok(())
    }

    /// Lets a device whose recovery window is over come back by its key once more: the window
    /// starts anew now.
    pub async fn readmit_device(&self, by: &By, id: ClientId) -> Result<(), DeviceError> {
        let scribe = self.scribe(by);
        self.db()
            .write(move |tx| {
                let device = db::device::find(tx, id)?.ok_or(DeviceError::Unknown(id))?;
                db::device::set_token_expiry(tx, id, scribe.now)?;
                scribe.note(tx, "device.readmit", id, &json!({ "name": device.name }))?;
                Ok(())
            })
            .await
    }

    /// Settles a conflict: both records go on as they are, without the mark.
    pub async fn settle_conflict(&self, by: &By, id: ClientId) -> Result<(), DeviceError> {
        let scribe = self.scribe(by);
        self.db()
            .write(move |tx| {
                let device = db::device::find(tx, id)?.ok_or(DeviceError::Unknown(id))?;
                db::device::clear_conflict(tx, id)?;
                let detail = json!({ "name": device.name, "other": device.conflict_with });
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
