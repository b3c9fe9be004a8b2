//! The site's keys as an operator sees them, and the movements of the key ring.

use std::time::Duration;

use proto::id::{Guid, Thumbprint};
use proto::snapshot::Change;
use proto::time::Timestamp;
use proto::token::{KeySet, KeySetError};
use serde::Serialize;
use serde_json::json;
use tracing::{error, warn};

use crate::audit::By;
use crate::db::{self, DbError};
use crate::keys::{
    CertificateError, KeyLoadError, KeyPurpose, KeyState, NewKey, RingEntry, SealError, SiteKeys,
};
use crate::site::{SiteFacts, lock};
use crate::{Site, snapshot};

/// By then every gateway that can be reached has a change: twelve times what is promised.
const NEXT_KEY_SPREADS: Duration = Duration::from_mins(1);
/// How long a rotation waits for gateways that do not know the next key: twice what is promised.
const AWAIT_GATEWAYS: Duration = Duration::from_secs(10);
/// Time between two looks at what gateways have acknowledged.
const AWAIT_STEP: Duration = Duration::from_millis(50);

/// A key as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SiteKey {
    /// Names it.
    pub id: Guid,
    /// What it is for.
    pub purpose: &'static str,
    /// Where it stands; keys outside the ring are always `current`.
    pub state: KeyState,
    /// SHA-256 of its certificate.
    pub thumbprint: Thumbprint,
    /// `x5t` in tokens, of keys of the ring.
    pub x5t: Option<String>,
    /// The certificate, DER.
    #[serde(skip)]
    pub certificate: Vec<u8>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when tokens of a retired key count.
    pub verifies_until: Option<Timestamp>,
}

