//! The mix of requests: nine of ten good ones, one of ten refused, each kind in turn.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST};
use http_body_util::Full;

use super::Work;
use crate::crowd::connection::{Failure, Gateway, Holder, Open, TARGET};

/// Bytes of a body that is too large for every endpoint, as its length says; none of them is sent.
const TOO_LARGE: usize = 64 * 1024 * 1024;

/// How a piece of work ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Answered well.
    Good(Duration),
    /// Refused as it should be.
    Refused(&'static str),
    /// Torn on purpose.
    Torn(&'static str),
    /// Anything else.
    Unexpected(String),
}

/// What one request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// With a token, as third-party clients ask.
    Plain,
    /// With a token and the device's signature, as our client does.
    Signed,
    /// With a token that nobody signed.
    BadToken,
    /// For something that no gateway publishes.
    UnknownPath,
    /// With a body that is too large, by its length.
    TooLarge,
}

impl Shape {
    /// The shape of request number `number`: of ten one is signed and one refused.
    fn of(number: u64) -> Self {
        match (number % 10, number / 10 % 3) {
            (9, 0) => Self::BadToken,
            (9, 1) => Self::UnknownPath,
            (9, _) => Self::TooLarge,
            (4, _) => Self::Signed,
            _ => Self::Plain,
        }
    }

    /// The refusal that is its right answer: status, and how it is counted.
    fn refusal(self) -> Option<(u16, &'static str)> {
        match self {
            Self::Plain | Self::Signed => None,
            Self::BadToken => Some((401, "bad token")),
            Self::UnknownPath => Some((404, "unknown path")),
            Self::TooLarge => Some((413, "body too large")),
        }
    }

    fn request(self, gateway: &Gateway, holder: &Holder) -> Request<Full<Bytes>> {
        let get = |path: String| Request::get(path).header(HOST, gateway.authority());
        let refused = match self {
            Self::Plain => return holder.plain(gateway),
            Self::Signed => return holder.signed(gateway),
            Self::BadToken => get(gateway.path(TARGET)).header(AUTHORIZATION, forged(holder)),
            Self::UnknownPath => {
                get(gateway.path("/nothing/here")).header(AUTHORIZATION, holder.bearer().clone())
            }
            Self::TooLarge => Request::builder()
                .method("CCM_POST")
                .uri(gateway.path("/ccm_system_tokenauth/request"))
                .header(HOST, gateway.authority())
                .header(AUTHORIZATION, holder.bearer().clone())
                .header(CONTENT_LENGTH, TOO_LARGE),
        };
        refused.body(Full::default()).expect("its parts are constants or were checked before")
    }
}

/// The device's token with another signature.
fn forged(holder: &Holder) -> String {
    let bearer = holder.bearer().to_str().unwrap_or_default();
    let (signed, _) = bearer.rsplit_once('.').unwrap_or((bearer, ""));
    format!("{signed}.{}", "A".repeat(342))
}

/// The connection of one worker, and whose it is.
#[derive(Default)]
pub(super) struct Slot {
    open: Option<(Open, u64)>,
    requests: u32,
}

/// Sends request number `number` on the worker's connection, or on a fresh one when that has done its part.
pub(super) async fn request(work: &Work, slot: &mut Slot, number: u64) -> Outcome {
    let shape = Shape::of(number);
    let is_used_up = slot.requests >= work.per_connection;
    let (mut open, device) = match slot.open.take() {
        Some((open, device)) if !is_used_up && !open.is_closed() => (open, device),
        _ => {
            slot.requests = 0;
            let Some(holder) = work.holder(number) else { return nobody() };
            match work.gateway.open(holder, work.source()).await {
                Ok(open) => (open, number),
                Err(failure) => return Outcome::Unexpected(failure.label()),
            }
        }
    };
    slot.requests += 1;
    let Some(holder) = work.holder(device) else { return nobody() };
    let answer = open.ask(shape.request(&work.gateway, holder)).await;
    // A request whose body is not taken ends its connection, whoever says so first.
    if shape != Shape::TooLarge && matches!(answer, Ok(_) | Err(Failure::Refused { .. })) {
        slot.open = Some((open, device));
    }
    judge(shape, answer)
}

fn nobody() -> Outcome {
    Outcome::Unexpected("no device".to_owned())
}

fn judge(shape: Shape, answer: Result<Duration, Failure>) -> Outcome {
    match (shape.refusal(), answer) {
        (None, Ok(latency)) => Outcome::Good(latency),
        (Some((status, name)), Err(Failure::Refused { status: got, .. })) if got == status => {
            Outcome::Refused(name)
        }
        (Some((_, name)), Ok(_)) => Outcome::Unexpected(format!("{name}: let through")),
        (Some((_, name)), Err(failure)) => Outcome::Unexpected(format!("{name}: {}", failure.label())),
        (None, Err(failure)) => Outcome::Unexpected(failure.label()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nine_of_ten_are_good_and_the_others_come_in_turn() {
        let shapes: Vec<_> = (0..3000).map(Shape::of).collect();
        let count = |shape| shapes.iter().filter(|one| **one == shape).count();
        assert_eq!((count(Shape::Plain), count(Shape::Signed)), (2400, 300));
        for shape in [Shape::BadToken, Shape::UnknownPath, Shape::TooLarge] {
            assert_eq!(count(shape), 100);
        }
    }

    #[test]
    fn only_the_right_refusal_counts_as_one() {
        let refused =
            |status| Err(Failure::Refused { status, reason: "RG-1202".to_owned(), retry_after: None });
        assert!(matches!(judge(Shape::BadToken, refused(401)), Outcome::Refused("bad token")));
        for (shape, answer) in [
            (Shape::BadToken, refused(503)),
            (Shape::UnknownPath, Ok(Duration::ZERO)),
            (Shape::Plain, refused(401)),
            (Shape::TooLarge, Err(Failure::Broken)),
        ] {
            assert!(matches!(judge(shape, answer), Outcome::Unexpected(_)), "{shape:?}");
        }
        assert!(matches!(judge(Shape::Signed, Ok(Duration::ZERO)), Outcome::Good(_)));
    }
}
