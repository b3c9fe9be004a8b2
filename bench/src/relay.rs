//! The relay beside its peers: everything started here, measured in turn, and told as ratios.

mod driver;
mod load;
mod measure;
mod ours;
mod peer;
mod row;
mod stage;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use miette::IntoDiagnostic as _;

use self::row::RowId;
use self::stage::Stage;

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Rows to measure; all unless named
    #[arg(long, value_delimiter = ',', value_name = "ROWS")]
    only: Vec<RowId>,
    /// How often every peer has its turn
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Roamgate alone, without the others
    #[arg(long)]
    no_peers: bool,
    /// Peers to measure beside Roamgate; all that can be had unless named
    #[arg(long, value_delimiter = ',', value_name = "PEERS", value_parser = peer_names())]
    peers: Vec<String>,
    /// One short round: whether everything works, in some three minutes. Its results are not kept
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    left: Left,
    /// More lines for `[gateway]` in its configuration, `\n` between them. With a line `[gateway.limits]` the lines
    /// after it are its limits; otherwise those for sources and devices are off
    #[arg(long, default_value = "", value_name = "LINES")]
    gateway_lines: String,
    /// More lines for `[connection-point]`
    #[arg(long, default_value = "", value_name = "LINES")]
    connector_lines: String,
    /// A program and arguments to run during each measurement of Roamgate; GATEWAY, CONNECTOR and SECONDS in
    /// them are replaced (for profiles, see bench/README.md)
    #[arg(long, value_name = "COMMAND")]
    probe: Option<String>,
    /// Folder with `roamgate` and `roamgate-client`; that of the release build unless named
    #[arg(long, value_name = "DIR")]
    binaries: Option<PathBuf>,
    /// Be the load generator (used by the benchmark itself)
    #[arg(long, hide = true)]
    load_generator: bool,
}

/// What stays when all is measured.
#[derive(Debug, Clone, Copy, clap::Args)]
struct Left {
    /// Write the chart and the section of the documentation
    #[arg(long)]
    write_docs: bool,
    /// Keep the folder of configurations and logs, and say where it is
    #[arg(long)]
    keep: bool,
}

fn peer_names() -> clap::builder::PossibleValuesParser {
    peer::PEERS.iter().map(|(id, _)| *id).collect::<Vec<_>>().into()
}

/// Exit code when Roamgate answered something otherwise than it must. What others do is told and no more.
const PROBLEMS: u8 = 7;

/// Runs it.
pub(crate) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    if arguments.load_generator {
        load::serve().into_diagnostic()?;
        return Ok(ExitCode::SUCCESS);
    }
    let quick = arguments.quick;
    let plan = Plan::from(arguments);
    let mut stage = Stage::set(&plan)?;
    let results = stage.measure(&plan)?;
    drop(stage);
    let table = table::Table::of(&plan, results);
    print!("{}", table.text());
    if !quick {
        table.keep(plan.file()).into_diagnostic()?;
    }
    if plan.left.write_docs {
        table.write_docs().into_diagnostic()?;
    }
    let (problems, others) = table.problems();
    for problem in &problems {
        eprintln!("error: {problem}");
    }
    for problem in &others {
        eprintln!("of others: {problem}");
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(PROBLEMS) })
}

/// What is measured, and how long.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    rows: Vec<RowId>,
    rounds: u32,
    measure_ms: u64,
    warm_up_ms: u64,
    peers: PeerChoice,
    left: Left,
    gateway_lines: String,
    connector_lines: String,
    probe: Option<String>,
    binaries: Option<PathBuf>,
}

/// Who is measured beside Roamgate.
#[derive(Debug, Clone, PartialEq, Eq)]
enum PeerChoice {
    All,
    Named(Vec<String>),
    None,
}

impl From<Arguments> for Plan {
    fn from(arguments: Arguments) -> Self {
        let rows = if arguments.only.is_empty() { RowId::ALL.to_vec() } else { arguments.only };
        let seconds = if arguments.quick { 0.4 } else { arguments.seconds.clamp(0.1, 600.0) };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped above")]
        let measure_ms = (seconds * 1000.0) as u64;
        let peers = match (arguments.no_peers, arguments.peers) {
            (true, _) => PeerChoice::None,
            (false, named) if named.is_empty() => PeerChoice::All,
            (false, named) => PeerChoice::Named(named),
        };
        Self {
            rows,
            rounds: if arguments.quick { 1 } else { arguments.rounds.clamp(1, 1000) },
            measure_ms,
            warm_up_ms: if arguments.quick { 200 } else { 700 },
            peers,
            left: arguments.left,
            gateway_lines: arguments.gateway_lines.replace("\\n", "\n"),
            connector_lines: arguments.connector_lines.replace("\\n", "\n"),
            probe: arguments.probe,
            binaries: arguments.binaries,
        }
    }
}

impl Plan {
    /// How long a task is measured. A large answer counts when it is whole: there must be time for some.
    fn measure_ms_of(&self, task: &row::Task) -> u64 {
        if task.asked == row::Asked::Large { self.measure_ms.max(3000) } else { self.measure_ms }
    }

    /// Name of the file of results: a run of some rows or peers does not replace that of all.
    fn file(&self) -> &'static str {
        let is_whole = self.rows == RowId::ALL && self.peers == PeerChoice::All;
        if is_whole || self.left.write_docs { "relay.json" } else { "relay-part.json" }
    }

    fn wants(&self, peer: &str) -> bool {
        match &self.peers {
            PeerChoice::All => true,
            PeerChoice::Named(names) => names.iter().any(|name| name == peer),
            PeerChoice::None => false,
        }
    }

    /// Folder of peers that were built or unpacked for this benchmark.
    fn peers_folder() -> PathBuf {
        crate::lab::project_root().join("target").join("peers")
    }
}
