//! Peers that do not keep to the protocol.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use tunnel::frame::{Frame, MAX_DATA};
use tunnel::{
    Config, ConnectorSide, Event, FrameError, GatewaySide, Hello, LostReason, ProtocolError, StreamId,
    goodbye,
};

use crate::pair::{Pair, body, frames};

const HELLO: Frame = Frame::Hello(Hello { max_streams: 4, stream_credit: 1 << 20, max_head: 65_536 });

fn config() -> Config {
    Config { max_streams: 4, max_control: 100_000, ..Config::default() }
}

fn id(id: u32) -> StreamId {
    StreamId::new(id).unwrap()
}

fn head(stream: u32, end: bool) -> Frame {
    Frame::Head { stream: id(stream), bytes: Bytes::from_static(b"head"), end }
}

fn data(stream: u32, length: usize, end: bool) -> Frame {
    Frame::Data { stream: id(stream), bytes: body(0, length), end }
}

fn window(stream: u32, credit: u32) -> Frame {
    Frame::Window { stream: id(stream), credit: NonZeroU32::new(credit).unwrap() }
}

fn reset(stream: u32) -> Frame {
    Frame::Reset { stream: id(stream), code: 9 }
}

fn control(length: usize, end: bool) -> Frame {
    Frame::Control { bytes: body(0, length), end }
}

fn farewell() -> Frame {
    Frame::Goodbye { last: 0, code: 0, text: String::new() }
}

fn wire(frames: &[Frame]) -> BytesMut {
    let mut out = BytesMut::new();
    for frame in frames {
        frame.encode(&mut out);
    }
    out
}

/// What a connector makes of these frames after a good hello.
fn connector_fed(frames: &[Frame]) -> Result<ConnectorSide, ProtocolError> {
    let now = Instant::now();
    let mut side = ConnectorSide::new(config(), now);
    side.receive_bytes(now, &wire(&[HELLO]))?;
    side.receive_bytes(now, &wire(frames))?;
    Ok(side)
}

/// What a gateway that has opened streams 1 and 2, the first without a body, makes of these frames.
fn gateway_fed(frames: &[Frame]) -> Result<GatewaySide, ProtocolError> {
    let now = Instant::now();
    let mut side = GatewaySide::new(config(), now);
    side.receive_bytes(now, &wire(&[HELLO]))?;
    assert_eq!(side.open(now, Bytes::new(), true), Ok(id(1)));
    assert_eq!(side.open(now, Bytes::new(), false), Ok(id(2)));
    side.next_bytes(&mut BytesMut::new());
    side.receive_bytes(now, &wire(frames))?;
    Ok(side)
}

#[test]
fn a_connector_refuses_what_the_protocol_forbids() {
    let full = || data(1, MAX_DATA, false);
    let beyond_credit: Vec<_> =
        std::iter::once(head(1, false)).chain((0..64).map(|_| full())).chain([data(1, 1, false)]).collect();
    let tiny: Vec<_> = std::iter::once(head(1, false)).chain((0..4097).map(|_| data(1, 1, false))).collect();
    let cases: Vec<(Vec<Frame>, ProtocolError)> = vec![
        (vec![HELLO], ProtocolError::SecondHello),
        (vec![data(1, 1, true)], ProtocolError::Unopened(id(1))),
        (vec![window(1, 1)], ProtocolError::Unopened(id(1))),
        (vec![reset(1)], ProtocolError::Unopened(id(1))),
        (vec![head(1, true), data(2, 1, true)], ProtocolError::Unopened(id(2))),
        (vec![head(1, false), head(1, false)], ProtocolError::SecondHead(id(1))),
        (vec![head(5, false), head(4, false)], ProtocolError::ReusedStream(id(4))),
        (vec![head(1, true), data(1, 1, true)], ProtocolError::AfterEnd(id(1))),
        (vec![head(1, false), data(1, 1, true), data(1, 0, true)], ProtocolError::AfterEnd(id(1))),
        ((1..=5).map(|id| head(id, true)).collect(), ProtocolError::TooManyStreams),
        (vec![farewell(), head(1, true)], ProtocolError::OpenedAfterGoodbye),
        (beyond_credit, ProtocolError::CreditOverrun),
        (tiny, ProtocolError::CreditOverrun),
        (vec![head(1, false), window(1, 1)], ProtocolError::WindowOverflow),
        (vec![Frame::Pong(1)], ProtocolError::UnexpectedPong),
        ((0..7).map(|_| control(16 * 1024, false)).collect(), ProtocolError::ControlTooLong),
    ];
    for (frames, expected) in cases {
        assert_eq!(connector_fed(&frames).err(), Some(expected));
    }
}

