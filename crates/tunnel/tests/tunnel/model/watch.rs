//! What one side of a tunnel has said, heard and been asked to say, as somebody who knows only the
//! protocol's page and the documentation of the calls would note it down.

use std::collections::{BTreeMap, VecDeque};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tunnel::{Config, Event, Hello, LostReason, StreamId};

use super::page::Reader;
use super::turns::Turns;

/// What a Data frame with payload costs at least.
const LEAST_COST: usize = 256;
/// Room that a waiting caller is woken for.
pub(super) const WORTH_WAKING: usize = 16 * 1024;

pub(super) fn cost(length: usize) -> usize {
    if length == 0 { 0 } else { length.max(LEAST_COST) }
}

/// `length` bytes of the body that `stream` carries in one direction, from `offset` on. Every stream has its
/// own, with a period that is prime to every size in the protocol: a piece that is lost, doubled, swapped or
/// put into another stream shows.
pub(crate) fn body(stream: StreamId, from_gateway: bool, offset: usize, length: usize) -> Bytes {
    const PERIOD: usize = 251;
    static PATTERN: LazyLock<Bytes> =
        LazyLock::new(|| (0..2 << 20).map(|at: usize| u8::try_from(at % PERIOD).expect("small")).collect());
    let start = stream.get() as usize * 31 + if from_gateway { 0 } else { 125 };
    let start = (start + offset) % PERIOD;
    PATTERN.slice(start..start + length)
}

/// The notes about one side.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "notes of independent facts, no state machine")]
pub(crate) struct Watch {
    pub(super) is_gateway: bool,
    pub(super) config: Config,
    pub(super) granted: Hello,
    pub(super) peer: Option<Hello>,
    pub(super) started: Instant,
    pub(super) last_heard: Instant,
    pub(super) incoming: Reader,
    pub(super) outgoing: Reader,
    pub(crate) streams: BTreeMap<StreamId, Watched>,
    /// Highest id opened or seen.
    pub(super) highest: u32,
    /// Highest id in an opening Head that was written.
    pub(super) highest_written: u32,
    /// Events to come, [`Event::Writable`] apart.
    pub(super) expected: VecDeque<Event>,
    pub(super) control_in: Vec<u8>,
    /// Taken and not wholly written.
    pub(super) control_out: VecDeque<Bytes>,
    pub(super) pong_owed: Option<u64>,
    /// Made and not yet written.
    pub(super) pings_due: VecDeque<u64>,
    pub(super) unanswered: Option<u64>,
    pub(super) pings: u64,
    pub(super) hello_written: bool,
    pub(super) goodbye_due: Option<u32>,
    pub(super) goodbye_said: bool,
    pub(super) goodbye_written: bool,
    pub(super) goodbye_heard: bool,
    pub(super) farewell_written: bool,
    /// Frames that drew on the allowance.
    pub(super) nuisances: u64,
    pub(crate) lost: Option<LostReason>,
    /// The driver has been told of the loss.
    pub(super) loss_heard: bool,
    /// Lost somewhere inside the bytes read last: events end early.
    pub(super) may_end_early: bool,
    pub(super) turns: Turns,
}

/// A stream, open for this side.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "notes of independent facts, no state machine")]
pub(crate) struct Watched {
    /// Given by the caller and not yet written.
    pub(super) head: Option<Bytes>,
    pub(super) head_written: bool,
    /// The caller has ended the body.
    pub(super) end_given: bool,
    /// Bytes taken from the caller.
    pub(super) sent: usize,
    /// Bytes of them written.
    pub(super) written: usize,
    /// Credit that the peer has granted.
    pub(super) may_spend: usize,
    /// END or Reset is written.
    pub(super) done_out: bool,
    pub(super) head_read: bool,
    /// END or Reset is read.
    pub(super) done_in: bool,
    /// Credit that the peer has left.
    pub(super) peer_may_spend: usize,
    /// Bytes read and not consumed.
    pub(super) held: usize,
    /// By either side: closed for the caller.
    pub(super) given_up: bool,
    /// A Reset with this code is to be written.
    pub(super) reset_due: Option<u32>,
    /// The peer spoke of a stream that it cannot know yet.
    pub(super) was_guessed: bool,
    /// Found no room.
    pub(super) wants_room: bool,
}

