//! What devices report: documents as they came, and what of them goes to the device's record.

use proto::id::{ClientId, Guid, RequestId, Thumbprint};
use proto::limits::NAME_CHARS;
use proto::time::Timestamp;
use serde::Serialize;

use crate::db::{self, DbError};
use crate::{Site, limits};

/// What a report says about its sender's record. Counts only when the sender is proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReportEffect {
    /// Nothing.
    None,
    /// A heartbeat.
    Heartbeat {
        /// Discovery data as JSON.
        data: String,
        /// The serial up to which the device says it has applied policy; only our client does.
        policy_serial: Option<u64>,
    },
}

/// A report to be stored.
#[derive(Debug, Clone)]
pub struct NewReport {
    /// The sender, where its signature proved it. State messages prove nothing: `None`.
    pub client: Option<ClientId>,
    /// `TargetEndpoint` of the message.
    pub endpoint: String,
    /// SHA-256 of the payload as sent: with client and endpoint, what makes a repeat a repeat.
    pub payload_hash: Thumbprint,
    /// What it is: `heartbeat`, `hardware`, `state`, …
    pub kind: String,
    /// When the sender says it sent it.
    pub sent_at: Option<Timestamp>,
    /// The request that brought it.
    pub request: RequestId,
    /// Facts of the message header, as JSON.
    pub header: String,
    /// The document, as it was in the payload.
    pub document: Vec<u8>,
    /// Message id of a sender that signs requests: taken in the same transaction.
    pub message: Option<Guid>,
    /// What it changes on the sender's record.
    pub effect: ReportEffect,
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// It is on disk.
    New,
    /// It was there already, or its message id was taken; nothing changed.
    Repeated,
}

/// A stored report without its document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReportSummary {
    /// Its number.
    pub id: i64,
    /// The sender, where it was proved.
    pub client: Option<ClientId>,
    /// The endpoint that it was sent to.
    pub endpoint: String,
    /// What it is.
    pub kind: String,
    /// When it came.
    pub received_at: Timestamp,
    /// When the sender says it sent it.
    pub sent_at: Option<Timestamp>,
    /// The request that brought it.
    pub request: RequestId,
    /// Bytes of the document.
    pub size: u64,
}

/// A stored report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What is known of it.
    pub summary: ReportSummary,
    /// Facts of the message header, as JSON.
    pub header: String,
    /// The document.
    pub document: Vec<u8>,
}

impl Site {
    /// Stores a report, once for each client, endpoint and payload (settled point 13). The oldest
    /// of its kind goes when a device has too many.
    pub async fn store_report(&self, mut new: NewReport) -> Result<Stored, DbError> {
        new.document.truncate(limits::REPORT_BYTES);
        new.endpoint = new.endpoint.chars().take(NAME_CHARS).collect();
        let now = self.now();
        self.db()
            .write(move |tx| {
                if let (Some(client), Some(message)) = (new.client, new.message)
                    && !db::message::take(tx, client, message, now)?
                {
                    return Ok(Stored::Repeated);
                }
                if !db::report::insert(tx, &new, now)? {
                    return Ok(Stored::Repeated);
                }
                db::report::forget_oldest(tx, &new)?;
                if let Some(client) = new.client {
                    apply(tx, client, &new.effect, now)?;
                }
                Ok(Stored::New)
            })
            .await
    }

    /// The newest reports of a device first, or of senders that nothing proved.
    pub async fn list_reports(
        &self,
        client: Option<ClientId>,
        limit: u32,
    ) -> Result<Vec<ReportSummary>, DbError> {
        self.db().read(move |tx| db::report::list(tx, client, limit.min(limits::PAGE))).await
    }

    /// One report with its document.
    pub async fn find_report(&self, id: i64) -> Result<Option<Report>, DbError> {
        self.db().read(move |tx| db::report::find(tx, id)).await
    }
}

fn apply(
    tx: &mut dyn db::Tx,
    client: ClientId,
    effect: &ReportEffect,
    now: Timestamp,
) -> Result<(), DbError> {
    let ReportEffect::Heartbeat { data, policy_serial } = effect else { return Ok(()) };
    if data.len() <= limits::HEARTBEAT_BYTES {
        db::device::set_heartbeat(tx, client, data, now)?;
    }
    if let Some(serial) = policy_serial {
        // A device cannot have applied what was never made.
        let newest = db::policy::serial(tx)?;
        let serial = i64::try_from((*serial).min(newest)).unwrap_or(i64::MAX);
        db::device::set_policy_applied(tx, client, serial, now)?;
    }
    Ok(())
}
