//! Every limit of a side: kept to at n, refused at n + 1.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tunnel::frame::Frame;
use tunnel::{
    AnswerError, Config, ConnectorSide, ControlError, FrameError, GatewaySide, Hello, LostReason, OpenError,
    ProtocolError, SendError, StreamId,
};

use crate::pair::{Pair, body};

const MIB: u32 = 1 << 20;
const MILLISECOND: Duration = Duration::from_millis(1);

fn id(id: u32) -> StreamId {
    StreamId::new(id).unwrap()
}

fn hello() -> Frame {
    Frame::Hello(Hello { max_streams: 65_536, stream_credit: MIB, max_head: 65_536 })
}

fn wire(frames: impl IntoIterator<Item = Frame>) -> BytesMut {
    let mut out = BytesMut::new();
    frames.into_iter().for_each(|frame| frame.encode(&mut out));
    out
}

/// A connector with a head read for each of streams 1 to `streams`.
fn connector(config: &Config, streams: u32) -> ConnectorSide {
    connector_since(Instant::now(), config, streams)
}

fn connector_since(now: Instant, config: &Config, streams: u32) -> ConnectorSide {
    let mut side = ConnectorSide::new(config.clone(), now);
    let heads = (1..=streams).map(|n| Frame::Head { stream: id(n), bytes: Bytes::new(), end: false });
    side.receive_bytes(now, &wire([hello()].into_iter().chain(heads))).unwrap();
    side
}

fn fed(side: &mut ConnectorSide, frames: impl IntoIterator<Item = Frame>) -> Result<(), ProtocolError> {
    side.receive_bytes(Instant::now(), &wire(frames))
}

fn head(stream: u32, length: usize) -> Frame {
    Frame::Head { stream: id(stream), bytes: body(0, length), end: true }
}

fn data(stream: u32, length: usize) -> Frame {
    Frame::Data { stream: id(stream), bytes: body(0, length), end: false }
}

#[test]
fn streams_open_at_once() {
    for most in [1, 2, 1024, 65_536] {
        let config = Config { max_streams: most, ..Config::default() };
        let mut side = connector(&config, most);
        assert_eq!(side.open_streams(), most as usize);
        assert_eq!(fed(&mut side, [head(most + 1, 0)]), Err(ProtocolError::TooManyStreams));
    }
    // The smaller of both counts for a gateway.
    for (gateway, peer, expected) in [(3, 9, 3), (9, 3, 3)] {
        let now = Instant::now();
        let mut side = GatewaySide::new(Config { max_streams: gateway, ..Config::default() }, now);
        let theirs = Hello { max_streams: peer, stream_credit: MIB, max_head: 1024 };
        side.receive_bytes(now, &wire([Frame::Hello(theirs)])).unwrap();
        for _ in 0..expected {
            side.open(now, Bytes::new(), true).expect("within the limit");
        }
        assert_eq!(side.open(now, Bytes::new(), true), Err(OpenError::TooManyStreams));
    }
}

#[test]
fn the_length_of_a_head() {
    for most in [1024_u32, 5000, 65_535] {
        let config = Config { max_head: most, ..Config::default() };
        let length = most as usize;
        fed(&mut connector(&config, 0), [head(1, length)]).unwrap();
        let refused = fed(&mut connector(&config, 0), [head(1, length + 1)]);
        assert!(matches!(refused, Err(ProtocolError::Frame(FrameError::Length { .. }))), "{refused:?}");
        let mut pair = Pair::introduced(config);
        pair.gateway.open(pair.now, body(0, length), true).unwrap();
        let outcome = pair.gateway.open(pair.now, body(0, length + 1), true);
        assert_eq!(outcome, Err(OpenError::HeadTooLarge));
        pair.exchange();
        let outcome = pair.connector.answer(pair.now, id(1), body(0, length + 1), true);
        assert_eq!(outcome, Err(AnswerError::HeadTooLarge));
        pair.connector.answer(pair.now, id(1), body(0, length), true).unwrap();
    }
}

#[test]
fn the_credit_of_a_stream() {
    for (credit, last) in [(MIB, 0), (MIB + 1, 0), (MIB + 256, 256), (MIB + 300, 300)] {
        let config = Config { stream_credit: credit, ..Config::default() };
        let fill = (0..64).map(|_| data(1, 16_384)).chain((last > 0).then(|| data(1, last)));
        let mut side = connector(&config, 1);
        fed(&mut side, fill).unwrap();
        // What is left does not pay for the smallest frame; the end is free.
        let end = Frame::Data { stream: id(1), bytes: Bytes::new(), end: true };
        assert_eq!(fed(&mut side, [data(1, 1)]), Err(ProtocolError::CreditOverrun), "{credit}");
        let mut side = connector(&config, 1);
        fed(&mut side, (0..64).map(|_| data(1, 16_384)).chain([end])).unwrap();
    }
    // Its own stream's only.
    let mut side = connector(&Config::default(), 2);
    fed(&mut side, (0..64).flat_map(|_| [data(1, 16_384), data(2, 16_384)])).unwrap();
}

