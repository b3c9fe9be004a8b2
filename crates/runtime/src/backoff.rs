//! How long to wait before trying again.

use std::time::Duration;

/// The pause before attempt number `attempt` (0 is the first repeat): anything between nothing and
/// `base · 2^attempt`, but never more than `cap`.
///
/// The whole span is random ("full jitter"): after an outage thousands come back at once, and any fixed part
/// of the pause would keep them marching in step. `random` is spread evenly over the span; take it from
/// [`crate::id::random`], or a constant in a test.
pub fn next(attempt: u32, base: Duration, cap: Duration, random: u64) -> Duration {
    let span = base.saturating_mul(1_u32.checked_shl(attempt).unwrap_or(u32::MAX)).min(cap);
    // 2^64 years do not fit a cap that anybody configures; the clamp keeps the product within 128 bits.
    let span = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    let scaled = (u128::from(span) * u128::from(random)) >> 64;
    Duration::from_nanos(u64::try_from(scaled).unwrap_or(span))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Duration = Duration::from_millis(100);
    const CAP: Duration = Duration::from_secs(30);

    #[test]
    fn the_span_doubles_until_the_cap_and_stays_there() {
        let widest = |attempt| next(attempt, BASE, CAP, u64::MAX);
        for (attempt, milliseconds) in [(0, 100), (1, 200), (2, 400), (8, 25_600), (9, 30_000), (400, 30_000)]
        {
            let expected = Duration::from_millis(milliseconds);
            assert!(widest(attempt) <= expected, "attempt {attempt}");
            assert!(widest(attempt) + Duration::from_millis(1) > expected, "attempt {attempt}");
        }
    }

    #[test]
    fn the_random_number_decides_where_in_the_span() {
        assert_eq!(next(3, BASE, CAP, 0), Duration::ZERO);
        assert_eq!(next(3, BASE, CAP, 1 << 63), Duration::from_millis(400));
    }

    #[test]
    fn extreme_arguments_do_not_overflow() {
        assert!(next(u32::MAX, Duration::MAX, Duration::MAX, u64::MAX) > Duration::from_secs(1));
        assert_eq!(next(5, Duration::ZERO, CAP, u64::MAX), Duration::ZERO);
    }
}
