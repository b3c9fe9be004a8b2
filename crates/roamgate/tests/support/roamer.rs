//! A device that a story starts itself and takes about: the client's own program, in a network
//! namespace where the system gives one, with wires that the story plugs and cuts.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Lab, roamgate};

/// How long the client's service may take to end.
const STOP: Duration = Duration::from_secs(20);

/// Whether this system gives network namespaces; without one a device reaches all of the machine.
pub(crate) fn namespaces() -> bool {
    let attempt = Command::new("unshare")
        .args(["-Urn", "--", "ip", "link", "set", "lo", "up"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    attempt.is_ok_and(|status| status.success())
}

/// One wire of a device: what it asks at an address in its namespace is answered at that address here.
pub(crate) struct Wire {
    target: SocketAddr,
    socket: PathBuf,
    live: Option<Live>,
}

/// A plugged wire.
struct Live {
    cut: Arc<AtomicBool>,
    /// Answers are lost, and with each the connection that it came on.
    loses_answers: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<UnixStream>>>,
}

impl Wire {
    fn new(target: SocketAddr, socket: PathBuf) -> Self {
        Self { target, socket, live: None }
    }

    fn plug(&mut self) {
        if self.live.is_some() {
            return;
        }
        let listener = UnixListener::bind(&self.socket).expect("a socket");
        let live = Live { cut: Arc::default(), loses_answers: Arc::default(), open: Arc::default() };
        let (cut, loses, open) =
            (Arc::clone(&live.cut), Arc::clone(&live.loses_answers), Arc::clone(&live.open));
        let target = self.target;
        std::thread::spawn(move || {
            for near in listener.incoming() {
                let Ok(near) = near else { break };
                if cut.load(Ordering::SeqCst) {
                    break;
                }
                // Nobody there: the connection ends at once, as a refused one does.
                let Ok(far) = TcpStream::connect(target) else { continue };
                open.lock().expect("no panic").push(near.try_clone().expect("a handle"));
                join(near, far, &loses);
            }
        });
        self.live = Some(live);
    }

    /// Cuts it, with every connection on it.
    fn cut(&mut self) {
        let Some(live) = self.live.take() else { return };
        live.cut.store(true, Ordering::SeqCst);
        // Wakes the listener, which sees that it is over.
        let _ = UnixStream::connect(&self.socket);
        let _ = std::fs::remove_file(&self.socket);
        for stream in live.open.lock().expect("no panic").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.cut();
    }
}

/// Carries both directions, each in a thread of its own, until either ends.
fn join(near: UnixStream, far: TcpStream, loses_answers: &Arc<AtomicBool>) {
    let loses = Arc::clone(loses_answers);
    let (mut near_in, mut far_out) =
        (near.try_clone().expect("a handle"), far.try_clone().expect("a handle"));
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut near_in, &mut far_out);
        let _ = far_out.shutdown(Shutdown::Write);
    });
    std::thread::spawn(move || {
        let (mut near, mut far) = (near, far);
        let mut buffer = [0; 16 * 1024];
        while let Ok(count @ 1..) = far.read(&mut buffer) {
            if loses.load(Ordering::SeqCst) || near.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = near.shutdown(Shutdown::Both);
        let _ = far.shutdown(Shutdown::Both);
    });
}

/// A device of a story.
pub(crate) struct Roamer {
    pub(crate) name: String,
    pub(crate) state: PathBuf,
    /// Its certificate store, which may be empty.
    pub(crate) certificates: PathBuf,
    /// Its folder for a workplace join, which may be empty.
    pub(crate) workplace_join: PathBuf,
    folder: PathBuf,
    /// Its clock: the lab's, unless it has one of its own.
    clock: PathBuf,
    isolated: bool,
    outside: Vec<Wire>,
    inside: Vec<Wire>,
    service: Option<Child>,
}

