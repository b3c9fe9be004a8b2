//! Where a crowd goes: a site that is started for it and ends with it, or one that is there.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use client::token::TokenText;
use serde::Deserialize;
use serde_json::Value;

use super::site::{Site, SiteError};
use crate::lab::{
    Authority, Binaries, Deployment, DeploymentOptions, KeyKind, LabError, limit_lines, project_root, quoted,
};
use crate::process::{EndBy, Process, ProcessError, free_ports, run_to_end, send_signal, wait_until};

/// Time for a gateway until all its tunnels are there.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long a bulk token counts that lets the crowd in.
const TOKEN_LIFETIME: &str = "24h";
/// Devices that the site lists in one answer; one that is not among them is asked for by name.
const LISTED: usize = 10_000;
/// Arguments, and bytes of them, that a process of ours may have.
const COMMAND_LINE: usize = 64 * 1024;

/// Which site, in the words of the command line.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct TargetArgs {
    /// A site that is there already, on this machine or not: the ready file of `roamgate lab`, or one written by hand with the members
    /// `gateway.host`, `gateway.ca_file`, `roles[0].role_id`, `operator.url`, `operator.ca_file`,
    /// `operator.key_file` and `site_root_file`. Devices go wherever it says, and meet the limits of its gateway.
    /// Without it a site is started on this machine and ended afterwards
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
    /// Which build of `roamgate` is started
    #[arg(long, value_enum, default_value_t = Profile::Release)]
    pub(crate) profile: Profile,
    /// The program `roamgate`, in place of a build's
    #[arg(long, value_name = "PATH")]
    pub(crate) roamgate: Option<PathBuf>,
    /// A line for the section `[gateway]` of the site that is started, such as `max_connections = 30000`; may be repeated.
    /// With a line `[gateway.limits]` the lines after it are its limits; otherwise those for sources and devices are off
    #[arg(long, value_name = "LINE", conflicts_with = "ready_file")]
    pub(crate) gateway_line: Vec<String>,
}

/// A build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Profile {
    /// `target/release`: what figures are taken with.
    Release,
    /// `target/debug`: for work on the program.
    Dev,
}

