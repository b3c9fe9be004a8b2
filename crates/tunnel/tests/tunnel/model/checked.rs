//! An engine whose every answer is held against a [`Watch`].

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tunnel::{
    AnswerError, Config, ConnectorSide, ControlError, Event, GatewaySide, LostReason, OpenError,
    ProtocolError, SendError, StreamId,
};

use super::reading::Forbidden;
use super::watch::{WORTH_WAKING, Watch, Watched, stream_of};

#[derive(Debug)]
enum Engine {
    Gateway(GatewaySide),
    Connector(ConnectorSide),
}

/// Runs a method that both kinds have.
macro_rules! either {
    ($checked:expr, $side:ident => $call:expr) => {
        match &mut $checked.engine {
            Engine::Gateway($side) => $call,
            Engine::Connector($side) => $call,
        }
    };
}

/// One side of a tunnel, and what it must do.
#[derive(Debug)]
pub(crate) struct Checked {
    engine: Engine,
    pub(crate) watch: Watch,
}

impl Checked {
    pub(crate) fn gateway(config: &Config, now: Instant) -> Self {
        Self::new(Engine::Gateway(GatewaySide::new(config.clone(), now)), true, config, now)
    }

    pub(crate) fn connector(config: &Config, now: Instant) -> Self {
        Self::new(Engine::Connector(ConnectorSide::new(config.clone(), now)), false, config, now)
    }

    /// `config` must be within its bounds, so that what the engine makes of it is known.
    fn new(engine: Engine, is_gateway: bool, config: &Config, now: Instant) -> Self {
        let granted = tunnel::Hello {
            max_streams: config.max_streams,
            stream_credit: config.stream_credit,
            max_head: config.max_head,
        };
        Self { engine, watch: Watch::new(is_gateway, config.clone(), granted, now) }
    }

    // From the connection.

    /// Whether the side took them.
    pub(crate) fn receive(&mut self, now: Instant, bytes: &[u8]) -> bool {
        let outcome = either!(self, side => side.receive_bytes(now, bytes));
        if let Some(lost) = self.watch.lost {
            let expected = if let LostReason::Protocol(error) = lost { Err(error) } else { Ok(()) };
            assert_eq!(outcome, expected);
            return outcome.is_ok();
        }
        if !bytes.is_empty() {
            self.watch.last_heard = now;
        }
        let expected = self.watch.read(bytes);
        let patience = self.patience(now);
        match (outcome, expected) {
            (Ok(()), expected) => {
                assert_eq!(expected, Ok(()), "the page forbids it");
                assert!(self.watch.nuisances <= patience, "patience without end");
            }
            (Err(ProtocolError::Nuisance), _) => {
                assert!(self.watch.nuisances > u64::from(self.watch.config.nuisance_burst), "no patience");
                self.watch.may_end_early = true;
            }
            (Err(ProtocolError::Frame(_)), expected) => assert_eq!(expected, Err(Forbidden::NoFrame)),
            (Err(error), expected) => assert_eq!(expected, Err(Forbidden::Rule(error))),
        }
        if let Err(error) = outcome {
            self.watch.lose(LostReason::Protocol(error));
        }
        self.check();
        outcome.is_ok()
    }

    /// Nuisances that nobody may have been allowed by now.
    fn patience(&self, now: Instant) -> u64 {
        let config = &self.watch.config;
        let passed = u64::try_from((now - self.watch.started).as_millis()).expect("not that long");
        u64::from(config.nuisance_burst) + passed * u64::from(config.nuisance_per_second) / 1000
    }

    pub(crate) fn transport_closed(&mut self) {
        either!(self, side => side.transport_closed());
        let watch = &self.watch;
        let agreed = watch.goodbye_said && watch.goodbye_heard && watch.streams.is_empty();
        self.watch.lose(if agreed { LostReason::Finished } else { LostReason::Cut });
        self.check();
    }

    pub(crate) fn expire(&mut self, now: Instant) {
        let due = self.next_deadline().is_some_and(|deadline| now >= deadline);
        either!(self, side => side.expire(now));
        let lost = either!(self, side => side.lost());
        let watch = &mut self.watch;
        let silence = now - watch.last_heard;
        if watch.lost.is_none() {
            let without_hello = watch.peer.is_none() && now - watch.started >= watch.config.hello_timeout;
            match lost {
                Some(reason @ LostReason::NoHello) => {
                    assert!(without_hello);
                    watch.lose(reason);
                }
                Some(reason @ LostReason::Silence) => {
                    assert!(silence >= watch.config.answer_timeout && watch.unanswered.is_some());
                    watch.lose(reason);
                }
                Some(reason) => panic!("lost while time passed: {reason:?}"),
                None => {
                    assert!(!without_hello, "a peer without a hello is kept");
                    if due {
                        watch.make_ping();
                    }
                }
            }
        }
        assert!(self.next_deadline().is_none_or(|deadline| deadline > now), "a timer that spins");
        self.check();
    }

    // From the callers.

