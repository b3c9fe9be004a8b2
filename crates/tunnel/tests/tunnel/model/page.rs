//! Frames as `docs/wire.md` lists them, read apart from the engine: what both agree on was not read
//! twice by the same mistake.

use std::num::NonZeroU32;
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use tunnel::frame::Frame;
use tunnel::{Config, ConnectorSide, GatewaySide, Hello, StreamId};

/// Bytes that the page does not list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoFrame;

/// Gathers bytes and cuts them into frames.
#[derive(Debug)]
pub(crate) struct Reader {
    max_head: usize,
    bytes: BytesMut,
}

impl Reader {
    pub(crate) fn new(max_head: usize) -> Self {
        Self { max_head, bytes: BytesMut::new() }
    }

    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether part of a frame is held.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next whole frame. A header is judged as soon as it is whole.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame>, NoFrame> {
        let Some(header) = self.bytes.first_chunk::<9>() else { return Ok(None) };
        let length = u32::from_be_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let (kind, end) = (header[4] & 0x7f, header[4] & 0x80 != 0);
        let stream = StreamId::new(u32::from_be_bytes([header[5], header[6], header[7], header[8]]));
        let has_row = match (kind, end, stream.is_some()) {
            (1, false, false) => (2..=64).contains(&length),
            (2, _, true) => length <= self.max_head,
            (3, false, true) | (9, true, false) => (1..=16_384).contains(&length),
            (3, true, true) => length <= 16_384,
            (4 | 5, false, true) => length == 4,
            (6 | 7, false, false) => length == 8,
            (8, false, false) => (8..=264).contains(&length),
            (9, false, false) => length == 16_384,
            _ => false,
        };
        if !has_row {
            return Err(NoFrame);
        }
        if self.bytes.len() < 9 + length {
            return Ok(None);
        }
        self.bytes.advance(9);
        let payload = self.bytes.split_to(length).freeze();
        read(kind, end, stream, payload).map(Some)
    }
}

fn read(kind: u8, end: bool, stream: Option<StreamId>, payload: Bytes) -> Result<Frame, NoFrame> {
    let mut fields = &payload[..];
    Ok(match (kind, stream) {
        (1, None) => {
            if payload.len() != 14 || fields.get_u16() != 1 {
                return Err(NoFrame);
            }
            let hello = Hello {
                max_streams: fields.get_u32(),
                stream_credit: fields.get_u32(),
                max_head: fields.get_u32(),
            };
            let sound = (1..=65_536).contains(&hello.max_streams)
                && (1_048_576..=67_108_864).contains(&hello.stream_credit)
                && (1024..=65_536).contains(&hello.max_head);
            if !sound {
                return Err(NoFrame);
            }
            Frame::Hello(hello)
        }
        (2, Some(stream)) => Frame::Head { stream, bytes: payload, end },
        (3, Some(stream)) => Frame::Data { stream, bytes: payload, end },
        (4, Some(stream)) => {
            Frame::Window { stream, credit: NonZeroU32::new(fields.get_u32()).ok_or(NoFrame)? }
        }
        (5, Some(stream)) => Frame::Reset { stream, code: fields.get_u32() },
        (6, None) => Frame::Ping(fields.get_u64()),
        (7, None) => Frame::Pong(fields.get_u64()),
        (8, None) => {
            let (last, code) = (fields.get_u32(), fields.get_u32());
            let text = str::from_utf8(fields).map_err(|_| NoFrame)?.to_owned();
            if text.chars().any(char::is_control) {
                return Err(NoFrame);
            }
            Frame::Goodbye { last, code, text }
        }
        (9, None) => Frame::Control { bytes: payload, end },
        _ => unreachable!("its header has no row"),
    })
}

/// Reads `bytes` in chunks with the engine's decoder and whole with [`Reader`]: the same frames, the same
/// verdict, and each frame written again is what was read. Then a fresh side of each kind gets them.
pub(crate) fn whatever_the_bytes(bytes: &[u8]) {
    read_both_ways(bytes, bytes.first().map_or(1, |first| usize::from(*first) + 1));
    let now = Instant::now();
    let mut gateway = GatewaySide::new(Config::default(), now);
    let mut connector = ConnectorSide::new(Config::default(), now);
    let _ = gateway.receive_bytes(now, bytes);
    let _ = connector.receive_bytes(now, bytes);
    while gateway.next_event().is_some() {}
    while connector.next_event().is_some() {}
}

fn read_both_ways(bytes: &[u8], chunk: usize) {
    let mut decoder = tunnel::frame::Decoder::new(65_536);
    let mut reader = Reader::new(65_536);
    reader.feed(bytes);
    let mut again = BytesMut::new();
    for mut part in bytes.chunks(chunk) {
        loop {
            match decoder.next_frame(&mut part) {
                Ok(Some(frame)) => {
                    frame.encode(&mut again);
                    assert_eq!(Ok(Some(frame)), reader.next_frame());
                }
                Ok(None) => break,
                Err(_) => {
                    assert_eq!(reader.next_frame(), Err(NoFrame));
                    assert!(bytes.starts_with(&again));
                    return;
                }
            }
        }
    }
    assert_eq!(reader.next_frame(), Ok(None));
    assert!(bytes.starts_with(&again));
}
