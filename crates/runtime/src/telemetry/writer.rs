//! The thread that writes, and the bounded queue before it.

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::component::{Components, Route};
use super::file::RotatingFile;
use super::format::{Console, write_console, write_json, write_native};
use super::record::{Field, MESSAGE_LIMIT, Record, Text, Value};
use crate::clock::Clock;

/// Lines that wait at most. A busy second of a gateway is some hundreds at the default level; a full queue
/// of ordinary lines takes one or two megabytes.
const QUEUE: usize = 4096;
/// Time in which lines gather once the first of them has come. Each waking of the writing thread costs whoever
/// logs a system call, and each write another; nobody reads a log within milliseconds.
const GATHER: Duration = Duration::from_millis(10);

enum Command {
    Write(Box<Record>),
    Flush(SyncSender<()>),
    Stop,
}

/// Where events put their lines. Never blocks.
#[derive(Clone)]
pub(super) struct Queue {
    sender: SyncSender<Command>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Lines lost since the start.
    lost: AtomicU64,
    /// Of these, the ones that no line tells of yet.
    untold: AtomicU64,
}

impl Counts {
    fn lose(&self, lines: u64) {
        self.lost.fetch_add(lines, Ordering::Relaxed);
        self.untold.fetch_add(lines, Ordering::Relaxed);
    }
}

impl Queue {
    pub(super) fn push(&self, record: Record) {
        match self.sender.try_send(Command::Write(Box::new(record))) {
            // Without a writer the log has ended.
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => self.counts.lose(1),
        }
    }
}

/// The writing thread. Dropping it writes what is waiting.
pub(super) struct Writer {
    queue: Queue,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(outputs: Outputs, clock: Clock) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(QUEUE);
        let counts = Arc::new(Counts::default());
        let queue = Queue { sender, counts: Arc::clone(&counts) };
        let job = move || run(&receiver, outputs, &counts, &clock);
        let thread = thread::Builder::new().name("log".into()).spawn(job)?;
        Ok(Self { queue, thread: Some(thread) })
    }

    pub(super) fn queue(&self) -> Queue {
        self.queue.clone()
    }

    pub(super) fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.queue.sender.send(Command::Flush(done)).is_ok() {
            // An error means that the writer has ended, and it flushes when it does.
            let _ = wait.recv();
        }
    }

    pub(super) fn lost(&self) -> u64 {
        self.queue.counts.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // An error in either means that the thread is gone already.
        let _ = self.queue.sender.send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("counts", &self.queue.counts).finish_non_exhaustive()
    }
}

fn run(receiver: &Receiver<Command>, mut outputs: Outputs, counts: &Counts, clock: &Clock) {
    loop {
        let command = match receiver.try_recv() {
            Ok(command) => command,
            Err(TryRecvError::Empty) => {
                // A pause: what is gathered goes out before waiting.
                tell_losses(&mut outputs, counts, clock);
                counts.lose(outputs.flush());
                let Ok(command) = receiver.recv() else { return };
                if matches!(command, Command::Write(_)) {
                    thread::sleep(GATHER);
                }
                command
            }
            Err(TryRecvError::Disconnected) => return,
        };
        match command {
            Command::Write(record) => counts.lose(outputs.write(&record)),
            Command::Flush(done) => {
                tell_losses(&mut outputs, counts, clock);
                counts.lose(outputs.flush());
                // Whoever asked may have gone.
                let _ = done.send(());
            }
            Command::Stop => {
                tell_losses(&mut outputs, counts, clock);
                outputs.flush();
                return;
            }
        }
    }
}