/// The site could not be had, or did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    /// It did not start, or a command failed.
    #[error("the site on this machine does not work")]
    Lab(#[from] LabError),
    /// A command against the site failed.
    #[error("a command failed")]
    Command(#[from] ProcessError),
    /// It cannot be found.
    #[error("the site cannot be found")]
    Site(#[from] SiteError),
    /// A file or a port could not be had.
    #[error("the site on this machine cannot be set up")]
    System(#[from] std::io::Error),
    /// A command printed something else than it is documented to print.
    #[error("`roamgate {0}` printed something unexpected")]
    Output(String),
    /// There is no such process here.
    #[error("no process of the {0} is known on this machine")]
    NoProcess(&'static str),
}

/// A device as the site lists it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Listed {
    /// Its name.
    pub(crate) name: String,
    /// Its id.
    pub(crate) client_id: String,
}

/// The token by which a crowd comes in.
#[derive(Debug, Deserialize)]
pub(crate) struct BulkToken {
    id: String,
    /// Its text.
    #[serde(rename = "token")]
    pub(crate) text: TokenText,
}

/// A site, and how an operator speaks to it.
pub(crate) struct Target {
    /// What devices know of it.
    pub(crate) site: Site,
    roamgate: PathBuf,
    lab: Option<Lab>,
}

/// Processes of our own site, in the order in which they end.
struct Lab {
    /// Gateways beside the first one, and the first one after it was killed.
    gateways: Vec<Process>,
    deployment: Deployment,
    authority: Authority,
    lines: String,
    folder: tempfile::TempDir,
}

impl Target {
    /// Finds the site, or starts one.
    pub(crate) fn new(arguments: &TargetArgs) -> Result<Self, TargetError> {
        let profile = match arguments.profile {
            Profile::Release => "release",
            Profile::Dev => "debug",
        };
        let built = project_root().join("target").join(profile);
        // Roles run in folders of their own, where a relative path would mean another file.
        let roamgate =
            arguments.roamgate.as_deref().map_or_else(|| Ok(built.join("roamgate")), std::path::absolute)?;
        if let Some(path) = &arguments.ready_file {
            return Ok(Self { site: Site::read(path)?, roamgate, lab: None });
        }
        let binaries = Binaries { client: roamgate.with_file_name("roamgate-client"), roamgate };
        let folder = tempfile::Builder::new().prefix("roamgate-crowd-").tempdir()?;
        let authority = Authority::new(folder.path())?;
        let lines = arguments.gateway_line.join("\n");
        let options = DeploymentOptions { gateway_lines: lines.clone(), ..DeploymentOptions::default() };
        eprintln!("starting a site on this machine");
        let deployment = Deployment::start(&binaries, folder.path(), &authority, &options)?;
        let site = Site::of(&deployment, folder.path())?;
        let lab = Lab { gateways: Vec::new(), deployment, authority, lines, folder };
        Ok(Self { site, roamgate: binaries.roamgate, lab: Some(lab) })
    }

    /// Runs `roamgate` with these words as the operator; what it printed as JSON.
    pub(crate) fn operate(&self, words: &[&str]) -> Result<Value, TargetError> {
        if let Some(lab) = &self.lab {
            return Ok(lab.deployment.operate(words)?);
        }
        let mut command = Command::new(&self.roamgate);
        command.args(words).args(["--output", "json"]).args(&self.site.context);
        let printed = run_to_end(&format!("roamgate {}", words.join(" ")), command)?;
        serde_json::from_str(&printed).map_err(|_| TargetError::Output(words.join(" ")))
    }

    /// A new bulk token that lets any number of devices in, approved at once.
    pub(crate) fn bulk_token(&self) -> Result<BulkToken, TargetError> {
        let words = ["bulk-token", "new", "--lifetime", TOKEN_LIFETIME, "--note", "roamgate-bench"];
        let made = self.operate(&words)?;
        serde_json::from_value(made).map_err(|_| TargetError::Output("bulk-token new".to_owned()))
    }

    /// Ends a bulk token.
    pub(crate) fn block(&self, token: &BulkToken) -> Result<(), TargetError> {
        self.operate(&["bulk-token", "block", &token.id]).map(drop)
    }

    /// The devices with these names, as the site has them now. A name that two have is there twice.
    pub(crate) fn devices(&self, names: &[String]) -> Result<Vec<Listed>, TargetError> {
        let wrong = |_| TargetError::Output("device list".to_owned());
        let rows: Vec<Listed> = serde_json::from_value(self.operate(&["device", "list"])?).map_err(wrong)?;
        let is_all = rows.len() < LISTED;
        let wanted: std::collections::BTreeSet<_> = names.iter().collect();
        let mut found: Vec<_> = rows.into_iter().filter(|row| wanted.contains(&row.name)).collect();
        if !is_all {
            let listed: std::collections::BTreeSet<_> = found.iter().map(|row| row.name.clone()).collect();
            for name in names.iter().filter(|name| !listed.contains(*name)) {
                // One that is missing makes the command fail: it is missing.
                if let Ok(row) = self.operate(&["device", "show", name]) {
                    found.push(serde_json::from_value(row).map_err(wrong)?);
                }
            }
        }
        Ok(found)
    }

    /// The process of a role on this machine.
    pub(crate) fn pid(&self, role: &'static str) -> Result<u32, TargetError> {
        self.site.pids.get(role).copied().ok_or(TargetError::NoProcess(role))
    }

    /// Whether the site is one that was started here, whose processes may be killed.
    pub(crate) fn is_ours(&self) -> bool {
        self.lab.is_some()
    }

    /// The database of our own site.
    pub(crate) fn database(&self) -> Option<PathBuf> {
        self.lab.as_ref().map(|lab| lab.folder.path().join("site").join("site.db"))
    }

    /// Kills the gateway of our own site and starts it again with the same words. Gives back at once:
    /// devices find out by themselves.
    pub(crate) fn kill_and_restart_gateway(&mut self) -> Result<(), TargetError> {
        let pid = self.pid("gateway")?;
        let lab = self.lab.as_mut().ok_or(TargetError::NoProcess("gateway"))?;
        let mut command = command_of(pid)?;
        command.current_dir(std::fs::read_link(format!("/proc/{pid}/cwd"))?);
        send_signal(pid, "KILL");
        let address = self.site.address;
        wait_until("the end of the gateway", PATIENCE, || {
            // Its parent has not looked yet, so that it is there as a zombie, without sockets.
            let gone = std::net::TcpStream::connect(address).is_err();
            Ok::<_, TargetError>(gone.then_some(()))
        })?;
        let again = Process::start("gateway-again", command, lab.folder.path(), EndBy::Input)?;
        self.site.pids.insert("gateway".to_owned(), again.id());
        lab.gateways.push(again);
        Ok(())
    }

    /// Starts one more gateway beside the first; the site that devices of it know, and its process.
    pub(crate) fn add_gateway(&mut self, name: &str) -> Result<(Site, u32), TargetError> {
        let lab = self.lab.as_mut().ok_or(TargetError::NoProcess("gateway"))?;
        let [port] = free_ports()?;
        let host = format!("localhost:{port}");
        let folder = lab.folder.path();
        let files = lab.authority.issue(folder, name, KeyKind::Ecdsa)?;
        let bundle = folder.join(format!("{name}-bundle.json"));
        let words = ["gateway", "add", name, "--address", &host, "--host", &host, "--bundle"];
        let bundle_text = bundle.display().to_string();
        lab.deployment.operate(&[&words[..], &[&bundle_text]].concat())?;
        let text = format!(
            "[gateway]\nbundle = {}\nstate_directory = \"{name}-state\"\nlisten = [\"127.0.0.1:{port}\"]\n\
             certificate = {}\nkey = {}\n{}\n{}[logs]\ndirectory = \"{name}-logs\"\n",
            quoted(&bundle),
            quoted(&files.certificate),
            quoted(&files.key),
            lab.lines,
            limit_lines(&lab.lines)
        );
        let config = folder.join(format!("{name}.toml"));
        runtime::config::private_file::write(&config, text).map_err(std::io::Error::other)?;
        let mut command = Command::new(&self.roamgate);
        command.args(["serve", "--end-with-stdin", "--config"]).arg(&config).current_dir(folder);
        let process = Process::start(name, command, folder, EndBy::Input)?;
        let pid = process.id();
        lab.gateways.push(process);
        let mut site = self.site.clone();
        site.address.set_port(port);
        site.gateway = client::address::GatewayAddress::new(&host, self.site.gateway.role())
            .map_err(|_| SiteError::Gateway(host))?;
        self.settle()?;
        Ok((site, pid))
    }

    /// Waits until every gateway has all its tunnels and the site's newest version.
    pub(crate) fn settle(&self) -> Result<(), TargetError> {
        wait_until("the tunnels and the site's version", PATIENCE, || {
            let gateways = self.operate(&["gateway", "list"])?;
            let ready = gateways.as_array().is_some_and(|all| all.iter().all(is_settled));
            Ok(ready.then_some(()))
        })
    }
}

fn is_settled(gateway: &Value) -> bool {
    let shards = gateway["shards"].as_u64().unwrap_or(0).max(1);
    let has_all = gateway["tunnels"].as_u64().is_some_and(|tunnels| tunnels >= shards);
    has_all && gateway["version"] == gateway["site_version"]
}

/// The command of a process that runs, as it was started.
fn command_of(pid: u32) -> Result<Command, TargetError> {
    let line = std::fs::read(Path::new("/proc").join(pid.to_string()).join("cmdline"))?;
    let wrong = || TargetError::NoProcess("gateway");
    let line = String::from_utf8(line).map_err(|_| wrong())?;
    let mut words = line.split_terminator('\0');
    let program = words.next().filter(|_| line.len() < COMMAND_LINE).ok_or_else(wrong)?;
    let mut command = Command::new(program);
    command.args(words);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_of_a_process_is_read_back_as_it_was_given() {
        let command = command_of(std::process::id()).unwrap();
        let mut words = std::env::args();
        assert_eq!(command.get_program().to_str(), words.next().as_deref());
        assert!(command.get_args().map(|word| word.to_string_lossy().into_owned()).eq(words));
        assert!(command_of(u32::MAX).is_err());
    }

    #[test]
    fn a_gateway_without_tunnels_or_behind_the_site_is_not_settled() {
        let gateway = |tunnels, version| serde_json::json!({"shards": 2, "tunnels": tunnels, "version": version, "site_version": 5});
        assert!(is_settled(&gateway(2, 5)));
        assert!(!is_settled(&gateway(1, 5)) && !is_settled(&gateway(2, 4)));
    }
}
