//! `docs/wire.md` is what the engine does: its examples are read and written, its tables are tried at their
//! bounds, its defaults are the configuration's.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tunnel::frame::{Decoder, Frame, MAX_HEAD, decode_all};
use tunnel::{Config, GatewaySide, Hello, StreamId, goodbye};

const PAGE: &str = include_str!("../../../../docs/wire.md");
const README: &str = include_str!("../../README.md");

/// Rows of the table that has this header, its cells without what is only for the eye.
fn table(page: &'static str, header: &str) -> Vec<Vec<String>> {
    let mut lines = page.lines().skip_while(|line| *line != header);
    assert!(lines.next().is_some(), "no table {header}");
    let rows = lines.skip(1).take_while(|line| line.starts_with('|'));
    let cells = |row: &str| {
        let row = row.trim_matches('|').replace("\\|", "\u{0}");
        row.split('|').map(|cell| cell.replace('\u{0}', "|").trim().to_owned()).collect()
    };
    rows.map(cells).collect()
}

fn number(text: &str) -> u32 {
    let digits: String = text.chars().filter(|c| !c.is_whitespace() && *c != ',').collect();
    digits.parse().unwrap_or_else(|_| panic!("{text} is a number"))
}

/// Bounds such as `1 024 … 65 536`, or one number.
fn bounds(text: &str) -> (u32, u32) {
    match text.split_once('…') {
        Some((least, most)) => (number(least), number(most)),
        None => (number(text), number(text)),
    }
}

fn hex(text: &str) -> Vec<u8> {
    let pairs = text.trim_matches('`').split([' ', '|']).filter(|pair| !pair.is_empty());
    pairs.map(|pair| u8::from_str_radix(pair, 16).expect("two hexadecimal digits")).collect()
}

#[test]
fn the_examples_are_these_frames() {
    let stream = StreamId::new(7).unwrap();
    let bytes = Bytes::from_static;
    let meant = [
        ("Hello", Frame::Hello(Config::default_hello())),
        ("Head", Frame::Head { stream, bytes: bytes(b"abc"), end: false }),
        ("Head, END", Frame::Head { stream, bytes: bytes(b"abc"), end: true }),
        ("Data", Frame::Data { stream, bytes: bytes(b"hi"), end: false }),
        ("Data, END", Frame::Data { stream, bytes: Bytes::new(), end: true }),
        ("Window", Frame::Window { stream, credit: NonZeroU32::new(524_288).unwrap() }),
        ("Reset", Frame::Reset { stream, code: 6 }),
        ("Ping", Frame::Ping(1)),
        ("Pong", Frame::Pong(1)),
        ("Goodbye", Frame::Goodbye { last: 7, code: goodbye::STOPPING, text: "stop".to_owned() }),
        ("Control, END", Frame::Control { bytes: bytes(b"{}"), end: true }),
    ];
    let rows = table(PAGE, "| frame | bytes | says |");
    assert_eq!(rows.len(), meant.len());
    for (row, (name, frame)) in rows.iter().zip(meant) {
        assert_eq!(row[0], name);
        let example = hex(&row[1]);
        assert_eq!(decode_all(&example), Ok(vec![frame.clone()]), "{name} as it is read");
        let mut written = BytesMut::new();
        frame.encode(&mut written);
        assert_eq!(written[..], example[..], "{name} as it is written");
    }
}

/// What a side with default limits says.
trait DefaultHello {
    fn default_hello() -> Hello;
}

impl DefaultHello for Config {
    fn default_hello() -> Hello {
        let mut out = BytesMut::new();
        GatewaySide::new(Config::default(), Instant::now()).next_bytes(&mut out);
        match decode_all(&out).expect("our own bytes")[..] {
            [Frame::Hello(hello)] => hello,
            ref other => panic!("{other:?}"),
        }
    }
}

/// Whether a frame with this header, and zeros behind it, may be read on from.
fn header_is_taken(length: u32, kind: u8, stream: u32) -> bool {
    let mut header = length.to_be_bytes().to_vec();
    header.push(kind);
    header.extend(stream.to_be_bytes());
    // The decoder judges a header before it has any of the payload; without one, the empty payload too.
    match Decoder::new(MAX_HEAD).next_frame(&mut &header[..]) {
        Ok(None) => true,
        Ok(Some(_)) => length == 0,
        Err(_) => false,
    }
}

