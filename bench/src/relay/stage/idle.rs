//! Memory of connections that idle, of processes that were started for it.
//!
//! One that has been busy before has memory to spare, and takes that first: its next two thousand connections
//! may seem to cost nothing. So each gets a process of its own, and what two numbers of connections differ by
//! counts.

use std::path::Path;
use std::time::Duration;

use miette::{IntoDiagnostic as _, WrapErr as _};

use super::{Stage, ground};
use crate::lab::{Deployment, EnrolledDevice};
use crate::process::memory_of_tree;
use crate::relay::Plan;
use crate::relay::load::Job;
use crate::relay::measure::{Figure, Sample};
use crate::relay::ours::{Side, Site};
use crate::relay::peer::{PEERS, Peer};
use crate::relay::row::{IDLE, Task};

/// Looks at memory at each size; their median counts.
const LOOKS: usize = 5;
/// Time before each of them.
const REST: Duration = Duration::from_millis(200);
/// Time before the first of them. A device that has asked is idle when it has asked nothing for a while; ours puts
/// such a connection to rest after three seconds, and whatever the peers do they have the same time for.
const SETTLING: Duration = Duration::from_secs(5);
/// What one measurement takes, for the estimate.
pub(super) const ABOUT: Duration = Duration::from_secs(19);

/// Somebody who was started a moment ago.
struct Fresh {
    peer: Peer,
    device: EnrolledDevice,
    /// Ours, which ends with it.
    _deployment: Option<Deployment>,
}

/// Memory at one size, in bytes.
#[derive(Debug, Clone, Copy)]
struct Held {
    front: u64,
    all: u64,
}

impl Stage {
    pub(super) fn idle(&mut self, plan: &Plan, task: &Task, id: &str, round: u32) -> miette::Result<Sample> {
        let folder = self.folder.path().join(format!("idle-{id}-{round}"));
        let fresh = self.fresh(plan, id, &folder).wrap_err_with(|| format!("{id} does not start again"))?;
        let Fresh { peer, device, .. } = &fresh;
        let job = Job {
            address: peer.address,
            tls: peer.tls(&self.authority, Some(device).filter(|_| task.shows)),
            ask: super::ask(peer, task.asked, &device.token),
            manner: task.manner.with(|| peer.get_large(&device.token)),
            warm_up_ms: plan.warm_up_ms,
            measure_ms: plan.measure_ms,
        };
        let played = self.driver.play(&job, || held(peer));
        let (outcome, looks) =
            played.into_diagnostic().wrap_err_with(|| format!("{} of {id}", task.series))?;
        let mut sample = Sample {
            series: task.series.to_owned(),
            peer: id.to_owned(),
            round,
            figures: super::figures(&outcome, super::Used::default()),
            errors: outcome.errors,
        };
        sample.figures.retain(|figure, _| *figure == Figure::P50Ms);
        if let [few, many] = looks[..] {
            for (figure, few, many) in
                [(Figure::KibPerConnection, few.front, many.front), (Figure::KibInAll, few.all, many.all)]
            {
                sample.figures.insert(figure, kibibytes_each(few, many));
            }
        }
        drop(fresh);
        if !plan.left.keep {
            // Whatever stays goes with the folder of all.
            let _ = std::fs::remove_dir_all(&folder);
        }
        Ok(sample)
    }

    fn fresh(&self, plan: &Plan, id: &str, folder: &Path) -> miette::Result<Fresh> {
        let Self { binaries, authority, inner, .. } = self;
        let Some((_, start)) = PEERS.iter().find(|(peer, _)| *peer == id) else {
            let site = Site { plan, binaries, authority, inner };
            let side = Side::start(site, folder, &plan.gateway_lines).into_diagnostic()?;
            let Side { peer, device, deployment } = side;
            return Ok(Fresh { peer, device, _deployment: Some(deployment) });
        };
        let peer = start(&ground(folder, authority, inner)).into_diagnostic()?;
        Ok(Fresh { peer, device: self.ours.main.device.clone(), _deployment: None })
    }
}

/// What a peer holds now: the median of some looks.
fn held(peer: &Peer) -> Held {
    std::thread::sleep(SETTLING);
    let looks: Vec<Held> = std::iter::repeat_with(|| {
        std::thread::sleep(REST);
        let all = peer.all.iter().map(|pid| memory_of_tree(*pid).anonymous).sum();
        Held { front: memory_of_tree(peer.front).anonymous, all }
    })
    .take(LOOKS)
    .collect();
    let median = |of: fn(&Held) -> u64| {
        let mut values: Vec<u64> = looks.iter().map(of).collect();
        values.sort_unstable();
        values.get(LOOKS / 2).copied().unwrap_or(0)
    };
    Held { front: median(|look| look.front), all: median(|look| look.all) }
}

/// What each connection between the two sizes came to.
#[expect(clippy::cast_precision_loss, reason = "memory of a measurement is small")]
fn kibibytes_each(few: u64, many: u64) -> f64 {
    let [first, last] = IDLE;
    many.saturating_sub(few) as f64 / 1024.0 / (last - first) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_divided_by_the_connections_that_came_between() {
        let [first, last] = IDLE;
        let bytes = (last - first) as u64 * 16 * 1024;
        assert!((kibibytes_each(1_000_000, 1_000_000 + bytes) - 16.0).abs() < 1e-9);
        assert!(kibibytes_each(5, 4).abs() < 1e-9);
    }
}
