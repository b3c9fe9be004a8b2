//! What was measured beside what must be: text, JSON, chart, and the section of the documentation.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Serialize;

use super::Plan;
use super::measure::{Figure, Results};
use super::peer::{
    DIRECT, HAPROXY, HAPROXY_REVERSE, NGINX, NGINX_TLS, NGINX_TWICE, NGINX_TWICE_TLS, OURS, PEERS, RATHOLE,
    SSH, WSTUNNEL,
};
use super::row::{CONNECTIONS, RATES};
use crate::report::{
    Bar, Bound, Line, Machine, SectionError, Target, bar_chart, markdown_lines, markdown_table, short,
    text_lines, text_table, write_section,
};

/// A ratio of the table: ours to theirs.
struct Comparison {
    title: &'static str,
    figure: Figure,
    series: (&'static str, &'static str),
    peer: &'static str,
    /// Must and aim.
    target: Option<(f64, f64)>,
    more_is_better: bool,
}

const fn more(
    title: &'static str,
    series: &'static str,
    figure: Figure,
    peer: &'static str,
    must: f64,
    aim: f64,
) -> Comparison {
    Comparison {
        title,
        figure,
        series: (series, series),
        peer,
        target: Some((must, aim)),
        more_is_better: true,
    }
}

const fn less(
    title: &'static str,
    series: &'static str,
    figure: Figure,
    peer: &'static str,
    must: f64,
    aim: f64,
) -> Comparison {
    Comparison { more_is_better: false, ..more(title, series, figure, peer, must, aim) }
}

const fn told(title: &'static str, series: &'static str, figure: Figure, peer: &'static str) -> Comparison {
    Comparison { title, figure, series: (series, series), peer, target: None, more_is_better: true }
}

/// The same as the line above it, against the proxy that has TLS inside as we have. It has no target: targets are
/// against the proxy that does less.
const fn like_ours(series: &'static str, figure: Figure) -> Comparison {
    told("… vs nginx proxy with TLS inside, as ours", series, figure, NGINX_TLS)
}

