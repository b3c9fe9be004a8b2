//! How fast new devices may come (R19): by one bulk registration token, or from one address without one.
//!
//! Who holds a stolen token, or sits inside, could else fill the site with made-up devices as fast as it
//! writes. A bound of this kind must let a roll-out pass, so it has two parts: so many devices at once, and
//! then so many a minute. A key that is on record is none of them: it may always come again. Apart from the
//! bound, more than the usual number in an hour raises an alarm, which a planned roll-out does, too.
//!
//! Counted in memory: a restart begins anew, which costs at most one more burst.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use proto::id::Guid;
use proto::time::Timestamp;

use super::NewRegistration;
use crate::approval::Evidence;
use crate::setting::Settings;

/// Doors that are counted one by one; one more shares a count with all others that do not fit.
const DOORS: usize = 10_000;
/// Time over which the usual number is counted.
const HOUR: Duration = Duration::from_hours(1);
/// How long an alarm about a burst stands after the last device of it.
const ALARM: Duration = Duration::from_hours(24);
/// Longest wait that a device is told. Its place may not be free by then, and it is told again.
const LONGEST_WAIT: Duration = Duration::from_mins(5);
/// Time between two looks for doors that need no count any more.
const SWEEP: Duration = Duration::from_secs(1);

/// By what registrations are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Door {
    /// A bulk registration token: whoever comes through a gateway has the connection point's address.
    Token(Guid),
    /// An address; of version 6 the network of 64 bits that one host chooses freely in.
    Source(IpAddr),
    /// All that do not fit into the table.
    Others,
}

impl Door {
    /// The door that a registration comes by. `None`: no network was involved, so it is the site's own doing.
    pub(super) fn of(new: &NewRegistration, evidence: Evidence, from: Option<IpAddr>) -> Option<Self> {
        let token = match evidence {
            Evidence::BulkToken { id } => Some(id),
            _ => new.credentials.bulk,
        };
        token.map(Self::Token).or_else(|| from.map(|address| Self::Source(host(address))))
    }
}

impl std::fmt::Display for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Token(id) => write!(f, "bulk token {id}"),
            Self::Source(address) => write!(f, "address {address}"),
            Self::Others => f.write_str("other addresses"),
        }
    }
}

fn host(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) & !u128::from(u64::MAX)).into(),
        address @ IpAddr::V4(_) => address,
    }
}

/// What the site's settings allow.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Devices at once.
    burst: u32,
    /// Time in which one more may come.
    interval: Duration,
    /// Devices an hour that are no reason to look.
    usual: u32,
}

impl Limits {
    pub(super) fn of(settings: &Settings) -> Self {
        Self {
            burst: settings.registration_burst,
            interval: Duration::from_mins(1) / settings.registration_rate.max(1),
            usual: settings.registration_usual,
        }
    }
}

/// More devices than usual came by one door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Burst {
    pub(crate) door: Door,
    /// When the hour began in which they came.
    pub(crate) since: Timestamp,
    /// How many were made known since then.
    pub(crate) came: u32,
    /// How many requests of further ones were sent away.
    pub(crate) refused: u32,
    last: Timestamp,
}

#[derive(Debug)]
struct Count {
    /// When all places are free again: each device moves it on by the interval.
    full_at: Timestamp,
    /// The moment that the last refused device was told. Each gets a later one, so that they do not come
    /// back together.
    promised: Timestamp,
    since: Timestamp,
    came: u32,
    refused: u32,
    burst: Option<Burst>,
}

/// The counts of all doors.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    doors: HashMap<Door, Count>,
    swept: Timestamp,
}

impl Rates {
    /// Takes a place for one more device. `Err`: none is free; how long that lasts.
    pub(super) fn enter(&mut self, door: Door, now: Timestamp, limits: Limits) -> Result<(), Duration> {
        let count = self.count(door, now);
        let begins = count.full_at.max(now);
        let over = begins.plus(limits.interval).since(now.plus(limits.interval * limits.burst));
        if over.is_zero() {
            count.full_at = begins.plus(limits.interval);
            return Ok(());
        }
        let free = now.plus(over);
        count.promised = count.promised.max(free).plus(limits.interval).min(now.plus(LONGEST_WAIT));
        Err(count.promised.since(now))
    }

    /// Gives a place back: no device was made with it.
    pub(super) fn give_back(&mut self, door: Door, now: Timestamp, limits: Limits) {
        let count = self.count(door, now);
        count.full_at = count.full_at.minus(limits.interval);
    }

    /// Counts a device that was made known; answers the burst when it begins with this one.
    pub(super) fn came(&mut self, door: Door, now: Timestamp, limits: Limits) -> Option<Burst> {
        let count = self.count(door, now);
        count.came = count.came.saturating_add(1);
        let begins = count.came > limits.usual && count.burst.as_ref().is_none_or(|b| b.since != count.since);
        count.note(door, now, limits);
        count.burst.clone().filter(|_| begins)
    }

    /// Counts a device that was sent away.
    pub(super) fn refused(&mut self, door: Door, now: Timestamp, limits: Limits) {
        let count = self.count(door, now);
        count.refused = count.refused.saturating_add(1);
        count.note(door, now, limits);
    }

