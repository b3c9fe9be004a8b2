//! Tokens and registrations per second at a real site host, each beside what bounds it: the bare RSA signature,
//! and a database that commits each row by itself. And how both grow with what the site holds.
//!
//! The site host is a process of its own, asked over sockets. All requests are made and signed before anything
//! is measured, so that the load takes little of the machine that it shares with the site.

mod device;
mod figures;
mod growth;
mod host;
mod load;
mod peer;

use std::collections::BTreeMap;
use std::error::Error;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use miette::IntoDiagnostic as _;
use proto::id::ClientId;

use self::device::{Device, Keys, now, on_all_cores};
use self::figures::{Figures, Row, add_errors};
use self::host::{Files, Served};
use crate::lab::{Binaries, project_root};
use crate::process::ProcessError;

/// Time of one round of a peer.
const PEER_ROUND: Duration = Duration::from_secs(2);

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Rounds; each asks the site and then the peer.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Tokens of one round, each of a device of its own.
    #[arg(long, default_value_t = 2000)]
    tokens: usize,
    /// Registrations of one round, each of a new device.
    #[arg(long, default_value_t = 4000)]
    registrations: usize,
    /// Connections at once, each with one request at a time.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Numbers of devices in the database at which growth is measured. 1000000 takes 3 GB of disk.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000, 100_000])]
    devices: Vec<usize>,
    /// Lengths of revocation lists.
    #[arg(long, value_delimiter = ',', default_values_t = [100, 10_000, 1_000_000])]
    crl_entries: Vec<usize>,
    /// Numbers of policies that a device has.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 100, 1_000])]
    policies: Vec<usize>,
    /// Leaves out how costs grow.
    #[arg(long)]
    no_growth: bool,
    /// The `roamgate` to be measured: the release build unless named.
    #[arg(long)]
    roamgate: Option<PathBuf>,
    /// Folder for databases, which must be on the disk that is meant: `target` unless named.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Writes no file of results and no documentation.
    #[arg(long)]
    dry: bool,
}

