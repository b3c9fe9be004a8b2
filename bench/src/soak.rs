//! A million requests, and connections torn by the hundred thousand: whether memory and descriptors of every
//! role stay where they were.

mod memory;
mod mix;
mod torn;

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use miette::{IntoDiagnostic as _, Result};
use serde_json::json;
use tokio::task::JoinSet;

use self::memory::{Growth, Roles};
use self::mix::{Outcome, Slot};
use crate::crowd::connection::{Gateway, Holder};
use crate::crowd::figures::{Histogram, Reasons, milliseconds, ratio};
use crate::crowd::results::{Check, Results};
use crate::crowd::target::{Target, TargetArgs};
use crate::crowd::watch::mebibytes;
use crate::crowd::{gateway_facts, identities, runtime};

/// Time after a part of the work until memory is looked at: pages that were freed go back a little later.
const SETTLE: Duration = Duration::from_secs(5);
/// Part of all connects that warms up.
const WARM_CONNECTS: u64 = 10;
/// Time for roles to let go of descriptors: longer than any kept connection idles.
const RELEASE: Duration = Duration::from_secs(100);

/// A long run at full speed.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: TargetArgs,
    /// Requests in all, a tenth of them such as are refused
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(0..=100_000_000))]
    requests: u64,
    /// Requests after which memory counts
    #[arg(long, default_value_t = 100_000)]
    warm_up: u64,
    /// Connects in all, half of them torn; a tenth warms up
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(0..=100_000_000))]
    connects: u64,
    /// Connections at once
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    at_once: u32,
    /// Requests on one connection before a fresh one takes its place
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    per_connection: u32,
    /// Registered devices, which take turns
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    identities: u32,
    /// End after so many minutes, done or not
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=1_440))]
    minutes: u64,
    /// Write the section of docs/performance.md
    #[arg(long)]
    write_docs: bool,
}

/// Runs it.
#[expect(clippy::needless_pass_by_value, reason = "all commands are called alike")]
pub(crate) fn run(arguments: Arguments) -> Result<ExitCode> {
    let arguments = &arguments;
    let target = Target::new(&arguments.target).into_diagnostic()?;
    let runtime = runtime()?;
    let roles = Roles::of(&target.site.pids);
    if roles.is_empty() {
        miette::bail!("no process of the site is known on this machine: its memory cannot be watched");
    }
    let credentials = identities(&runtime, &target, arguments.identities)?;
    let gateway = Gateway::new(&gateway_facts(&target.site, 1)).into_diagnostic()?;
    let holders: Result<Vec<_>, _> = credentials.iter().map(|one| Holder::new(&gateway, one, true)).collect();
    let work = Arc::new(Work {
        gateway,
        holders: holders.into_diagnostic()?,
        next_source: AtomicU64::new(0),
        per_connection: arguments.per_connection,
        until: Instant::now() + Duration::from_mins(arguments.minutes),
        tally: Mutex::default(),
    });

    let mut results = Results::new("soak", "Memory and descriptors over a long run");
    let before = roles.look();
    let mut growths = Vec::new();
    let warm_up = arguments.warm_up.min(arguments.requests);
    let took = {
        let began = Instant::now();
        eprintln!("{warm_up} requests to warm up");
        runtime.block_on(work.all(Kind::Requests, 0..warm_up, arguments.at_once));
        let warm = settled(&roles);
        let warm_took = began.elapsed().saturating_sub(SETTLE);
        eprintln!("{} more requests", arguments.requests - warm_up);
        let began = Instant::now();
        runtime.block_on(work.all(Kind::Requests, warm_up..arguments.requests, arguments.at_once));
        let took = began.elapsed();
        let after = settled(&roles);
        let (from, to) = (format!("{warm_up} requests"), format!("{} requests", arguments.requests));
        growths.push(Growth { from, to, warm, after });
        warm_took + took
    };
    let requests = work.take();
    let connects_took = {
        let warm_up = arguments.connects / WARM_CONNECTS;
        eprintln!("{} connects, half of them torn", arguments.connects);
        let began = Instant::now();
        runtime.block_on(work.all(Kind::Connects, 0..warm_up, arguments.at_once));
        let warm = settled(&roles);
        runtime.block_on(work.all(Kind::Connects, warm_up..arguments.connects, arguments.at_once));
        let took = began.elapsed().saturating_sub(SETTLE);
        let after = settled(&roles);
        let (from, to) = (format!("{warm_up} connects"), format!("{} connects", arguments.connects));
        growths.push(Growth { from, to, warm, after });
        took
    };
    let connects = work.take();
    let is_whole = Instant::now() < work.until;
    drop(work);
    eprintln!("waiting for descriptors to come back");
    let released = roles.wait_for_descriptors(&before, RELEASE);

    requests.rows(&mut results, "requests", took);
    connects.rows(&mut results, "connects", connects_took);
    for growth in &growths {
        growth.write(&roles, &mut results);
    }
    for (name, before, now) in released {
        results.row(format!("{name}: descriptors before and after"), format!("{before}, {now}"));
        let came_back = now <= before + memory::KEPT_DESCRIPTORS;
        let bound = format!("{before} and at most {} kept connections", memory::KEPT_DESCRIPTORS);
        results.checks.push(Check::new(format!("{name}: descriptors came back"), bound, now, came_back));
    }
    for (what, tally) in [("requests", &requests), ("connects", &connects)] {
        let wrong = tally.unexpected.total();
        let text = if wrong == 0 { "0".to_owned() } else { tally.unexpected.text() };
        results.checks.push(Check::new(
            format!("{what} answered otherwise than they should be"),
            "0",
            text,
            wrong == 0,
        ));
    }
    let done = if is_whole { "all" } else { "the time was over" };
    results.checks.push(Check::new("done", "all", done, is_whole));
    results.data =
        json!({"requests": requests.data(took), "connects": connects.data(connects_took), "growth": growths});
    results.finish(arguments.write_docs).into_diagnostic()
}

