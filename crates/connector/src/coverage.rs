//! Which shards of a gateway have a tunnel, and when to dial for the others. Pure.
//!
//! The gateway's kernel picks the shard of a connection by a hash over its addresses, so a dialler can only try
//! again from another port, and close what came to a shard that has a tunnel already.

use std::collections::HashMap;
use std::time::Duration;

use runtime::backoff;

/// A gateway that restarts is found as soon as it listens, before its devices are there: none of them is answered
/// before it has a tunnel. So the first pauses after failures are this and a random part of as much again ...
const QUICK_PAUSE: Duration = Duration::from_millis(50);
/// ... so many times, which is some two seconds where nobody listens.
const QUICK_FAILURES: u32 = 30;
/// The next pause is a random part of this, and doubled with each further failure.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Longest pause: after an outage of any length all tunnels are back well within ten seconds.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// Dials that meet covered shards only, for each shard, before the pauses begin. With the right chance for each
/// shard, eight dials a shard leave the last of 16 uncovered about once in four thousand times.
const QUICK_DIALS: u32 = 8;
/// Most dials under way at once.
const PARALLEL: usize = 4;
/// Most shards that a gateway may say it has. A core each; more is no gateway of ours.
pub(crate) const SHARD_LIMIT: u16 = 1024;

/// Tunnels of one gateway by shard, each named by a number of the caller's.
#[derive(Debug, Default)]
pub(crate) struct Coverage {
    /// 0: not known yet.
    shards: u16,
    tunnels: HashMap<u16, u64>,
    /// Dials in a row that covered nothing new.
    surplus: u32,
    /// Dials in a row that failed.
    failures: u32,
}

/// What becomes of a tunnel that has named its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It covers a shard that had none.
    Keep,
    /// Its shard has one.
    Surplus,
    /// No shard that a gateway has.
    Nonsense,
}

impl Coverage {
    /// A tunnel reached `shard` of `shards`.
    pub(crate) fn reached(&mut self, tunnel: u64, shard: u16, shards: u16) -> Verdict {
        if shard >= shards || shards > SHARD_LIMIT {
            self.failures = self.failures.saturating_add(1);
            return Verdict::Nonsense;
        }
        self.failures = 0;
        if self.shards != shards {
            // Restarted with another number: what the old process had is about to end.
            self.shards = shards;
            self.tunnels.retain(|covered, _| *covered < shards);
        }
        if self.tunnels.contains_key(&shard) {
            self.surplus = self.surplus.saturating_add(1);
            return Verdict::Surplus;
        }
        self.tunnels.insert(shard, tunnel);
        self.surplus = 0;
        Verdict::Keep
    }

    /// A dial failed.
    pub(crate) fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// A tunnel ended, or takes no new requests. Whether it had been kept.
    pub(crate) fn lost(&mut self, tunnel: u64) -> bool {
        let before = self.tunnels.len();
        self.tunnels.retain(|_, kept| *kept != tunnel);
        let was_kept = self.tunnels.len() < before;
        if was_kept {
            self.surplus = 0;
        }
        was_kept
    }

    /// How many dials are wanted besides those under way.
    pub(crate) fn wanted(&self, under_way: usize) -> usize {
        // Without any tunnel the number of shards may have changed: one dial asks for it.
        let missing = match (self.tunnels.len(), usize::from(self.shards)) {
            (0, _) | (_, 0) => 1,
            (covered, shards) => shards - covered.min(shards),
        };
        let at_once = if self.failures > 0 { 1 } else { PARALLEL };
        missing.min(at_once).saturating_sub(under_way)
    }

