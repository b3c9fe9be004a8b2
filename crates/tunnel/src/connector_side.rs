//! The side that answers streams.

use std::time::Instant;

use bytes::Bytes;

use crate::frame::StreamId;
use crate::side::{Role, Side};
use crate::stream::{Receiving, Sending, Stream};
use crate::{AnswerError, Event, ProtocolError};

/// The connector's part in a tunnel.
#[derive(Debug)]
pub enum Connector {}

/// A connector's end of a tunnel.
pub type ConnectorSide = Side<Connector>;

impl Role for Connector {
    /// A new stream. Served also when this side has said goodbye, as long as the gateway cannot have
    /// known: its own goodbye says when it does.
    fn receive_head(
        side: &mut ConnectorSide,
        _now: Instant,
        stream: StreamId,
        head: Bytes,
        end: bool,
    ) -> Result<(), ProtocolError> {
        if side.streams.contains_key(&stream) {
            return Err(ProtocolError::SecondHead(stream));
        }
        if stream.get() <= side.highest {
            return Err(ProtocolError::ReusedStream(stream));
        }
        if side.goodbye_heard {
            return Err(ProtocolError::OpenedAfterGoodbye);
        }
        if side.streams.len() >= side.config.max_streams as usize {
            return Err(ProtocolError::TooManyStreams);
        }
        let peer = side.peer.ok_or(ProtocolError::BeforeHello)?;
        side.highest = stream.get();
        let receiving = if end { Receiving::Done } else { Receiving::Body };
        let state = Stream::new(Sending::NoHead, receiving, peer.stream_credit, side.config.stream_credit);
        side.streams.insert(stream, state);
        side.events.push_back(Event::Head { stream, head, end });
        Ok(())
    }
}

impl ConnectorSide {
    /// Sends the head of the answer; allowed before the request has ended. `end`: the answer has no body.
    pub fn answer(
        &mut self,
        now: Instant,
        stream: StreamId,
        head: Bytes,
        end: bool,
    ) -> Result<(), AnswerError> {
        let peer = self.peer.ok_or(AnswerError::Closed)?;
        let state = self.streams.get_mut(&stream).filter(|state| !state.is_cancelled());
        let state = state.ok_or(AnswerError::Closed)?;
        if !matches!(state.sending, Sending::NoHead) {
            return Err(AnswerError::AlreadyAnswered);
        }
        if head.len() > peer.max_head as usize {
            return Err(AnswerError::HeadTooLarge);
        }
        state.sending = Sending::HeadWaits(head);
        state.queue.push(Bytes::new(), end);
        self.make_urgent(stream);
        self.probe_if_quiet(now);
        Ok(())
    }
}
