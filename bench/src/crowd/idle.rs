//! `crowd idle`: devices hold a connection each.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use miette::{IntoDiagnostic as _, Result};
use serde::Serialize;
use serde_json::json;

use super::figures::{milliseconds, ratio};
use super::player::Count;
use super::players::{Crowd, Players};
use super::results::{Check, Results};
use super::target::{Target, TargetArgs};
use super::watch::{Holding, descriptor_limit, mebibytes, wait_for_descriptors};
use super::{failures, gateway_facts, identities, runtime};

/// Sizes at which the gateway's memory is looked at on the way to the last one.
const SIZES: [u32; 6] = [1_000, 2_000, 5_000, 10_000, 15_000, 20_000];
/// Descriptors that a gateway keeps for what is no device: its `tunnel_connections`, new ones on their way in, files.
const RESERVE: u64 = 128;
/// Time for connections that do not come up at their rate.
const PATIENCE: Duration = Duration::from_mins(2);
/// Time after which a size counts as settled.
const SETTLE: Duration = Duration::from_secs(3);
/// Time between two looks while connections are held.
const LOOK: Duration = Duration::from_secs(5);
/// Time for a gateway to let go of connections that were closed.
const RELEASE: Duration = Duration::from_secs(90);

/// Idle devices.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: TargetArgs,
    /// Connections
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    devices: u32,
    /// As many connections as the gateway's descriptors allow, in place of --devices
    #[arg(long)]
    largest: bool,
    /// Registered devices; connections take turns with their keys and tokens
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    identities: u32,
    /// How long all are held, in minutes
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Seconds between two requests on a connection, up to a tenth more or less. A gateway closes a connection without
    /// a request after its `idle_timeout`, by default 75 s
    #[arg(long, default_value_t = 60.0)]
    poll: f64,
    /// New connections a second
    #[arg(long, default_value_t = 300.0)]
    rate: f64,
    /// Gateways, started beside the first
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=4), conflicts_with = "ready_file")]
    gateways: u8,
    /// Connections that one process of this program holds
    #[arg(long, default_value_t = 9_000, value_parser = clap::value_parser!(u32).range(1..=19_000))]
    per_process: u32,
    /// Connections that share a source address, where the gateway is on this machine; 0: all share one
    #[arg(long, default_value_t = 4)]
    per_source: u32,
    /// Write the section of docs/performance.md
    #[arg(long)]
    write_docs: bool,
}

/// What all gateways hold together at one size.
#[derive(Debug, Clone, Copy, Serialize)]
struct Point {
    connections: u32,
    resident: u64,
    proportional: u64,
    descriptors: u64,
}

/// What the crowd's growth and its long stay came to.
struct Stay {
    points: Vec<Point>,
    /// Fewest connections that were held at any look.
    fewest: u64,
    count: Count,
    /// As it was when all were up.
    before: Count,
    cpu: Duration,
    held_for: Duration,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut target = Target::new(&arguments.target).into_diagnostic()?;
    let runtime = runtime()?;
    let mut sites = vec![target.site.clone()];
    let mut pids: Vec<u32> = target.pid("gateway").into_iter().collect();
    for number in 1..arguments.gateways {
        let (site, pid) = target.add_gateway(&format!("GW{}", number + 1)).into_diagnostic()?;
        sites.push(site);
        pids.push(pid);
    }
    let credentials = identities(&runtime, &target, arguments.identities)?;
    let room: u64 = pids.iter().map(|pid| room(*pid)).sum();
    let devices = if arguments.largest { u32::try_from(room).into_diagnostic()? } else { arguments.devices };
    if !pids.is_empty() && u64::from(devices) > room {
        miette::bail!(
            "the gateways have descriptors for {room} more connections; ask for fewer, or for --gateways"
        );
    }
    let base = sum(&pids, 0);
    let crowd = Crowd {
        gateways: sites.iter().map(|site| gateway_facts(site, arguments.per_source)).collect(),
        credentials,
        connections: devices,
        per_process: arguments.per_process,
        poll: Duration::from_secs_f64(arguments.poll),
    };
    let stay = runtime.block_on(stay(arguments, crowd, devices, &pids))?;
    // Everybody has left: the descriptors come back, and what memory stays is told.
    let released = pids.iter().all(|pid| wait_for_descriptors(*pid, base.descriptors + RESERVE, RELEASE));
    let after = sum(&pids, 0);

    let mut results =
        Results::new("crowd-idle", format!("{devices} idle devices on {} gateway(s)", sites.len()));
    if arguments.gateways > 1 {
        results.name = format!("crowd-idle-{}-gateways", arguments.gateways);
    }
    fill(&mut results, arguments, devices, base, &stay);
    if !pids.is_empty() {
        results.row(
            "gateway afterwards",
            format!("{} resident, {} descriptors", mebibytes(after.resident), after.descriptors),
        );
        results.checks.push(Check::new(
            "descriptors came back",
            "all",
            if released { "all" } else { "not all" },
            released,
        ));
    }
    results.data = json!({
        "connections": devices, "base": base, "points": stay.points, "after": after,
        "dropped": stay.count.dropped, "fewest": stay.fewest, "failures": stay.count.failures,
        "answers": stay.count.answers, "held_seconds": stay.held_for.as_secs_f64(),
    });
    results.finish(arguments.write_docs).into_diagnostic()
}

