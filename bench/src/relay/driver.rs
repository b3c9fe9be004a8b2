//! The handle of the load generator's process.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use super::load::{Job, Outcome};

/// The load generator failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum DriverError {
    /// Its process could not be started or spoken to.
    #[error("the load generator cannot be reached")]
    Io(#[from] std::io::Error),
    /// It said something unexpected, or nothing.
    #[error("the load generator gave up: {0:?}")]
    Said(String),
}

/// A process that makes load; ends when this is dropped, because its standard input closes.
#[derive(Debug)]
pub(super) struct Driver {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Driver {
    pub(super) fn start() -> Result<Self, DriverError> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["relay", "--load-generator"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let nothing = || DriverError::Said("no pipe".to_owned());
        let input = Some(child.stdin.take().ok_or_else(nothing)?);
        let output = BufReader::new(child.stdout.take().ok_or_else(nothing)?);
        Ok(Self { child, input, output })
    }

    /// Plays a job. `before` is called when everything is connected and warm, `after` when the measurement is
    /// over; `after` of an idle crowd comes while its connections are still there.
    pub(super) fn play<T>(
        &mut self,
        job: &Job,
        before: impl FnOnce() -> T,
    ) -> Result<(Outcome, T), DriverError> {
        self.say(&serde_json::to_string(job).map_err(|error| DriverError::Said(error.to_string()))?)?;
        let said = self.hear()?;
        if said != "ready" {
            return Err(DriverError::Said(said));
        }
        let seen = before();
        self.say("go")?;
        let said = self.hear()?;
        let outcome = serde_json::from_str(&said).map_err(|_| DriverError::Said(said))?;
        Ok((outcome, seen))
    }

    fn say(&mut self, line: &str) -> Result<(), DriverError> {
        if let Some(input) = &mut self.input {
            writeln!(input, "{line}")?;
            input.flush()?;
        }
        Ok(())
    }

    fn hear(&mut self) -> Result<String, DriverError> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        drop(self.input.take());
        // It ends by itself at the end of its input, at the latest after the measurement under way.
        for _ in 0..100 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
