//! When what is due. Pure: `now`, what is known, and a random number go in.

use std::time::Duration;

use proto::time::Timestamp;
use runtime::backoff;

/// Keys of a tenant are fetched this often, so that a rotation is known long before the old key is
/// gone, and a dropped key stops working well within the hour (R12).
pub(crate) const KEYS_EVERY: Duration = Duration::from_mins(15);
/// Spread around it on either side, so that the tenants of a site do not march in step.
const KEYS_SPREAD: Duration = Duration::from_mins(3);
/// The earliest that they are due.
const KEYS_EARLIEST: Duration = KEYS_EVERY.saturating_sub(KEYS_SPREAD);
/// Shortest pause after a failed fetch of keys.
const KEYS_PAUSE: Duration = Duration::from_secs(30);
/// What is added to it after many failures, at most.
const KEYS_PAUSE_MORE: Duration = KEYS_EVERY.saturating_sub(KEYS_PAUSE);

/// Longest time between two looks for a revocation list, however long the one in force is good.
const LIST_LONGEST: Duration = Duration::from_hours(24);
/// Shortest one, however soon it ends.
const LIST_SHORTEST: Duration = Duration::from_mins(5);
/// Longest pause after a failure.
const LIST_PAUSE_LONGEST: Duration = Duration::from_hours(1);
/// Pause after the first failure.
const LIST_PAUSE: Duration = Duration::from_mins(1);

/// When to fetch a tenant's keys next after an attempt at `tried`, of which `failures` in a row
/// failed.
pub(crate) fn keys_due(tried: Timestamp, failures: u32, random: u64) -> Timestamp {
    match failures.checked_sub(1) {
        None => tried.plus(KEYS_EARLIEST).plus(part(2 * KEYS_SPREAD, random)),
        Some(attempt) => {
            let more = backoff::next(attempt, KEYS_PAUSE, KEYS_PAUSE_MORE, random);
            tried.plus(KEYS_PAUSE).plus(more)
        }
    }
}

/// When to look for an issuer's revocation list next: at half of the life that is left, or after a
/// pause that grows with each failure, at most an hour.
pub(crate) fn list_due(
    tried: Timestamp,
    next_update: Option<Timestamp>,
    failures: u32,
    random: u64,
) -> Timestamp {
    if failures > 0 {
        let pause = LIST_PAUSE.saturating_mul(1_u32.checked_shl(failures - 1).unwrap_or(u32::MAX));
        let pause = pause.min(LIST_PAUSE_LONGEST);
        return tried.plus(pause / 2).plus(part(pause / 2, random));
    }
    let left = next_update.map_or(Duration::ZERO, |end| end.since(tried));
    let wait = (left / 2).clamp(LIST_SHORTEST, LIST_LONGEST);
    tried.plus(wait * 9 / 10).plus(part(wait / 10, random))
}

/// A part of a span: `random` is spread evenly over it.
fn part(span: Duration, random: u64) -> Duration {
    backoff::next(0, span, span, random)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn minutes(due: Timestamp) -> u64 {
        due.since(NOW).as_secs() / 60
    }

    #[test]
    fn keys_are_fetched_every_quarter_of_an_hour_more_or_less() {
        assert_eq!(minutes(keys_due(NOW, 0, 0)), 12);
        assert_eq!(minutes(keys_due(NOW, 0, u64::MAX / 2)), 14);
        assert_eq!(minutes(keys_due(NOW, 0, u64::MAX)), 17);
    }

    #[test]
    fn failed_fetches_of_keys_are_repeated_soon_and_then_less_often() {
        assert_eq!(keys_due(NOW, 1, 0).since(NOW), KEYS_PAUSE);
        for failures in 1..100 {
            let due = keys_due(NOW, failures, u64::MAX).since(NOW);
            assert!(due >= KEYS_PAUSE && due <= KEYS_EVERY, "{failures}: {due:?}");
        }
        assert!(keys_due(NOW, 9, u64::MAX).since(NOW) > keys_due(NOW, 1, u64::MAX).since(NOW));
    }

    #[test]
    fn a_list_is_looked_for_at_half_of_its_remaining_life() {
        let due = |hours| list_due(NOW, Some(NOW.plus(Duration::from_hours(hours))), 0, u64::MAX);
        assert_eq!(minutes(due(10)), 299, "half of ten hours");
        assert_eq!(minutes(due(24 * 365)), 24 * 60 - 1, "at least daily");
        assert_eq!(minutes(due(0)), 4, "not without a pause");
        assert_eq!(minutes(list_due(NOW, None, 0, u64::MAX)), 4);
        assert!(
            list_due(NOW, Some(NOW.plus(Duration::from_hours(10))), 0, 0)
                >= NOW.plus(Duration::from_hours(4))
        );
    }

    #[test]
    fn a_list_that_is_not_to_be_had_is_tried_hourly_in_the_end() {
        let end = Some(NOW.plus(Duration::from_hours(100)));
        assert_eq!(list_due(NOW, end, 1, 0).since(NOW), Duration::from_secs(30));
        for failures in 1..100 {
            assert!(list_due(NOW, end, failures, u64::MAX).since(NOW) <= LIST_PAUSE_LONGEST, "{failures}");
        }
        assert!(minutes(list_due(NOW, end, 50, u64::MAX)) >= 59);
    }
}
