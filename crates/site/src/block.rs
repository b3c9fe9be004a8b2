//! Blocking: a device is shut out by its key, by its hardware and by every certificate that it
//! has proved, everywhere within five seconds.

use proto::id::ClientId;
use proto::snapshot::Change;
use serde_json::json;

use crate::audit::By;
use crate::db;
use crate::device::DeviceError;
use crate::name::check_text;
use crate::{Site, snapshot};

impl Site {
    /// Shuts a device out. Answers the version of the snapshot that says so: with it
    /// `Site::acknowledgements` tells how many gateways have heard of it.
    pub async fn block_device(&self, by: &By, id: ClientId, note: &str) -> Result<u64, DeviceError> {
        check_text("note", note)?;
        self.set_block(by, id, Some(note.to_owned())).await
    }

    /// Lets a blocked device in again. Answers the version of the snapshot that says so.
    pub async fn unblock_device(&self, by: &By, id: ClientId) -> Result<u64, DeviceError> {
        self.set_block(by, id, None).await
    }

    async fn set_block(&self, by: &By, id: ClientId, note: Option<String>) -> Result<u64, DeviceError> {
        let scribe = self.scribe(by);
        let version = self
            .db()
            .write(move |tx| {
                let device = db::device::find(tx, id)?.ok_or(DeviceError::Unknown(id))?;
                let blocked = note.is_some();
                let mut version = db::snapshot::newest_version(tx)?;
                if device.blocked == blocked {
                    return Ok(version);
                }
                let text = note.as_deref().unwrap_or_default();
                db::device::set_blocked(tx, id, blocked, text)?;
                let certificates = db::device::list_certificates(tx, id)?;
                // One change a certificate; each names the device, which does no harm twice.
                for certificate in &certificates {
                    let certificate = *certificate;
                    let change = if blocked {
                        Change::BlockDevice { device: id, certificate }
                    } else {
                        Change::UnblockDevice { device: id, certificate }
                    };
                    version = snapshot::publish(tx, scribe.now, &change)?;
                }
                let act = if blocked { "device.block" } else { "device.unblock" };
                let detail = json!({ "name": device.name, "note": text, "certificates": certificates });
                scribe.note(tx, act, id, &detail)?;
                Ok::<_, DeviceError>(version)
            })
            .await?;
        self.publish_committed().await;
        Ok(version)
    }
}
