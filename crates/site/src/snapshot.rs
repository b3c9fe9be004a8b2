//! What gateways are told: a versioned snapshot, signed, and the changes since.
//!
//! A change gets the next version in the transaction of the act that causes it. After the commit
//! the site applies it to the snapshot that it holds, and wakes whoever waits for a new version.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use proto::entra::TenantSet;
use proto::snapshot::{Change, Delta, GatewaySettings, Publication, Signed, Snapshot, TokenCertificate};
use proto::time::Timestamp;
use tokio::sync::watch;
use tracing::error;

use crate::db::{self, DbError, Tx};
use crate::keys::SignError;
use crate::site::{SiteFacts, lock, read, write};
use crate::{Site, crl, limits};

/// What there is to fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Version of the snapshot.
    pub version: u64,
    /// Counts changes of what connection points are told besides: gateways, role addresses.
    pub topology: u64,
}

/// A publication could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The signature was not made.
    #[error("publication not signed")]
    Sign(#[from] SignError),
    /// The document was not written.
    #[error("publication not written")]
    Write(#[from] serde_json::Error),
    /// The database failed.
    #[error("changes not read")]
    Database(#[from] DbError),
}

/// Gives a change the next version, in the transaction that causes it.
pub(crate) fn publish(tx: &mut dyn Tx, now: Timestamp, change: &Change) -> Result<u64, DbError> {
    // Ids, names and certificates always have a JSON form.
    publish_text(tx, now, &serde_json::to_string(change).expect("a change has a JSON form"))
}

/// Publishes a change whose JSON was written beside the database's thread, because it is long.
pub(crate) fn publish_text(tx: &mut dyn Tx, now: Timestamp, text: &str) -> Result<u64, DbError> {
    let version = db::snapshot::newest_version(tx)? + 1;
    db::snapshot::insert(tx, version, now, text)?;
    let kept = if text.len() < limits::LARGE_CHANGE { limits::KEPT_CHANGES.unsigned_abs() } else { 0 };
    db::snapshot::forget_before(tx, version.saturating_sub(kept))?;
    Ok(version)
}

/// The snapshot as the tables say, at a start.
pub(crate) fn build(
    tx: &mut dyn Tx,
    facts: &SiteFacts,
    token_certificates: Vec<Vec<u8>>,
    settings: GatewaySettings,
    now: Timestamp,
) -> Result<Snapshot, DbError> {
    let blocked = db::device::list_blocked(tx)?;
    let roles = db::role::list(tx)?;
    Ok(Snapshot {
        site_code: facts.code,
        hierarchy: facts.hierarchy,
        version: db::snapshot::newest_version(tx)?,
        issued: now,
        roles: roles.iter().map(|role| (role.id, role.published())).collect::<BTreeMap<_, _>>(),
        token_certificates: certificates(token_certificates),
        settings,
        blocked_bulk_tokens: db::bulk_token::list_blocked(tx, now)?.into_iter().collect(),
        blocked_devices: blocked.iter().map(|(device, _)| *device).collect(),
        blocked_certificates: blocked.iter().map(|(_, certificate)| *certificate).collect(),
        withdrawn_links: db::link::list_withdrawn(tx, now)?.into_iter().collect::<HashSet<_>>(),
        trust: db::trust::trust_list(tx)?,
        revocations: crl::load(tx)?,
        tenants: db::tenant::list(tx)?.iter().map(|row| (row.tenant, row.published())).collect(),
    })
}

pub(crate) fn certificates(list: Vec<Vec<u8>>) -> Vec<TokenCertificate> {
    list.into_iter().map(|der| TokenCertificate { der }).collect()
}

impl Site {
    /// What is published now, unsigned. It also answers what is blocked, for roles on this host.
    pub fn current_snapshot(&self) -> Arc<Snapshot> {
        read(&self.inner.snapshot)
    }

    /// Tells of every new version and every change of the topology.
    pub fn watch_published(&self) -> watch::Receiver<Published> {
        self.inner.published.subscribe()
    }

    /// The whole snapshot, signed. Signed once a version.
    pub fn snapshot(&self) -> Result<Arc<Signed>, SnapshotError> {
        let current = self.current_snapshot();
        if let Some((version, signed)) = &*lock(&self.inner.signed_snapshot)
            && *version == current.version
        {
            return Ok(Arc::clone(signed));
        }
        let signed = Arc::new(self.sign_publication(&Publication::Snapshot(Box::new((*current).clone())))?);
        *lock(&self.inner.signed_snapshot) = Some((current.version, Arc::clone(&signed)));
        Ok(signed)
    }

    /// The changes since a version, signed; the whole snapshot where they are not kept any more.
    /// `None`: nothing has changed.
    pub async fn changes_since(&self, version: u64) -> Result<Option<Arc<Signed>>, SnapshotError> {
        let current = self.current_snapshot();
        if version == current.version {
            return Ok(None);
        }
        if version == 0 || version > current.version {
            return self.snapshot().map(Some);
        }
        let to = current.version;
        let changes = self.db().read(move |tx| db::snapshot::list_between(tx, version, to)).await?;
        // Versions have no gaps, so a shorter list is one whose beginning was forgotten.
        if changes.len() as u64 != to - version {
            return self.snapshot().map(Some);
        }
        // Together they may be longer than what they change.
        if changes.iter().map(String::len).sum::<usize>() > proto::limits::SNAPSHOT_BYTES / 2 {
            return self.snapshot().map(Some);
        }
        let changes = parse(&changes)?;
        let delta = Delta { from: version, to, issued: current.issued, changes };
        self.sign_publication(&Publication::Delta(delta)).map(|signed| Some(Arc::new(signed)))
    }

    fn sign_publication(&self, publication: &Publication) -> Result<Signed, SnapshotError> {
        let keys = self.keys();
        let payload = serde_json::to_string(publication)?;
        let signature = keys.sign_for_site(payload.as_bytes())?;
        Ok(Signed { payload, signature, chain: keys.site_signing_chain() })
    }

    /// Takes over what was just committed. The act itself stands whatever happens here, so a
    /// failure is logged and made good by the next upkeep.
    pub(crate) async fn publish_committed(&self) {
        if let Err(error) = self.catch_up().await {
            error!(%error, "published changes not taken over yet");
        }
    }

    /// Applies committed changes to the snapshot in memory and wakes those who wait.
    pub(crate) async fn catch_up(&self) -> Result<(), DbError> {
        let _refresh = self.inner.refresh.lock().await;
        let have = self.current_snapshot().version;
        let changes = self.db().read(move |tx| db::snapshot::list_between(tx, have, u64::MAX >> 1)).await?;
        if changes.is_empty() {
            return Ok(());
        }
        let length: usize = changes.iter().map(String::len).sum();
        let (before, now) = (self.current_snapshot(), self.now());
        let apply = {
            let before = Arc::clone(&before);
            move || advance(&before, &changes, now)
        };
        // A long revocation list takes longer to read than other tasks of this thread should wait.
        let next = if length > limits::LARGE_CHANGE {
            tokio::task::spawn_blocking(apply).await.map_err(|_| DbError::Closed)?
        } else {
            apply()
        };
        let next = next.map_err(|_| DbError::Column { statement: "LIST_CHANGES", column: 0 })?;
        let version = next.version;
        if let Some(trust) = read(&self.inner.trust).after(&before, &next) {
            write(&self.inner.trust, trust);
        }
        if next.tenants != before.tenants {
            write(&self.inner.tenants, TenantSet::new(next.tenants.values()));
        }
        write(&self.inner.snapshot, next);
        self.inner.published.send_modify(|published| published.version = version);
        Ok(())
    }

    /// Wakes connection points after a change that no gateway needs to know.
    pub(crate) fn announce_topology(&self) {
        self.inner.published.send_modify(|published| published.topology += 1);
    }
}

/// The snapshot after these changes.
fn advance(before: &Snapshot, changes: &[String], now: Timestamp) -> Result<Snapshot, serde_json::Error> {
    let mut next = before.clone();
    next.version = before.version + changes.len() as u64;
    next.issued = now;
    for change in parse(changes)? {
        next.apply(change);
    }
    Ok(next)
}

fn parse(texts: &[String]) -> Result<Vec<Change>, serde_json::Error> {
    texts.iter().map(|text| serde_json::from_str(text)).collect()
}
