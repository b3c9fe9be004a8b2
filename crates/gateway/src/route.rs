//! The way of an admitted request: a tunnel, a stream in it, and once more if the tunnel breaks.

mod answer;
mod ticket;
mod upload;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use proto::link::{AnswerHead, RequestHead, reset};
use proto::reason::Reason;
use runtime::http::{BodyError, read_body};
use runtime::telemetry::Chain;
use tokio::time::{Instant, sleep};
use tracing::debug;
use tunnel::OpenError;

use crate::admit::{BodyLength, Refused};
use crate::log::COMPONENT;
use crate::tunnel::{Broken, Pick, Stream, Tunnel, Tunnels};
use upload::UploadError;

pub(crate) use answer::AnswerBody;
pub(crate) use ticket::{About, InFlight, Ledger, Ticket, name_of};

/// Largest body that is held whole. Such a request can move to another tunnel; a larger one would cost the
/// gateway more memory than a repetition by the device costs anybody (settled point 14).
pub(crate) const HELD_BYTES: u64 = 64 * 1024;

/// Tunnels that one request may try.
const ATTEMPTS: usize = 2;

/// A body that is passed on as it comes.
pub(crate) type Upload = upload::Upload<Incoming>;

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) answer: Duration,
    pub(crate) body: Duration,
}

/// A request's body as routing sees it.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Held(Bytes),
    Streamed(Option<Box<Upload>>),
}

/// An answer that has begun.
#[derive(Debug)]
pub(crate) struct Answer {
    /// For [`read_head`].
    pub(crate) head: Bytes,
    pub(crate) stream: Stream,
    /// What is left of the request: some roles answer before they have read all.
    pub(crate) upload: Option<Box<Upload>>,
}

/// An admitted request on its way.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) head: RequestHead<'a>,
    pub(crate) body: Outgoing,
}

/// Sends an admitted request through a tunnel and waits for the head of its answer.
pub(crate) async fn relay(
    tunnels: &Tunnels,
    shard: u16,
    request: Request<'_>,
    patience: Patience,
    ticket: &mut Ticket,
) -> Result<Answer, Refused> {
    let Request { head, mut body } = request;
    let bytes = head.to_bytes().map_err(|error| Refused::new(Reason::MalformedRequest, error.to_string()))?;
    let bytes = Bytes::from(bytes);
    let mut tried: Option<Arc<Tunnel>> = None;
    for attempt in 1..=ATTEMPTS {
        let stream = match open(tunnels, shard, tried.as_ref(), &bytes, &body) {
            Ok(stream) => stream,
            // There was one, and it broke: to the device that is what happened.
            Err(refused) if tried.is_some() && refused.reason == Reason::NoTunnel => break,
            Err(refused) => return Err(refused),
        };
        if let Outgoing::Held(bytes) = &body {
            ticket.sent(bytes.len() as u64);
        }
        match wait_for_head(&stream, &mut body, patience.answer).await {
            Ok(head) => {
                let upload = match body {
                    Outgoing::Held(_) => None,
                    Outgoing::Streamed(upload) => upload,
                };
                if let Some(upload) = &upload {
                    ticket.sent(upload.received());
                }
                return Ok(Answer { head, stream, upload });
            }
            Err(Failure::Answer(Broken::Lost)) if matches!(body, Outgoing::Held(_)) && attempt < ATTEMPTS => {
                debug!(
                    component = COMPONENT,
                    request_id = %head.request,
                    "tunnel lost, request moves to another"
                );
                tried = Some(Arc::clone(stream.tunnel()));
            }
            Err(failure) => return Err(failure.refused(stream)),
        }
    }
    Err(Refused::new(Reason::TunnelLost, "the tunnel broke, and no other could take the request"))
}

/// Takes a body whole if it is small and its length is known. `max_body`: most bytes that its endpoint takes.
pub(crate) async fn hold(
    tunnels: &Tunnels,
    shard: u16,
    body: Incoming,
    length: BodyLength,
    max_body: u64,
    patience: Duration,
) -> Result<Outgoing, Refused> {
    // First: without a tunnel there is nobody to read it for.
    if let Some(refused) = refuse(&tunnels.pick(shard, None)) {
        return Err(refused);
    }
    match length {
        BodyLength::Known(length) if length <= HELD_BYTES => {
            let limit = usize::try_from(length).unwrap_or(usize::MAX);
            match read_body(body, limit, patience + upload::time_for(length)).await {
                Ok(bytes) => Ok(Outgoing::Held(bytes)),
                Err(BodyError::TooLarge { .. }) => Err(body_refused(&UploadError::TooLarge(length))),
                Err(BodyError::TooSlow) => Err(body_refused(&UploadError::TooSlow)),
                Err(BodyError::Broken(error)) => Err(body_refused(&UploadError::Device(error))),
            }
        }
        BodyLength::Known(_) | BodyLength::Chunked => {
            Ok(Outgoing::Streamed(Some(Box::new(Upload::new(body, max_body, patience)))))
        }
    }
}

