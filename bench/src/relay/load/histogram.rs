//! Times in buckets: exact to three percent, whatever their size, and cheap to add up.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Buckets for each doubling.
const STEPS: u64 = 32;
/// Doublings from one microsecond up; the last takes everything above some 70 minutes.
const DOUBLINGS: u64 = 32;

/// How often which time was seen. Resolution: a microsecond, or three percent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::relay) struct Histogram {
    counts: Vec<u64>,
}

impl Histogram {
    pub(in crate::relay) fn new() -> Self {
        Self { counts: vec![0; usize::try_from(STEPS * DOUBLINGS).unwrap_or(usize::MAX)] }
    }

    /// One more of this time.
    pub(in crate::relay) fn record(&mut self, time: Duration) {
        let last = self.counts.len() - 1;
        if let Some(count) = self.counts.get_mut(bucket(time).min(last)) {
            *count += 1;
        }
    }

    /// All of another one.
    pub(in crate::relay) fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
    }

    /// The time that this share (0 to 1) of all did not exceed; nothing when nothing was seen.
    pub(in crate::relay) fn quantile(&self, share: f64) -> Option<Duration> {
        let all: u64 = self.counts.iter().sum();
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let rank = ((all as f64 * share).ceil() as u64).clamp(1, all.max(1));
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Some(middle(index));
            }
        }
        None
    }
}

/// Times below `STEPS` microseconds have a bucket for each; above, each doubling has `STEPS`.
fn bucket(time: Duration) -> usize {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let index = if micros < STEPS {
        micros
    } else {
        let doubling = u64::from(micros.ilog2() - STEPS.ilog2());
        // The leading bit is dropped: what is left says which of the `STEPS` it is.
        STEPS * (doubling + 1) + ((micros >> doubling) - STEPS)
    };
    usize::try_from(index).unwrap_or(usize::MAX)
}

fn middle(index: usize) -> Duration {
    let index = index as u64;
    if index < STEPS {
        return Duration::from_micros(index);
    }
    let (doubling, step) = (index / STEPS - 1, index % STEPS);
    let low = (STEPS + step) << doubling;
    Duration::from_nanos(low * 1000 + (1000_u64 << doubling) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_falls_into_a_bucket_that_stands_for_it() {
        for micros in [0, 1, 31, 32, 33, 63, 64, 65, 100, 999, 1000, 12_345, 1_000_000, 59_999_999] {
            let middle = middle(bucket(Duration::from_micros(micros))).as_secs_f64() * 1e6;
            #[expect(clippy::cast_precision_loss)]
            let exact = micros as f64;
            assert!((middle - exact).abs() <= exact * 0.032 + 0.51, "{micros}: {middle}");
        }
    }

    #[test]
    fn buckets_rise_without_gaps() {
        let mut last = 0;
        for micros in 1..100_000 {
            let now = bucket(Duration::from_micros(micros));
            assert!(now == last || now == last + 1, "{micros}");
            last = now;
        }
    }

    #[test]
    fn quantiles_are_those_of_what_was_seen() {
        let mut one = Histogram::new();
        assert_eq!(one.quantile(0.5), None);
        (1..=99).for_each(|_| one.record(Duration::from_micros(10)));
        let mut other = Histogram::new();
        other.record(Duration::from_hours(2));
        one.add(&other);
        assert_eq!(one.quantile(0.5), Some(Duration::from_micros(10)));
        assert_eq!(one.quantile(0.99), Some(Duration::from_micros(10)));
        assert!(one.quantile(1.0).unwrap() > Duration::from_hours(1));
    }
}
