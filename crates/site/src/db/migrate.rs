//! Steps of the schema: one file each for all engines, with the types written as words.

use aws_lc_rs::digest::{SHA256, digest};
use proto::time::Timestamp;

use super::{DbError, stmt};

/// One step. Never edited after a release: a new step is a new file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Migration {
    pub(super) version: i64,
    pub(super) name: &'static str,
    /// The shared text; `{bytes}` and `{int}` stand for types, `{strict}` for the table option.
    pub(super) text: &'static str,
}

/// All steps in order, numbered from 1 without gaps.
pub(super) const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "site", text: include_str!("migrations/0001_site.sql") },
    Migration { version: 2, name: "device", text: include_str!("migrations/0002_device.sql") },
    Migration { version: 3, name: "policy", text: include_str!("migrations/0003_policy.sql") },
    Migration { version: 4, name: "trust", text: include_str!("migrations/0004_trust.sql") },
    Migration { version: 5, name: "credential", text: include_str!("migrations/0005_credential.sql") },
    Migration { version: 6, name: "claim", text: include_str!("migrations/0006_claim.sql") },
];

/// The words of SQLite. Integers are 64 bits wide there whatever they are called, and `STRICT`
/// makes it keep the declared kinds.
pub(super) const SQLITE_WORDS: &[(&str, &str)] =
    &[("{bytes}", "BLOB"), ("{int}", "INTEGER"), ("{strict}", "STRICT")];

/// Made before the first step, outside the steps: it is where they are noted.
pub(super) const MIGRATION_TABLE: &str = "CREATE TABLE IF NOT EXISTS schema_migration (
    version {int} PRIMARY KEY,
    name TEXT NOT NULL,
    sha256 {bytes} NOT NULL,
    applied_at {int} NOT NULL
) {strict};";

stmt! {
    LIST_APPLIED () -> (Int, Bytes) = "SELECT version, sha256 FROM schema_migration ORDER BY version";
    INSERT_APPLIED (Int, Text, Bytes, Int) -> () =
        "INSERT INTO schema_migration (version, name, sha256, applied_at) VALUES ($1, $2, $3, $4)";
}

impl Migration {
    /// SHA-256 of the shared text, so that it is the same for every engine.
    fn checksum(&self) -> Vec<u8> {
        digest(&SHA256, self.text.as_bytes()).as_ref().to_vec()
    }

    /// The text for one engine.
    pub(super) fn text_for(&self, words: &[(&str, &str)]) -> String {
        substitute(self.text, words)
    }
}

/// Puts an engine's words in place of ours.
pub(super) fn substitute(text: &str, words: &[(&str, &str)]) -> String {
    words.iter().fold(text.to_owned(), |text, (ours, theirs)| text.replace(ours, theirs))
}

/// Compares what was applied with what this program has; answers the steps still to do.
pub(super) fn plan<'a>(
    applied: &[(i64, Vec<u8>)],
    known: &'a [Migration],
) -> Result<&'a [Migration], DbError> {
    let newest = known.last().map_or(0, |migration| migration.version);
    for (version, checksum) in applied {
        let Some(migration) = known.iter().find(|migration| migration.version == *version) else {
            return Err(DbError::NewerSchema { found: *version, known: newest });
        };
        if migration.checksum() != *checksum {
            return Err(DbError::ChangedMigration { version: *version, name: migration.name });
        }
    }
    Ok(known.get(applied.len()..).unwrap_or_default())
}

/// Notes a step that was just applied.
pub(super) fn note_applied(tx: &mut dyn super::Tx, step: &Migration, now: Timestamp) -> Result<(), DbError> {
    let values = [step.version.into(), step.name.into(), (&step.checksum()).into(), now.into()];
    tx.exec(&INSERT_APPLIED, &values).map(drop)
}

/// The steps noted in the database.
pub(super) fn list_applied(tx: &mut dyn super::Tx) -> Result<Vec<(i64, Vec<u8>)>, DbError> {
    tx.query(&LIST_APPLIED, &[])?.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Migration = Migration { version: 1, name: "one", text: "CREATE TABLE a (x {int}) {strict};" };
    const TWO: Migration =
        Migration { version: 2, name: "two", text: "CREATE TABLE b (x {bytes}) {strict};" };

    #[test]
    fn only_what_is_missing_is_planned() {
        let applied = [(1, ONE.checksum())];
        let todo: Vec<_> = plan(&applied, &[ONE, TWO]).unwrap().iter().map(|step| step.version).collect();
        assert_eq!(todo, [2]);
        assert!(plan(&[(1, ONE.checksum()), (2, TWO.checksum())], &[ONE, TWO]).unwrap().is_empty());
    }

    #[test]
    fn a_changed_text_and_a_newer_schema_are_refused() {
        let edited = Migration { text: "CREATE TABLE a (x {int}, y {int}) {strict};", ..ONE };
        let known = [edited, TWO];
        let changed = plan(&[(1, ONE.checksum())], &known);
        assert!(matches!(changed, Err(DbError::ChangedMigration { version: 1, .. })));
        let newer = plan(&[(1, ONE.checksum()), (2, TWO.checksum())], &[ONE]);
        assert!(matches!(newer, Err(DbError::NewerSchema { found: 2, known: 1 })));
    }

    #[test]
    fn no_word_is_left_for_the_engine_and_the_numbers_have_no_gap() {
        for (index, migration) in MIGRATIONS.iter().enumerate() {
            assert_eq!(usize::try_from(migration.version).unwrap(), index + 1);
            let text = migration.text_for(SQLITE_WORDS);
            assert!(!text.contains(['{', '}']), "{}", migration.name);
            assert_eq!(
                text.matches("CREATE TABLE").count(),
                text.matches("STRICT").count(),
                "{}",
                migration.name
            );
        }
    }
}
