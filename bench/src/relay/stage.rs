//! Everything that is measured, started and in its place; and the rounds over it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use miette::{IntoDiagnostic as _, WrapErr as _};

use super::Plan;
use super::driver::Driver;
use super::load::{Ask, Job};
use super::measure::{Figure, Results, Sample, Used, figures};
use super::peer::{Ground, Inner, OURS, PEERS, Peer};
use super::row::{Asked, Port, RowId, Task, idle_connections, tasks};
use crate::lab::{Authority, Binaries, Deployment, DeploymentOptions, EnrolledDevice, KeyKind};
use crate::process::{cpu_of_trees, memory_of_tree};

/// Everybody is connected, and the load generator stands by.
#[derive(Debug)]
pub(super) struct Stage {
    folder: Folder,
    authority: Authority,
    driver: Driver,
    ours: Ours,
    peers: Vec<Peer>,
    inner: Inner,
    results: Results,
}

/// Roamgate, and a device of it.
#[derive(Debug)]
struct Ours {
    peer: Peer,
    device: EnrolledDevice,
    /// Another one whose gateway shows an RSA certificate, for handshakes.
    rsa: Option<Deployment>,
    tenant: Option<String>,
    deployment: Deployment,
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
        let ours = Ours::start(plan, &binaries, path, &authority, &inner)
            .into_diagnostic()
            .wrap_err("Roamgate does not start")?;
        let ground = Ground {
            folder: path,
            authority: &authority,
            inner: &inner,
            programs: vec![Plan::peers_folder().join("bin"), Plan::peers_folder()],
        };
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
        results.titles =
            peers.iter().chain([&ours.peer]).map(|peer| (peer.id.to_owned(), peer.title.clone())).collect();
        let driver = Driver::start().into_diagnostic()?;
        Ok(Self { folder, authority, driver, ours, peers, inner, results })
    }

    /// All rows, all rounds, everybody in turn.
    pub(super) fn measure(&mut self, plan: &Plan) -> miette::Result<Results> {
        for row in &plan.rows {
            for round in 0..plan.rounds {
                self.round(plan, *row, round)?;
            }
        }
        Ok(std::mem::take(&mut self.results))
    }

    fn round(&mut self, plan: &Plan, row: RowId, round: u32) -> miette::Result<()> {
        // Ours stands between the others, and whoever was first is last in the next round.
        let count = self.peers.len() + 1;
        for turn in 0..count {
            let index = (turn + round as usize) % count;
            let id = self.peers.get(index).map_or(OURS, |peer| peer.id);
            for task in tasks(row, id) {
                if task.asked == Asked::StrangersPage && self.ours.tenant.is_none() {
                    continue;
                }
                let sample = self.one(plan, &task, index, round)?;
                eprintln!("{}", line(&sample));
                self.results.samples.push(sample);
            }
        }
        Ok(())
    }

    fn one(&mut self, plan: &Plan, task: &Task, index: usize, round: u32) -> miette::Result<Sample> {
        let Self { driver, ours, peers, inner, authority, .. } = self;
        let is_ours = index >= peers.len();
        let peer = peers.get(index).unwrap_or(&ours.peer);
        let token = ours.device.token.as_str();
        let address = match task.port {
            Port::Main => Some(peer.address),
            Port::Rsa => peer.rsa,
            Port::Asking => peer.asking,
        };
        let own = task.shows.then_some(&ours.device);
        let job = Job {
            address: address.unwrap_or(peer.address),
            tls: peer.tls(authority, own),
            ask: ask(peer, ours, task.asked, token),
            manner: task.manner.with(|| peer.get_large(token)),
            warm_up_ms: plan.warm_up_ms,
            // A large answer counts when it is whole: there must be time for some.
            measure_ms: if task.asked == Asked::Large { plan.measure_ms.max(3000) } else { plan.measure_ms },
        };
        let front = match (task.port, &ours.rsa) {
            (Port::Rsa, Some(rsa)) if is_ours => rsa.gateway_pid(),
            _ => peer.front,
        };
        let inner = inner.process.id();
        let all: Vec<u32> = peer.all.iter().copied().chain([inner, front]).collect();
        let inside = is_ours.then(|| ours.deployment.connector_pid());
        let memory_before = memory_of_tree(front);
        let probe = plan.probe.as_ref().filter(|_| is_ours);
        let probe = probe.map(|probe| probe_command(probe, ours, plan.measure_ms));
        let (outcome, (before, memory, probe)) = driver
            .play(&job, || {
                let memory = memory_of_tree(front);
                let probe = probe.map(|mut command| command.spawn());
                (usage(front, &all, inside), memory, probe)
            })
            .into_diagnostic()
            .wrap_err_with(|| format!("{} of {}", task.series, peer.id))?;
        let after = usage(front, &all, inside);
        if let Some(Ok(mut probe)) = probe {
            // Its own outcome is for whoever asked for it.
            let _ = probe.wait();
        }
        ours.deployment.check().into_diagnostic()?;
        let (series, id) = (task.series.to_owned(), peer.id.to_owned());
        if let Some(peer) = peers.get_mut(index) {
            peer.check().into_diagnostic()?;
        }
        let used = Used {
            front: after.front.saturating_sub(before.front),
            all: after.all.saturating_sub(before.all),
            inside: after.inside.zip(before.inside).map(|(after, before)| after.saturating_sub(before)),
        };
        let mut figures = figures(&outcome, used);
        if task.series == "idle" {
            let grown = memory.proportional.saturating_sub(memory_before.proportional);
            #[expect(clippy::cast_precision_loss, reason = "memory of a measurement is small")]
            let each = grown as f64 / 1024.0 / idle_connections() as f64;
            figures.retain(|figure, _| *figure == Figure::P50Ms);
            figures.insert(Figure::KibPerConnection, each);
        }
        Ok(Sample { series, peer: id, round, figures, errors: outcome.errors })
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Folder::Kept(path) = &self.folder {
            eprintln!("everything stays in {}", path.display());
        }
    }
}

