//! Two sides, their drivers and callers, and the connection between them: whoever is next to do a little
//! is chosen at random, as tasks wake in any order.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tunnel::{Config, Event, LostReason, SendError, StreamId, goodbye};

use super::checked::{Checked, longest_silence};
use super::choices::Choices;
use super::network::{Fate, Link};
use super::watch::body;

const MILLISECOND: Duration = Duration::from_millis(1);
const HEAD: Bytes = Bytes::from_static(&[b'h'; 3000]);
const MESSAGE: Bytes = Bytes::from_static(&[b'c'; 200_000]);

/// What a run has seen; a test asks that every kind of fate was met.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Tally {
    pub(crate) streams: usize,
    /// Ended well in both directions.
    pub(crate) whole: usize,
    pub(crate) given_up: usize,
    pub(crate) body_bytes: usize,
    pub(crate) control_messages: usize,
    /// A sender found no room.
    pub(crate) full: usize,
    pub(crate) cut: usize,
    pub(crate) silent: usize,
    pub(crate) drained: usize,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.streams += other.streams;
        self.whole += other.whole;
        self.given_up += other.given_up;
        self.body_bytes += other.body_bytes;
        self.control_messages += other.control_messages;
        self.full += other.full;
        self.cut += other.cut;
        self.silent += other.silent;
        self.drained += other.drained;
    }
}

/// Runs one schedule of at most `steps` steps to its end.
pub(crate) fn run(choices: &mut Choices<'_>, steps: usize) -> Tally {
    let mut world = World::new(choices);
    for _ in 0..steps {
        if choices.is_spent() || world.is_over() {
            break;
        }
        world.step(choices);
    }
    world.finish()
}

/// One end: the engine, its driver's write under way, and its callers.
struct End {
    side: Checked,
    config: Config,
    out: BytesMut,
    callers: BTreeMap<StreamId, Caller>,
    /// Lengths of control messages, sent and received.
    told: Vec<usize>,
    heard: Vec<usize>,
    lost: Option<LostReason>,
}

/// What the task of one stream knows at one end.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "notes for comparison, no state machine")]
struct Caller {
    may_send: bool,
    sent: usize,
    sent_end: bool,
    got_head: bool,
    received: usize,
    received_end: bool,
    held: usize,
    given_up: bool,
}

struct World {
    now: Instant,
    /// The gateway's end, then the connector's.
    ends: [End; 2],
    /// What each of them writes into.
    links: [Link; 2],
    tally: Tally,
}

fn config(choices: &mut Choices<'_>, max_streams: u32) -> Config {
    let time = |choices: &mut Choices<'_>| MILLISECOND * [10, 300, 5000, 3_600_000][choices.below(4)];
    Config {
        max_streams,
        stream_credit: [1 << 20, (1 << 20) + 1, 3 << 20][choices.below(3)],
        max_head: [1024, 3000, 65_536][choices.below(3)],
        max_control: 300_000,
        control_queue: [65_536, 300_000][choices.below(2)],
        stream_queue: [65_536, 65_537, 262_144, 2 << 20][choices.below(4)],
        output: [65_536, 262_144][choices.below(2)],
        idle: time(choices),
        // A slow schedule is mostly not to look like a dead peer.
        answer_timeout: if choices.one_in(4) { time(choices) } else { Duration::from_hours(1) },
        hello_timeout: Duration::from_hours(1),
        ..Config::default()
    }
}

impl End {
    fn new(side: Checked, config: Config) -> Self {
        Self {
            side,
            config,
            out: BytesMut::new(),
            callers: BTreeMap::new(),
            told: Vec::new(),
            heard: Vec::new(),
            lost: None,
        }
    }

    fn streams(&self, of: impl Fn(&Caller) -> bool) -> Vec<StreamId> {
        self.callers.iter().filter(|(_, caller)| of(caller)).map(|(stream, _)| *stream).collect()
    }
}