/// An operation on keys was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No such key in the ring.
    #[error("the ring has no key {0} that still verifies")]
    Unknown(Guid),
    /// No new key.
    #[error("key not made")]
    Make(#[from] CertificateError),
    /// The thread that makes keys was lost.
    #[error("key not made: the process is stopping")]
    Stopping,
    /// A new key was not sealed.
    #[error("key not sealed")]
    Seal(#[from] SealError),
    /// The moved ring does not open.
    #[error("ring not reopened")]
    Load(#[from] KeyLoadError),
    /// A certificate of the ring is damaged.
    #[error("ring not reopened")]
    KeySet(#[from] KeySetError),
    /// The database failed.
    #[error("keys not read or written")]
    Database(#[from] DbError),
}

/// The public halves of the keys whose tokens count now.
pub(crate) fn verifying_keys(
    keys: &SiteKeys,
    hierarchy: Guid,
    now: Timestamp,
) -> Result<KeySet, KeySetError> {
    let certificates = keys.ring.verifying(now);
    KeySet::new(hierarchy, certificates.iter().map(Vec::as_slice))
}

impl Site {
    /// Every key of the site, private halves excepted.
    pub async fn list_keys(&self) -> Result<Vec<SiteKey>, DbError> {
        let records = self.db().read(db::key::list).await?;
        let keys = self.keys();
        let view = |record: crate::keys::KeyRecord| {
            let entry = keys.ring.find(record.id);
            SiteKey {
                id: record.id,
                purpose: record.purpose.as_str(),
                state: record.state,
                thumbprint: Thumbprint::of(&record.certificate),
                x5t: entry.map(|entry| entry.x5t.clone()),
                created_at: record.created_at,
                verifies_until: entry.and_then(RingEntry::verifies_until),
                certificate: record.certificate,
            }
        };
        Ok(records.into_iter().map(view).collect())
    }

    /// Moves the ring on: next becomes current, current retires, a new next is made. No token
    /// that is valid stops to be (R25). Where the next key was published within the last minute, it
    /// waits until every gateway that is connected knows it, ten seconds at most.
    pub async fn rotate_token_key(&self, by: &By) -> Result<(), KeyError> {
        let published = *lock(&self.inner.next_key_published);
        if let Some((version, at)) = published
            && self.now().distance(at) < NEXT_KEY_SPREADS
        {
            self.await_gateways(version).await?;
        }
        self.move_ring(by, None).await
    }

    /// Waits until no connected gateway is behind a version. One that stays behind has lost its
    /// connection point or is broken: it must not keep the others from a new key.
    async fn await_gateways(&self, version: u64) -> Result<(), DbError> {
        let end = tokio::time::Instant::now() + AWAIT_GATEWAYS;
        loop {
            let behind = self.list_connected_behind(version).await?;
            if behind.is_empty() {
                return Ok(());
            }
            if tokio::time::Instant::now() >= end {
                warn!(gateways = behind.join(", "), "token key moves on before these gateways know it");
                return Ok(());
            }
            tokio::time::sleep(AWAIT_STEP).await;
        }
    }

    /// Drops a key at once: its tokens count no more, here now and at gateways within seconds.
    /// Where it was the current one, the next takes its place.
    pub async fn drop_token_key(&self, by: &By, id: Guid) -> Result<(), KeyError> {
        let now = self.now();
        if !self.keys().ring.find(id).is_some_and(|entry| entry.verifies(now)) {
            return Err(KeyError::Unknown(id));
        }
        self.move_ring(by, Some(id)).await
    }

    async fn move_ring(&self, by: &By, dropped: Option<Guid>) -> Result<(), KeyError> {
        let next = self.make_next_key().await?.seal(self.key_file(), self.now())?;
        {
            let _refresh = self.inner.refresh.lock().await;
            let scribe = self.scribe(by);
            let now = scribe.now;
            let (records, version) = self
                .db()
                .write(move |tx| {
                    let before = db::key::list(tx)?;
                    let in_ring = before
                        .iter()
                        .filter(|record| record.purpose == KeyPurpose::TokenSigning)
                        .collect::<Vec<_>>();
                    let in_state = |state| in_ring.iter().find(|record| record.state == state).map(|r| r.id);
                    let (current, old_next) = (in_state(KeyState::Current), in_state(KeyState::Next));
                    let advance = dropped.is_none() || dropped == current;
                    if let Some(id) = dropped {
                        db::key::set_state(tx, id, KeyState::Dropped, now)?;
                    } else if let Some(id) = current {
                        db::key::set_state(tx, id, KeyState::Retired, now)?;
                    }
                    if let Some(id) = old_next.filter(|_| advance) {
                        db::key::set_state(tx, id, KeyState::Current, now)?;
                    }
                    if advance || dropped == old_next {
                        db::key::insert(tx, &next)?;
                    }
                    let after = db::key::list(tx)?;
                    let verifying = crate::keys::verifying_certificates(&after, now);
                    let change = Change::SetTokenCertificates(snapshot::certificates(verifying));
                    let version = snapshot::publish(tx, now, &change)?;
                    match dropped {
                        Some(id) => scribe.note(tx, "key.drop", id, &json!({}))?,
                        None => scribe.note(tx, "key.rotate", next.id, &json!({}))?,
                    }
                    Ok::<_, DbError>((after, version))
                })
                .await?;
            *lock(&self.inner.next_key_published) = Some((version, now));
            let keys = SiteKeys::open(&records, self.key_file())?;
            let set = verifying_keys(&keys, self.facts().hierarchy, self.now())?;
            self.put_keys(keys, set);
        }
        self.publish_committed().await;
        Ok(())
    }

    /// Takes retired keys past their end out of what is published.
    pub(crate) async fn withdraw_ended_keys(&self) -> Result<(), DbError> {
        let (keys, now) = (self.keys(), self.now());
        let verifying = keys.ring.verifying(now);
        if self.current_snapshot().token_certificates.len() == verifying.len() {
            return Ok(());
        }
        match verifying_keys(&keys, self.facts().hierarchy, now) {
            Ok(set) => self.put_key_set(set),
            Err(error) => error!(%error, "token keys not renewed"),
        }
        let change = Change::SetTokenCertificates(snapshot::certificates(verifying));
        self.db().write(move |tx| snapshot::publish(tx, now, &change).map(drop)).await
    }

    /// An RSA key takes a while to find, so it is looked for beside the runtime's threads.
    async fn make_next_key(&self) -> Result<NewKey, KeyError> {
        let (keys, now) = (self.keys(), self.now());
        let made = tokio::task::spawn_blocking(move || NewKey::make_next(&keys.root_authority(), now)).await;
        Ok(made.map_err(|_| KeyError::Stopping)??)
    }
}

/// The first rows of a new site's key table.
pub(crate) fn publish_first_keys(
    tx: &mut dyn db::Tx,
    facts: &SiteFacts,
    certificates: Vec<Vec<u8>>,
) -> Result<(), DbError> {
    let change = Change::SetTokenCertificates(snapshot::certificates(certificates));
    snapshot::publish(tx, facts.created_at, &change).map(drop)
}