impl Ours {
    fn start(
        plan: &Plan,
        binaries: &Binaries,
        folder: &Path,
        authority: &Authority,
        inner: &Inner,
    ) -> Result<Self, crate::lab::LabError> {
        let deploy = |name: &str, key: KeyKind| {
            let folder = folder.join(name);
            std::fs::create_dir_all(&folder)
                .map_err(|source| crate::lab::LabError::File { path: folder.clone(), source })?;
            let options = DeploymentOptions {
                key,
                gateway_lines: plan.gateway_lines.clone(),
                connector_lines: plan.connector_lines.clone(),
            };
            Deployment::start(binaries, &folder, authority, &options)
        };
        let mut deployment = deploy(OURS, KeyKind::Ecdsa)?;
        let device = deployment.enrol("bench-1")?;
        // Gateways publish no role that speaks plain HTTP inside: ours has TLS on that hop, too, as it must.
        deployment.operate(&["trust", "add", &authority.file.display().to_string()])?;
        let url = format!("https://localhost:{}", inner.tls.port());
        let role = deployment.add_role("inner", &url, "https")?;
        let tenant = plan.rows.contains(&RowId::Auth).then(|| onboard(&mut deployment)).transpose()?;
        let rsa = plan
            .rows
            .contains(&RowId::Handshake)
            .then(|| deploy("roamgate-rsa", KeyKind::Rsa))
            .transpose()?;
        let peer = Peer {
            id: OURS,
            title: "Roamgate: gateway, tunnel, connection point; authentication on".to_owned(),
            address: deployment.address,
            rsa: rsa.as_ref().map(|rsa| rsa.address),
            asking: None,
            is_tls: true,
            prefix: format!("/CCM_Proxy_ServerAuth/{role}"),
            front: deployment.gateway_pid(),
            all: vec![deployment.gateway_pid(), deployment.connector_pid()],
            processes: Vec::new(),
        };
        Ok(Self { peer, device, rsa, tenant, deployment })
    }
}

/// Onboards a tenant that nobody belongs to, so that the gateway has a page for strangers.
fn onboard(deployment: &mut Deployment) -> Result<String, crate::lab::LabError> {
    let tenant = "9aaf466a-3f40-4468-b3cd-f0010f21f05a";
    // Nobody listens there: its keys never come, and no token of it is shown.
    let authority = "https://127.0.0.1:9/none";
    deployment.operate(&["tenant", "add", tenant, "--authority", authority, "--client-app-id", tenant])?;
    deployment.settle()?;
    Ok(tenant.to_owned())
}

fn ask(peer: &Peer, ours: &Ours, asked: Asked, token: &str) -> Ask {
    match asked {
        Asked::Small => peer.get_small(token),
        Asked::Large => peer.get_large(token),
        Asked::Message => peer.post(token),
        Asked::OwnPage => peer.own_page("ServiceMetadata", token),
        Asked::StrangersPage => {
            let tenant = ours.tenant.as_deref().unwrap_or_default();
            peer.own_page(&format!("AADAuthInfo?TenantID={tenant}"), token)
        }
    }
}

fn usage(front: u32, all: &[u32], inside: Option<u32>) -> Used {
    Used {
        front: cpu_of_trees(&[front]),
        all: cpu_of_trees(all),
        inside: inside.map(|pid| cpu_of_trees(&[pid])),
    }
}

fn probe_command(probe: &str, ours: &Ours, measure_ms: u64) -> Command {
    let text = probe
        .replace("GATEWAY", &ours.deployment.gateway_pid().to_string())
        .replace("CONNECTOR", &ours.deployment.connector_pid().to_string())
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
