//! `crowd growth`: what the same work costs at several sizes of a site.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use miette::{IntoDiagnostic as _, Result};
use rusqlite::Connection;
use serde::Serialize;
use serde_json::json;

use super::device::{self, Afterwards, Played};
use super::figures::{milliseconds, ratio};
use super::poll::{self, Kind, Load};
use super::results::{Check, Results};
use super::target::{Target, TargetArgs};
use super::watch::{Holding, mebibytes};
use super::{AT_ONCE, keys, keys_folder, runtime};
use crate::process::cpu_of_trees;

/// How long the site is watched while nobody asks anything.
const IDLE: Duration = Duration::from_secs(5);
/// How long the site's own writes may hold up the filling of its database.
const BUSY: Duration = Duration::from_mins(1);
/// Most that one operation may cost at the largest size, in percent of the smallest.
const COST_PERCENT: f64 = 150.0;
/// Polls, and registrations, under way at once.
const POLLS_AT_ONCE: u32 = 32;

/// A site that grows.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: TargetArgs,
    /// What there is more and more of
    #[arg(long, value_enum, default_value_t = What::Devices)]
    what: What,
    /// How many, in rising order
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000, 100_000])]
    sizes: Vec<u32>,
    /// Devices that register at each size
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    registrations: u32,
    /// Devices that poll at each size
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    devices: u32,
    /// How long they poll at each size
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Write the section of docs/performance.md
    #[arg(long)]
    write_docs: bool,
}

/// What a site may have many of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// Devices in the database: copies of a registered one, each with an id, a key and a name of its own
    Devices,
    /// Published roles
    Roles,
}

/// What the work came to at one size.
#[derive(Debug, Clone, Copy, Serialize)]
struct Point {
    size: u32,
    registrations_per_second: f64,
    /// CPU of all roles, in milliseconds.
    registration_cpu_ms: f64,
    polls_per_second: f64,
    poll_cpu_ms: f64,
    poll_p99: Duration,
    /// CPU of the site while nobody asks anything, in percent of a core.
    idle_cpu_percent: f64,
    site: Holding,
    failures: u64,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let target = Target::new(&arguments.target).into_diagnostic()?;
    let Some(database) = target.database() else {
        miette::bail!("only a site that was started here is filled: leave --ready-file out");
    };
    if !arguments.sizes.is_sorted() || arguments.sizes.is_empty() {
        miette::bail!("name sizes in rising order");
    }
    let runtime = runtime()?;
    let steps = u32::try_from(arguments.sizes.len()).unwrap_or(1);
    let all = arguments.devices + arguments.registrations * steps;
    let mut keys = keys::take(&keys_folder(), all).into_diagnostic()?;
    let fresh = keys.split_off(arguments.devices as usize);
    let made = device::make(&target.site, [keys, fresh].concat()).into_diagnostic()?;
    let mut waiting = made.into_iter();
    let mut next = |count: u32| waiting.by_ref().take(count as usize).collect::<Vec<_>>();
    let token = target.bulk_token().into_diagnostic()?;
    let enter = |devices: Vec<Played>, afterwards| {
        runtime.block_on(device::enter(devices, &token.text, AT_ONCE, afterwards, Duration::from_mins(10)))
    };
    eprintln!("registering {} devices", arguments.devices);
    let (mut pollers, _) = enter(next(arguments.devices), Afterwards::Confirm);
    let load = Load { seconds: arguments.seconds, rate: 0.0, at_once: POLLS_AT_ONCE, kind: Kind::Policy };
    (pollers, _) = runtime.block_on(poll::all_once(pollers, load));

    let mut points = Vec::new();
    let mut there = 1;
    for size in arguments.sizes.iter().copied() {
        eprintln!("{size} {}", arguments.what.name());
        match arguments.what {
            What::Devices => fill(&database, size).into_diagnostic()?,
            What::Roles => publish(&target, there, size)?,
        }
        there = there.max(size);
        let pids: Vec<_> = target.site.pids.values().copied().collect();
        let site = target.pid("site").into_diagnostic()?;
        let (idle, ()) = cpu(&[site], || std::thread::sleep(IDLE));
        let began = Instant::now();
        let (registering, (_, entry)) =
            cpu(&pids, || enter(next(arguments.registrations), Afterwards::Nothing));
        let registered = began.elapsed();
        let (polling, (again, tally, took)) =
            cpu(&pids, || runtime.block_on(poll::polls(std::mem::take(&mut pollers), load)));
        pollers = again;
        let (registrations, polls) = (entry.times.count(), tally.latency.count());
        points.push(Point {
            size,
            registrations_per_second: ratio(registrations, registered.as_secs_f64()),
            registration_cpu_ms: each(registering, registrations),
            polls_per_second: ratio(polls, took.as_secs_f64()),
            poll_cpu_ms: each(polling, polls),
            poll_p99: tally.latency.at_permille(990),
            idle_cpu_percent: idle.as_secs_f64() / IDLE.as_secs_f64() * 100.0,
            site: Holding::of(site),
            failures: entry.given_up.total() + tally.errors.total(),
        });
    }
    target.block(&token).into_diagnostic()?;
    report(arguments, &points)
}

impl What {
    const fn name(self) -> &'static str {
        match self {
            Self::Devices => "devices in the database",
            Self::Roles => "published roles",
        }
    }
}