    pub(crate) fn open(&mut self, now: Instant, head: &Bytes, end: bool) -> Result<StreamId, OpenError> {
        let Engine::Gateway(side) = &mut self.engine else { panic!("a connector opens nothing") };
        let outcome = side.open(now, head.clone(), end);
        let watch = &mut self.watch;
        let expected = match watch.peer {
            _ if watch.lost.is_some() => Err(OpenError::Closed),
            _ if watch.goodbye_said || watch.goodbye_heard => Err(OpenError::Draining),
            None => Err(OpenError::NotReady),
            Some(peer) if head.len() > peer.max_head as usize => Err(OpenError::HeadTooLarge),
            Some(_) if watch.capacity() == 0 => Err(OpenError::TooManyStreams),
            Some(peer) => {
                watch.highest += 1;
                let stream = StreamId::new(watch.highest).expect("not 0");
                let fresh = Watched::new(peer, watch.granted);
                let state = Watched { head: Some(head.clone()), end_given: end, ..fresh };
                watch.streams.insert(stream, state);
                watch.probe_if_quiet(now);
                Ok(stream)
            }
        };
        assert_eq!(outcome, expected);
        self.check();
        outcome
    }

    pub(crate) fn answer(
        &mut self,
        now: Instant,
        stream: StreamId,
        head: &Bytes,
        end: bool,
    ) -> Result<(), AnswerError> {
        let Engine::Connector(side) = &mut self.engine else { panic!("a gateway answers nothing") };
        let outcome = side.answer(now, stream, head.clone(), end);
        let most = self.watch.peer.map_or(0, |peer| peer.max_head as usize);
        let state = self.watch.streams.get_mut(&stream).filter(|state| !state.given_up);
        let expected = match state {
            None => Err(AnswerError::Closed),
            Some(state) if state.head.is_some() || state.head_written => Err(AnswerError::AlreadyAnswered),
            Some(_) if head.len() > most => Err(AnswerError::HeadTooLarge),
            Some(state) => {
                state.head = Some(head.clone());
                state.end_given = end;
                self.watch.probe_if_quiet(now);
                Ok(())
            }
        };
        assert_eq!(outcome, expected);
        self.check();
        outcome
    }

    /// Sends the next `length` bytes of the stream's body.
    pub(crate) fn send(
        &mut self,
        now: Instant,
        stream: StreamId,
        length: usize,
        end: bool,
    ) -> Result<(), SendError> {
        let room = self.writable(stream);
        let sent = self.watch.streams.get(&stream).map_or(0, |state| state.sent);
        let bytes = super::watch::body(stream, self.watch.is_gateway, sent, length);
        let outcome = either!(self, side => side.send(now, stream, bytes, end));
        let queue = self.watch.config.stream_queue;
        let state = self.watch.streams.get_mut(&stream).filter(|state| !state.given_up);
        let expected = match state {
            None => Err(SendError::Closed),
            Some(state) if !state.head_written && state.head.is_none() => Err(SendError::NoHead),
            Some(state) if state.end_given => Err(SendError::Ended),
            Some(state) if length > room => {
                // Where there is room to be told of, the caller can see it for itself.
                state.wants_room |= room < WORTH_WAKING;
                Err(SendError::Full)
            }
            Some(state) => {
                state.sent += length;
                state.end_given = end;
                assert!(state.sent - state.written <= queue.min(state.may_spend), "more waits than may");
                state.wants_room = false;
                self.watch.probe_if_quiet(now);
                Ok(())
            }
        };
        assert_eq!(outcome, expected);
        if outcome.is_ok() && !end && self.writable(stream) == 0 {
            self.watch.streams.get_mut(&stream).expect("it was sent on").wants_room = true;
        }
        self.check();
        outcome
    }

    pub(crate) fn writable(&mut self, stream: StreamId) -> usize {
        let room = either!(self, side => side.writable(stream));
        let state = self.watch.streams.get(&stream);
        let open = state.filter(|s| !s.given_up && !s.end_given && (s.head.is_some() || s.head_written));
        match open {
            None => assert_eq!(room, 0, "{stream} is not open for sending"),
            Some(state) => {
                let waiting = state.sent - state.written;
                assert!(room <= state.may_spend.saturating_sub(waiting), "more than the credit");
                assert!(room + waiting <= self.watch.config.stream_queue, "more than the queue");
                if waiting == 0 {
                    assert_eq!(room, state.may_spend.min(self.watch.config.stream_queue));
                }
            }
        }
        room
    }

    pub(crate) fn consumed(&mut self, stream: StreamId, length: usize) {
        either!(self, side => side.consumed(stream, length));
        if let Some(state) = self.watch.streams.get_mut(&stream) {
            state.held -= length.min(state.held);
        }
        self.check();
    }

