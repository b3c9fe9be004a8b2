//! Random schedules: whatever the order of writes, reads, chunk sizes, resets and waits, everything
//! sent arrives whole and in order, and nothing is left behind.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use tunnel::{Config, Event, SendError, StreamId};

use crate::pair::{Pair, body};

/// One step. Numbers choose among what is there, so that every step can do something.
#[derive(Debug, Clone)]
enum Step {
    Open { head: usize, end: bool },
    Answer { pick: usize, end: bool },
    Send { from: End, pick: usize, length: usize, end: bool },
    Consume { at: End, pick: usize, length: usize },
    Reset { from: End, pick: usize },
    Control { from: End, length: usize },
    Write(End),
    Read { at: End, length: usize },
    Wait(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Gateway,
    Connector,
}

fn any_end() -> impl Strategy<Value = End> {
    prop_oneof![Just(End::Gateway), Just(End::Connector)]
}

fn any_step() -> impl Strategy<Value = Step> {
    let pick = any::<usize>;
    let ends = || prop::bool::weighted(0.2);
    prop_oneof![
        2 => (0_usize..2000, ends()).prop_map(|(head, end)| Step::Open { head, end }),
        2 => (pick(), ends()).prop_map(|(pick, end)| Step::Answer { pick, end }),
        6 => (any_end(), pick(), prop_oneof![0_usize..300, 0_usize..300_000], ends())
            .prop_map(|(from, pick, length, end)| Step::Send { from, pick, length, end }),
        3 => (any_end(), pick(), 0_usize..1_000_000)
            .prop_map(|(at, pick, length)| Step::Consume { at, pick, length }),
        1 => (any_end(), pick()).prop_map(|(from, pick)| Step::Reset { from, pick }),
        1 => (any_end(), 1_usize..100_000).prop_map(|(from, length)| Step::Control { from, length }),
        4 => any_end().prop_map(Step::Write),
        6 => (any_end(), prop_oneof![0_usize..20, 0_usize..600_000])
            .prop_map(|(at, length)| Step::Read { at, length }),
        1 => (0_u64..2000).prop_map(Step::Wait),
    ]
}

/// What one end's caller knows of a stream.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "a plain record for comparison, no state machine")]
struct Known {
    /// May send: a gateway at once, a connector when it has answered.
    has_head: bool,
    sent: usize,
    sent_end: bool,
    got_head: bool,
    received: usize,
    received_end: bool,
    held: usize,
}

#[derive(Debug, Default)]
struct Caller {
    streams: BTreeMap<StreamId, Known>,
    control_sent: Vec<usize>,
    control_received: Vec<usize>,
}

struct World {
    pair: Pair,
    gateway: Caller,
    connector: Caller,
    /// Given up by either end.
    reset: HashSet<StreamId>,
}

/// Runs a method that both sides have.
macro_rules! side {
    ($world:expr, $end:expr, $side:ident => $call:expr) => {
        match $end {
            End::Gateway => {
                let $side = &mut $world.pair.gateway;
                $call
            }
            End::Connector => {
                let $side = &mut $world.pair.connector;
                $call
            }
        }
    };
}

impl World {
    fn new() -> Self {
        // A slow reader must not look like a dead one here: the end of the test waits for nobody.
        let config = Config { max_streams: 6, answer_timeout: Duration::from_hours(1), ..Config::default() };
        Self {
            pair: Pair::introduced(config),
            gateway: Caller::default(),
            connector: Caller::default(),
            reset: HashSet::new(),
        }
    }

    fn caller(&mut self, end: End) -> &mut Caller {
        match end {
            End::Gateway => &mut self.gateway,
            End::Connector => &mut self.connector,
        }
    }