impl Roamer {
    /// A device that is not set up yet. It reaches the gateway and the tenant; the inside once it is
    /// plugged in.
    pub(crate) fn new(lab: &Lab, name: &str) -> Self {
        let folder = lab.folder.path().join(name);
        let (certificates, workplace_join) = (folder.join("certificates"), folder.join("workplace-join"));
        for path in [&folder, &certificates, &workplace_join] {
            runtime::config::private_dir::create(path).expect("a folder");
        }
        let wire = |number: usize, port: u16| {
            Wire::new(SocketAddr::from(([127, 0, 0, 1], port)), folder.join(format!("{number}.sock")))
        };
        let outside = [lab.text("gateway.url"), lab.text("tenant.authority")].map(port_of);
        let inside = [management_point(lab).port(), port_of(lab.text("roles.0.internal_url"))];
        let outside: Vec<_> = outside.iter().enumerate().map(|(at, port)| wire(at, *port)).collect();
        let inside: Vec<_> = inside.iter().enumerate().map(|(at, port)| wire(at + 2, *port)).collect();
        let mut device = Self {
            name: name.to_owned(),
            state: folder.join("state"),
            certificates,
            workplace_join,
            clock: lab.clock(),
            isolated: namespaces(),
            outside,
            inside,
            service: None,
            folder,
        };
        device.connect();
        device
    }

    /// Gives it a clock of its own: seconds that it adds to the time.
    pub(crate) fn set_own_clock(&mut self, seconds: i64) {
        self.clock = self.folder.join("clock-offset");
        super::write_clock(&self.clock, seconds);
    }

    /// Plugs the wires to gateway and tenant.
    pub(crate) fn connect(&mut self) {
        self.outside.iter_mut().for_each(Wire::plug);
    }

    /// Whether it can be plugged in inside and unplugged: only in a namespace.
    pub(crate) fn can_roam(&self) -> bool {
        self.isolated
    }

    /// Comes into the office.
    pub(crate) fn plug_in(&mut self) {
        self.inside.iter_mut().for_each(Wire::plug);
    }

    /// Leaves it.
    pub(crate) fn unplug(&mut self) {
        self.inside.iter_mut().for_each(Wire::cut);
    }

    /// From now on the answers of its gateway are lost on the way, or not any more.
    pub(crate) fn lose_answers(&self, lost: bool) {
        for live in self.outside.iter().filter_map(|wire| wire.live.as_ref()) {
            live.loses_answers.store(lost, Ordering::SeqCst);
        }
    }

    /// The words by which an administrator sets it up over the internet.
    pub(crate) fn setup_words(&self, lab: &Lab) -> Vec<String> {
        let authorities = self.folder.join("authorities.pem");
        let pem = [lab.text("gateway.ca_file"), lab.text("tenant.ca_file")]
            .map(|path| std::fs::read_to_string(path).expect("an authority"));
        std::fs::write(&authorities, pem.concat()).expect("a file");
        let gateway = lab.text("roles.0.mutual_auth");
        let host = gateway.trim_start_matches("https://");
        let path = |path: &Path| path.display().to_string();
        let mut words = vec![
            "--name".to_owned(),
            self.name.clone(),
            "--ca-file".to_owned(),
            path(&authorities),
            "--site-root".to_owned(),
            lab.text("site_root_file").to_owned(),
            format!("/mp:{gateway}"),
            format!("CCMHOSTNAME={host}"),
            "SMSSITECODE=RG1".to_owned(),
        ];
        if self.isolated {
            words.extend(["--inside".to_owned(), format!("http://{}", management_point(lab))]);
        } else {
            words.push("CCMALWAYSINF=1".to_owned());
        }
        words
    }

    /// The words that name its certificate store, its workplace join and its tenant besides.
    pub(crate) fn proof_words(&self, lab: &Lab) -> Vec<String> {
        vec![
            "--certificate-store".to_owned(),
            self.certificates.display().to_string(),
            "--workplace-join".to_owned(),
            self.workplace_join.display().to_string(),
            "--authority".to_owned(),
            lab.text("tenant.authority").to_owned(),
            format!("AADTENANTID={}", lab.text("tenant.tenant_id")),
        ]
    }

