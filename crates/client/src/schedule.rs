//! When the service does what. Pure decisions; the driver is [`crate::service`].

use std::time::Duration;

use proto::time::Timestamp;

use crate::heartbeat::applied_key;
use crate::state::State;

/// Time after which the device looks again where it is and asks the site for its locations, up to a tenth
/// shorter or longer [docs: every 24 or 25 hours].
pub const LOCATIONS: Duration = Duration::from_hours(24);
/// Longest pause between a change of the network and the look that it causes: a whole building changes at
/// once when its router restarts.
const NETWORK_CHANGE: Duration = Duration::from_secs(3);
/// Least pause after a connection that broke: what broke it has passed by then, more often than not.
const BROKEN_LEAST: Duration = Duration::from_secs(1);
/// What chance adds to that the first time, at most; doubled with each further failure.
const BROKEN_BASE: Duration = Duration::from_secs(2);
/// Least pause in an outage: a gateway that restarts takes a moment, and whoever comes sooner comes in vain.
const OUTAGE_LEAST: Duration = Duration::from_secs(2);
/// What chance adds to that the first time, at most; doubled with each further failure. An outage concerns every
/// device of a gateway in the same moment: of ten thousand that come back within this time 330 come in a second, a
/// third of the handshakes that a gateway makes on two cores.
const OUTAGE_BASE: Duration = Duration::from_secs(30);
/// Where an answer says how long to wait, chance adds up to as much again, and this at least: those who were refused
/// in one second were told the same few numbers.
const ASKED_LEAST: Duration = Duration::from_secs(4);
/// Longest pause after failures: long outages end for all devices within this time.
const FAILURE_CAP: Duration = Duration::from_mins(5);
/// No device's longest pause is shorter than this, however often it polls.
const SHORTEST_CAP: Duration = Duration::from_secs(5);
/// A cycle that was due early because of a renewal is not repeated sooner than this, in case the renewal
/// brought nothing; doubled with each further one.
const RENEWAL_GAP: Duration = Duration::from_mins(5);
/// Longest such pause: a token has most of its life left when its renewal begins.
const RENEWAL_CAP: Duration = Duration::from_hours(6);

/// Settings of the service.
#[derive(Debug, Clone, Copy, Default)]
pub struct Intervals {
    /// Time between two policy polls; `None`: as policy says.
    pub poll: Option<Duration>,
    /// Time between two heartbeats; `None`: as policy says.
    pub heartbeat: Option<Duration>,
}

/// What the last cycle came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Everything that was due was done.
    Done,
    /// Something failed that may pass by itself.
    Transient(Setback),
    /// Something failed that only a person can change; the next regular poll looks again.
    Refused,
}

/// What failed that may pass by itself: whether this device alone was struck, as far as it can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setback {
    /// A connection broke under a request: often this one only, so that the device tries again soon.
    Broken,
    /// Nobody is there, or somebody who cannot serve: all devices are struck at once, and must not come back at once.
    Outage {
        /// How long the answer asked to wait, if one came that did.
        asked: Option<Duration>,
    },
}

/// When the next cycle begins.
#[derive(Debug, Default)]
pub struct Schedule {
    /// Failures in a row.
    failures: u32,
    /// How many of them were outages.
    outages: u32,
    next: Option<Timestamp>,
    last: Option<Timestamp>,
    /// Cycles in a row after which a renewal was still due.
    renewals: u32,
    /// When the device is to look again where it is.
    look: Option<Timestamp>,
}

impl Schedule {
    /// Whether a cycle is due: at the start, at its time, when the device is to look where it is, and when a
    /// token wants renewal.
    pub fn is_due(&self, state: &State, now: Timestamp) -> bool {
        let Some(next) = self.next else { return true };
        // A clock that was set back would let us wait for years.
        let set_back = self.last.is_some_and(|last| now < last);
        let at_ease = self.failures == 0;
        now >= next || set_back || (at_ease && (self.look_is_due(now) || self.renewal_is_due(state, now)))
    }

    /// Whether the device is to look again where it is, whatever else is due.
    pub fn look_is_due(&self, now: Timestamp) -> bool {
        self.look.is_some_and(|look| now >= look)
    }

    /// The device looked at `now`; the next regular look comes [`LOCATIONS`] later, with jitter.
    pub fn looked(&mut self, now: Timestamp, random: u64) {
        self.look = Some(now.plus(regular(LOCATIONS, random)));
    }