#[test]
fn a_gateway_refuses_what_the_protocol_forbids() {
    for (frames, expected) in [
        (vec![head(3, true)], ProtocolError::Unopened(id(3))),
        (vec![data(1, 1, true)], ProtocolError::DataBeforeHead(id(1))),
        (vec![head(1, false), head(1, false)], ProtocolError::SecondHead(id(1))),
        (vec![head(2, true), head(2, true)], ProtocolError::AfterEnd(id(2))),
        (vec![head(2, true), data(2, 1, true)], ProtocolError::AfterEnd(id(2))),
        (vec![window(2, 1)], ProtocolError::WindowOverflow),
    ] {
        assert_eq!(gateway_fed(&frames).err(), Some(expected));
    }
}

#[test]
fn nothing_is_taken_before_the_hello() {
    let now = Instant::now();
    for frame in [head(1, true), Frame::Ping(1), control(1, true), farewell()] {
        let mut side = ConnectorSide::new(config(), now);
        assert_eq!(side.receive_bytes(now, &wire(&[frame])), Err(ProtocolError::BeforeHello));
    }
}

#[test]
fn a_violation_ends_the_tunnel_and_the_peer_is_told() {
    let now = Instant::now();
    let mut side = ConnectorSide::new(config(), now);
    let bytes = wire(&[HELLO, head(1, false), head(1, false), head(2, true)]);
    let error = ProtocolError::SecondHead(id(1));
    assert_eq!(side.receive_bytes(now, &bytes), Err(error));
    assert_eq!(side.receive_bytes(now, &bytes), Err(error));
    let events: Vec<_> = std::iter::from_fn(|| side.next_event()).collect();
    assert!(
        matches!(events[..], [Event::Hello(_), Event::Head { .. }, Event::Lost(LostReason::Protocol(e))] if e == error)
    );
    let mut out = BytesMut::new();
    side.next_bytes(&mut out);
    let text = "second head on stream 1".to_owned();
    assert!(matches!(frames(&out)[0], Frame::Hello(_)));
    assert_eq!(frames(&out)[1..], [Frame::Goodbye { last: 1, code: goodbye::VIOLATION, text }]);
    assert_eq!(side.next_bytes(&mut out), 0);
}

#[test]
fn bytes_that_are_no_frame_end_the_tunnel() {
    let now = Instant::now();
    let mut side = GatewaySide::new(config(), now);
    let error = ProtocolError::Frame(FrameError::UnknownKind(b'/'));
    assert_eq!(side.receive_bytes(now, b"GET / HTTP/1.1\r\n\r\n"), Err(error));
}

