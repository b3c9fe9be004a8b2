//! The process itself, as the system sees it. Only Linux tells it in files; elsewhere these families are left out.

use std::fs;

use super::Page;

/// Ticks of the kernel's clock in a second as programs are told them: 100 on every architecture that this
/// program is built for.
const TICKS_PER_SECOND: f64 = 100.0;

/// How many descriptors the process has open, and may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptors {
    /// Open now.
    pub open: u64,
    /// The soft limit.
    pub limit: u64,
}

impl Descriptors {
    /// How many more may be opened.
    pub const fn left(self) -> u64 {
        self.limit.saturating_sub(self.open)
    }
}

/// The descriptors of this process; `None` where the system does not tell.
pub fn descriptors() -> Option<Descriptors> {
    // Reading the folder opens one itself.
    let open = fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let soft = line.split_whitespace().next()?;
    let limit = if soft == "unlimited" { u64::MAX } else { soft.parse().ok()? };
    Some(Descriptors { open: u64::try_from(open).ok()?, limit })
}

pub(super) fn fill(page: &mut Page, role: &'static str) {
    page.gauge("roamgate_build_info", "Always 1; the labels say which program this is, and whose page.")
        .labelled([("version", env!("CARGO_PKG_VERSION")), ("role", role)], 1);
    if let Some(stat) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(Stat::parse) {
        page.counter(
            "process_cpu_seconds_total",
            "Processor time of the process, user and system, in seconds.",
        )
        .real(stat.cpu_ticks / TICKS_PER_SECOND);
        if let Some(boot) = boot_time() {
            page.gauge("process_start_time_seconds", "When the process started, Unix time in seconds.")
                .real(boot + stat.start_ticks / TICKS_PER_SECOND);
        }
    }
    if let Some(bytes) = resident_bytes() {
        page.gauge("process_resident_memory_bytes", "Memory of the process that is in use, in bytes.")
            .value(bytes);
    }
    if let Some(descriptors) = descriptors() {
        page.gauge("process_open_fds", "Open file descriptors.").value(descriptors.open);
        page.gauge("process_max_fds", "File descriptors that the process may have open.")
            .value(descriptors.limit);
    }
}

/// What is needed of `/proc/self/stat`.
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_ticks: f64,
    start_ticks: f64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The second field is the program's name in parentheses, and may hold anything.
        let (_, rest) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // proc(5): `rest` begins with field 3; 14 is utime, 15 stime, 22 starttime.
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        Some(Self { cpu_ticks: field(14)? + field(15)?, start_ticks: field(22)? })
    }
}

fn boot_time() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn resident_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Format;

    #[test]
    fn the_name_of_the_program_may_hold_anything() {
        let text = "42 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 4 0 12345 1 2";
        assert_eq!(Stat::parse(text), Some(Stat { cpu_ticks: 200.0, start_ticks: 12345.0 }));
        assert_eq!(Stat::parse("nonsense"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_told_of() {
        let mut page = Page::default();
        fill(&mut page, "gateway");
        let text = page.text(Format::Text);
        for name in [
            "process_cpu_seconds_total",
            "process_resident_memory_bytes",
            "process_open_fds",
            "process_max_fds",
            "process_start_time_seconds",
        ] {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
            let value: f64 = line.unwrap_or_else(|| panic!("{name} in\n{text}")).parse().unwrap();
            assert!(value > 0.0 || name == "process_cpu_seconds_total", "{name} {value}");
        }
        let descriptors = descriptors().unwrap();
        assert!(descriptors.open >= 3 && descriptors.left() > 0, "{descriptors:?}");
    }
}
