//! What the processes of a site on this machine hold: memory and descriptors.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::process::memory_of_tree;

/// What one process holds now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Holding {
    /// Resident memory, in bytes.
    pub(crate) resident: u64,
    /// Proportional set size, in bytes.
    pub(crate) proportional: u64,
    /// Open descriptors.
    pub(crate) descriptors: u64,
}

impl Holding {
    /// Looks at a process; all zero when it is gone.
    pub(crate) fn of(pid: u32) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        Self {
            resident: field(&status, "VmRSS:") * 1024,
            proportional: memory_of_tree(pid).proportional,
            descriptors: descriptors(pid),
        }
    }
}

/// Open descriptors of a process.
pub(crate) fn descriptors(pid: u32) -> u64 {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |entries| entries.count() as u64)
}

/// How many descriptors a process may have.
pub(crate) fn descriptor_limit(pid: u32) -> u64 {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    field(&limits, "Max open files")
}

/// Waits until the process has at most so many descriptors; whether it came to that.
pub(crate) fn wait_for_descriptors(pid: u32, at_most: u64, limit: Duration) -> bool {
    let began = Instant::now();
    loop {
        if descriptors(pid) <= at_most {
            return true;
        }
        if began.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The number behind a name at the beginning of a line.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Bytes as people read them.
pub(crate) fn mebibytes(bytes: u64) -> String {
    // Memory of a machine is far below 2^52 bytes.
    #[expect(clippy::cast_precision_loss, reason = "a figure for people to read")]
    let mib = bytes as f64 / (1024.0 * 1024.0);
    format!("{mib:.1} MiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_process_holds_something() {
        let me = std::process::id();
        let holding = Holding::of(me);
        assert!(holding.resident > 100_000 && holding.proportional > 100_000, "{holding:?}");
        assert!(holding.descriptors >= 3 && descriptor_limit(me) >= holding.descriptors);
        assert!(wait_for_descriptors(me, descriptor_limit(me), Duration::ZERO));
        assert!(!wait_for_descriptors(me, 0, Duration::ZERO));
        assert_eq!(Holding::of(u32::MAX), Holding::default());
    }

    #[test]
    fn the_first_number_behind_a_name_counts() {
        let limits = "Max processes  90 90 processes\nMax open files            20000                20000                files\n";
        assert_eq!(field(limits, "Max open files"), 20_000);
        assert_eq!(mebibytes(3 * 1024 * 512), "1.5 MiB");
    }
}
