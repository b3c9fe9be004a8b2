//! HTTP/1.1 on a connection that was accepted, with every wait and size bounded.

mod body;
mod early;
mod linger;
mod pace;
mod paced;
mod patience;
mod wait;

use std::error::Error;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::ext::ReasonPhrase;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::drain::Drain;
use pace::{Pace, Rest, Told};
use paced::Paced;

pub use body::{BodyError, read_body};
pub use early::Early;

/// What one connection may take.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// Time from the first byte of a request to the end of its head; for the first request on a connection
    /// from its start.
    pub head_timeout: Duration,
    /// Time a kept connection may wait for its next request.
    pub idle_timeout: Duration,
    /// Time after which a kept connection that waits for its next request gives back what it needs only for
    /// requests, some 20 KiB; to take it again costs a few microseconds.
    pub rest_after: Duration,
    /// Time the peer may leave us without taking any of an answer: what it has in hand, and at most. Each 4 KiB that it
    /// takes give it a second back.
    pub write_timeout: Duration,
    /// Bytes of request line and headers; above it 431. Tokens have up to 16 KiB, so less than that with some
    /// room would refuse good ones.
    pub head_size: usize,
    /// Header lines; above it 431. `None` is hyper's own bound, 100, which costs no allocation.
    pub headers: Option<usize>,
    /// Bytes buffered in each direction, at least 8,192.
    pub buffer: usize,
    /// Answers to heads that are none. `None`: hyper's own, a bare status; silence to slow ones.
    pub early: Option<Early>,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            rest_after: Duration::from_secs(3),
            write_timeout: Duration::from_secs(30),
            head_size: 32 * 1024,
            headers: None,
            buffer: 128 * 1024,
            early: None,
        }
    }
}

/// Serves the requests of one connection, plain or TLS, until it ends. `service` is made by
/// [`hyper::service::service_fn`], or from a router by hyper-util's `TowerToHyperService`.
///
/// The connection is hyper's from a request's first byte until none has come for [`HttpOptions::rest_after`]. Before
/// and after that it waits without hyper and its buffers.
///
/// When `drain` begins, the request at hand is finished and the connection closed. How long a body may take
/// to arrive is for the service to bound: see [`read_body`].
///
/// # Errors
/// What the peer did wrong or too slowly. It belongs to the peer: log it at `debug`.
pub async fn serve<I, S, B>(io: I, options: &HttpOptions, drain: &Drain, service: S) -> hyper::Result<()>
where
    I: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request<Incoming>, Response = Response<B>>,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let pace = Arc::new(Pace::default());
    let mut io = Paced::new(io, Arc::clone(&pace), options);
    let service = service_fn(|request: Request<Incoming>| {
        pace.head_complete(!request.body().is_end_stream());
        let (answer, pace) = (service.call(request), Arc::clone(&pace));
        async move { answer.await.map(|answer| answer.map(|body| Told::new(body, pace))) }
    });
    while drain.begins_or(poll_fn(|cx| io.poll_request(cx))).await == Some(true) {
        // Boxed, so that a connection that waits is without it.
        let mut awake = Box::new(builder(options).serve_connection(TokioIo::new(io), &service));
        match drain.begins_or(poll_fn(|cx| poll_awake(&mut awake, &pace, cx))).await {
            Some(Ended::ForGood(ended)) => return ended,
            Some(Ended::ForNow) => {}
            None => {
                Pin::new(&mut *awake).graceful_shutdown();
                return awake.await;
            }
        }
        let left = awake.into_parts();
        io = left.io.into_inner();
        if !io.left_hyper(&left.read_buf) {
            break;
        }
    }
    // Whoever is not there any more need not see the end.
    let _ = io.shutdown().await;
    Ok(())
}

fn builder(options: &HttpOptions) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        // `Paced` keeps all times; hyper would set a timer for each request.
        .header_read_timeout(None)
        .max_header_size(options.head_size)
        .max_buf_size(options.buffer);
    if let Some(headers) = options.headers {
        builder.max_headers(headers);
    }
    builder
}

/// How hyper's part of a connection ended.
enum Ended {
    /// The connection is over.
    ForGood(hyper::Result<()>),
    /// hyper needs to be there again when the next request comes.
    ForNow,
}

/// Serves requests until the connection ends or is tired of waiting for the next.
///
/// Nobody but hyper knows for certain that it is between two requests: a service may hold on to a request's body longer
/// than to its answer. So hyper is told to end. Between requests it does that at once, without reading; what it does
/// otherwise [`Paced`] sees ([`Rest::Midway`]).
fn poll_awake<I, S, B>(
    connection: &mut http1::Connection<I, S>,
    pace: &Pace,
    cx: &mut Context<'_>,
) -> Poll<Ended>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    S: Service<Request<Incoming>, Response = Response<B>>,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut connection = Pin::new(connection);
    if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
        return Poll::Ready(Ended::ForGood(ended));
    }
    if !pace.turn(Rest::Tired, Rest::Leaving) {
        return Poll::Pending;
    }
    connection.as_mut().graceful_shutdown();
    match connection.poll(cx) {
        Poll::Ready(Ok(())) => Poll::Ready(Ended::ForNow),
        Poll::Ready(ended) => Poll::Ready(Ended::ForGood(ended)),
        Poll::Pending => {
            let _ = pace.turn(Rest::Leaving, Rest::Stays) || pace.turn(Rest::Midway, Rest::Stays);
            Poll::Pending
        }
    }
}

/// The status text has a character that may not stand in a status line.
#[derive(Debug, thiserror::Error)]
#[error("status text {0:?} cannot be sent")]
pub struct ReasonNotSendable(String);

/// Gives `answer` the status text `reason` in place of the usual one: `401 CMGService_Invalid_Token`. Clients
/// of the protocol read it. HTTP/1.1 only; later versions have no such text.
pub fn set_reason<B>(answer: &mut Response<B>, reason: &str) -> Result<(), ReasonNotSendable> {
    let phrase =
        ReasonPhrase::try_from(reason.as_bytes()).map_err(|_| ReasonNotSendable(reason.to_owned()))?;
    answer.extensions_mut().insert(phrase);
    Ok(())
}

/// The unusual status text of an answer that was received, if it is UTF-8.
pub fn reason<B>(answer: &Response<B>) -> Option<&str> {
    let phrase = answer.extensions().get::<ReasonPhrase>()?;
    std::str::from_utf8(phrase.as_bytes()).ok()
}
