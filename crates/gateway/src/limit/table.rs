//! Buckets for everybody, in a table that never grows.
//!
//! A key's buckets are found by a hash whose secret is drawn at the start, so nobody can aim at another's.
//! There is nothing to insert, so nothing can be filled, and nothing to evict: a bucket that was left alone is
//! full by itself. Two keys may meet in a bucket; therefore each has two, by two parts of its hash, and is
//! refused only if **both** are empty. With `n` keys that have used up their rates, a key that has not is
//! refused with a chance of `(n / 65,536)²`: one in 4,000 beside a thousand of them. The price: a key with a
//! bucket to itself and another that it shares can get up to twice its rate.

use std::hash::{BuildHasher, Hash, RandomState};

use super::Rate;
use super::bucket::{Bucket, Moment, Wait};

/// Cells in each of the two rows of a table; as buckets of 8 bytes they take 1 MiB.
pub(super) const CELLS: usize = 1 << 16;

/// Where a key stands in the two rows: sixteen bits of its hash for each, as many as a row has cells.
pub(super) fn cells(secret: &RandomState, key: &impl Hash) -> [u16; 2] {
    let [a, b, c, d, ..] = secret.hash_one(key).to_le_bytes();
    [u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])]
}

/// A limit for each key.
#[derive(Debug)]
pub(super) struct Table {
    rate: Rate,
    secret: RandomState,
    rows: [Box<[Bucket]>; 2],
}

impl Table {
    /// Full buckets of this rate.
    pub(super) fn new(rate: Rate, secret: RandomState) -> Self {
        let row = || (0..CELLS).map(|_| Bucket::default()).collect();
        Self { rate, secret, rows: [row(), row()] }
    }

    /// Takes one for `key`.
    pub(super) fn take(&self, key: &impl Hash, now: Moment) -> Result<(), Wait> {
        let [one, other] = self.buckets(key);
        // Both are charged.
        one.take(now, self.rate).or_else_least(other.take(now, self.rate))
    }

    /// Whether one could be taken.
    pub(super) fn look(&self, key: &impl Hash, now: Moment) -> Result<(), Wait> {
        let [one, other] = self.buckets(key);
        one.look(now, self.rate).or_else_least(other.look(now, self.rate))
    }

    fn buckets(&self, key: &impl Hash) -> [&Bucket; 2] {
        let ([a, b], [one, other]) = (cells(&self.secret, key), &self.rows);
        [bucket(one, a), bucket(other, b)]
    }
}

fn bucket(row: &[Bucket], number: u16) -> &Bucket {
    row.get(usize::from(number)).expect("a row has a bucket for each number of 16 bits")
}

/// Joins what two buckets say.
trait OrElseLeast {
    /// Room if either has room; else the shorter wait.
    fn or_else_least(self, other: Self) -> Self;
}

impl OrElseLeast for Result<(), Wait> {
    fn or_else_least(self, other: Self) -> Self {
        match (self, other) {
            (Err(one), Err(other)) => Err(one.min(other)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        Table::new(text.parse().unwrap(), RandomState::new())
    }

    #[test]
    fn one_key_gets_exactly_its_rate() {
        let table = table("1/s burst 50");
        let now = Moment(0);
        assert_eq!((0..500).filter(|_| table.take(&1, now).is_ok()).count(), 50);
        assert!(table.look(&1, now).is_err());
        assert_eq!(table.take(&1, Moment(1_000_000_000)), Ok(()));
    }

    #[test]
    fn a_thousand_exhausted_keys_cost_hardly_another_its_room() {
        let table = table("1/min burst 10");
        let now = Moment(0);
        for key in 0..1000_u32 {
            for _ in 0..20 {
                let _ = table.take(&key, now);
            }
        }
        // 2.3 are expected of 10,000; thirty would be a hash that does not spread.
        let refused = (1_000_000..1_010_000_u32).filter(|key| table.look(key, now).is_err()).count();
        assert!(refused < 30, "{refused} of 10,000");
    }

    #[test]
    fn a_flood_of_keys_leaves_the_table_as_large_as_it_was() {
        let table = table("1/min burst 1000");
        for key in 0..2_000_000_u32 {
            let _ = table.take(&key, Moment(u64::from(key)));
        }
        assert!(table.rows.iter().all(|row| row.len() == CELLS));
        // Thirty made-up keys a bucket are far below the burst: the known one is not touched by them.
        assert_eq!(table.take(&"known", Moment(2_000_000)), Ok(()));
    }

    #[test]
    fn whose_buckets_meet_is_decided_by_the_secret() {
        let (one, other) = (table("1/s burst 1"), table("1/s burst 1"));
        let at = |table: &Table, key: u32| {
            table
                .buckets(&key)
                .map(|bucket| std::ptr::from_ref(bucket) as usize - table.rows[0].as_ptr() as usize)[0]
        };
        let same = (0..1000).filter(|key| at(&one, *key) == at(&other, *key)).count();
        assert!(same < 10, "{same} of 1,000 keys stand at the same place under two secrets");
    }
}
