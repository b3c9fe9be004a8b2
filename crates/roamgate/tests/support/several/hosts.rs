//! The hosts, set up by the commands that an administrator types, each process started, killed, asked to stop
//! and started again by the story.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::organisation::Organisation;
use crate::support::{bytes_of, roamgate, run, wait_for};

/// Shards of each gateway.
pub(crate) const SHARDS: u64 = 2;
/// How long a process may take to end when it is asked to, on a busy machine: its drain waits ten seconds.
const STOP: Duration = Duration::from_secs(15);
/// How long the site may take to answer operators, on a busy machine.
const UP: Duration = Duration::from_mins(1);

/// A role's process.
pub(crate) struct Process {
    /// Its name, at the site too.
    pub(crate) name: String,
    config: PathBuf,
    output: PathBuf,
    child: Option<Child>,
}

impl Process {
    fn start(name: &str, config: PathBuf) -> Self {
        let output = config.with_extension("out");
        let mut process = Self { name: name.to_owned(), config, output, child: None };
        process.start_again();
        process
    }

    /// Starts it with the configuration and the state that it had.
    pub(crate) fn start_again(&mut self) {
        assert!(self.child.is_none(), "{} runs", self.name);
        let output = File::options().create(true).append(true).open(&self.output).expect("a file");
        let copy = output.try_clone().expect("a file");
        let mut command = Command::new(roamgate());
        command.args(["serve", "--end-with-stdin", "--config"]).arg(&self.config);
        // It ends with this test, however that ends.
        command.stdin(Stdio::piped()).stdout(copy).stderr(output);
        self.child = Some(command.spawn().expect("the role starts"));
    }

    /// Whether it was started and not ended by the story.
    pub(crate) fn is_up(&self) -> bool {
        self.child.is_some()
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap_or_else(|| panic!("{} does not run", self.name)).id()
    }

