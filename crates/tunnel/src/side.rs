//! What both sides of a tunnel do alike.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use crate::frame::{Decoder, Hello, MAX_GOODBYE_TEXT, StreamId, StreamMap};
use crate::queue::{ControlQueue, Rings, SendQueue, Turn};
use crate::stream::{Cancel, Receiving, Sending, Stream, WORTH_WAKING};
use crate::timer::{Allowance, KeepAlive, Verdict};
use crate::{Config, ControlError, Event, LostReason, Output, ProtocolError, SendError, goodbye};

/// What a Head means is all that tells the sides apart.
pub trait Role: Sized {
    #[doc(hidden)]
    fn receive_head(
        side: &mut Side<Self>,
        now: Instant,
        stream: StreamId,
        head: Bytes,
        end: bool,
    ) -> Result<(), ProtocolError>;
}

/// One end of a tunnel: [`GatewaySide`](crate::GatewaySide) or [`ConnectorSide`](crate::ConnectorSide).
///
/// After every `&mut` call take [`next_event`](Self::next_event) to `None` and write
/// [`next_bytes`](Self::next_bytes); then sleep until [`next_deadline`](Self::next_deadline). Before
/// [`expire`](Self::expire) read what has arrived: a process that was stopped for a while would else take
/// its own absence for the peer's.
#[derive(Debug)]
pub struct Side<R> {
    pub(crate) config: Config,
    pub(crate) decoder: Decoder,
    /// The peer's limits, once it has said them.
    pub(crate) peer: Option<Hello>,
    hello_deadline: Instant,
    pub(crate) streams: StreamMap<Stream>,
    /// Highest stream id opened or seen.
    pub(crate) highest: u32,
    /// Written before all else. At most one entry a stream and four besides.
    pub(crate) urgent: VecDeque<Urgent>,
    pub(crate) rings: Rings,
    /// Answer owed to the last ping.
    pub(crate) pong: Option<u64>,
    pub(crate) control_out: ControlQueue,
    pub(crate) control_in: BytesMut,
    pub(crate) keep_alive: KeepAlive,
    pub(crate) allowance: Allowance,
    pub(crate) goodbye_said: bool,
    pub(crate) goodbye_heard: bool,
    pub(crate) lost: Option<LostReason>,
    pub(crate) events: VecDeque<Event>,
    role: PhantomData<R>,
}

#[derive(Debug)]
pub(crate) enum Urgent {
    Hello,
    Ping(u64),
    Pong,
    Goodbye {
        code: u32,
        text: String,
    },
    /// Whatever small the stream has to say: head, window, reset.
    Stream(StreamId),
}

impl<R: Role> Side<R> {
    /// A side whose connection was just made. Its Hello waits in [`next_bytes`](Self::next_bytes).
    pub fn new(config: Config, now: Instant) -> Self {
        let config = config.bounded();
        Self {
            decoder: Decoder::new(config.max_head as usize),
            peer: None,
            hello_deadline: now + config.hello_timeout,
            streams: StreamMap::default(),
            highest: 0,
            urgent: VecDeque::from([Urgent::Hello]),
            rings: Rings::default(),
            pong: None,
            control_out: ControlQueue::default(),
            control_in: BytesMut::new(),
            keep_alive: KeepAlive::new(config.idle, config.answer_timeout, now),
            allowance: Allowance::new(config.nuisance_burst, config.nuisance_per_second, now),
            goodbye_said: false,
            goodbye_heard: false,
            lost: None,
            events: VecDeque::new(),
            role: PhantomData,
            config,
        }
    }

    // In, from the connection.

    /// Takes bytes in chunks of any size. After an error the tunnel is lost, and further bytes return the
    /// same error; the driver writes [`next_bytes`](Self::next_bytes) once more, so that the peer learns why, and closes.
    pub fn receive_bytes(&mut self, now: Instant, mut bytes: &[u8]) -> Result<(), ProtocolError> {
        match self.lost {
            None => {}
            Some(LostReason::Protocol(error)) => return Err(error),
            Some(_) => return Ok(()),
        }
        if !bytes.is_empty() {
            self.keep_alive.heard(now);
        }
        self.receive_frames(now, &mut bytes).inspect_err(|error| {
            self.lose(LostReason::Protocol(*error));
            let words = match error {
                ProtocolError::Frame(cause) => cause.to_string(),
                error => error.to_string(),
            };
            self.urgent.push_back(farewell(goodbye::VIOLATION, &words));
        })
    }

    /// The connection has ended or failed.
    pub fn transport_closed(&mut self) {
        let agreed = self.goodbye_said && self.goodbye_heard && self.streams.is_empty();
        self.lose(if agreed { LostReason::Finished } else { LostReason::Cut });
    }

