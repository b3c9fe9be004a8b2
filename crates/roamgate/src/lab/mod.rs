//! `roamgate lab`: every role on this machine, a few devices, and the scenarios of the field.
//!
//! Site host, gateway, connection point and each device are processes of their own, started
//! and spoken to as an administrator would: by configuration files, by the operator API, by the
//! client's command line. The lab knows no back door but one, which is called what it is: the
//! site host is told to approve whatever else registers.

mod child;
mod client_pki;
mod connection_point;
mod device;
mod gateway;
mod hosts;
mod namespace;
mod pki;
mod ready_file;
mod scenario;
mod show;
mod tenant;
mod wire;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use self::device::Device;
use self::hosts::{Counts, Hosts};
use self::namespace::Isolation;
use self::ready_file::{Ready, ReadyDevice};
use self::show::Show;
use crate::cli::{LabArgs, LabWireArgs};
use crate::context::Context;
use crate::exit::{Exit, Failure};

/// Runs the lab to its end.
pub(crate) async fn run(arguments: LabArgs) -> Result<(), Failure> {
    let folder = Folder::new(arguments.dir.as_deref())?;
    let show = Show::new();
    show.heading("Roamgate lab");
    let isolation = Isolation::detect();
    match &isolation {
        Isolation::Namespace => {
            show.note(
                "Each device lives in a network namespace of its own and reaches only what it is wired to.",
            );
        }
        Isolation::None(reason) => show.note(&format!(
            "This system gives no network namespaces to devices ({reason}).\n\
             They share the machine's network; which way each request came is read from the site's records.",
        )),
    }
    let counts =
        Counts { gateways: arguments.gateways.into(), connection_points: arguments.connection_points.into() };
    let hosts = Hosts::start(&folder.path, counts, &show).await?;
    let outcome = play(&arguments, &folder.path, &show, &isolation, hosts).await;
    if outcome.is_err() {
        folder.keep();
    }
    outcome
}

async fn play(
    arguments: &LabArgs,
    folder: &Path,
    show: &Show,
    isolation: &Isolation,
    mut hosts: Hosts,
) -> Result<(), Failure> {
    let mut devices = Vec::new();
    let result = async {
        devices.push(scenario::inside_then_unplugged(&hosts, isolation, show).await?);
        scenario::over_the_internet(&hosts, isolation, show, arguments.devices, &mut devices).await?;
        scenario::by_certificate_and_tenant(&hosts, isolation, show, &mut devices).await?;
        hosts.check()
    }
    .await;
    if result.is_ok() && !arguments.once {
        stay(arguments, folder, show, &hosts, &devices).await?;
    }
    for device in devices {
        device.stop().await;
    }
    hosts.stop().await;
    if result.is_ok() && arguments.once {
        show.heading(&format!(
            "All scenarios played in {:.0} seconds. Everything has ended.",
            show.elapsed()
        ));
    }
    result
}

/// Everything answers: tell whoever waits for it, and stay until somebody says stop.
async fn stay(
    arguments: &LabArgs,
    folder: &Path,
    show: &Show,
    hosts: &Hosts,
    devices: &[Device],
) -> Result<(), Failure> {
    let ready = hosts.ready(folder).await?;
    let document = ready_document(hosts, folder, devices, &ready);
    if let Some(path) = &arguments.ready_file {
        ready_file::write(path, &document)?;
    }
    let remembered = RememberedContext::set(&hosts.context)?;
    show.heading("The lab is up. Try, in another terminal:");
    show.note(
        "roamgate device list                     who is there\n\
         roamgate device show NAME                how it proves itself, and why\n\
         roamgate bulk-token new --max-uses 1     let one more device in\n\
         roamgate gateway list                    tunnels and versions\n\
         roamgate role show MP1                   what protects each hop, which clients it takes\n\
         roamgate tenant list                     the lab's tenant and its users\n\
         roamgate trust list                      the lab's client authorities and their revocation lists\n\
         roamgate audit list                      who did what\n\
         roamgate explain RG-1207                 what a refusal means",
    );
    show.note(&format!("(`roamgate` is {})", hosts.roamgate.display()));
    show.note(&format!("Logs and state: {}", folder.display()));
    show.note(&format!(
        "To see tokens renewed, move the lab's clock by nine hours: echo 32400 > {}",
        folder.join(hosts::CLOCK_FILE).display()
    ));
    show.note("Ctrl-C ends it.");
    wait_for_the_end(arguments.end_with_stdin).await?;
    drop(remembered);
    Ok(())
}