/// `frame` sent over and over is taken for a while, then refused; and taken for ever at a modest pace.
fn is_bounded(before: &[Frame], frame: impl Fn(u32) -> Vec<Frame>) {
    let now = Instant::now();
    let fresh = || {
        let mut side = ConnectorSide::new(config(), now);
        side.receive_bytes(now, &wire(&[HELLO])).unwrap();
        side.receive_bytes(now, &wire(before)).unwrap();
        side.next_bytes(&mut BytesMut::new());
        side
    };
    let feed = |side: &mut ConnectorSide, at: Instant, round: u32| {
        let outcome = side.receive_bytes(at, &wire(&frame(round)));
        while side.next_event().is_some() {}
        side.next_bytes(&mut BytesMut::new());
        outcome
    };
    let mut flooded = fresh();
    let taken = (0..20_000).take_while(|round| feed(&mut flooded, now, *round).is_ok()).count();
    assert!((4_000..=8_192).contains(&taken), "{taken}");
    assert_eq!(flooded.lost(), Some(LostReason::Protocol(ProtocolError::Nuisance)));
    let mut patient = fresh();
    for round in 0..20_000 {
        let at = now + Duration::from_millis(2) * round;
        feed(&mut patient, at, round).expect("500 a second are no flood");
    }
}

#[test]
fn floods_are_bounded_and_a_modest_pace_is_not() {
    is_bounded(&[], |_| vec![Frame::Ping(7)]);
    is_bounded(&[], |_| vec![farewell()]);
    is_bounded(&[], |_| vec![control(1, true)]);
    // Streams opened and given up at once, as fast as can be.
    is_bounded(&[], |round| vec![head(round + 1, false), reset(round + 1)]);
    // Late frames: stream 1 was closed by a reset.
    let closed = [head(1, true), reset(1)];
    is_bounded(&closed, |_| vec![window(1, 1)]);
    is_bounded(&closed, |_| vec![data(1, 1, false)]);
    is_bounded(&closed, |_| vec![reset(1)]);
}

#[test]
fn resets_of_one_stream_over_and_over_are_bounded_before_anything_is_written() {
    let now = Instant::now();
    let mut side = connector_fed(&[head(1, false)]).unwrap();
    let bytes = wire(&[reset(1)]);
    let taken = (0..20_000).take_while(|_| side.receive_bytes(now, &bytes).is_ok()).count();
    assert_eq!(taken, 8192);
}

#[test]
fn a_peer_that_only_writes_cannot_make_this_side_hoard_answers() {
    let now = Instant::now();
    let mut side = connector_fed(&[]).unwrap();
    for _ in 0..5000 {
        side.receive_bytes(now, &wire(&[Frame::Ping(1)])).unwrap();
    }
    // Resets not yet written hold their slots.
    let mut opened = 0;
    let outcome = loop {
        opened += 1;
        let outcome = side.receive_bytes(now, &wire(&[head(opened, false), reset(opened)]));
        if outcome.is_err() {
            break outcome;
        }
    };
    assert_eq!((opened, outcome), (5, Err(ProtocolError::TooManyStreams)));
    let mut out = BytesMut::new();
    assert!(side.next_bytes(&mut out) < 200);
}

#[test]
fn data_for_a_stream_given_up_is_bounded_by_its_credit() {
    let now = Instant::now();
    let mut side = connector_fed(&[head(1, false)]).unwrap();
    side.reset(id(1), 3);
    side.next_bytes(&mut BytesMut::new());
    let bytes = wire(&[data(1, MAX_DATA, false)]);
    for _ in 0..64 {
        side.receive_bytes(now, &bytes).unwrap();
    }
    assert_eq!(side.receive_bytes(now, &bytes), Err(ProtocolError::CreditOverrun));
}

/// A short session with every kind of frame: what each side wrote. `gateway` and `connector` can be fed
/// with the other's record to see it again.
fn recorded() -> (Vec<u8>, Vec<u8>) {
    let mut pair = Pair::new(config());
    open_two(&mut pair.gateway, pair.now);
    pair.exchange();
    open_two(&mut pair.gateway, pair.now);
    let now = pair.now;
    pair.gateway.send(now, id(2), body(0, 40), false).unwrap();
    pair.gateway.send_control(body(0, 20)).unwrap();
    pair.connector.send_control(body(0, 20)).unwrap();
    pair.exchange();
    pair.answer(id(1), false);
    pair.answer(id(2), false);
    pair.connector.send(now, id(1), body(0, 30), true).unwrap();
    pair.connector.send(now, id(2), body(0, 30), false).unwrap();
    pair.exchange();
    pair.pass(Duration::from_secs(6));
    pair.gateway.reset(id(2), 4);
    pair.connector.goodbye(0, "done");
    pair.exchange();
    assert!(pair.gateway.is_idle() && pair.connector.is_idle());
    (pair.down.record, pair.up.record)
}

