//! `crowd storm`: devices register all at once.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use miette::{IntoDiagnostic as _, Result};
use serde_json::json;

use super::device::{self, Afterwards, Entry};
use super::figures::{milliseconds, ratio};
use super::results::{Check, Results};
use super::target::{Listed, Target, TargetArgs};
use super::{failures, keys, keys_folder, runtime, watch};
use crate::process::cpu_of_trees;

/// Descriptors of this process that are not a device's.
const OTHER_DESCRIPTORS: u64 = 200;

/// A registration storm.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: TargetArgs,
    /// Devices, at most as many as this process may have connections
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=i64::from(keys::MOST)))]
    devices: u32,
    /// End after this time, whoever is missing then
    #[arg(long, default_value_t = 180, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// All must be in within so many seconds
    #[arg(long, default_value_t = 60)]
    within: u64,
    /// Confirm the registration, too, and get a CCM token, as a device does before its first policy
    #[arg(long)]
    confirm: bool,
    /// Write the section of docs/performance.md
    #[arg(long)]
    write_docs: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let limit = watch::descriptor_limit(std::process::id()).saturating_sub(OTHER_DESCRIPTORS);
    if u64::from(arguments.devices) > limit {
        miette::bail!("this process may have {limit} connections only; ask for fewer devices");
    }
    let target = Target::new(&arguments.target).into_diagnostic()?;
    let runtime = runtime()?;
    let keys = keys::take(&keys_folder(), arguments.devices).into_diagnostic()?;
    let devices = device::make(&target.site, keys).into_diagnostic()?;
    let names: Vec<_> = devices.iter().map(|played| played.name.clone()).collect();
    let token = target.bulk_token().into_diagnostic()?;
    let roles: Vec<_> = target.site.pids.values().copied().collect();

    eprintln!("{} devices register at once", arguments.devices);
    let (cpu, own, began) = (cpu_of_trees(&roles), cpu_of_trees(&[std::process::id()]), Instant::now());
    let afterwards = if arguments.confirm { Afterwards::Confirm } else { Afterwards::Nothing };
    let bound = Duration::from_secs(arguments.seconds);
    let storm = device::enter(devices, &token.text, usize::MAX, afterwards, bound);
    let (inside, entry) = runtime.block_on(storm);
    let took = began.elapsed();
    let cpu = cpu_of_trees(&roles).saturating_sub(cpu);
    let own = cpu_of_trees(&[std::process::id()]).saturating_sub(own);
    drop(inside);
    let listed = target.devices(&names).into_diagnostic()?;
    target.block(&token).into_diagnostic()?;

    let there = Presence::of(&names, &listed, &entry);
    let all_in = entry.times.count() == u64::from(arguments.devices);
    let seconds = entry.times.longest().as_secs_f64();
    let mut results =
        Results::new("crowd-storm", format!("Registration storm of {} devices", arguments.devices));
    results.row("devices", arguments.devices);
    results.row("acknowledged", entry.times.count());
    results.row("time until all were in", format!("{seconds:.1} s (whole run {:.1} s)", took.as_secs_f64()));
    results.row("registrations a second", format!("{:.0}", ratio(entry.times.count(), seconds)));
    results.row("time to the acknowledgement, p50", milliseconds(entry.times.at_permille(500)));
    results.row("time to the acknowledgement, p99", milliseconds(entry.times.at_permille(990)));
    results.row("turned away and tried again", failures(&entry.again));
    results.row("gave up", failures(&entry.given_up));
    if !roles.is_empty() {
        results.row("CPU of the site's processes", format!("{:.1} s", cpu.as_secs_f64()));
        results.row("CPU of the devices", format!("{:.1} s", own.as_secs_f64()));
    }
    results.row("at the site afterwards", format!("{} with these names", listed.len()));
    let within = format!("{} s", arguments.within);
    let measured = if all_in { format!("{seconds:.1} s") } else { "not all came in".to_owned() };
    results.checks.push(Check::new("all in", within, measured, all_in && took.as_secs() <= arguments.within));
    results.checks.push(Check::new("acknowledged and missing", "0", there.missing, there.missing == 0));
    results.checks.push(Check::new("there twice", "0", there.doubled, there.doubled == 0));
    results.checks.push(Check::new("told another id", "0", there.other_id, there.other_id == 0));
    results.data = json!({
        "seconds": seconds,
        "p50_ms": entry.times.at_permille(500).as_secs_f64() * 1000.0,
        "p99_ms": entry.times.at_permille(990).as_secs_f64() * 1000.0,
        "by_second": entry.seconds, "again": entry.again, "given_up": entry.given_up,
        "missing": there.missing, "doubled": there.doubled, "other_id": there.other_id,
    });
    results.finish(arguments.write_docs).into_diagnostic()
}

/// What the site has against what devices were told.
#[derive(Debug, PartialEq, Eq)]
struct Presence {
    /// Acknowledged, and not there.
    missing: usize,
    /// Names that more than one has.
    doubled: usize,
    /// There under another id than the device was told.
    other_id: usize,
}

impl Presence {
    fn of(names: &[String], listed: &[Listed], entry: &Entry) -> Self {
        let mut by_name: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for device in listed {
            by_name.entry(&device.name).or_default().push(&device.client_id);
        }
        let ids = |name: &str| by_name.get(name).map_or(&[][..], Vec::as_slice);
        let acknowledged = names.iter().filter_map(|name| Some((name, entry.acknowledged.get(name)?)));
        Self {
            missing: acknowledged.clone().filter(|(name, _)| ids(name).is_empty()).count(),
            doubled: names.iter().filter(|name| ids(name).len() > 1).count(),
            other_id: acknowledged
                .filter(|(name, id)| !ids(name).is_empty() && !ids(name).contains(&id.as_str()))
                .count(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_doubled_and_renamed_devices_are_each_counted() {
        let names: Vec<String> = ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec();
        let told = [("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")];
        let acknowledged = told.map(|(name, id)| (name.to_owned(), id.to_owned())).into();
        let entry = Entry { acknowledged, ..Entry::default() };
        let row = |name: &str, id: &str| Listed { name: name.to_owned(), client_id: id.to_owned() };
        // `b` is missing, `c` there twice, `d` under another id; `e` never came in and need not be there.
        let listed = [row("a", "1"), row("c", "3"), row("c", "9"), row("d", "7")];
        let found = Presence::of(&names, &listed, &entry);
        assert_eq!(found, Presence { missing: 1, doubled: 1, other_id: 1 });
    }
}
