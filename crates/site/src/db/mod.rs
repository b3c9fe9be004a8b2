//! The database layer: one SQL text for every engine, run on database threads.
//!
//! Work comes as plain closures over a [`Tx`]. [`Db::write`] sends one to the writer, which runs
//! many in one transaction, each under its own savepoint, and answers only after the commit: what
//! a caller was told is on disk. [`Db::read`] runs on one of several readers, on one snapshot.
//!
//! A closure is `Fn` and touches nothing outside its transaction: an engine with optimistic
//! transactions may run it again.

pub(crate) mod approval;
pub(crate) mod audit;
pub(crate) mod bulk_token;
pub(crate) mod census;
pub(crate) mod client_settings;
pub(crate) mod clone;
pub(crate) mod collection;
mod counts;
pub(crate) mod crl;
pub(crate) mod device;
pub(crate) mod directory;
mod error;
pub(crate) mod event;
pub(crate) mod key;
pub(crate) mod link;
pub(crate) mod message;
mod migrate;
pub(crate) mod operator;
pub(crate) mod policy;
pub(crate) mod report;
pub(crate) mod role;
pub(crate) mod setting;
pub(crate) mod site;
pub(crate) mod snapshot;
mod sqlite;
mod stmt;
pub(crate) mod stranded;
pub(crate) mod tenant;
#[cfg(test)]
mod tests;
pub(crate) mod trust;
pub(crate) mod user;
pub(crate) mod user_key;

use std::path::Path;

use proto::time::Timestamp;
use tokio::sync::oneshot;

pub use census::DeviceCount;
pub(crate) use counts::PATIENCE;
pub use counts::{Queued, WriterCounts};
pub use error::DbError;
pub(crate) use stmt::stmt;
pub use stmt::{FromValue, Kind, Row, Stmt, Value};

/// A transaction, whatever the engine.
pub trait Tx {
    /// Runs a statement and answers the number of rows that it changed.
    fn exec(&mut self, statement: &'static Stmt, values: &[Value]) -> Result<u64, DbError>;

    /// Runs a statement and answers its rows. A list's bound stands in its SQL.
    fn query(&mut self, statement: &'static Stmt, values: &[Value]) -> Result<Vec<Row>, DbError>;
}

impl dyn Tx + '_ {
    /// The row, or `None`. More than one is a mistake in the statement.
    pub fn query_opt(&mut self, statement: &'static Stmt, values: &[Value]) -> Result<Option<Row>, DbError> {
        let mut rows = self.query(statement, values)?;
        if rows.len() > 1 {
            return Err(DbError::Rows { statement: statement.name() });
        }
        Ok(rows.pop())
    }

    /// The row, which must exist.
    pub fn query_one(&mut self, statement: &'static Stmt, values: &[Value]) -> Result<Row, DbError> {
        self.query_opt(statement, values)?.ok_or(DbError::Rows { statement: statement.name() })
    }
}

/// How the database is run. All bounds are per process.
#[derive(Debug, Clone)]
pub struct DbOptions {
    /// Reader threads, each with a connection. More than the cores that they run on gain nothing.
    pub readers: usize,
    /// Jobs waiting for the writer or the readers before a caller waits, and after a wait of
    /// [`DbError::Busy`]'s length is refused.
    pub queue: usize,
    /// Jobs in one commit at most. Bounds how long the first of them waits for its answer.
    pub group: usize,
}

impl Default for DbOptions {
    fn default() -> Self {
        Self { readers: 2, queue: 1024, group: 256 }
    }
}

/// What a database has been asked for since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DbCounts {
    /// Jobs given to the readers.
    pub reads: u64,
    /// Jobs given to the writer.
    pub writes: u64,
    /// Commits that they took: fewer than jobs, as soon as several wait at once.
    pub commits: u64,
}

/// The database. Cheap to clone; the threads end when the last clone is gone.
#[derive(Debug, Clone)]
pub struct Db {
    engine: sqlite::Sqlite,
}

impl Db {
    /// Opens the file, made with mode 0600 when it is not there, and brings its schema up to date.
    ///
    /// Refuses a file that another process has open, a schema newer than this program, and a
    /// migration whose text changed since it was applied.
    pub fn open(path: &Path, options: &DbOptions, now: Timestamp) -> Result<Self, DbError> {
        Ok(Self { engine: sqlite::Sqlite::open(path, options, now)? })
    }

    /// Runs a job in a transaction that may write. Answered after the commit; a job that fails or
    /// panics is rolled back alone.
    pub async fn write<T, E, F>(&self, job: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
        F: Fn(&mut dyn Tx) -> Result<T, E> + Send + 'static,
    {
        let _step = runtime::step_inside!("site.write", operation = counts::operation::<F>());
        let (answer, result) = oneshot::channel();
        self.engine.send_write(sqlite::job(job, answer)).await?;
        result.await.unwrap_or_else(|_| Err(DbError::Closed.into()))
    }

    /// Runs a job on one snapshot of the database, read-only.
    pub async fn read<T, E, F>(&self, job: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
        F: Fn(&mut dyn Tx) -> Result<T, E> + Send + 'static,
    {
        let _step = runtime::step_inside!("site.read", operation = counts::operation::<F>());
        let (answer, result) = oneshot::channel();
        self.engine.send_read(sqlite::job(job, answer)).await?;
        result.await.unwrap_or_else(|_| Err(DbError::Closed.into()))
    }

    /// What it has been asked for since it was opened.
    pub fn counts(&self) -> DbCounts {
        self.engine.counts()
    }

    /// What the writer did since it was opened.
    pub fn writer_counts(&self) -> &WriterCounts {
        self.engine.writer_counts()
    }

    /// Jobs that wait now.
    pub fn queued(&self) -> Queued {
        self.engine.queued()
    }

    /// Ends the threads and waits for them; jobs already sent are still done. Other clones get
    /// [`DbError::Closed`] from then on.
    pub async fn close(self) {
        self.engine.close().await;
    }
}

/// Every statement that the engine takes. One that is missing here is refused at its first call.
pub(crate) fn registered() -> impl Iterator<Item = &'static Stmt> {
    let modules = [
        approval::STATEMENTS,
        audit::STATEMENTS,
        bulk_token::STATEMENTS,
        census::STATEMENTS,
        crl::STATEMENTS,
        client_settings::STATEMENTS,
        clone::STATEMENTS,
        collection::STATEMENTS,
        device::STATEMENTS,
        directory::STATEMENTS,
        event::STATEMENTS,
        key::STATEMENTS,
        link::STATEMENTS,
        message::STATEMENTS,
        migrate::STATEMENTS,
        operator::STATEMENTS,
        policy::STATEMENTS,
        report::STATEMENTS,
        role::STATEMENTS,
        setting::STATEMENTS,
        site::STATEMENTS,
        snapshot::STATEMENTS,
        stranded::STATEMENTS,
        tenant::STATEMENTS,
        trust::STATEMENTS,
        user::STATEMENTS,
        user_key::STATEMENTS,
    ];
    modules.into_iter().flatten().copied()
}
