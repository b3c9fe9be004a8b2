//! Everything that is measured, started and in its place; and the rounds over it.

mod idle;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use miette::{IntoDiagnostic as _, WrapErr as _};

use super::Plan;
use super::driver::Driver;
use super::load::{Ask, Job};
use super::measure::{Results, Sample, Used, figures};
use super::ours::{Ours, Site};
use super::peer::{Ground, Inner, OURS, PEERS, Peer};
use super::row::{Asked, Port, RowId, Task, TaskManner, tasks};
use crate::lab::{Authority, Binaries, Deployment};
use crate::process::cpu_of_trees;

/// What a measurement takes besides itself, for the estimate: connections and looks at processes.
const BETWEEN: Duration = Duration::from_millis(300);

/// Everybody is connected, and the load generator stands by.
#[derive(Debug)]
pub(super) struct Stage {
    folder: Folder,
    binaries: Binaries,
    authority: Authority,
    driver: Driver,
    ours: Ours,
    peers: Vec<Peer>,
    inner: Inner,
    results: Results,
}

/// A temporary folder, or one that stays.
#[derive(Debug)]
enum Folder {
    Temporary(tempfile::TempDir),
    Kept(PathBuf),
}

impl Folder {
    fn path(&self) -> &Path {
        match self {
            Self::Temporary(folder) => folder.path(),
            Self::Kept(path) => path,
        }
    }
}

impl Stage {
    /// Starts everybody.
    pub(super) fn set(plan: &Plan) -> miette::Result<Self> {
        let folder = tempfile::Builder::new().prefix("roamgate-bench-").tempdir().into_diagnostic()?;
        let folder = if plan.left.keep {
            let path = folder.keep();
            eprintln!("everything is in {}", path.display());
            Folder::Kept(path)
        } else {
            Folder::Temporary(folder)
        };
        let path = folder.path();
        let binaries = Binaries::find(plan.binaries.as_deref()).into_diagnostic()?;
        let authority = Authority::new(path).into_diagnostic()?;
        let inner = Inner::start(path, &authority).into_diagnostic().wrap_err("the inner server")?;
        let site = Site { plan, binaries: &binaries, authority: &authority, inner: &inner };
        let ours = Ours::start(site, path).into_diagnostic().wrap_err("Roamgate does not start")?;
        let ground = ground(path, &authority, &inner);
        let mut results = Results::default();
        let mut peers = Vec::new();
        for (id, start) in PEERS.iter().filter(|(id, _)| plan.wants(id)) {
            match start(&ground) {
                Ok(peer) => peers.push(peer),
                Err(error) => {
                    let why = runtime::telemetry::Chain(&error).to_string();
                    eprintln!("left out: {id}: {why}");
                    results.skipped.insert((*id).to_owned(), why);
                }
            }
        }
        results.titles = peers
            .iter()
            .chain([&ours.main.peer])
            .map(|peer| (peer.id.to_owned(), peer.title.clone()))
            .collect();
        let driver = Driver::start().into_diagnostic()?;
        Ok(Self { folder, binaries, authority, driver, ours, peers, inner, results })
    }

    /// All rows, all rounds, everybody in turn.
    pub(super) fn measure(&mut self, plan: &Plan) -> miette::Result<Results> {
        eprintln!("this takes some {} minutes", self.time_for(plan).as_secs().div_ceil(60));
        for row in &plan.rows {
            for round in 0..plan.rounds {
                self.round(plan, *row, round)?;
            }
        }
        Ok(std::mem::take(&mut self.results))
    }

    /// How long all of it takes, about.
    fn time_for(&self, plan: &Plan) -> Duration {
        let ids = self.peers.iter().map(|peer| peer.id).chain([OURS]);
        let tasks = ids.flat_map(|id| plan.rows.iter().flat_map(move |row| tasks(*row, id)));
        let each = tasks.map(|task| match task.manner {
            TaskManner::Idle => idle::ABOUT,
            _ => Duration::from_millis(plan.warm_up_ms + plan.measure_ms_of(&task)) + BETWEEN,
        });
        each.sum::<Duration>() * plan.rounds
    }

    fn round(&mut self, plan: &Plan, row: RowId, round: u32) -> miette::Result<()> {
        // Ours stands between the others, and whoever was first is last in the next round.
        let count = self.peers.len() + 1;
        for turn in 0..count {
            let index = (turn + round as usize) % count;
            let id = self.peers.get(index).map_or(OURS, |peer| peer.id);
            for task in tasks(row, id) {
                if task.port == Port::Limited && self.ours.limited.is_none() {
                    continue;
                }
                let measured = match task.manner {
                    TaskManner::Idle => self.idle(plan, &task, id, round),
                    _ => self.one(plan, &task, index, round),
                };
                let sample = match measured {
                    Ok(sample) => sample,
                    Err(error) => self.failed(&task, id, round, &error)?,
                };
                eprintln!("{}", line(&sample));
                self.results.samples.push(sample);
            }
        }
        Ok(())
    }

