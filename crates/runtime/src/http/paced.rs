//! A connection with slow peers: the time for a request's head, for the next request, and for taking an answer.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use hyper::StatusCode;
use hyper::body::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep_until};

use super::HttpOptions;
use super::early::{Writing, status_of};
use super::linger::Linger;
use super::pace::{Pace, Phase, Rest};
use super::patience::Patience;
use super::wait::Wait;

/// A connection that breaks with [`io::ErrorKind::TimedOut`] when its peer is too slow, and tells by
/// [`Rest::Tired`] that hyper has waited long enough for a request.
pub(super) struct Paced<'a, I> {
    inner: I,
    pace: Arc<Pace>,
    options: &'a HttpOptions,
    /// For a head, or for its first byte.
    wait: Wait,
    /// What was read without hyper, or left by one, and belongs to the next.
    held: Bytes,
    /// Whether all that was written is flushed.
    is_flushed: bool,
    /// What the peer has in hand for taking its answers.
    patience: Patience,
    /// There only while the peer is waited for.
    write_timer: Option<Pin<Box<Sleep>>>,
    /// What is written in place of hyper's own answer.
    refusal: Option<Writing>,
    /// There once our side has said that it is done.
    linger: Option<Linger>,
}

impl<'a, I> Paced<'a, I> {
    pub(super) fn new(inner: I, pace: Arc<Pace>, options: &'a HttpOptions) -> Self {
        Self {
            inner,
            pace,
            options,
            wait: Wait::default(),
            held: Bytes::new(),
            is_flushed: true,
            patience: Patience::new(options.write_timeout),
            write_timer: None,
            refusal: None,
            linger: None,
        }
    }

    /// Takes back what hyper had read and not used when it was left. Whether the connection may go on: otherwise
    /// hyper was in the middle of something, so that nobody knows what the next bytes are.
    pub(super) fn left_hyper(&mut self, unused: &Bytes) -> bool {
        let between_requests = self.pace.turn(Rest::Leaving, Rest::Awake);
        if between_requests {
            self.pace.note_sending(false);
            // Empty lines before a request say nothing (RFC 9112, 2.2), so they do not begin a head.
            let head = unused.iter().position(|byte| !b"\r\n".contains(byte)).unwrap_or(unused.len());
            self.hold(unused.slice(head..));
        } else {
            self.pace.turn(Rest::Midway, Rest::Awake);
        }
        between_requests
    }

    fn hold(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.begin_head();
        }
        self.held = bytes;
    }

    fn begin_head(&mut self) {
        if self.pace.bytes_came() {
            self.wait.end();
        }
    }

    /// Whether the last answer is with the peer and nothing of the next request has come.
    fn is_idle(&self) -> bool {
        self.is_flushed && self.pace.is_in(Phase::Waiting) && self.pace.owes_nothing()
    }

    /// The time until a connection that waits for a request leaves hyper. Where it may not wait longer than that, it
    /// leaves all the same, and is closed then.
    fn poll_tired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.wait.poll(self.options.rest_after.min(self.options.idle_timeout), cx)
    }

    /// Notes a write, and passes on what became of it.
    fn wrote<T>(
        &mut self,
        outcome: Poll<io::Result<T>>,
        bytes: impl FnOnce(&T) -> usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        self.is_flushed = false;
        self.wait.end();
        self.taken(outcome, bytes, cx)
    }

    /// Passes on what became of a write or flush, and turns waiting into an error once it took too long. `bytes`:
    /// how many of it were taken, in case of success.
    fn taken<T>(
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

impl<I: AsyncRead + Unpin> Paced<'_, I> {
    /// Waits without hyper for the first byte of a request: with no buffer, as nearly every connection waits at
    /// nearly every moment. Whether it has come; otherwise the connection is to be closed, since its peer is gone or
    /// has had its time.
    pub(super) fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if !self.held.is_empty() {
            return Poll::Ready(true);
        }
        let mut first = [0];
        let mut buf = ReadBuf::new(&mut first);
        if let Poll::Ready(read) = Pin::new(&mut self.inner).poll_read(cx, &mut buf) {
            // An error is as good as the end: no request is lost, and nobody is there to be told.
            let came = read.is_ok() && !buf.filled().is_empty();
            if came {
                self.hold(Bytes::copy_from_slice(buf.filled()));
            }
            return Poll::Ready(came);
        }
        let is_new = self.pace.is_in(Phase::New);
        let limit = if is_new { self.options.head_timeout } else { self.options.idle_timeout };
        self.wait.poll(limit, cx).map(|()| false)
    }
}

