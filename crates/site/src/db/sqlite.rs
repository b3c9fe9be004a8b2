//! SQLite: one writer thread, several readers.
//!
//! An fsync per registration would bound the site to the disk's commits. The writer takes what
//! has queued up during the last commit into the next one, so under load many jobs share an
//! fsync, and a lone job waits for nobody.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use proto::time::Timestamp;
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, params_from_iter};
use tokio::sync::{mpsc, oneshot};
use tracing::error;

use super::migrate::{self, MIGRATION_TABLE, MIGRATIONS, SQLITE_WORDS};
use super::{DbCounts, DbError, DbOptions, Queued, Row, Stmt, Tx, Value, WriterCounts};

/// How long a caller waits for room in a full queue. Longer than a checkpoint takes; shorter than
/// the 30 s after which a device's connection gives up.
const QUEUE_WAIT: Duration = Duration::from_secs(10);

/// Prepared statements kept per connection: more than there are.
const STATEMENT_CACHE: usize = 256;

/// Memory of the writer for pages, in KiB: a registration touches a random page of each of several indexes,
/// and of a site with 100,000 devices these have some 40 MiB. Taken only as far as the file fills it.
const WRITER_CACHE_KIB: u32 = 64 * 1024;
/// The same for each reader.
const READER_CACHE_KIB: u32 = 16 * 1024;
/// Pages in the log before they are taken into the file: 32 MiB. Under load a group of registrations writes
/// some hundred pages, many of them again and again, so a longer log saves most of the writing and of the
/// fsyncs of a checkpoint; a restart reads it in well under a second.
const CHECKPOINT_PAGES: u32 = 8 * 1024;
/// Reads in one transaction. The last of them waits for all before it.
const READS_AT_ONCE: usize = 8;

/// What a job leaves behind: told whether the transaction was committed, it answers its caller.
type Finish = Box<dyn FnOnce(Result<(), DbError>) + Send>;

/// How a job ended.
pub(super) struct Outcome {
    keep: bool,
    finish: Finish,
}

/// A closure on its way to a database thread.
pub(super) type Job = Box<dyn FnOnce(&mut dyn Tx) -> Outcome + Send>;

/// Wraps an operation's closure. A panic inside it ends here, as that job's error.
pub(super) fn job<T, E, F>(work: F, answer: oneshot::Sender<Result<T, E>>) -> Job
where
    T: Send + 'static,
    E: From<DbError> + Send + 'static,
    F: Fn(&mut dyn Tx) -> Result<T, E> + Send + 'static,
{
    Box::new(move |tx| {
        // Unwind safety: on a panic the savepoint is rolled back, and the closure is dropped.
        let result = catch_unwind(AssertUnwindSafe(|| work(tx))).unwrap_or_else(|_| {
            error!("database job panicked");
            Err(DbError::Panicked.into())
        });
        let keep = result.is_ok();
        let finish = move |committed: Result<(), DbError>| {
            // Nobody listens any more when the caller has given up: the work stands all the same.
            let _ = answer.send(match committed {
                Ok(()) => result,
                Err(error) => result.and(Err(error.into())),
            });
        };
        Outcome { keep, finish: Box::new(finish) }
    })
}

/// Queues to the threads, and the lock that keeps other processes out.
#[derive(Debug, Clone)]
pub(super) struct Sqlite {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    readers: Pool,
    writer: Pool,
    written: Arc<WriterCounts>,
    _lock: File,
}

/// Threads with one queue. Without the queue they end when it is empty.
#[derive(Debug)]
struct Pool {
    queue: Mutex<Option<mpsc::Sender<Job>>>,
    jobs: AtomicU64,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Sqlite {
    pub(super) fn open(path: &Path, options: &DbOptions, now: Timestamp) -> Result<Self, DbError> {
        let lock = lock_file(path)?;
        create_private(path)?;
        let connection = open_writer(path)?;
        migrate_schema(&connection, now)?;

        let (writer, write_jobs) = mpsc::channel(options.queue.max(1));
        let (readers, read_jobs) = mpsc::channel(options.queue.max(1));
        let group = options.group.max(1);
        let written = Arc::<WriterCounts>::default();
        let counted = Arc::clone(&written);
        let writing =
            spawn("site-db-writer", path, move || write_loop(&connection, write_jobs, group, &counted))?;
        let read_jobs = Arc::new(Mutex::new(read_jobs));
        let mut reading = Vec::new();
        for _ in 0..options.readers.max(1) {
            let connection = open_reader(path)?;
            let jobs = Arc::clone(&read_jobs);
            reading.push(spawn("site-db-reader", path, move || read_loop(&connection, &jobs))?);
        }
        let (readers, writer) = (Pool::new(readers, reading), Pool::new(writer, vec![writing]));
        Ok(Self { inner: Arc::new(Inner { readers, writer, written, _lock: lock }) })
    }

    pub(super) async fn send_write(&self, job: Job) -> Result<(), DbError> {
        self.inner.writer.send(job).await
    }

    pub(super) async fn send_read(&self, job: Job) -> Result<(), DbError> {
        self.inner.readers.send(job).await
    }

    pub(super) fn counts(&self) -> DbCounts {
        let Inner { readers, writer, written, .. } = &*self.inner;
        DbCounts {
            reads: readers.jobs.load(Ordering::Relaxed),
            writes: writer.jobs.load(Ordering::Relaxed),
            commits: written.commits.get(),
        }
    }

    pub(super) fn writer_counts(&self) -> &WriterCounts {
        &self.inner.written
    }

    pub(super) fn queued(&self) -> Queued {
        Queued { writes: self.inner.writer.queued(), reads: self.inner.readers.queued() }
    }

    /// Readers first: only the writer can take the log into the file when it closes last.
    pub(super) async fn close(self) {
        for pool in [&self.inner.readers, &self.inner.writer] {
            pool.queue().take();
            let threads = std::mem::take(&mut *pool.threads.lock().unwrap_or_else(PoisonError::into_inner));
            let join = move || threads.into_iter().for_each(|thread| drop(thread.join()));
            // Fails only when the runtime is going down, and then nobody waits.
            let _ = tokio::task::spawn_blocking(join).await;
        }
    }
}

impl Pool {
    fn new(queue: mpsc::Sender<Job>, threads: Vec<JoinHandle<()>>) -> Self {
        Self { queue: Mutex::new(Some(queue)), jobs: AtomicU64::new(0), threads: Mutex::new(threads) }
    }

