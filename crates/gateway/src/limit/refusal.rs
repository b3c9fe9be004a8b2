//! What somebody over a limit is told.

use std::time::Duration;

use http::HeaderMap;
use http::header::RETRY_AFTER;
use proto::reason::Reason;

use super::Over;
use super::bucket::Wait;
use crate::admit::Refused;

/// When to come back after having held too much at once: a request takes a second at most, usually.
const AT_ONCE_WAIT: Duration = Duration::from_secs(1);

pub(super) fn too_many(limit: Over, wait: Wait) -> Refused {
    let wait = wait.duration();
    refused(limit, wait, format!("over {}, room for one in {wait:?}", limit.name()))
}

pub(super) fn too_many_at_once(limit: Over, most: u32) -> Refused {
    refused(limit, AT_ONCE_WAIT, format!("over {}, {most} are under way", limit.name()))
}

fn refused(limit: Over, wait: Duration, detail: String) -> Refused {
    let reason = match limit {
        Over::DeviceRequests | Over::DeviceTokens | Over::DeviceRegistration | Over::DeviceAtOnce => {
            Reason::DeviceTooFast
        }
        Over::AllHandshakes | Over::AllTokens => Reason::Overloaded,
        _ => Reason::SourceTooFast,
    };
    Refused { wait: Some(wait), ..Refused::new(reason, detail) }
}

/// Writes into a refusal by a limit when there will be room: the time that the bucket needs, and up to half
/// as much again and four seconds on top by `random`, so that those refused together do not return together.
pub(crate) fn say_when(refused: &Refused, random: u64, headers: &mut HeaderMap) {
    if let Some(wait) = refused.wait {
        headers.insert(RETRY_AFTER, retry_after(wait, random).into());
    }
}

pub(super) fn retry_after(wait: Duration, random: u64) -> u64 {
    let least = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let spread = least / 2 + 4;
    least.max(1) + random % (spread + 1)
}
