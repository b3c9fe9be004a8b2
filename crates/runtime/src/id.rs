//! Identifiers and chance.

use aws_lc_rs::rand;
use uuid::{Builder, Uuid};

use crate::clock::Clock;

/// A new request id: a version 7 UUID, so that ids sort by the time they were made and a reader of two logs
/// sees which request came first.
pub fn request_id(clock: &Clock) -> Uuid {
    let mut chance = [0; 10];
    fill(&mut chance);
    // Before 1970 only a clock under test can be.
    let milliseconds = u64::try_from(clock.now() / 1_000).unwrap_or(0);
    Builder::from_unix_timestamp_millis(milliseconds, &chance).into_uuid()
}

/// 64 random bits, for jitter.
pub fn random() -> u64 {
    let mut bytes = [0; 8];
    fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// Fills `bytes` from the system's generator.
///
/// # Panics
/// When the operating system gives no randomness: then no key, nonce or ticket can be made either, and going
/// on would be worse than stopping.
pub fn fill(bytes: &mut [u8]) {
    rand::fill(bytes).expect("the operating system gives random bytes");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_sort_by_the_injected_time() {
        let clock = Clock::manual(1_790_000_000_000_000);
        let first = request_id(&clock);
        clock.advance(std::time::Duration::from_millis(1));
        let second = request_id(&clock);
        assert!(first < second, "{first} then {second}");
        assert_eq!(first.get_version_num(), 7);
    }

    #[test]
    fn two_ids_of_one_instant_differ() {
        let clock = Clock::manual(0);
        assert_ne!(request_id(&clock), request_id(&clock));
        assert_ne!(random(), random());
    }
}
