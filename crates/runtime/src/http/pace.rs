//! Slow peers: the time for a request's head, and for taking an answer.
//!
//! hyper has one clock for "waiting for a request" and "reading its head". A kept connection may wait long,
//! a head that has begun may not, so the second is watched here: the connection notes its first byte, the
//! service that the head is complete, and the answer's body that it is done with.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Nothing of the next request has come.
const WAITING: u8 = 0;
/// A part of its head has come, or the connection is new.
const HEAD: u8 = 1;
/// It is being answered.
const BUSY: u8 = 2;

/// How far a connection is with its request. A connection, its service and its answers run in one task; the
/// atomic is for the compiler.
#[derive(Debug)]
pub(super) struct Pace(AtomicU8);

impl Default for Pace {
    /// As a new connection: it was made to send something, so it has no more time than a begun head.
    fn default() -> Self {
        Self(AtomicU8::new(HEAD))
    }
}

impl Pace {
    pub(super) fn head_complete(&self) {
        self.0.store(BUSY, Ordering::Relaxed);
    }

    /// Whether this begins a head.
    fn bytes_came(&self) -> bool {
        self.0.compare_exchange(WAITING, HEAD, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn answered(&self) {
        self.0.store(WAITING, Ordering::Relaxed);
    }

    fn is_in_head(&self) -> bool {
        self.0.load(Ordering::Relaxed) == HEAD
    }
}

/// A connection that breaks with [`io::ErrorKind::TimedOut`] when its peer is too slow. Its timers exist only
/// while something is waited for, so that an idle connection stays small.
pub(super) struct Paced<I> {
    inner: I,
    pace: Arc<Pace>,
    head_timeout: Duration,
    write_timeout: Duration,
    head_timer: Option<Pin<Box<Sleep>>>,
    write_timer: Option<Pin<Box<Sleep>>>,
}

impl<I> Paced<I> {
    pub(super) fn new(inner: I, pace: Arc<Pace>, head_timeout: Duration, write_timeout: Duration) -> Self {
        Self { inner, pace, head_timeout, write_timeout, head_timer: None, write_timer: None }
    }

    /// Passes on what became of a write, and turns waiting into an error once it took too long.
    fn written<T>(&mut self, outcome: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.write_timer = None;
            return outcome;
        }
        expire(&mut self.write_timer, self.write_timeout, cx).map(Err)
    }
}

/// Starts `timer` if it does not run; ready with the error when it has run out.
fn expire(timer: &mut Option<Pin<Box<Sleep>>>, after: Duration, cx: &mut Context<'_>) -> Poll<io::Error> {
    let timer = timer.get_or_insert_with(|| Box::pin(sleep(after)));
    timer.as_mut().poll(cx).map(|()| io::ErrorKind::TimedOut.into())
}

impl<I: AsyncRead + Unpin> AsyncRead for Paced<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let outcome = Pin::new(&mut this.inner).poll_read(cx, buf);
        if outcome.is_ready() {
            if buf.filled().len() > before && this.pace.bytes_came() {
                this.head_timer = None;
            }
            return outcome;
        }
        if !this.pace.is_in_head() {
            this.head_timer = None;
            return Poll::Pending;
        }
        expire(&mut this.head_timer, this.head_timeout, cx).map(Err)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Paced<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.inner).poll_write(cx, buf);
        this.written(outcome, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.inner).poll_write_vectored(cx, bufs);
        this.written(outcome, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.inner).poll_flush(cx);
        this.written(outcome, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.inner).poll_shutdown(cx);
        this.written(outcome, cx)
    }
}

/// An answer's body that tells when hyper is done with it.
pub(super) struct Told<B> {
    body: B,
    pace: Arc<Pace>,
}

impl<B> Told<B> {
    pub(super) fn new(body: B, pace: Arc<Pace>) -> Self {
        Self { body, pace }
    }
}

impl<B> Drop for Told<B> {
    fn drop(&mut self) {
        self.pace.answered();
    }
}

impl<B: Body + Unpin> Body for Told<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
