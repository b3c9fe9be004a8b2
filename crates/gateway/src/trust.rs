//! Whose client certificates open the MutualAuth door: the site's trust list made ready, and the verdicts
//! that it gave.
//!
//! A verdict is worth as long as nothing changes, so trust list, revocation lists and settings are one thing
//! with it: any change makes a new [`Trust`] of the next generation, and what an older one said counts no
//! more. That is how a revocation reaches connections that are open and sessions that are resumed (R5).

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::id::Thumbprint;
use proto::pki::{Distrust, IssuerId, RevocationSettings, Revocations, TrustList, TrustStore, Usage};
use proto::snapshot::Snapshot;
use proto::time::Timestamp;
use quick_cache::sync::Cache;
use tracing::warn;

use crate::log::COMPONENT;

/// Trusted certificates that are remembered. Beyond it the least used are judged anew, which costs a
/// signature for each certificate of the path; a remembered one takes some 100 bytes.
const JUDGED: usize = 65_536;

/// What the site trusts, of one generation.
pub struct Trust {
    generation: u64,
    list: TrustList,
    revocations: BTreeMap<IssuerId, Arc<Revocations>>,
    settings: RevocationSettings,
    store: TrustStore,
    /// By the leaf. Only who is trusted is here: another chain may lead further than the one that failed.
    judged: Cache<Thumbprint, Window>,
}

/// From when until when a verdict counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    from: Timestamp,
    until: Timestamp,
}

impl Window {
    /// From `now` until `until`. A clock that was set back ends it too.
    pub(crate) const fn new(now: Timestamp, until: Timestamp) -> Self {
        Self { from: now, until }
    }

    pub(crate) fn holds(&self, now: Timestamp) -> bool {
        self.from <= now && now < self.until
    }
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trust")
            .field("generation", &self.generation)
            .field("authorities", &self.list.authorities.len())
            .field("judged", &self.judged.len())
            .finish_non_exhaustive()
    }
}

impl Trust {
    /// What `snapshot` trusts: `previous` itself where nothing about it has changed.
    pub(crate) fn of(snapshot: &Snapshot, previous: Option<&Arc<Self>>) -> Arc<Self> {
        if let Some(previous) = previous
            && previous.is_of(snapshot)
        {
            return Arc::clone(previous);
        }
        let generation = previous.map_or(0, |trust| trust.generation + 1);
        let settings = snapshot.settings.revocation;
        Arc::new(Self {
            generation,
            list: snapshot.trust.clone(),
            revocations: snapshot.revocations.clone(),
            settings,
            store: store(&snapshot.trust, &snapshot.revocations, settings),
            judged: Cache::new(JUDGED),
        })
    }

    /// Lists that are the same object are the same; of two others nobody wants to compare a million serials.
    fn is_of(&self, snapshot: &Snapshot) -> bool {
        self.settings == snapshot.settings.revocation
            && self.list == snapshot.trust
            && self.revocations.len() == snapshot.revocations.len()
            && self
                .revocations
                .iter()
                .zip(&snapshot.revocations)
                .all(|((issuer, list), (other, others))| issuer == other && Arc::ptr_eq(list, others))
    }

    /// Rises whenever a verdict may have become another.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Judges a chain, leaf first, whose key was proved; gives until when that counts. `leaf` is the
    /// thumbprint of the first one.
    pub(crate) fn judge(
        &self,
        chain: &[Vec<u8>],
        leaf: Thumbprint,
        now: Timestamp,
    ) -> Result<Window, Distrust> {
        if let Some(window) = self.judged.get(&leaf).filter(|window| window.holds(now)) {
            return Ok(window);
        }
        let trusted = self.store.judge(chain, Usage::Client, now)?;
        let window = Window::new(now, trusted.until);
        self.judged.insert(leaf, window);
        Ok(window)
    }
}

/// The store of a list. An authority that cannot be used trusts nobody, and does not keep the others, nor the
/// blocks that came with it, from being obeyed: another version of this program may know what it is.
fn store(
    list: &TrustList,
    revocations: &BTreeMap<IssuerId, Arc<Revocations>>,
    settings: RevocationSettings,
) -> TrustStore {
    let mut usable = list.clone();
    loop {
        let error = match TrustStore::new(&usable, revocations, settings) {
            Ok(store) => return store,
            Err(error) => error,
        };
        warn!(component = COMPONENT, %error, "authority of the trust list is left out");
        let before = usable.authorities.len();
        usable.authorities.retain(|authority| authority.id() != error.0);
        if usable.authorities.len() == before {
            return TrustStore::default();
        }
    }
}
