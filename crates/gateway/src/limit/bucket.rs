//! One token bucket in one atomic number, by the generic cell rate algorithm: the number is the moment at
//! which the bucket will be full again, so that nothing has to be refilled and no timer runs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Rate;

/// Nanoseconds since the gateway's start. It would take five hundred years to wrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(pub(super) u64);

impl Moment {
    /// How long `now` is after `started`.
    pub(super) fn since(started: Instant, now: Instant) -> Self {
        let since = now.saturating_duration_since(started).as_nanos();
        Self(u64::try_from(since).unwrap_or(u64::MAX))
    }

    /// So much later.
    pub(super) fn plus(self, time: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Too early. Whoever comes back after this time finds room for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Wait(pub(super) u64);

impl Wait {
    /// The time to wait.
    pub(super) fn duration(self) -> Duration {
        Duration::from_nanos(self.0)
    }
}

/// A bucket of which one is taken: when it will be full again, or how long it stays empty.
pub(super) fn decide(full_at: u64, now: Moment, rate: Rate) -> Result<u64, Wait> {
    let next = full_at.max(now.0).saturating_add(rate.interval());
    let ahead = next - now.0;
    // Never more than a day and an interval, so the sums do not saturate in this century.
    match ahead.checked_sub(rate.tolerance()) {
        Some(early @ 1..) => Err(Wait(early)),
        _ => Ok(next),
    }
}

/// A bucket that threads share.
#[derive(Debug, Default)]
pub(super) struct Bucket(AtomicU64);

impl Bucket {
    /// Takes one.
    pub(super) fn take(&self, now: Moment, rate: Rate) -> Result<(), Wait> {
        let mut full_at = self.0.load(Ordering::Relaxed);
        loop {
            let next = decide(full_at, now, rate)?;
            match self.0.compare_exchange_weak(full_at, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(other) => full_at = other,
            }
        }
    }

    /// Whether one could be taken.
    pub(super) fn look(&self, now: Moment, rate: Rate) -> Result<(), Wait> {
        decide(self.0.load(Ordering::Relaxed), now, rate).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn rate(text: &str) -> Rate {
        text.parse().unwrap()
    }

    #[test]
    fn a_burst_passes_at_once_and_then_the_rate() {
        let (bucket, rate) = (Bucket::default(), rate("10/s burst 5"));
        let now = Moment(7 * SECOND);
        assert!((0..5).all(|_| bucket.take(now, rate).is_ok()));
        assert_eq!(bucket.take(now, rate), Err(Wait(SECOND / 10)));
        assert_eq!(
            bucket.look(now, rate),
            Err(Wait(SECOND / 10)),
            "looking takes nothing, and being refused costs nothing"
        );
        let later = Moment(now.0 + SECOND / 10);
        assert_eq!(bucket.take(later, rate), Ok(()), "whoever waits as told gets through");
        assert!(bucket.take(later, rate).is_err());
        let rested = Moment(now.0 + 60 * SECOND);
        assert_eq!((0..100).filter(|_| bucket.take(rested, rate).is_ok()).count(), 5, "no more is saved up");
    }

    /// A generator of its own, so that a failure can be repeated by its seed.
    pub(crate) fn chance(seed: u64) -> impl FnMut() -> u64 {
        let mut state = seed | 1;
        move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        }
    }

    #[test]
    fn in_any_window_no_more_than_burst_and_rate_pass_and_no_less_where_enough_is_asked() {
        for seed in 1..=200 {
            let mut chance = chance(seed * 0x9e37_79b9);
            let (count, burst) = (1 + chance() % 50, 1 + chance() % 40);
            let rate = rate(&format!("{count}/s burst {burst}"));
            let bucket = Bucket::default();
            let (mut now, mut passed, mut refused_until) = (0, Vec::new(), None::<u64>);
            for _ in 0..2000 {
                now += chance() % (SECOND / 20);
                // After a refusal the next passes exactly from the told moment on.
                let told = |is: fn(u64, u64) -> bool| refused_until.is_none_or(|until| is(now, until));
                match bucket.take(Moment(now), rate) {
                    Ok(()) => {
                        assert!(told(|now, until| now >= until), "seed {seed}: passed too early");
                        passed.push(now);
                        refused_until = None;
                    }
                    Err(wait) => {
                        assert!(
                            told(|now, until| now < until),
                            "seed {seed}: refused though its time had come"
                        );
                        refused_until = Some(now + wait.0);
                    }
                }
            }
            for (index, from) in passed.iter().enumerate() {
                for (more, to) in passed[index..].iter().enumerate() {
                    let allowed = burst + (to - from) / rate.interval() + 1;
                    assert!(more as u64 <= allowed, "seed {seed}: {more} in {} ns", to - from);
                }
            }
        }
    }

    #[test]
    fn times_at_the_ends_do_not_overflow() {
        let slow = rate("1/h burst 24");
        assert!(decide(u64::MAX, Moment(u64::MAX), slow).is_ok_and(|next| next == u64::MAX));
        assert!(decide(u64::MAX, Moment(0), slow).is_err());
        assert_eq!(decide(0, Moment(0), slow), Ok(3600 * SECOND));
    }

    #[test]
    fn threads_together_get_no_more_than_one_would() {
        let (bucket, rate) = (Bucket::default(), rate("1/h burst 20"));
        let passed: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..1000).filter(|_| bucket.take(Moment(5), rate).is_ok()).count()))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(passed, 20);
    }
}
