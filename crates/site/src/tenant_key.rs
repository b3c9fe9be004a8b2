//! Keys of tenants: what is fetched, what is published of it, and who wants them fetched.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use proto::entra::{KEYS_LIFETIME, TenantSet};
use proto::id::Guid;
use proto::jose::JwkSet;
use proto::time::Timestamp;
use tokio::sync::Notify;

use crate::Site;
use crate::db;
use crate::db::tenant::TenantRow;
use crate::site::{lock, read};
use crate::tenant::{NAMES, TenantError, check_issuers, publish};

/// Time between two fetches that tokens with unknown keys cause, whoever asks (R12).
const WISH_EVERY: Duration = Duration::from_secs(30);

/// By how much longer keys must count before that alone is worth publishing.
const REPUBLISH_AFTER: Duration = Duration::from_hours(1);

/// What the fetcher of keys should do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WantedKeys {
    /// Nobody asks: wait for [`Site::wanted_keys`].
    Nothing,
    /// Somebody asks, and the last fetch for such a wish was too short ago: look again then.
    After(Duration),
    /// Fetch this tenant's keys. It counts as fetched, whatever comes of it.
    Fetch(Guid),
}

/// Who wants keys, and when a wish was granted last. Pure: the moment is an argument.
#[derive(Debug, Default)]
pub(crate) struct KeyWishes {
    wanted: VecDeque<Guid>,
    granted_at: Option<Timestamp>,
}

impl KeyWishes {
    /// Notes a wish; `false`: it was noted before.
    fn want(&mut self, tenant: Guid) -> bool {
        if self.wanted.contains(&tenant) {
            return false;
        }
        // Only onboarded tenants get here, so the queue is as short as their list.
        self.wanted.push_back(tenant);
        true
    }

    /// A tenant whose keys were just fetched wants nothing more.
    pub(crate) fn forget(&mut self, tenant: Guid) {
        self.wanted.retain(|wanted| *wanted != tenant);
    }

    fn take(&mut self, now: Timestamp) -> WantedKeys {
        if self.wanted.is_empty() {
            return WantedKeys::Nothing;
        }
        // A clock that was set back must not silence wishes for longer than the pause.
        let since = self.granted_at.map(|at| now.distance(at));
        if let Some(pause) = since.and_then(|since| WISH_EVERY.checked_sub(since)).filter(|p| !p.is_zero()) {
            return WantedKeys::After(pause);
        }
        let Some(tenant) = self.wanted.pop_front() else { return WantedKeys::Nothing };
        self.granted_at = Some(now);
        WantedKeys::Fetch(tenant)
    }
}

impl Site {
    /// Takes a tenant's keys as just fetched, with the issuers that its discovery document names.
    /// An empty set, or one under another issuer, changes nothing but the noted problem (R13).
    /// Published when the keys are others, or when they would count for an hour longer.
    pub async fn put_tenant_keys(
        &self,
        tenant: Guid,
        issuers_seen: &[String],
        keys: JwkSet,
        now: Timestamp,
    ) -> Result<(), TenantError> {
        let issuers_seen = issuers_seen.to_vec();
        let taken = self.db().write(move |tx| {
            let row = db::tenant::find(tx, tenant)?.ok_or(TenantError::Unknown(tenant))?;
            let mut others = db::tenant::list(tx)?;
            others.retain(|other| other.tenant != tenant);
            let taken = take_keys(&row, &issuers_seen, keys.clone(), now)
                .and_then(|taken| check_issuers(&others, &taken.0).map(|()| taken));
            let (next, is_news) = match taken {
                Ok(taken) => taken,
                Err(error) => {
                    db::tenant::put(tx, &TenantRow { keys_problem: error.to_string(), ..row })?;
                    return Ok(Err(error));
                }
            };
            if is_news {
                publish(tx, now, &next)?;
            } else {
                db::tenant::put(tx, &next)?;
            }
            Ok::<_, TenantError>(Ok(()))
        });
        taken.await??;
        lock(&self.inner.key_wishes).forget(tenant);
        self.publish_committed().await;
        Ok(())
    }

    /// The onboarded tenants with their keys, ready for verifying, as published now.
    pub fn tenant_set(&self) -> Arc<TenantSet> {
        read(&self.inner.tenants)
    }

    /// Somebody met a token signed by a key that is not known. A hint: unknown and disabled tenants
    /// are passed over, and at most one fetch in 30 seconds comes of it, whoever asks (R12).
    pub fn want_keys(&self, tenant: Guid) {
        let is_open = self.current_snapshot().tenants.get(&tenant).is_some_and(|tenant| tenant.enabled);
        if is_open && lock(&self.inner.key_wishes).want(tenant) {
            self.inner.wanted_keys.notify_one();
        }
    }

    /// Wakes the fetcher when somebody wants keys; then it asks [`Site::take_wanted_keys`].
    pub fn wanted_keys(&self) -> &Notify {
        &self.inner.wanted_keys
    }

    /// What to fetch now because somebody wants it.
    pub fn take_wanted_keys(&self) -> WantedKeys {
        lock(&self.inner.key_wishes).take(self.now())
    }
}

