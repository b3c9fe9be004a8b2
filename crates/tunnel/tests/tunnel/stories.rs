//! What the two sides promise their drivers.

use std::time::Duration;

use bytes::Bytes;
use tunnel::frame::{Frame, MAX_DATA};
use tunnel::{AnswerError, Config, ControlError, Event, LostReason, OpenError, SendError, StreamId, goodbye};

use crate::pair::{Pair, body, frames};

const SECOND: Duration = Duration::from_secs(1);
const MIB: usize = 1 << 20;

fn pair() -> Pair {
    Pair::introduced(Config::default())
}

/// Length of all data in `events` that belongs to `stream`.
fn received(events: &[Event], stream: StreamId) -> usize {
    let data = events.iter().filter_map(|event| match event {
        Event::Data { stream: of, bytes, .. } if *of == stream => Some(bytes.len()),
        _ => None,
    });
    data.sum()
}

#[test]
fn a_request_and_its_answer_cross_and_leave_nothing_behind() {
    let mut pair = pair();
    let stream = pair.open(false);
    pair.gateway.send(pair.now, stream, Bytes::from_static(b"ping"), true).unwrap();
    pair.exchange();
    assert_eq!(
        pair.connector_events(),
        [
            Event::Head { stream, head: Bytes::from_static(b"request"), end: false },
            Event::Data { stream, bytes: Bytes::from_static(b"ping"), end: true },
        ]
    );
    pair.answer(stream, false);
    pair.connector.send(pair.now, stream, Bytes::from_static(b"pong"), false).unwrap();
    pair.connector.send(pair.now, stream, Bytes::new(), true).unwrap();
    assert!(!pair.connector.is_idle());
    pair.exchange();
    assert_eq!(
        pair.gateway_events(),
        [
            Event::Head { stream, head: Bytes::from_static(b"answer"), end: false },
            Event::Data { stream, bytes: Bytes::from_static(b"pong"), end: true },
        ]
    );
    assert_eq!((pair.gateway.open_streams(), pair.connector.open_streams()), (0, 0));
    assert!(pair.gateway.is_idle() && pair.connector.is_idle());
}

#[test]
fn request_and_answer_without_a_body_are_one_frame_each() {
    let mut pair = pair();
    let before = (pair.down.record.len(), pair.up.record.len());
    let stream = pair.open(true);
    pair.exchange();
    pair.answer(stream, true);
    pair.exchange();
    assert!(matches!(frames(&pair.down.record[before.0..])[..], [Frame::Head { end: true, .. }]));
    assert!(matches!(frames(&pair.up.record[before.1..])[..], [Frame::Head { end: true, .. }]));
    assert_eq!(pair.gateway.open_streams(), 0);
}

#[test]
fn the_answer_may_come_before_the_request_has_ended() {
    let mut pair = pair();
    let stream = pair.open(false);
    pair.exchange();
    pair.answer(stream, true);
    pair.exchange();
    assert!(matches!(pair.gateway_events()[..], [Event::Head { end: true, .. }]));
    pair.gateway.send(pair.now, stream, Bytes::from_static(b"late"), true).unwrap();
    pair.exchange();
    assert_eq!(received(&pair.connector_events(), stream), 4);
    assert_eq!(pair.connector.open_streams(), 0);
}

#[test]
fn a_sender_stops_at_the_credit_and_goes_on_when_the_caller_has_consumed() {
    let mut pair = pair();
    let stream = pair.open(false);
    let mut sent = 0;
    let mut wakes = 0;
    for _ in 0..100 {
        let room = pair.gateway.writable(stream);
        if room > 0 {
            pair.gateway.send(pair.now, stream, body(sent, room), false).unwrap();
            sent += room;
        }
        pair.exchange();
        wakes += pair.gateway_events().iter().filter(|e| **e == Event::Writable(stream)).count();
    }
    assert_eq!((sent, pair.gateway.writable(stream)), (MIB, 0));
    assert_eq!(received(&pair.connector_events(), stream), MIB);
    assert_eq!(pair.gateway.send(pair.now, stream, body(0, 1), false), Err(SendError::Full));
    assert!(wakes > 0, "each emptied queue is told");

    pair.connector.consumed(stream, MIB / 2 - 1);
    pair.exchange();
    assert!(pair.gateway_events().is_empty(), "too little to be worth a frame");
    pair.connector.consumed(stream, 1);
    pair.exchange();
    assert_eq!(pair.gateway_events(), [Event::Writable(stream)]);
    assert_eq!(pair.gateway.writable(stream), 256 * 1024);
}