fn report(arguments: &Arguments, points: &[Point]) -> Result<ExitCode> {
    let what = arguments.what.name();
    let name = if arguments.what == What::Devices { "crowd-growth-devices" } else { "crowd-growth-roles" };
    let mut results = Results::new(name, format!("Cost with more and more {what}"));
    for point in points {
        let size = point.size;
        results.row(
            format!("{size} {what}: registrations"),
            format!("{:.0}/s, {:.2} ms CPU each", point.registrations_per_second, point.registration_cpu_ms),
        );
        results.row(
            format!("{size} {what}: policy polls"),
            format!(
                "{:.0}/s, {:.2} ms CPU each, p99 {}",
                point.polls_per_second,
                point.poll_cpu_ms,
                milliseconds(point.poll_p99)
            ),
        );
        results.row(
            format!("{size} {what}: site"),
            format!(
                "{} PSS, {:.1} % of a core when idle",
                mebibytes(point.site.proportional),
                point.idle_cpu_percent
            ),
        );
    }
    if let (Some(first), Some(last)) = (points.first(), points.last()) {
        for (what, one, other) in [
            ("registration", first.registration_cpu_ms, last.registration_cpu_ms),
            ("policy poll", first.poll_cpu_ms, last.poll_cpu_ms),
        ] {
            let percent = if one > 0.0 { other / one * 100.0 } else { f64::INFINITY };
            let title = format!("CPU of a {what} at the largest size against the smallest");
            let bound = format!("{COST_PERCENT:.0} %");
            results.checks.push(Check::new(title, bound, format!("{percent:.0} %"), percent <= COST_PERCENT));
        }
    }
    let failed: u64 = points.iter().map(|point| point.failures).sum();
    results.checks.push(Check::new("failures", "0", failed, failed == 0));
    results.data = json!({ "points": points });
    results.finish(arguments.write_docs).into_diagnostic()
}

/// Fills the table of devices up to `size` rows with copies of one of them. The rows are what a
/// registration leaves, but for their keys, which nobody has.
fn fill(database: &Path, size: u32) -> rusqlite::Result<()> {
    let mut connection = Connection::open(database)?;
    connection.busy_timeout(BUSY)?;
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let there: u32 = transaction.query_row("SELECT COUNT(*) FROM device", [], |row| row.get(0))?;
    let columns: Vec<String> = transaction
        .prepare("SELECT name FROM pragma_table_info('device')")?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let values: Vec<_> = columns.iter().map(|column| of_copy(column)).collect();
    // Table and columns are the schema's own names; what is counted is bound.
    let statement = format!(
        "WITH RECURSIVE n(i) AS (SELECT ?1 + 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?2)
         INSERT INTO device ({}) SELECT {} FROM n, (SELECT * FROM device LIMIT 1) AS d WHERE ?1 < ?2",
        columns.join(", "),
        values.join(", ")
    );
    transaction.execute(&statement, [there, size])?;
    transaction.commit()
}

/// What a copy has in a column: its own where rows must differ, else the original's.
fn of_copy(column: &str) -> String {
    match column {
        "client_id" => "randomblob(16)".to_owned(),
        "signing_thumbprint" => "randomblob(32)".to_owned(),
        "hardware_id" => "'2:' || hex(randomblob(20))".to_owned(),
        "name" | "name_key" | "fqdn" => "'filled-' || i".to_owned(),
        other => format!("d.{other}"),
    }
}

/// Publishes roles until there are so many. They are names and addresses; nobody is asked there.
fn publish(target: &Target, there: u32, size: u32) -> Result<()> {
    for number in there..size {
        let url = format!("https://mp{number}.example.org");
        target
            .operate(&["role", "add", &format!("MP{}", number + 1), "--internal-url", &url])
            .into_diagnostic()?;
    }
    target.settle().into_diagnostic()
}

/// CPU that these processes used meanwhile.
fn cpu<T>(pids: &[u32], work: impl FnOnce() -> T) -> (Duration, T) {
    let before = cpu_of_trees(pids);
    let done = work();
    (cpu_of_trees(pids).saturating_sub(before), done)
}

/// Milliseconds for each of so many.
#[expect(clippy::cast_precision_loss, reason = "a figure for people to read")]
fn each(all: Duration, count: u64) -> f64 {
    if count == 0 { 0.0 } else { all.as_secs_f64() * 1000.0 / count as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_filled_with_devices_that_differ_and_never_emptied() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("site.db");
        let connection = Connection::open(&path).unwrap();
        connection
            .execute_batch(
                "CREATE TABLE device (client_id BLOB PRIMARY KEY, name TEXT, name_key TEXT, fqdn TEXT, hardware_id TEXT,
                 signing_thumbprint BLOB NOT NULL UNIQUE, approval TEXT);
                 INSERT INTO device VALUES (x'01', 'a', 'a', 'a', NULL, x'02', 'approved');",
            )
            .unwrap();
        let count = |what: &str| {
            connection.query_row(&format!("SELECT COUNT({what}) FROM device"), [], |row| row.get(0)).unwrap()
        };
        for (size, expected) in [(50, 50), (20, 50), (120, 120)] {
            fill(&path, size).unwrap();
            let counted: u32 = count("*");
            assert_eq!(counted, expected);
        }
        for column in ["client_id", "name_key", "signing_thumbprint"] {
            let different: u32 = count(&format!("DISTINCT {column}"));
            assert_eq!(different, 120, "{column}");
        }
        let copied: u32 = count("CASE WHEN approval = 'approved' THEN 1 END");
        assert_eq!(copied, 120);
    }

    #[test]
    fn a_cost_is_divided_by_what_it_paid_for() {
        assert!((each(Duration::from_secs(3), 1500) - 2.0).abs() < 1e-9);
        assert!(each(Duration::from_secs(3), 0).abs() < 1e-9);
    }
}
