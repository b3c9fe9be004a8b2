use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use rusqlite::Connection;

use super::*;
use crate::db::setting::SettingRow;

struct Fixture {
    dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("site.db")
    }

    fn open(&self) -> Result<Db, DbError> {
        Db::open(&self.path(), &DbOptions::default(), Timestamp::from_seconds(1))
    }
}

fn put(tx: &mut dyn Tx, name: &str) -> Result<(), DbError> {
    let row = SettingRow {
        name: name.to_owned(),
        value: String::new(),
        changed_at: Timestamp::default(),
        changed_by: String::new(),
    };
    setting::put(tx, &row)
}

async fn names(db: &Db) -> Vec<String> {
    let rows = db.read(setting::list).await.unwrap();
    rows.into_iter().map(|row| row.name).collect()
}

/// A job that waits until the test lets it go on.
struct Gate(Mutex<Receiver<()>>);

impl Gate {
    fn new() -> (Sender<()>, Self) {
        let (open, wait) = channel();
        (open, Self(Mutex::new(wait)))
    }

    fn pass(&self) {
        self.0.lock().unwrap().recv().unwrap();
    }
}

#[tokio::test]
async fn every_registered_statement_is_what_it_declares() {
    let fixture = Fixture::new();
    fixture.open().unwrap().close().await;
    let connection = Connection::open(fixture.path()).unwrap();
    let mut names = std::collections::HashSet::new();
    let mut typed = 0;
    for statement in registered() {
        assert!(names.insert(statement.name()), "two statements are called {}", statement.name());
        let prepared = connection.prepare(statement.sqlite_text());
        let prepared = prepared.unwrap_or_else(|error| panic!("{}: {error}", statement.name()));
        assert_eq!(prepared.parameter_count(), statement.params().len(), "{}: parameters", statement.name());
        assert_eq!(prepared.column_count(), statement.columns().len(), "{}: columns", statement.name());
        for (column, kind) in prepared.columns().zip(statement.columns()) {
            let Some(declared) = column.decl_type() else { continue };
            let expected = match kind {
                Kind::Int | Kind::OptInt => "INTEGER",
                Kind::Text | Kind::OptText => "TEXT",
                Kind::Bytes | Kind::OptBytes => "BLOB",
            };
            assert_eq!(declared, expected, "{}: column {}", statement.name(), column.name());
            typed += 1;
        }
    }
    println!("{} statements, {typed} typed columns", names.len());
    assert!(typed > 100);
}

#[tokio::test]
async fn a_statement_outside_the_registry_is_refused() {
    static STRAY: Stmt = Stmt::new("STRAY", "SELECT name FROM setting", &[], &[Kind::Text]);
    let fixture = Fixture::new();
    let db = fixture.open().unwrap();
    let refused = db.read(|tx| tx.query(&STRAY, &[])).await;
    assert!(matches!(refused, Err(DbError::Unregistered { statement: "STRAY" })));
}

#[tokio::test]
async fn jobs_share_a_commit_and_are_answered_after_it() {
    let fixture = Fixture::new();
    let db = fixture.open().unwrap();
    let (begin, first) = Gate::new();
    let (reached, at_last) = channel();
    let (finish, last) = Gate::new();
    let reached = Mutex::new(reached);

    let one = tokio::spawn({
        let db = db.clone();
        async move {
            db.write(move |tx| {
                first.pass();
                put(tx, "one")
            })
            .await
        }
    });
    // The writer is busy with the first job, so the second joins its transaction.
    let two = tokio::spawn({
        let db = db.clone();
        async move {
            db.write(move |tx| {
                reached.lock().unwrap().send(()).unwrap();
                last.pass();
                put(tx, "two")
            })
            .await
        }
    });
    // Both jobs are in the queue when the first begins.
    tokio::task::yield_now().await;
    begin.send(()).unwrap();
    tokio::task::spawn_blocking(move || at_last.recv().unwrap()).await.unwrap();
    let shared = names(&db).await;
    let answered = one.is_finished();
    finish.send(()).unwrap();
    one.await.unwrap().unwrap();
    two.await.unwrap().unwrap();
    assert_eq!(names(&db).await, ["one", "two"]);
    assert!(!answered && shared.is_empty(), "answered {answered}, visible {shared:?}");
}

