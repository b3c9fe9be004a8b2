//! The audit trail: who did what, from where, in the transaction that did it.
//!
//! Each row carries a keyed hash over itself and the row before (R65). The key comes from the key
//! file, so whoever can write the database, but has no key file, can neither change nor drop a
//! row unseen. The newest row is named by a sealed head, so that the end cannot be cut off either.

use std::fmt;
use std::net::IpAddr;

use aws_lc_rs::hmac;
use proto::id::ClientId;
use proto::time::Timestamp;
use serde::Serialize;
use serde_json::Value as Json;

use crate::db::{self, DbError, Tx};
use crate::{Site, limits};

/// Longest free text in a record.
const DETAIL_CHARS: usize = 300;

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// A person with an operator key, by name.
    Operator(String),
    /// A device, by its id.
    Device(ClientId),
    /// Somebody who is not registered yet.
    Stranger,
    /// The site itself: a timer, a rule, `site init`.
    Site,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator(name) => write!(f, "operator:{name}"),
            Self::Device(id) => write!(f, "device:{id}"),
            Self::Stranger => f.write_str("stranger"),
            Self::Site => f.write_str("site"),
        }
    }
}

/// On whose behalf an operation runs; stands in its audit record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct By {
    /// Who acts.
    pub actor: Actor,
    /// The address that the request came from, as the site host saw it.
    pub from: Option<IpAddr>,
}

impl By {
    /// The site itself.
    pub const fn site() -> Self {
        Self { actor: Actor::Site, from: None }
    }

    /// An operator.
    pub fn operator(name: impl Into<String>, from: Option<IpAddr>) -> Self {
        Self { actor: Actor::Operator(name.into()), from }
    }
}

/// One row of the trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditRecord {
    /// Position, from 1 without gaps.
    pub seq: i64,
    /// When.
    pub at: Timestamp,
    /// Who: `operator:anna`, `device:GUID:…`, `stranger`, `site`.
    pub actor: String,
    /// From where, when a network was involved.
    pub from: Option<String>,
    /// What: `bulk-token.create`.
    pub act: String,
    /// On what: an id or a name.
    pub object: String,
    /// What changed, as JSON. Holds no secret.
    pub detail: String,
}

/// What [`Site::verify_audit`] found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "verdict")]
pub enum AuditVerdict {
    /// Every row is as it was written and none is missing.
    Whole {
        /// How many rows there are.
        rows: i64,
    },
    /// The trail was tampered with.
    Broken {
        /// Position of the first row that is not as it was written.
        seq: i64,
        /// What is wrong with it.
        fault: AuditFault,
    },
}

/// What is wrong with the first bad row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuditFault {
    /// No row has this position.
    Missing,
    /// The row, or its place, was changed.
    Altered,
    /// The head that names the newest row was changed.
    HeadAltered,
}

/// What each write needs besides its tables: the moment, on whose behalf, and the chain's key.
#[derive(Debug, Clone)]
pub(crate) struct Scribe {
    key: hmac::Key,
    /// The moment of the operation.
    pub(crate) now: Timestamp,
    /// On whose behalf.
    pub(crate) by: By,
}

impl Scribe {
    pub(crate) fn new(key: hmac::Key, now: Timestamp, by: By) -> Self {
        Self { key, now, by }
    }

    /// Writes the audit record of an act, in the transaction of the act.
    pub(crate) fn note(
        &self,
        tx: &mut dyn Tx,
        act: &'static str,
        object: impl fmt::Display,
        detail: &Json,
    ) -> Result<(), DbError> {
        let (seq, previous) = match db::audit::find_head(tx)? {
            Some(head) => (head.seq + 1, head.hash),
            None => (1, Vec::new()),
        };
        let record = AuditRecord {
            seq,
            at: self.now,
            actor: self.by.actor.to_string(),
            from: self.by.from.map(|address| address.to_string()),
            act: act.to_owned(),
            object: object.to_string(),
            detail: detail.to_string(),
        };
        let hash = hash_record(&self.key, &previous, &record);
        db::audit::insert(tx, &record, &hash)?;
        db::audit::put_head(tx, &db::audit::Head { seq, seal: seal_head(&self.key, seq, &hash), hash })
    }
}