impl<I: AsyncWrite + Unpin> Paced<'_, I> {
    /// Writes an early answer in place of `own`, if that is hyper's own; `None`: it is not.
    ///
    /// hyper hands over such an answer in one piece, since it has no body. Where the end of an earlier answer
    /// is still unwritten (a peer that sends without reading) hyper's stays as it is.
    fn replace(&mut self, own: &[u8], cx: &mut Context<'_>) -> Option<Poll<io::Result<usize>>> {
        if self.refusal.is_none() {
            let early = self.options.early.as_ref().filter(|_| self.pace.owes_nothing())?;
            self.refusal = Some(Writing::new(early.bytes(status_of(own)?)));
            self.pace.note_sending(true);
        }
        let written = self.refusal.as_mut()?.poll(&mut self.inner, cx);
        if written.is_ready() {
            self.refusal = None;
        }
        Some(self.wrote(written.map(|written| written.map(|()| own.len())), |bytes| *bytes, cx))
    }

    /// Tells a peer that has begun a head why its connection ends now. What cannot be written at once is not:
    /// its time is over.
    fn tell_too_slow(&mut self, cx: &mut Context<'_>) {
        let begun = self.pace.is_in(Phase::Head) && self.pace.owes_nothing();
        let Some(early) = self.options.early.as_ref().filter(|_| begun) else { return };
        let mut answer = Writing::new(early.bytes(StatusCode::REQUEST_TIMEOUT));
        if answer.poll(&mut self.inner, cx).is_ready() {
            let _ = Pin::new(&mut self.inner).poll_flush(cx);
            let _ = Pin::new(&mut self.inner).poll_shutdown(cx);
        }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncRead for Paced<'_, I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.held.is_empty() {
            let taken = this.held.len().min(buf.remaining());
            buf.put_slice(&this.held.split_to(taken));
            return Poll::Ready(Ok(()));
        }
        this.pace.turn(Rest::Leaving, Rest::Midway);
        let before = buf.filled().len();
        let outcome = Pin::new(&mut this.inner).poll_read(cx, buf);
        if outcome.is_ready() {
            if buf.filled().len() > before {
                this.begin_head();
            }
            return outcome;
        }
        match this.pace.phase() {
            Phase::Head | Phase::New => {
                ready!(this.wait.poll(this.options.head_timeout, cx));
                this.tell_too_slow(cx);
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            Phase::Waiting | Phase::Busy => {
                if this.is_idle() && this.poll_tired(cx).is_ready() {
                    this.pace.turn(Rest::Awake, Rest::Tired);
                }
                Poll::Pending
            }
        }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Paced<'_, I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Some(replaced) = this.replace(buf, cx) {
            return replaced;
        }
        let outcome = Pin::new(&mut this.inner).poll_write(cx, buf);
        this.wrote(outcome, |bytes| *bytes, cx)
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
        this.wrote(outcome, |bytes| *bytes, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let answered = this.pace.flushed();
        let outcome = Pin::new(&mut this.inner).poll_flush(cx);
        let outcome = this.taken(outcome, |()| 0, cx);
        if matches!(outcome, Poll::Ready(Ok(()))) {
            this.is_flushed = true;
            if answered {
                this.patience.refill();
            }
            // From here on the next request is waited for. hyper does not look for it where it has looked since the
            // last byte came, so nobody else would start the clock.
            if !this.wait.has_begun() && this.is_idle() && this.poll_tired(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
        outcome
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.pace.rests(Rest::Leaving) || this.pace.rests(Rest::Midway) {
            // It is hyper that ends, and not the connection.
            return Poll::Ready(Ok(()));
        }
        if this.linger.is_none() {
            let outcome = Pin::new(&mut this.inner).poll_shutdown(cx);
            if !matches!(outcome, Poll::Ready(Ok(()))) {
                return this.taken(outcome, |()| 0, cx);
            }
            this.write_timer = None;
        }
        let linger = this.linger.get_or_insert_with(|| Linger::new(this.pace.may_be_sending()));
        linger.poll(&mut this.inner, cx).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Waker;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::http::pace::Told;

    /// A connection that has answered a request, told hyper to end, and got back what hyper had not used.
    fn left<'a>(
        options: &'a HttpOptions,
        unused: &[u8],
    ) -> (Paced<'a, DuplexStream>, DuplexStream, Arc<Pace>) {
        let (near, far) = duplex(64);
        let pace = Arc::new(Pace::default());
        let mut io = Paced::new(far, Arc::clone(&pace), options);
        pace.head_complete(true);
        drop(Told::new(String::new(), Arc::clone(&pace)));
        assert!(pace.turn(Rest::Awake, Rest::Leaving));
        assert!(io.left_hyper(&Bytes::copy_from_slice(unused)));
        (io, near, pace)
    }

    #[tokio::test]
    async fn what_hyper_had_not_used_is_the_beginning_of_what_is_read_next() {
        let options = HttpOptions::default();
        let (mut io, mut peer, pace) = left(&options, b"\r\nGET ");
        assert_eq!(pace.phase(), Phase::Head);
        peer.write_all(b"/a").await.unwrap();
        assert!(poll_fn(|cx| io.poll_request(cx)).await);
        let mut text = [0; 6];
        io.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"GET /a");
    }

    #[tokio::test]
    async fn empty_lines_between_requests_are_no_head_and_a_body_read_whole_is_not_lingered_for() {
        let options = HttpOptions::default();
        let (mut io, mut peer, pace) = left(&options, b"\r\n");
        assert!(io.poll_request(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!((pace.phase(), pace.may_be_sending()), (Phase::Waiting, false));
        peer.write_all(b"GE").await.unwrap();
        assert!(poll_fn(|cx| io.poll_request(cx)).await);
        assert_eq!(pace.phase(), Phase::Head);
        drop(peer);
        let mut text = String::new();
        io.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "GE");
    }
}