    /// The device is on another network: the next cycle comes within moments, whatever failed before.
    pub fn network_changed(&mut self, now: Timestamp, random: u64) {
        (self.failures, self.outages) = (0, 0);
        self.next = Some(now.plus(runtime::backoff::next(0, NETWORK_CHANGE, NETWORK_CHANGE, random)));
    }

    fn renewal_is_due(&self, state: &State, now: Timestamp) -> bool {
        let gap = RENEWAL_GAP.saturating_mul(1 << self.renewals.min(10)).min(RENEWAL_CAP);
        wants_renewal(state, now) && self.last.is_none_or(|last| now.since(last) >= gap)
    }

    /// Notes after a cycle whether a renewal is still due, so that one that the site refuses is not asked for
    /// over and over.
    pub fn note_renewals(&mut self, state: &State, now: Timestamp) {
        self.renewals = if wants_renewal(state, now) { self.renewals.saturating_add(1) } else { 0 };
    }

    /// Sets the next cycle after one that ended at `now`. `random` spreads devices.
    pub fn ended(&mut self, outcome: Outcome, poll: Duration, now: Timestamp, random: u64) {
        let pause = match outcome {
            Outcome::Done | Outcome::Refused => {
                (self.failures, self.outages) = (0, 0);
                regular(poll, random)
            }
            Outcome::Transient(setback) => self.pause_after(setback, poll, random),
        };
        self.last = Some(now);
        self.next = Some(now.plus(pause));
    }

    /// The pause after one more failure.
    fn pause_after(&mut self, setback: Setback, poll: Duration, random: u64) -> Duration {
        // The shorter the polls, the sooner an outage of ours is over for this device.
        let cap = FAILURE_CAP.min(poll.max(SHORTEST_CAP));
        let pause = match setback {
            Setback::Broken => {
                let longest = cap.saturating_sub(BROKEN_LEAST);
                BROKEN_LEAST + runtime::backoff::next(self.failures, BROKEN_BASE, longest, random)
            }
            Setback::Outage { asked } => {
                let (least, base, longest) = match asked {
                    Some(asked) => (asked.min(FAILURE_CAP), asked.clamp(ASKED_LEAST, OUTAGE_BASE), cap),
                    None => (OUTAGE_LEAST, OUTAGE_BASE, cap.saturating_sub(OUTAGE_LEAST)),
                };
                let jitter = runtime::backoff::next(self.outages, base, longest, random);
                self.outages = self.outages.saturating_add(1);
                least + jitter
            }
        };
        self.failures = self.failures.saturating_add(1);
        pause
    }
}

/// Whether a token that the device needs where it is wants renewal.
fn wants_renewal(state: &State, now: Timestamp) -> bool {
    let outside = state.whereabouts.as_ref().is_some_and(|known| !known.is_inside());
    let ccm = state.ccm.as_ref().filter(|_| outside);
    [ccm, state.self_prove.as_ref()].into_iter().flatten().any(|token| now >= token.renew_from)
}

/// The regular time between polls, up to a tenth shorter or longer.
fn regular(poll: Duration, random: u64) -> Duration {
    let fifth = poll / 5;
    let part = (fifth.as_nanos() * u128::from(random >> 32)) >> 32;
    poll.saturating_sub(poll / 10) + Duration::from_nanos(u64::try_from(part).unwrap_or(0))
}

