//! What one device alone cannot produce. Pure: moments and contacts in, verdicts out.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use proto::id::ClientId;
use proto::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::Difference;
use crate::device::{Device, SeenVia};
use crate::limits;

const DAY: Duration = Duration::from_hours(24);
/// Returns to another hardware id in a day.
const HARDWARE_RETURNS: usize = 2;
/// Returns to another name in [`NAME_WINDOW`]. A name alone may come from the network.
const NAME_RETURNS: usize = 3;
const NAME_WINDOW: Duration = Duration::from_mins(15);
/// Changes of side with different clocks in [`CLOCK_WINDOW`].
const CLOCK_CHANGES: usize = 4;
const CLOCK_WINDOW: Duration = Duration::from_mins(30);
/// How far two clocks differ at least: more than any request is under way.
const CLOCK_DIFFERENCE_MS: i64 = 5 * 60 * 1000;
/// Changes between two keys of one hardware in [`PAIR_WINDOW`]. Two systems on one machine are
/// started in turn, too, and nobody starts them that often.
const PAIR_CHANGES: usize = 6;
const PAIR_WINDOW: Duration = Duration::from_hours(4);
/// How far the clock of one side may wander meanwhile: more than a request is under way, less than delays
/// that somebody makes up by hand, or that a bad line has, differ.
const CLOCK_SPREAD_MS: u64 = 60 * 1000;
/// Facts that are remembered of one key.
pub(super) const FACTS: usize = 12;

/// A contact as far as it tells two copies apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Side {
    pub(crate) at: Timestamp,
    pub(crate) via: SeenVia,
    pub(crate) skew_ms: Option<i64>,
}

/// What two copies of one key leave behind in their contacts.
#[derive(Debug, Default)]
struct Trail {
    last: Option<SeenVia>,
    last_at: Timestamp,
    /// The clock as measured on each side, for as long as it has stayed where it is.
    inside: Option<Clock>,
    outside: Option<Clock>,
    /// When the side changed, and the clock with it.
    changes: VecDeque<Timestamp>,
}

/// A clock that stays where it is: the slowest and the fastest measurement.
#[derive(Debug, Clone, Copy)]
struct Clock {
    slowest_ms: i64,
    fastest_ms: i64,
}

impl Clock {
    /// This clock with one measurement more; `None`: it is another one.
    fn with(self, skew_ms: i64) -> Option<Self> {
        let wider =
            Self { slowest_ms: self.slowest_ms.min(skew_ms), fastest_ms: self.fastest_ms.max(skew_ms) };
        (wider.fastest_ms.abs_diff(wider.slowest_ms) <= CLOCK_SPREAD_MS).then_some(wider)
    }
}

impl Trail {
    /// Takes a contact; answers what makes the key suspect.
    fn note(&mut self, side: Side) -> Option<Vec<Difference>> {
        self.last_at = side.at;
        // What says nothing of a clock is no evidence, and both roads in turn by themselves are none: a
        // client may use both at once.
        let skew_ms = side.skew_ms?;
        let clock = match side.via {
            SeenVia::Intranet => &mut self.inside,
            SeenVia::Gateway => &mut self.outside,
        };
        let stayed = clock.map(|clock| clock.with(skew_ms));
        let first = Clock { slowest_ms: skew_ms, fastest_ms: skew_ms };
        *clock = stayed.flatten().or(Some(first));
        if stayed.is_some_and(|stayed| stayed.is_none()) {
            // A clock that was set, or a delay: what was counted before was no second clock.
            self.changes.clear();
        }
        let moved = self.last.is_some_and(|last| last != side.via);
        self.last = Some(side.via);
        if !moved {
            return None;
        }
        let (inside, outside) = self.inside.zip(self.outside)?;
        // A gateway that holds requests back makes a clock look slow, never fast.
        if outside.slowest_ms.saturating_sub(inside.fastest_ms) <= CLOCK_DIFFERENCE_MS {
            return None;
        }
        keep(&mut self.changes, side.at, CLOCK_WINDOW);
        if self.changes.len() < CLOCK_CHANGES {
            return None;
        }
        self.changes.clear();
        Some(vec![
            difference("place", SeenVia::Intranet.as_str(), SeenVia::Gateway.as_str()),
            difference("clock", &seconds(inside.fastest_ms), &seconds(outside.slowest_ms)),
        ])
    }
}

/// Adds a moment and drops those that lie before the window.
fn keep(moments: &mut VecDeque<Timestamp>, at: Timestamp, window: Duration) {
    moments.push_back(at);
    while moments.front().is_some_and(|first| at.since(*first) > window) {
        moments.pop_front();
    }
}

pub(super) fn seconds(skew_ms: i64) -> String {
    format!("{} s off", skew_ms / 1000)
}

pub(super) fn difference(what: &str, one: &str, other: &str) -> Difference {
    Difference { what: what.to_owned(), one: one.to_owned(), other: other.to_owned() }
}

