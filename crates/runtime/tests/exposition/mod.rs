//! A strict reader of the text format 0.0.4, for tests of every page. It refuses what the format forbids and what
//! its habits forbid: a sample without HELP and TYPE, a counter without `_total`, steps that fall, a sample twice.

use std::collections::{BTreeMap, BTreeSet};

/// One metric of a page.
#[derive(Debug, Default)]
pub(crate) struct Metric {
    pub(crate) kind: String,
    /// Name with labels as written, and value.
    pub(crate) samples: Vec<(String, f64)>,
}

/// A page, by the names of its metrics.
pub(crate) type Page = BTreeMap<String, Metric>;

/// Reads a page.
pub(crate) fn read(text: &str) -> Result<Page, String> {
    let mut page = Page::new();
    let mut seen = BTreeSet::new();
    let mut current = String::new();
    if !text.ends_with('\n') {
        return Err("the last line has no end".to_owned());
    }
    for line in text.lines() {
        let bad = |why: &str| format!("{why}: {line}");
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').ok_or_else(|| bad("HELP without a text"))?;
            if !is_name(name) || help.trim().is_empty() {
                return Err(bad("no name or no text"));
            }
            if page.insert(name.to_owned(), Metric::default()).is_some() {
                return Err(bad("a metric stands twice"));
            }
            name.clone_into(&mut current);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or_else(|| bad("TYPE without a kind"))?;
            if name != current || !["counter", "gauge", "histogram"].contains(&kind) {
                return Err(bad("TYPE of another metric, or of no kind"));
            }
            if (kind == "counter") != name.ends_with("_total") {
                return Err(bad("counters end in _total, and nothing else does"));
            }
            kind.clone_into(&mut page.get_mut(name).expect("current").kind);
        } else if line.starts_with('#') || line.is_empty() {
            return Err(bad("neither HELP, TYPE nor a sample"));
        } else {
            let (series, value) = line.rsplit_once(' ').ok_or_else(|| bad("no value"))?;
            let value: f64 = value.parse().map_err(|_| bad("not a number"))?;
            let metric = page.get_mut(&current).ok_or_else(|| bad("a sample before its HELP"))?;
            let bare = series.split('{').next().unwrap_or_default();
            let ending = bare.strip_prefix(&current).ok_or_else(|| bad("a sample of another metric"))?;
            let endings: &[&str] =
                if metric.kind == "histogram" { &["_sum", "_count", "_bucket"] } else { &[""] };
            if metric.kind.is_empty() || !endings.contains(&ending) {
                return Err(bad("a sample without TYPE, or with a wrong ending"));
            }
            labels(series)?;
            if !seen.insert(series.to_owned()) {
                return Err(bad("a sample stands twice"));
            }
            if value < 0.0 || value.is_nan() {
                return Err(bad("nothing here can be negative"));
            }
            metric.samples.push((series.to_owned(), value));
        }
    }
    page.iter().try_for_each(|(name, metric)| check_steps(name, metric))?;
    Ok(page)
}

/// Names and values of labels.
pub(crate) type Labels = Vec<(String, String)>;

/// Those of a sample.
pub(crate) fn labels(series: &str) -> Result<Labels, String> {
    let Some((_, rest)) = series.split_once('{') else { return Ok(Vec::new()) };
    let bad = || format!("labels cannot be read: {series}");
    let mut rest = rest.strip_suffix('}').ok_or_else(bad)?;
    let mut labels = Vec::new();
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"").ok_or_else(bad)?;
        if !is_name(name) {
            return Err(bad());
        }
        let mut value = String::new();
        let mut letters = after.char_indices();
        let end = loop {
            match letters.next().ok_or_else(bad)? {
                (at, '"') => break at,
                (_, '\\') => match letters.next().ok_or_else(bad)?.1 {
                    'n' => value.push('\n'),
                    letter @ ('"' | '\\') => value.push(letter),
                    _ => return Err(bad()),
                },
                (_, letter) => value.push(letter),
            }
        };
        labels.push((name.to_owned(), value));
        rest = &after[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    Ok(labels)
}

/// Steps of a histogram never fall, end in `+Inf`, and the last is the count.
fn check_steps(name: &str, metric: &Metric) -> Result<(), String> {
    if metric.kind != "histogram" {
        return Ok(());
    }
    let mut by_labels: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
    for (series, value) in
        metric.samples.iter().filter(|(series, _)| series.starts_with(&format!("{name}_bucket")))
    {
        let (ends, others): (Vec<_>, Vec<_>) =
            labels(series)?.into_iter().partition(|(label, _)| label == "le");
        let [(_, end)] = &ends[..] else { return Err(format!("no le: {series}")) };
        let end = end.parse::<f64>().map_err(|_| format!("le is no number: {series}"))?;
        by_labels.entry(others).or_default().push((end, *value));
    }
    for (labels, steps) in by_labels {
        let rises = steps.is_sorted_by(|one, next| one.0 < next.0 && one.1 <= next.1);
        let count = metric.samples.iter().find(|(series, _)| {
            series.starts_with(&format!("{name}_count")) && self::labels(series).as_ref() == Ok(&labels)
        });
        let last = steps.last().copied();
        if !rises
            || last.map(|(end, _)| end) != Some(f64::INFINITY)
            || last.map(|(_, n)| n) != count.map(|(_, n)| *n)
        {
            return Err(format!("the steps of {name} {labels:?} do not fit together: {steps:?}"));
        }
    }
    Ok(())
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|letter: char| letter.is_ascii_digit())
        && name.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_')
}

/// Rows of the table in docs/monitoring.md: name, kind.
pub(crate) fn documented() -> BTreeMap<String, String> {
    let path = format!("{}/../../docs/monitoring.md", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| {
        let mut cells = row.split('|').map(str::trim);
        let name = cells.next()?.trim_end_matches('`').to_owned();
        let kind = cells.next()?.to_owned();
        ["counter", "gauge", "histogram"].contains(&kind.as_str()).then_some((name, kind))
    })
    .collect()
}

/// Holds a page against the table: all of the page stands there, and of the names that begin with one of `own`
/// everything there stands on the page.
pub(crate) fn compare_with_the_documentation(page: &Page, own: &[&str]) {
    let documented = documented();
    for (name, metric) in page {
        assert_eq!(documented.get(name), Some(&metric.kind), "{name} in docs/monitoring.md");
    }
    for name in documented.keys().filter(|name| own.iter().any(|prefix| name.starts_with(prefix))) {
        assert!(page.contains_key(name), "{name} of docs/monitoring.md is on no page");
    }
}
