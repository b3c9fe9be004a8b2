//! How often something took how long, in fixed steps.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::PerThread;

/// Most steps that a histogram can have, with the one for what took longer than any bound.
const STEPS: usize = 16;

/// Upper ends for the time of a request, in microseconds: from a relay on one host to the longest time that an
/// answer is waited for.
pub const REQUEST_BOUNDS: &[u64] = &[
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000, 30_000_000, 60_000_000,
];

/// Upper ends for the time of a TLS handshake, in microseconds: from one resumed nearby to the longest allowed.
pub const HANDSHAKE_BOUNDS: &[u64] = &[
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 10_000_000,
];

/// Upper ends for the time of a database transaction, in microseconds: from a fast disk's flush to trouble.
pub const COMMIT_BOUNDS: &[u64] =
    &[500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000];

/// Counts times in steps. Counting is a walk over a dozen numbers and two additions, by each thread apart.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    steps: PerThread<Steps>,
}

#[derive(Debug, Default)]
struct Steps {
    /// One for each bound, and one for what took longer.
    counts: [AtomicU64; STEPS],
    sum_micros: AtomicU64,
}

/// A histogram at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Upper end in seconds and how many ended in that step, not cumulated; the last end is infinite.
    pub buckets: Vec<(f64, u64)>,
    /// Of all, in seconds.
    pub sum: f64,
    /// How many there were.
    pub count: u64,
}

impl Histogram {
    /// Nothing counted yet. `bounds`: upper ends in microseconds, rising, at most 15.
    ///
    /// # Panics
    /// With more bounds: they are constants of the program.
    pub fn new(bounds: &'static [u64]) -> Self {
        assert!(bounds.len() < STEPS, "a histogram has at most {STEPS} steps");
        Self { bounds, steps: PerThread::default() }
    }

    /// Counts one that took so long.
    pub fn observe(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let step = self.bounds.iter().position(|bound| micros <= *bound).unwrap_or(self.bounds.len());
        let mine = self.steps.mine();
        if let Some(count) = mine.counts.get(step) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        mine.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// How it stands. What is counted meanwhile may be in it or not, and the number always fits the steps.
    pub fn read(&self) -> Reading {
        let ends = self.bounds.iter().map(|bound| seconds(*bound)).chain([f64::INFINITY]);
        let mut buckets: Vec<_> = ends.map(|end| (end, 0)).collect();
        let mut micros = 0;
        for steps in self.steps.all() {
            for ((_, sum), count) in buckets.iter_mut().zip(&steps.counts) {
                *sum += count.load(Ordering::Relaxed);
            }
            micros += steps.sum_micros.load(Ordering::Relaxed);
        }
        let count = buckets.iter().map(|(_, count)| count).sum();
        Reading { buckets, sum: seconds(micros), count }
    }
}

/// Microseconds as seconds.
fn seconds(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_is_counted_in_the_step_that_it_fits() {
        let histogram = Histogram::new(&[1_000, 1_000_000]);
        for took in [0, 1_000, 1_001, 2_000_000] {
            histogram.observe(Duration::from_micros(took));
        }
        let reading = histogram.read();
        assert_eq!(reading.buckets, [(0.001, 2), (1.0, 1), (f64::INFINITY, 1)]);
        assert_eq!(reading.count, 4);
        assert!((reading.sum - 2.002_001).abs() < 1e-9, "{}", reading.sum);
    }

    #[test]
    fn the_bounds_of_this_program_rise() {
        for bounds in [REQUEST_BOUNDS, HANDSHAKE_BOUNDS, COMMIT_BOUNDS] {
            assert!(bounds.is_sorted_by(|one, next| one < next), "{bounds:?}");
        }
    }
}
