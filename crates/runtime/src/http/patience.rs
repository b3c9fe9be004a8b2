//! The time that a peer has for taking what is written to it.
//!
//! "It took something within so many seconds" is no bound: systems buffer, so that something seems to be taken long
//! after the peer has stopped reading, and whoever wants to hold a connection takes a drop now and then. So time
//! is earned by the bytes that are taken, and spent by waiting for the next.

use std::time::{Duration, Instant};

/// Bytes per second that a peer must take in the long run. A line of the second mobile generation carries several
/// times as much; whoever is slower holds a place that others want.
const LEAST_RATE: u64 = 4096;

/// Time in hand. Pure: the moments are arguments.
#[derive(Debug)]
pub(super) struct Patience {
    /// Most time that can be in hand, and what each answer begins with.
    most: Duration,
    left: Duration,
    waits_since: Option<Instant>,
}

impl Patience {
    pub(super) fn new(most: Duration) -> Self {
        Self { most, left: most, waits_since: None }
    }

    /// Whether the peer is waited for.
    pub(super) fn waits(&self) -> bool {
        self.waits_since.is_some()
    }

    /// The peer takes nothing at the moment; answers until when it is waited for.
    pub(super) fn wait(&mut self, now: Instant) -> Instant {
        let since = *self.waits_since.get_or_insert(now);
        // Configured times are far below what an instant can hold.
        since.checked_add(self.left).unwrap_or(since)
    }

    /// The peer took so many bytes; none where it took what was buffered before.
    pub(super) fn took(&mut self, bytes: usize, now: impl FnOnce() -> Instant) {
        if let Some(since) = self.waits_since.take() {
            self.left = self.left.saturating_sub(now().saturating_duration_since(since));
        }
        if self.left < self.most {
            let earned = Duration::from_millis((bytes as u64).saturating_mul(1000) / LEAST_RATE);
            self.left = self.left.saturating_add(earned).min(self.most);
        }
    }

    /// The peer has taken a whole answer.
    pub(super) fn refill(&mut self) {
        (self.left, self.waits_since) = (self.most, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_secs(30);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn whoever_takes_nothing_has_the_time_that_it_began_with() {
        let start = Instant::now();
        let mut patience = Patience::new(MOST);
        assert_eq!(patience.wait(start), start + MOST);
        assert_eq!(patience.wait(start + 10 * SECOND), start + MOST, "looking again gives nothing");
    }

    #[test]
    fn drops_now_and_then_do_not_lengthen_the_time() {
        let start = Instant::now();
        let (mut patience, mut now) = (Patience::new(MOST), start);
        // One segment each ten seconds: a third of a second earned for each ten.
        let end = loop {
            let until = patience.wait(now);
            if until <= now + 10 * SECOND {
                break until;
            }
            now += 10 * SECOND;
            patience.took(1460, || now);
        };
        assert!(end < start + 32 * SECOND, "{:?}", end - start);
    }

    #[test]
    fn whoever_keeps_the_least_rate_goes_on_for_ever_with_never_more_than_the_most_in_hand() {
        let mut now = Instant::now();
        let mut patience = Patience::new(MOST);
        for _ in 0..1000 {
            assert!(patience.wait(now) > now + 20 * SECOND);
            now += 4 * SECOND;
            patience.took(4 * 4096, || now);
        }
        patience.took(100 << 20, || now);
        assert_eq!(patience.wait(now), now + MOST);
    }

    #[test]
    fn a_whole_answer_taken_begins_anew_and_writing_without_waiting_asks_for_no_time() {
        let start = Instant::now();
        let mut patience = Patience::new(MOST);
        patience.wait(start);
        patience.took(0, || start + 29 * SECOND);
        assert_eq!(patience.wait(start), start + SECOND);
        patience.refill();
        assert!(!patience.waits());
        patience.took(1000, || unreachable!("nobody was waited for"));
        assert_eq!(patience.wait(start), start + MOST);
    }
}
