//! Stranded devices: who knocks with credentials that open nothing any more, and what an operator
//! does about it.
//!
//! A knock proves nothing and costs nothing to make, so all is bounded: they wait in memory, are
//! merged by who knocks, and of too many rows those of strangers go before those of known devices.

use std::collections::HashMap;
use std::net::IpAddr;

use proto::id::{ClientId, Thumbprint};
use proto::limits::NAME_CHARS;
use proto::link::Event;
use proto::reason::{Action, Reason};
use proto::time::Timestamp;
use serde::Serialize;

use crate::db::{self, DbError};
use crate::device::{Device, SeenVia};
use crate::site::lock;
use crate::{Site, limits};

/// A request that was refused because its credentials are dead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Knock {
    /// The device that it claims to be, or that its key is registered for.
    pub device: Option<ClientId>,
    /// The certificate whose key was proved, where no device is known.
    pub key: Option<Thumbprint>,
    /// A name that it gave; shown where no record has one.
    pub name: Option<String>,
    /// Why it was refused.
    pub reason: Reason,
    /// The road that it came by.
    pub via: SeenVia,
    /// The address that it came from.
    pub address: Option<IpAddr>,
    /// The exact cause, for the operator.
    pub detail: String,
}

/// Somebody who knocks in vain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stranded {
    /// The device, where it is known or was named.
    pub device: Option<ClientId>,
    /// The certificate that it showed, where no device was named.
    pub key: Option<Thumbprint>,
    /// The record's name, else the one that it gave; may be empty.
    pub name: String,
    /// Whether there is a record.
    pub registered: bool,
    /// The code of the last refusal: `RG-5004`.
    pub reason: String,
    /// What that means.
    pub cause: &'static str,
    /// The exact cause of the last refusal.
    pub detail: String,
    /// The road of the last one.
    pub via: SeenVia,
    /// The address of the last one.
    pub address: Option<IpAddr>,
    /// The first one.
    pub since: Timestamp,
    /// The last one.
    pub last: Timestamp,
    /// How many.
    pub count: u64,
    /// What an operator does about it.
    pub advice: String,
}

/// Who knocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Knocker {
    Device(ClientId),
    Key(Thumbprint),
}

impl Knocker {
    /// As in the database.
    pub(crate) fn subject(self) -> String {
        match self {
            Self::Device(id) => id.to_string(),
            Self::Key(key) => key.to_string(),
        }
    }
}

/// Knocks of one that wait for the next write.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    pub(crate) knock: Knock,
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
    pub(crate) count: u32,
}

/// A row as stored, joined with the record where there is one.
#[derive(Debug, Clone)]
pub(crate) struct StrandedRow {
    pub(crate) device: Option<ClientId>,
    pub(crate) key: Option<Thumbprint>,
    pub(crate) name: String,
    pub(crate) registered: bool,
    pub(crate) blocked: bool,
    pub(crate) reason: String,
    pub(crate) detail: String,
    pub(crate) via: SeenVia,
    pub(crate) address: Option<IpAddr>,
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
    pub(crate) count: u64,
}

/// Whether a refusal says that the credentials are dead: it will not pass by itself.
pub(crate) fn is_dead(reason: Reason) -> bool {
    use Reason as R;
    matches!(
        reason,
        R::TokenExpired
            | R::DeviceBlocked
            | R::BulkTokenBlocked
            | R::TenantDisabled
            | R::TenantKeysTooOld
            | R::CertificateUnknownIssuer
            | R::CertificateExpired
            | R::CertificateRevoked
            | R::RevocationUnknown
            | R::CertificateUsage
            | R::CertificateWeak
            | R::CertificateInvalid
    )
}

/// What helps. Pure, so that every reason is looked at.
fn advice(row: &StrandedRow, reason: Option<Reason>) -> String {
    use Reason as R;
    let who = row.device.map_or_else(|| "ID".to_owned(), |device| device.to_string());
    let fresh = "make a bulk registration token (`roamgate bulk-token new`) and give it to the device";
    if row.blocked {
        return format!("It is blocked. If it should come back: `roamgate device unblock {who}`.");
    }
    match reason {
        Some(R::RecoveryWindowOver) if row.registered => format!(
            "`roamgate device readmit {who}` lets it come back by its key; it keeps its id. A bulk token on it does so, too."
        ),
        Some(R::CloneSuspected) => {
            format!("Two devices share its identity: see `roamgate device show {who}`, then settle it.")
        }
        _ if row.device.is_some() && !row.registered => {
            format!("Its record was deleted: it registers anew. Where nothing approves it, {fresh}.")
        }
        None if !row.registered => format!("Nobody knows this key: {fresh}, if it is yours."),
        Some(reason) if !row.registered && reason.row().action == Action::Register => {
            format!("Nobody knows this key: {fresh}, if it is yours.")
        }
        Some(R::TokenExpired | R::StsTokenExpired | R::InsideTokenExpired) => format!(
            "A client of ours comes back by itself within the recovery window. If this one does not: {fresh}."
        ),
        Some(reason) => reason.row().fix.to_owned(),
        None => String::new(),
    }
}

fn view(row: StrandedRow) -> Stranded {
    let reason = row.reason.parse::<Reason>().ok();
    Stranded {
        advice: advice(&row, reason),
        cause: reason.map_or("", |reason| reason.row().cause),
        device: row.device,
        key: row.key,
        name: row.name,
        registered: row.registered,
        reason: row.reason,
        detail: row.detail,
        via: row.via,
        address: row.address,
        since: row.first,
        last: row.last,
        count: row.count,
    }
}

