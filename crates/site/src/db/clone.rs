//! What was observed of keys and hardware that may be used twice.

use proto::time::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{DbError, Tx, stmt};

stmt! {
    FIND_CLONE_TRACE (Text) -> (Text) = "SELECT trace FROM clone_trace WHERE subject = $1";
    PUT_CLONE_TRACE (Text, Text, Int) -> () =
        "INSERT INTO clone_trace (subject, trace, changed_at) VALUES ($1, $2, $3)
         ON CONFLICT (subject) DO UPDATE SET trace = excluded.trace, changed_at = excluded.changed_at";
    FORGET_CLONE_TRACE (Text) -> () = "DELETE FROM clone_trace WHERE subject = $1";
    FORGET_OLD_CLONE_TRACES (Int) -> () =
        "DELETE FROM clone_trace WHERE subject IN (
            SELECT subject FROM clone_trace WHERE changed_at < $1 ORDER BY changed_at LIMIT 100)";
}

/// A trace that cannot be read counts as none: it is evidence, not state.
pub(crate) fn find<T: DeserializeOwned>(tx: &mut dyn Tx, subject: &str) -> Result<Option<T>, DbError> {
    let Some(row) = tx.query_opt(&FIND_CLONE_TRACE, &[subject.into()])? else { return Ok(None) };
    Ok(serde_json::from_str(&row.get::<String>(0)?).ok())
}

/// Keeps a trace; some of those that nobody added to for a day go.
pub(crate) fn put<T: Serialize>(
    tx: &mut dyn Tx,
    subject: &str,
    trace: &T,
    now: Timestamp,
) -> Result<(), DbError> {
    // Texts and moments always have a JSON form.
    let text = serde_json::to_string(trace).expect("plain data has a JSON form");
    tx.exec(&PUT_CLONE_TRACE, &[subject.into(), text.into(), now.into()])?;
    let old = now.minus(std::time::Duration::from_hours(24));
    tx.exec(&FORGET_OLD_CLONE_TRACES, &[old.into()]).map(drop)
}

pub(crate) fn forget(tx: &mut dyn Tx, subject: &str) -> Result<(), DbError> {
    tx.exec(&FORGET_CLONE_TRACE, &[subject.into()]).map(drop)
}