    fn pick(&mut self, end: End, pick: usize) -> Option<StreamId> {
        let streams = &self.caller(end).streams;
        streams.keys().nth(pick % streams.len().max(1)).copied()
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Open { head, end } => {
                if let Ok(stream) = self.pair.gateway.open(self.pair.now, body(0, head), end) {
                    let known = Known { has_head: true, sent_end: end, ..Known::default() };
                    self.gateway.streams.insert(stream, known);
                }
            }
            Step::Answer { pick, end } => {
                if let Some(stream) = self.pick(End::Connector, pick) {
                    self.answer(stream, end);
                }
            }
            Step::Send { from, pick, length, end } => {
                if let Some(stream) = self.pick(from, pick) {
                    self.send(from, stream, length, end);
                }
            }
            Step::Consume { at, pick, length } => {
                if let Some(stream) = self.pick(at, pick) {
                    self.consume(at, stream, length);
                }
            }
            Step::Reset { from, pick } => {
                if let Some(stream) = self.pick(from, pick) {
                    self.caller(from).streams.remove(&stream);
                    side!(self, from, side => side.reset(stream, 1));
                    self.reset.insert(stream);
                }
            }
            Step::Control { from, length } => {
                side!(self, from, side => side.send_control(body(0, length))).expect("there is room");
                self.caller(from).control_sent.push(length);
            }
            Step::Write(End::Gateway) => {
                self.pair.write_down();
            }
            Step::Write(End::Connector) => {
                self.pair.write_up();
            }
            Step::Read { at: End::Connector, length } => {
                self.pair.read_down(length).expect("keeps the protocol");
            }
            Step::Read { at: End::Gateway, length } => {
                self.pair.read_up(length).expect("keeps the protocol");
            }
            Step::Wait(milliseconds) => {
                self.pair.now += Duration::from_millis(milliseconds);
                self.pair.gateway.expire(self.pair.now);
                self.pair.connector.expire(self.pair.now);
            }
        }
        self.hear(End::Gateway);
        self.hear(End::Connector);
    }

    fn answer(&mut self, stream: StreamId, end: bool) {
        let known = self.connector.streams.get_mut(&stream).expect("picked from there");
        if !std::mem::replace(&mut known.has_head, true) {
            known.sent_end = end;
            self.pair
                .connector
                .answer(self.pair.now, stream, Bytes::new(), end)
                .expect("not answered before");
        }
    }

    fn send(&mut self, from: End, stream: StreamId, length: usize, end: bool) {
        let now = self.pair.now;
        let known = self.caller(from).streams.get(&stream).expect("picked from there");
        let (sent, ended, has_head) = (known.sent, known.sent_end, known.has_head);
        let writable = side!(self, from, side => side.writable(stream));
        let expected = match () {
            () if !has_head => Err(SendError::NoHead),
            () if ended => Err(SendError::Ended),
            () if length > writable => Err(SendError::Full),
            () => Ok(()),
        };
        let outcome = side!(self, from, side => side.send(now, stream, body(sent, length), end));
        // A stream both of whose directions ended is forgotten by the engine, not by this caller.
        if ended && has_head {
            assert!(matches!(outcome, Err(SendError::Ended | SendError::Closed)));
        } else {
            assert_eq!(outcome, expected);
        }
        if outcome.is_ok() {
            let known = self.caller(from).streams.get_mut(&stream).expect("as above");
            known.sent += length;
            known.sent_end = end;
        }
    }

    fn consume(&mut self, at: End, stream: StreamId, length: usize) {
        let known = self.caller(at).streams.get_mut(&stream).expect("picked from there");
        let length = length.min(known.held);
        known.held -= length;
        side!(self, at, side => side.consumed(stream, length));
    }

