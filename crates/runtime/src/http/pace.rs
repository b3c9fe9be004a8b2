//! Slow peers: the time for a request's head, and for taking an answer.
//!
//! hyper has one clock for "waiting for a request" and "reading its head". A kept connection may wait long,
//! a head that has begun may not, so the second is watched here: the connection notes its first byte, the
//! service that the head is complete, and the answer's body that it is done with. By the same notes the
//! connection tells hyper's own answers from the service's ([`super::early`]).

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::StatusCode;
use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep, sleep_until};

use super::early::{Early, Writing, status_of};
use super::linger::Linger;
use super::patience::Patience;

/// Nothing of the next request has come.
const WAITING: u8 = 0;
/// A part of its head has come.
const HEAD: u8 = 1;
/// It is being answered.
const BUSY: u8 = 2;
/// Nothing has come on a new connection: it was made to send something, so it has no more time than a begun
/// head.
const NEW: u8 = 3;

/// How far a connection is with its request. A connection, its service and its answers run in one task; the
/// atomics are for the compiler.
#[derive(Debug)]
pub(super) struct Pace {
    phase: AtomicU8,
    /// Whether something of an answer by the service may still be unwritten.
    owes: AtomicBool,
    /// Whether the peer may still be sending what nobody will read: a body, or what follows a broken head.
    sends: AtomicBool,
}

impl Default for Pace {
    fn default() -> Self {
        Self { phase: AtomicU8::new(NEW), owes: AtomicBool::new(false), sends: AtomicBool::new(false) }
    }
}

impl Pace {
    pub(super) fn head_complete(&self, with_body: bool) {
        self.phase.store(BUSY, Ordering::Relaxed);
        self.sends.store(with_body, Ordering::Relaxed);
        self.owes.store(true, Ordering::Relaxed);
    }

