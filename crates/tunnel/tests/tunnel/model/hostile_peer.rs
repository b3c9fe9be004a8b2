//! One side alone, with a peer that writes whatever it likes and callers that call whatever they like.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use tunnel::frame::Frame;
use tunnel::{Config, Hello, StreamId};

use super::checked::Checked;
use super::choices::Choices;

const ZEROS: Bytes = Bytes::from_static(&[0; 70_000]);

/// A gateway's side.
pub(crate) fn against_gateway(choices: &mut Choices<'_>, steps: usize) {
    let config = config(choices);
    let now = Instant::now();
    run(Checked::gateway(&config, now), true, now, choices, steps);
}

/// A connector's side.
pub(crate) fn against_connector(choices: &mut Choices<'_>, steps: usize) {
    let config = config(choices);
    let now = Instant::now();
    run(Checked::connector(&config, now), false, now, choices, steps);
}

fn config(choices: &mut Choices<'_>) -> Config {
    let max_streams = [1, 2, 4, 32][choices.below(4)];
    Config {
        max_streams,
        stream_credit: [1 << 20, (1 << 20) + 3][choices.below(2)],
        max_head: [1024, 65_536][choices.below(2)],
        max_control: [65_536, 100_000][choices.below(2)],
        control_queue: 100_000,
        stream_queue: [65_536, 262_144][choices.below(2)],
        output: [65_536, 262_144][choices.below(2)],
        nuisance_burst: [2 * max_streams, 64 + 2 * max_streams, 8192][choices.below(3)],
        nuisance_per_second: [1, 1024][choices.below(2)],
        ..Config::default()
    }
}

fn run(mut side: Checked, is_gateway: bool, start: Instant, choices: &mut Choices<'_>, steps: usize) {
    let mut now = start;
    // Written by the peer and not yet read.
    let mut wire = BytesMut::new();
    let mut out = BytesMut::new();
    if !choices.one_in(16) {
        hello(choices).encode(&mut wire);
    }
    // A lost side is asked for a while yet.
    let mut patience = 10;
    for _ in 0..steps {
        if choices.is_spent() || patience == 0 {
            break;
        }
        patience -= u32::from(side.watch.lost.is_some());
        match choices.below(16) {
            0..=4 => peer_writes(&mut wire, &side, choices),
            5 => wire.put_slice(&choices.bytes(40)),
            6 | 7 => {
                let length = choices.length(wire.len());
                side.receive(now, &wire.split_to(length));
            }
            8 => {
                if choices.one_in(2) {
                    now += Duration::from_millis([0, 1, 900, 5000, 10_000][choices.below(5)]);
                }
                side.expire(now);
            }
            9 => {
                side.next_bytes(&mut out);
                // What the connection took in the meantime.
                let _ = out.split_to(choices.length(out.len()));
            }
            10 if choices.one_in(64) => side.transport_closed(),
            11 if choices.one_in(16) => side.goodbye(20, "so\u{7}long"),
            11 => {
                let _ = side.send_control(&ZEROS.slice(..choices.length(ZEROS.len())));
            }
            _ => caller_calls(&mut side, is_gateway, now, choices),
        }
        if !choices.one_in(8) {
            while side.next_event().is_some() {}
        }
    }
    side.receive(now, &wire);
    side.next_bytes(&mut BytesMut::new());
    side.transport_closed();
    while side.next_event().is_some() {}
    assert!(side.watch.lost.is_some() && side.watch.streams.is_empty() && side.next_deadline().is_none());
}

fn hello(choices: &mut Choices<'_>) -> Frame {
    let max_streams = [1, 4, 65_536, 0, 65_537][choices.below(5)];
    let stream_credit = [1 << 20, 64 << 20, (1 << 20) - 1, u32::MAX][choices.below(4)];
    let max_head = [65_536, 1024, 1023, 65_537][choices.below(4)];
    // Mostly a sound one: nothing else comes of the others.
    if choices.one_in(8) {
        Frame::Hello(Hello { max_streams, stream_credit, max_head })
    } else {
        Frame::Hello(Hello {
            max_streams: max_streams.clamp(1, 65_536),
            stream_credit: stream_credit.clamp(1 << 20, 64 << 20),
            max_head: max_head.clamp(1024, 65_536),
        })
    }
}

/// An id: one that is open, the next, or any near.
fn some_stream(side: &Checked, choices: &mut Choices<'_>) -> StreamId {
    let open: Vec<_> = side.watch.streams.keys().copied().collect();
    let next = open.last().map_or(1, |stream| stream.get() + 1);
    let near = match choices.below(8) {
        0..=4 => choices.pick(&open).map_or(next, StreamId::get),
        5 | 6 => next,
        _ => u32::try_from(choices.below(40)).expect("small") + 1,
    };
    StreamId::new(near).expect("not 0")
}

fn peer_writes(wire: &mut BytesMut, side: &Checked, choices: &mut Choices<'_>) {
    let stream = some_stream(side, choices);
    let end = choices.one_in(3);
    let code = u32::try_from(choices.below(256)).expect("small");
    let frame = match choices.below(12) {
        0 | 1 => Frame::Head { stream, bytes: ZEROS.slice(..choices.length(1100)), end },
        2..=4 => Frame::Data { stream, bytes: ZEROS.slice(..choices.length(16_385)), end },
        5 => {
            let credit = [1, 255, 256, 16_384, 1 << 19, 1 << 20, u32::MAX][choices.below(7)];
            Frame::Window { stream, credit: NonZeroU32::new(credit).expect("none is 0") }
        }
        6 => Frame::Reset { stream, code },
        7 => Frame::Ping(u64::from(code)),
        8 => Frame::Pong(side.watch.awaited_pong().unwrap_or(u64::from(code))),
        9 if choices.one_in(4) => Frame::Goodbye { last: code, code, text: "bye".repeat(code as usize % 90) },
        9 | 10 => Frame::Control { bytes: ZEROS.slice(..choices.length(16_384)), end },
        _ => hello(choices),
    };
    // Mostly what the side must take: a peer that is thrown out at once gets nowhere.
    let is_in_order = wire.is_empty() && side.watch.would_take(&frame);
    if !is_in_order && !choices.one_in(8) {
        return;
    }
    let times = if choices.one_in(8) { 1 + choices.below(70) } else { 1 };
    for _ in 0..times {
        // Only so much is kept for the reader.
        if wire.len() < 1 << 20 {
            frame.encode(wire);
        }
    }
}

fn caller_calls(side: &mut Checked, is_gateway: bool, now: Instant, choices: &mut Choices<'_>) {
    let stream = some_stream(side, choices);
    let end = choices.one_in(3);
    match choices.below(8) {
        0 | 1 => {
            let head = ZEROS.slice(..choices.length(ZEROS.len()).min(65_536));
            if is_gateway {
                let _ = side.open(now, &head, end);
            } else {
                let _ = side.answer(now, stream, &head, end);
            }
        }
        2..=4 => {
            let room = side.writable(stream);
            let length = if choices.one_in(2) { room } else { choices.length(300_000) };
            let _ = side.send(now, stream, length.min(1 << 20), end);
        }
        5 | 6 => side.consumed(stream, choices.length(1 << 21)),
        _ => side.reset(stream, 5),
    }
}