    /// The bursts of the last day.
    pub(crate) fn bursts(&self, now: Timestamp) -> Vec<Burst> {
        let bursts = self.doors.values().filter_map(|count| count.burst.as_ref());
        let mut bursts: Vec<_> = bursts.filter(|burst| burst.stands(now)).cloned().collect();
        bursts.sort_by_key(|burst| std::cmp::Reverse(burst.last));
        bursts
    }

    fn count(&mut self, door: Door, now: Timestamp) -> &mut Count {
        let door = if self.doors.contains_key(&door) || self.has_room(now) { door } else { Door::Others };
        let count = self.doors.entry(door).or_insert_with(|| Count::new(now));
        if now.since(count.since) >= HOUR {
            (count.since, count.came, count.refused) = (now, 0, 0);
        }
        count
    }

    fn has_room(&mut self, now: Timestamp) -> bool {
        if self.doors.len() >= DOORS && now.since(self.swept) >= SWEEP {
            self.swept = now;
            self.doors.retain(|_, count| !count.is_idle(now));
        }
        self.doors.len() < DOORS
    }
}

impl Count {
    fn new(now: Timestamp) -> Self {
        Self { full_at: now, promised: now, since: now, came: 0, refused: 0, burst: None }
    }

    /// Keeps a burst of this hour up to date.
    fn note(&mut self, door: Door, now: Timestamp, limits: Limits) {
        if self.came > limits.usual {
            let Self { since, came, refused, .. } = *self;
            self.burst = Some(Burst { door, since, came, refused, last: now });
        }
    }

    fn is_idle(&self, now: Timestamp) -> bool {
        let stands = self.burst.as_ref().is_some_and(|burst| burst.stands(now));
        !stands && self.full_at <= now && now.since(self.since) >= HOUR
    }
}

impl Burst {
    fn stands(&self, now: Timestamp) -> bool {
        now < self.last.plus(ALARM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { burst: 3, interval: Duration::from_secs(10), usual: 2 };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(1_790_000_000 + seconds)
    }

    fn source(text: &str) -> Door {
        Door::Source(host(text.parse().unwrap()))
    }

    #[test]
    fn a_burst_passes_then_one_an_interval_and_each_refused_one_is_told_another_moment() {
        let (mut rates, door) = (Rates::default(), Door::Token(Guid::nil()));
        for _ in 0..3 {
            assert_eq!(rates.enter(door, at(0), LIMITS), Ok(()));
        }
        assert_eq!(rates.enter(door, at(0), LIMITS), Err(Duration::from_secs(20)));
        assert_eq!(rates.enter(door, at(0), LIMITS), Err(Duration::from_secs(30)));
        assert_eq!(rates.enter(source("192.0.2.1"), at(0), LIMITS), Ok(()), "another door is another count");
        assert_eq!(rates.enter(door, at(10), LIMITS), Ok(()));
        assert!(rates.enter(door, at(10), LIMITS).is_err());
        for _ in 0..1000 {
            assert!(rates.enter(door, at(10), LIMITS).unwrap_err() <= LONGEST_WAIT);
        }
        rates.give_back(door, at(10), LIMITS);
        assert_eq!(rates.enter(door, at(10), LIMITS), Ok(()), "a place that made no device is free again");
        for _ in 0..3 {
            assert_eq!(rates.enter(door, at(1000), LIMITS), Ok(()), "all places come back, and no more");
        }
        assert!(rates.enter(door, at(1000), LIMITS).is_err());
    }

    #[test]
    fn more_than_usual_in_an_hour_is_told_once_and_stands_for_a_day() {
        let (mut rates, door) = (Rates::default(), Door::Token(Guid::nil()));
        assert_eq!([rates.came(door, at(0), LIMITS), rates.came(door, at(1), LIMITS)], [None, None]);
        let burst = rates.came(door, at(2), LIMITS).unwrap();
        assert_eq!((burst.door, burst.came, burst.since), (door, 3, at(0)));
        assert_eq!(rates.came(door, at(3), LIMITS), None);
        rates.refused(door, at(4), LIMITS);
        let seen = rates.bursts(at(5));
        assert_eq!((seen.len(), seen[0].came, seen[0].refused), (1, 4, 1));
        assert_eq!(rates.came(door, at(3700), LIMITS), None, "the next hour is usual again");
        assert_eq!(rates.bursts(at(3700)).len(), 1);
        assert!(rates.bursts(at(4 + 86_400)).is_empty());
    }

    #[test]
    fn addresses_of_one_host_are_one_door_and_the_table_of_doors_is_bounded() {
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:1:2:3"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        let mut rates = Rates::default();
        for number in 0..u32::try_from(DOORS).unwrap() + 500 {
            let _ = rates.enter(Door::Source(IpAddr::V4(number.into())), at(0), LIMITS);
        }
        assert_eq!(rates.doors.len(), DOORS + 1, "and one for all others");
        assert!(rates.enter(source("203.0.113.1"), at(0), LIMITS).is_err(), "which share their places");
        assert_eq!(rates.enter(source("203.0.113.1"), at(7200), LIMITS), Ok(()));
        assert_eq!(rates.doors.len(), 1, "who is quiet for an hour is forgotten");
    }
}