#[test]
fn bytes_that_wait_for_credit_go_when_it_comes() {
    let mut pair = pair();
    let stream = pair.open(false);
    let mut sent = 0;
    // Frames of 300 bytes leave a rest of the credit too small to pay for any frame.
    loop {
        let length = pair.gateway.writable(stream).min(300);
        pair.gateway.send(pair.now, stream, body(sent, length), false).unwrap();
        sent += length;
        pair.exchange();
        if length < 300 {
            break;
        }
    }
    assert_eq!(sent, MIB);
    let arrived = received(&pair.connector_events(), stream);
    assert_eq!(arrived, MIB - MIB % 300);
    pair.connector.consumed(stream, arrived);
    pair.exchange();
    assert_eq!(received(&pair.connector_events(), stream), sent - arrived);
}

#[test]
fn tiny_frames_use_up_the_credit_and_consuming_them_gives_it_back() {
    let mut pair = pair();
    let stream = pair.open(false);
    for round in 0..3 {
        for _ in 0..4096 {
            pair.gateway.send(pair.now, stream, body(0, 1), false).unwrap();
            pair.exchange();
        }
        assert_eq!(pair.gateway.writable(stream), 0, "round {round}");
        assert_eq!(received(&pair.connector_events(), stream), 4096);
        pair.connector.consumed(stream, 4096);
        pair.exchange();
    }
}

#[test]
fn a_small_answer_does_not_wait_for_downloads() {
    let mut pair = pair();
    let downloads: Vec<_> = (0..8).map(|_| pair.open(true)).collect();
    let small = pair.open(true);
    pair.exchange();
    for stream in &downloads {
        pair.answer(*stream, false);
        let room = pair.connector.writable(*stream);
        pair.connector.send(pair.now, *stream, body(0, room), false).unwrap();
    }
    // The downloads have had their first pieces; the small answer comes while they wait.
    assert!(pair.write_up() >= 256 * 1024);
    let before = pair.up.record.len();
    pair.answer(small, false);
    pair.connector.send(pair.now, small, body(0, 1000), true).unwrap();
    pair.write_up();
    let next = frames(&pair.up.record[before..]);
    assert!(matches!(next[0], Frame::Head { stream, .. } if stream == small), "{:?}", next[0]);
    assert!(matches!(next[1], Frame::Data { stream, end: true, .. } if stream == small));
}

#[test]
fn downloads_take_turns_and_go_on_under_a_storm_of_small_answers() {
    let mut pair = pair();
    let downloads: Vec<_> = (0..2).map(|_| pair.open(true)).collect();
    let small: Vec<_> = (0..512).map(|_| pair.open(true)).collect();
    pair.exchange();
    for stream in &downloads {
        pair.answer(*stream, false);
        pair.connector.send(pair.now, *stream, body(0, 10 * MAX_DATA), false).unwrap();
    }
    for stream in &small {
        pair.answer(*stream, false);
        pair.connector.send(pair.now, *stream, body(0, 1000), true).unwrap();
    }
    let before = pair.up.record.len();
    while pair.write_up() > 0 {}
    let order: Vec<_> = frames(&pair.up.record[before..])
        .into_iter()
        .filter_map(|frame| if let Frame::Data { stream, .. } = frame { Some(stream) } else { None })
        .collect();
    let last_small = order.iter().rposition(|stream| small.contains(stream)).unwrap();
    let meanwhile = order[..last_small].iter().filter(|stream| downloads.contains(stream)).count();
    assert!((9..=11).contains(&meanwhile), "{meanwhile}");
    let turns: Vec<_> = order.into_iter().filter(|stream| downloads.contains(stream)).collect();
    assert!(turns.chunks_exact(2).all(|turn| turn[0] != turn[1]), "{turns:?}");
}

#[test]
fn a_stream_that_was_given_up_uses_up_no_turn_of_another() {
    let mut pair = Pair::introduced(Config { output: 64 * 1024, ..Config::default() });
    // Not ended by the gateway either, so that they stay until it has agreed to a reset.
    let downloads: Vec<_> = (0..2).map(|_| pair.open(false)).collect();
    let small: Vec<_> = (0..12).map(|_| pair.open(true)).collect();
    pair.exchange();
    for stream in &downloads {
        pair.answer(*stream, false);
        pair.connector.send(pair.now, *stream, body(0, 200_000), false).unwrap();
    }
    // Both have had their first pieces and stand in the ring, the one to be given up in front.
    pair.write_up();
    for stream in &small {
        pair.answer(*stream, false);
        pair.connector.send(pair.now, *stream, body(0, MAX_DATA), false).unwrap();
    }
    pair.connector.reset(downloads[0], 1);
    let before = pair.up.record.len();
    while pair.write_up() > 0 {}
    let order: Vec<_> = frames(&pair.up.record[before..])
        .into_iter()
        .filter_map(|frame| if let Frame::Data { stream, .. } = frame { Some(stream) } else { None })
        .collect();
    assert_eq!(order.iter().position(|stream| *stream == downloads[1]), Some(4), "after 64 KiB: {order:?}");
}

