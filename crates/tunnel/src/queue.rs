//! What waits to be written, and whose turn it is.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::credit::LEAST_COST;
use crate::frame::{CONTROL_CHUNK, Frame, StreamId};
use crate::{Output, Parts};

/// Body bytes of one stream that wait for their turn.
#[derive(Debug, Default)]
pub(crate) struct SendQueue {
    parts: Parts,
    length: usize,
    ended: bool,
}

impl SendQueue {
    pub(crate) fn push(&mut self, bytes: Bytes, end: bool) {
        debug_assert!(!self.ended);
        self.length += bytes.len();
        self.parts.push(bytes);
        self.ended = end;
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Nothing is left to send but the end itself.
    pub(crate) fn only_end_is_left(&self) -> bool {
        self.ended && self.length == 0
    }

    /// How full it is: a part counts as at least 256 bytes, so that tiny ones cannot pile up.
    pub(crate) fn load(&self) -> usize {
        self.length.max(self.parts.len() * LEAST_COST)
    }

    /// Moves the first `length` bytes to `out`; tiny parts so become one frame.
    pub(crate) fn take(&mut self, mut length: usize, out: &mut impl Output) {
        debug_assert!(length <= self.length);
        while length > 0
            && let Some(piece) = self.parts.pop_some(length)
        {
            length -= piece.len();
            self.length -= piece.len();
            out.put(piece);
        }
    }
}

/// Control messages that wait for their turn.
#[derive(Debug, Default)]
pub(crate) struct ControlQueue {
    /// None is empty.
    messages: VecDeque<Bytes>,
    length: usize,
}

impl ControlQueue {
    pub(crate) fn push(&mut self, message: Bytes) {
        self.length += message.len();
        self.messages.push_back(message);
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// What is left of the first message fits into one frame.
    pub(crate) fn is_short(&self) -> bool {
        self.messages.front().is_some_and(|message| message.len() <= CONTROL_CHUNK)
    }

    /// The next piece.
    pub(crate) fn take(&mut self) -> Option<Frame> {
        let message = self.messages.front_mut()?;
        let bytes = message.split_to(message.len().min(CONTROL_CHUNK));
        let end = message.is_empty();
        if end {
            self.messages.pop_front();
        }
        self.length -= bytes.len();
        Some(Frame::Control { bytes, end })
    }
}

/// Who may write one frame of body next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Control,
    Stream(StreamId),
}

/// Turns in two rings. The first frames of a stream go by the fast one, so a small answer does not queue
/// behind downloads; the rest goes in turn.
#[derive(Debug, Default)]
pub(crate) struct Rings {
    fast: VecDeque<Turn>,
    rest: VecDeque<Turn>,
    /// The last turn came from the fast ring.
    was_fast: bool,
    /// Bytes of fast turns in a row.
    run: usize,
}

/// Bytes of fast turns in a row while others wait. Keeps downloads going under a storm of small answers.
const FAST_RUN: usize = 64 * 1024;

impl Rings {
    /// Each is in at most once; the caller sees to it.
    pub(crate) fn push(&mut self, turn: Turn, fast: bool) {
        if fast { self.fast.push_back(turn) } else { self.rest.push_back(turn) }
    }

    pub(crate) fn next(&mut self) -> Option<Turn> {
        self.was_fast = !self.fast.is_empty() && (self.run < FAST_RUN || self.rest.is_empty());
        if self.was_fast {
            return self.fast.pop_front();
        }
        self.rest.pop_front()
    }

    /// Bytes that the last turn took.
    pub(crate) fn wrote(&mut self, length: usize) {
        if self.was_fast {
            self.run += length;
        } else if length > 0 {
            // A turn that wrote nothing, of a stream that was given up, is no turn of the rest.
            self.run = 0;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fast.is_empty() && self.rest.is_empty()
    }

    /// For the rare stream that is closed while it waits.
    pub(crate) fn remove(&mut self, stream: StreamId) {
        self.fast.retain(|turn| *turn != Turn::Stream(stream));
        self.rest.retain(|turn| *turn != Turn::Stream(stream));
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    #[test]
    fn tiny_parts_leave_as_one_run_of_bytes() {
        let mut queue = SendQueue::default();
        for part in [&b"ab"[..], b"", b"cde", b"f"] {
            queue.push(Bytes::copy_from_slice(part), part == b"f");
        }
        assert_eq!((queue.len(), queue.load()), (6, 3 * 256));
        let mut out = BytesMut::new();
        queue.take(4, &mut out);
        assert_eq!(&out[..], b"abcd");
        assert!(!queue.only_end_is_left());
        queue.take(2, &mut out);
        assert_eq!(&out[..], b"abcdef");
        assert!(queue.only_end_is_left());
    }

    #[test]
    fn control_messages_leave_in_full_pieces_but_the_last() {
        let mut queue = ControlQueue::default();
        queue.push(vec![1; 2 * CONTROL_CHUNK].into());
        queue.push(vec![2; 5].into());
        let pieces: Vec<_> = std::iter::from_fn(|| queue.take())
            .map(|frame| match frame {
                Frame::Control { bytes, end } => (bytes.len(), end),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(pieces, [(CONTROL_CHUNK, false), (CONTROL_CHUNK, true), (5, true)]);
        assert_eq!((queue.len(), queue.is_empty()), (0, true));
    }

    #[test]
    fn the_rest_gets_a_turn_after_a_run_of_fast_ones() {
        let stream = |id| Turn::Stream(StreamId::new(id).unwrap());
        let mut rings = Rings::default();
        rings.push(stream(1), false);
        (2..10).for_each(|id| rings.push(stream(id), true));
        let mut order = Vec::new();
        while let Some(turn) = rings.next() {
            rings.wrote(FAST_RUN / 4);
            order.push(turn);
        }
        assert_eq!(order[4], stream(1));
        assert_eq!(order.len(), 9);
        assert!(rings.is_empty());
    }
}