fn ready_document(
    hosts: &Hosts,
    folder: &Path,
    devices: &[Device],
    ready: &hosts::Answers,
) -> serde_json::Value {
    let listed: Vec<_> = devices
        .iter()
        .map(|device| ReadyDevice {
            name: device.name.clone(),
            client_id: device.client_id.clone(),
            state_dir: device.state.clone(),
        })
        .collect();
    let mut pids = hosts.pids();
    for device in devices {
        pids[&device.name] = json!(device.pid());
    }
    Ready {
        dir: folder,
        site: &ready.site,
        roles: &ready.roles,
        gateways: &hosts.gateways,
        connection_points: &hosts.connection_points,
        gateway_ca: &hosts.pki.ca_file,
        tenant: hosts.tenant.ready(),
        pki: &hosts.client_pki,
        operator_url: &hosts.context.server,
        site_root: &hosts.context.ca_file,
        operator_key: &hosts.context.operator_key_file,
        token_certificate: &ready.token_certificate,
        devices: &listed,
        pids,
    }
    .document()
}

async fn wait_for_the_end(with_stdin: bool) -> Result<(), Failure> {
    let drain = runtime::Drain::new();
    if with_stdin {
        runtime::signal::end_with_standard_input(&drain, Duration::from_secs(10))
            .map_err(|error| Failure::from_error(Exit::Bug, &error))?;
    }
    tokio::select! {
        stop = runtime::signal::wait_for_stop_signal() => {
            stop.map_err(|error| Failure::from_error(Exit::Bug, &error))
        }
        () = drain.started() => Ok(()),
    }
}

/// `roamgate lab-wire`: the device's end of its wires, inside the namespace, and the device.
pub(crate) async fn run_wired(arguments: LabWireArgs) -> Result<i32, Failure> {
    let failed = |error: &dyn std::error::Error| Failure::from_error(Exit::Bug, error);
    let lo = tokio::process::Command::new("ip").args(["link", "set", "lo", "up"]).status().await;
    if !lo.map_err(|error| failed(&error))?.success() {
        return Err(Failure::new(Exit::Bug, "the namespace's loopback interface does not come up"));
    }
    for wire in &arguments.wire {
        let malformed = || Failure::new(Exit::Usage, format!("not ADDRESS=SOCKET: {wire}"));
        let (address, socket) = wire.split_once('=').ok_or_else(malformed)?;
        let address = address.parse().map_err(|_| malformed())?;
        wire::serve_device_end(address, PathBuf::from(socket)).await.map_err(|error| failed(&error))?;
    }
    let (program, words) = arguments.program.split_first().expect("clap demands a program");
    // Standard input passes through: the device ends when the lab's end of it closes.
    let status = tokio::process::Command::new(program).args(words).kill_on_drop(true).status().await;
    Ok(status.map_err(|error| failed(&error))?.code().unwrap_or(1))
}

/// The lab's folder: a temporary one is removed at the end, a named one stays.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    temporary: std::cell::Cell<bool>,
}

impl Folder {
    fn new(named: Option<&Path>) -> Result<Self, Failure> {
        let path = match named {
            Some(path) => {
                std::path::absolute(path).map_err(|error| Failure::from_error(Exit::Usage, &error))?
            }
            None => std::env::temp_dir().join(format!("roamgate-lab-{}", std::process::id())),
        };
        if path.join("site").exists() {
            return Err(Failure::new(Exit::Conflict, format!("{} holds a lab already", path.display()))
                .help("Name another folder, or remove this one."));
        }
        runtime::config::private_dir::create(&path)
            .map_err(|error| Failure::from_error(Exit::Refused, &error))?;
        Ok(Self { path, temporary: std::cell::Cell::new(named.is_none()) })
    }

    /// Keeps even a temporary folder: after a failure it is the evidence.
    fn keep(&self) {
        if self.temporary.replace(false) {
            crate::output::note(&format!("Logs and state are kept in {}", self.path.display()));
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.temporary.get() {
            // What cannot be removed is in the system's temporary folder and goes with it.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// The command line's context points to the lab while it is up, and back afterwards.
#[derive(Debug)]
struct RememberedContext {
    lab: Context,
    before: Option<Context>,
}

impl RememberedContext {
    fn set(lab: &Context) -> Result<Self, Failure> {
        let before = Context::load()?;
        lab.save()?;
        Ok(Self { lab: lab.clone(), before })
    }
}

impl Drop for RememberedContext {
    fn drop(&mut self) {
        // Somebody may have set another context meanwhile: that one stays.
        if Context::load().ok().flatten().as_ref() == Some(&self.lab) {
            let _ = match &self.before {
                Some(before) => before.save().map(drop),
                None => Context::forget(),
            };
        }
    }
}
