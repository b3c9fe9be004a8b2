//! What a side may write, and must.

use tunnel::frame::Frame;
use tunnel::{LostReason, StreamId, goodbye};

use super::watch::{Watch, body, cost};

impl Watch {
    /// Holds `bytes`, which the side has just written, against all that it was told and asked.
    pub(super) fn wrote(&mut self, bytes: &[u8]) {
        self.outgoing.feed(bytes);
        while let Some(frame) = self.outgoing.next_frame().expect("only frames are written") {
            assert!(!self.farewell_written, "nothing follows the last word: {frame:?}");
            assert_eq!(self.hello_written, !matches!(frame, Frame::Hello(_)), "the hello, once and first");
            assert!(self.lost.is_none() || matches!(frame, Frame::Hello(_) | Frame::Goodbye { .. }));
            self.wrote_frame(frame);
            self.note_ready();
        }
        assert!(self.outgoing.is_between_frames(), "frames are written whole");
    }

    fn wrote_frame(&mut self, frame: Frame) {
        match frame {
            Frame::Hello(hello) => {
                assert_eq!(hello, self.granted);
                self.hello_written = true;
            }
            Frame::Head { stream, bytes, end } => {
                if self.is_gateway {
                    assert!(stream.get() > self.highest_written, "{stream} is opened out of order");
                    assert!(!self.goodbye_written, "{stream} is opened after goodbye");
                    self.highest_written = stream.get();
                    let peer = self.peer.expect("nothing is opened before the peer's hello");
                    let known_to_peer = self.streams.values().filter(|state| state.head_written).count();
                    assert!(known_to_peer < peer.max_streams as usize, "{stream} is one too many");
                }
                let state = self.streams.get_mut(&stream).expect("a head of an open stream");
                assert!(!state.done_out && !state.given_up && !state.head_written);
                assert_eq!(state.head.take(), Some(bytes), "the head as given");
                assert_eq!(end, state.end_given && state.sent == 0);
                state.head_written = true;
                state.done_out = end;
                self.settle(stream);
            }
            Frame::Data { stream, bytes, end } => self.wrote_data(stream, &bytes, end),
            Frame::Window { stream, credit } => {
                let whole = self.granted.stream_credit as usize;
                let state = self.streams.get_mut(&stream).expect("credit for an open stream");
                assert!(state.head_read && !state.done_in && !state.given_up);
                state.peer_may_spend += credit.get() as usize;
                assert!(state.peer_may_spend + state.held <= whole, "credit for bytes that are still held");
            }
            Frame::Reset { stream, code } => {
                let state = self.streams.get_mut(&stream).expect("a reset of an open stream");
                assert_eq!(state.reset_due.take(), Some(code), "the reset that was asked for");
                assert!(
                    !self.is_gateway || state.head_written || state.was_guessed,
                    "of what was never opened"
                );
                state.done_out = true;
                self.settle(stream);
            }
            Frame::Ping(value) => assert_eq!(Some(value), self.pings_due.pop_front()),
            Frame::Pong(value) => assert_eq!(Some(value), self.pong_owed.take()),
            Frame::Goodbye { last, code, .. } => {
                assert!(last == self.highest || self.may_end_early);
                if let Some(LostReason::Protocol(_)) = self.lost {
                    assert_eq!(code, goodbye::VIOLATION);
                    self.farewell_written = true;
                } else {
                    assert_eq!(Some(code), self.goodbye_due.take());
                    self.goodbye_written = true;
                }
            }
            Frame::Control { bytes, end } => {
                let message = self.control_out.front_mut().expect("a message waits");
                let piece = message.split_to(bytes.len());
                assert_eq!(piece, bytes);
                assert_eq!(end, message.is_empty());
                if end {
                    self.control_out.pop_front();
                }
                self.turns.wrote(None, bytes.len() + 9, end);
            }
        }
    }

    fn wrote_data(&mut self, stream: StreamId, bytes: &[u8], end: bool) {
        let from_gateway = self.is_gateway;
        let state = self.streams.get_mut(&stream).expect("data of an open stream");
        assert!(state.head_written && !state.done_out && !state.given_up);
        assert!(
            *bytes == body(stream, from_gateway, state.written, bytes.len())[..],
            "{stream}: other bytes"
        );
        let was_first = state.written < 16 * 1024;
        state.written += bytes.len();
        assert!(state.written <= state.sent);
        assert_eq!(end, state.end_given && state.written == state.sent);
        let left = state.may_spend.checked_sub(cost(bytes.len()));
        state.may_spend = left.expect("no more than the peer's credit");
        state.done_out = end;
        self.turns.wrote(Some(stream), bytes.len() + 9, was_first);
        self.settle(stream);
    }

    /// Tells the order of turns who may write.
    pub(super) fn note_ready(&mut self) {
        let ready = self.streams.iter().filter(|(_, state)| state.is_ready());
        self.turns.are_ready(ready.map(|(stream, state)| (*stream, state.written)));
    }

    /// Whether the side has anything to write.
    pub(super) fn has_to_write(&self) -> bool {
        let half = self.granted.stream_credit as usize / 2;
        let stream_has = self.streams.values().any(|state| {
            let owes_credit = state.head_read
                && !state.done_in
                && !state.given_up
                && state.held == 0
                && state.peer_may_spend <= self.granted.stream_credit as usize - half;
            state.head.is_some() || state.reset_due.is_some() || owes_credit || state.is_ready()
        });
        let farewell_due = matches!(self.lost, Some(LostReason::Protocol(_))) && !self.farewell_written;
        !self.hello_written
            || farewell_due
            || stream_has
            || self.pong_owed.is_some()
            || !self.pings_due.is_empty()
            || self.goodbye_due.is_some()
            || !self.control_out.is_empty()
    }
}
