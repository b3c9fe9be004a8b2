//! The figures of a run: as text, as JSON, and as a section of the documentation.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::host::Served;
use crate::report::Spread;

const BEGIN: &str = "<!-- site:begin -->";
const END: &str = "<!-- site:end -->";

/// Everything that one run found.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    /// When, ISO 8601.
    pub(super) at: String,
    pub(super) machine: String,
    pub(super) command: String,
    pub(super) rows: Vec<Row>,
    pub(super) growth: Vec<Growth>,
    /// Answers that were not what was asked for, by status and reason: must be empty.
    pub(super) errors: BTreeMap<String, usize>,
}

/// A figure beside its peer, round by round.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) peer: &'static str,
    pub(super) unit: &'static str,
    pub(super) ours: Numbers,
    pub(super) peers: Numbers,
    pub(super) ratio: Numbers,
    /// Least ratio that counts as reached; `None`: for information.
    pub(super) must: Option<f64>,
    pub(super) aim: Option<f64>,
}

/// Median and spread of rounds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Numbers {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Numbers {
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let spread = Spread::of(values).unwrap_or(Spread { median: 0.0, min: 0.0, max: 0.0 });
        Self { median: spread.median, min: spread.min, max: spread.max }
    }
}

impl std::fmt::Display for Numbers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { median, min, max } = *self;
        let digits = if median >= 100.0 { 0 } else { 2 };
        write!(f, "{median:.digits$} ({min:.digits$} to {max:.digits$})")
    }
}

impl Row {
    /// `pairs`: ours and the peer's, one a round.
    pub(super) fn new(
        name: &'static str,
        peer: &'static str,
        unit: &'static str,
        pairs: &[(f64, f64)],
        goal: Option<(f64, f64)>,
    ) -> Self {
        Self {
            name,
            peer,
            unit,
            ours: Numbers::of(pairs.iter().map(|pair| pair.0)),
            peers: Numbers::of(pairs.iter().map(|pair| pair.1)),
            ratio: Numbers::of(pairs.iter().map(|(ours, peer)| ours / peer)),
            must: goal.map(|(must, _)| must),
            aim: goal.map(|(_, aim)| aim),
        }
    }

    /// Whether the ratio is what it must be.
    pub(super) fn is_met(&self) -> bool {
        self.must.is_none_or(|must| self.ratio.median >= must)
    }

    fn verdict(&self) -> &'static str {
        match (self.must, self.aim) {
            (None, _) => "",
            (_, Some(aim)) if self.ratio.median >= aim => "aim reached",
            _ if self.is_met() => "must reached",
            _ => "missed",
        }
    }

    fn goal(&self) -> String {
        let goal = self.must.zip(self.aim);
        goal.map_or_else(String::new, |(must, aim)| format!("≥ {must} (aim {aim})"))
    }
}

/// How costs grow with one size.
#[derive(Debug, Serialize)]
pub(super) struct Growth {
    pub(super) name: String,
    pub(super) rows: Vec<GrowthRow>,
}

/// The values at one size.
#[derive(Debug, Serialize)]
pub(super) struct GrowthRow {
    pub(super) size: usize,
    pub(super) values: Vec<(&'static str, f64)>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) errors: BTreeMap<String, usize>,
}

impl GrowthRow {
    pub(super) fn of(size: usize) -> Self {
        Self { size, values: Vec::new(), errors: BTreeMap::new() }
    }

    pub(super) fn value(&mut self, name: &'static str, value: f64) {
        self.values.push((name, value));
    }

    pub(super) fn milliseconds(&mut self, name: &'static str, time: Duration) {
        self.value(name, time.as_secs_f64() * 1000.0);
    }

    /// Rate and cost of requests; answers that are errors count as such.
    pub(super) fn served(&mut self, rate: &'static str, cost: &'static str, served: &Served) {
        self.value(rate, served.outcome.rate());
        self.value(cost, 1000.0 / served.per_cpu().max(1e-9));
        add_errors(&mut self.errors, &served.outcome.bad);
    }
}

/// Adds counts of errors.
pub(super) fn add_errors(to: &mut BTreeMap<String, usize>, from: &BTreeMap<String, usize>) {
    for (what, count) in from {
        *to.entry(what.clone()).or_default() += count;
    }
}

impl Figures {
    /// Whether every row is met, without an error.
    pub(super) fn are_good(&self) -> bool {
        let clean = |row: &GrowthRow| row.errors.is_empty();
        self.errors.is_empty()
            && self.rows.iter().all(Row::is_met)
            && self.growth.iter().all(|growth| growth.rows.iter().all(clean))
    }

