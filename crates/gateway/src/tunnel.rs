//! One tunnel to a connection point: what requests see of it, and the accept that lets it in.
//!
//! The engine of the tunnel stands behind a lock that is held for microseconds. Requests of the tunnel's own
//! shard and its driver run on one thread, so they never wait for it; a shard without a tunnel of its own
//! hands its requests over by taking the lock, which needs no queue and so no bound.

mod driver;
mod peer;
mod registry;

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use proto::link::reset;
use tokio::sync::Notify;
use tunnel::{Config, ControlError, Event, GatewaySide, LostReason, OpenError, Parts, StreamId, StreamMap};

pub(crate) use driver::Driver;
pub(crate) use peer::Peer;
pub(crate) use registry::{Pick, Tunnels};

/// Control messages that wait to be worked on; the connection is not read while so many wait. A change of
/// the site is one message, and they are worked on all at once.
const CONTROL_WAITING: usize = 256;
/// The same in bytes: one whole snapshot may always wait.
const CONTROL_WAITING_BYTES: usize = proto::limits::SNAPSHOT_BYTES;

/// A tunnel, shared by its driver and the requests inside it.
#[derive(Debug)]
pub(crate) struct Tunnel {
    /// The shard that its connection arrived on.
    pub(crate) shard: u16,
    /// Who is at the other end.
    pub(crate) peer: Peer,
    inner: Mutex<Inner>,
    room: AtomicUsize,
    driver: AtomicWaker,
    control: Notify,
}

/// [`Tunnel::room`] of a tunnel that takes no new streams, now and for ever.
const ENDING: usize = usize::MAX;

/// The engine while somebody works with it. When it is let go, others may read how much room it has.
struct Held<'a> {
    inner: MutexGuard<'a, Inner>,
    room: &'a AtomicUsize,
}

#[derive(Debug)]
struct Inner {
    side: GatewaySide,
    streams: StreamMap<Waiting>,
    control: VecDeque<Bytes>,
    control_bytes: usize,
    closing: Option<Closing>,
}

/// Why this end wants to close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closing {
    /// The process stops, and its requests are done.
    Stopping,
    /// The site withdrew the peer's certificate: now, whatever is under way.
    Withdrawn,
}

/// What of an answer has come and was not taken yet. Bounded by the stream's credit.
#[derive(Debug, Default)]
struct Waiting {
    head: Option<Bytes>,
    parts: Parts,
    ended: bool,
    broken: Option<Broken>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// A stream that will bring nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    /// The tunnel is gone.
    #[error("the tunnel was lost")]
    Lost,
    /// The connection point gave the stream up, with a code of [`proto::link::reset`].
    #[error("the connection point gave up the request (code {0})")]
    Reset(u32),
}

impl Tunnel {
    pub(crate) fn new(shard: u16, peer: Peer, config: Config, now: Instant) -> Self {
        let inner = Inner {
            side: GatewaySide::new(config, now),
            streams: StreamMap::default(),
            control: VecDeque::new(),
            control_bytes: 0,
            closing: None,
        };
        let (driver, control) = (AtomicWaker::new(), Notify::new());
        Self { shard, peer, inner: Mutex::new(inner), room: AtomicUsize::new(0), driver, control }
    }

    /// Opens a stream. `body`: the whole body if it is held; `None`: it follows by [`Stream::poll_send`].
    pub(crate) fn open(self: &Arc<Self>, head: Bytes, body: Option<Bytes>) -> Result<Stream, OpenError> {
        let mut inner = self.lock();
        let now = Instant::now();
        let ends = body.as_ref().is_some_and(Bytes::is_empty);
        let id = inner.side.open(now, head, ends)?;
        inner.streams.insert(id, Waiting::default());
        let stream = Stream { tunnel: Arc::clone(self), id, code: reset::CANCELLED };
        if let Some(body) = body.filter(|body| !body.is_empty())
            && inner.side.send(now, id, body, true).is_err()
        {
            // Cannot be: a held body is smaller than any fresh stream's credit and queue.
            drop(inner);
            return Err(OpenError::Closed);
        }
        drop(inner);
        self.driver.wake();
        Ok(stream)
    }

    /// How many more streams it takes now, or `None` when it takes none for ever. Known without waiting for whoever
    /// works with the tunnel, so it may be a moment old; [`Tunnel::open`] has the last word.
    pub(crate) fn room(&self) -> Option<usize> {
        Some(self.room.load(Ordering::Relaxed)).filter(|room| *room != ENDING)
    }

