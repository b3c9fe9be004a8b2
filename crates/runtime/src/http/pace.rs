//! What a connection, its service and its answers tell one another.
//!
//! hyper does not say what it is waiting for. So the connection ([`super::paced`]) notes the first byte of a request,
//! the service that its head is complete, and the answer's body that it is done with. From these notes follow the
//! clock that runs, whose answer it is that hyper writes ([`super::early`]), and whether a connection may leave hyper
//! to rest.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll};

use hyper::body::{Body, Frame, SizeHint};

/// How far a connection is with its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// Nothing of the next request has come.
    Waiting,
    /// A part of its head has come.
    Head,
    /// It is being answered.
    Busy,
    /// Nothing has come on a new connection: it was made to send something, so it has no more time than a begun
    /// head.
    New,
}

/// Whether a connection leaves hyper, to wait for its next request without hyper's buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Rest {
    /// It is hyper's.
    Awake,
    /// It has waited long enough.
    Tired,
    /// hyper was told to end.
    Leaving,
    /// hyper was told to end, and still wanted to read: it was not between two requests.
    Midway,
    /// hyper did not end at once, so it keeps the connection to its end.
    Stays,
}

/// The notes of one connection. It, its service and its answers run in one task; the atomics are for the compiler.
#[derive(Debug)]
pub(super) struct Pace {
    phase: AtomicU8,
    rest: AtomicU8,
    /// Whether something of an answer by the service may still be unwritten.
    owes: AtomicBool,
    /// Whether the peer may still be sending what nobody will read: a body, or what follows a broken head.
    sends: AtomicBool,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            phase: AtomicU8::new(Phase::New as u8),
            rest: AtomicU8::new(Rest::Awake as u8),
            owes: AtomicBool::new(false),
            sends: AtomicBool::new(false),
        }
    }
}

impl Pace {
    pub(super) fn phase(&self) -> Phase {
        [Phase::Waiting, Phase::Head, Phase::Busy]
            .into_iter()
            .find(|phase| self.is_in(*phase))
            .unwrap_or(Phase::New)
    }

    pub(super) fn is_in(&self, phase: Phase) -> bool {
        self.phase.load(Ordering::Relaxed) == phase as u8
    }

    fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    pub(super) fn head_complete(&self, with_body: bool) {
        self.enter(Phase::Busy);
        self.sends.store(with_body, Ordering::Relaxed);
        self.owes.store(true, Ordering::Relaxed);
    }

    /// Whether this begins a head on a kept connection, whose time starts now.
    pub(super) fn bytes_came(&self) -> bool {
        let phase = self.phase();
        if matches!(phase, Phase::New | Phase::Waiting) {
            self.enter(Phase::Head);
            self.turn(Rest::Tired, Rest::Awake);
        }
        // On a new connection the time runs on.
        phase == Phase::Waiting
    }

    /// hyper flushes when it holds nothing more to write. Whether that was the end of an answer.
    pub(super) fn flushed(&self) -> bool {
        let ended = !self.is_in(Phase::Busy);
        if ended {
            self.owes.store(false, Ordering::Relaxed);
        }
        ended
    }

    /// Whether no request is left that could be answered: what is written then is hyper's own.
    pub(super) fn owes_nothing(&self) -> bool {
        !self.owes.load(Ordering::Relaxed)
    }

    /// Notes whether the peer may still be sending what nobody will read.
    pub(super) fn note_sending(&self, sends: bool) {
        self.sends.store(sends, Ordering::Relaxed);
    }

    pub(super) fn may_be_sending(&self) -> bool {
        self.sends.load(Ordering::Relaxed)
    }

    pub(super) fn rests(&self, rest: Rest) -> bool {
        self.rest.load(Ordering::Relaxed) == rest as u8
    }

    /// Whether it was `from`, and is `to` now.
    pub(super) fn turn(&self, from: Rest, to: Rest) -> bool {
        let turns = self.rests(from);
        if turns {
            self.rest.store(to as u8, Ordering::Relaxed);
        }
        turns
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
        self.pace.enter(Phase::Waiting);
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