#[test]
fn one_write_is_bounded() {
    let mut pair = pair();
    for _ in 0..100 {
        let stream = pair.gateway.open(pair.now, body(0, 60_000), false).unwrap();
        pair.gateway.send(pair.now, stream, body(0, 200_000), true).unwrap();
    }
    let mut longest = 0;
    loop {
        let length = pair.write_down();
        if length == 0 {
            break;
        }
        longest = longest.max(length);
    }
    assert!((256 * 1024..256 * 1024 + 65_536 + 9).contains(&longest), "{longest}");
}

#[test]
fn a_reset_ends_the_stream_for_both_and_says_why() {
    let mut pair = pair();
    let stream = pair.open(false);
    pair.gateway.send(pair.now, stream, body(0, 100_000), false).unwrap();
    pair.exchange();
    pair.connector_events();
    pair.answer(stream, false);
    pair.connector.send(pair.now, stream, body(0, 200_000), false).unwrap();
    pair.write_up();
    pair.gateway.reset(stream, 77);
    assert_eq!(pair.gateway.writable(stream), 0);
    assert_eq!(pair.gateway.send(pair.now, stream, body(0, 1), false), Err(SendError::Closed));
    assert_eq!(pair.gateway.open_streams(), 1, "until the connector agrees");
    pair.exchange();
    assert!(pair.gateway_events().is_empty(), "nothing follows a reset");
    assert_eq!(pair.connector_events(), [Event::Reset { stream, code: 77 }]);
    assert_eq!((pair.gateway.open_streams(), pair.connector.open_streams()), (0, 0));
    let late = pair.connector.answer(pair.now, stream, Bytes::new(), true);
    assert_eq!(late, Err(AnswerError::Closed));
}

#[test]
fn no_event_of_a_stream_follows_its_reset() {
    let mut pair = pair();
    let (given_up, kept) = (pair.open(false), pair.open(true));
    pair.gateway.send(pair.now, given_up, body(0, 10), false).unwrap();
    pair.exchange();
    pair.connector.reset(given_up, 1);
    let events = pair.connector_events();
    assert!(matches!(events[..], [Event::Head { stream, .. }] if stream == kept), "{events:?}");
}

#[test]
fn resets_that_cross_settle() {
    let mut pair = pair();
    let stream = pair.open(false);
    pair.exchange();
    pair.connector_events();
    pair.gateway.reset(stream, 1);
    pair.connector.reset(stream, 2);
    pair.exchange();
    assert_eq!((pair.gateway.open_streams(), pair.connector.open_streams()), (0, 0));
    assert!(pair.gateway_events().is_empty() && pair.connector_events().is_empty());
}

#[test]
fn a_reset_that_the_end_overtakes_holds_no_slot() {
    let mut pair = Pair::introduced(Config { max_streams: 1, ..Config::default() });
    let stream = pair.open(false);
    pair.exchange();
    pair.answer(stream, true);
    pair.write_up();
    pair.gateway.send(pair.now, stream, body(0, 1), true).unwrap();
    pair.write_down();
    pair.read_up(usize::MAX).unwrap();
    // Closed for the gateway. The connector gives up what it does not know to be over.
    pair.open(true);
    pair.write_down();
    pair.connector.reset(stream, 1);
    pair.read_down(usize::MAX).expect("the slot was free");
    assert_eq!(pair.connector.open_streams(), 1);
}

#[test]
fn a_stream_reset_before_it_was_written_never_existed() {
    let mut pair = pair();
    let stream = pair.open(false);
    pair.gateway.reset(stream, 1);
    assert!(pair.gateway.is_idle());
    let next = pair.open(true);
    assert!(next > stream);
    pair.exchange();
    assert!(matches!(pair.connector_events()[..], [Event::Head { stream, .. }] if stream == next));
}

