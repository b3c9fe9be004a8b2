//! The side that opens streams.

use std::time::Instant;

use bytes::Bytes;

use crate::frame::StreamId;
use crate::side::{Role, Side};
use crate::stream::{Receiving, Sending, Stream};
use crate::{Event, OpenError, ProtocolError, goodbye};

/// The gateway's part in a tunnel.
#[derive(Debug)]
pub enum Gateway {}

/// A gateway shard's end of a tunnel.
pub type GatewaySide = Side<Gateway>;

impl Role for Gateway {
    /// The answer to a stream of ours.
    fn receive_head(
        side: &mut GatewaySide,
        now: Instant,
        stream: StreamId,
        head: Bytes,
        end: bool,
    ) -> Result<(), ProtocolError> {
        let Some(state) = side.find(now, stream)? else { return Ok(()) };
        match state.receiving {
            Receiving::NoHead => {}
            Receiving::Body => return Err(ProtocolError::SecondHead(stream)),
            Receiving::Done => return Err(ProtocolError::AfterEnd(stream)),
        }
        state.receiving = if end { Receiving::Done } else { Receiving::Body };
        if !state.is_cancelled() {
            side.events.push_back(Event::Head { stream, head, end });
        }
        side.settle(stream);
        Ok(())
    }
}

impl GatewaySide {
    /// Opens a stream for one request. `end`: the request has no body.
    ///
    /// Frees the slot of a stream only when both directions have ended or a reset was agreed on, so
    /// every stream opened is one that the connector accepts.
    pub fn open(&mut self, now: Instant, head: Bytes, end: bool) -> Result<StreamId, OpenError> {
        if self.lost.is_some() {
            return Err(OpenError::Closed);
        }
        if self.is_draining() {
            return Err(OpenError::Draining);
        }
        let peer = self.peer.ok_or(OpenError::NotReady)?;
        if head.len() > peer.max_head as usize {
            return Err(OpenError::HeadTooLarge);
        }
        if self.capacity() == 0 {
            return Err(OpenError::TooManyStreams);
        }
        let Some(stream) = self.highest.checked_add(1).and_then(StreamId::new) else {
            self.goodbye(goodbye::IDS_SPENT, "stream ids are spent");
            return Err(OpenError::Draining);
        };
        self.highest = stream.get();
        let sending = Sending::HeadWaits(head);
        let mut state =
            Stream::new(sending, Receiving::NoHead, peer.stream_credit, self.config.stream_credit);
        state.queue.push(Bytes::new(), end);
        self.streams.insert(stream, state);
        self.make_urgent(stream);
        self.probe_if_quiet(now);
        Ok(stream)
    }

    /// How many more streams [`open`](Self::open) would take now. Lets a gateway choose among tunnels.
    pub fn capacity(&self) -> usize {
        match self.peer {
            Some(peer) if self.lost.is_none() && !self.is_draining() => {
                let limit = peer.max_streams.min(self.config.max_streams) as usize;
                limit.saturating_sub(self.streams.len())
            }
            _ => 0,
        }
    }
}