#[tokio::test]
async fn a_panicking_or_failing_job_is_rolled_back_alone() {
    let fixture = Fixture::new();
    let db = fixture.open().unwrap();
    let (begin, first) = Gate::new();
    let gated = db.write(move |tx| {
        first.pass();
        put(tx, "before")
    });
    let panicking = db.write(|tx| {
        put(tx, "panicked")?;
        assert!(names_in(tx) == 0, "on purpose");
        Ok::<(), DbError>(())
    });
    let failing = db.write(|tx| {
        put(tx, "failed")?;
        Err::<(), _>(DbError::Busy)
    });
    let after = db.write(|tx| put(tx, "after"));
    begin.send(()).unwrap();
    let (gated, panicking, failing, after) = tokio::join!(gated, panicking, failing, after);
    gated.unwrap();
    assert!(matches!(panicking, Err(DbError::Panicked)));
    assert!(matches!(failing, Err(DbError::Busy)));
    after.unwrap();
    assert_eq!(names(&db).await, ["after", "before"]);
}

fn names_in(tx: &mut dyn Tx) -> usize {
    setting::list(tx).unwrap().len()
}

#[tokio::test]
async fn a_reader_cannot_write_and_survives_a_panic() {
    let fixture = Fixture::new();
    let db =
        Db::open(&fixture.path(), &DbOptions { readers: 1, ..DbOptions::default() }, Timestamp::default());
    let db = db.unwrap();
    assert!(matches!(db.read(|tx| put(tx, "x")).await, Err(DbError::Engine { .. })));
    let panicked = db.read(|_| -> Result<(), DbError> { panic!("on purpose") }).await;
    assert!(matches!(panicked, Err(DbError::Panicked)));
    assert!(names(&db).await.is_empty());
}

#[tokio::test]
async fn a_duplicate_is_told_apart_from_a_failure() {
    let fixture = Fixture::new();
    let db = fixture.open().unwrap();
    let facts = crate::SiteFacts {
        code: "RG1".parse().unwrap(),
        name: String::new(),
        hierarchy: proto::id::Guid::nil(),
        created_at: Timestamp::default(),
    };
    let insert = move |tx: &mut dyn Tx| site::insert(tx, &facts);
    db.write(insert.clone()).await.unwrap();
    assert!(matches!(db.write(insert).await, Err(DbError::Constraint { statement: "INSERT_SITE", .. })));
}

#[tokio::test]
async fn one_process_owns_the_file_and_nobody_else_may_read_it() {
    let fixture = Fixture::new();
    let db = fixture.open().unwrap();
    db.write(|tx| put(tx, "x")).await.unwrap();
    assert!(matches!(fixture.open(), Err(DbError::InUse { .. })));
    for entry in std::fs::read_dir(fixture.dir.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", entry.path().display());
    }
    let clone = db.clone();
    db.close().await;
    assert!(matches!(clone.read(setting::list).await, Err(DbError::Closed)));
    drop(clone);
    assert_eq!(names(&fixture.open().unwrap()).await, ["x"]);
}

#[tokio::test]
async fn a_changed_migration_and_a_newer_schema_are_refused() {
    let fixture = Fixture::new();
    fixture.open().unwrap().close().await;
    let edit = |sql: &str| Connection::open(fixture.path()).unwrap().execute_batch(sql).unwrap();

    edit("INSERT INTO schema_migration VALUES (99, 'future', x'00', 0)");
    assert!(matches!(fixture.open(), Err(DbError::NewerSchema { found: 99, .. })));
    edit("DELETE FROM schema_migration WHERE version = 99");
    fixture.open().unwrap().close().await;
    edit("UPDATE schema_migration SET sha256 = x'00' WHERE version = 2");
    assert!(matches!(fixture.open(), Err(DbError::ChangedMigration { version: 2, .. })));
}