    /// Does what is due at `now`; early calls do nothing.
    pub fn expire(&mut self, now: Instant) {
        if self.lost.is_some() {
            return;
        }
        if self.peer.is_none() && now >= self.hello_deadline {
            return self.lose(LostReason::NoHello);
        }
        match self.keep_alive.expire(now) {
            Verdict::Alive => {}
            Verdict::SendPing(value) => self.urgent.push_back(Urgent::Ping(value)),
            Verdict::Lost => self.lose(LostReason::Silence),
        }
    }

    // In, from the callers.

    /// Adds to the body of a stream. Takes all of `bytes` or none: at most [`writable`](Self::writable).
    /// `end`: the body is complete.
    pub fn send(&mut self, now: Instant, stream: StreamId, bytes: Bytes, end: bool) -> Result<(), SendError> {
        let limit = self.config.stream_queue;
        let state = self.streams.get_mut(&stream).filter(|state| !state.is_cancelled());
        let state = state.ok_or(SendError::Closed)?;
        match state.sending {
            Sending::NoHead => return Err(SendError::NoHead),
            Sending::HeadWaits(_) | Sending::Body if !state.queue.has_ended() => {}
            _ => return Err(SendError::Ended),
        }
        if bytes.len() > state.writable(limit) {
            state.wants_room = true;
            return Err(SendError::Full);
        }
        state.queue.push(bytes, end);
        state.wants_room = !end && state.writable(limit) == 0;
        self.take_turn(stream);
        self.probe_if_quiet(now);
        Ok(())
    }

    /// Bytes that [`send`](Self::send) would take now; 0 for a stream that is closed, ended or not answered.
    pub fn writable(&self, stream: StreamId) -> usize {
        self.streams.get(&stream).map_or(0, |state| state.writable(self.config.stream_queue))
    }

    /// The caller is done with `length` bytes of [`Event::Data`]; the peer may send as many more. Counts
    /// no more than was received, and nothing on a closed stream. Returns whether the peer is to be told now.
    pub fn consumed(&mut self, stream: StreamId, length: usize) -> bool {
        let Some(state) = self.streams.get_mut(&stream) else { return false };
        state.receive_credit.consume(length);
        let is_due = state.owes_credit();
        if is_due {
            self.make_urgent(stream);
        }
        is_due
    }

    /// Gives up a stream in both directions. What waits to be sent is dropped, also an end; no event of the stream
    /// follows. Nothing happens to a stream that is closed. Returns whether the peer is to be told now.
    ///
    /// A connector that answered before the request had ended and wants no more of it should not reset, which could drop
    /// the answer, but stop consuming: the gateway, having the whole answer, resets.
    pub fn reset(&mut self, stream: StreamId, code: u32) -> bool {
        let Some(state) = self.streams.get_mut(&stream) else { return false };
        if state.is_cancelled() {
            return false;
        }
        let unknown_to_peer =
            matches!(state.sending, Sending::HeadWaits(_)) && state.receiving == Receiving::NoHead;
        if unknown_to_peer {
            self.remove(stream);
        } else {
            self.cancel(stream, code);
        }
        // Events drained from now on would surprise a caller that has let go.
        self.events.retain(|event| !concerns(event, stream));
        !unknown_to_peer
    }

    /// Sends a control message of at least one byte.
    pub fn send_control(&mut self, message: Bytes) -> Result<(), ControlError> {
        if self.lost.is_some() {
            return Err(ControlError::Closed);
        }
        if message.is_empty() {
            return Err(ControlError::Empty);
        }
        if message.len() > self.config.control_queue.saturating_sub(self.control_out.len()) {
            return Err(ControlError::Full);
        }
        let is_first = self.control_out.is_empty();
        self.control_out.push(message);
        if is_first {
            self.rings.push(Turn::Control, self.control_out.is_short());
        }
        Ok(())
    }

    /// Wants no new streams from now on; open ones finish. The connection may be closed when
    /// [`is_idle`](Self::is_idle). Only the first call counts. `text` is for the peer's log: cut to 256 bytes,
    /// control characters become spaces. For `code` see [`goodbye`](mod@crate::goodbye).
    pub fn goodbye(&mut self, code: u32, text: &str) {
        if self.lost.is_none() && !self.goodbye_said {
            self.goodbye_said = true;
            self.urgent.push_back(farewell(code, text));
        }
    }

    // Out.

    /// When [`expire`](Self::expire) is due; `None` once the tunnel is lost.
    pub fn next_deadline(&self) -> Option<Instant> {
        let alive = self.keep_alive.deadline();
        match (self.lost, self.peer) {
            (Some(_), _) => None,
            (None, Some(_)) => Some(alive),
            (None, None) => Some(alive.min(self.hello_deadline)),
        }
    }

