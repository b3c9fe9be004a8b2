//! The handle of the load generator's process.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use super::load::{Job, Outcome, READY};

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

    /// Plays a job. `look` is called each time that the generator has done what comes before and waits: once
    /// when everything is connected and warm; of an idle crowd at each of its sizes. Gives back what was seen.
    pub(super) fn play<T>(
        &mut self,
        job: &Job,
        mut look: impl FnMut() -> T,
    ) -> Result<(Outcome, Vec<T>), DriverError> {
        self.say(&serde_json::to_string(job).map_err(|error| DriverError::Said(error.to_string()))?)?;
        let mut seen = Vec::new();
        loop {
            let said = self.hear()?;
            if said != READY {
                let outcome = serde_json::from_str(&said).map_err(|_| DriverError::Said(said))?;
                return Ok((outcome, seen));
            }
            seen.push(look());
            self.say("go")?;
        }
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
