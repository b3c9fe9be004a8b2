//! Taking what the site publishes: only signed, only forwards, and kept for the next start.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use proto::id::SiteCode;
use proto::snapshot::{DeltaError, Publication, Signed, SignedError, Snapshot};
use proto::time::Timestamp;
use proto::token::KeySetError;
use proto::trust::SiteRoot;
use runtime::telemetry::Chain;
use tracing::{info, warn};

use crate::log::COMPONENT;
use crate::state::GatewayState;
use crate::store::{SnapshotStore, StoreError, Stored};

/// Judges publications, holds the state in force, and stores what it was made of.
#[derive(Debug)]
pub struct Publisher {
    root: SiteRoot,
    site: SiteCode,
    current: ArcSwapOption<GatewayState>,
    /// Also serialises those who take: tunnels of several shards bring the same publication at once.
    store: Mutex<SnapshotStore>,
}

/// What became of one publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// This version is in force now, by this publication or a later one.
    InForce(u64),
    /// It did not follow what is here, or nothing is here: a whole snapshot is needed.
    NeedSnapshot {
        /// The version that is here; 0: none, or one whose changes fill the store.
        have: u64,
    },
    /// It was not believed; nothing changed.
    Refused,
}

/// Why a publication was not believed.
#[derive(Debug, thiserror::Error)]
pub enum PublicationError {
    /// The site did not sign it.
    #[error("the publication is not the site's")]
    Signed(#[from] SignedError),
    /// Signed, but another site's.
    #[error("the publication is that of another site or hierarchy ({0})")]
    OtherSite(SiteCode),
    /// A token signing certificate in it cannot be used.
    #[error("the publication cannot be used")]
    Keys(#[from] KeySetError),
    /// Older than what is in force.
    #[error("the publication has version {offered}, and version {have} is in force")]
    Older {
        /// The version in force.
        have: u64,
        /// The version offered.
        offered: u64,
    },
    /// A delta that does not follow.
    #[error("the publication does not follow what is here")]
    Gap(#[from] DeltaError),
}

/// Why the snapshot of a bundle cannot be used at all.
#[derive(Debug, thiserror::Error)]
#[error("the snapshot in the bundle was not made by the bundle's site")]
pub struct BundleSnapshotError(#[source] PublicationError);

impl Publisher {
    /// Takes the newer one of what the bundle brought and what was stored here before.
    ///
    /// A bundle whose snapshot was good once but is not any more (its signing certificate has expired) is no
    /// error: the gateway then refuses requests until the site's next publication reaches it.
    pub fn restore(
        root: SiteRoot,
        site: SiteCode,
        bundled: &Signed,
        folder: &Path,
        now: Timestamp,
    ) -> Result<Self, BundleSnapshotError> {
        let mut state = None;
        match open(bundled, &root, site, None, now).and_then(|publication| apply(None, publication)) {
            Ok(snapshot) => state = Some(snapshot),
            Err(error) if was_good_when_issued(bundled, &root, site) => {
                warn!(
                    component = COMPONENT,
                    error = %Chain(&error),
                    "snapshot of the bundle is not good any more, waiting for a newer one"
                );
            }
            Err(error) => return Err(BundleSnapshotError(error)),
        }
        let (mut store, stored) = SnapshotStore::open(folder);
        if let Some(snapshot) = restore(&stored, &root, site, now)
            && state.as_ref().is_none_or(|bundled| is_newer(&snapshot, bundled))
        {
            state = Some(snapshot);
        } else if state.is_some() {
            // What the bundle brought is the newer one: from here on changes follow it.
            report(store.save_snapshot(bundled));
        }
        let publisher = Self { root, site, current: ArcSwapOption::empty(), store: Mutex::new(store) };
        if let Some(snapshot) = state {
            let version = snapshot.version;
            let state = GatewayState::new(snapshot, None)
                .map_err(|error| BundleSnapshotError(PublicationError::Keys(error)))?;
            publisher.current.store(Some(Arc::new(state)));
            info!(component = COMPONENT, version, "snapshot of the site is in force");
        }
        Ok(publisher)
    }

    /// The state in force; `None` until the first good publication.
    pub fn current(&self) -> Option<Arc<GatewayState>> {
        self.current.load_full()
    }

    /// The same for a moment, without a lasting hold on it: for what each request asks.
    pub fn load(&self) -> arc_swap::Guard<Option<Arc<GatewayState>>> {
        self.current.load()
    }

    /// The version in force; 0: none.
    pub fn version(&self) -> u64 {
        self.current.load().as_ref().map_or(0, |state| state.snapshot.version)
    }

    /// The site's root, by which connection points are judged too.
    pub fn root(&self) -> &SiteRoot {
        &self.root
    }

    /// Takes publications in their order; the answers are in the same order, with one more behind them when
    /// the store is full of changes and a whole snapshot should replace them. Blocks on signatures and on the
    /// disk, so it belongs on a thread that may.
    ///
    /// What is good is in force before it is stored: a block must not wait for a disk.
    pub fn take(&self, batch: &[Signed], now: Timestamp) -> Vec<Taken> {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.current();
        let mut next: Option<Snapshot> = None;
        let mut whole = None;
        let mut deltas = Vec::new();
        let mut answers = Vec::with_capacity(batch.len());
        for signed in batch {
            let base = next.as_ref().or(before.as_ref().map(|state| &state.snapshot));
            let have = base.map_or(0, |snapshot| snapshot.version);
            let outcome = open(signed, &self.root, self.site, base, now).and_then(|publication| {
                let is_whole = matches!(publication, Publication::Snapshot(_));
                apply(base, publication).map(|snapshot| (snapshot, is_whole))
            });
            answers.push(match outcome {
                Ok((snapshot, is_whole)) => {
                    if is_whole {
                        whole = Some(signed);
                        deltas.clear();
                    } else {
                        deltas.push(signed);
                    }
                    let version = snapshot.version;
                    next = Some(snapshot);
                    Taken::InForce(version)
                }
                // Two connection points bring the same; the second one is told what is in force.
                Err(PublicationError::Older { .. }) => Taken::InForce(have),
                Err(PublicationError::Gap(_)) => Taken::NeedSnapshot { have },
                Err(error) => {
                    warn!(component = COMPONENT, error = %Chain(&error), "publication refused");
                    Taken::Refused
                }
            });
        }
        let Some(snapshot) = next else { return answers };
        let version = snapshot.version;
        match GatewayState::new(snapshot, before.as_deref()) {
            Ok(state) => self.current.store(Some(Arc::new(state))),
            Err(error) => {
                warn!(component = COMPONENT, error = %Chain(&error), version, "publication refused");
                return vec![Taken::Refused; batch.len()];
            }
        }
        info!(component = COMPONENT, version, "publication of the site is in force");
        if let Some(signed) = whole {
            report(store.save_snapshot(signed));
        }
        let appended = store.append(&deltas);
        let is_full = matches!(appended, Err(StoreError::Full));
        report(appended);
        if is_full {
            answers.push(Taken::NeedSnapshot { have: 0 });
        }
        answers
    }
}

/// Believes a document or not: signature, and that it is of this very site.
fn open(
    signed: &Signed,
    root: &SiteRoot,
    site: SiteCode,
    current: Option<&Snapshot>,
    now: Timestamp,
) -> Result<Publication, PublicationError> {
    let publication = signed.open(root, now)?;
    if let Publication::Snapshot(snapshot) = &publication {
        let same = current.is_none_or(|current| current.hierarchy == snapshot.hierarchy);
        if snapshot.site_code != site || !same {
            return Err(PublicationError::OtherSite(snapshot.site_code));
        }
    }
    Ok(publication)
}

/// The snapshot after `publication`, which must be newer than `current`.
fn apply(current: Option<&Snapshot>, publication: Publication) -> Result<Snapshot, PublicationError> {
    let have = current.map_or(0, |snapshot| snapshot.version);
    let offered = match &publication {
        Publication::Snapshot(snapshot) => snapshot.version,
        Publication::Delta(delta) => delta.to,
    };
    if current.is_some() && offered <= have {
        return Err(PublicationError::Older { have, offered });
    }
    match (publication, current) {
        (Publication::Snapshot(snapshot), _) => Ok(*snapshot),
        (Publication::Delta(delta), None) => Err(DeltaError { have: 0, from: delta.from }.into()),
        (Publication::Delta(delta), Some(current)) => {
            let mut next = current.clone();
            next.apply_delta(delta)?;
            Ok(next)
        }
    }
}

/// What was stored, as far as it verifies again; a file proves nothing by lying there.
fn restore(stored: &Stored, root: &SiteRoot, site: SiteCode, now: Timestamp) -> Option<Snapshot> {
    let whole = stored.snapshot.as_ref()?;
    let mut snapshot = match open(whole, root, site, None, now).and_then(|whole| apply(None, whole)) {
        Ok(snapshot) => snapshot,
        Err(error) => {
            warn!(component = COMPONENT, error = %Chain(&error), "stored snapshot is not used");
            return None;
        }
    };
    for signed in &stored.deltas {
        let next = open(signed, root, site, Some(&snapshot), now)
            .and_then(|publication| apply(Some(&snapshot), publication));
        match next {
            Ok(next) => snapshot = next,
            // Left over from before the whole snapshot was stored.
            Err(PublicationError::Older { .. }) => {}
            Err(error) => {
                warn!(
                    component = COMPONENT,
                    error = %Chain(&error),
                    version = snapshot.version,
                    "stored change is not used"
                );
            }
        }
    }
    Some(snapshot)
}

fn is_newer(stored: &Snapshot, bundled: &Snapshot) -> bool {
    if stored.hierarchy != bundled.hierarchy {
        warn!(component = COMPONENT, "stored snapshot is that of another hierarchy and is not used");
        return false;
    }
    stored.version >= bundled.version
}

/// Whether the signature was good at the moment that the document names. It is then merely old.
fn was_good_when_issued(signed: &Signed, root: &SiteRoot, site: SiteCode) -> bool {
    let issued = match serde_json::from_str(&signed.payload) {
        Ok(Publication::Snapshot(snapshot)) => snapshot.issued,
        _ => return false,
    };
    open(signed, root, site, None, issued).is_ok()
}

/// Logs why something is not stored; the state in force does not depend on it.
fn report(outcome: Result<(), StoreError>) {
    if let Err(error) = outcome {
        warn!(
            component = COMPONENT,
            error = %Chain(&error),
            "publication not stored, a restart will need it again"
        );
    }
}
