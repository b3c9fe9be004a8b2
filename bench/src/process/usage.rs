//! What processes have used, by the kernel's own account.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Clock ticks of `/proc/PID/stat` in a second: a constant of the Linux ABI on every machine that we run on.
const TICKS_PER_SECOND: u64 = 100;

/// Memory of a process, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Memory {
    /// Proportional set size: shared pages are divided among those who share them.
    pub(crate) proportional: u64,
    /// Of it what is its own and no file's.
    pub(crate) anonymous: u64,
}

/// CPU time (user and system) that these processes and all that descend from them have used up to now.
///
/// The kernel scales both parts to the time that was really spent, so the sum is exact to a tick.
pub(crate) fn cpu_of_trees(roots: &[u32]) -> Duration {
    let processes = all_processes();
    let ticks: u64 =
        tree(roots, &processes).iter().filter_map(|pid| processes.get(pid)).map(|p| p.ticks).sum();
    Duration::from_millis(ticks * (1000 / TICKS_PER_SECOND))
}

/// Memory of a process and all that descend from it.
pub(crate) fn memory_of_tree(root: u32) -> Memory {
    tree(&[root], &all_processes()).iter().map(|pid| memory_of(*pid)).fold(Memory::default(), |sum, one| {
        Memory { proportional: sum.proportional + one.proportional, anonymous: sum.anonymous + one.anonymous }
    })
}

fn memory_of(pid: u32) -> Memory {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    Memory { proportional: kibibytes(&text, "Pss:") * 1024, anonymous: kibibytes(&text, "Pss_Anon:") * 1024 }
}

fn kibibytes(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    parent: u32,
    /// Of itself and of children that it waited for.
    ticks: u64,
}

fn all_processes() -> BTreeMap<u32, Entry> {
    let Ok(folder) = std::fs::read_dir("/proc") else { return BTreeMap::new() };
    folder
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter_map(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            Some((pid, parse_stat(&stat)?))
        })
        .collect()
}

/// Reads a line of `/proc/PID/stat`. The name stands in brackets and may hold anything, brackets included.
fn parse_stat(stat: &str) -> Option<Entry> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    // Field 3 of the manual (state) is index 0 here: parent 4, utime 14, stime 15, cutime 16, cstime 17.
    let ticks = number(11)? + number(12)? + number(13)? + number(14)?;
    Some(Entry { parent: u32::try_from(number(1)?).ok()?, ticks })
}

fn tree(roots: &[u32], processes: &BTreeMap<u32, Entry>) -> BTreeSet<u32> {
    let mut found: BTreeSet<u32> = roots.iter().copied().collect();
    loop {
        let before = found.len();
        let children = processes.iter().filter(|(_, entry)| found.contains(&entry.parent));
        let children: Vec<u32> = children.map(|(pid, _)| *pid).collect();
        found.extend(children);
        if found.len() == before {
            return found;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_move_the_fields() {
        let stat = "28604 (a ) R 9) S 28601 28601 15878 0 -1 4194304 98 0 0 0 7 5 2 1 20 0 1";
        assert_eq!(parse_stat(stat), Some(Entry { parent: 28601, ticks: 15 }));
        assert_eq!(parse_stat("1 (cut) S 2"), None);
    }

    #[test]
    fn a_tree_holds_children_of_children_and_no_strangers() {
        let entry = |parent| Entry { parent, ticks: 1 };
        let processes = BTreeMap::from([(2, entry(1)), (5, entry(2)), (3, entry(5)), (9, entry(1))]);
        assert_eq!(tree(&[2], &processes), BTreeSet::from([2, 3, 5]));
    }

    #[test]
    fn our_own_memory_and_time_are_seen() {
        let me = std::process::id();
        let began = std::time::Instant::now();
        let mut sum = 0_u64;
        while began.elapsed() < Duration::from_millis(60) {
            sum = sum.wrapping_add(u64::from(began.elapsed().subsec_nanos()));
        }
        assert!(sum > 0 && cpu_of_trees(&[me]) >= Duration::from_millis(10));
        let memory = memory_of_tree(me);
        assert!(memory.proportional > 100_000 && memory.anonymous <= memory.proportional, "{memory:?}");
    }
}