impl Watched {
    pub(super) fn new(peer: Hello, granted: Hello) -> Self {
        Self {
            head: None,
            head_written: false,
            end_given: false,
            sent: 0,
            written: 0,
            may_spend: peer.stream_credit as usize,
            done_out: false,
            head_read: false,
            done_in: false,
            peer_may_spend: granted.stream_credit as usize,
            held: 0,
            given_up: false,
            reset_due: None,
            was_guessed: false,
            wants_room: false,
        }
    }

    /// Has a frame of body that may be written now.
    pub(super) fn is_ready(&self) -> bool {
        let waiting = self.sent - self.written;
        self.head_written
            && !self.done_out
            && !self.given_up
            && if waiting == 0 { self.end_given } else { self.may_spend >= LEAST_COST }
    }
}

impl Watch {
    pub(super) fn new(is_gateway: bool, config: Config, granted: Hello, now: Instant) -> Self {
        Self {
            is_gateway,
            incoming: Reader::new(granted.max_head as usize),
            outgoing: Reader::new(65_536),
            config,
            granted,
            peer: None,
            started: now,
            last_heard: now,
            streams: BTreeMap::new(),
            highest: 0,
            highest_written: 0,
            expected: VecDeque::new(),
            control_in: Vec::new(),
            control_out: VecDeque::new(),
            pong_owed: None,
            pings_due: VecDeque::new(),
            unanswered: None,
            pings: 0,
            hello_written: false,
            goodbye_due: None,
            goodbye_said: false,
            goodbye_written: false,
            goodbye_heard: false,
            farewell_written: false,
            nuisances: 0,
            lost: None,
            loss_heard: false,
            may_end_early: false,
            turns: Turns::default(),
        }
    }

    /// Takes out a stream that both sides have said their last on.
    pub(super) fn settle(&mut self, stream: StreamId) {
        if self.streams.get(&stream).is_some_and(|state| state.done_out && state.done_in) {
            self.streams.remove(&stream);
        }
    }

    pub(super) fn say_goodbye(&mut self, code: u32) {
        if self.lost.is_none() && !self.goodbye_said {
            self.goodbye_said = true;
            self.goodbye_due = Some(code);
        }
    }

    pub(super) fn make_ping(&mut self) {
        self.pings += 1;
        self.unanswered = Some(self.pings);
        self.pings_due.push_back(self.pings);
    }

    /// A caller is about to send: a tunnel that was quiet is asked for a sign of life.
    pub(super) fn probe_if_quiet(&mut self, now: Instant) {
        let quiet = Duration::from_secs(1).min(self.config.idle);
        if self.unanswered.is_none() && now - self.last_heard >= quiet {
            self.make_ping();
        }
    }

    /// The tunnel is over; all that waited is dropped.
    pub(super) fn lose(&mut self, reason: LostReason) {
        if self.lost.is_none() {
            self.lost = Some(reason);
            self.streams.clear();
            self.control_out.clear();
            self.pings_due.clear();
            self.pong_owed = None;
            self.goodbye_due = None;
            self.expected.push_back(Event::Lost(reason));
        }
    }

    /// Streams that the gateway may still open.
    pub(super) fn capacity(&self) -> usize {
        match self.peer {
            Some(peer) if self.lost.is_none() && !self.goodbye_said && !self.goodbye_heard => {
                (peer.max_streams.min(self.granted.max_streams) as usize).saturating_sub(self.streams.len())
            }
            _ => 0,
        }
    }
}

/// The stream that an event is about.
pub(super) fn stream_of(event: &Event) -> Option<StreamId> {
    match event {
        Event::Head { stream, .. }
        | Event::Data { stream, .. }
        | Event::Reset { stream, .. }
        | Event::Writable(stream) => Some(*stream),
        Event::Hello(_) | Event::Control(_) | Event::Goodbye { .. } | Event::Lost(_) => None,
    }
}