    fn queue(&self) -> MutexGuard<'_, Option<mpsc::Sender<Job>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Jobs that wait for one of the threads.
    fn queued(&self) -> usize {
        self.queue().as_ref().map_or(0, |queue| queue.max_capacity() - queue.capacity())
    }

    async fn send(&self, job: Job) -> Result<(), DbError> {
        let sender = self.queue().clone().ok_or(DbError::Closed)?;
        self.jobs.fetch_add(1, Ordering::Relaxed);
        match tokio::time::timeout(QUEUE_WAIT, sender.send(job)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(DbError::Closed),
            Err(_) => Err(DbError::Busy),
        }
    }
}

fn spawn(name: &str, path: &Path, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, DbError> {
    thread::Builder::new().name(name.to_owned()).spawn(body).map_err(|source| file_error(path, source))
}

fn file_error(path: &Path, source: io::Error) -> DbError {
    DbError::File { path: path.display().to_string(), source: Arc::new(source) }
}

/// Takes `<database>.lock` for as long as the handle lives. SQLite's own locks last for a
/// transaction only.
fn lock_file(path: &Path) -> Result<File, DbError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock_path = PathBuf::from(name);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&lock_path)
        .map_err(|source| file_error(&lock_path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(DbError::InUse { path: path.display().to_string() }),
        Err(TryLockError::Error(source)) => Err(file_error(&lock_path, source)),
    }
}

/// SQLite would make the file with the process's mask; its log and index copy the file's mode.
fn create_private(path: &Path) -> Result<(), DbError> {
    let made = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
    made.map(drop).map_err(|source| file_error(path, source))
}

fn open_writer(path: &Path) -> Result<Connection, DbError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|e| DbError::engine("open", e))?;
    // FULL: an answered job survives a power cut. NORMAL would lose the last commits.
    let setup = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
                 PRAGMA trusted_schema = OFF; PRAGMA busy_timeout = 5000;";
    connection.execute_batch(setup).map_err(|e| DbError::engine("setup", e))?;
    // The savepoint of each job keeps the pages that the job changes, which are many: in memory, for a file
    // would be made, written and dropped again and again.
    let sizes = format!(
        "PRAGMA temp_store = MEMORY; PRAGMA cache_size = -{WRITER_CACHE_KIB};
         PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES};"
    );
    connection.execute_batch(&sizes).map_err(|e| DbError::engine("setup", e))?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    Ok(connection)
}

fn open_reader(path: &Path) -> Result<Connection, DbError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|e| DbError::engine("open", e))?;
    let setup = format!(
        "PRAGMA query_only = ON; PRAGMA trusted_schema = OFF; PRAGMA busy_timeout = 5000;
         PRAGMA cache_size = -{READER_CACHE_KIB};"
    );
    connection.execute_batch(&setup).map_err(|e| DbError::engine("setup", e))?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    Ok(connection)
}

/// All missing steps in one transaction: a schema is old or new, never between.
fn migrate_schema(connection: &Connection, now: Timestamp) -> Result<(), DbError> {
    let run =
        |name: &'static str, sql: &str| connection.execute_batch(sql).map_err(|e| DbError::engine(name, e));
    run("begin", "BEGIN IMMEDIATE")?;
    let migrated = (|| {
        run("schema_migration", &migrate::substitute(MIGRATION_TABLE, SQLITE_WORDS))?;
        let mut tx = SqliteTx(connection);
        let applied = migrate::list_applied(&mut tx)?;
        for step in migrate::plan(&applied, MIGRATIONS)? {
            run(step.name, &step.text_for(SQLITE_WORDS))?;
            migrate::note_applied(&mut tx, step, now)?;
        }
        run("commit", "COMMIT")
    })();
    if migrated.is_err() && !connection.is_autocommit() {
        run("rollback", "ROLLBACK")?;
    }
    migrated
}