    /// What happened, in order. To be drained after each `&mut` call, [`next_bytes`](Self::next_bytes) included;
    /// only that bounds the queue.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Appends frames to `out` until it holds [`Config::output`] bytes or nothing waits, and returns how many
    /// were added. What is still in `out` from before counts, so the driver can call this while a write
    /// is under way. Frames handed out cannot be taken back.
    pub fn next_bytes(&mut self, out: &mut impl Output) -> usize {
        let before = out.length();
        while out.length() < self.config.output
            && let Some(entry) = self.urgent.pop_front()
        {
            self.write_urgent(entry, out.tail());
        }
        while out.length() < self.config.output
            && let Some(turn) = self.rings.next()
        {
            let start = out.length();
            match turn {
                Turn::Control => self.write_control(out.tail()),
                Turn::Stream(stream) => self.write_data(stream, out),
            }
            self.rings.wrote(out.length() - start);
        }
        out.length() - before
    }

    /// Whether closing the connection now, with all bytes written, would lose nothing: no stream is open, nothing waits,
    /// and a goodbye of this side was answered. Also when the tunnel is lost.
    pub fn is_idle(&self) -> bool {
        let still = self.streams.is_empty() && self.urgent.is_empty() && self.rings.is_empty();
        self.lost.is_some() || (still && (!self.goodbye_said || self.goodbye_heard))
    }

    /// Whether a goodbye was said or heard.
    pub fn is_draining(&self) -> bool {
        self.goodbye_said || self.goodbye_heard
    }

    /// Why the tunnel is over, if it is.
    pub fn lost(&self) -> Option<LostReason> {
        self.lost
    }

    /// Streams that are open, those included whose reset the peer has yet to agree to.
    pub fn open_streams(&self) -> usize {
        self.streams.len()
    }

    // State.

    /// Has the stream's small frames written before all data.
    pub(crate) fn make_urgent(&mut self, stream: StreamId) {
        if let Some(state) = self.streams.get_mut(&stream)
            && !std::mem::replace(&mut state.is_urgent, true)
        {
            self.urgent.push_back(Urgent::Stream(stream));
        }
    }

    /// Puts the stream in a ring when it has data that may go.
    pub(crate) fn take_turn(&mut self, stream: StreamId) {
        if let Some(state) = self.streams.get_mut(&stream)
            && state.next_length().is_some()
            && !std::mem::replace(&mut state.has_turn, true)
        {
            self.rings.push(Turn::Stream(stream), state.fast_left > 0);
        }
    }

    pub(crate) fn wake_sender(&mut self, stream: StreamId) {
        if let Some(state) = self.streams.get_mut(&stream)
            && state.wants_room
            && state.writable(self.config.stream_queue) >= WORTH_WAKING
        {
            state.wants_room = false;
            self.events.push_back(Event::Writable(stream));
        }
    }

    /// Sends a dead-looking tunnel a ping along with what the caller sends.
    pub(crate) fn probe_if_quiet(&mut self, now: Instant) {
        if let Some(value) = self.keep_alive.about_to_send(now) {
            self.urgent.push_back(Urgent::Ping(value));
        }
    }

    /// Drops what waits, and has a Reset written.
    pub(crate) fn cancel(&mut self, stream: StreamId, code: u32) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        state.cancel = Cancel::Due(code);
        state.queue = SendQueue::default();
        if let Sending::HeadWaits(_) = state.sending {
            state.sending = Sending::NoHead;
        }
        self.make_urgent(stream);
    }

    /// Forgets the stream if both sides have said their last.
    pub(crate) fn settle(&mut self, stream: StreamId) {
        if self.streams.get(&stream).is_some_and(Stream::is_over) {
            self.remove(stream);
        }
    }

    fn remove(&mut self, stream: StreamId) {
        let Some(state) = self.streams.remove(&stream) else { return };
        if state.is_urgent {
            self.urgent.retain(|entry| !matches!(entry, Urgent::Stream(id) if *id == stream));
        }
        if state.has_turn {
            self.rings.remove(stream);
        }
    }

    /// Ends the tunnel. The first reason counts.
    fn lose(&mut self, reason: LostReason) {
        if self.lost.is_some() {
            return;
        }
        self.lost = Some(reason);
        self.streams = StreamMap::default();
        self.rings = Rings::default();
        self.control_out = ControlQueue::default();
        self.control_in = BytesMut::new();
        // A Hello that is not yet written goes before the farewell.
        self.urgent.retain(|entry| matches!(entry, Urgent::Hello));
        self.events.push_back(Event::Lost(reason));
    }
}

fn concerns(event: &Event, of: StreamId) -> bool {
    match event {
        Event::Head { stream, .. }
        | Event::Data { stream, .. }
        | Event::Reset { stream, .. }
        | Event::Writable(stream) => *stream == of,
        Event::Hello(_) | Event::Control(_) | Event::Goodbye { .. } | Event::Lost(_) => false,
    }
}

/// A Goodbye whose text the peer's decoder takes.
fn farewell(code: u32, words: &str) -> Urgent {
    let mut text = String::new();
    for c in words.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if text.len() + c.len_utf8() > MAX_GOODBYE_TEXT {
            break;
        }
        text.push(c);
    }
    Urgent::Goodbye { code, text }
}
