//! What the stand-in knows, shared by its handlers and its control.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use proto::id::Guid;
use proto::time::Timestamp;
use runtime::Clock;

use crate::config::{DeviceSeed, TenantConfig, UserSeed};
use crate::device_code::SignIn;
use crate::fault::{Faults, Part};
use crate::keys::{KeyError, KeyRing};
use crate::refusal::Refusal;
use crate::register::Register;

/// Most tokens, codes, sessions and used proofs of each kind that a tenant remembers; the oldest to
/// end go first.
pub(crate) const REMEMBERED: usize = 10_000;

/// Everything.
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    /// `https://host:port`.
    pub(crate) base: String,
    tenants: Mutex<BTreeMap<Guid, Tenant>>,
    faults: Mutex<Faults>,
    counts: [AtomicU64; 4],
}

/// One tenant as it stands.
pub(crate) struct Tenant {
    /// Its facts. Users and devices moved to the registers below.
    pub(crate) config: TenantConfig,
    pub(crate) keys: KeyRing,
    pub(crate) users: Register<UserSeed>,
    /// By object id, as users.
    pub(crate) devices: Register<DeviceSeed>,
    /// Sign-ins under way, by device code.
    pub(crate) codes: BTreeMap<String, SignIn>,
    /// Refresh tokens.
    pub(crate) sessions: Expiring<Session>,
    /// Tokens for the lists of users and devices.
    pub(crate) graph_tokens: Expiring<()>,
    /// Proofs that were used.
    pub(crate) proofs: Expiring<()>,
    pub(crate) mood: Mood,
}

/// Whose refresh token it is.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) user: Guid,
    pub(crate) device: Option<Guid>,
}

/// How the lists of users and devices behave.
#[derive(Debug, Default)]
pub(crate) struct Mood {
    /// Requests to come that are answered "too many", and the seconds that they are told to wait.
    pub(crate) throttled: (u32, u64),
    /// The discovery app lacks its permission.
    pub(crate) without_consent: bool,
    /// The next link to changes is refused: what it refers to is forgotten.
    pub(crate) resync: bool,
}

/// Texts that count until a moment.
#[derive(Debug)]
pub(crate) struct Expiring<T>(BTreeMap<String, (Timestamp, T)>);

impl<T> Default for Expiring<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> Expiring<T> {
    /// Remembers a text; `false` when it is known and has not ended.
    pub(crate) fn insert(&mut self, text: &str, until: Timestamp, value: T, now: Timestamp) -> bool {
        self.0.retain(|_, (until, _)| *until > now);
        if self.0.contains_key(text) {
            return false;
        }
        while self.0.len() >= REMEMBERED {
            let soonest = self.0.iter().min_by_key(|(_, (until, _))| *until).map(|(text, _)| text.clone());
            let Some(soonest) = soonest else { break };
            self.0.remove(&soonest);
        }
        self.0.insert(text.to_owned(), (until, value));
        true
    }

    pub(crate) fn get(&self, text: &str, now: Timestamp) -> Option<&T> {
        self.0.get(text).filter(|(until, _)| *until > now).map(|(_, value)| value)
    }

    pub(crate) fn remove(&mut self, text: &str, now: Timestamp) -> Option<T> {
        self.0.remove(text).filter(|(until, _)| *until > now).map(|(_, value)| value)
    }
}

impl Tenant {
    pub(crate) fn make(mut config: TenantConfig) -> Result<Self, KeyError> {
        let (mut users, mut devices) = (Register::default(), Register::default());
        for user in std::mem::take(&mut config.users) {
            users.put(user.id, user);
        }
        for device in std::mem::take(&mut config.devices) {
            devices.put(device.object, device);
        }
        Ok(Self {
            config,
            keys: KeyRing::make()?,
            users,
            devices,
            codes: BTreeMap::new(),
            sessions: Expiring::default(),
            graph_tokens: Expiring::default(),
            proofs: Expiring::default(),
            mood: Mood::default(),
        })
    }

    /// The device that a token or proof names.
    pub(crate) fn device(&self, id: Guid) -> Option<&DeviceSeed> {
        self.devices.values().find(|device| device.id == id)
    }

    pub(crate) fn user_named(&self, upn: &str) -> Option<&UserSeed> {
        self.users.values().find(|user| user.upn.eq_ignore_ascii_case(upn))
    }
}

impl Shared {
    pub(crate) fn new(clock: Clock, base: String, tenants: BTreeMap<Guid, Tenant>) -> Self {
        Self {
            clock,
            base,
            tenants: Mutex::new(tenants),
            faults: Mutex::default(),
            counts: Default::default(),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.clock.now())
    }

    /// Works with one tenant; `None` when nobody has that id.
    pub(crate) fn tenant<R>(&self, tenant: Guid, work: impl FnOnce(&mut Tenant) -> R) -> Option<R> {
        lock(&self.tenants).get_mut(&tenant).map(work)
    }

    /// Works with the tenant of a path, or answers as for one that does not exist.
    pub(crate) fn tenant_of_path<R>(
        &self,
        segment: &str,
        work: impl FnOnce(&mut Tenant) -> Result<R, Refusal>,
    ) -> Result<R, Refusal> {
        let unknown = || Refusal::unknown_tenant(segment);
        let tenant = segment.parse().map_err(|_| unknown())?;
        self.tenant(tenant, work).ok_or_else(unknown)?
    }

    /// Works with the first tenant that `find` is content with.
    pub(crate) fn find_tenant<R>(&self, mut find: impl FnMut(&mut Tenant) -> Option<R>) -> Option<R> {
        lock(&self.tenants).values_mut().find_map(&mut find)
    }

    pub(crate) fn faults(&self) -> Faults {
        *lock(&self.faults)
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        *lock(&self.faults) = faults;
    }

    /// Counts a request for a part, failed ones included.
    pub(crate) fn count(&self, part: Part) {
        if let Some(count) = self.counter(part) {
            count.fetch_add(1, Ordering::SeqCst);
        }
    }

    pub(crate) fn counted(&self, part: Part) -> u64 {
        self.counter(part).map_or(0, |count| count.load(Ordering::SeqCst))
    }

    fn counter(&self, part: Part) -> Option<&AtomicU64> {
        let index = match part {
            Part::Discovery => 0,
            Part::Keys => 1,
            Part::Token => 2,
            Part::Graph => 3,
            Part::Everything => return None,
        };
        self.counts.get(index)
    }
}

/// A test that panicked while it held a lock leaves whole values behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A text nobody guesses: 32 random bytes in base64url.
pub(crate) fn secret_text() -> String {
    use base64::Engine as _;
    let mut bytes = [0; 32];
    runtime::id::fill(&mut bytes);
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_counts_once_and_until_its_end() {
        let at = Timestamp::from_seconds;
        let mut texts = Expiring::default();
        assert!(texts.insert("a", at(10), 1, at(0)));
        assert!(!texts.insert("a", at(20), 2, at(9)), "known");
        assert_eq!(texts.get("a", at(9)), Some(&1));
        assert_eq!(texts.get("a", at(10)), None);
        assert!(texts.insert("a", at(20), 2, at(10)), "ended and forgotten");
        assert_eq!(texts.remove("a", at(11)), Some(2));
        assert_eq!(texts.get("a", at(11)), None);
    }
}
