//! The counts of doors of one kind, bounded.

use std::collections::HashMap;
use std::time::Duration;

use proto::time::Timestamp;

use super::{Burst, Door, Limits};

/// Doors that are counted one by one.
pub(super) const DOORS: usize = 10_000;
/// Time over which the usual number is counted.
const HOUR: Duration = Duration::from_hours(1);
/// How long an alarm about a burst stands after the last device of it.
const ALARM: Duration = Duration::from_hours(24);
/// Longest wait that a device is told. Its place may not be free by then, and it is told again.
pub(super) const LONGEST_WAIT: Duration = Duration::from_mins(5);
/// Time between two looks for doors that need no count any more.
const SWEEP: Duration = Duration::from_secs(1);

/// Counts by door.
#[derive(Debug, Default)]
pub(super) struct Table {
    doors: HashMap<Door, Count>,
    swept: Timestamp,
}

/// What came by one door.
#[derive(Debug)]
pub(super) struct Count {
    door: Door,
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

impl Table {
    /// The count of a door; `None`: it is not counted, and there is no room for it.
    pub(super) fn find_or_make(&mut self, door: &Door, now: Timestamp) -> Option<&mut Count> {
        if !self.doors.contains_key(door) {
            if !self.has_room(now) {
                return None;
            }
            self.doors.insert(door.clone(), Count::new(door.clone(), now));
        }
        let count = self.doors.get_mut(door)?;
        count.turn(now);
        Some(count)
    }

    /// The same, or the count that all share for whom there is no room.
    pub(super) fn find_or_share(&mut self, door: &Door, now: Timestamp) -> &mut Count {
        let fits = self.doors.contains_key(door) || self.has_room(now);
        let door = if fits { door } else { &Door::Others };
        let count = self.doors.entry(door.clone()).or_insert_with(|| Count::new(door.clone(), now));
        count.turn(now);
        count
    }

    pub(super) fn bursts(&self, now: Timestamp) -> impl Iterator<Item = &Burst> {
        let bursts = self.doors.values().filter_map(|count| count.burst.as_ref());
        bursts.filter(move |burst| burst.stands(now))
    }

    fn has_room(&mut self, now: Timestamp) -> bool {
        if self.doors.len() >= DOORS && now.since(self.swept) >= SWEEP {
            self.swept = now;
            self.doors.retain(|_, count| !count.is_idle(now));
        }
        self.doors.len() < DOORS
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.doors.len()
    }
}

impl Count {
    fn new(door: Door, now: Timestamp) -> Self {
        Self { door, full_at: now, promised: now, since: now, came: 0, refused: 0, burst: None }
    }

    fn turn(&mut self, now: Timestamp) {
        if now.since(self.since) >= HOUR {
            (self.since, self.came, self.refused) = (now, 0, 0);
        }
    }

    pub(super) fn enter(&mut self, now: Timestamp, limits: Limits) -> Result<(), Duration> {
        let begins = self.full_at.max(now);
        let over = begins.plus(limits.interval).since(now.plus(limits.interval * limits.burst));
        if over.is_zero() {
            self.full_at = begins.plus(limits.interval);
            return Ok(());
        }
        let free = now.plus(over);
        self.promised = self.promised.max(free).plus(limits.interval).min(now.plus(LONGEST_WAIT));
        Err(self.promised.since(now))
    }

    pub(super) fn give_back(&mut self, limits: Limits) {
        self.full_at = self.full_at.minus(limits.interval);
    }

    pub(super) fn came(&mut self, now: Timestamp, limits: Limits) -> Option<Burst> {
        self.came = self.came.saturating_add(1);
        let is_known = self.burst.as_ref().is_some_and(|burst| burst.since == self.since);
        self.note(now, limits);
        self.burst.clone().filter(|burst| !is_known && burst.since == self.since)
    }

    pub(super) fn refused(&mut self, now: Timestamp, limits: Limits) {
        self.refused = self.refused.saturating_add(1);
        self.note(now, limits);
    }

    /// Keeps a burst of this hour up to date.
    fn note(&mut self, now: Timestamp, limits: Limits) {
        if self.came > limits.usual {
            let Self { since, came, refused, .. } = *self;
            self.burst = Some(Burst { door: self.door.clone(), since, came, refused, last: now });
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