/// Grows the crowd size by size, then holds all of it.
async fn stay(arguments: &Arguments, crowd: Crowd, devices: u32, pids: &[u32]) -> Result<Stay> {
    let mut players = Players::start(crowd).await.into_diagnostic()?;
    let mut points = Vec::new();
    for size in sizes(devices) {
        eprintln!("{size} connections");
        players.hold(size, arguments.rate).await.into_diagnostic()?;
        let limit = PATIENCE + Duration::from_secs_f64(f64::from(size) / arguments.rate);
        let up = players.wait_for(limit, |count| count.held >= u64::from(size)).await.into_diagnostic()?;
        if let (count, false) = up {
            let (held, failures) = (count.held, count.failures.text());
            miette::bail!(
                "of {size} connections {held} came up in {} s; failures: {failures}",
                limit.as_secs()
            );
        }
        tokio::time::sleep(SETTLE).await;
        points.push(sum(pids, size));
    }
    let before = players.count().into_diagnostic()?;
    let (began, long) = (Instant::now(), Duration::from_secs_f64(arguments.minutes * 60.0));
    let cpu = crate::process::cpu_of_trees(pids);
    let mut fewest = before.held;
    eprintln!("holding {} connections for {:.1} minutes", before.held, arguments.minutes);
    while began.elapsed() < long {
        tokio::time::sleep(LOOK.min(long.saturating_sub(began.elapsed()))).await;
        fewest = fewest.min(players.count().into_diagnostic()?.held);
    }
    let count = players.count().into_diagnostic()?;
    points.push(sum(pids, devices));
    let cpu = crate::process::cpu_of_trees(pids).saturating_sub(cpu);
    let held_for = began.elapsed();
    players.end().await.into_diagnostic()?;
    Ok(Stay { points, fewest, count, before, cpu, held_for })
}

fn fill(results: &mut Results, arguments: &Arguments, devices: u32, base: Point, stay: &Stay) {
    let Stay { points, count, before, .. } = stay;
    results.row("connections", devices);
    let shared = format!("{}, shared by the connections in turn", arguments.identities.min(devices));
    results.row("devices with a key and a token of their own", shared);
    results.row("held for", format!("{:.1} minutes", stay.held_for.as_secs_f64() / 60.0));
    results.row("requests while held", count.answers - before.answers);
    let failed = count.failures.since(&before.failures);
    results.row("failures while held", failures(&failed));
    results.row("failures on the way up", failures(&before.failures));
    results.row("fewest held at any moment", stay.fewest);
    results.row("handshake on the way up, p50 and p99", two(&before.handshakes));
    results.row("answer, p50 and p99", two(&count.latency));
    if base.proportional > 0 {
        let cpu = stay.cpu.as_secs_f64() / stay.held_for.as_secs_f64().max(0.001) * 100.0;
        results.row("CPU of the gateway while held", format!("{cpu:.1} % of a core"));
        results.row(
            "gateway without them",
            format!("{} PSS, {} resident", mebibytes(base.proportional), mebibytes(base.resident)),
        );
        for (number, point) in points.iter().enumerate() {
            let when = if number + 1 == points.len() { ", at the end" } else { "" };
            let each =
                |now: u64, base: u64| ratio(now.saturating_sub(base), f64::from(point.connections)) / 1024.0;
            results.row(
                format!("{} connections{when}", point.connections),
                format!(
                    "{} PSS, {} resident: {:.1} and {:.1} KiB a connection",
                    mebibytes(point.proportional),
                    mebibytes(point.resident),
                    each(point.proportional, base.proportional),
                    each(point.resident, base.resident),
                ),
            );
        }
    }
    let dropped = count.dropped;
    results.checks.push(Check::new("dropped", "0", dropped, dropped == 0));
    let all = stay.fewest >= u64::from(devices);
    results.checks.push(Check::new("held all the time", devices.to_string(), stay.fewest, all));
}

fn two(histogram: &super::figures::Histogram) -> String {
    let at = |permille| milliseconds(histogram.at_permille(permille));
    format!("{}, {}", at(500), at(990))
}

/// Descriptors that a gateway has for more connections.
fn room(pid: u32) -> u64 {
    descriptor_limit(pid).saturating_sub(super::watch::descriptors(pid)).saturating_sub(RESERVE)
}

/// The sizes on the way to this one, and itself.
fn sizes(devices: u32) -> Vec<u32> {
    SIZES.into_iter().filter(|size| *size < devices).chain([devices]).collect()
}

fn sum(pids: &[u32], connections: u32) -> Point {
    let mut point = Point { connections, resident: 0, proportional: 0, descriptors: 0 };
    for holding in pids.iter().map(|pid| Holding::of(*pid)) {
        point.resident += holding.resident;
        point.proportional += holding.proportional;
        point.descriptors += holding.descriptors;
    }
    point
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crowd_grows_through_the_sizes_below_its_own() {
        assert_eq!(sizes(500), [500]);
        assert_eq!(sizes(1_000), [1_000]);
        assert_eq!(sizes(19_940), [1_000, 2_000, 5_000, 10_000, 15_000, 19_940]);
    }

    #[test]
    fn a_process_of_ours_has_room() {
        assert!(room(std::process::id()) > 0);
        assert_eq!(room(u32::MAX), 0);
    }
}