    /// Whether it takes no new streams, now and for ever.
    pub(crate) fn is_ending(&self) -> bool {
        self.room().is_none()
    }

    /// Sends a control message.
    pub(crate) fn send_control(&self, message: Bytes) -> Result<(), ControlError> {
        self.lock().side.send_control(message)?;
        self.driver.wake();
        Ok(())
    }

    /// All control messages that wait, at least one; `None` once the tunnel is lost.
    pub(crate) async fn control_messages(&self) -> Option<Vec<Bytes>> {
        loop {
            let notified = self.control.notified();
            {
                let mut inner = self.lock();
                if !inner.control.is_empty() {
                    let was_full = inner.is_congested();
                    inner.control_bytes = 0;
                    let messages = inner.control.drain(..).collect();
                    drop(inner);
                    if was_full {
                        self.driver.wake();
                    }
                    return Some(messages);
                }
                if inner.side.lost().is_some() {
                    return None;
                }
            }
            notified.await;
        }
    }

    /// Asks the driver to close. [`Closing::Withdrawn`] outdoes [`Closing::Stopping`].
    pub(crate) fn close(&self, closing: Closing) {
        let mut inner = self.lock();
        if inner.closing != Some(Closing::Withdrawn) {
            inner.closing = Some(closing);
        }
        drop(inner);
        self.driver.wake();
    }

    fn lock(&self) -> Held<'_> {
        // A panic under the lock is a fault of ours; what it left is still better than none.
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        Held { inner, room: &self.room }
    }
}

impl Deref for Held<'_> {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.inner
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut Inner {
        &mut self.inner
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let is_ending =
            self.inner.closing.is_some() || self.inner.side.is_draining() || self.inner.side.lost().is_some();
        let room = if is_ending { ENDING } else { self.inner.side.capacity() };
        self.room.store(room, Ordering::Relaxed);
    }
}

impl Inner {
    /// So much waits to be worked on that no more is read.
    fn is_congested(&self) -> bool {
        self.control.len() >= CONTROL_WAITING || self.control_bytes >= CONTROL_WAITING_BYTES
    }

    /// Hands an event to whom it concerns; those to be woken are added to `woken`.
    fn dispatch(&mut self, event: Event, woken: &mut Vec<Waker>) {
        match event {
            Event::Head { stream, head, end } => {
                self.update(stream, woken, |waiting| {
                    waiting.head = Some(head);
                    waiting.ended |= end;
                });
            }
            Event::Data { stream, bytes, end } => {
                self.update(stream, woken, |waiting| {
                    waiting.parts.push(bytes);
                    waiting.ended |= end;
                });
            }
            Event::Reset { stream, code } => {
                self.update(stream, woken, |waiting| waiting.broken = Some(Broken::Reset(code)));
                woken.extend(self.streams.get_mut(&stream).and_then(|waiting| waiting.writer.take()));
            }
            Event::Writable(stream) => {
                woken.extend(self.streams.get_mut(&stream).and_then(|waiting| waiting.writer.take()));
            }
            Event::Control(message) => {
                self.control_bytes += message.len();
                self.control.push_back(message);
            }
            Event::Lost(_) => self.break_all(woken),
            Event::Hello(_) | Event::Goodbye { .. } => {}
        }
    }

    fn update(&mut self, stream: StreamId, woken: &mut Vec<Waker>, change: impl FnOnce(&mut Waiting)) {
        if let Some(waiting) = self.streams.get_mut(&stream) {
            change(waiting);
            woken.extend(waiting.reader.take());
        }
    }

    fn break_all(&mut self, woken: &mut Vec<Waker>) {
        for waiting in self.streams.values_mut() {
            waiting.broken.get_or_insert(Broken::Lost);
            woken.extend(waiting.reader.take());
            woken.extend(waiting.writer.take());
        }
    }

    /// Ends the tunnel without its connection.
    fn lose(&mut self, woken: &mut Vec<Waker>) -> LostReason {
        self.side.transport_closed();
        while let Some(event) = self.side.next_event() {
            self.dispatch(event, woken);
        }
        self.break_all(woken);
        self.side.lost().unwrap_or(LostReason::Cut)
    }
}

/// One request inside a tunnel. Dropping it before its end tells the connection point to give up.
#[derive(Debug)]
pub(crate) struct Stream {
    tunnel: Arc<Tunnel>,
    id: StreamId,
    /// What the connection point is told when this is dropped too early.
    code: u32,
}

