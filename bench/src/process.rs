//! Processes that are measured: started, watched, ended.
//!
//! A child ends with us whatever happens: ours see their standard input close, others get a signal from
//! the kernel when their parent is gone (`setpriv --pdeathsig`).

mod usage;

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub(crate) use usage::{cpu_of_trees, memory_of_tree};

/// How long a child may take to end by itself.
const END_PATIENCE: Duration = Duration::from_secs(10);
/// Time between two looks at a state that is waited for.
const LOOK: Duration = Duration::from_millis(20);
/// Lines of a dead child's output that are shown.
const TAIL_LINES: usize = 12;

/// A process could not be started, or did not do what it was started for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessError {
    /// The system did not start it.
    #[error("cannot start {name}")]
    Start {
        /// What it is.
        name: String,
        /// Why not.
        source: io::Error,
    },
    /// It ended before its time.
    #[error("{name} ended ({status}):\n{tail}")]
    Ended {
        /// What it is.
        name: String,
        /// How.
        status: String,
        /// The last lines that it printed.
        tail: String,
    },
    /// A command failed.
    #[error("{name} failed ({status}):\n{said}")]
    Failed {
        /// What it is.
        name: String,
        /// How.
        status: String,
        /// What it printed.
        said: String,
    },
    /// What was waited for did not come.
    #[error("{what} did not come within {seconds} s")]
    NotInTime {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
    },
}

/// How a process is told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndBy {
    /// Its standard input closes.
    Input,
    /// It gets SIGTERM.
    Signal,
}

/// A process that we started, and end.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    output: PathBuf,
    end: EndBy,
}

impl Process {
    /// Starts `command`; what it prints goes to `<folder>/<name>.out`.
    pub(crate) fn start(
        name: &str,
        command: Command,
        folder: &Path,
        end: EndBy,
    ) -> Result<Self, ProcessError> {
        let cannot = |source| ProcessError::Start { name: name.to_owned(), source };
        let output = folder.join(format!("{name}.out"));
        let file = File::create(&output).map_err(cannot)?;
        let copy = file.try_clone().map_err(cannot)?;
        let mut command = match end {
            EndBy::Input => command,
            EndBy::Signal => ending_with_us(&command),
        };
        let input = if end == EndBy::Input { Stdio::piped() } else { Stdio::null() };
        command.stdin(input).stdout(file).stderr(copy);
        let child = command.spawn().map_err(cannot)?;
        Ok(Self { name: name.to_owned(), child, output, end })
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// An error when it has ended.
    pub(crate) fn check(&mut self) -> Result<(), ProcessError> {
        let status = match self.child.try_wait() {
            Ok(None) => return Ok(()),
            Ok(Some(status)) => status.to_string(),
            Err(error) => error.to_string(),
        };
        let text = std::fs::read_to_string(&self.output).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default().join("\n");
        Err(ProcessError::Ended { name: self.name.clone(), status, tail })
    }

    /// Waits until it listens on `address`.
    pub(crate) fn wait_for_port(&mut self, address: SocketAddr, limit: Duration) -> Result<(), ProcessError> {
        let what = format!("{} on {address}", self.name);
        wait_until(&what, limit, || {
            self.check()?;
            Ok(TcpStream::connect(address).is_ok().then_some(()))
        })
    }

    fn ask_to_end(&mut self) {
        drop(self.child.stdin.take());
        if self.end == EndBy::Signal {
            send_signal(self.id(), "TERM");
        }
    }
}

impl Drop for Process {
    /// Asks it to end, waits, and ends it by force when it does not.
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        self.ask_to_end();
        let began = Instant::now();
        while began.elapsed() < END_PATIENCE {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(LOOK);
        }
        // It is ours, by its id; a failure means that it has just ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to one of our processes.
pub(crate) fn send_signal(pid: u32, signal: &str) {
    // A failure means that it has just ended.
    let _ = Command::new("kill").args(["-s", signal, &pid.to_string()]).stderr(Stdio::null()).status();
}

/// The same command, in a process that the kernel ends when we do.
fn ending_with_us(command: &Command) -> Command {
    let mut wrapped = Command::new("setpriv");
    wrapped.args(["--pdeathsig", "TERM", "--"]).arg(command.get_program()).args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        wrapped.current_dir(folder);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    wrapped
}

/// Runs a command to its end; its standard output.
pub(crate) fn run_to_end(name: &str, mut command: Command) -> Result<String, ProcessError> {
    let output = command.stdin(Stdio::null()).output();
    let Output { status, stdout, stderr } =
        output.map_err(|source| ProcessError::Start { name: name.to_owned(), source })?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&stderr).trim().to_owned();
    Err(ProcessError::Failed { name: name.to_owned(), status: status.to_string(), said })
}

/// Looks again and again until `look` finds something.
pub(crate) fn wait_until<T, E: From<ProcessError>>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<Option<T>, E>,
) -> Result<T, E> {
    let began = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if began.elapsed() > limit {
            return Err(ProcessError::NotInTime { what: what.to_owned(), seconds: limit.as_secs() }.into());
        }
        std::thread::sleep(LOOK);
    }
}

/// Loopback ports that were free a moment ago, all different.
pub(crate) fn free_ports<const N: usize>() -> io::Result<[u16; N]> {
    let listeners: Vec<_> =
        std::iter::repeat_with(|| TcpListener::bind(("127.0.0.1", 0))).take(N).collect::<io::Result<_>>()?;
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

/// A program of the system or of `target/peers`: its path, if it is there.
pub(crate) fn find_program(name: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    folders
        .iter()
        .cloned()
        .chain(std::env::split_paths(&path))
        .chain(system)
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_ends_with_its_handle_and_its_end_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let mut sleep = Command::new("sleep");
        sleep.arg("60");
        let process = Process::start("sleep", sleep, folder.path(), EndBy::Signal).unwrap();
        let id = process.id();
        drop(process);
        assert!(!Path::new(&format!("/proc/{id}")).exists());

        let mut talker = Command::new("sh");
        talker.args(["-c", "echo so long; exit 3"]);
        let mut process = Process::start("talker", talker, folder.path(), EndBy::Input).unwrap();
        process.child.wait().unwrap();
        let error = process.check().unwrap_err().to_string();
        assert!(error.contains("so long") && error.contains('3'), "{error}");
    }

    #[test]
    fn what_never_comes_is_an_error_with_its_name() {
        let outcome: Result<(), ProcessError> =
            wait_until("the tide", Duration::ZERO, || Ok::<_, ProcessError>(None));
        assert!(outcome.unwrap_err().to_string().contains("the tide"));
    }

    #[test]
    fn ports_are_all_different() {
        let mut ports = free_ports::<8>().unwrap();
        ports.sort_unstable();
        assert!(ports.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
