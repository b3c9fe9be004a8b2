//! What can go wrong between an operation and its tables.

use std::io;
use std::sync::Arc;

/// An error of the database layer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DbError {
    /// The engine refused or failed.
    #[error("statement {statement} failed")]
    Engine {
        /// The statement's name, or the step that was tried.
        statement: &'static str,
        /// What the engine said. Never holds bound values.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// A value would have made a row that the schema forbids: a duplicate, a missing parent.
    #[error("statement {statement} breaks a rule of the schema")]
    Constraint {
        /// The statement's name.
        statement: &'static str,
        /// What the engine said.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// A statement was called with values that it does not declare.
    #[error("statement {statement} was given values of the wrong kind or number")]
    Parameters {
        /// The statement's name.
        statement: &'static str,
    },
    /// A column does not hold what the code reads from it.
    #[error("column {column} of {statement} holds something else")]
    Column {
        /// The statement's name.
        statement: &'static str,
        /// The column, counted from zero.
        column: usize,
    },
    /// A statement that answers one row answered none or several.
    #[error("statement {statement} answered an unexpected number of rows")]
    Rows {
        /// The statement's name.
        statement: &'static str,
    },
    /// A statement that the registry does not know.
    #[error("statement {statement} is not registered")]
    Unregistered {
        /// The statement's name.
        statement: &'static str,
    },
    /// The job panicked; its savepoint was rolled back.
    #[error("the job panicked and was rolled back")]
    Panicked,
    /// The job was undone because the commit that it shared failed.
    #[error("the transaction was not committed")]
    NotCommitted,
    /// The queue stayed full for ten seconds.
    #[error("the database has more work than it can do")]
    Busy,
    /// The database is closed.
    #[error("the database is closed")]
    Closed,
    /// The file could not be made or locked.
    #[error("database file {path}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// Another process has the file open: one process owns it.
    #[error("database file {path} is in use by another process")]
    InUse {
        /// The file.
        path: String,
    },
    /// The schema was made by a newer program.
    #[error("the database has schema {found}, this program knows {known}: use a newer program")]
    NewerSchema {
        /// The version in the file.
        found: i64,
        /// The newest that this program has.
        known: i64,
    },
    /// A migration's text is not the one that was applied.
    #[error("migration {version} ({name}) was applied with another text")]
    ChangedMigration {
        /// Its number.
        version: i64,
        /// Its name.
        name: &'static str,
    },
}

impl DbError {
    pub(super) fn engine(statement: &'static str, source: rusqlite::Error) -> Self {
        let constraint = source.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation);
        let source = Arc::new(source);
        if constraint { Self::Constraint { statement, source } } else { Self::Engine { statement, source } }
    }

    /// Whether trying again later may help: nothing is wrong with the request.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Busy | Self::Closed | Self::NotCommitted)
    }
}
