//! The task that moves a tunnel's bytes: reads, hands over events, writes what waits, keeps time.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use proto::id::Thumbprint;
use tokio::io::{AsyncBufRead, AsyncWrite};
use tokio::time::{Sleep, sleep_until};
use tunnel::{Event, LostReason, Pieces, goodbye};

use super::{Closing, Tunnel, Tunnels};

/// Records of 16 KiB in one turn; after them the shard's other tasks get theirs.
const READS_AT_ONCE: usize = 16;

/// Drives one tunnel until it is over. Dropped early, it breaks the tunnel's requests off at once.
pub(crate) struct Driver<S, W> {
    tunnel: Arc<Tunnel>,
    tunnels: Arc<Tunnels>,
    stream: S,
    /// Whether the peer's certificate was withdrawn while it was connecting.
    is_withdrawn: W,
    output: Pieces,
    /// Something was written and may still be inside the TLS session.
    unflushed: bool,
    timer: Pin<Box<Sleep>>,
    deadline: Option<Instant>,
    woken: Vec<Waker>,
}

impl<S, W> Driver<S, W>
where
    S: AsyncBufRead + AsyncWrite + Unpin,
    W: Fn(Thumbprint) -> bool + Unpin,
{
    pub(crate) fn new(tunnel: Arc<Tunnel>, tunnels: Arc<Tunnels>, stream: S, is_withdrawn: W) -> Self {
        Self {
            tunnel,
            tunnels,
            stream,
            is_withdrawn,
            output: Pieces::default(),
            unflushed: false,
            timer: Box::pin(sleep_until(tokio::time::Instant::now())),
            deadline: None,
            woken: Vec::new(),
        }
    }

    /// Runs to the end of the tunnel and says why it ended.
    pub(crate) async fn run(mut self) -> LostReason {
        let reason = poll_fn(|cx| self.poll(cx)).await;
        // The farewell is on its way; whether it arrives is no longer of interest.
        let _ = poll_fn(|cx| Poll::Ready(Pin::new(&mut self.stream).poll_shutdown(cx).is_ready())).await;
        reason
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<LostReason> {
        self.tunnel.driver.register(cx.waker());
        loop {
            let read = self.read(cx);
            // Only when nothing more has arrived may silence be judged.
            if !read && self.poll_timer(cx) {
                let mut inner = self.tunnel.lock();
                inner.side.expire(Instant::now());
            }
            self.hand_over();
            let written = self.write(cx);
            if let Some(reason) = self.ending() {
                return Poll::Ready(reason);
            }
            if read {
                // There is more. A download must not keep the shard's other requests waiting until it is through.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if !written {
                // What was handed over or written may have moved the deadline.
                if self.poll_timer(cx) {
                    continue;
                }
                return Poll::Pending;
            }
        }
    }

    /// Takes what has arrived; whether there may be more.
    fn read(&mut self, cx: &mut Context<'_>) -> bool {
        for _ in 0..READS_AT_ONCE {
            if self.tunnel.lock().is_congested() {
                return false;
            }
            let came = match Pin::new(&mut self.stream).poll_fill_buf(cx) {
                Poll::Pending => return false,
                Poll::Ready(Ok(bytes)) if !bytes.is_empty() => {
                    // A violation is remembered by the engine, and so is its farewell.
                    let taken = self.tunnel.lock().side.receive_bytes(Instant::now(), bytes);
                    taken.is_ok().then_some(bytes.len())
                }
                Poll::Ready(Ok(_) | Err(_)) => {
                    self.tunnel.lock().side.transport_closed();
                    return false;
                }
            };
            self.hand_over();
            let Some(came) = came else { return false };
            Pin::new(&mut self.stream).consume(came);
        }
        true
    }

    /// Hands over all events, and wakes whom they concern.
    fn hand_over(&mut self) {
        let mut hello = false;
        let mut inner = self.tunnel.lock();
        let before = inner.control.len();
        while let Some(event) = inner.side.next_event() {
            hello |= matches!(event, Event::Hello(_));
            inner.dispatch(event, &mut self.woken);
        }
        let tell_control = inner.control.len() > before || inner.side.lost().is_some();
        drop(inner);
        if tell_control {
            self.tunnel.control.notify_one();
        }
        self.wake();
        if hello {
            self.tunnels.add(Arc::clone(&self.tunnel));
            // A withdrawal that came before this line did not find the tunnel in the list.
            if (self.is_withdrawn)(self.tunnel.peer.thumbprint) {
                self.tunnel.close(Closing::Withdrawn);
            }
        }
    }

    /// Writes what waits, in one piece if the connection takes it; whether all of it is gone.
    fn write(&mut self, cx: &mut Context<'_>) -> bool {
        {
            let mut inner = self.tunnel.lock();
            if let Some(closing) = inner.closing {
                inner.side.goodbye(goodbye::STOPPING, closing.words());
            }
            inner.side.next_bytes(&mut self.output);
        }
        let mut moved = false;
        match self.write_output(cx, &mut moved) {
            Poll::Ready(Ok(())) | Poll::Pending => {}
            Poll::Ready(Err(_)) => self.tunnel.lock().side.transport_closed(),
        }
        // Room that writing made is for those who wait for it.
        self.hand_over();
        moved && self.output.is_empty()
    }

    fn write_output(&mut self, cx: &mut Context<'_>, moved: &mut bool) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let stream = Pin::new(&mut self.stream);
            let written = ready!(self.output.write_with(|pieces| stream.poll_write_vectored(cx, pieces)))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.output.advance(written);
            self.unflushed = true;
            *moved = true;
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Why the tunnel is over, if it is.
    fn ending(&mut self) -> Option<LostReason> {
        let mut inner = self.tunnel.lock();
        if let Some(reason) = inner.side.lost() {
            return Some(reason);
        }
        let agreed = inner.side.is_draining()
            && inner.side.is_idle()
            && inner.streams.is_empty()
            && self.output.is_empty()
            && !self.unflushed;
        if agreed || inner.closing == Some(Closing::Withdrawn) {
            return Some(inner.lose(&mut self.woken));
        }
        None
    }

    /// Whether the engine's deadline has come; wakes the task when it does.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        let deadline = self.tunnel.lock().side.next_deadline();
        let Some(at) = deadline else { return false };
        if self.deadline != deadline {
            self.deadline = deadline;
            self.timer.as_mut().reset(at.into());
        }
        let due = self.timer.as_mut().poll(cx).is_ready();
        if due {
            // A timer that has rung must be set again before it is asked again.
            self.deadline = None;
        }
        due
    }
}

impl<S, W> Driver<S, W> {
    fn wake(&mut self) {
        // Outside the lock: whoever is woken may want it.
        for waker in self.woken.drain(..) {
            waker.wake();
        }
    }
}

impl<S, W> Drop for Driver<S, W> {
    fn drop(&mut self) {
        self.tunnels.remove(&self.tunnel);
        self.tunnel.lock().lose(&mut self.woken);
        self.tunnel.control.notify_one();
        self.wake();
    }
}

impl Closing {
    /// For the connection point's log.
    fn words(self) -> &'static str {
        match self {
            Self::Stopping => "the gateway is stopping",
            Self::Withdrawn => "the site withdrew this link",
        }
    }
}