#[test]
fn credit_given_back() {
    let spend = |length| {
        let now = Instant::now();
        let mut side = connector(&Config::default(), 1);
        side.answer(now, id(1), Bytes::new(), false).unwrap();
        side.send(now, id(1), body(0, length), false).unwrap();
        side.next_bytes(&mut BytesMut::new());
        side
    };
    let window = |credit| Frame::Window { stream: id(1), credit: NonZeroU32::new(credit).unwrap() };
    for (length, cost) in [(1, 256), (256, 256), (257, 257), (100_000, 100_000)] {
        fed(&mut spend(length), [window(cost)]).unwrap();
        assert_eq!(
            fed(&mut spend(length), [window(cost + 1)]),
            Err(ProtocolError::WindowOverflow),
            "{length}"
        );
        assert_eq!(fed(&mut spend(length), [window(u32::MAX)]), Err(ProtocolError::WindowOverflow));
    }
}

#[test]
fn what_waits_on_a_stream() {
    for most in [65_536, 100_000, 262_144] {
        let mut pair = Pair::introduced(Config { stream_queue: most, ..Config::default() });
        let stream = pair.open(false);
        assert_eq!(pair.gateway.writable(stream), most);
        assert_eq!(pair.gateway.send(pair.now, stream, body(0, most + 1), false), Err(SendError::Full));
        pair.gateway.send(pair.now, stream, body(0, most), false).unwrap();
        assert_eq!(pair.gateway.send(pair.now, stream, body(0, 1), false), Err(SendError::Full));
        // Tiny parts count as 256 bytes each.
        let stream = pair.open(false);
        for _ in 0..most.div_ceil(256) {
            pair.gateway.send(pair.now, stream, body(0, 1), false).unwrap();
        }
        assert_eq!(pair.gateway.send(pair.now, stream, body(0, 1), false), Err(SendError::Full));
    }
}

#[test]
fn control_messages() {
    let most = 70_000;
    let config = Config { max_control: most, control_queue: most, ..Config::default() };
    let pieces = |length: usize| {
        let whole = body(0, length);
        let count = length.div_ceil(16_384);
        (0..count).map(move |at| Frame::Control {
            bytes: whole.slice(at * 16_384..length.min((at + 1) * 16_384)),
            end: at + 1 == count,
        })
    };
    fed(&mut connector(&config, 0), pieces(most)).unwrap();
    assert_eq!(fed(&mut connector(&config, 0), pieces(most + 1)), Err(ProtocolError::ControlTooLong));
    // Of one message: the next begins anew.
    fed(&mut connector(&config, 0), pieces(most).chain(pieces(most))).unwrap();
    let mut pair = Pair::introduced(config);
    assert_eq!(pair.gateway.send_control(body(0, most + 1)), Err(ControlError::Full));
    pair.gateway.send_control(body(0, most)).unwrap();
    assert_eq!(pair.gateway.send_control(body(0, 1)), Err(ControlError::Full));
}

#[test]
fn patience() {
    let now = Instant::now();
    for (burst, per_second) in [(2, 1), (100, 1024), (8192, 1)] {
        let config = Config {
            max_streams: 1,
            nuisance_burst: burst,
            nuisance_per_second: per_second,
            ..Config::default()
        };
        let mut side = connector_since(now, &config, 0);
        for _ in 0..burst {
            side.receive_bytes(now, &wire([Frame::Ping(1)])).unwrap();
        }
        // Time gives back as many as it says, and no more.
        let later = now + Duration::from_secs(1);
        for _ in 0..per_second.min(burst) {
            side.receive_bytes(later, &wire([Frame::Ping(1)])).unwrap();
        }
        assert_eq!(side.receive_bytes(later, &wire([Frame::Ping(1)])), Err(ProtocolError::Nuisance));
    }
}

#[test]
fn times() {
    let config = Config {
        idle: 70 * MILLISECOND,
        answer_timeout: 30 * MILLISECOND,
        hello_timeout: 90 * MILLISECOND,
        ..Config::default()
    };
    let now = Instant::now();
    let mut side = ConnectorSide::new(config.clone(), now);
    side.expire(now + 89 * MILLISECOND);
    assert_eq!(side.lost(), None);
    side.expire(now + 90 * MILLISECOND);
    assert_eq!(side.lost(), Some(LostReason::NoHello));

    let mut side = ConnectorSide::new(config, now);
    let mut out = BytesMut::new();
    side.receive_bytes(now, &wire([hello()])).unwrap();
    side.next_bytes(&mut out);
    out.clear();
    side.expire(now + 69 * MILLISECOND);
    assert_eq!(side.next_bytes(&mut out), 0);
    side.expire(now + 70 * MILLISECOND);
    assert_eq!(out[..], wire([])[..]);
    side.next_bytes(&mut out);
    assert_eq!(out[..], wire([Frame::Ping(1)])[..]);
    side.expire(now + 99 * MILLISECOND);
    assert_eq!(side.lost(), None);
    side.expire(now + 100 * MILLISECOND);
    assert_eq!(side.lost(), Some(LostReason::Silence));
}
