//! What ends when: the credentials of every device, for the forecast.

use std::time::Duration;

use proto::id::ClientId;
use proto::time::Timestamp;
use serde::Serialize;

use crate::Site;
use crate::db::{self, DbError};

/// What ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CredentialKind {
    /// The newest self-prove token. A running client renews it from a third of its life.
    SelfProve,
    /// The PKI certificate that it proved last. Its PKI renews it.
    Pki,
}

/// A credential of a device and its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExpiringCredential {
    /// The device.
    pub device: ClientId,
    /// Its name.
    pub name: String,
    /// What ends.
    pub credential: CredentialKind,
    /// When it ends, or ended.
    pub ends: Timestamp,
    /// Until when the device comes back by itself afterwards, by its registered key.
    pub recovers_until: Option<Timestamp>,
}

impl Site {
    /// Credentials that end within a time, or have ended already, the earliest first; at most
    /// 1,000. Those of blocked devices are left out.
    pub async fn list_expiring(&self, within: Duration) -> Result<Vec<ExpiringCredential>, DbError> {
        let before = self.now().plus(within);
        let window = self.settings().recovery_window;
        let rows = self.db().read(move |tx| db::device::list_expiring(tx, before)).await?;
        let view = |(device, name, kind, ends): (ClientId, String, String, Timestamp)| {
            let self_prove = kind == "self-prove";
            ExpiringCredential {
                device,
                name,
                credential: if self_prove { CredentialKind::SelfProve } else { CredentialKind::Pki },
                ends,
                recovers_until: self_prove.then(|| ends.plus(window)),
            }
        };
        Ok(rows.into_iter().map(view).collect())
    }
}