/// The trails of all keys that were heard lately, and those found suspect since the last upkeep.
#[derive(Debug, Default)]
pub(crate) struct Trails {
    of: HashMap<ClientId, Trail>,
    pub(super) suspects: Vec<(ClientId, Vec<Difference>)>,
}

impl Trails {
    pub(crate) fn note(&mut self, id: ClientId, side: Side) {
        if self.of.len() >= limits::SEEN_IN_MEMORY && !self.of.contains_key(&id) {
            self.of.retain(|_, trail| side.at.since(trail.last_at) <= CLOCK_WINDOW);
            if self.of.len() >= limits::SEEN_IN_MEMORY {
                return;
            }
        }
        if let Some(differences) = self.of.entry(id).or_default().note(side) {
            self.suspects.push((id, differences));
        }
    }
}

/// What a key has registered of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Facts {
    at: Timestamp,
    name: String,
    hardware_id: Option<String>,
}

impl Facts {
    pub(super) fn of(device: &Device, at: Timestamp) -> Self {
        Self { at, name: device.name.to_lowercase(), hardware_id: device.hardware_id.clone() }
    }

    pub(super) fn same(&self, other: &Self) -> bool {
        self.name == other.name && self.hardware_id == other.hardware_id
    }
}

/// How often a sequence comes back to what it had left. Repeats in a row are none.
fn returns<'f, T: PartialEq + 'f>(values: impl Iterator<Item = &'f T>) -> usize {
    let mut met: Vec<&T> = Vec::new();
    let mut count = 0;
    let mut last = None;
    for value in values {
        if last == Some(value) {
            continue;
        }
        if met.contains(&value) {
            count += 1;
        } else {
            met.push(value);
        }
        last = Some(value);
    }
    count
}

/// Whether one device cannot have registered these, the oldest first.
pub(super) fn facts_suspect(trace: &[Facts], now: Timestamp) -> Option<&'static str> {
    let within = |window| trace.iter().filter(move |facts| now.since(facts.at) <= window);
    let hardware = returns(within(DAY).filter_map(|facts| facts.hardware_id.as_ref()));
    if hardware >= HARDWARE_RETURNS {
        return Some("its key registers two hardware ids in turn");
    }
    let names = returns(within(NAME_WINDOW).map(|facts| &facts.name));
    (names >= NAME_RETURNS).then_some("its key registers two names in turn")
}

/// When two keys of one hardware were heard in turn.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PairTrace {
    last: Option<ClientId>,
    changes: VecDeque<Timestamp>,
}

impl PairTrace {
    /// Takes a contact of one of the two; answers whether one device cannot be both.
    pub(super) fn note(&mut self, id: ClientId, at: Timestamp) -> bool {
        if self.last.is_some_and(|last| last != id) {
            keep(&mut self.changes, at, PAIR_WINDOW);
        }
        self.last = Some(id);
        self.changes.len() >= PAIR_CHANGES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::id::Guid;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(1_000_000 + seconds)
    }

    fn side(seconds: i64, via: SeenVia, skew_seconds: Option<i64>) -> Side {
        Side { at: at(seconds), via, skew_ms: skew_seconds.map(|seconds| seconds * 1000) }
    }

    /// Contacts by turns inside and outside; answers the number of the one that made it suspect.
    fn alternate(step: i64, clocks: [Option<i64>; 2], contacts: usize) -> Option<usize> {
        let mut trail = Trail::default();
        (0..contacts).find(|n| {
            let via = [SeenVia::Intranet, SeenVia::Gateway][n % 2];
            trail.note(side(i64::try_from(*n).unwrap() * step, via, clocks[n % 2])).is_some()
        })
    }

    #[test]
    fn roaming_never_makes_a_device_suspect() {
        assert_eq!(alternate(1, [None, None], 1000), None, "on both roads at once");
        assert_eq!(alternate(1, [Some(-540), Some(-545)], 1000), None, "and its clock measured");
        assert_eq!(alternate(60, [Some(-540), Some(-541)], 1000), None, "with a clock nine minutes slow");
        assert_eq!(alternate(900, [Some(-540), Some(0)], 1000), None, "twice an hour, clock set in between");
        let mut trail = Trail::default();
        // A laptop that goes out once, and whose clock is set on the way.
        for (n, (via, skew)) in [
            (SeenVia::Intranet, -900),
            (SeenVia::Intranet, -900),
            (SeenVia::Gateway, -900),
            (SeenVia::Gateway, 0),
            (SeenVia::Intranet, 0),
            (SeenVia::Gateway, 0),
            (SeenVia::Intranet, 0),
        ]
        .into_iter()
        .enumerate()
        {
            assert!(trail.note(side(i64::try_from(n).unwrap(), via, Some(skew))).is_none());
        }
    }

