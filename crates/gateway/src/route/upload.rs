//! A request's body on its way into a tunnel, at the pace of the slower side.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Body;
use tokio::time::{Instant, Sleep, sleep};

use crate::tunnel::{Broken, Stream};

/// Bytes per second that a device must send in the long run. Whoever is slower holds a place that others
/// want (R51); the poorest line that a laptop comes by has several times as much.
const LEAST_RATE: u32 = 1024;

/// A body that is passed on as it comes.
#[derive(Debug)]
pub(crate) struct Upload<B> {
    body: B,
    /// Most bytes that the endpoint takes.
    limit: u64,
    sent: u64,
    /// Came from the device and not yet taken by the tunnel.
    pending: Bytes,
    state: State,
    /// Most time that the device can have in hand, and what it begins with.
    timeout: Duration,
    /// Time that it has in hand: waiting for it takes of it, each byte adds to it.
    left: Duration,
    timer: Pin<Box<Sleep>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The device has the turn.
    Device,
    /// The tunnel has the turn; `true`: it is the last part.
    Tunnel(bool),
    Done,
}

/// Why a body did not arrive whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    /// More bytes than the endpoint takes.
    #[error("the body has more than {0} bytes")]
    TooLarge(u64),
    /// The device took too long.
    #[error("the body did not arrive in time")]
    TooSlow,
    /// The device went away, or its framing is wrong.
    #[error("the body broke off")]
    Device(#[source] hyper::Error),
    /// The other side of the tunnel takes no more.
    #[error("the body was not taken")]
    Tunnel(#[source] Broken),
}

impl<B> Upload<B>
where
    B: Body<Data = Bytes, Error = hyper::Error> + Unpin,
{
    pub(crate) fn new(body: B, limit: u64, timeout: Duration) -> Self {
        let (pending, state) = (Bytes::new(), State::Device);
        let timer = Box::pin(sleep(timeout));
        Self { body, limit, sent: 0, pending, state, timeout, left: timeout, timer }
    }

    /// Moves what can be moved; ready when the whole body has been handed to the tunnel.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, stream: &Stream) -> Poll<Result<(), UploadError>> {
        loop {
            match self.state {
                State::Done => return Poll::Ready(Ok(())),
                State::Tunnel(last) => {
                    ready!(stream.poll_send(cx, &mut self.pending, last)).map_err(UploadError::Tunnel)?;
                    self.state = if last { State::Done } else { State::Device };
                    self.timer.as_mut().reset(Instant::now() + self.left);
                }
                State::Device => match Pin::new(&mut self.body).poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => {
                        // Trailers are nobody's: they are dropped.
                        let Ok(part) = frame.into_data() else { continue };
                        self.sent += part.len() as u64;
                        self.earn(part.len());
                        if self.sent > self.limit {
                            return Poll::Ready(Err(UploadError::TooLarge(self.limit)));
                        }
                        let last = self.body.is_end_stream();
                        (self.pending, self.state) = (part, State::Tunnel(last));
                    }
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(UploadError::Device(error))),
                    Poll::Ready(None) => self.state = State::Tunnel(true),
                    Poll::Pending => {
                        ready!(self.timer.as_mut().poll(cx));
                        return Poll::Ready(Err(UploadError::TooSlow));
                    }
                },
            }
        }
    }

    fn earn(&mut self, bytes: usize) {
        let left = self.timer.deadline().saturating_duration_since(Instant::now());
        self.left = (left + time_for(bytes as u64)).min(self.timeout);
    }

    /// Whether it waits for the device, whose time is then bounded here.
    pub(crate) fn waits_for_device(&self) -> bool {
        self.state == State::Device
    }

    /// Bytes that came from the device.
    pub(crate) fn received(&self) -> u64 {
        self.sent
    }
}

/// How long a device may take for so many bytes.
pub(crate) fn time_for(bytes: u64) -> Duration {
    Duration::from_millis(bytes.saturating_mul(1000) / u64::from(LEAST_RATE))
}