/// The table of `performance.md`, section 3, as far as it is about the relay.
static COMPARISONS: &[Comparison] = &[
    more("GET, 64 connections: requests/s vs nginx proxy", "get64", Figure::PerSecond, NGINX, 1.0, 1.15),
    like_ours("get64", Figure::PerSecond),
    more("… vs wstunnel", "get64", Figure::PerSecond, WSTUNNEL, 1.45, 1.65),
    more("… vs rathole TLS", "get64", Figure::PerSecond, RATHOLE, 1.6, 1.9),
    more("… vs haproxy reverse HTTP/2", "get64", Figure::PerSecond, HAPROXY_REVERSE, 2.3, 2.6),
    more("… vs direct", "get64", Figure::PerSecond, DIRECT, 0.45, 0.52),
    told("… vs nginx → nginx", "get64", Figure::PerSecond, NGINX_TWICE),
    told("… vs nginx → nginx with TLS inside", "get64", Figure::PerSecond, NGINX_TWICE_TLS),
    told("… vs haproxy proxy", "get64", Figure::PerSecond, HAPROXY),
    told("… vs ssh -R", "get64", Figure::PerSecond, SSH),
    less("CPU per request vs nginx proxy", "get64", Figure::CpuPer100k, NGINX, 1.0, 0.85),
    like_ours("get64", Figure::CpuPer100k),
    less("p99 at 64 connections vs nginx proxy", "get64", Figure::P99Ms, NGINX, 1.0, 0.6),
    like_ours("get64", Figure::P99Ms),
    told("CCM_POST of 2 KiB: requests/s vs nginx proxy", "post64", Figure::PerSecond, NGINX),
    like_ours("post64", Figure::PerSecond),
    less("one connection: p50 vs nginx proxy", "one", Figure::P50Ms, NGINX, 1.4, 1.2),
    like_ours("one", Figure::P50Ms),
    less("one connection: p50 vs nginx → nginx", "one", Figure::P50Ms, NGINX_TWICE, 0.95, 0.75),
    told("one connection, CCM_POST: p50 vs nginx proxy", "post-one", Figure::P50Ms, NGINX),
    like_ours("post-one", Figure::P50Ms),
    less("fresh connection to first answer vs nginx proxy", "fresh", Figure::P50Ms, NGINX, 1.1, 0.9),
    like_ours("fresh", Figure::P50Ms),
    Comparison {
        series: ("fresh", "fresh-asked"),
        ..told("… vs nginx that asks for the device's certificate, too", "fresh", Figure::P50Ms, NGINX)
    },
    less("… vs rathole TLS", "fresh", Figure::P50Ms, RATHOLE, 0.1, 0.03),
    told("… resumed, vs nginx proxy resumed", "fresh-resumed", Figure::P50Ms, NGINX),
    less("handshake CPU, ECDSA, vs nginx", "handshake-ecdsa", Figure::FrontCpuMicros, NGINX, 0.7, 0.56),
    less("handshake CPU, RSA, vs nginx", "handshake-rsa", Figure::FrontCpuMicros, NGINX, 0.8, 0.68),
    less("handshake CPU, resumed, vs nginx", "handshake-resumed", Figure::FrontCpuMicros, NGINX, 0.7, 0.6),
    told("handshake CPU, device's certificate shown", "handshake-shown", Figure::FrontCpuMicros, NGINX),
    more("64 MiB, one stream: rate vs nginx proxy", "download", Figure::MibPerSecond, NGINX, 0.9, 1.0),
    like_ours("download", Figure::MibPerSecond),
    less("64 MiB: CPU per GB vs nginx → nginx", "download", Figure::CpuPerGb, NGINX_TWICE, 0.75, 0.65),
    more("GETs beside two downloads: requests/s vs nginx", "beside", Figure::PerSecond, NGINX, 0.9, 1.1),
    like_ours("beside", Figure::PerSecond),
    less("GETs beside two downloads: p99 vs nginx", "beside", Figure::P99Ms, NGINX, 1.25, 0.8),
    like_ours("beside", Figure::P99Ms),
    less("memory per idle connection vs nginx", "idle", Figure::KibPerConnection, NGINX, 1.15, 0.85),
    told("… of all processes, vs rathole TLS", "idle", Figure::KibInAll, RATHOLE),
    Comparison {
        series: ("auth-token", "auth-certificate"),
        ..more(
            "relay with a token in each request vs a certificate judged once for a connection: requests/s",
            "auth-token",
            Figure::PerSecond,
            OURS,
            0.95,
            0.98,
        )
    },
    Comparison {
        series: ("auth-token", "auth-certificate"),
        ..told("… CPU per request", "auth-token", Figure::CpuPer100k, OURS)
    },
    Comparison {
        series: ("limits-on", "limits-off"),
        ..told("relay with all limits counted vs all off: requests/s", "limits-on", Figure::PerSecond, OURS)
    },
    Comparison {
        series: ("limits-on", "limits-off"),
        ..told("… CPU per request", "limits-on", Figure::CpuPer100k, OURS)
    },
];

/// Everything that was found, ready to be shown.
#[derive(Debug, Serialize)]
pub(super) struct Table {
    command: String,
    date: String,
    machine: Machine,
    rounds: u32,
    seconds: f64,
    lines: Vec<Line>,
    #[serde(flatten)]
    results: Results,
}

impl Table {
    pub(super) fn of(plan: &Plan, results: Results) -> Self {
        let command: Vec<String> = std::env::args().skip(1).collect();
        #[expect(clippy::cast_precision_loss, reason = "minutes at most")]
        let seconds = plan.measure_ms as f64 / 1000.0;
        Self {
            command: format!("roamgate-bench {}", command.join(" ")),
            date: jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
            machine: Machine::here(),
            rounds: plan.rounds,
            seconds,
            lines: lines(&results),
            results,
        }
    }

    /// What went otherwise than it must: of ours, and of the others.
    pub(super) fn problems(&self) -> (Vec<String>, Vec<String>) {
        (self.results.problems(is_ours), self.results.problems(|peer| !is_ours(peer)))
    }

