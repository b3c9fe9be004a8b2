//! One direction of a connection: bytes in order, late, in pieces of any size, until it breaks.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};

/// How a connection ends before its time, after so many bytes written into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Lives,
    /// What is written beyond goes nowhere, and both ends are told some time later.
    IsCutAfter(usize),
    /// The same, and nobody is told.
    FallsSilentAfter(usize),
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) delay: Duration,
    /// Bytes that may be under way; a writer waits for room.
    capacity: usize,
    under_way: VecDeque<(Instant, Bytes)>,
    length: usize,
    written: usize,
    fate: Fate,
}

impl Link {
    pub(super) fn new(delay: Duration, capacity: usize, fate: Fate) -> Self {
        Self { delay, capacity, under_way: VecDeque::new(), length: 0, written: 0, fate }
    }

    pub(super) fn is_broken(&self) -> bool {
        match self.fate {
            Fate::Lives => false,
            Fate::IsCutAfter(bytes) | Fate::FallsSilentAfter(bytes) => self.written >= bytes,
        }
    }

    pub(super) fn is_cut(&self) -> bool {
        matches!(self.fate, Fate::IsCutAfter(_)) && self.is_broken()
    }

    /// From now on it does not break any more, and takes all that is written.
    pub(super) fn mend(&mut self) {
        self.capacity = usize::MAX;
        if !self.is_broken() {
            self.fate = Fate::Lives;
        }
    }

    /// Takes up to `at_most` bytes from the front of `from`, as far as there is room.
    pub(super) fn write(&mut self, now: Instant, from: &mut BytesMut, at_most: usize) {
        let room = self.capacity - self.length;
        let mut piece = from.split_to(at_most.min(room).min(from.len()));
        let left = match self.fate {
            Fate::Lives => piece.len(),
            Fate::IsCutAfter(bytes) | Fate::FallsSilentAfter(bytes) => bytes.saturating_sub(self.written),
        };
        self.written += piece.len();
        piece.truncate(left);
        if !piece.is_empty() {
            self.length += piece.len();
            self.under_way.push_back((now + self.delay, piece.freeze()));
        }
    }

    /// Up to `at_most` bytes that have arrived by `now`.
    pub(super) fn read(&mut self, now: Instant, at_most: usize) -> Bytes {
        let Some((arrival, piece)) = self.under_way.front_mut() else { return Bytes::new() };
        if *arrival > now {
            return Bytes::new();
        }
        let taken = piece.split_to(at_most.min(piece.len()));
        if !piece.has_remaining() {
            self.under_way.pop_front();
        }
        self.length -= taken.len();
        taken
    }

    /// When the next bytes arrive.
    pub(super) fn next_arrival(&self) -> Option<Instant> {
        self.under_way.front().map(|(arrival, _)| *arrival)
    }
}
