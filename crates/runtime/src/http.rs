//! HTTP/1.1 on a connection that was accepted, with every wait and size bounded.

mod body;
mod early;
mod linger;
mod pace;
mod patience;

use std::error::Error;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::ext::ReasonPhrase;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::drain::Drain;
use pace::{Pace, Paced, Told};

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
    let io =
        Paced::new(io, Arc::clone(&pace), options.early.clone(), options.head_timeout, options.write_timeout);
    let service = service_fn(|request: Request<Incoming>| {
        pace.head_complete(!request.body().is_end_stream());
        let (answer, pace) = (service.call(request), Arc::clone(&pace));
        async move { answer.await.map(|answer| answer.map(|body| Told::new(body, pace))) }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // hyper starts this clock when it begins to wait for a request, so it bounds the idle time; the time
        // for the head itself is kept by `Paced`.
        .header_read_timeout(options.idle_timeout)
        .max_header_size(options.head_size)
        .max_buf_size(options.buffer);
    if let Some(headers) = options.headers {
        builder.max_headers(headers);
    }
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    if let Some(ended) = drain.begins_or(connection.as_mut()).await {
        return ended;
    }
    connection.as_mut().graceful_shutdown();
    connection.await
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
