//! What a measurement told.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::load::Outcome;
use crate::report::Spread;

/// A quantity that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Figure {
    /// Answers, or handshakes, in a second.
    PerSecond,
    /// Median time in milliseconds.
    P50Ms,
    /// Time that 99 of 100 did not exceed, in milliseconds.
    P99Ms,
    /// CPU seconds of all processes but the load generator for 100,000 of them.
    CpuPer100k,
    /// CPU microseconds of the process that devices meet, for each.
    FrontCpuMicros,
    /// CPU microseconds of the connection point, for each; ours only.
    InsideCpuMicros,
    /// Mebibytes of bodies in a second.
    MibPerSecond,
    /// CPU seconds of all processes but the load generator for a gigabyte.
    CpuPerGb,
    /// Memory of the process that devices meet, KiB for each connection.
    KibPerConnection,
    /// Memory of all processes but the inner server, KiB for each connection.
    KibInAll,
    /// Share of handshakes that resumed a session.
    ResumedShare,
}

impl Figure {
    /// Its heading in a table.
    pub(super) const fn heading(self) -> &'static str {
        match self {
            Self::PerSecond => "per second",
            Self::P50Ms => "p50 ms",
            Self::P99Ms => "p99 ms",
            Self::CpuPer100k => "CPU s/100k",
            Self::FrontCpuMicros => "front CPU µs",
            Self::InsideCpuMicros => "inside CPU µs",
            Self::MibPerSecond => "MiB/s",
            Self::CpuPerGb => "CPU s/GB",
            Self::KibPerConnection => "KiB/connection",
            Self::KibInAll => "KiB in all",
            Self::ResumedShare => "resumed",
        }
    }
}

/// One measurement of one peer.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Sample {
    /// What was measured: the row, or a part of it.
    pub(super) series: String,
    /// Who was measured.
    pub(super) peer: String,
    /// Which turn, from 0.
    pub(super) round: u32,
    /// The figures.
    pub(super) figures: BTreeMap<Figure, f64>,
    /// Errors by kind.
    pub(super) errors: BTreeMap<String, u64>,
}

/// CPU time that was used during a measurement.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Used {
    /// By the process that devices meet.
    pub(super) front: Duration,
    /// By all processes but the load generator.
    pub(super) all: Duration,
    /// By the connection point.
    pub(super) inside: Option<Duration>,
}

/// The figures of requests or handshakes.
pub(super) fn figures(outcome: &Outcome, used: Used) -> BTreeMap<Figure, f64> {
    let mut figures = BTreeMap::new();
    let seconds = outcome.elapsed.as_secs_f64();
    if outcome.done == 0 || seconds <= 0.0 {
        return figures;
    }
    #[expect(clippy::cast_precision_loss, reason = "counts of a measurement are small")]
    let (done, bytes, resumed) = (outcome.done as f64, outcome.bytes as f64, outcome.resumed as f64);
    figures.insert(Figure::PerSecond, done / seconds);
    for (figure, share) in [(Figure::P50Ms, 0.5), (Figure::P99Ms, 0.99)] {
        if let Some(time) = outcome.latency.quantile(share) {
            figures.insert(figure, time.as_secs_f64() * 1000.0);
        }
    }
    figures.insert(Figure::CpuPer100k, used.all.as_secs_f64() / done * 1e5);
    figures.insert(Figure::FrontCpuMicros, used.front.as_secs_f64() / done * 1e6);
    if let Some(inside) = used.inside {
        figures.insert(Figure::InsideCpuMicros, inside.as_secs_f64() / done * 1e6);
    }
    figures.insert(Figure::ResumedShare, resumed / done);
    if bytes > 0.0 {
        figures.insert(Figure::MibPerSecond, bytes / seconds / (1024.0 * 1024.0));
        figures.insert(Figure::CpuPerGb, used.all.as_secs_f64() / (bytes / 1e9));
    }
    figures
}

/// Everything that was measured, and what could not be.
#[derive(Debug, Default, Serialize)]
pub(super) struct Results {
    /// Each measurement.
    pub(super) samples: Vec<Sample>,
    /// Peers by name, with their titles.
    pub(super) titles: BTreeMap<String, String>,
    /// Peers and rows that were left out, and why.
    pub(super) skipped: BTreeMap<String, String>,
}

impl Results {
    /// One figure of a peer over all rounds.
    pub(super) fn figure(&self, series: &str, peer: &str, figure: Figure) -> Option<Spread> {
        Spread::of(self.rounds(series, peer, figure).into_values())
    }