    /// For a terminal.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (series, figures) in SHOWN {
            if let Some((headings, rows)) = self.of_series(series, figures) {
                let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
                let _ = write!(text, "\n{}\n", text_table(&headings, &rows));
            }
        }
        if !self.lines.is_empty() {
            let _ = write!(text, "\n{}", text_lines(&self.lines));
        }
        for (what, why) in &self.results.skipped {
            let _ = writeln!(text, "left out: {what}: {why}");
        }
        text
    }

    /// Results as JSON, in a file of this name.
    pub(super) fn keep(&self, file: &str) -> Result<(), SectionError> {
        let json = serde_json::to_string_pretty(self).unwrap_or_default() + "\n";
        put(crate::lab::project_root().join("bench").join("results").join(file), &json)
    }

    /// The chart, and the section of the documentation.
    pub(super) fn write_docs(&self) -> Result<(), SectionError> {
        let docs = crate::lab::project_root().join("docs");
        let chart = bar_chart("GET of 1 KiB, 64 connections: requests per second", &self.bars());
        put(docs.join("performance.svg"), &chart)?;
        write_section(&docs.join("performance.md"), "relay", &self.markdown())
    }

    fn markdown(&self) -> String {
        let Self { command, date, machine, rounds, seconds, .. } = self;
        let (ours, others) = (self.results.errors(is_ours), self.results.errors(|peer| !is_ours(peer)));
        let mut text = format!(
            "Measured on {date} by `{command}`: {rounds} rounds, everybody in turn, {seconds} s each; load generator \
             and everything measured on one machine ({machine}). Only ratios within the run mean anything. Requests \
             answered otherwise than they must be: {ours} by Roamgate, {others} by others.\n\n![Requests per second](performance.svg)\n\n{}",
            markdown_lines(&self.lines)
        );
        for (series, figures) in SHOWN {
            if let Some((headings, rows)) = self.of_series(series, figures) {
                let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
                let _ = write!(text, "\n{}", markdown_table(&headings, &rows));
            }
        }
        for (what, why) in &self.results.skipped {
            let _ = write!(text, "\nLeft out: {what} ({why}).\n");
        }
        text
    }

    /// Medians of a series: a row for each peer.
    fn of_series(&self, series: &str, figures: &[Figure]) -> Option<(Vec<String>, Vec<Vec<String>>)> {
        let headings = std::iter::once(series.to_owned());
        let headings = headings.chain(figures.iter().map(|figure| figure.heading().to_owned())).collect();
        let rows: Vec<Vec<String>> = peers()
            .filter(|peer| self.results.samples.iter().any(|one| one.series == series && one.peer == *peer))
            .map(|peer| {
                let title = self.results.titles.get(peer).cloned().unwrap_or_else(|| peer.to_owned());
                let cells = figures.iter().map(|figure| {
                    let spread = self.results.figure(series, peer, *figure);
                    spread.map_or_else(|| "–".to_owned(), |spread| short(spread.median))
                });
                std::iter::once(title).chain(cells).collect()
            })
            .collect();
        (!rows.is_empty()).then_some((headings, rows))
    }

    fn bars(&self) -> Vec<Bar> {
        let bar = |peer: &str| {
            let value = self.results.figure("get64", peer, Figure::PerSecond)?;
            Some(Bar { name: peer.to_owned(), value, is_ours: peer == OURS })
        };
        peers().filter_map(bar).collect()
    }
}

fn is_ours(peer: &str) -> bool {
    peer == OURS
}

fn put(path: PathBuf, text: &str) -> Result<(), SectionError> {
    let parent = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    parent.and_then(|()| std::fs::write(&path, text)).map_err(|source| SectionError::Io { path, source })
}

const REQUESTS: &[Figure] = &[
    Figure::PerSecond,
    Figure::P50Ms,
    Figure::P99Ms,
    Figure::CpuPer100k,
    Figure::FrontCpuMicros,
    Figure::InsideCpuMicros,
];
const HANDSHAKES: &[Figure] = &[Figure::PerSecond, Figure::FrontCpuMicros, Figure::ResumedShare];

