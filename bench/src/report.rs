//! Figures as text, JSON and chart, and the page of the documentation: for every command of the benchmark.
//!
//! A command forms [`Line`]s with their [`Target`]s, prints [`text_table`], and with `--write-docs` puts
//! [`markdown_table`] between its own markers of the page by [`write_section`].

mod chart;
mod machine;
mod section;
mod spread;
mod target;

pub(crate) use chart::{Bar, bar_chart};
pub(crate) use machine::Machine;
pub(crate) use section::{SectionError, write_section};
pub(crate) use spread::Spread;
pub(crate) use target::{Bound, Target, Verdict};

/// One comparison: what, how it came out, and what was wanted.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub(crate) struct Line {
    /// What is compared with what.
    pub(crate) title: String,
    /// How it came out, over all rounds.
    pub(crate) value: Spread,
    /// What was wanted, if anything was.
    pub(crate) target: Option<Target>,
}

impl Line {
    /// Whether the median is what was wanted.
    pub(crate) fn verdict(&self) -> Verdict {
        self.target.map_or(Verdict::Told, |target| target.verdict(self.value.median))
    }

    fn cells(&self) -> [String; 5] {
        let Spread { median, min, max } = self.value;
        let bound = |bound: Option<Bound>| bound.map_or_else(|| "–".to_owned(), |bound| bound.to_string());
        [
            self.title.clone(),
            format!("{} ({}–{})", short(median), short(min), short(max)),
            bound(self.target.map(|target| target.must)),
            bound(self.target.map(|target| target.aim)),
            self.verdict().to_string(),
        ]
    }
}

const HEADINGS: [&str; 5] = ["figure", "median (min–max)", "must", "aim", ""];

/// A number with three digits that count, or all of those before the point.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

/// Lines for a terminal.
pub(crate) fn text_lines(lines: &[Line]) -> String {
    let rows: Vec<Vec<String>> = lines.iter().map(|line| line.cells().to_vec()).collect();
    text_table(&HEADINGS, &rows)
}

/// Lines for the documentation.
pub(crate) fn markdown_lines(lines: &[Line]) -> String {
    let rows: Vec<Vec<String>> = lines.iter().map(|line| line.cells().to_vec()).collect();
    markdown_table(&HEADINGS, &rows)
}

/// A table for a terminal: the first column to the left, the others to the right.
pub(crate) fn text_table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(headings.get(column).map(|heading| heading.chars().count())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let cells = cells.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        let cells: Vec<String> = cells.collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    };
    let body = rows.iter().map(|row| line(row.iter().map(String::as_str).collect()));
    line(headings.to_vec()) + &body.collect::<String>()
}

/// The same for the documentation.
pub(crate) fn markdown_table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &[&str]| format!("| {} |\n", cells.join(" | "));
    let rule = "|---".repeat(headings.len()) + "|\n";
    let body = rows.iter().map(|row| line(&row.iter().map(String::as_str).collect::<Vec<_>>()));
    line(headings) + &rule + &body.collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_was_wanted_and_whether_it_came_so() {
        let value = Spread { median: 1.234, min: 1.1, max: 12.34 };
        let target = Target { must: Bound::AtLeast(1.0), aim: Bound::AtLeast(1.5) };
        let line = Line { title: "speed".to_owned(), value, target: Some(target) };
        assert_eq!(line.cells(), ["speed", "1.23 (1.10–12.3)", "≥ 1", "≥ 1.5", "met"]);
        let line = Line { target: None, ..line };
        assert_eq!(line.cells()[2..], ["–", "–", ""]);
    }

    #[test]
    fn columns_of_text_stand_below_each_other() {
        let rows = vec![vec!["a".to_owned(), "1".to_owned()], vec!["bbb – b".to_owned(), "1234".to_owned()]];
        assert_eq!(text_table(&["x", "y"], &rows), "x           y\na           1\nbbb – b  1234\n");
        assert_eq!(markdown_table(&["x", "y"], &rows[..1]), "| x | y |\n|---|---|\n| a | 1 |\n");
    }
}