    /// The ratio of a figure of ours to a peer's, formed within each round.
    pub(super) fn ratio(&self, ours: (&str, &str), theirs: (&str, &str), figure: Figure) -> Option<Spread> {
        let theirs = self.rounds(theirs.0, theirs.1, figure);
        let ours = self.rounds(ours.0, ours.1, figure);
        Spread::of(ours.iter().filter_map(|(round, value)| Some(value / theirs.get(round)?)))
    }

    /// One figure of a peer by round.
    pub(super) fn rounds(&self, series: &str, peer: &str, figure: Figure) -> BTreeMap<u32, f64> {
        let of_both = self.samples.iter().filter(|one| one.series == series && one.peer == peer);
        of_both.filter_map(|one| Some((one.round, *one.figures.get(&figure)?))).collect()
    }

    /// What went otherwise than it must, of those peers that are wanted.
    pub(super) fn problems(&self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let samples = || self.samples.iter().filter(|sample| wanted(&sample.peer));
        let errors = samples().flat_map(|sample| {
            sample.errors.iter().map(move |(kind, count)| {
                format!("{} {} round {}: {count} × {kind}", sample.series, sample.peer, sample.round)
            })
        });
        let empty = samples().filter(|sample| sample.figures.is_empty());
        let empty =
            empty.map(|one| format!("{} {} round {}: nothing measured", one.series, one.peer, one.round));
        errors.chain(empty).collect()
    }

    /// Requests of those peers that were answered otherwise than they must be.
    pub(super) fn errors(&self, wanted: impl Fn(&str) -> bool) -> u64 {
        let samples = self.samples.iter().filter(|sample| wanted(&sample.peer));
        samples.flat_map(|sample| sample.errors.values()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(peer: &str, round: u32, rate: f64) -> Sample {
        Sample {
            series: "get64".to_owned(),
            peer: peer.to_owned(),
            round,
            figures: BTreeMap::from([(Figure::PerSecond, rate)]),
            errors: BTreeMap::new(),
        }
    }

    #[test]
    fn a_ratio_is_formed_within_each_round() {
        let results = Results {
            samples: vec![
                sample("roamgate", 0, 20.0),
                sample("nginx", 0, 10.0),
                sample("roamgate", 1, 30.0),
                sample("nginx", 1, 10.0),
                // Without a partner in its round it says nothing.
                sample("roamgate", 2, 900.0),
            ],
            ..Results::default()
        };
        let ratio = results.ratio(("get64", "roamgate"), ("get64", "nginx"), Figure::PerSecond).unwrap();
        assert!((ratio.median - 2.5).abs() < 1e-9 && (ratio.min - 2.0).abs() < 1e-9);
        assert!((ratio.max - 3.0).abs() < 1e-9);
        assert!(results.ratio(("get64", "roamgate"), ("get64", "bore"), Figure::PerSecond).is_none());
    }

    #[test]
    fn figures_are_per_request_and_per_byte() {
        let mut outcome: Outcome = serde_json::from_value(serde_json::json!({
            "done": 1000, "bytes": 2_000_000_000_u64, "elapsed": {"secs": 2, "nanos": 0},
            "latency": {"counts": vec![0; 1024]}, "resumed": 500, "errors": {}
        }))
        .unwrap();
        let used = Used {
            front: Duration::from_millis(100),
            all: Duration::from_millis(400),
            inside: Some(Duration::from_millis(200)),
        };
        let figures = super::figures(&outcome, used);
        for (figure, value) in [
            (Figure::PerSecond, 500.0),
            (Figure::CpuPer100k, 40.0),
            (Figure::FrontCpuMicros, 100.0),
            (Figure::InsideCpuMicros, 200.0),
            (Figure::CpuPerGb, 0.2),
            (Figure::ResumedShare, 0.5),
        ] {
            assert!((figures[&figure] - value).abs() < 1e-9, "{figure:?} {}", figures[&figure]);
        }
        outcome.done = 0;
        assert!(super::figures(&outcome, used).is_empty());
    }

    #[test]
    fn errors_and_empty_measurements_are_problems() {
        let mut bad = sample("nginx", 0, 1.0);
        bad.errors.insert("read: cut".to_owned(), 3);
        let mut empty = sample("ssh", 1, 1.0);
        empty.figures.clear();
        let results = Results { samples: vec![sample("direct", 0, 1.0), bad, empty], ..Results::default() };
        let problems = results.problems(|_| true);
        assert_eq!(problems, ["get64 nginx round 0: 3 × read: cut", "get64 ssh round 1: nothing measured"]);
        assert_eq!(results.problems(|peer| peer == "ssh"), ["get64 ssh round 1: nothing measured"]);
        assert_eq!((results.errors(|_| true), results.errors(|peer| peer == "direct")), (3, 0));
    }
}
