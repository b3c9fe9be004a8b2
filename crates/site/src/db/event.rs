//! Refused and slow requests, the oldest out first.

use proto::id::{Guid, RequestId};
use proto::link::Event;

use super::{DbError, Row, Tx, stmt};
use crate::event::StoredEvent;

stmt! {
    INSERT_EVENT (Int, Bytes, Bytes, Text) -> () =
        "INSERT INTO link_event (event_id, at, party_id, request_id, event)
         VALUES ((SELECT coalesce(max(event_id), 0) + 1 FROM link_event), $1, $2, $3, $4)";
    FORGET_EVENTS (Int) -> () =
        "DELETE FROM link_event WHERE event_id <= (SELECT coalesce(max(event_id), 0) FROM link_event) - $1";
    LIST_EVENTS_OF (Bytes) -> (Bytes, Text) =
        "SELECT party_id, event FROM link_event WHERE request_id = $1 ORDER BY event_id LIMIT 1000";
    LIST_NEWEST_EVENTS (Int) -> (Bytes, Text) =
        "SELECT party_id, event FROM link_event ORDER BY event_id DESC LIMIT $1";
}

pub(crate) fn insert(tx: &mut dyn Tx, party: Guid, event: &Event) -> Result<(), DbError> {
    // Ids, numbers and texts always have a JSON form.
    let text = serde_json::to_string(event).expect("an event has a JSON form");
    tx.exec(&INSERT_EVENT, &[event.at.into(), party.into(), event.request.guid().into(), text.into()])
        .map(drop)
}

pub(crate) fn forget_oldest(tx: &mut dyn Tx, kept: i64) -> Result<(), DbError> {
    tx.exec(&FORGET_EVENTS, &[kept.into()]).map(drop)
}

pub(crate) fn list_of(tx: &mut dyn Tx, request: RequestId) -> Result<Vec<StoredEvent>, DbError> {
    tx.query(&LIST_EVENTS_OF, &[request.guid().into()])?.iter().map(read).collect()
}

pub(crate) fn list_newest(tx: &mut dyn Tx, limit: u32) -> Result<Vec<StoredEvent>, DbError> {
    tx.query(&LIST_NEWEST_EVENTS, &[limit.into()])?.iter().map(read).collect()
}

fn read(row: &Row) -> Result<StoredEvent, DbError> {
    let text: String = row.get(1)?;
    let event = serde_json::from_str(&text);
    let event = event.map_err(|_| DbError::Column { statement: "LIST_NEWEST_EVENTS", column: 1 })?;
    Ok(StoredEvent { reported_by: row.get(0)?, event })
}
