//! `docs/faults.md`: one row for each fault, written by the tests.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use super::device::Note;

/// With this variable set to 1 the tests write the page; otherwise they hold it against what they found. Rows are
/// replaced by their fault's name: after a fault was renamed or removed, remove the page before it is written.
const WRITE: &str = "ROAMGATE_WRITE_DOCS";

const HEAD: &str = "# Faults

What devices see when something breaks, measured on real processes by `cargo test -p roamgate --test faults`
and, for the section that says so, `bench/faults/run.sh`. Do not edit: the tests write this page with
`ROAMGATE_WRITE_DOCS=1`, and fail when a fault is missing here or devices see something else than it says. Times
and counts are those of the machine that wrote it.

Four kept connections of two devices ask all the while: small GET, small message, a message of 100 KB (too large
to be held, so nobody may send it twice), and an answer of 50 KB. Every request has a number, and the server inside
counts what it was given.

- **A device sees**: answers other than 200, how many, and after how long each came. `connection closed`: no byte
  of an answer; a device asks again on a new connection.
- **Back after**: from the end of the cause until every connection's requests are answered again.
- **Meanwhile**: requests of others that were answered, where the fault concerns one role or one device.
- **Lost**: requests that were answered 200 and that the server inside did not get whole.
- **Doubled**: requests that it got twice though they may not be repeated. In brackets: those that may be, because
  a management point takes each message once whatever comes.
- **Left behind**: most that any role's memory had grown and descriptors that were open more than before, a moment
  after the traffic ended.
";

/// The sections, in their order, with what is said about each.
const SECTIONS: [(&str, &str); 7] = [
    ("Processes", "A role's process ends, halts or restarts."),
    (
        "The line between connection point and gateway",
        "A proxy in between misbehaves; devices' own lines are good.",
    ),
    ("The server inside", "One role's server misbehaves; the steady traffic is for another role."),
    ("Devices", "A device misbehaves or is on a poor line; the others go on."),
    (
        "Limits and surroundings",
        "Too many requests, too few descriptors, no disk, another clock, new certificates.",
    ),
    ("Network", "Packets dropped by nftables in a network namespace, on the tunnel's port."),
    ("Again and again, and as configured by default", "The long ones, by `bench/faults/run.sh`."),
];

/// One fault.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) fault: String,
    pub(crate) seen: Vec<Note>,
    /// What devices may see, by its label; nothing else is accepted.
    pub(crate) allowed: Vec<String>,
    pub(crate) recovered: Duration,
    /// Good answers to others, where nobody else may be hit.
    pub(crate) beside: Option<usize>,
    pub(crate) lost: usize,
    pub(crate) doubled: usize,
    pub(crate) repeated: usize,
    pub(crate) left_kib: i64,
    pub(crate) left_descriptors: i64,
    /// What else is to be known.
    pub(crate) remark: String,
}

impl Row {
    /// What was seen, by label: how often, soonest, latest.
    pub(crate) fn groups(&self) -> BTreeMap<String, (usize, Duration, Duration)> {
        let mut groups = BTreeMap::new();
        for note in &self.seen {
            let (count, soonest, latest) =
                groups.entry(note.seen.label()).or_insert((0, note.elapsed, note.elapsed));
            *count += 1;
            *soonest = note.elapsed.min(*soonest);
            *latest = note.elapsed.max(*latest);
        }
        groups
    }

