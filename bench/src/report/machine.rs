//! On what machine figures were taken: its kind, not its name.

use serde::Serialize;

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Machine {
    /// Model of its processor, as that calls itself.
    pub(crate) processor: String,
    /// Cores that we may use.
    pub(crate) cores: usize,
    /// Release of its kernel.
    pub(crate) kernel: String,
    /// Memory in MiB.
    pub(crate) memory_mib: u64,
}

impl Machine {
    /// This one. What cannot be read is `unknown`.
    pub(crate) fn here() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let kernel = read("/proc/sys/kernel/osrelease").trim().to_owned();
        Self {
            processor: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: if kernel.is_empty() { "unknown".to_owned() } else { kernel },
            memory_mib: kibibytes(&read("/proc/meminfo")) / 1024,
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { processor, cores, kernel, memory_mib } = self;
        write!(f, "{cores} cores of {processor}, {memory_mib} MiB of memory, Linux {kernel}")
    }
}

fn field(text: &str, name: &str) -> Option<String> {
    let (_, value) =
        text.lines().filter_map(|line| line.split_once(':')).find(|(key, _)| key.trim() == name)?;
    Some(value.trim().to_owned())
}

fn kibibytes(text: &str) -> u64 {
    let value = field(text, "MemTotal").unwrap_or_default();
    value.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_and_its_memory_are_read_by_name() {
        let text = "processor\t: 0\nmodel name\t: AMD EPYC\nmodel name\t: other\n";
        assert_eq!(field(text, "model name").as_deref(), Some("AMD EPYC"));
        assert_eq!(kibibytes("MemTotal:       24000000 kB\nMemFree: 1 kB\n"), 24_000_000);
        assert_eq!(kibibytes(""), 0);
    }
}
