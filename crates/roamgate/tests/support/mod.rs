//! What the stories share: a running lab, and the command line as a person uses it.

#![allow(dead_code, reason = "each story uses a part")]

pub(crate) mod key_pool;
pub(crate) mod organisation;
pub(crate) mod roamer;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long a lab may take to be up on a busy machine.
const LAB_PATIENCE: Duration = Duration::from_mins(4);
/// Time between two looks at a state.
const LOOK: Duration = Duration::from_millis(100);

/// The program under test.
pub(crate) fn roamgate() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_roamgate"))
}

/// A lab that is up; ends when dropped.
pub(crate) struct Lab {
    child: Child,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) ready: Value,
}

impl Lab {
    /// Starts one and waits until everything answers.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let ready_file = folder.path().join("ready.json");
        let output = std::fs::File::create(folder.path().join("lab.out")).expect("a file");
        let mut child = Command::new(roamgate())
            .args(["lab", "--end-with-stdin", "--dir"])
            .arg(folder.path().join("lab"))
            .arg("--ready-file")
            .arg(&ready_file)
            .env("ROAMGATE_CONTEXT", folder.path().join("context.toml"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(output)
            .spawn()
            .expect("the lab starts");
        let began = Instant::now();
        while !ready_file.exists() {
            let ended = child.try_wait().expect("a state");
            let said = || std::fs::read_to_string(folder.path().join("lab.out")).unwrap_or_default();
            assert!(ended.is_none(), "the lab ended:\n{}", said());
            assert!(began.elapsed() < LAB_PATIENCE, "the lab is not up:\n{}", said());
            std::thread::sleep(LOOK);
        }
        let text = std::fs::read(&ready_file).expect("the ready file");
        let ready = serde_json::from_slice(&text).expect("the ready file is JSON");
        Self { child, folder, ready }
    }

    /// A member of the ready file, `a.b.0.c`.
    pub(crate) fn get(&self, path: &str) -> &Value {
        path.split('.').fold(&self.ready, |value, name| match name.parse::<usize>() {
            Ok(index) => &value[index],
            Err(_) => &value[name],
        })
    }

    /// The same as text.
    pub(crate) fn text(&self, path: &str) -> &str {
        self.get(path).as_str().unwrap_or_else(|| panic!("{path} is missing in {}", self.ready))
    }

    /// Runs an operator command and answers its JSON.
    pub(crate) fn operator(&self, words: &[&str]) -> Value {
        let output = self.try_operator(words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {said}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// Runs an operator command, whatever comes of it.
    pub(crate) fn try_operator(&self, words: &[&str]) -> Output {
        self.operator_command(words).output().expect("the command runs")
    }

    /// An operator command that is yet to be run.
    pub(crate) fn operator_command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(roamgate());
        command
            .args(words)
            .args(["--output", "json"])
            .env("ROAMGATE_CONTEXT", self.folder.path().join("context.toml"))
            // An operator's clock goes with everybody's.
            .env("ROAMGATE_CLOCK_OFFSET_FILE", self.clock());
        command
    }

    /// The file by which everybody's clock is moved, see [`write_clock`].
    pub(crate) fn clock(&self) -> PathBuf {
        PathBuf::from(self.text("dir")).join("clock-offset")
    }

    /// The device of the lab with this name.
    pub(crate) fn device(&self, name: &str) -> &Value {
        let devices = self.get("devices").as_array().expect("devices");
        devices.iter().find(|device| device["name"] == name).unwrap_or_else(|| panic!("no device {name}"))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // It ends by itself when its input closes.
        drop(self.child.stdin.take());
        let began = Instant::now();
        while began.elapsed() < Duration::from_mins(1) {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(LOOK);
        }
        let _ = self.child.kill();
    }
}

/// Runs the client's program on a device's state folder.
pub(crate) fn client(state: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(roamgate());
    command.arg("client").args(words).arg("--state").arg(state).output().expect("the client runs")
}

/// Moves a clock: seconds that everybody who reads this file adds to the time.
pub(crate) fn write_clock(path: &Path, seconds: i64) {
    // Another file, renamed over it: nobody reads half of a number.
    let new = path.with_extension("new");
    std::fs::write(&new, seconds.to_string()).expect("the clock");
    std::fs::rename(&new, path).expect("the clock");
}

/// Waits for a state; fails past the bound, and answers how long it took.
pub(crate) fn wait_for<T>(what: &str, bound: Duration, mut look: impl FnMut() -> Option<T>) -> (T, Duration) {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            let took = began.elapsed();
            println!("{what}: after {:.2} s (bound {} s)", took.as_secs_f64(), bound.as_secs());
            return (found, took);
        }
        assert!(began.elapsed() < bound, "{what}: not within {} s", bound.as_secs());
        std::thread::sleep(LOOK);
    }
}

/// Whether a program is installed; prints that its part is skipped when it is not.
pub(crate) fn installed(program: &str) -> bool {
    let there = Command::new(program)
        .arg("version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    if !there {
        println!("SKIPPED: {program} is not installed; ./test.sh installs it");
    }
    there
}

/// Runs a third-party program with this input; panics with what it said when it fails.
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    child.stdin.take().expect("piped").write_all(input).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// All files below a folder.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![folder.to_owned()];
    while let Some(folder) = left.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() { left.push(path) } else { found.push(path) }
        }
    }
    found
}

/// The bytes of a file; empty for what is not a regular file (a socket).
pub(crate) fn bytes_of(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(mut file) = std::fs::File::open(path) {
        let _ = file.read_to_end(&mut bytes);
    }
    bytes
}
