//! `crowd poll`: registered devices ask for policy and locations.

use std::collections::VecDeque;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use client::device::RequestError;
use client::policy::PolicyError;
use client::retry::Told as _;
use miette::{IntoDiagnostic as _, Result};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::device::{self, Afterwards, Played};
use super::figures::{Histogram, Reasons, milliseconds, ratio};
use super::results::{Check, Results};
use super::target::{Target, TargetArgs};
use super::{AT_ONCE, failures, keys, keys_folder, runtime};

/// Polls.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: TargetArgs,
    /// Devices that take turns
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=15_000))]
    devices: u32,
    /// How long
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Polls a second, whether or not the site keeps up; 0: as many as it takes
    #[arg(long, default_value_t = 0.0)]
    rate: f64,
    /// Polls under way at once at most
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    at_once: u32,
    /// What is asked for
    #[arg(long, value_enum, default_value_t = Kind::Policy)]
    kind: Kind,
    /// Write the section of docs/performance.md
    #[arg(long)]
    write_docs: bool,
}

/// How much is polled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    /// How long.
    pub(super) seconds: u64,
    /// Polls a second; 0: as many as it takes.
    pub(super) rate: f64,
    /// Polls under way at once at most.
    pub(super) at_once: u32,
    /// What is asked for.
    pub(super) kind: Kind,
}

/// What a poll is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Kind {
    /// The policy assignments, and the bodies that the device has not got yet
    Policy,
    /// The gateways of the site
    Locations,
}

/// What was counted.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    /// Of those that were answered well.
    pub(super) latency: Histogram,
    /// All others.
    pub(super) errors: Reasons,
    /// Polls that could not begin at their time, since too many were under way.
    late: u64,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let target = Target::new(&arguments.target).into_diagnostic()?;
    let runtime = runtime()?;
    let keys = keys::take(&keys_folder(), arguments.devices).into_diagnostic()?;
    let devices = device::make(&target.site, keys).into_diagnostic()?;
    let token = target.bulk_token().into_diagnostic()?;
    eprintln!("registering {} devices", arguments.devices);
    let bound = Duration::from_mins(2) + Duration::from_millis(100) * arguments.devices;
    let entering = device::enter(devices, &token.text, AT_ONCE, Afterwards::Confirm, bound);
    let (inside, entry) = runtime.block_on(entering);
    target.block(&token).into_diagnostic()?;
    if inside.is_empty() {
        miette::bail!("no device was let in: {}", entry.given_up.text());
    }
    let (seconds, rate, at_once, kind) =
        (arguments.seconds, arguments.rate, arguments.at_once, arguments.kind);
    let load = Load { seconds, rate, at_once, kind };
    let (devices, first) = runtime.block_on(all_once(inside, load));
    eprintln!("polling for {seconds} s");
    let (_, tally, took) = runtime.block_on(polls(devices, load));

    let word = if arguments.kind == Kind::Policy { "Policy" } else { "Location" };
    let name = format!("crowd-poll-{}", word.to_lowercase());
    let mut results = Results::new(&name, format!("{word} polls of {} devices", arguments.devices));
    let done = tally.latency.count();
    results.row("devices", arguments.devices);
    let asked =
        if arguments.rate > 0.0 { format!("{:.0}", arguments.rate) } else { "as many as go".to_owned() };
    results.row("polls a second asked for", asked);
    results.row("polls a second done", format!("{:.0}", ratio(done, took.as_secs_f64())));
    results.row("polls", done);
    results.row("p50", milliseconds(tally.latency.at_permille(500)));
    results.row("p99", milliseconds(tally.latency.at_permille(990)));
    results.row("longest", milliseconds(tally.latency.longest()));
    results.row("begun late", tally.late);
    results.row("first poll of each, with all bodies: p50", milliseconds(first.latency.at_permille(500)));
    results.row("errors", failures(&tally.errors));
    let errors = tally.errors.total() + first.errors.total();
    results.checks.push(Check::new("errors", "0", errors, errors == 0));
    results.data = json!({
        "polls": done,
        "per_second": ratio(done, took.as_secs_f64()),
        "p50_ms": tally.latency.at_permille(500).as_secs_f64() * 1000.0,
        "p99_ms": tally.latency.at_permille(990).as_secs_f64() * 1000.0,
        "late": tally.late, "errors": tally.errors, "first_errors": first.errors,
    });
    results.finish(arguments.write_docs).into_diagnostic()
}