    /// One that fails is no reason to lose the others: it is told, and a fresh load generator goes on.
    fn failed(
        &mut self,
        task: &Task,
        id: &str,
        round: u32,
        error: &miette::Report,
    ) -> miette::Result<Sample> {
        self.driver = Driver::start().into_diagnostic()?;
        let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
        Ok(Sample {
            series: task.series.to_owned(),
            peer: id.to_owned(),
            round,
            figures: BTreeMap::new(),
            errors: BTreeMap::from([(format!("not measured: {}", causes.join(": ")), 1)]),
        })
    }

    fn one(&mut self, plan: &Plan, task: &Task, index: usize, round: u32) -> miette::Result<Sample> {
        let Self { driver, ours, peers, inner, authority, .. } = self;
        let is_ours = index >= peers.len();
        let side = ours.limited.as_ref().filter(|_| task.port == Port::Limited).unwrap_or(&ours.main);
        let peer = peers.get(index).unwrap_or(&side.peer);
        let (address, front) = match (task.port, &ours.rsa) {
            (Port::Rsa, Some(rsa)) if is_ours => (Some(rsa.address), rsa.gateway_pid()),
            (Port::Rsa, _) => (peer.rsa, peer.front),
            (Port::Asking, _) => (peer.asking, peer.front),
            (Port::Main | Port::Limited, _) => (Some(peer.address), peer.front),
        };
        let device = match task.asked {
            Asked::ByCertificate => ours.certified.as_ref(),
            _ => Some(&side.device),
        };
        let token = side.device.token.as_str();
        let job = Job {
            address: address.unwrap_or(peer.address),
            tls: peer.tls(authority, device.filter(|_| task.shows)),
            ask: ask(peer, task.asked, token),
            manner: task.manner.with(|| peer.get_large(token)),
            warm_up_ms: plan.warm_up_ms,
            measure_ms: plan.measure_ms_of(task),
        };
        let all: Vec<u32> = peer.all.iter().copied().chain([inner.process.id(), front]).collect();
        let deployment = is_ours.then_some(&side.deployment);
        let inside = deployment.map(Deployment::connector_pid);
        let (outcome, mut looks) = driver
            .play(&job, || {
                let probe = deployment.zip(plan.probe.as_ref());
                let probe = probe.map(|(ours, probe)| probe_command(probe, ours, plan.measure_ms).spawn());
                (usage(front, &all, inside), probe)
            })
            .into_diagnostic()
            .wrap_err_with(|| format!("{} of {}", task.series, peer.id))?;
        let after = usage(front, &all, inside);
        let (before, probe) = looks.pop().ok_or_else(|| miette::miette!("nothing was measured"))?;
        if let Some(Ok(mut probe)) = probe {
            // Its own outcome is for whoever asked for it.
            let _ = probe.wait();
        }
        let (series, id) = (task.series.to_owned(), peer.id.to_owned());
        ours.check().into_diagnostic()?;
        if let Some(peer) = peers.get_mut(index) {
            peer.check().into_diagnostic()?;
        }
        let used = Used {
            front: after.front.saturating_sub(before.front),
            all: after.all.saturating_sub(before.all),
            inside: after.inside.zip(before.inside).map(|(after, before)| after.saturating_sub(before)),
        };
        Ok(Sample { series, peer: id, round, figures: figures(&outcome, used), errors: outcome.errors })
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Folder::Kept(path) = &self.folder {
            eprintln!("everything stays in {}", path.display());
        }
    }
}

/// What is asked of a peer. Whoever looks at no token gets that of our device.
fn ask(peer: &Peer, asked: Asked, token: &str) -> Ask {
    match asked {
        Asked::Small => peer.get_small(token),
        Asked::Large => peer.get_large(token),
        Asked::Message => peer.post(token),
        Asked::ByToken => peer.get_by_token(token),
        Asked::ByCertificate => peer.get_by_certificate(token),
    }
}

/// What peers are made from.
fn ground<'a>(folder: &'a Path, authority: &'a Authority, inner: &'a Inner) -> Ground<'a> {
    let programs = vec![Plan::peers_folder().join("bin"), Plan::peers_folder()];
    Ground { folder, authority, inner, programs }
}

fn usage(front: u32, all: &[u32], inside: Option<u32>) -> Used {
    Used {
        front: cpu_of_trees(&[front]),
        all: cpu_of_trees(all),
        inside: inside.map(|pid| cpu_of_trees(&[pid])),
    }
}

fn probe_command(probe: &str, ours: &Deployment, measure_ms: u64) -> Command {
    let text = probe
        .replace("GATEWAY", &ours.gateway_pid().to_string())
        .replace("CONNECTOR", &ours.connector_pid().to_string())
        .replace("SECONDS", &Duration::from_millis(measure_ms).as_secs_f64().to_string());
    let mut command = Command::new("sh");
    command.args(["-c", &text]);
    command
}

fn line(sample: &Sample) -> String {
    let figures: Vec<String> =
        sample.figures.iter().map(|(figure, value)| format!("{} {value:.3}", figure.heading())).collect();
    let errors: u64 = sample.errors.values().sum();
    format!("{} {} #{}: {}; errors {errors}", sample.series, sample.peer, sample.round, figures.join(", "))
}