    /// Pause before the next dial; `random` is spread over it.
    pub(crate) fn pause(&self, random: u64) -> Duration {
        if self.failures > 0 {
            return match self.failures.checked_sub(QUICK_FAILURES + 1) {
                None => QUICK_PAUSE + backoff::next(0, QUICK_PAUSE, QUICK_PAUSE, random),
                Some(beyond) => backoff::next(beyond, FIRST_PAUSE, LONGEST_PAUSE, random),
            };
        }
        let quick = QUICK_DIALS * u32::from(self.shards.max(1));
        match self.surplus.checked_sub(quick) {
            None => Duration::ZERO,
            Some(beyond) => backoff::next(beyond, FIRST_PAUSE, LONGEST_PAUSE, random),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dials_go_on_until_every_shard_has_one_tunnel() {
        let mut coverage = Coverage::default();
        assert_eq!(coverage.wanted(0), 1, "the first asks how many there are");
        assert_eq!(coverage.reached(1, 2, 3), Verdict::Keep);
        assert_eq!((coverage.wanted(0), coverage.wanted(1)), (2, 1));
        assert_eq!(coverage.reached(2, 2, 3), Verdict::Surplus);
        assert_eq!(coverage.reached(3, 0, 3), Verdict::Keep);
        assert_eq!(coverage.reached(4, 1, 3), Verdict::Keep);
        assert_eq!(coverage.wanted(0), 0);
        assert!(coverage.lost(3) && !coverage.lost(2));
        assert_eq!(coverage.wanted(0), 1);
    }

    #[test]
    fn surplus_is_quick_at_first_and_then_slower() {
        let mut coverage = Coverage::default();
        coverage.reached(0, 0, 2);
        for tunnel in 1..16 {
            coverage.reached(tunnel, 0, 2);
            assert_eq!(coverage.pause(u64::MAX), Duration::ZERO);
        }
        coverage.reached(16, 0, 2);
        assert!(coverage.pause(u64::MAX) > Duration::from_millis(200));
        for tunnel in 17..60 {
            coverage.reached(tunnel, 0, 2);
        }
        assert!(coverage.pause(u64::MAX) <= LONGEST_PAUSE);
        coverage.reached(99, 1, 2);
        assert_eq!(coverage.pause(u64::MAX), Duration::ZERO);
    }

    #[test]
    fn a_gateway_that_restarts_is_looked_for_many_times_a_second_at_first_and_every_three_in_the_end() {
        let mut coverage = Coverage::default();
        let mut longest = Duration::ZERO;
        for _ in 0..QUICK_FAILURES {
            coverage.failed();
            assert_eq!(coverage.wanted(0), 1);
            assert_eq!(coverage.pause(0), QUICK_PAUSE, "never in a tight loop");
            assert!(coverage.pause(u64::MAX) <= 2 * QUICK_PAUSE);
            longest += coverage.pause(u64::MAX);
        }
        assert!(longest <= Duration::from_secs(3), "{longest:?}");
        coverage.failed();
        let next = coverage.pause(u64::MAX);
        assert!(next > 2 * QUICK_PAUSE && next <= FIRST_PAUSE, "{next:?}");
        for _ in 0..1000 {
            coverage.failed();
            assert!(coverage.pause(u64::MAX) <= LONGEST_PAUSE);
        }
        assert!(coverage.pause(u64::MAX) > LONGEST_PAUSE / 2);
        coverage.reached(1, 0, 2);
        coverage.failed();
        assert!(
            coverage.pause(u64::MAX) <= 2 * QUICK_PAUSE,
            "once it was there, it is looked for quickly again"
        );
    }

    #[test]
    fn a_gateway_that_restarts_with_fewer_shards_is_covered_anew() {
        let mut coverage = Coverage::default();
        for shard in 0..4 {
            coverage.reached(shard.into(), shard, 4);
        }
        assert_eq!(coverage.reached(9, 0, 2), Verdict::Surplus, "the old one has not ended yet");
        coverage.lost(0);
        coverage.lost(1);
        assert_eq!((coverage.reached(10, 1, 2), coverage.reached(11, 0, 2)), (Verdict::Keep, Verdict::Keep));
        assert_eq!((coverage.shards, coverage.wanted(0)), (2, 0));
    }

    #[test]
    fn a_shard_that_cannot_be_is_nonsense() {
        let mut coverage = Coverage::default();
        assert_eq!(coverage.reached(1, 2, 2), Verdict::Nonsense);
        assert_eq!(coverage.reached(1, 0, 0), Verdict::Nonsense);
        assert_eq!(coverage.reached(1, 0, u16::MAX), Verdict::Nonsense);
        assert_eq!(coverage.shards, 0);
    }
}