/// Series that are shown, with the figures that matter in each.
static SHOWN: &[(&str, &[Figure])] = &[
    ("get64", REQUESTS),
    ("post64", REQUESTS),
    ("one", REQUESTS),
    ("post-one", REQUESTS),
    ("fresh", REQUESTS),
    ("fresh-asked", REQUESTS),
    ("fresh-resumed", &[Figure::P50Ms, Figure::P99Ms, Figure::ResumedShare]),
    ("handshake-ecdsa", HANDSHAKES),
    ("handshake-rsa", HANDSHAKES),
    ("handshake-resumed", HANDSHAKES),
    ("handshake-shown", HANDSHAKES),
    ("download", &[Figure::MibPerSecond, Figure::CpuPerGb]),
    ("beside", REQUESTS),
    ("idle", &[Figure::KibPerConnection, Figure::KibInAll]),
    ("auth-token", REQUESTS),
    ("auth-certificate", REQUESTS),
    ("limits-on", REQUESTS),
    ("limits-off", REQUESTS),
    ("growth-connections-1", REQUESTS),
    ("growth-connections-64", REQUESTS),
    ("growth-connections-1000", REQUESTS),
    ("growth-rate-500", REQUESTS),
    ("growth-rate-2000", REQUESTS),
    ("growth-rate-8000", REQUESTS),
];

/// Ours first, then everybody in the order in which they are started.
fn peers() -> impl Iterator<Item = &'static str> {
    std::iter::once(OURS).chain(PEERS.iter().map(|(id, _)| *id))
}

fn lines(results: &Results) -> Vec<Line> {
    let compared = COMPARISONS.iter().filter_map(|comparison| {
        let Comparison { title, figure, series, peer, target, more_is_better } = comparison;
        let bound = if *more_is_better { Bound::AtLeast } else { Bound::AtMost };
        Some(Line {
            title: (*title).to_owned(),
            value: results.ratio((series.0, OURS), (series.1, peer), *figure)?,
            target: target.map(|(must, aim)| Target { must: bound(must), aim: bound(aim) }),
        })
    });
    let share = results.figure("handshake-resumed", OURS, Figure::ResumedShare).map(|value| Line {
        title: "resumed share over all shards".to_owned(),
        value,
        target: Some(Target { must: Bound::AtLeast(0.99), aim: Bound::AtLeast(1.0) }),
    });
    compared.chain(share).chain(growth(results)).collect()
}

/// What a request costs at each size against the smallest, ours and the proxy's.
fn growth(results: &Results) -> Vec<Line> {
    let connections = CONNECTIONS.map(|(series, number)| (series, number.to_string())).to_vec();
    let rates = RATES.map(|(series, number)| (series, number.to_string())).to_vec();
    let mut lines = Vec::new();
    for (unit, sizes) in [("connections", connections), ("requests a second", rates)] {
        let Some(((smallest, least), larger)) = sizes.split_first() else { continue };
        for (series, size) in larger {
            for (peer, whose) in [(OURS, ""), (NGINX, ", nginx proxy")] {
                let ratio = results.ratio((series, peer), (smallest, peer), Figure::CpuPer100k);
                let title = format!("CPU per request at {size} {unit} vs at {least}{whose}");
                lines.extend(ratio.map(|value| Line { title, value, target: None }));
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::relay::measure::Sample;
    use crate::report::Verdict;

    fn sample(series: &str, peer: &str, figure: Figure, value: f64) -> Sample {
        Sample {
            series: series.to_owned(),
            peer: peer.to_owned(),
            round: 0,
            figures: BTreeMap::from([(figure, value)]),
            errors: BTreeMap::new(),
        }
    }

    #[test]
    fn each_bound_looks_the_right_way() {
        let results = Results {
            samples: vec![
                sample("get64", OURS, Figure::PerSecond, 110.0),
                sample("get64", NGINX, Figure::PerSecond, 100.0),
                sample("one", OURS, Figure::P50Ms, 1.5),
                sample("one", NGINX, Figure::P50Ms, 1.0),
                sample("handshake-resumed", OURS, Figure::ResumedShare, 1.0),
            ],
            ..Results::default()
        };
        let verdicts: Vec<_> = lines(&results).iter().map(Line::verdict).collect();
        assert_eq!(verdicts, [Verdict::Met, Verdict::NotMet, Verdict::Aim]);
    }

    #[test]
    fn no_comparison_names_a_series_that_nobody_measures() {
        let measured = |peer: &str, series: &str| {
            let mut all =
                super::super::row::RowId::ALL.into_iter().flat_map(|row| super::super::row::tasks(row, peer));
            all.any(|task| task.series == series)
        };
        for Comparison { title, series, peer, .. } in COMPARISONS {
            assert!(measured(OURS, series.0) && measured(peer, series.1), "{title}");
        }
    }
}
