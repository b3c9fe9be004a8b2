//! A deployment of our own, started for a measurement: site host, gateway and connection point, each a process
//! of its own, set up by the commands of the README. No scenario plays in it and no device is busy.

mod certificate;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use client::state::{StateError, StateFolder};
use serde_json::Value;

pub(crate) use certificate::{Authority, KeyKind, ServerFiles};

use crate::process::{EndBy, Process, ProcessError, free_ports, run_to_end, wait_until};

/// How long a role may take until it answers.
const PATIENCE: Duration = Duration::from_mins(1);

/// No deployment came to be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LabError {
    /// A process did not do its part.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A file could not be written or read.
    #[error("cannot use {path}")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// No ports.
    #[error("no free ports")]
    Ports(#[source] std::io::Error),
    /// Certificates could not be made.
    #[error("no certificates")]
    Certificate(#[from] rcgen::Error),
    /// A command printed something else than it is documented to print.
    #[error("`roamgate {0}` printed no such JSON")]
    Output(String),
    /// The device's folder cannot be read.
    #[error("the device's state cannot be read")]
    Device(#[from] StateError),
}

/// The release binaries that are measured.
#[derive(Debug, Clone)]
pub(crate) struct Binaries {
    pub(crate) roamgate: PathBuf,
    pub(crate) client: PathBuf,
}

/// The project's root, as this program was built from it.
pub(crate) fn project_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

impl Binaries {
    /// Those of a folder; without one those of `target/release`, built now if they are missing.
    pub(crate) fn find(folder: Option<&Path>) -> Result<Self, LabError> {
        let root = project_root();
        if let Some(folder) = folder {
            // Roles run in folders of their own, where a relative path would mean another file.
            let folder = std::path::absolute(folder)
                .map_err(|source| LabError::File { path: folder.to_owned(), source })?;
            return Ok(Self { roamgate: folder.join("roamgate"), client: folder.join("roamgate-client") });
        }
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        let folder = target.join("release");
        let found = Self { roamgate: folder.join("roamgate"), client: folder.join("roamgate-client") };
        if !(found.roamgate.is_file() && found.client.is_file()) {
            eprintln!("building the release binaries, which takes some minutes");
            let mut cargo = Command::new("cargo");
            cargo.args(["build", "--release", "--locked", "-p", "roamgate", "-p", "client"]);
            cargo.current_dir(root);
            run_to_end("cargo build", cargo)?;
        }
        Ok(found)
    }
}

/// What a deployment is to be like.
#[derive(Debug, Clone)]
pub(crate) struct DeploymentOptions {
    /// Key of the gateway's certificate.
    pub(crate) key: KeyKind,
    /// Lines for the section `[gateway]`, besides those without a default. Its limits are off unless these lines
    /// have a section `[gateway.limits]`.
    pub(crate) gateway_lines: String,
    /// Lines for the section `[connection-point]`.
    pub(crate) connector_lines: String,
}

impl Default for DeploymentOptions {
    fn default() -> Self {
        Self { key: KeyKind::Ecdsa, gateway_lines: String::new(), connector_lines: String::new() }
    }
}

/// Site host, gateway and connection point, running.
#[derive(Debug)]
pub(crate) struct Deployment {
    folder: PathBuf,
    binaries: Binaries,
    context: [String; 6],
    /// Where devices connect.
    pub(crate) address: SocketAddr,
    /// What they write into `Host`.
    pub(crate) host: String,
    /// The authority of the gateway's certificate.
    pub(crate) ca_file: PathBuf,
    /// The role of the real management point.
    pub(crate) management_point_role: String,
    // Dropped in this order, the outermost first.
    connector: Process,
    gateway: Process,
    site: Process,
}

/// A registered device of the deployment, with what a request of it needs.
#[derive(Debug, Clone)]
pub(crate) struct EnrolledDevice {
    /// Its certificate, DER.
    pub(crate) certificate: PathBuf,
    /// Its private key, PKCS#8 DER.
    pub(crate) key: PathBuf,
    /// A CCM token of the class Device, bound to that key.
    pub(crate) token: String,
}

impl Deployment {
    /// Makes the site and starts all roles; done when the gateway has its tunnels and the site's newest version.
    pub(crate) fn start(
        binaries: &Binaries,
        folder: &Path,
        authority: &Authority,
        options: &DeploymentOptions,
    ) -> Result<Self, LabError> {
        let [mp, mp_tls, link, api, gateway] = free_ports().map_err(LabError::Ports)?;
        let site_folder = folder.join("site");
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let mut init = Command::new(&binaries.roamgate);
        init.args(words("site init --site-code RG1 --name Bench --listen 127.0.0.1 --host localhost"))
            .args(words(&format!(
                "--mp-port {mp} --mp-tls-port {mp_tls} --link-port {link} --api-port {api}"
            )))
            .arg("--dir")
            .arg(&site_folder);
        run_to_end("site init", init)?;
        let context = [
            "--server".to_owned(),
            format!("https://localhost:{api}"),
            "--ca-file".to_owned(),
            site_folder.join("site-root.pem").display().to_string(),
            "--operator-key-file".to_owned(),
            site_folder.join("operator.key").display().to_string(),
        ];
        let serve = |config: &Path| {
            let mut command = Command::new(&binaries.roamgate);
            // Its configuration names files without a folder.
            command.args(["serve", "--end-with-stdin", "--config"]).arg(config).current_dir(folder);
            command
        };
        let start = |name: &str, config: &Path| Process::start(name, serve(config), folder, EndBy::Input);
        let mut site = start("site", &site_folder.join("site.toml"))?;
        site.wait_for_port(SocketAddr::from(([127, 0, 0, 1], api)), PATIENCE)?;
        let operate = |words: &[&str]| operate(binaries, &context, words);
        let url = format!("https://localhost:{mp_tls}");
        let role = operate(&["role", "add", "MP1", "--internal-url", &url])?;

        let host = format!("localhost:{gateway}");
        let files = authority.issue(folder, "gateway", options.key)?;
        let bundle = |name: &str| folder.join(format!("{name}-bundle.json"));
        let gateway_bundle = bundle("gateway").display().to_string();
        operate(&[
            "gateway",
            "add",
            "GW1",
            "--address",
            &host,
            "--host",
            &host,
            "--bundle",
            &gateway_bundle,
        ])?;
        let limits = limit_lines(&options.gateway_lines);
        let config = |limits: &str| {
            format!(
                "[gateway]\nbundle = \"gateway-bundle.json\"\nstate_directory = \"gateway-state\"\n\
                 listen = [\"127.0.0.1:{gateway}\"]\ncertificate = {}\nkey = {}\n{}\n{limits}\
                 [logs]\ndirectory = \"gateway-logs\"\n",
                quoted(&files.certificate),
                quoted(&files.key),
                options.gateway_lines
            )
        };
        let gateway_config = write(&folder.join("gateway.toml"), &config(&limits))?;
        let mut show = Command::new(&binaries.roamgate);
        show.args(["config", "show"]).arg(&gateway_config).current_dir(folder);
        if run_to_end("config show", show).is_err() {
            // A build to compare with, from before there were such limits, or lines that it will complain about.
            eprintln!("{} takes no such limits: its own apply, if it has any", binaries.roamgate.display());
            write(&gateway_config, &config(""))?;
        }
        let gateway_process = start("gateway", &gateway_config)?;

        let connector_bundle = bundle("connection-point").display().to_string();
        operate(&["connection-point", "add", "CP1", "--bundle", &connector_bundle])?;
        let config = format!(
            "[connection-point]\nbundle = \"connection-point-bundle.json\"\n\
             state_directory = \"connection-point-state\"\n{}\n[logs]\ndirectory = \"connection-point-logs\"\n",
            options.connector_lines
        );
        let connector_config = write(&folder.join("connection-point.toml"), &config)?;
        let connector = start("connection-point", &connector_config)?;
        let mut deployment = Self {
            folder: folder.to_owned(),
            binaries: binaries.clone(),
            address: SocketAddr::from(([127, 0, 0, 1], gateway)),
            host,
            ca_file: authority.file.clone(),
            management_point_role: text(&role, "role_id")?,
            context,
            connector,
            gateway: gateway_process,
            site,
        };
        deployment.settle()?;
        Ok(deployment)
    }

    /// Waits until the gateway has all its tunnels and the site's newest version.
    pub(crate) fn settle(&mut self) -> Result<(), LabError> {
        wait_until("the tunnels and the site's version", PATIENCE, || {
            self.check()?;
            let gateways = operate(&self.binaries, &self.context, &["gateway", "list"])?;
            let gateway = gateways.get(0).cloned().unwrap_or_default();
            let shards = gateway["shards"].as_u64().unwrap_or(0).max(1);
            let has_all = gateway["tunnels"].as_u64().is_some_and(|tunnels| tunnels >= shards);
            Ok((has_all && gateway["version"] == gateway["site_version"]).then_some(()))
        })
    }

    /// An error when a role has ended.
    pub(crate) fn check(&mut self) -> Result<(), ProcessError> {
        self.site.check()?;
        self.gateway.check()?;
        self.connector.check()
    }

    /// Runs `roamgate` with these words as the operator; what it printed as JSON.
    pub(crate) fn operate(&self, words: &[&str]) -> Result<Value, LabError> {
        operate(&self.binaries, &self.context, words)
    }

    /// Publishes a role; its id.
    pub(crate) fn add_role(&mut self, name: &str, url: &str, mode: &str) -> Result<String, LabError> {
        let role = self.operate(&["role", "add", name, "--internal-url", url, "--mode", mode])?;
        self.settle()?;
        text(&role, "role_id")
    }

    /// Sets a device up over the gateway, as an administrator would.
    pub(crate) fn enrol(&self, name: &str) -> Result<EnrolledDevice, LabError> {
        let folder = self.folder.join("devices").join(name);
        std::fs::create_dir_all(&folder).map_err(|source| LabError::File { path: folder.clone(), source })?;
        let state = folder.join("state");
        let bulk = folder.join("bulk-token");
        let bulk_text = bulk.display().to_string();
        self.operate(&["bulk-token", "new", "--max-uses", "1", "--token-file", &bulk_text])?;
        let client = |words: &[&str]| {
            let mut command = Command::new(&self.binaries.client);
            command.args(words).arg("--state").arg(&state);
            command
        };
        let address =
            format!("CCMHOSTNAME={}/CCM_Proxy_MutualAuth/{}", self.host, self.management_point_role);
        let mut setup =
            client(&["setup", &address, "SMSSITECODE=RG1", "--hardware-id", "random", "--name", name]);
        setup.arg("--regtoken-file").arg(&bulk).arg("--ca-file").arg(&self.ca_file);
        setup.arg("--site-root").arg(self.folder.join("site").join("site-root.pem"));
        run_to_end("client setup", setup)?;
        let token = run_to_end("client token", client(&["token"]))?.trim().to_owned();
        let material = StateFolder::open(&state)?.load_key()?;
        let files = (folder.join("certificate.der"), folder.join("key.der"));
        for (path, bytes) in [(&files.0, &material.certificate[..]), (&files.1, &material.pkcs8[..])] {
            runtime::config::private_file::write(path, bytes).map_err(|error| LabError::File {
                path: path.clone(),
                source: std::io::Error::other(error),
            })?;
        }
        Ok(EnrolledDevice { certificate: files.0, key: files.1, token })
    }

    /// The gateway's process id.
    pub(crate) fn gateway_pid(&self) -> u32 {
        self.gateway.id()
    }

    /// The connection point's process id.
    pub(crate) fn connector_pid(&self) -> u32 {
        self.connector.id()
    }

    /// The site host's process id.
    pub(crate) fn site_pid(&self) -> u32 {
        self.site.id()
    }
}

/// Head of their section in a gateway's configuration.
const LIMITS_SECTION: &str = "[gateway.limits]";
/// A rate that nobody reaches.
const EVERY: &str = "1000000/s burst 1000000";
/// Limits of a gateway by source and device, each with a value that is counted and that nobody reaches.
const LIMITS: [(&str, &str); 12] = [
    ("source_connections", "100 %"),
    ("source_handshakes", EVERY),
    ("all_handshakes", EVERY),
    ("source_refused", EVERY),
    ("source_tokens", EVERY),
    ("bulk_tokens", EVERY),
    ("all_tokens", EVERY),
    ("device_requests", EVERY),
    ("device_tokens", EVERY),
    ("device_registration", EVERY),
    ("device_at_once", "1000000"),
    ("source_at_once", "1000000"),
];

/// The section that switches the limits off: what is played here is thousands of devices from a few addresses,
/// and a device as busy as ten thousand. Nothing where the lines for `[gateway]` have such a section themselves.
pub(crate) fn limit_lines(gateway_lines: &str) -> String {
    if has_limits(gateway_lines) { String::new() } else { limits(|_| "off") }
}

/// Whether these lines for `[gateway]` have limits of their own.
pub(crate) fn has_limits(gateway_lines: &str) -> bool {
    gateway_lines.lines().any(|line| line.trim() == LIMITS_SECTION)
}

/// The section in which every limit is counted and nobody is refused.
pub(crate) fn counted_limits() -> String {
    limits(|unreached| unreached)
}

fn limits(value: impl Fn(&'static str) -> &'static str) -> String {
    let lines = LIMITS.map(|(name, unreached)| format!("{name} = \"{}\"\n", value(unreached))).concat();
    format!("{LIMITS_SECTION}\n{lines}")
}

/// A path as a string of a TOML file.
pub(crate) fn quoted(path: &Path) -> String {
    // A JSON string is a TOML string, too.
    Value::from(path.display().to_string()).to_string()
}

fn operate(binaries: &Binaries, context: &[String; 6], words: &[&str]) -> Result<Value, LabError> {
    let mut command = Command::new(&binaries.roamgate);
    command.args(words).args(["--output", "json"]).args(context);
    let printed = run_to_end(&format!("roamgate {}", words.join(" ")), command)?;
    if printed.trim().is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&printed).map_err(|_| LabError::Output(words.join(" ")))
}

fn text(value: &Value, name: &str) -> Result<String, LabError> {
    value[name].as_str().map(str::to_owned).ok_or_else(|| LabError::Output(name.to_owned()))
}

fn write(path: &Path, text: &str) -> Result<PathBuf, LabError> {
    runtime::config::private_file::write(path, text)
        .map_err(|error| LabError::File { path: path.to_owned(), source: std::io::Error::other(error) })?;
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_off_unless_the_lines_bring_their_own() {
        let off = limit_lines("max_connections = 30000");
        assert!(
            off.starts_with("[gateway.limits]\n") && off.matches("= \"off\"\n").count() == LIMITS.len(),
            "{off}"
        );
        assert_eq!(limit_lines("max_connections = 30000\n [gateway.limits]\ndevice_requests = \"9/s\""), "");
    }

    #[test]
    fn no_limit_by_source_or_device_is_forgotten() {
        let of_one_request = [
            "head_bytes",
            "head_lines",
            "head_timeout",
            "handshake_timeout",
            "write_timeout",
            "body_bytes",
            "chunked_bodies",
            "tunnel_connections",
        ];
        let config = std::fs::read_to_string(project_root().join("config").join("gateway.toml")).unwrap();
        let (_, section) = config.split_once(LIMITS_SECTION).unwrap();
        let (section, _) = section.split_once("\n[").unwrap();
        let keys =
            section.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(" = "));
        let unknown: Vec<_> = keys
            .map(|(key, _)| key)
            .filter(|key| !of_one_request.contains(key) && !LIMITS.iter().any(|(name, _)| name == key))
            .collect();
        assert!(unknown.is_empty(), "they would refuse what is measured: {unknown:?}");
    }

    #[test]
    fn a_path_with_quotes_stays_one_string() {
        assert_eq!(quoted(Path::new("/tmp/a \"b\"\\c")), r#""/tmp/a \"b\"\\c""#);
    }

    #[test]
    fn a_relative_folder_of_binaries_is_found_from_everywhere() {
        let found = Binaries::find(Some(Path::new("target/debug"))).unwrap();
        assert!(found.roamgate.is_absolute() && found.client.ends_with("target/debug/roamgate-client"));
    }
}
