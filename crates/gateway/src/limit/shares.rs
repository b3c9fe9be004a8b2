//! How much each holds at once, in a table that never grows.
//!
//! As in [`super::table`] a key has one count in each of two rows, by two parts of a hash with a secret, and is
//! refused only if **both** are used up. What others hold can only make a count larger, so nobody holds more than
//! its share, but for one more in each thread that takes in the same moment; with `n` keys that hold all of theirs, another is refused wrongly with a chance of
//! `(n / 65,536)²`.

use std::hash::{Hash, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::table::{self, CELLS};

/// Counts of what is held; 512 KiB.
#[derive(Debug)]
pub(super) struct Shares {
    secret: RandomState,
    rows: [Box<[AtomicU32]>; 2],
}

/// One that is held; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    table: Arc<Shares>,
    cells: [u16; 2],
}

impl Shares {
    /// Nobody holds anything.
    pub(super) fn new(secret: RandomState) -> Self {
        let row = || (0..CELLS).map(|_| AtomicU32::new(0)).collect();
        Self { secret, rows: [row(), row()] }
    }

    /// Takes one for `key`, unless it holds `most` already.
    pub(super) fn take(self: &Arc<Self>, key: &impl Hash, most: u32) -> Option<Share> {
        let cells = table::cells(&self.secret, key);
        // Counted first and given back when it was too much: between looking and counting others come.
        let held = self.at(cells).map(|count| count.fetch_add(1, Ordering::Relaxed));
        let share = Share { table: Arc::clone(self), cells };
        held.into_iter().any(|held| held < most).then_some(share)
    }

    fn at(&self, [one, other]: [u16; 2]) -> [&AtomicU32; 2] {
        let [first, second] = &self.rows;
        [cell(first, one), cell(second, other)]
    }
}

fn cell(row: &[AtomicU32], number: u16) -> &AtomicU32 {
    row.get(usize::from(number)).expect("a row has a count for each number of 16 bits")
}

impl Drop for Share {
    fn drop(&mut self) {
        for count in self.table.at(self.cells) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares() -> Arc<Shares> {
        Arc::new(Shares::new(RandomState::new()))
    }

    #[test]
    fn one_key_holds_its_share_and_gets_back_what_it_gave_back() {
        let shares = shares();
        let mut held: Vec<_> = (0..500).filter_map(|_| shares.take(&"greedy", 32)).collect();
        assert_eq!(held.len(), 32);
        assert!(shares.take(&"neighbour", 32).is_some());
        held.truncate(30);
        held.extend((0..500).filter_map(|_| shares.take(&"greedy", 32)));
        assert_eq!(held.len(), 32);
        drop(held);
        assert!(shares.rows.iter().flatten().all(|count| count.load(Ordering::Relaxed) == 0));
    }

    #[test]
    fn a_thousand_keys_with_all_they_may_hold_cost_hardly_another_its_room() {
        let shares = shares();
        let _held: Vec<_> = (0..1000_u32)
            .flat_map(|key| (0..40).map(move |_| key))
            .filter_map(|key| shares.take(&key, 32))
            .collect();
        // 2.3 are expected of 10,000.
        let refused = (1_000_000..1_010_000_u32).filter(|key| shares.take(key, 32).is_none()).count();
        assert!(refused < 30, "{refused} of 10,000");
    }

    #[test]
    fn threads_that_take_and_give_back_lose_nothing_and_hardly_exceed_the_share() {
        let (shares, held) = (shares(), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        if let Some(_share) = shares.take(&1, 3) {
                            assert!(held.fetch_add(1, Ordering::SeqCst) < 3 + 3);
                            held.fetch_sub(1, Ordering::SeqCst);
                        }
                    }
                });
            }
        });
        assert!(shares.rows.iter().flatten().all(|count| count.load(Ordering::Relaxed) == 0));
    }
}
