//! Message ids of devices that sign: each is taken once, also across restarts (R41).

use std::time::Duration;

use proto::id::{ClientId, Guid};

use crate::Site;
use crate::db::{self, DbError};

/// Ids are kept for this long at least: twice the five minutes in which a message counts that a
/// right clock has signed.
const KEPT_LEAST: Duration = Duration::from_mins(10);

impl Site {
    /// Takes a message id. `false`: it was taken before, so the message must change nothing. The
    /// answer comes when the id is on disk. For messages whose effect is a write, the operation
    /// takes the id itself, in the same transaction.
    pub async fn take_message(&self, device: ClientId, message: Guid) -> Result<bool, DbError> {
        let now = self.now();
        self.db().write(move |tx| db::message::take(tx, device, message, now)).await
    }

    /// Forgets ids whose messages are too old to be accepted anyway.
    pub(crate) async fn forget_messages(&self) -> Result<(), DbError> {
        // A clock may be off by the limit to either side: a message of a fast one counts longest.
        let kept = (self.settings().clock_skew_limit * 2).max(KEPT_LEAST);
        let before = self.now().minus(kept);
        if !self.db().read(move |tx| db::message::has_before(tx, before)).await? {
            return Ok(());
        }
        self.db().write(move |tx| db::message::forget_before(tx, before)).await
    }
}