fn settled(roles: &Roles) -> Vec<crate::crowd::watch::Holding> {
    std::thread::sleep(SETTLE);
    roles.look()
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Requests,
    Connects,
}

/// Everything that workers share.
struct Work {
    gateway: Gateway,
    holders: Vec<Holder>,
    /// Number of the next connection: neighbours come from different addresses.
    next_source: AtomicU64,
    per_connection: u32,
    until: Instant,
    tally: Mutex<Tally>,
}

/// What was counted.
#[derive(Debug, Clone, Default)]
struct Tally {
    good: u64,
    /// As they should be, by kind.
    refused: Reasons,
    /// Torn on purpose, by kind.
    torn: Reasons,
    /// Answered otherwise than they should be, or not at all.
    unexpected: Reasons,
    connections: u64,
    latency: Histogram,
}

impl Work {
    /// Does the pieces with these numbers, so many at once.
    async fn all(self: &Arc<Self>, kind: Kind, numbers: std::ops::Range<u64>, at_once: u32) {
        let next = Arc::new(AtomicU64::new(numbers.start));
        let mut workers = JoinSet::new();
        for _ in 0..at_once {
            let (work, next, end) = (Arc::clone(self), Arc::clone(&next), numbers.end);
            workers.spawn(async move {
                let mut slot = Slot::default();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= end || Instant::now() >= work.until {
                        break;
                    }
                    let outcome = match kind {
                        Kind::Requests => mix::request(&work, &mut slot, number).await,
                        Kind::Connects => torn::connect(&work, number).await,
                    };
                    work.note(outcome);
                }
            });
        }
        while workers.join_next().await.is_some() {}
    }

    /// The device whose turn it is.
    fn holder(&self, number: u64) -> Option<&Holder> {
        let count = self.holders.len() as u64;
        let index = usize::try_from(number.checked_rem(count)?).ok()?;
        self.holders.get(index)
    }

    /// A number for a fresh connection.
    fn source(&self) -> u32 {
        // Wraps after four thousand million connections, into addresses that are long free again.
        let number = self.next_source.fetch_add(1, Ordering::Relaxed) & u64::from(u32::MAX);
        self.tally().connections += 1;
        u32::try_from(number).unwrap_or(0)
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, outcome: Outcome) {
        let mut tally = self.tally();
        match outcome {
            Outcome::Good(latency) => {
                tally.good += 1;
                tally.latency.add(latency);
            }
            Outcome::Refused(what) => tally.refused.add(what),
            Outcome::Torn(what) => tally.torn.add(what),
            Outcome::Unexpected(what) => tally.unexpected.add(what),
        }
    }

    /// What was counted since the last call.
    fn take(&self) -> Tally {
        std::mem::take(&mut self.tally())
    }
}

impl Tally {
    fn done(&self) -> u64 {
        self.good + self.refused.total() + self.torn.total() + self.unexpected.total()
    }

    fn rows(&self, results: &mut Results, what: &str, took: Duration) {
        results.row(format!("{what} in all"), self.done());
        results.row(format!("{what} a second"), format!("{:.0}", ratio(self.done(), took.as_secs_f64())));
        results.row(format!("{what}: answered well"), self.good);
        let (p50, p99) = (self.latency.at_permille(500), self.latency.at_permille(990));
        results.row(format!("{what}: p50 and p99"), format!("{}, {}", milliseconds(p50), milliseconds(p99)));
        if self.refused.total() > 0 {
            results.row(format!("{what}: refused as they should be"), self.refused.text());
        }
        if self.torn.total() > 0 {
            results.row(format!("{what}: torn"), self.torn.text());
        }
        results.row(format!("{what}: connections made"), self.connections);
    }

    fn data(&self, took: Duration) -> serde_json::Value {
        json!({
            "good": self.good, "refused": self.refused, "torn": self.torn, "unexpected": self.unexpected,
            "connections": self.connections, "seconds": took.as_secs_f64(),
            "p50_ms": self.latency.at_permille(500).as_secs_f64() * 1000.0,
            "p99_ms": self.latency.at_permille(990).as_secs_f64() * 1000.0,
        })
    }
}

impl Growth {
    fn write(&self, roles: &Roles, results: &mut Results) {
        for (name, warm, after) in roles.pairs(&self.warm, &self.after) {
            for (kind, from, to) in
                [("resident", warm.resident, after.resident), ("PSS", warm.proportional, after.proportional)]
            {
                let what = format!("{name}, {kind} after {} and {}", self.from, self.to);
                results.row(what, format!("{}, {}", mebibytes(from), mebibytes(to)));
                let (grown, holds) = memory::judge(from, to);
                let what = format!("{name}: {kind} memory from {} to {}", self.from, self.to);
                results.checks.push(Check::new(what, memory::BOUND, grown, holds));
            }
        }
    }
}
