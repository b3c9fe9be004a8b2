//! What a run came to: as text, as JSON under `bench/results`, and as a section of `docs/performance.md`.

use std::fmt::{Display, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::lab::project_root;

/// Exit code of a run in which a bound was broken.
const BOUND_BROKEN: u8 = 7;

/// A bound, and whether it held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Check {
    /// What is bounded.
    pub(crate) what: String,
    /// The bound in words.
    pub(crate) bound: String,
    /// What was measured.
    pub(crate) measured: String,
    /// Whether it held.
    pub(crate) holds: bool,
}

impl Check {
    /// A bound and what came of it.
    pub(crate) fn new(
        what: impl Into<String>,
        bound: impl Into<String>,
        measured: impl Display,
        holds: bool,
    ) -> Self {
        Self { what: what.into(), bound: bound.into(), measured: format!("{measured}"), holds }
    }
}

/// One run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Results {
    /// Name of the files, such as `crowd-storm`.
    pub(crate) name: String,
    /// What was done, in one line.
    pub(crate) title: String,
    /// The command line.
    pub(crate) command: String,
    /// When.
    pub(crate) date: String,
    /// On what.
    pub(crate) machine: String,
    /// Figures, in order.
    pub(crate) rows: Vec<(String, String)>,
    /// Bounds.
    pub(crate) checks: Vec<Check>,
    /// What stands behind the figures, for programs.
    pub(crate) data: Value,
}

/// The results could not be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResultsError {
    /// A file could not be read or written.
    #[error("{} cannot be used", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// They could not be written down.
    #[error("the results cannot be written down")]
    Form(#[from] serde_json::Error),
}

impl Results {
    /// An empty record of a run that begins now.
    pub(crate) fn new(name: &str, title: impl Into<String>) -> Self {
        let words: Vec<_> = std::env::args().skip(1).filter(|word| word != "--write-docs").collect();
        Self {
            name: name.to_owned(),
            title: title.into(),
            command: format!("roamgate-bench {}", words.join(" ")),
            date: jiff::Zoned::now().strftime("%Y-%m-%d %H:%M %Z").to_string(),
            machine: machine(),
            rows: Vec::new(),
            checks: Vec::new(),
            data: Value::Null,
        }
    }

    /// Adds a figure.
    pub(crate) fn row(&mut self, figure: impl Into<String>, value: impl Display) {
        self.rows.push((figure.into(), format!("{value}")));
    }

    /// Prints them, keeps them, and says how the program ends.
    pub(crate) fn finish(&self, write_docs: bool) -> Result<ExitCode, ResultsError> {
        let text = self.text();
        println!("{text}");
        let folder = project_root().join("bench").join("results");
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ResultsError::File { path, source }
        };
        std::fs::create_dir_all(&folder).map_err(failed(&folder))?;
        let (as_text, as_json) =
            (folder.join(&self.name).with_extension("txt"), folder.join(&self.name).with_extension("json"));
        std::fs::write(&as_text, &text).map_err(failed(&as_text))?;
        std::fs::write(&as_json, serde_json::to_string_pretty(self)? + "\n").map_err(failed(&as_json))?;
        if write_docs {
            let page = project_root().join("docs").join("performance.md");
            let before = match std::fs::read_to_string(&page) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
                other => other.map_err(failed(&page))?,
            };
            let section = self.name.split('-').next().unwrap_or_default();
            let after = with_section(&before, section, &section_of(&folder, section)?);
            std::fs::write(&page, after).map_err(failed(&page))?;
        }
        let broken = self.checks.iter().any(|check| !check.holds);
        Ok(if broken { ExitCode::from(BOUND_BROKEN) } else { ExitCode::SUCCESS })
    }

    fn text(&self) -> String {
        let width = self.rows.iter().map(|(figure, _)| figure.chars().count()).max().unwrap_or(0);
        let mut text = format!("\n{}\n{} · {}\n\n", self.title, self.date, self.machine);
        for (figure, value) in &self.rows {
            line(&mut text, format_args!("  {figure:width$}  {value}"));
        }
        for check in &self.checks {
            let word = if check.holds { "holds " } else { "BROKEN" };
            let Check { what, measured, bound, .. } = check;
            line(&mut text, format_args!("  {word} {what}: {measured} (bound: {bound})"));
        }
        text
    }

    fn markdown(&self) -> String {
        let cell = |text: &str| text.replace('|', "\\|");
        let mut text = format!(
            "### {}\n\n`{}`, {}, on {}.\n\n| figure | value |\n|---|---|\n",
            self.title, self.command, self.date, self.machine
        );
        for (figure, value) in &self.rows {
            line(&mut text, format_args!("| {} | {} |", cell(figure), cell(value)));
        }
        for check in &self.checks {
            let holds = if check.holds { "held" } else { "**broken**" };
            let (what, measured, bound) = (cell(&check.what), cell(&check.measured), cell(&check.bound));
            line(&mut text, format_args!("| {what} | {measured} (bound {bound}: {holds}) |"));
        }
        text
    }
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // A string takes everything.
    let _ = writeln!(text, "{line}");
}