/// Nothing was measured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpeedError {
    /// A process did not do its part.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The binaries are not there.
    #[error("no program to measure")]
    Binaries(#[from] crate::lab::LabError),
    /// A file or folder.
    #[error("cannot use {path}")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The site refused to be prepared.
    #[error("cannot {doing}")]
    Site {
        /// What was tried.
        doing: &'static str,
        /// Why not.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A key or a certificate was not made.
    #[error("no key or certificate")]
    Key(#[source] Box<dyn Error + Send + Sync>),
    /// The peer's database, or the site's when it is filled.
    #[error("a database failed")]
    Sqlite(#[from] rusqlite::Error),
    /// A connection broke, or an answer did not come.
    #[error("the site did not answer")]
    Load(#[source] std::io::Error),
    /// A worker of ours panicked.
    #[error("a worker ended")]
    Worker,
}

impl SpeedError {
    fn file(path: &Path, source: std::io::Error) -> Self {
        Self::File { path: path.to_owned(), source }
    }

    fn site(doing: &'static str, source: impl Error + Send + Sync + 'static) -> Self {
        Self::Site { doing, source: Box::new(source) }
    }

    fn key(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Key(source.into())
    }
}

/// Runs it. Fails, too, when a row is not met or an answer was an error.
#[expect(clippy::needless_pass_by_value, reason = "all measurements are called alike")]
pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().into_diagnostic()?;
    let figures = runtime.block_on(measure(&arguments)).into_diagnostic()?;
    println!("{}", figures.markdown());
    if !arguments.dry {
        keep(&figures).into_diagnostic()?;
    }
    Ok(if figures.are_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn measure(arguments: &Arguments) -> Result<Figures, SpeedError> {
    let roamgate = match &arguments.roamgate {
        Some(path) => path.clone(),
        None => Binaries::find(None)?.roamgate,
    };
    let parent = arguments.folder.clone().unwrap_or_else(|| project_root().join("target"));
    let folder = tempfile::Builder::new().prefix("site-speed-").tempdir_in(&parent);
    let folder = folder.map_err(|source| SpeedError::file(&parent, source))?;
    let folder = folder.path();

    eprintln!("making a site, devices and their requests");
    let keys = Keys::make()?;
    let files = Files::make(&roamgate, folder).await?;
    let devices = keys.devices("PC", 0..arguments.rounds * arguments.tokens)?;
    let enrolled = files.enrol(&devices).await?;
    let enrolled: Vec<_> =
        devices.into_iter().zip(enrolled).map(|(device, (id, t))| (device, id, t)).collect();
    let mut growth = Vec::new();
    if !arguments.no_growth {
        // First, while the site holds only what was enrolled.
        let few = keys.devices("FEW", 0..arguments.tokens.min(500))?;
        let small = Files::make(&roamgate, &folder.join("small")).await?;
        let known = small.enrol(&few).await?;
        let known: Vec<_> = few.into_iter().zip(known).map(|(device, (id, t))| (device, id, t)).collect();
        eprintln!("growth with devices, policies and revocation lists");
        growth.push(growth::devices(arguments, folder, &small, &keys, &known).await?);
        growth.push(growth::policies(arguments, folder, &small, &keys, &known).await?);
        growth.push(growth::revocations(arguments, folder, &small).await?);
    }
    let (rows, errors) = rounds(arguments, folder, &files, &keys, &enrolled).await?;
    let command: Vec<_> = std::env::args().skip(1).collect();
    Ok(Figures {
        at: now().iso8601(),
        machine: machine(),
        command: format!("roamgate-bench {}", command.join(" ")),
        rows,
        growth,
        errors,
    })
}

/// The rows that have a goal, round by round, each beside its peer.
async fn rounds(
    arguments: &Arguments,
    folder: &Path,
    files: &Files,
    keys: &Keys,
    enrolled: &[(Device, ClientId, String)],
) -> Result<(Vec<Row>, BTreeMap<String, usize>), SpeedError> {
    let pkcs8 = keys.pkcs8();
    let mut host = files.serve()?;
    let (mut tokens, mut registrations) = (Rounds::default(), Rounds::default());
    for (round, known) in enrolled.chunks(arguments.tokens.max(1)).enumerate() {
        eprintln!("round {} of {}", round + 1, arguments.rounds);
        let asked =
            requests(on_all_cores(known, |(device, id, token)| Ok(keys.token_request(device, *id, token)))?);
        let from = 1_000_000 + round * arguments.registrations;
        let new = keys.devices("NEW", from..from + arguments.registrations)?;
        let registering = requests(on_all_cores(&new, |device| Ok(keys.registration(device)))?);

        let served = host.send(asked, arguments.connections).await?;
        let bare = peer::sign(&pkcs8, PEER_ROUND, &[host.pid()])?;
        tokens.add(&served, bare.rate, bare.per_cpu);
        let served = host.send(registering, arguments.connections).await?;
        let commits = peer::commit_one_by_one(folder, PEER_ROUND)?;
        registrations.add(&served, commits, commits);
    }
    let mut errors = tokens.errors;
    add_errors(&mut errors, &registrations.errors);
    let rows = vec![
        Row::new(
            "CCM_STS tokens per core",
            "bare RS256 signatures",
            "a second of CPU",
            &tokens.per_cpu,
            Some((0.75, 0.85)),
        ),
        Row::new(
            "CCM_STS tokens, the load beside them",
            "bare RS256 signatures on all cores",
            "a second",
            &tokens.rates,
            None,
        ),
        Row::new(
            "durable registrations of new devices",
            "SQLite FULL, a commit each",
            "a second",
            &registrations.rates,
            Some((3.0, 5.0)),
        ),
        Row::new("slowest of 100 tokens", "half of them", "ms", &tokens.waits, None),
        Row::new("slowest of 100 registrations", "half of them", "ms", &registrations.waits, None),
    ];
    Ok((rows, errors))
}

/// Pairs of ours and the peer's, one a round.
#[derive(Debug, Default)]
struct Rounds {
    rates: Vec<(f64, f64)>,
    per_cpu: Vec<(f64, f64)>,
    waits: Vec<(f64, f64)>,
    errors: BTreeMap<String, usize>,
}

impl Rounds {
    fn add(&mut self, served: &Served, peer_rate: f64, peer_per_cpu: f64) {
        self.rates.push((served.outcome.rate(), peer_rate));
        self.per_cpu.push((served.per_cpu(), peer_per_cpu));
        self.waits.push((served.outcome.quantile_ms(0.99), served.outcome.quantile_ms(0.5)));
        add_errors(&mut self.errors, &served.outcome.bad);
    }
}

fn requests(all: Vec<Bytes>) -> Arc<[Bytes]> {
    all.into()
}

/// Writes the results beside those of other runs, and the section of the documentation.
fn keep(figures: &Figures) -> Result<(), SpeedError> {
    let root = project_root();
    let results = root.join("bench").join("results");
    std::fs::create_dir_all(&results).map_err(|source| SpeedError::file(&results, source))?;
    // Numbers and names always have a JSON form.
    let json = serde_json::to_string_pretty(figures).expect("plain data has a JSON form");
    let path = results.join("site.json");
    std::fs::write(&path, json + "\n").map_err(|source| SpeedError::file(&path, source))?;
    let path = root.join("docs").join("performance.md");
    let page = match std::fs::read_to_string(&path) {
        Ok(page) => page,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(source) => return Err(SpeedError::file(&path, source)),
    };
    std::fs::write(&path, figures.put_into(&page)).map_err(|source| SpeedError::file(&path, source))
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, m)| m);
    format!("{cores} cores ({})", model.unwrap_or("of unknown model"))
}