    #[test]
    fn one_key_with_two_clocks_in_two_places_is_suspect_and_the_difference_is_shown() {
        assert_eq!(alternate(60, [Some(-540), Some(2)], 100), Some(4));
        let mut trail = Trail::default();
        let mut found = None;
        for n in 0..10 {
            let (via, clock) = [(SeenVia::Intranet, -540), (SeenVia::Gateway, 2)][n % 2];
            found = found.or(trail.note(side(i64::try_from(n).unwrap() * 60, via, Some(clock))));
        }
        let differences = found.unwrap();
        assert!(differences.contains(&difference("clock", "-540 s off", "2 s off")), "{differences:?}");
    }

    #[test]
    fn a_delay_on_the_way_through_a_gateway_makes_no_second_clock() {
        // Held back for ever as long, or for ten minutes and more at a venture.
        assert_eq!(alternate(60, [Some(0), Some(-600)], 1000), None);
        let mut trail = Trail::default();
        for n in 0..1000_i64 {
            let (via, skew) =
                [(SeenVia::Intranet, 0), (SeenVia::Gateway, -600 - n * 37 % 900)][usize::from(n % 2 == 1)];
            assert!(trail.note(side(n * 30, via, Some(skew))).is_none(), "{n}");
        }
    }

    #[test]
    fn a_clock_that_does_not_stay_where_it_is_is_no_second_clock() {
        // Inside, too, somebody may hold requests back, but hardly by the same time to within a minute.
        let mut trail = Trail::default();
        for n in 0..1000_i64 {
            let (via, skew) =
                [(SeenVia::Intranet, -600 - n * 37 % 900), (SeenVia::Gateway, 0)][usize::from(n % 2 == 1)];
            assert!(trail.note(side(n * 30, via, Some(skew))).is_none(), "{n}");
        }
        // Small changes of the way are no change of the clock.
        let mut trail = Trail::default();
        let found = (0..100_i64).find(|n| {
            let (via, skew) =
                [(SeenVia::Intranet, -600 - n % 7), (SeenVia::Gateway, n % 9)][usize::from(n % 2 == 1)];
            trail.note(side(n * 30, via, Some(skew))).is_some()
        });
        assert_eq!(found, Some(4));
    }

    fn facts(list: &[(i64, &str, &str)]) -> Option<&'static str> {
        let trace: Vec<_> = list
            .iter()
            .map(|(seconds, name, hardware)| Facts {
                at: at(*seconds),
                name: (*name).to_owned(),
                hardware_id: (!hardware.is_empty()).then(|| (*hardware).to_owned()),
            })
            .collect();
        facts_suspect(&trace, trace.last().unwrap().at)
    }

    #[test]
    fn two_hardware_ids_in_turn_are_two_devices_and_a_change_is_not() {
        assert!(facts(&[(0, "a", "1"), (60, "a", "2"), (120, "a", "1"), (180, "a", "2")]).is_some());
        assert!(facts(&[(0, "a", "1"), (60, "a", "2")]).is_none(), "a new board");
        assert!(facts(&[(0, "a", "1"), (60, "a", "2"), (120, "a", "1")]).is_none(), "and the old one back");
        assert!(facts(&[(0, "a", "1"), (60, "a", "2"), (120, "a", "3"), (180, "a", "4")]).is_none());
        let far = 2 * 86_400;
        assert!(facts(&[(0, "a", "1"), (far, "a", "2"), (2 * far, "a", "1"), (3 * far, "a", "2")]).is_none());
        assert!(facts(&[(0, "a", "1"), (60, "a", ""), (120, "a", "1"), (180, "a", "")]).is_none());
    }

    #[test]
    fn a_name_that_follows_the_network_is_no_copy() {
        let by_turns = |step, names: [&'static str; 2], times: usize| {
            let one = |(n, name): (i64, &&'static str)| (n * step, *name, "1");
            (0..).zip(names.iter().cycle().take(times)).map(one).collect::<Vec<_>>()
        };
        let roaming = by_turns(3600, ["home", "office"], 12);
        assert!(facts(&roaming).is_none());
        let copies = by_turns(60, ["one", "two"], 5);
        assert!(facts(&copies).is_some());
    }

    #[test]
    fn two_keys_of_one_hardware_in_turn_are_two_devices_and_a_reinstalled_one_is_not() {
        let id = |byte| ClientId::new(Guid::from_bytes([byte; 16]));
        let mut pair = PairTrace::default();
        let mut reinstalled = (0..100).map(|n| (if n < 50 { 1 } else { 2 }, n * 60));
        assert!(!reinstalled.any(|(who, seconds)| pair.note(id(who), at(seconds))));
        let mut pair = PairTrace::default();
        // Two systems on one machine, started in turn every hour.
        let mut dual = (0..100).map(|n| (if n % 2 == 0 { 1 } else { 2 }, n * 3600));
        assert!(!dual.any(|(who, seconds)| pair.note(id(who), at(seconds))));
        let mut pair = PairTrace::default();
        let found = (0..100).find(|n| pair.note(id(if n % 2 == 0 { 1 } else { 2 }), at(n * 1200)));
        assert_eq!(found, Some(6));
    }
}
