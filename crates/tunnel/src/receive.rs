//! Frames in: what each does to the side that reads it.

use std::num::NonZeroU32;
use std::time::Instant;

use bytes::Bytes;

use crate::frame::{Frame, StreamId};
use crate::side::{Role, Side, Urgent};
use crate::stream::{Receiving, Sending, Stream};
use crate::{Event, ProtocolError, goodbye};

impl<R: Role> Side<R> {
    pub(crate) fn receive_frames(&mut self, now: Instant, bytes: &mut &[u8]) -> Result<(), ProtocolError> {
        while let Some(frame) = self.decoder.next_frame(bytes)? {
            if self.peer.is_some() {
                self.receive_frame(now, frame)?;
            } else if let Frame::Hello(hello) = frame {
                self.peer = Some(hello);
                self.events.push_back(Event::Hello(hello));
            } else {
                return Err(ProtocolError::BeforeHello);
            }
        }
        Ok(())
    }

    fn receive_frame(&mut self, now: Instant, frame: Frame) -> Result<(), ProtocolError> {
        match frame {
            Frame::Hello(_) => Err(ProtocolError::SecondHello),
            Frame::Head { stream, bytes, end } => R::receive_head(self, now, stream, bytes, end),
            Frame::Data { stream, bytes, end } => self.receive_data(now, stream, bytes, end),
            Frame::Window { stream, credit } => self.receive_window(now, stream, credit),
            Frame::Reset { stream, code } => self.receive_reset(now, stream, code),
            Frame::Ping(value) => {
                self.count_nuisance(now)?;
                // A peer that asks again before it is answered gets the last answer only.
                if self.pong.replace(value).is_none() {
                    self.urgent.push_back(Urgent::Pong);
                }
                Ok(())
            }
            Frame::Pong(value) => {
                if self.keep_alive.pong(value) {
                    Ok(())
                } else {
                    Err(ProtocolError::UnexpectedPong)
                }
            }
            Frame::Goodbye { last, code, text } => {
                self.count_nuisance(now)?;
                self.goodbye_heard = true;
                self.goodbye(goodbye::AGREED, "");
                self.events.push_back(Event::Goodbye { last, code, text });
                Ok(())
            }
            Frame::Control { bytes, end } => self.receive_control(now, &bytes, end),
        }
    }

    fn receive_data(
        &mut self,
        now: Instant,
        stream: StreamId,
        bytes: Bytes,
        end: bool,
    ) -> Result<(), ProtocolError> {
        let Some(state) = self.find(now, stream)? else { return Ok(()) };
        match state.receiving {
            Receiving::NoHead => return Err(ProtocolError::DataBeforeHead(stream)),
            Receiving::Body => {}
            Receiving::Done => return Err(ProtocolError::AfterEnd(stream)),
        }
        state.receive_credit.receive(bytes.len())?;
        if end {
            state.receiving = Receiving::Done;
        }
        if !state.is_cancelled() {
            self.events.push_back(Event::Data { stream, bytes, end });
        }
        self.settle(stream);
        Ok(())
    }

    fn receive_window(
        &mut self,
        now: Instant,
        stream: StreamId,
        credit: NonZeroU32,
    ) -> Result<(), ProtocolError> {
        let Some(state) = self.find(now, stream)? else { return Ok(()) };
        state.send_credit.add(credit.get())?;
        self.take_turn(stream);
        self.wake_sender(stream);
        Ok(())
    }

    fn receive_reset(&mut self, now: Instant, stream: StreamId, code: u32) -> Result<(), ProtocolError> {
        let Some(state) = self.find(now, stream)? else { return Ok(()) };
        let was_done = std::mem::replace(&mut state.receiving, Receiving::Done) == Receiving::Done;
        let is_unsent = !matches!(state.sending, Sending::Done);
        let was_cancelled = state.is_cancelled();
        // The one answer to a Reset of ours is no nuisance.
        if was_done || !was_cancelled {
            self.count_nuisance(now)?;
        }
        if !was_cancelled {
            self.events.push_back(Event::Reset { stream, code });
            if is_unsent {
                self.cancel(stream, code);
            }
        }
        self.settle(stream);
        Ok(())
    }

    fn receive_control(&mut self, now: Instant, bytes: &Bytes, end: bool) -> Result<(), ProtocolError> {
        if bytes.len() > self.config.max_control.saturating_sub(self.control_in.len()) {
            return Err(ProtocolError::ControlTooLong);
        }
        self.control_in.extend_from_slice(bytes);
        if end {
            self.count_nuisance(now)?;
            let message = std::mem::take(&mut self.control_in).freeze();
            self.events.push_back(Event::Control(message));
        }
        Ok(())
    }

    /// The stream that a frame names; `None` when it is closed and the frame crossed its end.
    pub(crate) fn find(
        &mut self,
        now: Instant,
        stream: StreamId,
    ) -> Result<Option<&mut Stream>, ProtocolError> {
        if stream.get() > self.highest {
            return Err(ProtocolError::Unopened(stream));
        }
        if !self.streams.contains_key(&stream) {
            self.count_nuisance(now)?;
        }
        Ok(self.streams.get_mut(&stream))
    }

    fn count_nuisance(&mut self, now: Instant) -> Result<(), ProtocolError> {
        if self.allowance.take(now) { Ok(()) } else { Err(ProtocolError::Nuisance) }
    }
}