#[test]
fn no_more_streams_open_than_the_connector_allows_and_each_slot_is_used_again() {
    let mut pair = Pair::introduced(Config { max_streams: 4, ..Config::default() });
    for round in 0..50 {
        let streams: Vec<_> = (0..4).map(|_| pair.open(true)).collect();
        assert_eq!(pair.gateway.capacity(), 0);
        let refused = pair.gateway.open(pair.now, Bytes::new(), true);
        assert_eq!(refused, Err(OpenError::TooManyStreams), "round {round}");
        pair.exchange();
        for (at, stream) in streams.into_iter().enumerate() {
            match at {
                0 => _ = pair.gateway.reset(stream, 1),
                1 => _ = pair.connector.reset(stream, 1),
                _ => pair.answer(stream, true),
            }
        }
        pair.exchange();
        assert_eq!(pair.gateway.capacity(), 4, "round {round}");
    }
}

#[test]
fn what_cannot_be_taken_is_refused_to_the_caller() {
    let mut pair = Pair::new(Config { max_head: 2000, control_queue: 100_000, ..Config::default() });
    assert_eq!(pair.gateway.open(pair.now, Bytes::new(), true), Err(OpenError::NotReady));
    pair.exchange();
    assert_eq!(pair.gateway.open(pair.now, body(0, 2001), true), Err(OpenError::HeadTooLarge));
    let stream = pair.gateway.open(pair.now, body(0, 2000), true).unwrap();
    assert_eq!(pair.gateway.send(pair.now, stream, Bytes::new(), true), Err(SendError::Ended));
    pair.exchange();
    let now = pair.now;
    assert_eq!(pair.connector.send(now, stream, body(0, 1), false), Err(SendError::NoHead));
    assert_eq!(pair.connector.answer(now, stream, body(0, 2001), false), Err(AnswerError::HeadTooLarge));
    pair.answer(stream, false);
    let again = pair.connector.answer(now, stream, Bytes::new(), false);
    assert_eq!(again, Err(AnswerError::AlreadyAnswered));
    assert_eq!(pair.gateway.send_control(Bytes::new()), Err(ControlError::Empty));
    pair.gateway.send_control(body(0, 60_000)).unwrap();
    assert_eq!(pair.gateway.send_control(body(0, 40_001)), Err(ControlError::Full));
    pair.gateway.send_control(body(0, 40_000)).unwrap();
    pair.connector.send(now, stream, Bytes::new(), true).unwrap();
    pair.exchange();
    assert!(pair.gateway.is_idle());
}

#[test]
fn control_messages_cross_whole_both_ways_and_before_the_hello_is_read() {
    let mut pair = Pair::new(Config::default());
    let messages = [body(0, 1), body(0, 3 * MIB), body(0, 16 * 1024), body(0, 32 * 1024)];
    for message in &messages {
        pair.gateway.send_control(message.clone()).unwrap();
        pair.connector.send_control(message.clone()).unwrap();
    }
    pair.exchange();
    let expected: Vec<_> = messages.into_iter().map(Event::Control).collect();
    assert_eq!(pair.gateway_events()[1..], expected);
    assert_eq!(pair.connector_events()[1..], expected);
}

#[test]
fn a_long_control_message_leaves_room_for_requests() {
    let mut pair = pair();
    pair.gateway.send_control(body(0, 8 * MIB)).unwrap();
    pair.write_down();
    let before = pair.down.record.len();
    let stream = pair.open(false);
    pair.gateway.send(pair.now, stream, body(0, 1000), true).unwrap();
    pair.write_down();
    pair.down.record.drain(..before);
    assert!(matches!(frames(&pair.down.record)[..2], [Frame::Head { .. }, Frame::Data { end: true, .. }]));
}

#[test]
fn an_idle_pair_stays_alive_by_pings_alone() {
    let mut pair = pair();
    let before = pair.down.record.len() + pair.up.record.len();
    pair.pass(3600 * SECOND);
    assert!(pair.gateway_events().is_empty() && pair.connector_events().is_empty());
    let traffic = pair.down.record.len() + pair.up.record.len() - before;
    assert!((720 * 34..=2 * 720 * 34).contains(&traffic), "{traffic}");
}

#[test]
fn a_silent_peer_is_lost_after_idle_and_answer_timeout() {
    let mut pair = pair();
    pair.up.is_dead = true;
    let stream = pair.open(true);
    pair.pass(9 * SECOND);
    assert!(pair.gateway_events().is_empty());
    pair.pass(SECOND);
    assert_eq!(pair.gateway_events(), [Event::Lost(LostReason::Silence)]);
    assert_eq!(pair.gateway.lost(), Some(LostReason::Silence));
    assert_eq!(pair.gateway.next_deadline(), None);
    assert_eq!(pair.gateway.open(pair.now, Bytes::new(), true), Err(OpenError::Closed));
    assert_eq!(pair.gateway.send(pair.now, stream, body(0, 1), true), Err(SendError::Closed));
    assert_eq!(pair.gateway.send_control(body(0, 1)), Err(ControlError::Closed));
    assert_eq!(pair.write_down(), 0);
}

