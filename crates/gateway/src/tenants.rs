//! The tenants whose tokens open the token service, and the tokens that were verified.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proto::entra::{EntraError, EntraToken, PublishedTenant, TenantSet};
use proto::id::Guid;
use proto::time::Timestamp;
use quick_cache::sync::Cache;

/// Verified tokens that are remembered; a device shows one a few times in eight hours.
const VERIFIED_TOKENS: usize = 16_384;
/// Time between two words to the site about keys that are not known here, whichever tenant's (R12).
const WISH_EVERY: Duration = Duration::from_secs(30);

/// The tenants as last published, and what their keys verified. They are one thing, so that a token cannot
/// outlive its key.
pub(crate) struct Tenants {
    published: BTreeMap<Guid, PublishedTenant>,
    set: TenantSet,
    verified: Cache<[u8; 32], Arc<EntraToken>>,
}

impl std::fmt::Debug for Tenants {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tenants")
            .field("tenants", &self.published.len())
            .field("verified", &self.verified.len())
            .finish_non_exhaustive()
    }
}

impl Tenants {
    /// These tenants: `previous` itself where nothing about them has changed.
    pub(crate) fn of(published: &BTreeMap<Guid, PublishedTenant>, previous: Option<&Arc<Self>>) -> Arc<Self> {
        match previous {
            Some(previous) if previous.published == *published => Arc::clone(previous),
            _ => Arc::new(Self {
                published: published.clone(),
                set: TenantSet::new(published.values()),
                verified: Cache::new(VERIFIED_TOKENS),
            }),
        }
    }

    /// The token whose text has this hash, if it was verified before.
    pub(crate) fn find(&self, name: &[u8; 32]) -> Option<Arc<EntraToken>> {
        self.verified.get(name)
    }

    /// Form, signature, origin and subject of a token whose text has this hash; a good one is remembered.
    pub(crate) fn verify(&self, name: [u8; 32], text: &str) -> Result<Arc<EntraToken>, EntraError> {
        let token = Arc::new(self.set.verify(text)?);
        self.verified.insert(name, Arc::clone(&token));
        Ok(token)
    }
}

/// When the site was last told of a key that is not known here.
#[derive(Debug, Default)]
pub(crate) struct KeyWishes(Mutex<Option<Timestamp>>);

impl KeyWishes {
    /// Lets `tell` speak if it is time. What nobody heard was not said: the next one may speak at once.
    pub(crate) fn wish(&self, now: Timestamp, tell: impl FnOnce() -> bool) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back must not silence anybody for as long.
        let is_time = last.is_none_or(|last| now < last || now >= last.plus(WISH_EVERY));
        if is_time && tell() {
            *last = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_heard_once_in_thirty_seconds_and_again_when_nobody_heard_it() {
        let wishes = KeyWishes::default();
        let begin = Timestamp::from_seconds(1_790_000_000);
        let heard = |seconds, is_heard| {
            let mut asked = false;
            wishes.wish(begin.plus(Duration::from_secs(seconds)), || {
                asked = true;
                is_heard
            });
            asked
        };
        assert!(heard(0, false) && heard(0, true), "the first one reached nobody");
        assert!(!heard(0, true) && !heard(29, true));
        assert!(heard(30, true) && !heard(59, true) && heard(60, true));
        wishes.wish(begin, || true);
        assert!(!heard(10, true) && heard(30, true), "the clock was set back, and runs on from there");
    }
}
