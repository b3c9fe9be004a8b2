//! Failures of the site, as a caller is told.

use proto::reason::Reason;
use site::db::DbError;

use crate::answer::Refusal;

/// The database did not do it: too much to do, or broken. Nothing was changed.
pub(crate) fn database(error: &DbError) -> Refusal {
    let reason = if error.is_passing() { Reason::Busy } else { Reason::InternalError };
    Refusal::caused(reason, error)
}