fn open(
    tunnels: &Tunnels,
    shard: u16,
    except: Option<&Arc<Tunnel>>,
    head: &Bytes,
    body: &Outgoing,
) -> Result<Stream, Refused> {
    let pick = tunnels.pick(shard, except);
    if let Some(refused) = refuse(&pick) {
        return Err(refused);
    }
    let Pick::Tunnel(tunnel) = pick else { return Err(no_tunnel()) };
    let held = match body {
        Outgoing::Held(bytes) => Some(bytes.clone()),
        Outgoing::Streamed(_) => None,
    };
    tunnel.open(head.clone(), held).map_err(|error| match error {
        OpenError::TooManyStreams => overloaded(),
        OpenError::HeadTooLarge => Refused::new(Reason::MalformedRequest, error.to_string()),
        // It ended between the choice and this call.
        OpenError::Draining | OpenError::NotReady | OpenError::Closed => no_tunnel(),
    })
}

/// Why no answer's head came.
#[derive(Debug)]
enum Failure {
    Answer(Broken),
    Body(UploadError),
    Timeout,
}

/// Moves the body and waits for the head. The time for the answer runs while the other side has the turn:
/// a slow device is bounded by the upload itself.
async fn wait_for_head(stream: &Stream, body: &mut Outgoing, patience: Duration) -> Result<Bytes, Failure> {
    let mut timer = pin!(sleep(patience));
    let mut received = 0;
    poll_fn(|cx| {
        let mut is_ours_to_wait = true;
        if let Outgoing::Streamed(upload) = body
            && let Some(moving) = upload
        {
            let moved = moving.poll(cx, stream);
            if moving.received() != received || moving.waits_for_device() {
                received = moving.received();
                timer.as_mut().reset(Instant::now() + patience);
            }
            is_ours_to_wait = !moving.waits_for_device();
            match moved {
                Poll::Pending => {}
                // The answer, or the news that the stream is broken, is read below.
                Poll::Ready(Ok(()) | Err(UploadError::Tunnel(_))) => {
                    is_ours_to_wait = true;
                    *upload = None;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Failure::Body(error))),
            }
        }
        match stream.poll_head(cx) {
            Poll::Ready(head) => Poll::Ready(head.map_err(Failure::Answer)),
            Poll::Pending if is_ours_to_wait => timer.as_mut().poll(cx).map(|()| Err(Failure::Timeout)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Reads the head of an answer.
pub(crate) fn read_head(bytes: &[u8]) -> Result<AnswerHead<'_>, Refused> {
    let malformed = |detail: String| Refused::new(Reason::RoleAnswerMalformed, detail);
    let head = AnswerHead::from_bytes(bytes)
        .map_err(|error| malformed(format!("the answer's head cannot be read: {error}")))?;
    if !(200..=599).contains(&head.status) {
        return Err(malformed(format!("the answer's status is {}", head.status)));
    }
    Ok(head)
}

impl Failure {
    fn refused(self, stream: Stream) -> Refused {
        match self {
            Self::Answer(Broken::Lost) => {
                Refused::new(Reason::TunnelLost, "the tunnel broke before an answer came")
            }
            Self::Answer(broken @ Broken::Reset(code)) => Refused::new(reason_of(code), broken.to_string()),
            Self::Body(error) => {
                stream.abandon(reset::REQUEST_CUT);
                body_refused(&error)
            }
            Self::Timeout => {
                stream.abandon(reset::TIMEOUT);
                Refused::new(Reason::TunnelTimeout, "no answer in time")
            }
        }
    }
}

/// What a stream that was given up means to the device.
fn reason_of(code: u32) -> Reason {
    match code {
        reset::ROLE_UNREACHABLE => Reason::RoleUnreachable,
        reset::ANSWER_CUT => Reason::RoleAnswerMalformed,
        reset::TIMEOUT => Reason::RoleTimeout,
        _ => Reason::TunnelLost,
    }
}

fn body_refused(error: &UploadError) -> Refused {
    let detail = Chain(error).to_string();
    match error {
        UploadError::TooLarge(_) => Refused::closing(Reason::BodyTooLarge, detail),
        UploadError::TooSlow => Refused::closing(Reason::RequestTooSlow, detail),
        UploadError::Device(_) => Refused::closing(Reason::MalformedRequest, detail),
        UploadError::Tunnel(_) => Refused::closing(Reason::TunnelLost, detail),
    }
}

fn refuse(pick: &Pick) -> Option<Refused> {
    match pick {
        Pick::Tunnel(_) => None,
        Pick::Full => Some(overloaded()),
        Pick::None => Some(no_tunnel()),
    }
}

fn no_tunnel() -> Refused {
    Refused::new(Reason::NoTunnel, "no connection point is connected")
}

fn overloaded() -> Refused {
    Refused::new(Reason::Overloaded, "all tunnels are full")
}