    /// Ends it by SIGKILL.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it is ours");
        child.wait().expect("it ends");
    }

    /// Asks it to stop, as a service manager does.
    pub(crate) fn ask_to_stop(&self) {
        run(Command::new("kill").args(["-TERM", &self.pid().to_string()]), b"");
    }

    /// Waits until it has stopped.
    pub(crate) fn wait_until_stopped(&mut self) -> Duration {
        let mut child = self.child.take().expect("it runs");
        let name = format!("{} has stopped", self.name);
        let (status, took): (ExitStatus, _) = wait_for(&name, STOP, || child.try_wait().expect("a state"));
        assert!(status.success(), "{}: {status}: {}", self.name, self.said());
        took
    }

    /// What it printed.
    pub(crate) fn said(&self) -> String {
        String::from_utf8_lossy(&bytes_of(&self.output)).into_owned()
    }

    /// Lines with this text in its logs.
    pub(crate) fn log_lines(&self, text: &str) -> usize {
        let folder = self.config.parent().expect("a folder").join("logs");
        let files = crate::support::files_below(&folder);
        files.iter().map(|path| String::from_utf8_lossy(&bytes_of(path)).matches(text).count()).sum()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.stdin.take());
            let began = Instant::now();
            while matches!(child.try_wait(), Ok(None)) {
                if began.elapsed() > STOP {
                    let _ = child.kill();
                    let _ = child.wait();
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// A gateway and where it is.
pub(crate) struct Gateway {
    pub(crate) process: Process,
    /// `localhost:port`, as devices write it.
    pub(crate) host: String,
    pub(crate) port: u16,
    admin: u16,
}

impl Gateway {
    /// Tunnels that are up, by the gateway's own word; `None` while it does not answer.
    pub(crate) fn tunnels(&self) -> Option<u64> {
        let page = page(self.admin, "/metrics")?;
        let values = page.lines().filter(|line| {
            line.strip_prefix("roamgate_gateway_tunnels").is_some_and(|rest| rest.starts_with([' ', '{']))
        });
        values.map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }
}

/// A page of a monitor's listener on this machine.
fn page(port: u16, path: &str) -> Option<String> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.starts_with("HTTP/1.1 200").then_some(text)
}

/// Everything that runs.
pub(crate) struct Hosts {
    // Dropped in this order, the outermost first.
    pub(crate) points: Vec<Process>,
    pub(crate) gateways: Vec<Gateway>,
    _site: Process,
    pub(crate) folder: tempfile::TempDir,
    environment: Vec<(&'static str, String)>,
    /// The role that is the management point.
    pub(crate) management_point: String,
    /// The role that writes down.
    pub(crate) recorder: String,
    /// PEM file with the authority of the gateways' certificates.
    pub(crate) authority: PathBuf,
}

impl Hosts {
    /// Makes a site with so many gateways and connection points; done when every connection point has a tunnel
    /// to each shard of every gateway. `recorder`: the address of the role that writes down, with a certificate of
    /// this organisation, as the gateways have.
    pub(crate) fn start(gateways: usize, points: usize, organisation: &Organisation, recorder: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let site_folder = folder.path().join("site");
        let mut ports = free_ports(4 + 2 * gateways).into_iter();
        let mut port = || ports.next().expect("so many were asked for");
        let [mp, mp_tls, link, api] = [port(), port(), port(), port()];
        let mut init = Command::new(roamgate());
        init.args(["site", "init", "--site-code", "RG1", "--listen", "127.0.0.1", "--host", "localhost"])
            .arg("--dir")
            .arg(&site_folder);
        for (word, port) in
            [("--mp-port", mp), ("--mp-tls-port", mp_tls), ("--link-port", link), ("--api-port", api)]
        {
            init.args([word, &port.to_string()]);
        }
        run(&mut init, b"");
        let path = |name: &str| site_folder.join(name).display().to_string();
        let environment = vec![
            ("ROAMGATE_SERVER", format!("https://localhost:{api}")),
            ("ROAMGATE_CA_FILE", path("site-root.pem")),
            ("ROAMGATE_OPERATOR_KEY_FILE", path("operator.key")),
            ("ROAMGATE_CONTEXT", folder.path().join("context.toml").display().to_string()),
        ];
        let site = Process::start("site", site_folder.join("site.toml"));
        let mut hosts = Self {
            points: Vec::new(),
            gateways: Vec::new(),
            _site: site,
            environment,
            management_point: String::new(),
            recorder: String::new(),
            authority: folder.path().join("authority.pem"),
            folder,
        };
        wait_for("the operator API answers", UP, || {
            hosts.try_operator(&["site", "show"]).status.success().then_some(())
        });
        std::fs::write(&hosts.authority, organisation.pem()).expect("a file");
        hosts.operator(&["trust", "add", &hosts.authority.display().to_string()]);
        let publish = |name: &str, url: &str, mode: &str| {
            let made = hosts.operator(&["role", "add", name, "--internal-url", url, "--mode", mode]);
            made["role_id"].as_str().expect("a role").to_owned()
        };
        let management_point = publish("MP1", &format!("https://localhost:{mp_tls}"), "ehttp");
        let recorder = publish("Recorder", recorder, "https");
        (hosts.management_point, hosts.recorder) = (management_point, recorder);
        for number in 1..=gateways {
            hosts.add_gateway(number, [port(), port()], organisation);
        }
        for number in 1..=points {
            hosts.add_point(number);
        }
        hosts.wait_for_tunnels("every connection point is on every shard of every gateway");
        hosts
    }

    /// Makes a gateway known and starts it, with a certificate of its own.
    fn add_gateway(&mut self, number: usize, [port, admin]: [u16; 2], organisation: &Organisation) {
        let name = format!("GW{number}");
        let folder = self.host_folder(&name);
        let host = format!("localhost:{port}");
        let bundle = folder.join("bundle.json");
        let bundle_text = bundle.display().to_string();
        self.operator(&["gateway", "add", &name, "--address", &host, "--bundle", &bundle_text]);
        let (certificate, key) = (folder.join("gw.pem"), folder.join("gw-key.pem"));
        for (path, text) in [&certificate, &key].into_iter().zip(organisation.issue()) {
            runtime::config::private_file::write(path, text.as_bytes()).expect("a file");
        }
        // Everything in the log: which requests moved to another tunnel is said there. Two devices send what some
        // hundred would.
        let config = format!(
            "[gateway]\nbundle = {}\nstate_directory = {}\nlisten = [\"127.0.0.1:{port}\"]\ncertificate = {}\n\
             key = {}\nadmin_listen = \"127.0.0.1:{admin}\"\nshards = {SHARDS}\n\n\
             [gateway.limits]\ndevice_requests = \"off\"\ndevice_at_once = \"off\"\n\n[logs]\ndirectory = {}\nlevel = 0\nmax_size = 50000000\n",
            quoted(&bundle),
            quoted(&folder.join("state")),
            quoted(&certificate),
            quoted(&key),
            quoted(&folder.join("logs")),
        );
        let process = Process::start(&name, write_config(&folder, "gateway.toml", &config));
        self.gateways.push(Gateway { process, host, port, admin });
    }

    /// Makes a connection point known and starts it; its place in the list.
    pub(crate) fn add_point(&mut self, number: usize) -> usize {
        let name = format!("CP{number}");
        let folder = self.host_folder(&name);
        let bundle = folder.join("bundle.json");
        self.operator(&["connection-point", "add", &name, "--bundle", &bundle.display().to_string()]);
        let config = format!(
            "[connection-point]\nbundle = {}\nstate_directory = {}\n\n[logs]\ndirectory = {}\n",
            quoted(&bundle),
            quoted(&folder.join("state")),
            quoted(&folder.join("logs")),
        );
        self.points.push(Process::start(&name, write_config(&folder, "connection-point.toml", &config)));
        self.points.len() - 1
    }

    /// Waits until every connection point that runs has a tunnel to each shard of every gateway that runs, by
    /// the gateways' own word and by the site's; answers how long that took.
    pub(crate) fn wait_for_tunnels(&self, what: &str) -> Duration {
        let points = self.points.iter().filter(|point| point.is_up()).count() as u64;
        let running: Vec<_> = self.gateways.iter().filter(|gateway| gateway.process.is_up()).collect();
        let ((), took) = wait_for(what, Duration::from_secs(20), || {
            running.iter().all(|gateway| gateway.tunnels() == Some(points * SHARDS)).then_some(())
        });
        wait_for("the site shows the same", Duration::from_secs(10), || {
            let listed = self.operator(&["gateway", "list"]);
            let is_up = |gateway: &Gateway| {
                let row = row(&listed, &gateway.process.name);
                row["tunnels"].as_u64() == Some(points * SHARDS)
                    && row["state"] == "connected"
                    && row["version"] == row["site_version"]
            };
            running.iter().all(|gateway| is_up(gateway)).then_some(())
        });
        took
    }

    /// Waits until every gateway that runs has so many tunnels.
    pub(crate) fn wait_until_tunnels_are(&self, what: &str, count: u64) -> Duration {
        let running: Vec<_> = self.gateways.iter().filter(|gateway| gateway.process.is_up()).collect();
        let look = || running.iter().all(|gateway| gateway.tunnels() == Some(count)).then_some(());
        wait_for(what, Duration::from_secs(10), look).1
    }

    fn host_folder(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().join(name);
        runtime::config::private_dir::create(&folder).expect("a folder");
        folder
    }

    /// An operator's command and its JSON.
    pub(crate) fn operator(&self, words: &[&str]) -> Value {
        let output = self.try_operator(words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    fn try_operator(&self, words: &[&str]) -> Output {
        let mut command = Command::new(roamgate());
        command.args(words).args(["--output", "json"]).envs(self.environment.clone()).stdin(Stdio::null());
        command.output().expect("the command runs")
    }

    /// The base address of a role behind a gateway, for requests with a token.
    pub(crate) fn external(&self, gateway: usize, door: &str, role: &str) -> String {
        format!("{}/CCM_Proxy_{door}/{role}", self.gateways[gateway].host)
    }
}

/// The row of this name in a list.
pub(crate) fn row<'a>(listed: &'a Value, name: &str) -> &'a Value {
    let rows = listed.as_array().expect("a list");
    rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name} in {listed}"))
}

fn write_config(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    runtime::config::private_file::write(&path, text.as_bytes()).expect("a file");
    path
}

/// A path as a TOML string.
fn quoted(path: &Path) -> String {
    toml::Value::String(path.display().to_string()).to_string()
}

/// Ports that were free a moment ago; all are held until the last is found.
fn free_ports(count: usize) -> Vec<u16> {
    let held: Vec<_> = (0..count).map(|_| TcpListener::bind(("127.0.0.1", 0)).expect("a port")).collect();
    held.iter().map(|listener| listener.local_addr().expect("a port").port()).collect()
}
