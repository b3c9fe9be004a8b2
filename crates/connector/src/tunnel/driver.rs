//! The task that moves a tunnel's bytes: reads, hands over events, writes what waits, keeps time.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::link::FromGateway;
use tokio::io::{AsyncBufRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Sleep, sleep_until};
use tunnel::{Event, LostReason, Pieces, StreamId, goodbye};

use super::{Ended, GREETING_TIMEOUT, Handler, Incoming, Tunnel};
use crate::peer::PeerStream;
use crate::stream::RequestStream;

/// Records of 16 KiB in one turn; after them the thread's other tasks get theirs.
const READS_AT_ONCE: usize = 16;
/// Time for the last words of a tunnel.
const FAREWELL: Duration = Duration::from_millis(200);

/// Drives the tunnel until it is over. Requests under way end with it, also when this is dropped.
pub(crate) async fn drive<H: Handler + Unpin>(tunnel: Arc<Tunnel>, tls: PeerStream, handler: H) -> Ended {
    let mut driver = Driver {
        tunnel: Open(tunnel),
        tls,
        handler,
        output: Pieces::default(),
        unflushed: false,
        greeted: false,
        greeting_by: Instant::now() + GREETING_TIMEOUT,
        timer: Box::pin(sleep_until(tokio::time::Instant::now())),
        deadline: None,
    };
    let ended = poll_fn(|cx| driver.poll(cx)).await;
    driver.tunnel.lock().close_all();
    driver.farewell().await;
    ended
}

/// A tunnel that somebody drives; when nobody does any more, every request on it is gone.
struct Open(Arc<Tunnel>);

impl std::ops::Deref for Open {
    type Target = Arc<Tunnel>;

    fn deref(&self) -> &Arc<Tunnel> {
        &self.0
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut shared = self.lock();
        shared.side.transport_closed();
        shared.close_all();
    }
}

struct Driver<H> {
    tunnel: Open,
    tls: PeerStream,
    handler: H,
    output: Pieces,
    /// Something was written and may still be inside the TLS session.
    unflushed: bool,
    greeted: bool,
    greeting_by: Instant,
    timer: Pin<Box<Sleep>>,
    deadline: Option<Instant>,
}

