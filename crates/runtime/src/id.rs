//! Identifiers and chance.

use std::cell::RefCell;

use aws_lc_rs::rand;
use uuid::{Builder, Uuid};

use crate::clock::Clock;

/// A new request id: a version 7 UUID, so that ids sort by the time they were made and a reader of two logs
/// sees which request came first.
pub fn request_id(clock: &Clock) -> Uuid {
    let chance = POOL.with_borrow_mut(Pool::take);
    // Before 1970 only a clock under test can be.
    let milliseconds = u64::try_from(clock.now() / 1_000).unwrap_or(0);
    Builder::from_unix_timestamp_millis(milliseconds, &chance).into_uuid()
}

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { bytes: [0; POOL_BYTES], used: POOL_BYTES }) };
}

/// Some hundred ids' worth.
const POOL_BYTES: usize = 1000;

/// Random bytes fetched ahead. The generator takes as long for ten bytes as for a thousand, and every request
/// needs ten. Ids must differ and nobody may guess one; that a byte lay in memory for a while harms neither.
struct Pool {
    bytes: [u8; POOL_BYTES],
    used: usize,
}

impl Pool {
    fn take(&mut self) -> [u8; 10] {
        if let Some(chance) = self.bytes.get(self.used..).and_then(<[u8]>::first_chunk) {
            self.used += 10;
            return *chance;
        }
        fill(&mut self.bytes);
        self.used = 10;
        *self.bytes.first_chunk().expect("the pool is longer than an id")
    }
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

    #[test]
    fn ids_differ_beyond_one_filling_of_the_pool() {
        let clock = Clock::manual(0);
        let ids: std::collections::HashSet<_> = (0..3 * POOL_BYTES).map(|_| request_id(&clock)).collect();
        assert_eq!(ids.len(), 3 * POOL_BYTES);
    }
}
