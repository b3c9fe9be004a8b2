//! Processes of the lab: each ends when the lab does, by its standard input closing.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::process::Child;

use crate::exit::{Exit, Failure};
use crate::serve::CLOCK_OFFSET_VARIABLE;

/// How long a child may take to end by itself once its input has closed.
const PATIENCE: Duration = Duration::from_secs(10);

/// A process that the lab started.
#[derive(Debug)]
pub(crate) struct LabChild {
    name: String,
    child: Child,
    output: std::path::PathBuf,
}

impl LabChild {
    /// Starts it; what it prints goes to `<folder>/<name>.out`. `clock` is the file by which its
    /// clock can be moved.
    pub(crate) fn start(
        name: &str,
        mut command: Command,
        folder: &Path,
        clock: &Path,
    ) -> Result<Self, Failure> {
        command.env(CLOCK_OFFSET_VARIABLE, clock);
        let output = folder.join(format!("{name}.out"));
        let cannot =
            |error: &std::io::Error| Failure::new(Exit::Bug, format!("cannot start {name}: {error}"));
        let file = File::create(&output).map_err(|error| cannot(&error))?;
        let copy = file.try_clone().map_err(|error| cannot(&error))?;
        command.stdin(Stdio::piped()).stdout(file).stderr(copy);
        let mut command = tokio::process::Command::from(command);
        command.kill_on_drop(true);
        let child = command.spawn().map_err(|error| cannot(&error))?;
        Ok(Self { name: name.to_owned(), child, output })
    }

    /// The process id; `None` once it has ended.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// An error when it has ended, with the last lines that it printed.
    pub(crate) fn check(&mut self) -> Result<(), Failure> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.ended(&status.to_string())),
            Err(error) => Err(self.ended(&error.to_string())),
        }
    }

    /// Asks it to end, waits, and ends it by force when it does not.
    pub(crate) async fn stop(mut self) {
        drop(self.child.stdin.take());
        if tokio::time::timeout(PATIENCE, self.child.wait()).await.is_err() {
            // It is ours, by its id; a failure means that it has just ended.
            let _ = self.child.kill().await;
        }
    }

    fn ended(&self, how: &str) -> Failure {
        let text = std::fs::read_to_string(&self.output).unwrap_or_default();
        let tail: Vec<_> = text.lines().rev().take(12).collect();
        let tail: Vec<_> = tail.into_iter().rev().collect();
        Failure::new(Exit::Bug, format!("{} ended ({how})\n{}", self.name, tail.join("\n")))
            .help(format!("All that it printed is in {}.", self.output.display()))
    }
}

/// Runs a command to its end; its standard output, or an error with what it printed.
pub(crate) async fn run_to_end(name: &str, command: Command, limit: Duration) -> Result<String, Failure> {
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(limit, command.output())
        .await
        .map_err(|_| {
            Failure::new(Exit::TimedOut, format!("{name} did not end within {} s", limit.as_secs()))
        })?
        .map_err(|error| Failure::new(Exit::Bug, format!("cannot start {name}: {error}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(Exit::Bug, format!("{name} failed ({}):\n{}", output.status, said.trim())))
}