#[test]
fn a_request_on_a_quiet_tunnel_finds_out_sooner() {
    let mut pair = pair();
    pair.pass(2 * SECOND);
    pair.up.is_dead = true;
    pair.open(true);
    pair.pass(5 * SECOND);
    assert_eq!(pair.gateway_events(), [Event::Lost(LostReason::Silence)]);
}

#[test]
fn a_peer_without_a_hello_is_lost() {
    let mut pair = Pair::new(Config { idle: 60 * SECOND, ..Config::default() });
    pair.down.is_dead = true;
    pair.exchange();
    pair.pass(10 * SECOND);
    assert_eq!(pair.connector_events(), [Event::Lost(LostReason::NoHello)]);
    assert!(matches!(pair.gateway_events()[..], [Event::Hello(_)]));
}

#[test]
fn early_calls_of_expire_do_nothing() {
    let mut pair = pair();
    for _ in 0..100 {
        pair.gateway.expire(pair.now);
    }
    assert_eq!(pair.write_down(), 0);
}

#[test]
fn goodbye_drains_what_is_open_and_opens_nothing_more() {
    let mut pair = pair();
    let stream = pair.open(false);
    pair.exchange();
    pair.connector_events();
    pair.connector.goodbye(goodbye::STOPPING, "stopping\nfor an update");
    // Under way when the connector said so: served all the same.
    let crossing = pair.open(true);
    assert!(!pair.connector.is_idle());
    pair.exchange();
    let text = "stopping for an update".to_owned();
    assert_eq!(pair.gateway_events(), [Event::Goodbye { last: stream.get(), code: goodbye::STOPPING, text }]);
    assert!(matches!(
        pair.connector_events()[..],
        [Event::Head { stream, .. }, Event::Goodbye { code: goodbye::AGREED, .. }] if stream == crossing
    ));
    assert_eq!(pair.gateway.open(pair.now, Bytes::new(), true), Err(OpenError::Draining));
    assert_eq!(pair.gateway.capacity(), 0);

    pair.gateway.send(pair.now, stream, body(0, 5), true).unwrap();
    pair.answer(stream, true);
    pair.answer(crossing, true);
    assert!(!pair.connector.is_idle());
    pair.exchange();
    assert!(pair.connector.is_idle() && pair.gateway.is_idle());
    pair.gateway_events();
    pair.gateway.transport_closed();
    assert_eq!(pair.gateway_events(), [Event::Lost(LostReason::Finished)]);
}

#[test]
fn a_drain_is_not_over_before_the_other_side_has_agreed() {
    let mut pair = pair();
    pair.connector.goodbye(goodbye::STOPPING, "");
    pair.write_up();
    assert!(!pair.connector.is_idle());
    pair.connector.transport_closed();
    assert!(matches!(pair.connector_events()[..], [Event::Lost(LostReason::Cut)]));
}

#[test]
fn long_words_of_goodbye_are_cut_at_a_character() {
    let mut pair = pair();
    pair.gateway.goodbye(20, &"ä\u{85}".repeat(200));
    pair.exchange();
    let events = pair.connector_events();
    let [Event::Goodbye { text, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!(text.len(), 256 - 1);
    assert!(text.starts_with("ä ä "));
}

#[test]
fn a_cut_anywhere_ends_both_sides_and_all_their_streams() {
    for cut in (0..400_000).step_by(7919) {
        let mut pair = pair();
        let stream = pair.open(false);
        pair.gateway.send(pair.now, stream, body(0, 200_000), true).unwrap();
        pair.write_down();
        pair.read_down(cut).unwrap();
        pair.connector_events();
        pair.gateway.transport_closed();
        pair.connector.transport_closed();
        assert_eq!(pair.gateway_events().last(), Some(&Event::Lost(LostReason::Cut)));
        assert_eq!(pair.connector_events(), [Event::Lost(LostReason::Cut)]);
        assert_eq!((pair.gateway.open_streams(), pair.connector.open_streams()), (0, 0));
        assert!(pair.gateway.is_idle());
        // The tunnel stays lost, whatever comes after.
        pair.read_down(usize::MAX).unwrap();
        pair.gateway.transport_closed();
        pair.connector.reset(stream, 1);
        pair.connector.consumed(stream, 1);
        pair.connector.goodbye(0, "");
        assert!(pair.gateway_events().is_empty() && pair.connector_events().is_empty());
    }
}