/// One poll of each, so that everybody has its bodies.
pub(super) async fn all_once(devices: Vec<Played>, load: Load) -> (Vec<Played>, Tally) {
    let kind = load.kind;
    let turns = Arc::new(Semaphore::new(load.at_once as usize));
    let mut all = JoinSet::new();
    for mut played in devices {
        let turns = Arc::clone(&turns);
        all.spawn(async move {
            let _turn = turns.acquire_owned().await;
            let began = Instant::now();
            let outcome = poll(&mut played, kind).await;
            (played, began.elapsed(), outcome)
        });
    }
    let (mut devices, mut tally) = (Vec::new(), Tally::default());
    while let Some(Ok((played, took, outcome))) = all.join_next().await {
        devices.push(played);
        match outcome {
            Ok(()) => tally.latency.add(took),
            Err(reason) => tally.errors.add(reason),
        }
    }
    (devices, tally)
}

/// Polls until the time is over; the devices, what was counted, and how long it took.
pub(super) async fn polls(devices: Vec<Played>, load: Load) -> (Vec<Played>, Tally, Duration) {
    let idle = Arc::new(Mutex::new(VecDeque::from(devices)));
    let tally = Arc::new(Mutex::new(Tally::default()));
    let turns = Arc::new(Semaphore::new(load.at_once as usize));
    let (began, bound) = (Instant::now(), Duration::from_secs(load.seconds));
    let mut number = 0;
    let mut all = JoinSet::new();
    while began.elapsed() < bound {
        if let Some(due) = due(number, load.rate) {
            tokio::time::sleep_until((began + due).into()).await;
            if turns.available_permits() == 0 {
                lock(&tally).late += 1;
            }
        }
        number += 1;
        let Ok(turn) = Arc::clone(&turns).acquire_owned().await else { break };
        let Some(mut played) = lock(&idle).pop_front() else {
            // Fewer devices than polls at once: every one of them is busy.
            lock(&tally).late += 1;
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        let (idle, tally, kind) = (Arc::clone(&idle), Arc::clone(&tally), load.kind);
        all.spawn(async move {
            let began = Instant::now();
            let outcome = poll(&mut played, kind).await;
            let mut tally = lock(&tally);
            match outcome {
                Ok(()) => tally.latency.add(began.elapsed()),
                Err(reason) => tally.errors.add(reason),
            }
            drop(tally);
            lock(&idle).push_back(played);
            drop(turn);
        });
        // Those that have ended are of no more use.
        while all.try_join_next().is_some() {}
    }
    while all.join_next().await.is_some() {}
    let took = began.elapsed();
    let (devices, tally) = (std::mem::take(&mut *lock(&idle)), lock(&tally).clone());
    (devices.into(), tally, took)
}

/// When poll number `number` is to begin; `None`: as soon as there is room.
fn due(number: u64, rate: f64) -> Option<Duration> {
    // Polls of a bounded run are far below 2^52.
    #[expect(clippy::cast_precision_loss, reason = "a time within a run of an hour")]
    let seconds = number as f64 / rate;
    (rate > 0.0).then(|| Duration::from_secs_f64(seconds.min(1e6)))
}

async fn poll(played: &mut Played, kind: Kind) -> Result<(), String> {
    match kind {
        Kind::Policy => played
            .device
            .policy()
            .await
            .map(drop)
            .map_err(|error: PolicyError| error.told().map_or_else(|| error.to_string(), device::label)),
        Kind::Locations => played
            .device
            .learn_gateways()
            .await
            .map(drop)
            .map_err(|error: RequestError| device::label(&error)),
    }
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_are_due_at_their_rate_or_as_soon_as_there_is_room() {
        assert_eq!(due(0, 200.0), Some(Duration::ZERO));
        assert_eq!(due(300, 200.0), Some(Duration::from_millis(1500)));
        assert_eq!(due(300, 0.0), None);
    }
}