    /// Whether this begins a head on a kept connection, whose time starts now.
    fn bytes_came(&self) -> bool {
        // On a new connection the time runs on.
        let _ = self.phase.compare_exchange(NEW, HEAD, Ordering::Relaxed, Ordering::Relaxed);
        self.phase.compare_exchange(WAITING, HEAD, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn answered(&self) {
        self.phase.store(WAITING, Ordering::Relaxed);
    }

    /// hyper flushes when it holds nothing more to write. Whether that was the end of an answer.
    fn flushed(&self) -> bool {
        let ended = self.phase() != BUSY;
        if ended {
            self.owes.store(false, Ordering::Relaxed);
        }
        ended
    }

    /// Whether no request is left that could be answered: what is written then is hyper's own.
    fn owes_nothing(&self) -> bool {
        !self.owes.load(Ordering::Relaxed)
    }

    fn phase(&self) -> u8 {
        self.phase.load(Ordering::Relaxed)
    }
}

/// A connection that breaks with [`io::ErrorKind::TimedOut`] when its peer is too slow. Its timers exist only
/// while something is waited for, so that an idle connection stays small.
pub(super) struct Paced<I> {
    inner: I,
    pace: Arc<Pace>,
    early: Option<Early>,
    head_timeout: Duration,
    /// What the peer has in hand for taking its answers.
    patience: Patience,
    head_timer: Option<Pin<Box<Sleep>>>,
    write_timer: Option<Pin<Box<Sleep>>>,
    /// What is written in place of hyper's own answer.
    refusal: Option<Writing>,
    /// There once our side has said that it is done.
    linger: Option<Linger>,
}

impl<I> Paced<I> {
    pub(super) fn new(
        inner: I,
        pace: Arc<Pace>,
        early: Option<Early>,
        head_timeout: Duration,
        write_timeout: Duration,
    ) -> Self {
        Self {
            inner,
            pace,
            early,
            head_timeout,
            patience: Patience::new(write_timeout),
            head_timer: None,
            write_timer: None,
            refusal: None,
            linger: None,
        }
    }

    /// Passes on what became of a write, and turns waiting into an error once it took too long. `bytes`: how many
    /// of it were taken, in case of success.
    fn written<T>(
        &mut self,
        outcome: Poll<io::Result<T>>,
        bytes: impl FnOnce(&T) -> usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        let Poll::Ready(outcome) = outcome else {
            if !self.patience.waits() {
                let until = self.patience.wait(Instant::now());
                self.write_timer = Some(Box::pin(sleep_until(until.into())));
            }
            let timer = self.write_timer.as_mut().map(|timer| timer.as_mut().poll(cx));
            return timer.unwrap_or(Poll::Pending).map(|()| Err(io::ErrorKind::TimedOut.into()));
        };
        self.patience.took(outcome.as_ref().map_or(0, bytes), Instant::now);
        self.write_timer = None;
        Poll::Ready(outcome)
    }
}

impl<I: AsyncWrite + Unpin> Paced<I> {
    /// Writes an early answer in place of `own`, if that is hyper's own; `None`: it is not.
    ///
    /// hyper hands over such an answer in one piece, since it has no body. Where the end of an earlier answer
    /// is still unwritten (a peer that sends without reading) hyper's stays as it is.
    fn replace(&mut self, own: &[u8], cx: &mut Context<'_>) -> Option<Poll<io::Result<usize>>> {
        if self.refusal.is_none() {
            let early = self.early.as_ref().filter(|_| self.pace.owes_nothing())?;
            self.refusal = Some(Writing::new(early.bytes(status_of(own)?)));
            self.pace.sends.store(true, Ordering::Relaxed);
        }
        let written = self.refusal.as_mut()?.poll(&mut self.inner, cx);
        if written.is_ready() {
            self.refusal = None;
        }
        Some(self.written(written.map(|written| written.map(|()| own.len())), |bytes| *bytes, cx))
    }

    /// Tells a peer that has begun a head why its connection ends now. What cannot be written at once is not:
    /// its time is over.
    fn tell_too_slow(&mut self, cx: &mut Context<'_>) {
        let begun = self.pace.phase() == HEAD && self.pace.owes_nothing();
        let Some(early) = self.early.as_ref().filter(|_| begun) else { return };
        let mut answer = Writing::new(early.bytes(StatusCode::REQUEST_TIMEOUT));
        if answer.poll(&mut self.inner, cx).is_ready() {
            let _ = Pin::new(&mut self.inner).poll_flush(cx);
            let _ = Pin::new(&mut self.inner).poll_shutdown(cx);
        }
    }
}

/// Starts `timer` if it does not run; ready with the error when it has run out.
fn expire(timer: &mut Option<Pin<Box<Sleep>>>, after: Duration, cx: &mut Context<'_>) -> Poll<io::Error> {
    let timer = timer.get_or_insert_with(|| Box::pin(sleep(after)));
    timer.as_mut().poll(cx).map(|()| io::ErrorKind::TimedOut.into())
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncRead for Paced<I> {
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
        if !matches!(this.pace.phase(), HEAD | NEW) {
            this.head_timer = None;
            return Poll::Pending;
        }
        let expired = expire(&mut this.head_timer, this.head_timeout, cx);
        if expired.is_ready() {
            this.tell_too_slow(cx);
        }
        expired.map(Err)
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Paced<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Some(replaced) = this.replace(buf, cx) {
            return replaced;
        }
        let outcome = Pin::new(&mut this.inner).poll_write(cx, buf);
        this.written(outcome, |bytes| *bytes, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let [own] = bufs
            && let Some(replaced) = this.replace(own, cx)
        {
            return replaced;
        }
        let outcome = Pin::new(&mut this.inner).poll_write_vectored(cx, bufs);
        this.written(outcome, |bytes| *bytes, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let answered = this.pace.flushed();
        let outcome = Pin::new(&mut this.inner).poll_flush(cx);
        let outcome = this.written(outcome, |()| 0, cx);
        if answered && matches!(outcome, Poll::Ready(Ok(()))) {
            this.patience.refill();
        }
        outcome
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.linger.is_none() {
            let outcome = Pin::new(&mut this.inner).poll_shutdown(cx);
            if !matches!(outcome, Poll::Ready(Ok(()))) {
                return this.written(outcome, |()| 0, cx);
            }
            this.write_timer = None;
        }
        let linger = this.linger.get_or_insert_with(|| Linger::new(this.pace.sends.load(Ordering::Relaxed)));
        linger.poll(&mut this.inner, cx).map(Ok)
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