/// Whether a heartbeat is due: none yet in this run, its interval over, or something to tell.
pub fn heartbeat_is_due(
    state: &State,
    sent_in_this_run: bool,
    moved: bool,
    interval: Duration,
    now: Timestamp,
) -> bool {
    let Some(last) = state.contact.heartbeat else { return true };
    let told = state.contact.heartbeat_settings.as_deref() == Some(&applied_key(state));
    !sent_in_this_run || moved || !told || now < last || now.since(last) >= interval
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::location::{Locality, Rule, Whereabouts};
    use crate::state::tests::setup;
    use crate::token::StoredToken;
    use crate::token::tests::text_of;
    use proto::token::TokenClass;

    const HOUR: Duration = Duration::from_hours(1);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    #[test]
    fn polls_come_about_every_interval_and_never_together() {
        let state = State::new(setup());
        let mut schedule = Schedule::default();
        assert!(schedule.is_due(&state, at(0)), "at the start");
        for (random, earliest, latest) in [(0, 3240, 3240), (u64::MAX, 3959, 3960), (1 << 63, 3600, 3600)] {
            schedule.ended(Outcome::Done, HOUR, at(0), random);
            assert!(
                !schedule.is_due(&state, at(earliest - 1)) && schedule.is_due(&state, at(latest)),
                "{random}"
            );
        }
    }

    /// The shortest and the longest pauses after failures of one kind in a row, in seconds.
    fn pauses(setback: Setback, poll: Duration) -> [Vec<i64>; 2] {
        [0, u64::MAX].map(|random| {
            let mut schedule = Schedule::default();
            let mut pause = || {
                schedule.ended(Outcome::Transient(setback), poll, at(0), random);
                // Up to the next full second.
                (schedule.next.unwrap().micros() + 999_999) / 1_000_000
            };
            (0..8).map(|_| pause()).collect()
        })
    }

    #[test]
    fn a_broken_connection_is_tried_again_within_three_seconds_and_then_later_and_later() {
        let [shortest, longest] = pauses(Setback::Broken, HOUR);
        assert_eq!(shortest, [1; 8]);
        assert_eq!(longest, [3, 5, 9, 17, 33, 65, 129, 257]);
        assert_eq!(pauses(Setback::Broken, Duration::from_secs(2))[1], [3, 5, 5, 5, 5, 5, 5, 5]);
    }

    #[test]
    fn an_outage_spreads_devices_over_half_a_minute_at_first_and_over_five_minutes_in_the_end() {
        let outage = Setback::Outage { asked: None };
        let [shortest, longest] = pauses(outage, HOUR);
        assert_eq!(shortest, [2; 8], "all the rest is left to chance");
        assert_eq!(longest, [32, 62, 122, 242, 300, 300, 300, 300]);
        assert_eq!(pauses(outage, Duration::from_secs(2))[1], [5; 8], "short polls, short pauses");
    }

    #[test]
    fn no_second_of_a_herd_holds_more_than_a_twentieth_of_it() {
        const DEVICES: u64 = 10_000;
        let mut seconds = std::collections::BTreeMap::new();
        for device in 0..DEVICES {
            // Evenly spread numbers in any order, as good as chance and the same in every run.
            let random = device.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut schedule = Schedule::default();
            schedule.ended(Outcome::Transient(Setback::Outage { asked: None }), HOUR, at(0), random);
            *seconds.entry(schedule.next.unwrap().seconds()).or_insert(0) += 1;
        }
        assert!(seconds.len() == 30 && seconds.values().all(|count| *count * 20 < DEVICES), "{seconds:?}");
    }

    #[test]
    fn an_answer_that_asks_for_time_gets_it_and_chance_adds_up_to_as_much_again() {
        let asked = |seconds| pauses(Setback::Outage { asked: Some(Duration::from_secs(seconds)) }, HOUR);
        let [shortest, longest] = asked(20);
        assert_eq!((shortest, &longest[..3]), (vec![20; 8], &[40, 60, 100][..]));
        assert_eq!(asked(1)[1][..2], [5, 9], "few different numbers are no spread");
        assert_eq!(asked(300)[1][..2], [330, 360]);
        assert_eq!(asked(100_000)[0][0], 300, "nobody stops a device for a day");
    }

    #[test]
    fn a_success_or_a_refusal_ends_an_outage_and_a_refusal_waits_for_the_next_poll() {
        let state = State::new(setup());
        let outage = Outcome::Transient(Setback::Outage { asked: None });
        for ends in [Outcome::Refused, Outcome::Done] {
            let mut schedule = Schedule::default();
            (0..5).for_each(|_| schedule.ended(outage, HOUR, at(0), u64::MAX));
            schedule.ended(ends, HOUR, at(0), 1 << 63);
            assert!(!schedule.is_due(&state, at(3599)) && schedule.is_due(&state, at(3600)));
            schedule.ended(outage, HOUR, at(0), u64::MAX);
            assert!(schedule.is_due(&state, at(32)), "{ends:?}");
        }
        let mut schedule = Schedule::default();
        schedule.ended(Outcome::Transient(Setback::Broken), HOUR, at(0), u64::MAX);
        schedule.ended(outage, HOUR, at(0), u64::MAX);
        assert!(schedule.is_due(&state, at(32)), "the first attempt to come back met the outage");
    }

    #[test]
    fn a_token_that_wants_renewal_makes_a_cycle_due_but_not_over_and_over() {
        let mut state = State::new(setup());
        state.ccm = Some(StoredToken::ccm(text_of(TokenClass::Device, 0), HOUR * 8, at(0)).unwrap());
        let mut schedule = Schedule::default();
        schedule.ended(Outcome::Done, HOUR * 24, at(0), 0);
        let late = 7 * 3600;
        assert!(!schedule.is_due(&state, at(late)), "inside no CCM token is needed");
        state.whereabouts = Some(Whereabouts {
            locality: Locality::Internet,
            rule: Rule::InsideSilent,
            since: at(0),
            address: String::new(),
            inputs: String::new(),
            looked: None,
        });
        assert!(!schedule.is_due(&state, at(late - 1)) && schedule.is_due(&state, at(late)));
        schedule.ended(Outcome::Done, HOUR * 24, at(late), 0);
        assert!(!schedule.is_due(&state, at(late + 1)), "it was just tried");
        assert!(schedule.is_due(&state, at(late + 300)));
        // What the site does not renew is asked for less and less often.
        for expected in [600, 1200, 2400] {
            schedule.note_renewals(&state, at(late));
            assert!(!schedule.is_due(&state, at(late + expected - 1)), "{expected}");
            assert!(schedule.is_due(&state, at(late + expected)), "{expected}");
        }
        state.ccm = None;
        schedule.note_renewals(&state, at(late));
        assert_eq!(schedule.renewals, 0);
    }

    #[test]
    fn the_device_looks_where_it_is_about_every_24_hours_however_seldom_it_polls() {
        let state = State::new(setup());
        let mut schedule = Schedule::default();
        schedule.ended(Outcome::Done, HOUR * 24 * 30, at(0), 0);
        assert!(!schedule.is_due(&state, at(24 * 3600)), "nothing asked for it yet");
        for (random, earliest, latest) in
            [(0, 77_760, 77_760), (1 << 63, 86_400, 86_400), (u64::MAX, 95_039, 95_040)]
        {
            schedule.looked(at(0), random);
            assert!(
                !schedule.is_due(&state, at(earliest - 1)) && schedule.is_due(&state, at(latest)),
                "{random}"
            );
        }
        // While something fails the pauses after failures count.
        let outage = Setback::Outage { asked: Some(FAILURE_CAP) };
        schedule.ended(Outcome::Transient(outage), HOUR, at(100_000), 0);
        assert!(!schedule.is_due(&state, at(100_000)) && schedule.look_is_due(at(100_000)));
    }

    #[test]
    fn another_network_makes_a_cycle_due_within_moments_whatever_failed_before() {
        let state = State::new(setup());
        let mut schedule = Schedule::default();
        for _ in 0..12 {
            schedule.ended(Outcome::Transient(Setback::Outage { asked: None }), HOUR, at(0), u64::MAX);
        }
        assert!(!schedule.is_due(&state, at(3)));
        schedule.network_changed(at(0), u64::MAX);
        assert!(!schedule.is_due(&state, at(2)) && schedule.is_due(&state, at(3)));
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_stop_the_service() {
        let state = State::new(setup());
        let mut schedule = Schedule::default();
        schedule.ended(Outcome::Done, HOUR, at(1_000_000), 0);
        assert!(schedule.is_due(&state, at(5)));
    }

    #[test]
    fn a_heartbeat_is_due_at_the_start_at_its_time_and_when_there_is_news() {
        let mut state = State::new(setup());
        let due =
            |state: &State, sent, moved, now| heartbeat_is_due(state, sent, moved, HOUR * 24 * 7, at(now));
        assert!(due(&state, true, false, 0), "never sent");
        state.contact.heartbeat = Some(at(100));
        state.contact.heartbeat_settings = Some(applied_key(&state));
        assert!(due(&state, false, false, 101), "first of this run");
        assert!(!due(&state, true, false, 101));
        assert!(due(&state, true, true, 101), "elsewhere");
        assert!(due(&state, true, false, 100 + 7 * 86_400));
        state.policy.settings.version = Some("2.00".into());
        assert!(due(&state, true, false, 101), "new settings");
        state.contact.heartbeat_settings = Some(applied_key(&state));
        assert!(!due(&state, true, false, 101));
        state.place.by_hand = Some(true);
        assert!(due(&state, true, false, 101), "what was applied is something else than the site wants");
    }
}