impl World {
    fn new(choices: &mut Choices<'_>) -> Self {
        let now = Instant::now();
        let most = [1, 2, 9, 40][choices.below(4)];
        let gateway = config(choices, most);
        let most = [1, 3, 40][choices.below(3)];
        let connector = config(choices, most);
        let mut link = || {
            let delay = MILLISECOND * [0, 1, 50, 1000][choices.below(4)];
            let capacity = [200, 20_000, 300_000, 4 << 20][choices.below(4)];
            // Mostly within the first bytes, where most of a session's kinds are.
            let break_at = |choices: &mut Choices<'_>| {
                if choices.one_in(2) { choices.below(300) } else { choices.below(1_000_000) }
            };
            let fate = match choices.below(8) {
                0 => Fate::IsCutAfter(break_at(choices)),
                1 => Fate::FallsSilentAfter(break_at(choices)),
                _ => Fate::Lives,
            };
            Link::new(delay, capacity, fate)
        };
        let links = [link(), link()];
        Self {
            now,
            ends: [
                End::new(Checked::gateway(&gateway, now), gateway),
                End::new(Checked::connector(&connector, now), connector),
            ],
            links,
            tally: Tally::default(),
        }
    }

    /// Somebody does a little.
    fn step(&mut self, choices: &mut Choices<'_>) {
        let at = choices.below(2);
        match choices.below(20) {
            0 | 1 => self.open(choices),
            2 | 3 => self.answer(choices),
            4..=6 => self.send(at, choices),
            7 | 8 => self.consume(at, choices),
            9 => {
                // The rarer calls.
                match choices.below(8) {
                    0..=2 => self.control(at, choices),
                    3 | 4 => self.give_up(at, choices),
                    5 => self.crowd(choices),
                    6 if choices.one_in(4) => self.ends[at].side.goodbye(goodbye::STOPPING, "so\nlong"),
                    _ => {}
                }
            }
            10..=13 => {
                let length = choices.length(600_000);
                self.write(at, length);
            }
            14..=17 => {
                let length = choices.length(600_000);
                self.read(at, length);
            }
            18 => self.hear(at),
            _ => {
                let time = [0, 1, 20, 400, 3000][choices.below(5)];
                self.pass(MILLISECOND * time, choices.below(2));
            }
        }
        // A driver that does much before it looks at what came of it.
        if !choices.one_in(4) {
            self.hear(at);
        }
        if self.links.iter().any(Link::is_cut) && choices.one_in(8) {
            self.close(at);
        }
    }

    fn open(&mut self, choices: &mut Choices<'_>) {
        let (head, end) = (HEAD.slice(..choices.length(HEAD.len())), choices.one_in(4));
        if let Ok(stream) = self.ends[0].side.open(self.now, &head, end) {
            let caller = Caller { may_send: true, sent_end: end, ..Caller::default() };
            assert!(self.ends[0].callers.insert(stream, caller).is_none(), "{stream} is used again");
            self.tally.streams += 1;
        }
    }

    /// Many devices at once, each with a little to send.
    fn crowd(&mut self, choices: &mut Choices<'_>) {
        let length = choices.length(20_000);
        for _ in 0..choices.below(20) {
            self.open(choices);
            if let Some(stream) = self.ends[0].callers.keys().next_back().copied() {
                self.send_some(0, stream, length, true);
            }
        }
    }

    fn answer(&mut self, choices: &mut Choices<'_>) {
        let unanswered = self.ends[1].streams(|caller| !caller.may_send && !caller.given_up);
        let Some(stream) = choices.pick(&unanswered) else { return };
        let (head, end) = (HEAD.slice(..choices.length(HEAD.len())), choices.one_in(4));
        self.answer_with(stream, &head, end);
    }

    fn answer_with(&mut self, stream: StreamId, head: &Bytes, end: bool) {
        if self.ends[1].side.answer(self.now, stream, head, end).is_ok() {
            let caller = self.ends[1].callers.get_mut(&stream).expect("picked from there");
            caller.may_send = true;
            caller.sent_end = end;
        }
    }

    fn send(&mut self, at: usize, choices: &mut Choices<'_>) {
        let open = self.ends[at].streams(|caller| caller.may_send && !caller.sent_end && !caller.given_up);
        let Some(stream) = choices.pick(&open) else { return };
        let room = self.ends[at].side.writable(stream);
        let length = if choices.one_in(3) { room } else { choices.length(300_000) };
        self.send_some(at, stream, length.min(1 << 20), choices.one_in(6));
    }

    fn send_some(&mut self, at: usize, stream: StreamId, length: usize, end: bool) {
        let outcome = self.ends[at].side.send(self.now, stream, length, end);
        self.tally.full += usize::from(outcome == Err(SendError::Full));
        if outcome.is_ok() {
            let caller = self.ends[at].callers.get_mut(&stream).expect("picked from there");
            caller.sent += length;
            caller.sent_end = end;
        }
    }

    fn consume(&mut self, at: usize, choices: &mut Choices<'_>) {
        let holding = self.ends[at].streams(|caller| caller.held > 0);
        let Some(stream) = choices.pick(&holding) else { return };
        let held = self.ends[at].callers[&stream].held;
        let length = if choices.one_in(2) { held } else { choices.below(held + 1) };
        self.consume_some(at, stream, length);
    }

    fn consume_some(&mut self, at: usize, stream: StreamId, length: usize) {
        self.ends[at].callers.get_mut(&stream).expect("picked from there").held -= length;
        self.ends[at].side.consumed(stream, length);
    }

    fn give_up(&mut self, at: usize, choices: &mut Choices<'_>) {
        let all = self.ends[at].streams(|_| true);
        let Some(stream) = choices.pick(&all) else { return };
        // The driver looks first at what is there for the caller that gives up.
        self.hear(at);
        // A stream that is over is not given up by saying so.
        let is_open = self.ends[at].side.watch.streams.contains_key(&stream);
        self.ends[at].side.reset(stream, 7);
        self.ends[at].callers.get_mut(&stream).expect("picked from there").given_up |= is_open;
    }

    fn control(&mut self, at: usize, choices: &mut Choices<'_>) {
        let message = MESSAGE.slice(..choices.length(MESSAGE.len()));
        if self.ends[at].side.send_control(&message).is_ok() {
            self.ends[at].told.push(message.len());
        }
    }

    /// The driver's writing half: more frames when the last are on their way, then what the line takes.
    fn write(&mut self, at: usize, at_most: usize) {
        let End { side, out, config, .. } = &mut self.ends[at];
        if out.len() < config.output {
            side.next_bytes(out);
        }
        self.links[at].write(self.now, out, at_most);
    }

    fn read(&mut self, at: usize, at_most: usize) {
        let bytes = self.links[1 - at].read(self.now, at_most);
        let is_sound = self.ends[at].side.receive(self.now, &bytes);
        assert!(is_sound, "the other side keeps to the protocol: {:?}", self.ends[at].side.watch.lost);
    }

    fn close(&mut self, at: usize) {
        self.ends[at].side.transport_closed();
        self.hear(at);
    }

    /// Time passes; the end `first` wakes before the other.
    fn pass(&mut self, time: Duration, first: usize) {
        self.now += time;
        for at in [first, 1 - first] {
            // Before its timer, what has arrived.
            self.read_all(at);
            self.ends[at].side.expire(self.now);
            self.hear(at);
        }
    }

    fn read_all(&mut self, at: usize) {
        while self.links[1 - at].next_arrival().is_some_and(|arrival| arrival <= self.now) {
            self.read(at, usize::MAX);
        }
    }

    /// The callers of one end learn what happened.
    fn hear(&mut self, at: usize) {
        let from_gateway = at == 1;
        while let Some(event) = self.ends[at].side.next_event() {
            let end = &mut self.ends[at];
            assert!(end.lost.is_none(), "nothing follows the loss: {event:?}");
            match event {
                Event::Head { stream, end: ends, .. } => {
                    if from_gateway {
                        let twice = end.callers.insert(stream, Caller::default());
                        assert!(twice.is_none(), "{stream} is used again");
                    }
                    let caller = end.callers.get_mut(&stream).expect("a stream that was opened");
                    assert!(!caller.got_head && !caller.given_up);
                    caller.got_head = true;
                    caller.received_end = ends;
                }
                Event::Data { stream, bytes, end: ends } => {
                    let caller = end.callers.get_mut(&stream).expect("a stream that was opened");
                    assert!(caller.got_head && !caller.received_end && !caller.given_up);
                    let expected = body(stream, from_gateway, caller.received, bytes.len());
                    assert!(bytes == expected, "{stream}: other bytes after {}", caller.received);
                    caller.received += bytes.len();
                    caller.held += bytes.len();
                    caller.received_end = ends;
                    self.tally.body_bytes += bytes.len();
                    assert!(caller.held <= end.config.stream_credit as usize, "credit is overrun");
                }
                Event::Reset { stream, .. } => {
                    let caller = end.callers.get_mut(&stream).expect("a stream that was opened");
                    assert!(!std::mem::replace(&mut caller.given_up, true), "told once");
                }
                Event::Control(message) => end.heard.push(message.len()),
                Event::Lost(reason) => end.lost = Some(reason),
                Event::Hello(_) | Event::Writable(_) | Event::Goodbye { .. } => {}
            }
        }
    }

    fn is_over(&self) -> bool {
        self.ends.iter().any(|end| end.lost.is_some())
    }

    /// The connection breaks as it was to, or is good from now on; then everything must come to its end.
    fn finish(mut self) -> Tally {
        for at in 0..2 {
            self.links[at].mend();
            self.hear(at);
        }
        if self.links.iter().any(Link::is_cut) {
            self.tally.cut += 1;
            self.close(0);
            self.close(1);
        } else if self.links.iter().any(Link::is_broken) && !self.is_over() {
            self.wait_for_silence_to_be_noticed();
        }
        if !self.is_over() {
            self.settle();
        }
        if !self.is_over() {
            self.compare();
            self.part();
        }
        let silent = |end: &End| end.lost == Some(LostReason::Silence);
        self.tally.silent += usize::from(self.ends.iter().any(silent));
        // Whoever has not noticed sees the connection close.
        self.close(0);
        self.close(1);
        for end in &mut self.ends {
            assert!(end.side.watch.streams.is_empty() && end.side.is_idle());
            assert!(end.side.next_deadline().is_none());
            let mut out = BytesMut::new();
            end.side.next_bytes(&mut out);
            assert!(out.len() < 400, "all that waited is dropped");
        }
        self.tally
    }

    /// A connection that has fallen silent in one direction is given up in time by who hears nothing.
    fn wait_for_silence_to_be_noticed(&mut self) {
        let started = self.now;
        let deaf = usize::from(self.links[0].is_broken());
        let longest = longest_silence(&self.ends[deaf].config) + self.links[1 - deaf].delay;
        for _ in 0..100_000 {
            if self.is_over() {
                return;
            }
            self.write(0, usize::MAX);
            self.write(1, usize::MAX);
            // Whichever timer or arrival is next.
            let timers = self.ends.iter().filter_map(|end| end.side.next_deadline());
            let next = timers.chain(self.links.iter().filter_map(Link::next_arrival)).min();
            let next = next.expect("a living side has a timer");
            assert!(next <= started + longest, "silence since {:?}", self.now - started);
            self.pass(next.saturating_duration_since(self.now), 0);
        }
        panic!("silence is never noticed");
    }

    /// Reads, consumes, answers and ends everything until nothing moves.
    fn settle(&mut self) {
        for _ in 0..20_000 {
            for at in 0..2 {
                self.read_all(at);
                self.hear(at);
                for stream in self.ends[at].streams(|caller| caller.held > 0) {
                    let held = self.ends[at].callers[&stream].held;
                    self.consume_some(at, stream, held);
                }
                if at == 1 {
                    for stream in self.ends[1].streams(|caller| !caller.may_send && !caller.given_up) {
                        self.answer_with(stream, &HEAD.slice(..10), false);
                    }
                }
                let open = |caller: &Caller| caller.may_send && !caller.sent_end && !caller.given_up;
                for stream in self.ends[at].streams(open) {
                    if self.ends[at].side.writable(stream) > 0 {
                        self.send_some(at, stream, 1, true);
                    }
                }
                self.write(at, usize::MAX);
            }
            // Pings may go on for ever.
            let [gateway, connector] = &self.ends;
            let heard = (&gateway.told, &connector.told) == (&connector.heard, &gateway.heard);
            if self.is_over() || (heard && gateway.side.is_idle() && connector.side.is_idle()) {
                return;
            }
            let arrivals = self.links.iter().filter_map(Link::next_arrival);
            let next = arrivals.min().map_or(Duration::ZERO, |next| next.saturating_duration_since(self.now));
            self.pass(next, 1);
        }
        panic!("it never ends: {:?} {:?}", self.ends[0].callers, self.ends[1].callers);
    }

    /// What each sent is what the other received, or both know that the stream was given up.
    fn compare(&mut self) {
        let [gateway, connector] = &self.ends;
        assert!(connector.callers.keys().all(|stream| gateway.callers.contains_key(stream)));
        for (stream, asked) in &gateway.callers {
            let Some(answered) = connector.callers.get(stream) else {
                assert!(asked.given_up, "{stream} never came");
                continue;
            };
            if asked.given_up || answered.given_up {
                self.tally.given_up += 1;
                // An end that had both ends of the stream keeps it; the other was told, or said so itself.
                let is_whole = |end: &Caller| end.sent_end && end.received_end;
                assert!(asked.given_up || is_whole(asked), "{stream}: {asked:?} {answered:?}");
                assert!(answered.given_up || is_whole(answered), "{stream}: {asked:?} {answered:?}");
                assert!(asked.received <= answered.sent && answered.received <= asked.sent);
            } else {
                self.tally.whole += 1;
                assert!(asked.sent_end && asked.received_end && answered.sent_end && answered.received_end);
                assert_eq!((asked.sent, answered.sent), (answered.received, asked.received), "{stream}");
            }
        }
        assert_eq!(gateway.told, connector.heard);
        assert_eq!(connector.told, gateway.heard);
        self.tally.control_messages += gateway.told.len() + connector.told.len();
    }

    /// One of both says goodbye, unless that was said; both close as agreed.
    fn part(&mut self) {
        self.ends[self.tally.streams % 2].side.goodbye(goodbye::STOPPING, "");
        self.settle();
        if self.is_over() {
            return;
        }
        self.close(0);
        self.close(1);
        assert!(self.ends.iter().all(|end| end.lost == Some(LostReason::Finished)));
        self.tally.drained += 1;
    }
}
