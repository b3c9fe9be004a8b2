//! Numbers that every thread counts in a place of its own.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Places. More threads than this share them, which is slower and no less right.
const PLACES: usize = 4;

/// One value for each of a few threads, and nobody else's in the same cache line: what two cores write in turn
/// costs each of them a hundred times what it costs alone, and a request is counted some thirty times.
#[derive(Debug, Default)]
pub struct PerThread<T>([Place<T>; PLACES]);

/// Two lines of 64 bytes, because processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Place<T>(T);

impl<T> PerThread<T> {
    /// The value that this thread counts in.
    pub fn mine(&self) -> &T {
        let place = PLACE.with(|place| *place) % PLACES;
        &self.0[place].0
    }

    /// All values, to be summed up.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|place| &place.0)
    }
}

thread_local! {
    static PLACE: usize = NEXT.fetch_add(1, Ordering::Relaxed);
}

/// Whose turn it is; threads that never count take none.
static NEXT: AtomicUsize = AtomicUsize::new(0);

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn nothing_that_many_threads_count_is_lost() {
        let counts = PerThread::<AtomicU64>::default();
        std::thread::scope(|scope| {
            for _ in 0..3 * PLACES {
                scope.spawn(|| (0..1000).for_each(|_| _ = counts.mine().fetch_add(1, Ordering::Relaxed)));
            }
        });
        let sum: u64 = counts.all().map(|count| count.load(Ordering::Relaxed)).sum();
        assert_eq!(sum, 3 * PLACES as u64 * 1000);
        let used = counts.all().filter(|count| count.load(Ordering::Relaxed) > 0).count();
        assert!(used > 1, "threads take places in turn");
    }
}