    pub(crate) fn reset(&mut self, stream: StreamId, code: u32) {
        either!(self, side => side.reset(stream, code));
        let watch = &mut self.watch;
        if let Some(state) = watch.streams.get_mut(&stream).filter(|state| !state.given_up) {
            if watch.is_gateway && state.head.is_some() && !state.head_read {
                watch.streams.remove(&stream);
            } else {
                state.given_up = true;
                state.reset_due = Some(code);
                state.head = None;
            }
            watch.expected.retain(|event| stream_of(event) != Some(stream));
        }
        self.check();
    }

    pub(crate) fn send_control(&mut self, message: &Bytes) -> Result<(), ControlError> {
        let outcome = either!(self, side => side.send_control(message.clone()));
        let waiting: usize = self.watch.control_out.iter().map(Bytes::len).sum();
        let expected = match () {
            () if self.watch.lost.is_some() => Err(ControlError::Closed),
            () if message.is_empty() => Err(ControlError::Empty),
            () if waiting + message.len() > self.watch.config.control_queue => Err(ControlError::Full),
            () => {
                self.watch.control_out.push_back(message.clone());
                Ok(())
            }
        };
        assert_eq!(outcome, expected);
        self.check();
        outcome
    }

    pub(crate) fn goodbye(&mut self, code: u32, text: &str) {
        either!(self, side => side.goodbye(code, text));
        self.watch.say_goodbye(code);
        self.check();
    }

    // Out.

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        match &self.engine {
            Engine::Gateway(side) => side.next_deadline(),
            Engine::Connector(side) => side.next_deadline(),
        }
    }

    /// The next event, which is the one that was to come.
    pub(crate) fn next_event(&mut self) -> Option<Event> {
        let event = either!(self, side => side.next_event());
        let watch = &mut self.watch;
        match &event {
            Some(Event::Writable(stream)) => {
                assert!(!watch.loss_heard);
                if let Some(state) = watch.streams.get_mut(stream) {
                    assert!(!state.given_up || !watch.expected.is_empty(), "{stream} is closed");
                    state.wants_room = false;
                }
            }
            Some(event @ Event::Lost(_)) => {
                if watch.may_end_early {
                    watch.expected.clear();
                } else {
                    assert_eq!(watch.expected.pop_front().as_ref(), Some(event));
                }
                assert!(!std::mem::replace(&mut watch.loss_heard, true), "lost once");
            }
            Some(event) => assert_eq!(watch.expected.pop_front().as_ref(), Some(event)),
            None => {
                assert!(watch.expected.is_empty(), "not told: {:?}", watch.expected);
                self.check_wakes();
            }
        }
        event
    }

    /// Nobody who found no room is left asleep.
    fn check_wakes(&mut self) {
        let sleepers: Vec<_> = self.watch.streams.iter().filter(|(_, state)| state.wants_room).collect();
        let sleepers: Vec<_> = sleepers.into_iter().map(|(stream, _)| *stream).collect();
        for stream in sleepers {
            let room = self.writable(stream);
            assert!(room < WORTH_WAKING, "{stream} has room for {room} and nobody says so");
        }
    }

    pub(crate) fn next_bytes(&mut self, out: &mut BytesMut) -> usize {
        let before = out.len();
        let length = either!(self, side => side.next_bytes(out));
        assert_eq!(length, out.len() - before);
        assert!(length == 0 || out.len() < self.watch.config.output + 65_536 + 64, "one write is bounded");
        self.watch.wrote(&out[before..]);
        if out.len() < self.watch.config.output {
            assert!(!self.watch.has_to_write(), "kept back: {:?}", self.watch);
        }
        self.check();
        length
    }

    pub(crate) fn is_idle(&self) -> bool {
        match &self.engine {
            Engine::Gateway(side) => side.is_idle(),
            Engine::Connector(side) => side.is_idle(),
        }
    }

    /// What holds between any two calls.
    fn check(&mut self) {
        self.watch.note_ready();
        let watch = &self.watch;
        let (open, lost, draining) =
            either!(self, side => (side.open_streams(), side.lost(), side.is_draining()));
        assert_eq!(lost, watch.lost);
        assert_eq!(open, watch.streams.len(), "as many streams as both have not ended");
        assert!(open <= watch.granted.max_streams as usize);
        assert!(draining == (watch.goodbye_said || watch.goodbye_heard) || watch.may_end_early);
        assert_eq!(self.next_deadline().is_none(), watch.lost.is_some());
        let agreed = !watch.goodbye_said || watch.goodbye_heard;
        let idle = watch.lost.is_some() || (watch.streams.is_empty() && !watch.has_to_write() && agreed);
        assert_eq!(self.is_idle(), idle);
        if let Engine::Gateway(side) = &self.engine {
            assert_eq!(side.capacity(), watch.capacity());
        }
        for (stream, state) in &watch.streams {
            let whole = watch.granted.stream_credit as usize;
            assert!(state.held + state.peer_may_spend <= whole, "{stream} holds more than was granted");
        }
    }
}

/// How long a peer may be silent before a side with this configuration has given it up, if its driver
/// calls `expire` when asked.
pub(crate) fn longest_silence(config: &Config) -> Duration {
    config.idle + config.answer_timeout
}
