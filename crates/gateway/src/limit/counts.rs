//! How often each limit was met, for `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Over;

/// Counters since the start, one for each limit.
#[derive(Debug, Default)]
pub struct Counts {
    by_limit: [AtomicU64; Over::ALL.len()],
}

impl Counts {
    /// How often this limit refused somebody.
    pub fn of(&self, limit: Over) -> u64 {
        self.counter(limit).load(Ordering::Relaxed)
    }

    /// Every limit with its count.
    pub fn all(&self) -> impl Iterator<Item = (Over, u64)> {
        Over::ALL.into_iter().map(|limit| (limit, self.of(limit)))
    }

    pub(super) fn add(&self, limit: Over) {
        self.counter(limit).fetch_add(1, Ordering::Relaxed);
    }

    fn counter(&self, limit: Over) -> &AtomicU64 {
        self.by_limit.get(limit as usize).expect("there is a counter for each limit")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_has_a_counter_and_a_name_of_its_own() {
        let counts = Counts::default();
        for (times, limit) in Over::ALL.into_iter().enumerate() {
            for _ in 0..times {
                counts.add(limit);
            }
        }
        assert!(counts.all().enumerate().all(|(times, (_, count))| count == times as u64));
        let mut names: Vec<_> = Over::ALL.into_iter().map(Over::name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Over::ALL.len());
    }
}
