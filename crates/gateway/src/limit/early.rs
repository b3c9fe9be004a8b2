//! Refusals of what never became a request: the same codes and headers as on every other one.

use std::sync::Arc;
use std::time::Instant;

use http::StatusCode;
use hyper::body::Bytes;
use proto::id::RequestId;
use proto::reason::Reason;
use runtime::Clock;
use runtime::http::Early;
use tracing::info;

use super::Limits;
use crate::admit::Refused;
use crate::log::COMPONENT;
use crate::reply::{self, Reply};
use crate::route::Ledger;

/// Makes the gateway's answers to heads that cannot be read.
pub(crate) fn answers(clock: Clock, ledger: Arc<Ledger>, limits: Arc<Limits>) -> Early {
    Early::new(move |status| {
        let id = RequestId::new(runtime::id::request_id(&clock).into());
        let refused = refusal(status);
        ledger.counters.total().refused();
        if limits.count_unreadable(Instant::now()) {
            info!(
                component = COMPONENT, request_id = %id,
                reason = %refused.reason,
                status = status.as_u16(),
                detail = %refused.detail,
                "request refused"
            );
        }
        reply::refused(&refused, id, runtime::id::random()).map(|body| match body {
            Reply::Text(text) => text,
            // A refusal of ours has a text.
            Reply::Relayed(_) => Bytes::new(),
        })
    })
}

fn refusal(status: StatusCode) -> Refused {
    let (reason, detail) = match status {
        StatusCode::URI_TOO_LONG => (Reason::TargetTooLong, "the target is far too long"),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            (Reason::HeadTooLarge, "the head has too many bytes or lines")
        }
        StatusCode::REQUEST_TIMEOUT => (Reason::RequestTooSlow, "the head did not end in time"),
        _ => (Reason::MalformedRequest, "the head cannot be read"),
    };
    Refused::closing(reason, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_keeps_its_meaning() {
        for (status, reason) in [
            (StatusCode::BAD_REQUEST, Reason::MalformedRequest),
            (StatusCode::URI_TOO_LONG, Reason::TargetTooLong),
            (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, Reason::HeadTooLarge),
            (StatusCode::REQUEST_TIMEOUT, Reason::RequestTooSlow),
        ] {
            let refused = refusal(status);
            assert_eq!((refused.reason, refused.status(), refused.close), (reason, status, true));
        }
    }
}