fn tell_losses(outputs: &mut Outputs, counts: &Counts, clock: &Clock) {
    let lost = counts.untold.swap(0, Ordering::Relaxed);
    if lost == 0 {
        return;
    }
    let spec = outputs.components.default();
    let record = Record {
        route: Route { spec, name: spec.component.into() },
        level: tracing::Level::WARN,
        now: clock.now(),
        thread: 0,
        source: ("writer.rs", line!()),
        message: Text::of(MESSAGE_LIMIT, &"log lines were lost, they came faster than they could be written"),
        fields: vec![Field { name: "lines", value: Value::Bare(lost.to_string()) }],
        request_id: None,
        verbatim: false,
    };
    // Flushed at once, to know whether it was really told; the line itself does not count as lost.
    let missed = outputs.write(&record) + outputs.flush();
    if missed > 0 {
        counts.untold.fetch_add(lost, Ordering::Relaxed);
        counts.lose(missed - 1);
    }
}

/// The files and the console.
pub(super) struct Outputs {
    components: Arc<Components>,
    folder: Option<PathBuf>,
    json: bool,
    max_size: u64,
    files: Vec<LogFile>,
    console: Console,
    console_out: Box<dyn Write + Send>,
    /// The line being made; kept for its memory.
    line: String,
}

struct LogFile {
    name: &'static str,
    file: RotatingFile,
    /// Lines taken since the last flush; what is lost when that fails.
    unflushed: u64,
    /// Whether the last attempt failed, so that trouble is told once.
    troubled: bool,
}

impl Outputs {
    pub(super) fn new(
        components: Arc<Components>,
        folder: Option<PathBuf>,
        json: bool,
        max_size: u64,
        console: Console,
        console_out: Box<dyn Write + Send>,
    ) -> Self {
        let (files, line) = (Vec::new(), String::new());
        Self { components, folder, json, max_size, files, console, console_out, line }
    }

    /// Writes `record` everywhere it belongs; gives the number of lines lost thereby.
    fn write(&mut self, record: &Record) -> u64 {
        let mut lost = 0;
        if let Some(folder) = &self.folder {
            self.line.clear();
            if self.json {
                write_json(&mut self.line, record);
            } else {
                write_native(&mut self.line, record);
            }
            let name = record.route.spec.file;
            // The table of components bounds how many files there are.
            let index = self.files.iter().position(|file| file.name == name).unwrap_or_else(|| {
                self.files.push(LogFile::new(name, RotatingFile::new(folder.join(name), self.max_size)));
                self.files.len() - 1
            });
            lost = self.files.get_mut(index).map_or(0, |file| file.write(self.line.as_bytes()));
        }
        if self.console != Console::Off {
            self.line.clear();
            match self.console {
                Console::Json => write_json(&mut self.line, record),
                Console::Text | Console::Off => write_console(&mut self.line, record),
            }
            // Where standard error is closed nobody can be told so.
            let _ = self.console_out.write_all(self.line.as_bytes());
        }
        lost
    }

    /// Hands everything to the system; gives the number of lines lost thereby.
    fn flush(&mut self) -> u64 {
        let _ = self.console_out.flush();
        self.files.iter_mut().map(LogFile::flush).sum()
    }
}

impl LogFile {
    fn new(name: &'static str, file: RotatingFile) -> Self {
        Self { name, file, unflushed: 0, troubled: false }
    }

    fn write(&mut self, line: &[u8]) -> u64 {
        self.unflushed += 1;
        let outcome = self.file.write(line);
        self.settle(outcome)
    }

    fn flush(&mut self) -> u64 {
        if self.unflushed == 0 {
            return 0;
        }
        let outcome = self.file.flush();
        let lost = self.settle(outcome);
        self.unflushed = 0;
        lost
    }

    fn settle(&mut self, outcome: io::Result<()>) -> u64 {
        let Err(error) = outcome else {
            self.troubled = false;
            return 0;
        };
        if !self.troubled {
            self.troubled = true;
            // The log itself is what fails, so standard error is the only place left.
            let path = self.file.path().display();
            let _ = writeln!(io::stderr(), "log file {path} cannot be written: {error}");
        }
        std::mem::take(&mut self.unflushed)
    }
}