/// What comes of a fetched key set. Pure.
fn take_keys(
    row: &TenantRow,
    issuers_seen: &[String],
    keys: JwkSet,
    now: Timestamp,
) -> Result<(TenantRow, bool), TenantError> {
    if keys.keys.is_empty() {
        return Err(TenantError::NoKeys);
    }
    let mut next = row.clone();
    if row.issuers.is_empty() {
        next.issuers = issuers_seen.iter().take(NAMES).cloned().collect();
    } else if !issuers_seen.iter().any(|seen| row.issuers.contains(seen)) {
        let found = issuers_seen.first().map(|issuer| issuer.chars().take(200).collect());
        return Err(TenantError::Issuer {
            found: found.unwrap_or_else(|| "none".to_owned()),
            accepted: row.issuers.join(" or "),
        });
    }
    let until = now.plus(KEYS_LIFETIME);
    next.keys_fetched_at = Some(now);
    next.keys_problem.clear();
    next.keys = keys;
    let longer = row.keys_until.is_none_or(|published| until >= published.plus(REPUBLISH_AFTER));
    let publish = longer || next.keys != row.keys || next.issuers != row.issuers;
    if publish {
        next.keys_until = Some(until);
    }
    Ok((next, publish))
}

#[cfg(test)]
mod tests {
    use proto::jose::Jwk;

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_790_000_000);

    fn tenant(number: u8) -> Guid {
        Guid::from_bytes([number; 16])
    }

    #[test]
    fn a_thousand_wishes_within_a_minute_are_two_fetches() {
        let mut wishes = KeyWishes::default();
        let mut fetches = 0;
        for second in 0..60 {
            for _ in 0..17 {
                wishes.want(tenant(1));
            }
            if wishes.take(NOW.plus(Duration::from_secs(second))) == WantedKeys::Fetch(tenant(1)) {
                fetches += 1;
            }
        }
        assert_eq!(fetches, 2);
    }

    #[test]
    fn the_pause_is_one_for_all_tenants_and_each_has_its_turn() {
        let mut wishes = KeyWishes::default();
        assert_eq!(wishes.take(NOW), WantedKeys::Nothing);
        assert!(wishes.want(tenant(1)) && wishes.want(tenant(2)) && !wishes.want(tenant(1)));
        assert_eq!(wishes.take(NOW), WantedKeys::Fetch(tenant(1)));
        let soon = NOW.plus(Duration::from_secs(10));
        assert_eq!(wishes.take(soon), WantedKeys::After(Duration::from_secs(20)));
        let back = NOW.minus(Duration::from_hours(2));
        assert_eq!(wishes.take(back), WantedKeys::Fetch(tenant(2)), "a clock set back silences nobody");
        wishes.want(tenant(3));
        wishes.forget(tenant(3));
        assert_eq!(wishes.take(NOW), WantedKeys::Nothing);
    }

    fn keys(kid: &str) -> JwkSet {
        JwkSet { keys: vec![Jwk { kid: kid.to_owned(), alg: "RS256".to_owned(), key: vec![1] }] }
    }

    fn row() -> TenantRow {
        TenantRow {
            tenant: tenant(1),
            name: "t".to_owned(),
            issuers: vec!["https://issuer/v2.0".to_owned()],
            audiences: Vec::new(),
            client_app_id: String::new(),
            resource: String::new(),
            authority: String::new(),
            graph_url: String::new(),
            discovery_app_id: String::new(),
            secret: None,
            secret_expires_at: None,
            ca_pem: None,
            discovery: false,
            enabled: true,
            created_at: NOW,
            created_by: String::new(),
            keys: keys("a"),
            keys_fetched_at: Some(NOW),
            keys_until: Some(NOW.plus(KEYS_LIFETIME)),
            keys_problem: "down".to_owned(),
            user_seen_at: None,
            hybrid_seen_at: None,
        }
    }

    fn take(row: &TenantRow, kid: &str, minutes: u64) -> (TenantRow, bool) {
        let seen = ["https://issuer/v2.0".to_owned()];
        take_keys(row, &seen, keys(kid), NOW.plus(Duration::from_mins(minutes))).unwrap()
    }

    #[test]
    fn the_same_keys_are_published_once_an_hour_and_others_at_once() {
        let (next, is_news) = take(&row(), "a", 15);
        assert!(!is_news && next.keys_problem.is_empty());
        assert_eq!(next.keys_until, row().keys_until, "what is published is what is on record");
        assert!(take(&next, "a", 60).1);
        let (rotated, is_news) = take(&next, "b", 15);
        assert!(is_news);
        assert_eq!(rotated.keys_until, Some(NOW.plus(Duration::from_mins(15)).plus(KEYS_LIFETIME)));
    }

    #[test]
    fn no_keys_and_anothers_keys_are_not_taken() {
        let seen = ["https://issuer/v2.0".to_owned()];
        assert!(matches!(take_keys(&row(), &seen, JwkSet::default(), NOW), Err(TenantError::NoKeys)));
        let other = ["https://elsewhere".to_owned()];
        assert!(matches!(take_keys(&row(), &other, keys("b"), NOW), Err(TenantError::Issuer { .. })));
        let fresh = TenantRow { issuers: Vec::new(), ..row() };
        let (learnt, is_news) = take_keys(&fresh, &other, keys("a"), NOW).unwrap();
        assert!(is_news && learnt.issuers == other, "learnt at the first fetch");
    }
}
