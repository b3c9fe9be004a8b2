//! The log, in the files, components and formats that administrators of this kind of system know; and the steps
//! of a request, for whoever collects traces ([`step!`](crate::step)).
//!
//! Code logs with `tracing`. An event goes to the file of its component:
//!
//! ```
//! # let request_id = "0190";
//! let span = tracing::info_span!("handle", %request_id, component = "CCM_STS");
//! let _entered = span.enter();
//! tracing::info!(token_type = "Device", "token issued");
//! tracing::info!(component = "MP_Policy", verbatim = true, "Return code: 401, Description: …");
//! ```
//!
//! * `component` of the event, else of the nearest span around it that has one, else the process's default,
//!   decides file and format by the table given to [`init`]. A name that is not in the table goes to the
//!   default's file under its own name.
//! * The message is followed by the fields as ` key=value` and by the `request_id` of the nearest span that
//!   has one. With `verbatim = true` only the message is written: that is for the lines that administrators
//!   know by heart.
//! * Fields may hold what a stranger sent: control characters, line ends and text that looks like the end of
//!   a record are made visible and harmless. Put such text into a *message* only through [`OneLine`].
//!
//! * A line that is written with every request takes a shorter way: [`verbatim`].
//!
//! Lines are handed to one thread that writes. Those of one thread keep their order, those of several stand in the
//! order of their times. When the writing thread does not keep up lines are dropped, counted, and the number is
//! logged: a full disk or a slow one never holds up a request.

mod batch;
mod component;
mod direct;
mod escape;
mod file;
mod format;
mod layer;
mod parse;
mod record;
mod stamp;
mod step;
mod writer;

use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use tracing::Subscriber;
use tracing_subscriber::layer::SubscriberExt;

use crate::clock::Clock;
use component::Components;
use direct::Direct;
use layer::LogLayer;
use step::Steps;
use writer::{Outputs, Writer};

pub use component::{ComponentSpec, Format, Level, UnknownComponent, UnknownLevel};
pub use direct::verbatim;
pub use escape::OneLine;
pub use file::MIN_SIZE;
pub use format::Console;
pub(crate) use format::json_string;
pub use parse::{Kind, LogLine, Pasted, parse_line, parse_text};
pub use step::{STEP_TARGET, Step, StepSink, StepValue, step_id};

/// Size at which a log file becomes history, in bytes, unless configured otherwise. Same as the field's.
pub const DEFAULT_SIZE: u64 = 250_000;

/// How and where to log.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Folder for the files, made if missing; `None` writes no files. One process per folder: two would
    /// rename each other's files.
    pub folder: Option<PathBuf>,
    /// Where each component goes.
    pub components: Vec<ComponentSpec>,
    /// Where the rest goes.
    pub default: ComponentSpec,
    /// Writes JSON, one object a line, into the files instead of the components' formats.
    pub json: bool,
    /// What goes to standard error.
    pub console: Console,
    /// Level of all components until it is changed.
    pub level: Level,
    /// Size in bytes at which a file is renamed to `.lo_` (replacing the one before) and begun anew, at least
    /// [`MIN_SIZE`].
    pub max_size: u64,
    /// Tells the time of each line.
    pub clock: Clock,
    /// Who collects the steps of requests ([`step!`](crate::step)); nobody, and they cost nothing.
    pub steps: Option<Arc<dyn StepSink>>,
}

impl LogConfig {
    /// Everything under the component `default`, for people on standard error, no files.
    pub fn new(default: ComponentSpec, clock: Clock) -> Self {
        Self {
            folder: None,
            components: Vec::new(),
            default,
            json: false,
            console: Console::Text,
            level: Level::Default,
            max_size: DEFAULT_SIZE,
            clock,
            steps: None,
        }
    }
}

/// Why logging could not begin.
#[derive(Debug, thiserror::Error)]
pub enum LogInitError {
    /// The folder could not be made.
    #[error("log folder {} cannot be made", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The size limit is too small for a useful file.
    #[error("log files need at least {MIN_SIZE} bytes, not {size}")]
    Size {
        /// What was asked for.
        size: u64,
    },
    /// The writing thread could not be started.
    #[error("the log's thread cannot be started")]
    Thread(#[source] io::Error),
    /// The process logs already.
    #[error("logging was begun before in this process")]
    Twice,
}

/// Begins logging for the whole process. Keep the handle until the end: dropping it writes what is waiting.
pub fn init(config: LogConfig) -> Result<LogHandle, LogInitError> {
    let (subscriber, handle) = start(config)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogInitError::Twice)?;
    handle.direct.set();
    Ok(handle)
}

/// The same for a part of the process: give the subscriber to [`tracing::subscriber::with_default`] or
/// [`tracing::subscriber::set_default`].
pub fn start(
    config: LogConfig,
) -> Result<(impl Subscriber + Send + Sync + 'static, LogHandle), LogInitError> {
    start_with(config, Box::new(io::stderr()))
}

fn start_with(
    config: LogConfig,
    console: Box<dyn Write + Send>,
) -> Result<(impl Subscriber + Send + Sync + 'static, LogHandle), LogInitError> {
    if config.max_size < MIN_SIZE {
        return Err(LogInitError::Size { size: config.max_size });
    }
    if let Some(path) = &config.folder {
        file::create_folder(path).map_err(|source| LogInitError::Folder { path: path.clone(), source })?;
    }
    let components = Arc::new(Components::new(config.default, config.components, config.level));
    let outputs = Outputs::new(
        Arc::clone(&components),
        config.folder,
        config.json,
        config.max_size,
        config.console,
        console,
    );
    let writer = Writer::start(outputs, config.clock.clone()).map_err(LogInitError::Thread)?;
    let steps = config.steps.map(|sink| Steps::new(sink, config.clock.clone()));
    let layer = LogLayer::new(Arc::clone(&components), writer.queue(), config.clock.clone(), steps);
    let direct = Direct::new(Arc::clone(&components), writer.queue(), config.clock);
    Ok((tracing_subscriber::registry().with(layer), LogHandle { components, direct, writer }))
}

/// The running log. Dropping it writes all lines that are waiting and ends the writing thread; what is logged
/// after that is lost.
#[derive(Debug)]
pub struct LogHandle {
    components: Arc<Components>,
    direct: Direct,
    writer: Writer,
}

impl LogHandle {
    /// Changes the level of the component `component` from now on.
    pub fn set_level(&self, component: &str, level: Level) -> Result<(), UnknownComponent> {
        self.components.set_level(component, level)?;
        // Which events are worth building at all is cached where they are logged.
        tracing::callsite::rebuild_interest_cache();
        Ok(())
    }

    /// All components of the table with their levels, the default first.
    pub fn levels(&self) -> Vec<(&'static str, Level)> {
        self.components.levels()
    }

    /// Returns when all lines logged before are written. Blocks: not for the data path.
    pub fn flush(&self) {
        self.writer.flush();
    }

    /// Lines lost since the start because they came faster than they could be written, or could not be
    /// written at all.
    pub fn lost(&self) -> u64 {
        self.writer.lost()
    }
}

/// An error with all its causes on one line: `message: cause: cause's cause`. At most 16 levels.
#[derive(Debug)]
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = self.0.to_string();
        f.write_str(&last)?;
        let causes = std::iter::successors(self.0.source(), |&error| error.source());
        for cause in causes.take(15).map(ToString::to_string) {
            // Errors of libraries often tell their cause themselves.
            if !last.ends_with(&cause) {
                write!(f, ": {cause}")?;
                last = cause;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
