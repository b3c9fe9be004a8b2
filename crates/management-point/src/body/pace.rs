//! How long a body may take: by its bytes, so that a poor line is no reason to refuse it.

use std::time::Duration;

/// Bytes per second that a sender must keep up in the long run. A gateway asks for as much: to ask for more
/// here would break off what it lets through.
const LEAST_RATE: u64 = 1024;
/// The same while bodies hold more than half of their memory: who is slower gives way to those that are done
/// sooner. A line of 256 kbit/s has twice as much.
const CROWDED_RATE: u64 = 16 * 1024;

/// The time that a sender has in hand. Waiting for it takes of that, each byte adds to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    most: Duration,
    left: Duration,
}

impl Pace {
    /// `most`: what it begins with, and never has more of.
    pub(super) fn new(most: Duration) -> Self {
        Self { most, left: most }
    }

    /// How long the next piece may take.
    pub(super) fn in_hand(&self) -> Duration {
        self.left
    }

    /// A piece of so many bytes was waited for so long.
    pub(super) fn came(&mut self, bytes: usize, waited: Duration, crowded: bool) {
        let rate = if crowded { CROWDED_RATE } else { LEAST_RATE };
        let earned = Duration::from_micros((bytes as u64).saturating_mul(1_000_000) / rate);
        self.left = self.left.saturating_sub(waited).saturating_add(earned).min(self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// How long a sender lasts that sends pieces of so many bytes every so often, and what it has sent then.
    /// `None`: it sends 5 MiB and is never late.
    fn lasts(bytes: usize, every: Duration, crowded: bool) -> Option<(Duration, usize)> {
        let (mut pace, mut time, mut sent) = (Pace::new(PATIENCE), Duration::ZERO, 0);
        while sent < proto::limits::MESSAGE_BYTES {
            if every > pace.in_hand() {
                return Some((time + pace.in_hand(), sent));
            }
            (time, sent) = (time + every, sent + bytes);
            pace.came(bytes, every, crowded);
        }
        None
    }

    #[test]
    fn five_mib_over_a_slow_line_arrive() {
        for kib_a_second in [2, 8, 32, 256] {
            let every = Duration::from_secs(1);
            assert_eq!(lasts(kib_a_second * 1024, every, false), None, "{kib_a_second} KiB/s");
        }
        assert_eq!(lasts(64 * 1024, Duration::from_secs(29), false), None, "a pause in every piece");
    }

    #[test]
    fn silence_and_dripping_end() {
        assert_eq!(lasts(1, Duration::from_secs(31), false), Some((PATIENCE, 0)));
        let (time, sent) = lasts(512, Duration::from_secs(1), false).unwrap();
        assert!(time <= 2 * PATIENCE && sent <= 30 * 1024, "{time:?} {sent}");
        let (time, _) = lasts(1, Duration::from_secs(10), false).unwrap();
        assert!(time <= Duration::from_secs(31), "{time:?}");
    }

    #[test]
    fn a_slow_sender_gives_way_where_it_is_crowded_and_an_honest_line_does_not() {
        assert_eq!(lasts(2 * 1024, Duration::from_secs(1), false), None);
        let (time, _) = lasts(2 * 1024, Duration::from_secs(1), true).unwrap();
        assert!(time < Duration::from_secs(40), "{time:?}");
        assert_eq!(lasts(32 * 1024, Duration::from_secs(1), true), None);
    }

    #[test]
    fn time_in_hand_is_never_more_than_at_the_beginning() {
        let mut pace = Pace::new(PATIENCE);
        pace.came(usize::MAX, Duration::ZERO, false);
        assert_eq!(pace.in_hand(), PATIENCE);
        pace.came(0, Duration::MAX, false);
        assert_eq!(pace.in_hand(), Duration::ZERO);
    }
}
