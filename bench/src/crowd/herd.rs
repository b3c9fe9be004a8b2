//! `crowd herd`: the gateway is killed under a crowd, and all of it comes back.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use miette::{IntoDiagnostic as _, Result};
use serde_json::json;

use super::figures::{Seconds, milliseconds, ratio};
use super::player::Count;
use super::players::{Crowd, Players};
use super::results::{Check, Results};
use super::target::{Target, TargetArgs};
use super::{failures, gateway_facts, identities, runtime};

/// Seconds after the kill in which any number may come back at once.
const FIRST: u64 = 10;
/// Largest share of the crowd in one later second, in percent.
const LARGEST_SHARE: f64 = 5.0;
/// Time for connections that do not come up at their rate.
const PATIENCE: Duration = Duration::from_mins(2);

/// The herd after an outage.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: TargetArgs,
    /// Connected devices
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=19_000))]
    devices: u32,
    /// Registered devices; connections take turns with their keys and tokens
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    identities: u32,
    /// End so many seconds after the kill, whoever is missing then
    #[arg(long, default_value_t = 240, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// All must be back within so many seconds
    #[arg(long, default_value_t = 120)]
    within: u64,
    /// Seconds between two requests on a connection, up to a tenth more or less; the longest pause between two attempts
    /// to come back goes by it, as in the client
    #[arg(long, default_value_t = 60.0)]
    poll: f64,
    /// New connections a second before the kill
    #[arg(long, default_value_t = 300.0)]
    rate: f64,
    /// Connections that one process of this program holds
    #[arg(long, default_value_t = 9_000, value_parser = clap::value_parser!(u32).range(1..=19_000))]
    per_process: u32,
    /// Connections that share a source address; 0: all share one
    #[arg(long, default_value_t = 4)]
    per_source: u32,
    /// Write the section of docs/performance.md
    #[arg(long)]
    write_docs: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut target = Target::new(&arguments.target).into_diagnostic()?;
    if !target.is_ours() {
        miette::bail!("only the gateway of a site that was started here is killed: leave --ready-file out");
    }
    let runtime = runtime()?;
    let credentials = identities(&runtime, &target, arguments.identities)?;
    let crowd = Crowd {
        gateways: vec![gateway_facts(&target.site, arguments.per_source)],
        credentials,
        connections: arguments.devices,
        per_process: arguments.per_process,
        poll: Duration::from_secs_f64(arguments.poll),
    };
    let (before, after, away) = runtime.block_on(outage(arguments, crowd, &mut target))?;

    let devices = u64::from(arguments.devices);
    let back = after.back_at.total();
    let mut results =
        Results::new("crowd-herd", format!("{devices} devices come back after the gateway was killed"));
    results.row("connected devices", devices);
    results.row("devices with a key and a token of their own", arguments.identities.min(arguments.devices));
    results.row("gateway took no connection for", format!("{:.1} s", away.as_secs_f64()));
    results.row("back", back);
    let last = after.back_at.last().map_or(0, |second| second + 1);
    results.row("time until the last was back", format!("{last} s"));
    let (came, tried) = (fullest(&after.back_at, devices), fullest(&after.attempts_at, devices));
    results.row(format!("most back in one second after the first {FIRST}"), &came.0);
    results.row(format!("most attempts in one second after the first {FIRST}"), &tried.0);
    results.row("most back in any second", fullest_from(&after.back_at, 0, devices).0);
    results.row("attempts to connect", after.attempts - before.attempts);
    results.row("failures after the kill", failures(&after.failures.since(&before.failures)));
    results.row("handshake of the whole run, p50 and p99", two(&after));
    let all = back >= devices;
    let time = if all { format!("{last} s") } else { format!("{} are missing", devices - back) };
    results.checks.push(Check::new(
        "all back",
        format!("{} s", arguments.within),
        time,
        all && last <= arguments.within,
    ));
    for (what, (text, share)) in [("back", came), ("attempts", tried)] {
        let what = format!("largest share of {what} in one second after the first {FIRST}");
        results.checks.push(Check::new(what, format!("{LARGEST_SHARE} %"), text, share <= LARGEST_SHARE));
    }
    results.data = json!({
        "devices": devices, "back": back, "last_second": last, "away_seconds": away.as_secs_f64(),
        "back_by_second": after.back_at, "attempts_by_second": after.attempts_at,
        "failures": after.failures.since(&before.failures),
    });
    results.finish(arguments.write_docs).into_diagnostic()
}

/// Puts the crowd up, kills the gateway and waits; counts before and after, and for how long nobody listened.
async fn outage(
    arguments: &Arguments,
    crowd: Crowd,
    target: &mut Target,
) -> Result<(Count, Count, Duration)> {
    let devices = u64::from(arguments.devices);
    let mut players = Players::start(crowd).await.into_diagnostic()?;
    eprintln!("{devices} connections");
    players.hold(arguments.devices, arguments.rate).await.into_diagnostic()?;
    let limit = PATIENCE + Duration::from_secs_f64(f64::from(arguments.devices) / arguments.rate);
    let (before, up) = players.wait_for(limit, |count| count.held >= devices).await.into_diagnostic()?;
    if !up {
        miette::bail!(
            "of {devices} connections {} came up; failures: {}",
            before.held,
            before.failures.text()
        );
    }
    players.mark().await.into_diagnostic()?;
    eprintln!("killing the gateway and starting it again");
    let killed = Instant::now();
    target.kill_and_restart_gateway().into_diagnostic()?;
    let address = target.site.address;
    let bound = Duration::from_secs(arguments.seconds);
    while tokio::net::TcpStream::connect(address).await.is_err() && killed.elapsed() < bound {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let away = killed.elapsed();
    let left = bound.saturating_sub(away);
    let (after, _) =
        players.wait_for(left, |count| count.back_at.total() >= devices).await.into_diagnostic()?;
    players.end().await.into_diagnostic()?;
    Ok((before, after, away))
}

/// The fullest second after the first ones as text, and its share of all in percent.
fn fullest(seconds: &Seconds, devices: u64) -> (String, f64) {
    fullest_from(seconds, FIRST, devices)
}

#[expect(clippy::cast_precision_loss, reason = "devices of one machine, a figure for people to read")]
fn fullest_from(seconds: &Seconds, first: u64, devices: u64) -> (String, f64) {
    let Some((second, count)) = seconds.fullest_from(first) else { return ("none".to_owned(), 0.0) };
    let share = ratio(count * 100, devices as f64);
    (format!("{count} ({share:.1} %), second {second}"), share)
}

fn two(count: &Count) -> String {
    let at = |permille| milliseconds(count.handshakes.at_permille(permille));
    format!("{}, {}", at(500), at(990))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_that_of_the_fullest_second_after_the_first_ten() {
        let mut seconds = Seconds::default();
        for (second, count) in [(3, 60), (12, 5), (20, 4)] {
            for _ in 0..count {
                seconds.add(Duration::from_secs(second));
            }
        }
        let (text, share) = fullest(&seconds, 100);
        assert!(text.starts_with("5 (5.0 %)") && share <= LARGEST_SHARE, "{text}");
        assert!(fullest_from(&seconds, 0, 100).1 > 59.0);
        assert_eq!(fullest(&Seconds::default(), 100), ("none".to_owned(), 0.0));
    }
}