    /// Sets it up with a bulk registration token.
    pub(crate) fn set_up(&self, words: &[String], token: &str) -> Output {
        let file = self.folder.join("bulk-token");
        runtime::config::private_file::write(&file, token.as_bytes()).expect("a file");
        let mut command = self.command(&["setup", "--regtoken-file"]);
        command.arg(&file).args(words);
        command.output().expect("the client runs")
    }

    /// A command of the client, where the device is.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = if self.isolated {
            let mut command = Command::new("unshare");
            command.args(["-Urn", "--"]).arg(roamgate()).arg("lab-wire");
            for wire in self.outside.iter().chain(&self.inside) {
                command.arg("--wire").arg(format!("{}={}", wire.target, wire.socket.display()));
            }
            command.arg("--").arg(roamgate());
            command
        } else {
            Command::new(roamgate())
        };
        command.args(["client", "--state"]).arg(&self.state).args(words);
        command.env("ROAMGATE_CLOCK_OFFSET_FILE", &self.clock).stdin(Stdio::null());
        command
    }

    /// Starts its service.
    pub(crate) fn start(&mut self, poll_interval: &str) {
        assert!(self.service.is_none(), "it runs already");
        let output = std::fs::File::create(self.folder.join("service.out")).expect("a file");
        let mut command = self.command(&["service", "--end-with-stdin", "--poll-interval", poll_interval]);
        let copy = output.try_clone().expect("a file");
        command.stdin(Stdio::piped()).stdout(output).stderr(copy);
        self.service = Some(command.spawn().expect("the service starts"));
    }

    /// Ends its service, as when it is switched off.
    pub(crate) fn stop(&mut self) {
        let Some(mut service) = self.service.take() else { return };
        drop(service.stdin.take());
        let began = Instant::now();
        while matches!(service.try_wait(), Ok(None)) {
            if began.elapsed() > STOP {
                let _ = service.kill();
                let _ = service.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What `client status` says.
    pub(crate) fn status(&self) -> Value {
        let mut command = Command::new(roamgate());
        command.args(["client", "status", "--output", "json", "--state"]).arg(&self.state);
        let output =
            command.env("ROAMGATE_CLOCK_OFFSET_FILE", &self.clock).output().expect("the client runs");
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
    }

    /// What its logs hold of this text: lines of all of them.
    pub(crate) fn log_lines(&self, text: &str) -> Vec<String> {
        let mut found = Vec::new();
        for path in super::files_below(&self.state.join("logs")) {
            let log = String::from_utf8_lossy(&super::bytes_of(&path)).into_owned();
            found.extend(log.lines().filter(|line| line.contains(text)).map(str::to_owned));
        }
        found
    }

    /// The last lines of one of its logs.
    pub(crate) fn tail(&self, log: &str, lines: usize) -> String {
        let text = std::fs::read_to_string(self.state.join("logs").join(log)).unwrap_or_default();
        let last: Vec<_> = text.lines().rev().take(lines).collect();
        last.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// The name of the key that signed its token of this kind (`ccm`, `self_prove`), as the token's head
    /// says it.
    pub(crate) fn signing_key_of(&self, kind: &str) -> String {
        use base64::Engine as _;
        let state: Value =
            serde_json::from_slice(&super::bytes_of(&self.state.join("client.json"))).expect("the state");
        let text = state[kind]["text"].as_str().expect("a token");
        let head = text.split('.').next().expect("a head");
        let head = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(head).expect("base64url");
        let head: Value = serde_json::from_slice(&head).expect("JSON");
        head["x5t"].as_str().expect("a thumbprint").to_owned()
    }
}

impl Drop for Roamer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The management point's plain address inside.
pub(crate) fn management_point(lab: &Lab) -> SocketAddr {
    let config = PathBuf::from(lab.text("dir")).join("site").join("site.toml");
    let config: toml::Table =
        std::fs::read_to_string(config).expect("the site's configuration").parse().expect("TOML");
    let listen = config["management-point"]["listen"].as_str().expect("an address");
    listen.parse().expect("an address")
}

fn port_of(url: &str) -> u16 {
    let (_, rest) = url.split_once("://").expect("an address");
    let authority = rest.split('/').next().expect("an authority");
    authority.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("a port")
}
