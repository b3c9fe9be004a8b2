//! How fast new devices may come (R19): by one bulk registration token, tenant or certificate authority, or
//! from one address without any; and more slowly by what is one device's or one user's.
//!
//! Who holds a stolen token, or sits inside, could else fill the site with made-up devices as fast as it
//! writes. A bound of this kind must let a roll-out pass, so it has two parts: so many devices at once, and
//! then so many a minute. A key that is on record is none of them: it may always come again. Apart from the
//! bound, more than the usual number in an hour raises an alarm, which a planned roll-out does, too.
//!
//! Counted in memory: a restart begins anew, which costs at most one more burst.

mod door;
mod table;

use std::time::Duration;

use proto::time::Timestamp;

pub(crate) use self::door::Door;
pub(super) use self::door::Doors;
use self::table::Table;
use crate::setting::Settings;

/// By one certificate or one user's token: a host that is installed anew again and again comes a few times,
/// an image that was handed out with its certificate some dozens. More is somebody who holds what is not his.
const OWN: Limits = Limits { burst: 100, interval: Duration::from_mins(1), usual: 20 };

/// What is allowed by one door.
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
    /// What the site's settings allow by a door of many devices.
    pub(super) fn of(settings: &Settings) -> Self {
        Self {
            burst: settings.registration_burst,
            interval: Duration::from_mins(1) / settings.registration_rate.max(1),
            usual: settings.registration_usual,
        }
    }

    /// The same by a door of one device or user: never more than by one of many.
    fn own(self) -> Self {
        Self {
            burst: self.burst.min(OWN.burst),
            interval: self.interval.max(OWN.interval),
            usual: self.usual.min(OWN.usual),
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

/// The counts of all doors. What is easy to come by in numbers has a table of its own, so that it takes no
/// room from the others.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    /// Bulk registration tokens, which operators make.
    tokens: Table,
    /// Tenants and certificate authorities, which operators trust.
    issuers: Table,
    /// Addresses.
    addresses: Table,
    /// Certificates, and devices and users of tenants.
    own: Table,
}

impl Rates {
    /// Takes a place for one more device. `Err`: none is free; how long that lasts. Nothing is taken then.
    pub(super) fn enter(&mut self, doors: &Doors, now: Timestamp, limits: Limits) -> Result<(), Duration> {
        // The narrow one first: what one user or certificate is denied is not taken from all others.
        let own = doors.own.as_ref();
        if let Some(count) = own.and_then(|own| self.own.find_or_make(own, now)) {
            count.enter(now, limits.own())?;
        }
        let entered = self.shared(&doors.shared, now).enter(now, limits);
        if entered.is_err()
            && let Some(count) = own.and_then(|own| self.own.find_or_make(own, now))
        {
            count.give_back(limits.own());
        }
        entered
    }

    /// Gives a place back: no device was made with it.
    pub(super) fn give_back(&mut self, doors: &Doors, now: Timestamp, limits: Limits) {
        if let Some(count) = doors.own.as_ref().and_then(|own| self.own.find_or_make(own, now)) {
            count.give_back(limits.own());
        }
        self.shared(&doors.shared, now).give_back(limits);
    }

    /// Counts a device that was sent away.
    pub(super) fn refused(&mut self, doors: &Doors, now: Timestamp, limits: Limits) {
        if let Some(count) = doors.own.as_ref().and_then(|own| self.own.find_or_make(own, now)) {
            count.refused(now, limits.own());
        }
        self.shared(&doors.shared, now).refused(now, limits);
    }

    /// Counts a device that was made known; answers the bursts that begin with this one.
    pub(super) fn came(&mut self, doors: &Doors, now: Timestamp, limits: Limits) -> [Option<Burst>; 2] {
        let own = doors.own.as_ref().and_then(|own| self.own.find_or_make(own, now));
        let own = own.and_then(|count| count.came(now, limits.own()));
        [own, self.shared(&doors.shared, now).came(now, limits)]
    }

    /// The bursts of the last day, the newest first.
    pub(crate) fn bursts(&self, now: Timestamp) -> Vec<Burst> {
        let tables = [&self.tokens, &self.issuers, &self.addresses, &self.own];
        let mut bursts: Vec<_> = tables.iter().flat_map(|table| table.bursts(now)).cloned().collect();
        bursts.sort_by_key(|burst| std::cmp::Reverse(burst.last));
        bursts
    }

    fn shared(&mut self, door: &Door, now: Timestamp) -> &mut table::Count {
        let table = match door {
            Door::Token(_) => &mut self.tokens,
            Door::Tenant(_) | Door::Authority(_) => &mut self.issuers,
            _ => &mut self.addresses,
        };
        table.find_or_share(door, now)
    }
}

#[cfg(test)]
mod tests;