    /// The section of the documentation, in Markdown; it is also what the terminal shows.
    pub(super) fn markdown(&self) -> String {
        let mut text = format!(
            "## Tokens and registrations\n\nRun at {} on {}, by `{}`. Median of the rounds with least and \
             greatest; each round asks the site and then the peer.\n\n",
            self.at, self.machine, self.command
        );
        text.push_str("| figure | ours | peer | ratio | goal | |\n|---|---|---|---|---|---|\n");
        for row in &self.rows {
            let Row { name, peer, unit, ours, peers, ratio, .. } = row;
            let (goal, verdict) = (row.goal(), row.verdict());
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "| {name}, {unit} | {ours} | {peer}: {peers} | {ratio} | {goal} | {verdict} |"
            );
        }
        for growth in &self.growth {
            text.push_str(&growth.markdown());
        }
        let errors: Vec<_> = self.errors.iter().map(|(what, count)| format!("{what}: {count}")).collect();
        let errors = if errors.is_empty() { "0".to_owned() } else { errors.join(", ") };
        let _ = writeln!(text, "\nErrors: {errors}.");
        text
    }

    /// The page with this run's section in the place of the last one, or behind everything else.
    pub(super) fn put_into(&self, page: &str) -> String {
        let section = format!("{BEGIN}\n{}{END}", self.markdown());
        match (page.find(BEGIN), page.find(END)) {
            (Some(begin), Some(end)) if begin < end => {
                let (before, after) = (&page[..begin], &page[end + END.len()..]);
                format!("{before}{section}{after}")
            }
            _ if page.is_empty() => format!("{section}\n"),
            _ => format!("{}\n\n{section}\n", page.trim_end()),
        }
    }
}

impl Growth {
    fn markdown(&self) -> String {
        let Some(first) = self.rows.first() else { return String::new() };
        let names: Vec<_> = first.values.iter().map(|(name, _)| *name).collect();
        let mut text =
            format!("\n| {} | {} |\n|---|{}\n", self.name, names.join(" | "), "---|".repeat(names.len()));
        for row in &self.rows {
            let value = |(_, value): &(&str, f64)| {
                if *value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
            };
            let values: Vec<_> = row.values.iter().map(value).collect();
            let _ = writeln!(text, "| {} | {} |", row.size, values.join(" | "));
            if !row.errors.is_empty() {
                let _ = writeln!(text, "| errors | {:?} |", row.errors);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(ratio: f64) -> Figures {
        let row = Row::new("tokens", "signatures", "a CPU second", &[(ratio, 1.0)], Some((0.75, 0.85)));
        let mut at_ten = GrowthRow::of(10);
        at_ten.value("ms", 1.0);
        let growth = Growth { name: "devices".to_owned(), rows: vec![at_ten] };
        Figures {
            at: "2026-11-21T20:00:00Z".to_owned(),
            machine: "a machine".to_owned(),
            command: "roamgate-bench site".to_owned(),
            rows: vec![row],
            growth: vec![growth],
            errors: BTreeMap::new(),
        }
    }

    #[test]
    fn a_row_says_what_it_reached_and_an_error_spoils_a_run() {
        for (ratio, verdict, good) in
            [(0.9, "aim reached", true), (0.8, "must reached", true), (0.7, "missed", false)]
        {
            let figures = figures(ratio);
            assert!(figures.markdown().contains(verdict), "{ratio}");
            assert_eq!(figures.are_good(), good);
        }
        let mut failed = figures(0.9);
        failed.errors.insert("503 RG-5002".to_owned(), 1);
        assert!(!failed.are_good() && failed.markdown().contains("503 RG-5002: 1"));
    }

    #[test]
    fn the_section_takes_the_place_of_the_last_one_and_leaves_the_page() {
        let page = figures(0.9).put_into("# Performance\n\nwords\n");
        assert!(page.starts_with("# Performance\n\nwords\n\n<!-- site:begin -->\n"));
        let again = figures(0.8).put_into(&format!("{page}more\n"));
        assert!(again.contains("must reached") && !again.contains("aim reached"));
        assert!(again.ends_with("<!-- site:end -->\nmore\n"));
        assert_eq!(again.matches(BEGIN).count(), 1);
    }
}