/// Every field with its length in front, so that no two different rows hash the same bytes.
fn hash_record(key: &hmac::Key, previous: &[u8], record: &AuditRecord) -> Vec<u8> {
    let mut mac = hmac::Context::with_key(key);
    let from = record.from.as_deref().unwrap_or_default();
    let fields = [
        previous,
        &record.seq.to_be_bytes(),
        &record.at.micros().to_be_bytes(),
        record.actor.as_bytes(),
        from.as_bytes(),
        record.act.as_bytes(),
        record.object.as_bytes(),
        record.detail.as_bytes(),
    ];
    for field in fields {
        mac.update(&(field.len() as u64).to_be_bytes());
        mac.update(field);
    }
    mac.sign().as_ref().to_vec()
}

fn seal_head(key: &hmac::Key, seq: i64, hash: &[u8]) -> Vec<u8> {
    hmac::sign(key, &[b"head".as_slice(), &seq.to_be_bytes(), hash].concat()).as_ref().to_vec()
}

/// Walks the rows as they stand in one snapshot of the database.
fn verify(tx: &mut dyn Tx, key: &hmac::Key) -> Result<AuditVerdict, DbError> {
    let mut seq = 0;
    let mut previous = Vec::new();
    loop {
        let rows = db::audit::list_after(tx, seq, limits::PAGE)?;
        if rows.is_empty() {
            break;
        }
        for (record, hash) in rows {
            seq += 1;
            if record.seq != seq {
                return Ok(AuditVerdict::Broken { seq, fault: AuditFault::Missing });
            }
            if hash_record(key, &previous, &record) != hash {
                return Ok(AuditVerdict::Broken { seq, fault: AuditFault::Altered });
            }
            previous = hash;
        }
    }
    let fault = match db::audit::find_head(tx)? {
        Some(head) if head.seal != seal_head(key, head.seq, &head.hash) => AuditFault::HeadAltered,
        Some(head) if head.seq > seq => {
            return Ok(AuditVerdict::Broken { seq: seq + 1, fault: AuditFault::Missing });
        }
        Some(head) if head.seq < seq || head.hash != previous => AuditFault::HeadAltered,
        Some(_) => return Ok(AuditVerdict::Whole { rows: seq }),
        None if seq == 0 => AuditFault::Missing,
        None => AuditFault::HeadAltered,
    };
    Ok(AuditVerdict::Broken { seq: seq.max(1), fault })
}

impl Site {
    /// Checks the whole trail and names the first bad row.
    pub async fn verify_audit(&self) -> Result<AuditVerdict, DbError> {
        let key = self.audit_key();
        self.db().read(move |tx| verify(tx, &key)).await
    }

    /// Records that proofs of different devices came with one request (R22). `by` is the device
    /// whose key was used. The caller bounds how often: a stranger cannot cause this, but a device can.
    pub async fn note_wrong_device(&self, by: &By, detail: &str) -> Result<(), DbError> {
        let scribe = self.scribe(by);
        let detail: String = detail.chars().filter(|c| !c.is_control()).take(DETAIL_CHARS).collect();
        self.db()
            .write(move |tx| {
                scribe.note(
                    tx,
                    "request.wrong-device",
                    &scribe.by.actor,
                    &serde_json::json!({ "detail": detail }),
                )
            })
            .await
    }

    /// Records that an operator changed how much a component of this host logs: it decides what
    /// traces are left. The level itself is the process's, so there is nothing else to write.
    pub async fn note_log_level(&self, by: &By, component: &str, level: u8) -> Result<(), DbError> {
        let scribe = self.scribe(by);
        let component = component.to_owned();
        self.db()
            .write(move |tx| {
                scribe.note(tx, "log-level.set", &component, &serde_json::json!({ "level": level }))
            })
            .await
    }

    /// The newest rows first, before `before` when given; at most 1,000.
    pub async fn list_audit(&self, before: Option<i64>, limit: u32) -> Result<Vec<AuditRecord>, DbError> {
        self.db().read(move |tx| db::audit::list_newest(tx, before, limit.min(limits::PAGE))).await
    }
}
