//! The thread that writes.

use std::fmt;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::batch::{Collector, Command, Queue};
use super::component::{Components, Route};
use super::file::RotatingFile;
use super::format::{Console, Formatter, write_json};
use super::record::{Field, Line, MESSAGE_LIMIT, Record, Text, Value};
use crate::clock::Clock;

/// Commands that wait at most; each thread that logs has one of them under way.
const COMMANDS: usize = 64;
/// Time in which lines gather once the first of them has come. Each waking of the writing thread costs whoever
/// logs a system call, and each write another; nobody reads a log within milliseconds.
const GATHER: Duration = Duration::from_millis(10);

/// The writing thread. Dropping it writes what is waiting.
pub(super) struct Writer {
    queue: Queue,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(outputs: Outputs, clock: Clock) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(COMMANDS);
        let queue = Queue::new(sender);
        let mut work = Work { queue: queue.clone(), waiting: Collector::new(queue.clone()), outputs, clock };
        let thread = thread::Builder::new().name("log".into()).spawn(move || work.run(&receiver))?;
        Ok(Self { queue, thread: Some(thread) })
    }

    pub(super) fn queue(&self) -> Queue {
        self.queue.clone()
    }

    pub(super) fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.queue.sender().send(Command::Flush(done)).is_ok() {
            // An error means that the writer has ended, and it flushes when it does.
            let _ = wait.recv();
        }
    }

    pub(super) fn lost(&self) -> u64 {
        self.queue.counts().lost()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // An error in either means that the thread is gone already.
        let _ = self.queue.sender().send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("counts", self.queue.counts()).finish_non_exhaustive()
    }
}

/// What the writing thread works with.
struct Work {
    queue: Queue,
    waiting: Collector,
    outputs: Outputs,
    clock: Clock,
}

impl Work {
    fn run(&mut self, receiver: &Receiver<Command>) {
        loop {
            let command = match receiver.try_recv() {
                Ok(command) => command,
                Err(TryRecvError::Empty) => {
                    // A pause: everything goes out before the rest. Whoever finds his batch empty after it tells us.
                    self.write_all();
                    let Ok(command) = receiver.recv() else { return };
                    if matches!(command, Command::Lines) {
                        thread::sleep(GATHER);
                    }
                    command
                }
                Err(TryRecvError::Disconnected) => return,
            };
            match command {
                // Taken at the next pause, with those of all other threads.
                Command::Lines => {}
                Command::Flush(done) => {
                    self.write_all();
                    // Whoever asked may have gone.
                    let _ = done.send(());
                }
                Command::Stop => {
                    self.queue.close();
                    self.write_all();
                    return;
                }
            }
        }
    }

    /// Writes everything that waits and hands it to the system.
    fn write_all(&mut self) {
        let Self { queue, waiting, outputs, .. } = self;
        let counts = queue.counts();
        waiting.collect(|line| counts.lose(outputs.write(line)));
        if counts.are_untold() {
            // What came in time, before the word about what did not.
            waiting.collect(|line| counts.lose(outputs.write(line)));
        }
        self.tell_losses();
        self.queue.counts().lose(self.outputs.flush());
    }

    fn tell_losses(&mut self) {
        let (outputs, counts) = (&mut self.outputs, self.queue.counts());
        let lost = counts.tell();
        if lost == 0 {
            return;
        }
        let spec = outputs.components.default();
        let record = Record {
            route: Route { spec, name: spec.component.into() },
            level: tracing::Level::WARN,
            now: self.clock.now(),
            thread: 0,
            source: ("writer.rs", line!()),
            message: Text::of(
                MESSAGE_LIMIT,
                &"log lines were lost, they came faster than they could be written",
            ),
            fields: vec![Field { name: "lines", value: Value::Bare(lost.to_string()) }],
            request_id: None,
            verbatim: false,
        };
        // Flushed at once, to know whether it was really told; the line itself does not count as lost.
        let missed = outputs.write(&record.line()) + outputs.flush();
        if missed > 0 {
            counts.untell(lost);
            counts.lose(missed - 1);
        }
    }
}

/// Most bytes for the console that are gathered.
const CONSOLE_BYTES: usize = 64 * 1024;

/// The files and the console.
pub(super) struct Outputs {
    components: Arc<Components>,
    folder: Option<PathBuf>,
    json: bool,
    max_size: u64,
    files: Vec<LogFile>,
    console: Console,
    /// Gathers the lines of a moment, as the files do.
    console_out: BufWriter<Box<dyn Write + Send>>,
    /// The line being made; kept for its memory.
    line: String,
    format: Formatter,
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
        let (files, line, format) = (Vec::new(), String::new(), Formatter::default());
        let console_out = BufWriter::with_capacity(CONSOLE_BYTES, console_out);
        Self { components, folder, json, max_size, files, console, console_out, line, format }
    }

    /// Writes `line` everywhere it belongs; gives the number of lines lost thereby.
    fn write(&mut self, line: &Line<'_>) -> u64 {
        let mut lost = 0;
        if let Some(folder) = &self.folder {
            self.line.clear();
            if self.json {
                write_json(&mut self.line, line);
            } else {
                self.format.native(&mut self.line, line);
            }
            let name = line.spec.file;
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
                Console::Json => write_json(&mut self.line, line),
                Console::Text | Console::Off => self.format.console(&mut self.line, line),
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
