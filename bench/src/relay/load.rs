//! The load generator: a process of its own on one thread, so that what it costs is nobody's.
//!
//! It writes the bytes of requests by hand and reads answers strictly: anything but the expected status, length
//! and content is an error, counted by its kind. A job comes as JSON on standard input; when everything is
//! connected and warm it says so, waits for a line, measures, and answers with one line of JSON.

mod answer;
mod connect;
mod crowd;
mod exchange;
mod fresh;
pub(super) mod histogram;

use std::collections::BTreeMap;
use std::io::{BufRead as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub(super) use histogram::Histogram;

/// Whom to ask for what, and how.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Job {
    /// Where.
    pub(super) address: SocketAddr,
    /// TLS, unless the server speaks plain HTTP.
    pub(super) tls: Option<TlsJob>,
    /// What is asked.
    pub(super) ask: Ask,
    /// In which manner.
    pub(super) manner: Manner,
    /// Warm-up before the measurement, in milliseconds.
    pub(super) warm_up_ms: u64,
    /// The measurement, in milliseconds.
    pub(super) measure_ms: u64,
}

/// TLS 1.3 with X25519, the same for everybody.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct TlsJob {
    /// The authority of the server's certificate, PEM.
    pub(super) ca_file: PathBuf,
    /// Certificate (DER) and key (PKCS#8 DER) that are shown to a server that asks.
    pub(super) own: Option<(PathBuf, PathBuf)>,
}

/// A request and the answer that it must get.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Ask {
    /// Every byte of the request.
    pub(super) request: String,
    /// Bytes of the answer's body, every one of them [`BODY_BYTE`].
    pub(super) answer_bytes: u64,
}

/// What the process says when everything is in place and it waits for a line.
pub(super) const READY: &str = "ready";

/// What every body consists of.
pub(super) const BODY_BYTE: u8 = b'r';

/// How the requests come.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Manner {
    /// One after the other on each of so many kept connections.
    Kept {
        /// Connections.
        connections: usize,
        /// Requests a second of all of them together; without it as many as go.
        per_second: Option<u32>,
    },
    /// The same, beside connections that ask for something large all the time and are not measured.
    Beside {
        /// Measured connections.
        connections: usize,
        /// What the others ask for.
        large: Ask,
        /// How many others.
        downloads: usize,
    },
    /// A new connection for each request, one at a time.
    Fresh {
        /// Whether sessions are resumed.
        resume: bool,
    },
    /// Handshakes alone, on so many connections at a time.
    Handshakes {
        /// Whether sessions are resumed.
        resume: bool,
        /// At a time.
        at_once: usize,
    },
    /// Connections with one request each, then silence. At each size everything waits until it was looked at.
    Idle {
        /// Numbers of connections, in rising order.
        sizes: Vec<usize>,
    },
}

/// What was measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Outcome {
    /// Answers (or handshakes) that came whole within the time.
    pub(super) done: u64,
    /// Bytes of their bodies.
    pub(super) bytes: u64,
    /// How long it took.
    pub(super) elapsed: Duration,
    /// From the first byte of a request, or of a handshake, to the last byte of its answer.
    pub(super) latency: Histogram,
    /// Of the handshakes those that resumed a session.
    pub(super) resumed: u64,
    /// Errors by kind.
    pub(super) errors: BTreeMap<String, u64>,
}

impl Outcome {
    fn new() -> Self {
        Self {
            done: 0,
            bytes: 0,
            elapsed: Duration::ZERO,
            latency: Histogram::new(),
            resumed: 0,
            errors: BTreeMap::new(),
        }
    }

    fn add(&mut self, other: &Self) {
        self.done += other.done;
        self.bytes += other.bytes;
        self.resumed += other.resumed;
        self.latency.add(&other.latency);
        for (kind, count) in &other.errors {
            *self.errors.entry(kind.clone()).or_default() += count;
        }
    }

    fn error(&mut self, failure: &LoadError) {
        *self.errors.entry(failure.kind()).or_default() += 1;
    }
}

/// Something went otherwise than it must.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    /// The connection was refused or broke.
    #[error("{0}: {1}")]
    Io(&'static str, #[source] std::io::Error),
    /// The answer is not the expected one.
    #[error("wrong answer: {0}")]
    Answer(String),
    /// Files of the job cannot be used.
    #[error("the job cannot be used: {0}")]
    Job(String),
}

impl LoadError {
    fn kind(&self) -> String {
        match self {
            Self::Io(step, error) => format!("{step}: {error}"),
            Self::Answer(_) | Self::Job(_) => self.to_string(),
        }
    }
}

/// The process's whole life: one job after the other until standard input closes.
pub(super) fn serve() -> Result<(), LoadError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| LoadError::Io("runtime", error))?;
    let mut lines = std::io::stdin().lock().lines();
    while let Some(Ok(line)) = lines.next() {
        let job: Job = serde_json::from_str(&line).map_err(|error| LoadError::Job(error.to_string()))?;
        // Everything stops here until the measurement is asked for: connections wait in the kernel.
        let mut go = || {
            say(READY);
            matches!(lines.next(), Some(Ok(_)))
        };
        let outcome = runtime.block_on(run(&job, &mut go))?;
        say(&serde_json::to_string(&outcome).map_err(|error| LoadError::Job(error.to_string()))?);
    }
    Ok(())
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody to hear it: the next read of standard input ends us.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

async fn run(job: &Job, go: &mut dyn FnMut() -> bool) -> Result<Outcome, LoadError> {
    match &job.manner {
        Manner::Kept { connections, per_second } => {
            crowd::kept(job, *connections, *per_second, None, go).await
        }
        Manner::Beside { connections, large, downloads } => {
            crowd::kept(job, *connections, None, Some((large, *downloads)), go).await
        }
        Manner::Idle { sizes } => crowd::idle(job, sizes, go).await,
        Manner::Fresh { resume } => fresh::requests(job, *resume, go).await,
        Manner::Handshakes { resume, at_once } => fresh::handshakes(job, *resume, *at_once, go).await,
    }
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// The end of a phase that begins now.
fn until(length: u64) -> Instant {
    Instant::now() + millis(length)
}