impl Stream {
    /// The tunnel that it is in.
    pub(crate) fn tunnel(&self) -> &Arc<Tunnel> {
        &self.tunnel
    }

    /// The answer's head, once.
    pub(crate) fn poll_head(&self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Broken>> {
        self.with_waiting(|waiting| match (waiting.head.take(), waiting.broken) {
            (Some(head), _) => Poll::Ready(Ok(head)),
            (None, Some(broken)) => Poll::Ready(Err(broken)),
            (None, None) => {
                remember(&mut waiting.reader, cx);
                Poll::Pending
            }
        })
        .unwrap_or(Poll::Ready(Err(Broken::Lost)))
    }

    /// The answer's body, if all of it is there, in one piece and of the stated length. The stream has done its work
    /// then.
    pub(crate) fn take_whole(&self, stated: Option<u64>) -> Option<Bytes> {
        self.with_waiting(|waiting| {
            let is_whole = waiting.ended
                && waiting.broken.is_none()
                && waiting.parts.len() < 2
                && stated.is_none_or(|length| waiting.parts.bytes() as u64 == length);
            is_whole.then(|| waiting.parts.pop().unwrap_or_default())
        })
        .flatten()
    }

    /// The next part of the answer's body; what came before a break is still given.
    pub(crate) fn poll_part(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        let mut inner = self.tunnel.lock();
        let inner = &mut *inner;
        let Some(waiting) = inner.streams.get_mut(&self.id) else { return Poll::Ready(None) };
        let Some(part) = waiting.parts.pop() else {
            if waiting.ended {
                return Poll::Ready(None);
            }
            if let Some(broken) = waiting.broken {
                return Poll::Ready(Some(Err(broken)));
            }
            remember(&mut waiting.reader, cx);
            return Poll::Pending;
        };
        if inner.side.consumed(self.id, part.len()) {
            self.tunnel.driver.wake();
        }
        Poll::Ready(Some(Ok(part)))
    }

    /// Whether the answer is complete and nothing of it is left to be taken.
    pub(crate) fn has_ended(&self) -> bool {
        self.with_waiting(|waiting| waiting.ended && waiting.parts.is_empty()).unwrap_or(true)
    }

    /// Sends what the tunnel takes of `bytes`, which keeps the rest; ready when all is gone. `end` closes
    /// the body with it.
    pub(crate) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        bytes: &mut Bytes,
        end: bool,
    ) -> Poll<Result<(), Broken>> {
        let mut inner = self.tunnel.lock();
        let inner = &mut *inner;
        let Some(waiting) = inner.streams.get_mut(&self.id) else { return Poll::Ready(Err(Broken::Lost)) };
        if let Some(broken) = waiting.broken {
            return Poll::Ready(Err(broken));
        }
        let room = inner.side.writable(self.id).min(bytes.len());
        let last = room == bytes.len();
        if room > 0 || last {
            let piece = bytes.split_to(room);
            if inner.side.send(Instant::now(), self.id, piece, end && last).is_err() {
                // The stream is closed: the connection point wants no more of this body.
                return Poll::Ready(Err(Broken::Reset(reset::CANCELLED)));
            }
            self.tunnel.driver.wake();
        }
        if last {
            return Poll::Ready(Ok(()));
        }
        // The rest is more than the engine takes; asking for it makes the engine say when it does.
        let _ = inner.side.send(Instant::now(), self.id, bytes.clone(), false);
        remember(&mut waiting.writer, cx);
        Poll::Pending
    }

    /// Drops it, with this code for the connection point.
    pub(crate) fn abandon(mut self, code: u32) {
        self.code = code;
    }

    fn with_waiting<T>(&self, look: impl FnOnce(&mut Waiting) -> T) -> Option<T> {
        self.tunnel.lock().streams.get_mut(&self.id).map(look)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let (waiting, tell) = {
            let mut inner = self.tunnel.lock();
            // Nothing happens to a stream that has ended in both directions.
            let tell = inner.side.reset(self.id, self.code);
            // The last one out lets a tunnel close that wants to.
            let tell = tell || inner.closing.is_some() || inner.side.is_draining();
            (inner.streams.remove(&self.id), tell)
        };
        drop(waiting);
        if tell {
            self.tunnel.driver.wake();
        }
    }
}

fn remember(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *place = Some(cx.waker().clone()),
    }
}
