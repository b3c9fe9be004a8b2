//! A gateway and a connector side, the two pipes between them, and a virtual clock.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tunnel::{Config, ConnectorSide, Event, GatewaySide, ProtocolError, StreamId};

/// Body bytes repeat with this period, which is prime to every size in the protocol: a lost, doubled or
/// swapped piece shows.
const PERIOD: usize = 251;

/// `length` bytes of a body from `offset` on.
pub(crate) fn body(offset: usize, length: usize) -> Bytes {
    static PATTERN: LazyLock<Bytes> =
        LazyLock::new(|| (0..16 << 20).map(|at: usize| u8::try_from(at % PERIOD).unwrap()).collect());
    let start = offset % PERIOD;
    PATTERN.slice(start..start + length)
}

/// One direction of the connection.
#[derive(Default)]
pub(crate) struct Pipe {
    pub(crate) bytes: BytesMut,
    /// Everything that was ever written.
    pub(crate) record: Vec<u8>,
    /// What is written goes nowhere, and nothing arrives.
    pub(crate) is_dead: bool,
}

impl Pipe {
    fn write(&mut self, next_bytes: impl FnOnce(&mut BytesMut) -> usize) -> usize {
        let mut out = BytesMut::new();
        let length = next_bytes(&mut out);
        assert_eq!(length, out.len());
        if !self.is_dead {
            self.record.extend_from_slice(&out);
            self.bytes.unsplit(out);
        }
        length
    }

    fn read(&mut self, at_most: usize) -> BytesMut {
        if self.is_dead { BytesMut::new() } else { self.bytes.split_to(at_most.min(self.bytes.len())) }
    }
}

pub(crate) struct Pair {
    pub(crate) now: Instant,
    pub(crate) gateway: GatewaySide,
    pub(crate) connector: ConnectorSide,
    pub(crate) up: Pipe,
    pub(crate) down: Pipe,
}

impl Pair {
    pub(crate) fn new(config: Config) -> Self {
        let now = Instant::now();
        Self {
            now,
            gateway: GatewaySide::new(config.clone(), now),
            connector: ConnectorSide::new(config, now),
            up: Pipe::default(),
            down: Pipe::default(),
        }
    }

    /// Both have read the other's hello.
    pub(crate) fn introduced(config: Config) -> Self {
        let mut pair = Self::new(config);
        pair.exchange();
        assert!(matches!(pair.gateway_events()[..], [Event::Hello(_)]));
        assert!(matches!(pair.connector_events()[..], [Event::Hello(_)]));
        pair
    }

    /// One write of the gateway; what the driver does on each wake.
    pub(crate) fn write_down(&mut self) -> usize {
        self.down.write(|out| self.gateway.next_bytes(out))
    }

    pub(crate) fn write_up(&mut self) -> usize {
        self.up.write(|out| self.connector.next_bytes(out))
    }

    pub(crate) fn read_down(&mut self, at_most: usize) -> Result<(), ProtocolError> {
        let bytes = self.down.read(at_most);
        self.connector.receive_bytes(self.now, &bytes)
    }

    pub(crate) fn read_up(&mut self, at_most: usize) -> Result<(), ProtocolError> {
        let bytes = self.up.read(at_most);
        self.gateway.receive_bytes(self.now, &bytes)
    }

    /// Everything both have to say, until both are quiet. No time passes.
    pub(crate) fn exchange(&mut self) {
        while self.write_down() + self.write_up() > 0 {
            self.read_down(usize::MAX).expect("the gateway keeps to the protocol");
            self.read_up(usize::MAX).expect("the connector keeps to the protocol");
        }
    }

    pub(crate) fn gateway_events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.gateway.next_event()).collect()
    }

    pub(crate) fn connector_events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.connector.next_event()).collect()
    }

    pub(crate) fn open(&mut self, end: bool) -> StreamId {
        self.gateway.open(self.now, Bytes::from_static(b"request"), end).expect("may open")
    }

    pub(crate) fn answer(&mut self, stream: StreamId, end: bool) {
        self.connector.answer(self.now, stream, Bytes::from_static(b"answer"), end).expect("may answer");
    }

    /// Moves the clock from deadline to deadline, as a driver's timer would; a pair that talks is given
    /// what was said at each stop.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let next =
                [self.gateway.next_deadline(), self.connector.next_deadline()].into_iter().flatten().min();
            self.now = next.unwrap_or(end).clamp(self.now, end);
            self.gateway.expire(self.now);
            self.connector.expire(self.now);
            self.exchange();
            if self.now >= end {
                return;
            }
        }
    }
}

/// Frames in recorded bytes.
pub(crate) fn frames(bytes: &[u8]) -> Vec<tunnel::frame::Frame> {
    tunnel::frame::decode_all(bytes).expect("our own bytes")
}