impl<H: Handler> Driver<H> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        self.tunnel.driver.register(cx.waker());
        loop {
            match self.turn(cx) {
                Err(ended) => return Poll::Ready(ended),
                // There is more. An upload must not keep the thread's other requests waiting until it is through.
                Ok(true) => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                // What was handed over or written may have moved the deadline.
                Ok(false) if self.poll_timer(cx) => {}
                Ok(false) => return Poll::Pending,
            }
        }
    }

    /// Moves what can be moved; whether there may be more.
    fn turn(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        let read = self.read(cx)?;
        // Only when nothing more has arrived may silence be judged: a process that was stopped for a while
        // must not take its own absence for the peer's.
        if !read && self.poll_timer(cx) {
            let now = Instant::now();
            if !self.greeted && now >= self.greeting_by {
                return Err(Ended::NoGreeting);
            }
            self.tunnel.lock().side.expire(now);
        }
        self.hand_over()?;
        self.write(cx)?;
        self.ending().map_or(Ok(read), Err)
    }

    /// Takes what has arrived; whether there may be more.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        for _ in 0..READS_AT_ONCE {
            let came = match Pin::new(&mut self.tls).poll_fill_buf(cx) {
                Poll::Pending => return Ok(false),
                Poll::Ready(Err(error)) => return Err(Ended::Io(error)),
                Poll::Ready(Ok([])) => {
                    self.tunnel.lock().side.transport_closed();
                    return Ok(false);
                }
                Poll::Ready(Ok(bytes)) => {
                    // An error is the engine's last event too.
                    let taken = self.tunnel.lock().side.receive_bytes(Instant::now(), bytes);
                    taken.is_ok().then_some(bytes.len())
                }
            };
            self.hand_over()?;
            let Some(came) = came else { return Ok(false) };
            Pin::new(&mut self.tls).consume(came);
        }
        Ok(true)
    }

    /// Takes everything that the engine has for us.
    fn hand_over(&mut self) -> Result<(), Ended> {
        // The guard must not live in the loop: handlers take the lock themselves.
        while let Some(event) = self.next_event() {
            self.handle(event)?;
        }
        Ok(())
    }

    fn next_event(&self) -> Option<Event> {
        self.tunnel.lock().next_event()
    }

    fn handle(&mut self, event: Event) -> Result<(), Ended> {
        match event {
            Event::Head { stream, head, end } => self.open(stream, head, end),
            // The engine's hello says nothing to us, a goodbye may answer our own, and the tunnel keeps the rest to
            // itself.
            Event::Hello(_)
            | Event::Goodbye { code: goodbye::AGREED, .. }
            | Event::Data { .. }
            | Event::Reset { .. }
            | Event::Writable(_) => {}
            Event::Control(message) => self.control(&message)?,
            Event::Goodbye { text, .. } => self.handler.leaving(&text),
            // What the engine still has to say, the cause of a violation above all, leaves with the farewell.
            Event::Lost(reason) => return Err(Ended::Lost(reason)),
        }
        Ok(())
    }

    fn open(&mut self, id: StreamId, head: Bytes, end: bool) {
        self.tunnel.lock().streams.insert(id, Incoming { ended: end, ..Incoming::default() });
        self.handler.request(RequestStream::new(Arc::clone(&self.tunnel.0), id), head, end);
    }

    fn control(&mut self, message: &[u8]) -> Result<(), Ended> {
        // A message that a later version added is not for us.
        let Ok(message) = serde_json::from_slice::<FromGateway>(message) else { return Ok(()) };
        let is_hello = matches!(message, FromGateway::Hello { .. });
        // Once, and before everything else.
        if is_hello == self.greeted {
            return Err(Ended::NotAGateway);
        }
        self.greeted = true;
        if self.handler.control(message) { Ok(()) } else { Err(Ended::NotAGateway) }
    }

    /// Writes what waits, in one piece if the connection takes it, until nothing waits or it takes no more.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        loop {
            let more = self.tunnel.lock().side.next_bytes(&mut self.output) > 0;
            if !more && self.output.is_empty() && !self.unflushed {
                return Ok(());
            }
            let written = self.write_output(cx);
            // Room that was made is for those who wait for it.
            self.hand_over()?;
            match written {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Err(Ended::Io(error)),
                Poll::Pending => return Ok(()),
            }
        }
    }

    fn write_output(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let tls = Pin::new(&mut self.tls);
            let written = ready!(self.output.write_with(|pieces| tls.poll_write_vectored(cx, pieces)))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.output.advance(written);
            self.unflushed = true;
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.tls).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Why the tunnel is over, if it is.
    fn ending(&mut self) -> Option<Ended> {
        let mut shared = self.tunnel.lock();
        if let Some(ended) = shared.closed.take() {
            return Some(ended);
        }
        let everything_is_written = self.output.is_empty() && !self.unflushed;
        // Whoever says goodbye may leave.
        let agreed = everything_is_written && shared.side.is_draining() && shared.side.is_idle();
        agreed.then_some(Ended::Lost(LostReason::Finished))
    }

    /// Whether something is due; wakes the task when it is.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        let engine = self.tunnel.lock().side.next_deadline();
        let greeting = (!self.greeted).then_some(self.greeting_by);
        let Some(at) = engine.into_iter().chain(greeting).min() else { return false };
        if self.deadline != Some(at) {
            self.deadline = Some(at);
            self.timer.as_mut().reset(at.into());
        }
        let due = self.timer.as_mut().poll(cx).is_ready();
        if due {
            // A timer that has rung must be set again before it is asked again.
            self.deadline = None;
        }
        due
    }

    /// Writes what the engine still has to say, for a moment, and closes.
    async fn farewell(&mut self) {
        self.tunnel.lock().side.next_bytes(&mut self.output);
        let close = async {
            poll_fn(|cx| self.write_output(cx)).await?;
            self.tls.shutdown().await
        };
        // Whoever is gone does not read it.
        let _ = tokio::time::timeout(FAREWELL, close).await;
    }
}
