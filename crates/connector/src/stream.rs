//! One request inside a tunnel, as the task that forwards it sees it.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use proto::link::{AnswerHead, reset};
use tunnel::{AnswerError, SendError, StreamId};

use crate::tunnel::Tunnel;

/// The stream is over: the gateway gave it up, or the tunnel is lost. Nobody waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the gateway does not wait for this request any more")]
pub(crate) struct Gone;

/// Why the head of an answer was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAnswered {
    /// Nobody waits.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// The gateway would not take so long a head.
    #[error("the head of the answer is longer than the gateway takes")]
    HeadTooLarge,
}

impl From<AnswerError> for NotAnswered {
    fn from(error: AnswerError) -> Self {
        match error {
            AnswerError::HeadTooLarge => Self::HeadTooLarge,
            AnswerError::Closed | AnswerError::AlreadyAnswered => Self::Gone(Gone),
        }
    }
}

/// A request's stream. Dropped before its answer was complete, it is reset.
///
/// Used by one task: what wakes it is kept in one place.
#[derive(Debug)]
pub(crate) struct RequestStream {
    tunnel: Arc<Tunnel>,
    id: StreamId,
    over: AtomicBool,
}

impl RequestStream {
    pub(crate) fn new(tunnel: Arc<Tunnel>, id: StreamId) -> Self {
        Self { tunnel, id, over: AtomicBool::new(false) }
    }

    /// The next piece of the request's body, as it came; `None` at its end. Its credit goes back
    /// to the gateway at once, so whoever takes it must pass it on before taking more.
    pub(crate) async fn chunk(&self) -> Result<Option<Bytes>, Gone> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    fn poll_chunk(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Gone>> {
        let mut shared = self.tunnel.lock();
        let stream = shared.stream(self.id)?;
        if let Some(bytes) = stream.parts.pop_front() {
            let is_due = shared.side.consumed(self.id, bytes.len());
            drop(shared);
            if is_due {
                self.tunnel.wake();
            }
            return Poll::Ready(Ok(Some(bytes)));
        }
        if stream.ended {
            return Poll::Ready(Ok(None));
        }
        stream.wait(cx.waker());
        Poll::Pending
    }

    /// Resolves when nobody waits for the answer any more.
    pub(crate) async fn gone(&self) {
        poll_fn(|cx| match self.tunnel.lock().stream(self.id) {
            Ok(stream) => {
                stream.wait(cx.waker());
                Poll::Pending
            }
            Err(Gone) => Poll::Ready(()),
        })
        .await;
    }

    /// Sends the head of the answer; `end`: there is no body.
    pub(crate) fn answer(&self, head: &AnswerHead<'_>, end: bool) -> Result<(), NotAnswered> {
        let bytes = head.to_bytes().map_err(|_| NotAnswered::HeadTooLarge)?;
        self.tunnel.lock().side.answer(Instant::now(), self.id, bytes.into(), end)?;
        self.tunnel.wake();
        self.over.fetch_or(end, Ordering::AcqRel);
        Ok(())
    }

    /// Sends the head of the answer, and with it the whole body where there is room for it; else gives the body back.
    pub(crate) fn answer_whole(
        &self,
        head: &AnswerHead<'_>,
        body: Bytes,
    ) -> Result<Option<Bytes>, NotAnswered> {
        let bytes = head.to_bytes().map_err(|_| NotAnswered::HeadTooLarge)?;
        let now = Instant::now();
        let left = {
            let side = &mut self.tunnel.lock().side;
            side.answer(now, self.id, bytes.into(), false)?;
            if body.len() > side.writable(self.id) {
                Some(body)
            } else {
                side.send(now, self.id, body, true).map_err(|_| Gone)?;
                None
            }
        };
        self.tunnel.wake();
        self.over.fetch_or(left.is_none(), Ordering::AcqRel);
        Ok(left)
    }

    /// Sends a part of the answer's body, when the gateway has room for it. `end`: it is the last.
    pub(crate) async fn send(&self, mut bytes: Bytes, end: bool) -> Result<(), Gone> {
        poll_fn(|cx| self.poll_send(cx, &mut bytes, end)).await
    }

    fn poll_send(&self, cx: &mut Context<'_>, bytes: &mut Bytes, end: bool) -> Poll<Result<(), Gone>> {
        loop {
            let mut shared = self.tunnel.lock();
            shared.stream(self.id)?;
            let room = shared.side.writable(self.id);
            // Without any room the whole is offered: the refusal makes the engine tell us of room.
            let all = bytes.len() <= room || room == 0;
            let part = if all { bytes.clone() } else { bytes.split_to(room) };
            match shared.side.send(Instant::now(), self.id, part, end && all) {
                Ok(()) => {}
                Err(SendError::Full) => {
                    shared.stream(self.id)?.wait(cx.waker());
                    return Poll::Pending;
                }
                Err(SendError::Closed | SendError::Ended | SendError::NoHead) => {
                    return Poll::Ready(Err(Gone));
                }
            }
            drop(shared);
            self.tunnel.wake();
            if all {
                self.over.fetch_or(end, Ordering::AcqRel);
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Gives the request up.
    pub(crate) fn reset(&self, code: u32) {
        if !self.over.swap(true, Ordering::AcqRel) && self.tunnel.lock().side.reset(self.id, code) {
            self.tunnel.wake();
        }
    }
}

impl Drop for RequestStream {
    fn drop(&mut self) {
        self.reset(reset::ANSWER_CUT);
        // The usual stream has left the engine by now, and its driver is left alone.
        let is_due = self.tunnel.lock().forget(self.id);
        if is_due {
            self.tunnel.wake();
        }
    }
}
