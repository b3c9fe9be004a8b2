//! What a side must make of the bytes that it reads.

use bytes::Bytes;
use tunnel::frame::Frame;
use tunnel::{Event, ProtocolError, StreamId, goodbye};

use super::watch::{Watch, Watched, cost};

/// Why bytes must be refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Forbidden {
    NoFrame,
    Rule(ProtocolError),
}

impl Watch {
    /// Notes `bytes` as read.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<(), Forbidden> {
        self.incoming.feed(bytes);
        while let Some(frame) = self.incoming.next_frame().map_err(|_| Forbidden::NoFrame)? {
            self.read_frame(frame).map_err(Forbidden::Rule)?;
        }
        Ok(())
    }

    fn read_frame(&mut self, frame: Frame) -> Result<(), ProtocolError> {
        if self.peer.is_none() {
            let Frame::Hello(hello) = frame else { return Err(ProtocolError::BeforeHello) };
            self.peer = Some(hello);
            self.expected.push_back(Event::Hello(hello));
            return Ok(());
        }
        match frame {
            Frame::Hello(_) => Err(ProtocolError::SecondHello),
            Frame::Head { stream, bytes, end } if self.is_gateway => self.read_answer(stream, bytes, end),
            Frame::Head { stream, bytes, end } => self.read_request(stream, bytes, end),
            Frame::Data { stream, bytes, end } => self.read_data(stream, bytes, end),
            Frame::Window { stream, credit } => {
                let Some(state) = self.find(stream)? else { return Ok(()) };
                state.may_spend += credit.get() as usize;
                let whole = self.peer.map_or(0, |peer| peer.stream_credit as usize);
                match self.streams.get(&stream) {
                    Some(state) if state.may_spend > whole => Err(ProtocolError::WindowOverflow),
                    _ => Ok(()),
                }
            }
            Frame::Reset { stream, code } => {
                let Some(state) = self.find(stream)? else { return Ok(()) };
                let (was_done, was_given_up) = (state.done_in, state.given_up);
                state.done_in = true;
                if !was_given_up {
                    // What this side has written to its end needs no Reset of its own.
                    state.given_up = !state.done_out;
                    state.reset_due = state.given_up.then_some(code);
                    self.expected.push_back(Event::Reset { stream, code });
                }
                self.nuisances += u64::from(was_done || !was_given_up);
                self.settle(stream);
                Ok(())
            }
            Frame::Ping(value) => {
                self.nuisances += 1;
                self.pong_owed = Some(value);
                Ok(())
            }
            Frame::Pong(value) if self.unanswered == Some(value) => {
                self.unanswered = None;
                Ok(())
            }
            Frame::Pong(_) => Err(ProtocolError::UnexpectedPong),
            Frame::Goodbye { last, code, text } => {
                self.nuisances += 1;
                self.goodbye_heard = true;
                self.say_goodbye(goodbye::AGREED);
                self.expected.push_back(Event::Goodbye { last, code, text });
                Ok(())
            }
            Frame::Control { bytes, end } => {
                if self.control_in.len() + bytes.len() > self.config.max_control {
                    return Err(ProtocolError::ControlTooLong);
                }
                self.control_in.extend_from_slice(&bytes);
                if end {
                    self.nuisances += 1;
                    self.expected.push_back(Event::Control(std::mem::take(&mut self.control_in).into()));
                }
                Ok(())
            }
        }
    }

    /// A connector's reading of a Head.
    fn read_request(&mut self, stream: StreamId, head: Bytes, end: bool) -> Result<(), ProtocolError> {
        if self.streams.contains_key(&stream) {
            return Err(ProtocolError::SecondHead(stream));
        }
        if stream.get() <= self.highest {
            return Err(ProtocolError::ReusedStream(stream));
        }
        if self.goodbye_heard {
            return Err(ProtocolError::OpenedAfterGoodbye);
        }
        if self.streams.len() == self.granted.max_streams as usize {
            return Err(ProtocolError::TooManyStreams);
        }
        self.highest = stream.get();
        let peer = self.peer.expect("its hello was read");
        let state = Watched { head_read: true, done_in: end, ..Watched::new(peer, self.granted) };
        self.streams.insert(stream, state);
        self.expected.push_back(Event::Head { stream, head, end });
        Ok(())
    }

    /// A gateway's reading of a Head.
    fn read_answer(&mut self, stream: StreamId, head: Bytes, end: bool) -> Result<(), ProtocolError> {
        let Some(state) = self.find(stream)? else { return Ok(()) };
        if state.done_in {
            return Err(ProtocolError::AfterEnd(stream));
        }
        if std::mem::replace(&mut state.head_read, true) {
            return Err(ProtocolError::SecondHead(stream));
        }
        state.done_in = end;
        if !state.given_up {
            self.expected.push_back(Event::Head { stream, head, end });
        }
        self.settle(stream);
        Ok(())
    }

    fn read_data(&mut self, stream: StreamId, bytes: Bytes, end: bool) -> Result<(), ProtocolError> {
        let Some(state) = self.find(stream)? else { return Ok(()) };
        if state.done_in {
            return Err(ProtocolError::AfterEnd(stream));
        }
        if !state.head_read {
            return Err(ProtocolError::DataBeforeHead(stream));
        }
        let left = state.peer_may_spend.checked_sub(cost(bytes.len()));
        state.peer_may_spend = left.ok_or(ProtocolError::CreditOverrun)?;
        state.held += bytes.len();
        state.done_in = end;
        if !state.given_up {
            self.expected.push_back(Event::Data { stream, bytes, end });
        }
        self.settle(stream);
        Ok(())
    }

    /// Whether a frame would be in order now.
    pub(super) fn would_take(&self, frame: &Frame) -> bool {
        let Some(peer) = self.peer else { return matches!(frame, Frame::Hello(_)) };
        let open = |stream: &StreamId| self.streams.get(stream);
        match frame {
            Frame::Hello(_) => false,
            Frame::Head { stream, .. } if self.is_gateway => {
                open(stream).is_some_and(|state| state.head_written && !state.head_read && !state.done_in)
            }
            Frame::Head { stream, .. } => {
                stream.get() > self.highest
                    && !self.goodbye_heard
                    && self.streams.len() < self.granted.max_streams as usize
            }
            Frame::Data { stream, bytes, .. } => open(stream).is_some_and(|state| {
                state.head_read && !state.done_in && cost(bytes.len()) <= state.peer_may_spend
            }),
            Frame::Window { stream, credit } => open(stream)
                .is_some_and(|state| state.may_spend + credit.get() as usize <= peer.stream_credit as usize),
            Frame::Reset { stream, .. } => open(stream).is_some_and(|state| !state.done_in),
            Frame::Pong(value) => self.unanswered == Some(*value),
            Frame::Control { bytes, end } => {
                let together = self.control_in.len() + bytes.len();
                (*end || bytes.len() == 16_384) && !bytes.is_empty() && together <= self.config.max_control
            }
            Frame::Ping(_) | Frame::Goodbye { .. } => true,
        }
    }

    /// The value of the ping that is out.
    pub(super) fn awaited_pong(&self) -> Option<u64> {
        self.unanswered
    }

    /// The stream that a frame is for; `None` for one that is closed.
    fn find(&mut self, stream: StreamId) -> Result<Option<&mut Watched>, ProtocolError> {
        if stream.get() > self.highest {
            return Err(ProtocolError::Unopened(stream));
        }
        if let Some(state) = self.streams.get_mut(&stream) {
            state.was_guessed |= self.is_gateway && stream.get() > self.highest_written;
            return Ok(Some(state));
        }
        self.nuisances += 1;
        Ok(None)
    }
}