fn write_loop(connection: &Connection, mut jobs: mpsc::Receiver<Job>, group: usize, counts: &WriterCounts) {
    while let Some(first) = jobs.blocking_recv() {
        let more = std::iter::from_fn(|| jobs.try_recv().ok());
        write_group(connection, std::iter::once(first).chain(more).take(group), counts);
    }
}

/// One transaction. The iterator is asked for the next job only when the last one is done, so
/// what arrives meanwhile joins in, up to the group's size.
fn write_group(connection: &Connection, jobs: impl Iterator<Item = Job>, counts: &WriterCounts) {
    let mut finishes: Vec<Finish> = Vec::new();
    let committed = (|| {
        step(connection, "BEGIN IMMEDIATE")?;
        for job in jobs {
            step(connection, "SAVEPOINT job")?;
            let Outcome { keep, finish } = job(&mut SqliteTx(connection));
            finishes.push(finish);
            // A full disk and the like make SQLite roll back everything by itself.
            if connection.is_autocommit() {
                return Err(DbError::NotCommitted);
            }
            if !keep {
                step(connection, "ROLLBACK TO job")?;
            }
            step(connection, "RELEASE job")?;
        }
        counts.time_commit(|| step(connection, "COMMIT"))
    })();
    counts.transaction(finishes.len(), committed.is_ok());
    if let Err(error) = &committed {
        error!(%error, jobs = finishes.len(), "database transaction lost");
        if !connection.is_autocommit() {
            // If even this fails, the next BEGIN fails too and says so to its callers.
            let _ = step(connection, "ROLLBACK");
        }
    }
    for finish in finishes {
        finish(committed.clone());
    }
}

/// Runs what waits in one transaction, because each begins with an empty cache once something was written. All
/// of it was there before the transaction looked at the database, so nobody misses what was written before he
/// asked.
fn read_loop(connection: &Connection, jobs: &Mutex<mpsc::Receiver<Job>>) {
    loop {
        let mut group = Vec::new();
        {
            // One reader waits in the queue, the others for their turn to wait.
            let mut jobs = jobs.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(first) = jobs.blocking_recv() else { return };
            group.push(first);
            group.extend(std::iter::from_fn(|| jobs.try_recv().ok()).take(READS_AT_ONCE - 1));
        }
        let begun = step(connection, "BEGIN");
        for job in group {
            let Outcome { finish, .. } = job(&mut SqliteTx(connection));
            finish(begun.clone());
        }
        // Nothing was changed, so nothing can be lost here; whoever comes next begins anew.
        if step(connection, "COMMIT").is_err() && !connection.is_autocommit() {
            let _ = step(connection, "ROLLBACK");
        }
    }
}

fn step(connection: &Connection, sql: &'static str) -> Result<(), DbError> {
    let run = || connection.prepare_cached(sql)?.execute([]);
    run().map(drop).map_err(|e| DbError::engine(sql, e))
}

struct SqliteTx<'c>(&'c Connection);

impl SqliteTx<'_> {
    fn check(statement: &'static Stmt, values: &[Value]) -> Result<(), DbError> {
        if !statement.is_registered() {
            return Err(DbError::Unregistered { statement: statement.name() });
        }
        statement.check(values)
    }
}

impl Tx for SqliteTx<'_> {
    fn exec(&mut self, statement: &'static Stmt, values: &[Value]) -> Result<u64, DbError> {
        Self::check(statement, values)?;
        let run = || self.0.prepare_cached(statement.sqlite_text())?.execute(params_from_iter(values));
        let changed = run().map_err(|e| DbError::engine(statement.name(), e))?;
        Ok(changed.try_into().unwrap_or(u64::MAX))
    }

    fn query(&mut self, statement: &'static Stmt, values: &[Value]) -> Result<Vec<Row>, DbError> {
        Self::check(statement, values)?;
        let run = || {
            let mut prepared = self.0.prepare_cached(statement.sqlite_text())?;
            let mut rows = prepared.query(params_from_iter(values))?;
            let mut out = Vec::new();
            while let Some(row) = rows.next()? {
                let values = (0..statement.columns().len())
                    .map(|column| row.get_ref(column).map(from_engine))
                    .collect::<Result<_, _>>()?;
                out.push(Row { statement: statement.name(), values });
            }
            Ok(out)
        };
        run().map_err(|e: rusqlite::Error| DbError::engine(statement.name(), e))
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Int(n) => ValueRef::Integer(*n),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

fn from_engine(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Integer(n) => Value::Int(n),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
        // No REAL column exists; the reader of the row refuses NULL where it is not declared.
        ValueRef::Null | ValueRef::Real(_) => Value::Null,
    }
}