/// The runs of one kind that were kept, one below the other.
fn section_of(folder: &Path, section: &str) -> Result<String, ResultsError> {
    let failed = |source| ResultsError::File { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with(section) && path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
    }
    files.sort();
    let mut text = String::new();
    for path in files {
        let kept = std::fs::read(&path).map_err(|source| ResultsError::File { path, source })?;
        text += &serde_json::from_slice::<Results>(&kept)?.markdown();
        text.push('\n');
    }
    Ok(text)
}

/// The page with this section between its markers, or at its end when it has none yet.
fn with_section(page: &str, section: &str, text: &str) -> String {
    let (begin, end) = (format!("<!-- {section}:begin -->"), format!("<!-- {section}:end -->"));
    let text = format!("{begin}\n\n{text}{end}");
    let before = page.split_once(begin.as_str());
    let parts = before.and_then(|(before, rest)| Some((before, rest.split_once(end.as_str())?.1)));
    match parts {
        Some((before, after)) => format!("{before}{text}{after}"),
        None if page.is_empty() => format!("{text}\n"),
        None => format!("{}\n\n{text}\n", page.trim_end()),
    }
}

/// The machine in one line.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let of = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let model = of(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "processor unknown".to_owned());
    let memory = of(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
    let kib: u64 = memory.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{cores} cores ({model}), {} GiB, Linux {}", kib / (1024 * 1024), kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_replaced_and_what_stands_around_it_stays() {
        let page = with_section("# Page\n", "crowd", "one\n");
        assert_eq!(page, "# Page\n\n<!-- crowd:begin -->\n\none\n<!-- crowd:end -->\n");
        let other = with_section(&page, "soak", "two\n");
        let again = with_section(&other, "crowd", "three\n");
        assert_eq!(
            again,
            "# Page\n\n<!-- crowd:begin -->\n\nthree\n<!-- crowd:end -->\n\n<!-- soak:begin -->\n\ntwo\n<!-- soak:end -->\n"
        );
        assert!(with_section("", "soak", "x\n").starts_with("<!-- soak:begin -->"));
    }

    #[test]
    fn a_broken_bound_is_seen_in_text_and_page() {
        let mut results = Results::new("crowd-storm", "A storm");
        results.row("devices | all", 7);
        results.checks.push(Check::new("missing", "0", 1, false));
        assert!(results.text().contains("BROKEN missing: 1 (bound: 0)"));
        let page = results.markdown();
        assert!(page.contains("| devices \\| all | 7 |") && page.contains("**broken**"), "{page}");
        let kept: Results = serde_json::from_str(&serde_json::to_string(&results).unwrap()).unwrap();
        assert_eq!((kept.rows, kept.checks), (results.rows, results.checks));
    }

    #[test]
    fn the_machine_has_cores_and_memory() {
        let text = machine();
        assert!(text.contains("cores") && text.contains("GiB") && !text.contains(" 0 GiB"), "{text}");
    }
}
