//! A role's process: started, killed, stopped, continued, weighed.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::until;
use crate::support::roamgate;

/// Time for a process that was asked to end.
const STOP: Duration = Duration::from_secs(40);

/// One process of one configuration file. It ends with the test at the latest: its input closes.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) name: &'static str,
    config: PathBuf,
    clock: PathBuf,
    output: PathBuf,
    /// Most descriptors that it may have.
    pub(crate) descriptors: Option<u32>,
    child: Option<Child>,
}

/// What a process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Weight {
    pub(crate) descriptors: usize,
    pub(crate) resident_kib: u64,
}

impl Process {
    /// A process that does not run yet.
    pub(crate) fn new(name: &'static str, config: PathBuf, folder: &Path) -> Self {
        let output = folder.join(format!("{name}.out"));
        Self { name, config, clock: folder.join("clock-offset"), output, descriptors: None, child: None }
    }

    /// Starts it, and waits for nothing.
    pub(crate) fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs", self.name);
        let output = OpenOptions::new().create(true).append(true).open(&self.output);
        let mut command = match self.descriptors {
            Some(limit) => {
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", &format!("ulimit -n {limit}; exec \"$0\" \"$@\"")]).arg(roamgate());
                shell
            }
            None => Command::new(roamgate()),
        };
        let child = command
            .arg("serve")
            .arg("--config")
            .arg(&self.config)
            .arg("--end-with-stdin")
            .env("ROAMGATE_CLOCK_OFFSET_FILE", &self.clock)
            .env("TOKIO_WORKER_THREADS", "2")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(output.expect("a file for what it prints"))
            .spawn();
        self.child = Some(child.expect("it starts"));
    }

    fn id(&self) -> u32 {
        self.child.as_ref().unwrap_or_else(|| panic!("{} does not run", self.name)).id()
    }

    /// `kill -9`; done when it is gone.
    pub(crate) fn kill(&mut self) {
        self.check();
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it is killed");
        child.wait().expect("it is gone");
    }

    /// Sends a signal by name: `STOP`, `CONT`, `HUP`, `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("/bin/sh").args(["-c", &format!("kill -{name} {}", self.id())]).status();
        assert!(sent.expect("a shell").success(), "{}: {name}", self.name);
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn wait_for_end(&mut self) {
        let mut child = self.child.take().expect("it runs");
        let what = format!("{} ends", self.name);
        until(&what, STOP, || child.try_wait().expect("a state").is_some()).await;
        let status = child.wait().expect("it has ended");
        assert!(status.success(), "{}: {status}\n{}", self.name, self.output());
    }

    /// Fails when it has ended by itself.
    pub(crate) fn check(&mut self) {
        if let Some(child) = &mut self.child {
            let ended = child.try_wait().expect("a state");
            assert!(ended.is_none(), "{} ended: {ended:?}\n{}", self.name, self.output());
        }
    }

    /// What all its processes printed.
    pub(crate) fn output(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// Whether it runs and can be weighed.
    pub(crate) fn weight(&self) -> io::Result<Weight> {
        let folder = PathBuf::from(format!("/proc/{}", self.id()));
        let status = std::fs::read_to_string(folder.join("status"))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|text| text.split_whitespace().next()?.parse().ok());
        Ok(Weight {
            descriptors: std::fs::read_dir(folder.join("fd"))?
                .flatten()
                .filter(|entry| !is_log(&entry.path()))
                .count(),
            resident_kib: resident.unwrap_or_default(),
        })
    }

    /// What its descriptors lead to, for people.
    pub(crate) fn descriptors(&self) -> Vec<String> {
        let folder = std::fs::read_dir(format!("/proc/{}/fd", self.id())).expect("it runs");
        let links = folder.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
        let mut links: Vec<_> = links.map(|link| link.display().to_string()).collect();
        links.sort();
        links
    }

    /// Processor time that it has used, by the system's clock ticks of 10 ms.
    pub(crate) fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).expect("it runs");
        let (_, fields) = stat.rsplit_once(')').expect("a name");
        let ticks = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
        Duration::from_millis(ticks.sum::<u64>() * 10)
    }
}

/// A log file is opened at its component's first line and stays open.
fn is_log(descriptor: &Path) -> bool {
    std::fs::read_link(descriptor).is_ok_and(|link| link.extension().is_some_and(|ending| ending == "log"))
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself, and a stopped one can be killed too.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