#[test]
fn every_header_that_the_table_does_not_list_is_refused() {
    let rows = table(PAGE, "| K | kind | stream id | END | length | payload |");
    assert_eq!(rows.len(), 9);
    let mut cases = 0;
    for byte in 0..=255_u8 {
        let (kind, end) = (byte & 0x7f, byte & 0x80 != 0);
        let row = rows.iter().find(|row| number(&row[0]) == u32::from(kind));
        // What the row allows of lengths, with and without END.
        let lengths = row.filter(|row| !end || row[3] == "yes").map(|row| match &row[4][..] {
            // Another version's Hello may be longer or shorter: it must be read to be named.
            "14" if kind == 1 => (2, 64),
            "0 … receiver's max head" => (0, 65_536),
            "0 … 16 384; 0 only with END" => (u32::from(!end), 16_384),
            "1 … 16 384; 16 384 without END" => (if end { 1 } else { 16_384 }, 16_384),
            other => bounds(other),
        });
        let needs_stream = row.is_some_and(|row| row[2] == "≥ 1");
        for stream in [0, 1, 2, u32::MAX] {
            let (least, most) = lengths.unwrap_or((1, 0));
            let tried = [0, 1, least.wrapping_sub(1), least, least + 1, most.wrapping_sub(1), most, most + 1];
            for length in tried.into_iter().chain([u32::MAX, 1 << 24, 1 << 31]) {
                let listed = (least..=most).contains(&length) && needs_stream == (stream != 0);
                let case = format!("kind {byte:#04x}, stream {stream}, {length} bytes");
                assert_eq!(header_is_taken(length, byte, stream), listed, "{case}");
                cases += 1;
            }
        }
    }
    println!("{cases} headers");
}

#[test]
fn a_hello_is_taken_within_its_bounds_and_no_further() {
    let rows = table(PAGE, "| field | bounds | default | means |");
    let hello = Config::default_hello();
    let defaults = [1, hello.max_streams, hello.stream_credit, hello.max_head];
    assert_eq!(rows.len(), defaults.len());
    for (at, row) in rows.iter().enumerate() {
        assert_eq!(number(&row[2]), defaults[at], "{}", row[0]);
        let (least, most) = bounds(&row[1]);
        for (value, good) in [(least - 1, false), (least, true), (most, true), (most + 1, false)] {
            let mut fields = defaults;
            fields[at] = value;
            let mut bytes = vec![0, 0, 0, 14, 1, 0, 0, 0, 0];
            bytes.extend(u16::try_from(fields[0]).expect("a version").to_be_bytes());
            fields[1..].iter().for_each(|field| bytes.extend(field.to_be_bytes()));
            assert_eq!(decode_all(&bytes).is_ok(), good, "{} {value}", row[0]);
        }
    }
}

#[test]
fn times_and_codes_are_those_of_the_engine() {
    let config = Config::default();
    let rows = table(PAGE, "| what | default | bounds |");
    let shown = |time: Duration| format!("{} s", time.as_secs());
    let defaults = [config.hello_timeout, config.idle, config.answer_timeout, Duration::from_secs(1)];
    assert_eq!(rows.len(), defaults.len());
    for (row, default) in rows.iter().zip(defaults) {
        assert_eq!(row[1], shown(default), "{}", row[0]);
    }
    let codes: Vec<_> = table(PAGE, "| code | means |").into_iter().map(|row| row[0].clone()).collect();
    let ours = [goodbye::STOPPING, goodbye::VIOLATION, goodbye::IDS_SPENT, goodbye::AGREED];
    let ours: Vec<_> = ours.iter().map(u32::to_string).chain(["≥ 16".to_owned()]).collect();
    assert_eq!(codes, ours);
}

#[test]
fn the_crates_own_page_has_the_same_table() {
    let header = "| K | kind | stream id | END | length | payload |";
    assert_eq!(table(PAGE, header), table(README, header));
}
