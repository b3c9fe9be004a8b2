//! Lines that wait for the writing thread.
//!
//! Each thread that logs has a batch of its own, so that two of them never meet at one lock, and the writing thread
//! takes whole batches. The first line of a batch wakes it, and then lines gather for a moment: a line costs its
//! thread a copy, and one of hundreds costs a system call.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::component::ComponentSpec;
use super::record::{Line, Record};

/// Lines of one thread that wait at most. Threads that log much carry some ten thousand requests a second, which
/// makes some hundred lines between two looks of the writing thread.
const LINES: usize = 4096;
/// Text that waits at most for one thread, in bytes.
const TEXT_BYTES: usize = 2 * 1024 * 1024;
/// Memory for text that an empty batch keeps, in bytes.
const KEPT_BYTES: usize = 256 * 1024;
/// Empty batches that are kept for their memory.
const SPARE: usize = 8;

/// What the writing thread is told.
pub(super) enum Command {
    /// Lines wait.
    Lines,
    /// Answer when everything that was logged before is written.
    Flush(SyncSender<()>),
    /// Write what waits, and end.
    Stop,
}

/// Where lines are put. Never blocks for longer than the copy of another line takes.
#[derive(Clone)]
pub(super) struct Queue(Arc<Inner>);

struct Inner {
    sender: SyncSender<Command>,
    /// Tells this log from others of the process.
    number: u64,
    /// Nobody writes any more.
    closed: AtomicBool,
    batches: Mutex<Vec<Arc<Batch>>>,
    /// For threads so near their end that they have nothing of their own any more.
    late: Arc<Batch>,
    counts: Counts,
}

/// What was lost.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Lines lost since the start.
    lost: AtomicU64,
    /// Of these, the ones that no line tells of yet.
    untold: AtomicU64,
}

/// The lines of one thread.
#[derive(Default)]
struct Batch(Mutex<Lines>);

/// Lines in the order in which they were logged.
#[derive(Default)]
pub(super) struct Lines {
    entries: Vec<Entry>,
    /// The messages of all direct lines, one after another.
    text: String,
    /// Text that waits, also that of records.
    bytes: usize,
}

enum Entry {
    Record(Box<Record>),
    Direct(DirectLine),
}

/// A line that is nothing but its message.
pub(super) struct DirectLine {
    pub(super) spec: ComponentSpec,
    pub(super) level: tracing::Level,
    pub(super) now: i64,
    pub(super) thread: u64,
    pub(super) source: (&'static str, u32),
    /// Bytes of its message.
    length: usize,
}

impl Counts {
    pub(super) fn lose(&self, lines: u64) {
        // Nearly always nothing, and then nobody's memory is touched.
        if lines > 0 {
            self.lost.fetch_add(lines, Ordering::Relaxed);
            self.untold.fetch_add(lines, Ordering::Relaxed);
        }
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Whether there are losses that no line has told yet.
    pub(super) fn are_untold(&self) -> bool {
        self.untold.load(Ordering::Relaxed) > 0
    }

    /// Losses that no line has told yet; they count as told now.
    pub(super) fn tell(&self) -> u64 {
        self.untold.swap(0, Ordering::Relaxed)
    }

    /// They were not told after all.
    pub(super) fn untell(&self, lines: u64) {
        self.untold.fetch_add(lines, Ordering::Relaxed);
    }
}

thread_local! {
    /// This thread's batch of each log; a process has one, a test its own.
    static MINE: RefCell<Vec<(u64, Arc<Batch>)>> = const { RefCell::new(Vec::new()) };
    /// Memory for a message in the making.
    static SCRATCH: Cell<String> = const { Cell::new(String::new()) };
}

impl Queue {
    /// An empty queue that wakes its reader by `sender`.
    pub(super) fn new(sender: SyncSender<Command>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let late = Arc::<Batch>::default();
        Self(Arc::new(Inner {
            sender,
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            closed: AtomicBool::new(false),
            batches: Mutex::new(vec![Arc::clone(&late)]),
            late,
            counts: Counts::default(),
        }))
    }

    pub(super) fn counts(&self) -> &Counts {
        &self.0.counts
    }

    pub(super) fn sender(&self) -> &SyncSender<Command> {
        &self.0.sender
    }

    /// Takes no more lines: nobody would write them.
    pub(super) fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
    }

    /// Puts a line with everything that belongs to it.
    pub(super) fn push(&self, record: Record) {
        let bytes = record.bytes();
        self.put(bytes, |lines| lines.entries.push(Entry::Record(Box::new(record))));
    }