    /// Takes the events of one end, and holds what arrives against what is to come.
    fn hear(&mut self, end: End) {
        while let Some(event) = side!(self, end, side => side.next_event()) {
            let caller = self.caller(end);
            match event {
                Event::Head { stream, end: ends, .. } => {
                    if end == End::Connector {
                        let known = Known::default();
                        assert!(caller.streams.insert(stream, known).is_none(), "{stream} opened twice");
                    }
                    let known = caller.streams.get_mut(&stream).expect("not after a reset");
                    assert!(!std::mem::replace(&mut known.got_head, true), "{stream} has a second head");
                    known.received_end = ends;
                }
                Event::Data { stream, bytes, end: ends } => {
                    let known = caller.streams.get_mut(&stream).expect("not after a reset");
                    assert!(known.got_head && !known.received_end);
                    assert_eq!(bytes, body(known.received, bytes.len()), "in order");
                    known.received += bytes.len();
                    known.held += bytes.len();
                    known.received_end = ends;
                    assert!(known.held <= 1 << 20, "credit is overrun");
                }
                Event::Reset { stream, .. } => {
                    caller.streams.remove(&stream).expect("once, and not after an own reset");
                    assert!(self.reset.contains(&stream));
                }
                Event::Control(message) => {
                    assert_eq!(message, body(0, message.len()));
                    caller.control_received.push(message.len());
                }
                Event::Writable(stream) => {
                    assert!(side!(self, end, side => side.writable(stream)) >= 16 * 1024);
                }
                Event::Hello(_) | Event::Goodbye { .. } | Event::Lost(_) => panic!("{event:?}"),
            }
        }
    }

    /// Ends every body, delivers and consumes everything.
    fn finish(&mut self) {
        for _ in 0..1000 {
            self.run(&Step::Read { at: End::Gateway, length: usize::MAX });
            self.run(&Step::Read { at: End::Connector, length: usize::MAX });
            let mut is_done = true;
            for end in [End::Gateway, End::Connector] {
                let open: Vec<_> = self.caller(end).streams.keys().copied().collect();
                for stream in open {
                    self.consume(end, stream, usize::MAX);
                    let known = &self.caller(end).streams[&stream];
                    let (sent_end, received_end) = (known.sent_end, known.received_end);
                    is_done &= sent_end && received_end;
                    if end == End::Connector {
                        self.answer(stream, false);
                    }
                    if !sent_end && side!(self, end, side => side.writable(stream)) > 0 {
                        self.send(end, stream, 1, true);
                    }
                }
            }
            // The pipes were just read empty, so silence now is silence for good.
            is_done &= self.pair.write_down() + self.pair.write_up() == 0;
            if is_done {
                return;
            }
        }
        panic!("it never ends: {:?} {:?}", self.gateway, self.connector);
    }

    fn check(&self) {
        for (stream, asked) in &self.gateway.streams {
            // A stream reset at one end may have ended at the other just before.
            let Some(answered) = self.connector.streams.get(stream) else {
                assert!(self.reset.contains(stream), "{stream} is missing");
                continue;
            };
            assert_eq!(asked.sent, answered.received, "request {stream}");
            assert_eq!(answered.sent, asked.received, "answer {stream}");
        }
        assert_eq!(self.gateway.control_sent, self.connector.control_received);
        assert_eq!(self.connector.control_sent, self.gateway.control_received);
        assert_eq!(self.pair.gateway.open_streams(), 0);
        assert_eq!(self.pair.connector.open_streams(), 0);
        assert!(self.pair.gateway.is_idle() && self.pair.connector.is_idle());
        assert_eq!(self.pair.gateway.capacity(), 6);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn everything_sent_arrives_whole_and_in_order(steps in prop::collection::vec(any_step(), 0..150)) {
        let mut world = World::new();
        for step in &steps {
            world.run(step);
        }
        world.finish();
        world.check();
    }

    #[test]
    fn a_cut_at_any_moment_leaves_nothing(steps in prop::collection::vec(any_step(), 0..60)) {
        let mut world = World::new();
        for step in &steps {
            world.run(step);
        }
        world.pair.gateway.transport_closed();
        world.pair.connector.transport_closed();
        prop_assert!(matches!(world.pair.gateway_events()[..], [Event::Lost(_)]));
        prop_assert!(matches!(world.pair.connector_events()[..], [Event::Lost(_)]));
        prop_assert_eq!(world.pair.gateway.open_streams() + world.pair.connector.open_streams(), 0);
        prop_assert!(world.pair.gateway.next_deadline().is_none());
    }
}