    fn write(&self) -> String {
        let seen: Vec<String> = self
            .groups()
            .into_iter()
            .map(|(label, (count, soonest, latest))| {
                let (soonest, latest) = (seconds(soonest), seconds(latest));
                let after = if soonest == latest { soonest } else { format!("{soonest} to {latest}") };
                format!("{label} ({count}, after {after} s)")
            })
            .collect();
        let seen = if seen.is_empty() { "nothing".to_owned() } else { seen.join("; ") };
        let seen = if self.remark.is_empty() { seen } else { format!("{seen}. {}", self.remark) };
        format!(
            "| {} | {seen} | {} s | {} | {} | {}{} | {:+.1} MiB, {:+} |",
            self.fault,
            seconds(self.recovered),
            self.beside.map_or_else(|| "–".to_owned(), |count| format!("{count} answered")),
            self.lost,
            self.doubled,
            if self.repeated > 0 { format!(" ({})", self.repeated) } else { String::new() },
            f64::from(i32::try_from(self.left_kib).unwrap_or(i32::MAX)) / 1024.0,
            self.left_descriptors,
        )
    }
}

fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds >= 10.0 { format!("{seconds:.0}") } else { format!("{seconds:.2}") }
}

/// Writes a section, or holds the page's one against these rows.
pub(crate) fn account(section: &str, rows: &[Row]) {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    // One at a time, the process inside a namespace too; given back when it is dropped.
    let guard = File::create(folder.join("faults.lock")).expect("the target folder");
    guard.lock().expect("a lock");
    let lines: Vec<String> = rows.iter().map(Row::write).collect();
    let measured = format!("## {section}\n\n{TABLE}{}\n", lines.join("\n"));
    println!("{measured}");
    std::fs::write(folder.join(format!("faults-{section}.md")), &measured).expect("the target folder");

    let page = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/faults.md");
    let mut known = sections(&std::fs::read_to_string(&page).unwrap_or_default());
    if std::env::var_os(WRITE).is_some_and(|value| value == "1") {
        // Rows by their fault, so that the quick ones and the long ones of a section can be written apart.
        let table = known.entry(section.to_owned()).or_default();
        for (row, line) in rows.iter().zip(lines) {
            match table.iter_mut().find(|old| cell(old, 0) == row.fault) {
                Some(old) => *old = line,
                None => table.push(line),
            }
        }
        std::fs::write(&page, write(&known)).expect("the page is written");
        return;
    }
    let table = known.remove(section).unwrap_or_default();
    for row in rows {
        let line = table.iter().find(|line| cell(line, 0) == row.fault);
        let line =
            line.unwrap_or_else(|| panic!("docs/faults.md lacks {:?}: write it with {WRITE}=1", row.fault));
        for said in cell(line, 1).split(". ").next().unwrap_or_default().split("; ") {
            let label = said.split(" (").next().unwrap_or_default();
            let known = label == "nothing" || row.allowed.iter().any(|allowed| allowed == label);
            assert!(known, "docs/faults.md says {label:?} of {:?}: write it with {WRITE}=1", row.fault);
        }
        assert_eq!(cell(line, 4), row.lost.to_string(), "{}: lost", row.fault);
        let doubled = cell(line, 5);
        assert_eq!(doubled.split(" (").next(), Some(row.doubled.to_string().as_str()), "{}", row.fault);
    }
}

const TABLE: &str = "| Fault | A device sees | Back after | Meanwhile | Lost | Doubled | Left behind |
|---|---|---|---|---|---|---|
";

/// A cell of a row of a table.
fn cell(line: &str, number: usize) -> &str {
    line.split('|').nth(number + 1).unwrap_or_default().trim()
}

/// Rows of each section of the page.
fn sections(page: &str) -> BTreeMap<String, Vec<String>> {
    let sections = page.split("\n## ").skip(1).map(|section| {
        let (name, rest) = section.split_once('\n').unwrap_or((section, ""));
        let rows = rest.lines().filter(|line| line.starts_with("| ") && cell(line, 0) != "Fault");
        (name.to_owned(), rows.map(str::to_owned).collect())
    });
    sections.collect()
}

fn write(known: &BTreeMap<String, Vec<String>>) -> String {
    let mut page = HEAD.to_owned();
    for (section, about) in SECTIONS {
        if let Some(rows) = known.get(section) {
            let _ = write!(page, "\n## {section}\n\n{about}\n\n{TABLE}{}\n", rows.join("\n"));
        }
    }
    page
}
