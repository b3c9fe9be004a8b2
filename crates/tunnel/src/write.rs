//! Frames out: how each entry of the queues becomes bytes.

use std::num::NonZeroU32;

use bytes::BytesMut;

use crate::Output;
use crate::frame::{self, Frame, StreamId};
use crate::queue::Turn;
use crate::side::{Role, Side, Urgent};
use crate::stream::{Cancel, Sending};

impl<R: Role> Side<R> {
    pub(crate) fn write_urgent(&mut self, entry: Urgent, out: &mut BytesMut) {
        match entry {
            Urgent::Hello => Frame::Hello(self.config.hello()).encode(out),
            Urgent::Ping(value) => Frame::Ping(value).encode(out),
            Urgent::Pong => {
                if let Some(value) = self.pong.take() {
                    Frame::Pong(value).encode(out);
                }
            }
            Urgent::Goodbye { code, text } => Frame::Goodbye { last: self.highest, code, text }.encode(out),
            Urgent::Stream(stream) => self.write_stream_frames(stream, out),
        }
    }

    /// Everything but Data that the stream has to say.
    fn write_stream_frames(&mut self, stream: StreamId, out: &mut BytesMut) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        state.is_urgent = false;
        if let Cancel::Due(code) = state.cancel {
            Frame::Reset { stream, code }.encode(out);
            state.cancel = Cancel::Written;
            state.sending = Sending::Done;
        } else if let Sending::HeadWaits(head) = &mut state.sending {
            let (bytes, end) = (std::mem::take(head), state.queue.only_end_is_left());
            Frame::Head { stream, bytes, end }.encode(out);
            state.sending = if end { Sending::Done } else { Sending::Body };
        }
        if state.owes_credit()
            && let Some(credit) = NonZeroU32::new(state.receive_credit.take_returnable())
        {
            Frame::Window { stream, credit }.encode(out);
        }
        self.take_turn(stream);
        self.settle(stream);
    }

    pub(crate) fn write_data(&mut self, stream: StreamId, out: &mut impl Output) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        state.has_turn = false;
        let Some(length) = state.next_length() else { return };
        let end = state.queue.has_ended() && length == state.queue.len();
        frame::put_data_header(out.tail(), stream, length, end);
        state.queue.take(length, out);
        state.send_credit.spend(length);
        state.fast_left = state.fast_left.saturating_sub(length);
        if end {
            state.sending = Sending::Done;
        }
        self.take_turn(stream);
        self.wake_sender(stream);
        self.settle(stream);
    }

    pub(crate) fn write_control(&mut self, out: &mut BytesMut) {
        if let Some(frame) = self.control_out.take() {
            frame.encode(out);
        }
        if !self.control_out.is_empty() {
            self.rings.push(Turn::Control, self.control_out.is_short());
        }
    }
}
