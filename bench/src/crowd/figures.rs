//! What is counted: times as a histogram, reasons by name, events by second. All of it can be sent from
//! one process to another and added up.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Buckets for each doubling of a time: an answer is within 1/32 of the truth.
const PER_DOUBLING: u64 = 32;

/// Times, each kept to about three parts in a hundred. Grows with the spread of the times, never with
/// their number: some thousand buckets at most.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Histogram {
    buckets: BTreeMap<u64, u64>,
    count: u64,
    longest: u64,
}

impl Histogram {
    /// Counts one.
    pub(crate) fn add(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        *self.buckets.entry(bucket(micros)).or_default() += 1;
        self.count += 1;
        self.longest = self.longest.max(micros);
    }

    /// Counts all of another.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (bucket, count) in &other.buckets {
            *self.buckets.entry(*bucket).or_default() += count;
        }
        self.count += other.count;
        self.longest = self.longest.max(other.longest);
    }

    /// How many were counted.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The time within which this share (in thousandths) was done; nothing when nothing was counted.
    pub(crate) fn at_permille(&self, permille: u64) -> Duration {
        let wanted = (self.count * permille).div_ceil(1000).max(1);
        let mut seen = 0;
        for (bucket, count) in &self.buckets {
            seen += count;
            if seen >= wanted {
                return Duration::from_micros(upper_edge(*bucket).min(self.longest));
            }
        }
        Duration::ZERO
    }

    /// The longest of all, exactly.
    pub(crate) fn longest(&self) -> Duration {
        Duration::from_micros(self.longest)
    }
}

/// The bucket of a time: exact below 32 µs, then 32 for each doubling.
fn bucket(micros: u64) -> u64 {
    if micros < PER_DOUBLING {
        return micros;
    }
    let shift = u64::from(micros.ilog2() - PER_DOUBLING.ilog2());
    (shift + 1) * PER_DOUBLING + (micros >> shift) - PER_DOUBLING
}

/// The longest time that falls into a bucket.
fn upper_edge(bucket: u64) -> u64 {
    if bucket < PER_DOUBLING {
        return bucket;
    }
    let (shift, within) = (bucket / PER_DOUBLING - 1, bucket % PER_DOUBLING);
    ((u128::from(PER_DOUBLING + within + 1) << shift) - 1).try_into().unwrap_or(u64::MAX)
}

/// How often what happened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reasons(BTreeMap<String, u64>);

impl Reasons {
    /// Counts one.
    pub(crate) fn add(&mut self, reason: impl Into<String>) {
        *self.0.entry(reason.into()).or_default() += 1;
    }

    /// Counts all of another.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (reason, count) in &other.0 {
            *self.0.entry(reason.clone()).or_default() += count;
        }
    }

    /// All of them together.
    pub(crate) fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Those that are in this one and not among the earlier ones.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let left = self.0.iter().map(|(reason, count)| {
            (reason.clone(), count - earlier.0.get(reason).copied().unwrap_or(0).min(*count))
        });
        Self(left.filter(|(_, count)| *count > 0).collect())
    }

    /// `none`, or each with its number.
    pub(crate) fn text(&self) -> String {
        if self.0.is_empty() {
            return "none".to_owned();
        }
        let each: Vec<_> = self.0.iter().map(|(reason, count)| format!("{count} × {reason}")).collect();
        each.join(", ")
    }
}

/// Events by the second in which they happened, counted from an agreed moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seconds(BTreeMap<u64, u64>);

impl Seconds {
    /// Counts one that happened so long after the moment.
    pub(crate) fn add(&mut self, after: Duration) {
        *self.0.entry(after.as_secs()).or_default() += 1;
    }

    /// Counts all of another.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (second, count) in &other.0 {
            *self.0.entry(*second).or_default() += count;
        }
    }

    /// The fullest second of those from `first` on, and how many it had.
    pub(crate) fn fullest_from(&self, first: u64) -> Option<(u64, u64)> {
        let later = self.0.range(first..);
        later.max_by_key(|(second, count)| (**count, u64::MAX - **second)).map(|(s, c)| (*s, *c))
    }

    /// The last second in which anything happened.
    pub(crate) fn last(&self) -> Option<u64> {
        self.0.keys().next_back().copied()
    }

    /// All of them.
    pub(crate) fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

/// A rate or share with as many digits as mean anything.
pub(crate) fn ratio(part: u64, whole: f64) -> f64 {
    if whole <= 0.0 {
        return 0.0;
    }
    // Counts of a bounded run are far below 2^52.
    #[expect(clippy::cast_precision_loss, reason = "a figure for people to read")]
    let part = part as f64;
    part / whole
}

/// Milliseconds as people read them.
pub(crate) fn milliseconds(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    if ms < 10.0 { format!("{ms:.2} ms") } else { format!("{ms:.0} ms") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_lies_within_its_bucket_and_buckets_follow_one_another() {
        let mut before = None;
        for micros in (0..4000).chain([1_000_000, 59_999_999, u64::MAX / 2, u64::MAX]) {
            let number = bucket(micros);
            assert!(upper_edge(number) >= micros, "{micros}");
            assert!(number == 0 || upper_edge(number - 1) < micros, "{micros}");
            assert!(before.is_none_or(|before| number >= before));
            before = Some(number);
        }
    }

    #[test]
    fn shares_are_right_within_a_thirtieth_and_merging_adds() {
        let (mut odd, mut even) = (Histogram::default(), Histogram::default());
        for ms in 1..=1000 {
            if ms % 2 == 0 { &mut even } else { &mut odd }.add(Duration::from_millis(ms));
        }
        odd.merge(&even);
        assert_eq!(odd.count(), 1000);
        for (permille, expected) in [(500, 500.0), (990, 990.0), (1000, 1000.0)] {
            let ms = odd.at_permille(permille).as_secs_f64() * 1000.0;
            assert!((ms / expected - 1.0).abs() < 0.034, "{permille}: {ms}");
        }
        assert_eq!(odd.longest(), Duration::from_secs(1));
        assert_eq!(Histogram::default().at_permille(500), Duration::ZERO);
    }

    #[test]
    fn the_fullest_second_is_looked_for_after_the_first_ones_only() {
        let mut seconds = Seconds::default();
        for (second, count) in [(2, 90), (11, 5), (14, 5), (15, 1)] {
            for _ in 0..count {
                seconds.add(Duration::from_millis(second * 1000 + 7));
            }
        }
        assert_eq!(seconds.fullest_from(0), Some((2, 90)));
        assert_eq!(seconds.fullest_from(10), Some((11, 5)), "the first of equals");
        assert_eq!((seconds.last(), seconds.total()), (Some(15), 101));
        assert_eq!(Seconds::default().fullest_from(0), None);
    }

    #[test]
    fn reasons_are_added_up_and_the_earlier_ones_taken_off() {
        let mut reasons = Reasons::default();
        reasons.add("503 RG-1105");
        let earlier = reasons.clone();
        reasons.add("503 RG-1105");
        reasons.add("connection refused");
        let later = reasons.since(&earlier);
        assert_eq!(later.text(), "1 × 503 RG-1105, 1 × connection refused");
        assert_eq!((reasons.total(), Reasons::default().text()), (3, "none".to_owned()));
    }
}