fn bounded(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(NAME_CHARS).collect()
}

impl Site {
    /// Notes a request that was refused because its credentials are dead. Kept in memory and
    /// written with the next contacts. One that names neither device nor key is not kept.
    pub fn record_knock(&self, knock: Knock) {
        let at = self.now();
        note(&mut lock(&self.inner.knocks), knock, at);
    }

    /// Notes what gateways refused: there the device's credentials never reach a management point.
    pub(crate) fn record_refused(&self, events: &[Event]) {
        let at = self.now();
        let mut knocks = lock(&self.inner.knocks);
        for event in events {
            let reason = event.reason.as_deref().and_then(|text| text.parse::<Reason>().ok());
            let Some(reason) = reason.filter(|reason| is_dead(*reason)) else { continue };
            let knock = Knock {
                device: event.device,
                key: None,
                name: None,
                reason,
                via: SeenVia::Gateway,
                address: None,
                detail: event.detail.clone(),
            };
            note(&mut knocks, knock, at);
        }
    }

    /// Who knocks in vain, the newest first; at most 1,000. Those that were heard again since are
    /// not stranded any more.
    pub async fn list_stranded(&self) -> Result<Vec<Stranded>, DbError> {
        self.flush_knocks().await?;
        self.flush_seen().await?;
        let rows = self.db().read(db::stranded::list).await?;
        Ok(rows.into_iter().map(view).collect())
    }

    /// Writes the knocks that wait.
    pub(crate) async fn flush_knocks(&self) -> Result<(), DbError> {
        let waiting = std::mem::take(&mut *lock(&self.inner.knocks));
        if waiting.is_empty() {
            return Ok(());
        }
        let waiting: Vec<_> = waiting.into_iter().collect();
        self.db()
            .write(move |tx| {
                for (knocker, waiting) in &waiting {
                    db::stranded::put(tx, *knocker, waiting)?;
                }
                db::stranded::forget_surplus(tx, limits::KEPT_STRANDED)
            })
            .await
    }
}

fn note(knocks: &mut HashMap<Knocker, Waiting>, mut knock: Knock, at: Timestamp) {
    let knocker = match (knock.device, knock.key) {
        (Some(device), _) => Knocker::Device(device),
        (None, Some(key)) => Knocker::Key(key),
        (None, None) => return,
    };
    knock.detail = bounded(&knock.detail);
    knock.name = knock.name.as_deref().map(bounded);
    if let Some(known) = knocks.get_mut(&knocker) {
        known.count = known.count.saturating_add(1);
        known.last = at;
        known.knock = Knock { name: knock.name.or(known.knock.name.take()), ..knock };
    } else if knocks.len() < limits::KNOCKS_IN_MEMORY {
        knocks.insert(knocker, Waiting { knock, first: at, last: at, count: 1 });
    }
}

/// What a device that came back leaves behind: nothing.
pub(crate) fn forget(tx: &mut dyn db::Tx, device: &Device) -> Result<(), DbError> {
    db::stranded::forget(tx, device.id, device.signing_thumbprint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::id::Guid;

    fn row(registered: bool, blocked: bool, device: bool) -> StrandedRow {
        StrandedRow {
            device: device.then(|| ClientId::new(Guid::nil())),
            key: (!device).then(|| Thumbprint::of(b"k")),
            name: "PC1".to_owned(),
            registered,
            blocked,
            reason: String::new(),
            detail: String::new(),
            via: SeenVia::Gateway,
            address: None,
            first: Timestamp::default(),
            last: Timestamp::default(),
            count: 1,
        }
    }

    #[test]
    fn advice_names_the_command_that_helps() {
        let given = |row: StrandedRow, reason| advice(&row, Some(reason));
        let known = || row(true, false, true);
        assert!(given(known(), Reason::RecoveryWindowOver).contains("device readmit GUID:"));
        assert!(given(row(true, true, true), Reason::Blocked).contains("device unblock GUID:"));
        assert!(given(row(false, false, true), Reason::StsUnknownDevice).contains("deleted"));
        assert!(given(row(false, false, false), Reason::MessageRefused).contains("bulk-token new"));
        assert!(given(known(), Reason::CertificateExpired).contains("Renew"));
        for reason in Reason::ALL {
            for (registered, device) in [(true, true), (false, true), (false, false)] {
                assert!(!given(row(registered, false, device), *reason).is_empty(), "{reason}");
            }
        }
    }

    #[test]
    fn knocks_of_one_are_counted_and_the_name_is_kept() {
        let mut knocks = HashMap::new();
        let knock = |name: Option<&str>, reason| Knock {
            device: None,
            key: Some(Thumbprint::of(b"k")),
            name: name.map(str::to_owned),
            reason,
            via: SeenVia::Gateway,
            address: None,
            detail: "a\u{7}b".to_owned(),
        };
        note(&mut knocks, knock(Some("PC1"), Reason::StsTokenExpired), Timestamp::from_seconds(1));
        note(&mut knocks, knock(None, Reason::RecoveryWindowOver), Timestamp::from_seconds(2));
        let only = knocks.values().next().unwrap();
        assert_eq!((knocks.len(), only.count), (1, 2));
        assert_eq!(
            (only.knock.name.as_deref(), only.knock.reason),
            (Some("PC1"), Reason::RecoveryWindowOver)
        );
        assert_eq!((only.first.seconds(), only.last.seconds(), &*only.knock.detail), (1, 2, "ab"));
        let nobody = Knock { key: None, ..knock(None, Reason::TokenExpired) };
        note(&mut knocks, nobody, Timestamp::default());
        assert_eq!(knocks.len(), 1);
    }
}
