//! A lab of several gateways and connection points.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::{roamgate, wait_for};

/// How long a lab may take to be up on a busy machine.
const UP: Duration = Duration::from_mins(3);
/// How long it may take to end.
const STOP: Duration = Duration::from_mins(1);

/// A lab that is up; ends when dropped.
pub(crate) struct Lab {
    child: Child,
    folder: tempfile::TempDir,
    ready: Value,
}

impl Lab {
    /// Starts one with these words besides, and waits until everything answers.
    pub(crate) fn start(words: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (ready, said) = (folder.path().join("ready.json"), folder.path().join("lab.out"));
        let output = std::fs::File::create(&said).expect("a file");
        let mut command = Command::new(roamgate());
        command.args(["lab", "--end-with-stdin", "--dir"]).arg(folder.path().join("lab")).args(words);
        command.arg("--ready-file").arg(&ready).env("ROAMGATE_CONTEXT", folder.path().join("context.toml"));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(output);
        let child = command.spawn().expect("the lab starts");
        let mut lab = Self { child, folder, ready: Value::Null };
        let (document, _) = wait_for("the lab is up", UP, || {
            let ended = lab.child.try_wait().expect("a state");
            assert!(ended.is_none(), "{}", std::fs::read_to_string(&said).unwrap_or_default());
            std::fs::read(&ready).ok()
        });
        lab.ready = serde_json::from_slice(&document).expect("the ready file is JSON");
        lab
    }

    /// A member of the ready file.
    pub(crate) fn get(&self, name: &str) -> &Value {
        &self.ready[name]
    }

    /// An operator's command and its JSON.
    pub(crate) fn operator(&self, words: &[&str]) -> Value {
        let mut command = Command::new(roamgate());
        command.args(words).args(["--output", "json"]);
        command.env("ROAMGATE_CONTEXT", self.folder.path().join("context.toml"));
        let output = command.output().expect("the command runs");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // It ends by itself when its input closes.
        drop(self.child.stdin.take());
        let began = std::time::Instant::now();
        while began.elapsed() < STOP {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