fn open_two(gateway: &mut GatewaySide, now: Instant) {
    for end in [true, false] {
        let _ = gateway.open(now, Bytes::from_static(b"head"), end);
    }
}

/// Feeds a fresh connector and a fresh gateway, in two chunks, and drains them as a driver would.
fn replay(bytes: &[u8], split: usize) {
    let now = Instant::now();
    let (first, second) = bytes.split_at(split.min(bytes.len()));
    let mut connector = ConnectorSide::new(config(), now);
    let mut gateway = GatewaySide::new(config(), now);
    for chunk in [first, second] {
        open_two(&mut gateway, now);
        let mut out = BytesMut::new();
        gateway.next_bytes(&mut out);
        let _ = gateway.receive_bytes(now, chunk);
        let _ = connector.receive_bytes(now, chunk);
        while gateway.next_event().is_some() {}
        while let Some(event) = connector.next_event() {
            if let Event::Head { stream, end: true, .. } = event {
                let _ = connector.answer(now, stream, Bytes::new(), true);
            }
        }
        gateway.next_bytes(&mut out);
        connector.next_bytes(&mut out);
        assert!(out.len() < 10_000);
        assert!(gateway.open_streams() <= 4 && connector.open_streams() <= 4);
    }
    gateway.transport_closed();
    connector.transport_closed();
}

#[test]
fn every_truncation_and_every_flipped_bit_of_a_session_is_survived() {
    let (down, up) = recorded();
    for record in [down, up] {
        assert!(record.len() < 1000);
        for length in 0..=record.len() {
            replay(&record[..length], 48);
        }
        for bit in 0..record.len() * 8 {
            let mut flipped = record.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            replay(&flipped, 48);
        }
    }
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let stream = || (1_u32..6).prop_map(id);
    let bytes = || (0_usize..2000).prop_map(|length| body(0, length));
    let code = any::<u32>;
    prop_oneof![
        (stream(), bytes(), any::<bool>()).prop_map(|(stream, bytes, end)| Frame::Head {
            stream,
            bytes,
            end
        }),
        (stream(), bytes(), any::<bool>()).prop_map(|(stream, bytes, end)| Frame::Data {
            stream,
            bytes,
            end
        }),
        (stream(), 1_u32..).prop_map(|(stream, n)| window(stream.get(), n)),
        (stream(), code()).prop_map(|(stream, code)| Frame::Reset { stream, code }),
        any::<u64>().prop_map(Frame::Ping),
        (0_u64..3).prop_map(Frame::Pong),
        bytes().prop_map(|bytes| Frame::Control { bytes, end: true }),
        (code(), code(), "[ -~]{0,20}").prop_map(|(last, code, text)| Frame::Goodbye { last, code, text }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn garbage_is_survived(garbage in prop::collection::vec(any::<u8>(), 0..300), split in 0_usize..300) {
        replay(&garbage, split);
        let mut introduced = wire(&[HELLO]).to_vec();
        introduced.extend(garbage);
        replay(&introduced, split);
    }

    #[test]
    fn frames_in_any_order_are_survived(
        frames in prop::collection::vec(any_frame(), 0..20),
        split in 0_usize..5000,
    ) {
        let mut bytes = wire(&[HELLO]);
        bytes.extend_from_slice(&wire(&frames));
        replay(&bytes, split);
    }
}
