//! Memory and descriptors of the roles, before and after.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::crowd::watch::{Holding, descriptors, wait_for_descriptors};

/// Most that memory may grow, in bytes.
const GROWTH_BYTES: u64 = 20 * 1024 * 1024;
/// Most that memory may grow, in percent of what it was.
const GROWTH_PERCENT: u64 = 10;
/// Both in words.
pub(super) const BOUND: &str = "at most 10 % and 20 MiB more";
/// Connections between roles that are kept for the next request, as a fresh site has none yet.
pub(super) const KEPT_DESCRIPTORS: u64 = 64;

/// The roles whose processes run here.
pub(super) struct Roles(Vec<(String, u32)>);

/// What the roles held when a part of the work had warmed them up, and after all of it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Growth {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) warm: Vec<Holding>,
    pub(super) after: Vec<Holding>,
}

impl Roles {
    /// Those of a site.
    pub(super) fn of(pids: &BTreeMap<String, u32>) -> Self {
        Self(pids.iter().map(|(name, pid)| (name.clone(), *pid)).collect())
    }

    /// Whether none is known.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What each holds now.
    pub(super) fn look(&self) -> Vec<Holding> {
        self.0.iter().map(|(_, pid)| Holding::of(*pid)).collect()
    }

    /// Each with what it held at two moments.
    pub(super) fn pairs<'r>(
        &'r self,
        one: &'r [Holding],
        other: &'r [Holding],
    ) -> impl Iterator<Item = (&'r str, Holding, Holding)> {
        self.0.iter().zip(one).zip(other).map(|(((name, _), one), other)| (name.as_str(), *one, *other))
    }

    /// Waits until each has about as many descriptors as before, at most so long for all; what each had and
    /// has.
    pub(super) fn wait_for_descriptors(
        &self,
        before: &[Holding],
        limit: Duration,
    ) -> Vec<(String, u64, u64)> {
        let began = Instant::now();
        let each = self.0.iter().zip(before).map(|((name, pid), before)| {
            let before = before.descriptors;
            wait_for_descriptors(*pid, before, limit.saturating_sub(began.elapsed()));
            (name.clone(), before, descriptors(*pid))
        });
        each.collect()
    }
}

/// How much memory grew, in words, and whether it may.
pub(super) fn judge(from: u64, to: u64) -> (String, bool) {
    let more = to.saturating_sub(from);
    let holds = from > 0 && to > 0 && more <= GROWTH_BYTES && more * 100 <= from * GROWTH_PERCENT;
    if to < from {
        return (format!("{} KiB less", (from - to) / 1024), holds);
    }
    let tenths = (more * 1000).checked_div(from).unwrap_or(0);
    (format!("{} KiB more ({}.{} %)", more / 1024, tenths / 10, tenths % 10), holds)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn memory_may_grow_by_a_tenth_and_by_twenty_mebibytes_and_by_no_more() {
        assert_eq!(judge(100 * MIB, 110 * MIB), ("10240 KiB more (10.0 %)".to_owned(), true));
        assert!(!judge(100 * MIB, 110 * MIB + 1024 * 1024).1, "over a tenth");
        assert!(judge(400 * MIB, 420 * MIB).1);
        assert!(!judge(400 * MIB, 420 * MIB + 1).1, "over 20 MiB");
        assert_eq!(judge(100 * MIB, 90 * MIB), ("10240 KiB less".to_owned(), true));
    }

    #[test]
    fn a_role_that_is_gone_is_no_role_that_did_not_grow() {
        assert!(!judge(100 * MIB, 0).1 && !judge(0, 0).1);
    }

    #[test]
    fn roles_are_looked_at_by_name() {
        let roles = Roles::of(&BTreeMap::from([("gateway".to_owned(), std::process::id())]));
        let (one, other) = (roles.look(), roles.look());
        let pairs: Vec<_> = roles.pairs(&one, &other).collect();
        assert!(pairs.len() == 1 && pairs[0].0 == "gateway" && pairs[0].1.resident > 0);
        let seen = roles.wait_for_descriptors(&one, Duration::ZERO);
        assert_eq!(seen[0].1, one[0].descriptors);
        assert!(!roles.is_empty() && Roles::of(&BTreeMap::new()).is_empty());
    }
}
