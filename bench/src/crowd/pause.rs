//! How long a played device waits before it tries again: by the real client's own schedule.

use std::time::Duration;

use client::schedule::{Outcome, Schedule, Setback};
use client::state::{Setup, State};
use client::trust::Pin;
use proto::time::Timestamp;
use runtime::Clock;

/// Time between two looks at the clock, as the client's service does.
const TICK: Duration = Duration::from_secs(1);

/// The pauses of one device.
pub(crate) struct Pause {
    schedule: Schedule,
    poll: Duration,
    clock: Clock,
}

impl Pause {
    /// Of a device that polls this often; its longest pause after failures goes by that.
    pub(crate) fn new(poll: Duration, clock: Clock) -> Self {
        Self { schedule: Schedule::default(), poll, clock }
    }

    /// Something went well: the next failure is the first again.
    pub(crate) fn succeeded(&mut self) {
        self.ended(Outcome::Done, runtime::id::random());
    }

    /// Waits after a failure. The service looks once a second, at a moment of its own, whether its time has come,
    /// and so does this.
    pub(crate) async fn after_failure(&mut self, setback: Setback, state: &State) {
        self.ended(Outcome::Transient(setback), runtime::id::random());
        tokio::time::sleep(part_of(TICK, runtime::id::random())).await;
        while !self.is_over(state) {
            tokio::time::sleep(TICK).await;
        }
    }

    fn ended(&mut self, outcome: Outcome, random: u64) {
        self.schedule.ended(outcome, self.poll, self.now(), random);
    }

    fn is_over(&self, state: &State) -> bool {
        self.schedule.is_due(state, self.now())
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.clock.now())
    }
}

/// Anything up to the whole.
pub(crate) fn part_of(whole: Duration, random: u64) -> Duration {
    runtime::backoff::next(0, whole, whole, random)
}

/// A memory without anything in it that would make a device wake up early.
pub(crate) fn blank_state() -> State {
    State::new(Setup {
        name: String::new(),
        hardware_id: String::new(),
        site_code: None,
        inside: Vec::new(),
        gateways: Vec::new(),
        always_internet: true,
        ca: None,
        pin: Pin::FirstUse,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_asks_for_time_gets_it_and_failures_make_pauses_longer_until_one_goes_well() {
        let (clock, state) = (Clock::manual(1_790_000_000_000_000), blank_state());
        let mut pause = Pause::new(Duration::from_mins(1), clock.clone());
        let length = |pause: &mut Pause, setback| {
            pause.ended(Outcome::Transient(setback), u64::MAX);
            (0..1000)
                .find(|_| {
                    pause.is_over(&state) || {
                        clock.advance(Duration::from_secs(1));
                        false
                    }
                })
                .unwrap_or(0)
        };
        let outage = Setback::Outage { asked: None };
        assert_eq!(length(&mut pause, Setback::Outage { asked: Some(Duration::from_secs(20)) }), 40);
        let longer: Vec<u64> = (0..3).map(|_| length(&mut pause, outage)).collect();
        assert_eq!(longer, [60, 60, 60]);
        pause.succeeded();
        assert_eq!(length(&mut pause, outage), 32);
        pause.succeeded();
        assert_eq!(length(&mut pause, Setback::Broken), 3);
    }

    #[test]
    fn a_part_is_never_more_than_the_whole() {
        let whole = Duration::from_secs(8);
        assert_eq!(part_of(whole, 0), Duration::ZERO);
        assert_eq!(part_of(whole, 1 << 63), whole / 2);
        assert!(part_of(whole, u64::MAX) <= whole);
    }
}
