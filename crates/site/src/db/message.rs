//! Message ids that were taken.

use proto::id::{ClientId, Guid};
use proto::time::Timestamp;

use super::{DbError, Tx, stmt};

stmt! {
    TAKE_MESSAGE (Bytes, Bytes, Int) -> () =
        "INSERT INTO message_taken (client_id, message_id, taken_at) VALUES ($1, $2, $3)
         ON CONFLICT (client_id, message_id) DO NOTHING";
    FIND_OLD_MESSAGE (Int) -> (Bytes) = "SELECT message_id FROM message_taken WHERE taken_at < $1 LIMIT 1";
    FORGET_MESSAGES (Int) -> () = "DELETE FROM message_taken WHERE taken_at < $1";
}

/// Whether the id was free; it is taken from now on.
pub(crate) fn take(
    tx: &mut dyn Tx,
    device: ClientId,
    message: Guid,
    now: Timestamp,
) -> Result<bool, DbError> {
    Ok(tx.exec(&TAKE_MESSAGE, &[device.into(), message.into(), now.into()])? > 0)
}

pub(crate) fn has_before(tx: &mut dyn Tx, moment: Timestamp) -> Result<bool, DbError> {
    Ok(tx.query_opt(&FIND_OLD_MESSAGE, &[moment.into()])?.is_some())
}

pub(crate) fn forget_before(tx: &mut dyn Tx, moment: Timestamp) -> Result<(), DbError> {
    tx.exec(&FORGET_MESSAGES, &[moment.into()]).map(drop)
}