    /// Puts a line that is nothing but `message`.
    pub(super) fn push_direct(
        &self,
        (spec, level): (ComponentSpec, tracing::Level),
        now: i64,
        source: (&'static str, u32),
        message: &str,
    ) {
        let line = DirectLine { spec, level, now, thread: thread_number(), source, length: message.len() };
        self.put(message.len(), |lines| {
            lines.text.push_str(message);
            lines.entries.push(Entry::Direct(line));
        });
    }

    fn put(&self, bytes: usize, add: impl FnOnce(&mut Lines)) {
        if self.0.closed.load(Ordering::Acquire) {
            return;
        }
        let mut add = Some(add);
        let mut put = |batch: &Batch| {
            let Some(add) = add.take() else { return };
            match batch.lock().put(bytes, add) {
                Put::Lost => self.0.counts.lose(1),
                Put::Further => {}
                // When there is no room for it the writing thread is busy, and looks here before it rests.
                Put::First => drop(self.0.sender.try_send(Command::Lines)),
            }
        };
        let own = MINE.try_with(|mine| match mine.try_borrow_mut() {
            Ok(mut mine) => put(self.mine(&mut mine)),
            Err(_) => put(&self.0.late),
        });
        if own.is_err() {
            put(&self.0.late);
        }
    }

    /// The calling thread's batch in this log.
    fn mine<'a>(&self, mine: &'a mut Vec<(u64, Arc<Batch>)>) -> &'a Batch {
        let known = mine.iter().position(|(log, _)| *log == self.0.number);
        let index = known.unwrap_or_else(|| {
            // Batches that nobody else holds are of logs that have ended.
            mine.retain(|(_, batch)| Arc::strong_count(batch) > 1);
            let batch = Arc::<Batch>::default();
            self.batches().push(Arc::clone(&batch));
            mine.push((self.0.number, batch));
            mine.len() - 1
        });
        let (_, batch) = mine.get(index).expect("found or pushed just now");
        batch
    }

    fn batches(&self) -> MutexGuard<'_, Vec<Arc<Batch>>> {
        self.0.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("counts", &self.0.counts).finish_non_exhaustive()
    }
}

/// What became of a line.
enum Put {
    /// Its batch was empty.
    First,
    Further,
    Lost,
}

impl Batch {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    fn put(&mut self, bytes: usize, add: impl FnOnce(&mut Self)) -> Put {
        let first = self.entries.is_empty();
        if !first && (self.entries.len() >= LINES || self.bytes + bytes > TEXT_BYTES) {
            return Put::Lost;
        }
        self.bytes += bytes;
        add(self);
        if first { Put::First } else { Put::Further }
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.text.clear();
        self.text.shrink_to(KEPT_BYTES);
        self.bytes = 0;
    }
}

/// The reading end: takes all batches at once and gives their lines in the order of their times.
pub(super) struct Collector {
    queue: Queue,
    taken: Vec<Lines>,
    spare: Vec<Lines>,
    /// Time, batch, entry, and where the entry's text begins.
    order: Vec<(i64, usize, usize, usize)>,
}

impl Collector {
    pub(super) fn new(queue: Queue) -> Self {
        Self { queue, taken: Vec::new(), spare: Vec::new(), order: Vec::new() }
    }

    /// Hands everything that waits to `write`. Lines of one thread keep their order also when the clock is set back.
    pub(super) fn collect(&mut self, mut write: impl FnMut(&Line<'_>)) {
        self.take();
        self.order.clear();
        for (batch, lines) in self.taken.iter().enumerate() {
            let (mut latest, mut start) = (i64::MIN, 0);
            for (index, entry) in lines.entries.iter().enumerate() {
                let (now, length) = match entry {
                    Entry::Record(record) => (record.now, 0),
                    Entry::Direct(line) => (line.now, line.length),
                };
                latest = latest.max(now);
                self.order.push((latest, batch, index, start));
                start += length;
            }
        }
        // Stable, and next to nothing for what is in order already.
        self.order.sort_by_key(|(now, ..)| *now);
        for (_, batch, index, start) in &self.order {
            let Some(lines) = self.taken.get(*batch) else { continue };
            match lines.entries.get(*index) {
                Some(Entry::Record(record)) => write(&record.line()),
                Some(Entry::Direct(line)) => {
                    let text = lines.text.get(*start..*start + line.length).unwrap_or_default();
                    write(&line.line(text));
                }
                None => {}
            }
        }
        for mut lines in self.taken.drain(..) {
            lines.clear();
            if self.spare.len() < SPARE {
                self.spare.push(lines);
            }
        }
    }

    fn take(&mut self) {
        let late = &self.queue.0.late;
        let mut batches = self.queue.batches();
        batches.retain(|batch| {
            // Of a thread that has ended; looked at before its lines are, so that none comes after.
            let ended = Arc::strong_count(batch) == 1 && !Arc::ptr_eq(batch, late);
            let mut lines = batch.lock();
            if !lines.entries.is_empty() {
                let empty = self.spare.pop().unwrap_or_default();
                self.taken.push(std::mem::replace(&mut *lines, empty));
            }
            !ended
        });
    }
}

impl DirectLine {
    fn line<'a>(&'a self, message: &'a str) -> Line<'a> {
        Line {
            spec: self.spec,
            name: self.spec.component,
            level: self.level,
            now: self.now,
            thread: self.thread,
            source: self.source,
            message,
            fields: &[],
            request_id: None,
            verbatim: true,
        }
    }
}

/// Makes a message in memory that is used again, and hands it to `take`.
pub(super) fn with_scratch(write: impl FnOnce(&mut String), take: impl FnOnce(&mut String)) {
    // Taken out meanwhile: whatever is shown in a message may log itself.
    let mut text = SCRATCH.try_with(Cell::take).unwrap_or_default();
    text.clear();
    write(&mut text);
    take(&mut text);
    if text.capacity() <= KEPT_BYTES {
        let _ = SCRATCH.try_with(|scratch| scratch.set(text));
    }
}

/// The number of the calling thread in our lines: threads count from 1 in the order of their first line. (The
/// system's own numbers need a call that is not safe Rust.)
pub(super) fn thread_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local! {
        static MINE: Cell<u64> = const { Cell::new(0) };
    }
    MINE.with(|mine| {
        if mine.get() == 0 {
            mine.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        mine.get()
    })
}
