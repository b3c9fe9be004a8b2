//! One request inside a tunnel, as the task that forwards it sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::Bytes;
use proto::link::{AnswerHead, reset};
use tokio::sync::Notify;
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

/// A request's stream. Dropped before its answer was complete, it is reset.
#[derive(Debug)]
pub(crate) struct RequestStream {
    tunnel: Arc<Tunnel>,
    id: StreamId,
    changed: Arc<Notify>,
    over: AtomicBool,
}

impl RequestStream {
    pub(crate) fn new(tunnel: Arc<Tunnel>, id: StreamId, changed: Arc<Notify>) -> Self {
        Self { tunnel, id, changed, over: AtomicBool::new(false) }
    }

    /// The next piece of the request's body, as it came; `None` at its end. Its credit goes back
    /// to the gateway at once, so whoever takes it must pass it on before taking more.
    pub(crate) async fn chunk(&self) -> Result<Option<Bytes>, Gone> {
        loop {
            // Made before the look at the state, so that no change in between is missed.
            let changed = self.changed.notified();
            {
                let mut shared = self.tunnel.lock();
                let stream = shared.stream(self.id)?;
                if let Some(bytes) = stream.parts.pop_front() {
                    shared.side.consumed(self.id, bytes.len());
                    drop(shared);
                    self.tunnel.wake();
                    return Ok(Some(bytes));
                }
                if stream.ended {
                    return Ok(None);
                }
            }
            changed.await;
        }
    }

    /// Resolves when nobody waits for the answer any more.
    pub(crate) async fn gone(&self) {
        loop {
            let changed = self.changed.notified();
            if self.tunnel.lock().stream(self.id).is_err() {
                return;
            }
            changed.await;
        }
    }

    /// Sends the head of the answer; `end`: there is no body.
    pub(crate) fn answer(&self, head: &AnswerHead<'_>, end: bool) -> Result<(), NotAnswered> {
        let bytes = head.to_bytes().map_err(|_| NotAnswered::HeadTooLarge)?;
        let outcome = self.tunnel.lock().side.answer(Instant::now(), self.id, bytes.into(), end);
        self.tunnel.wake();
        match outcome {
            Ok(()) if end => self.over.store(true, Ordering::Release),
            Ok(()) => {}
            Err(AnswerError::HeadTooLarge) => return Err(NotAnswered::HeadTooLarge),
            Err(AnswerError::Closed | AnswerError::AlreadyAnswered) => return Err(Gone.into()),
        }
        Ok(())
    }

    /// Sends a part of the answer's body, when the gateway has room for it. `end`: it is the last.
    pub(crate) async fn send(&self, mut bytes: Bytes, end: bool) -> Result<(), Gone> {
        loop {
            let changed = self.changed.notified();
            {
                let mut shared = self.tunnel.lock();
                shared.stream(self.id)?;
                let room = shared.side.writable(self.id);
                // Without any room the whole is offered: the refusal makes the engine tell us of room.
                let all = bytes.len() <= room || room == 0;
                let part = if all { bytes.clone() } else { bytes.split_to(room) };
                let outcome = shared.side.send(Instant::now(), self.id, part, end && all);
                drop(shared);
                self.tunnel.wake();
                match outcome {
                    Ok(()) if all => {
                        self.over.fetch_or(end, Ordering::AcqRel);
                        return Ok(());
                    }
                    Ok(()) => continue,
                    Err(SendError::Full) => {}
                    Err(SendError::Closed | SendError::Ended | SendError::NoHead) => return Err(Gone),
                }
            }
            changed.await;
        }
    }

    /// Gives the request up.
    pub(crate) fn reset(&self, code: u32) {
        if !self.over.swap(true, Ordering::AcqRel) {
            self.tunnel.lock().side.reset(self.id, code);
            self.tunnel.wake();
        }
    }
}

impl Drop for RequestStream {
    fn drop(&mut self) {
        self.reset(reset::ANSWER_CUT);
        self.tunnel.lock().forget(self.id);
        self.tunnel.wake();
    }
}
