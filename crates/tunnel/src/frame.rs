#![doc = include_str!("../README.md")]

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::num::NonZeroU32;
use std::ops::{Deref, RangeInclusive};

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Version of the protocol, in the Hello.
pub const VERSION: u16 = 1;
/// Bytes before the payload.
pub const HEADER_LENGTH: usize = 9;
/// Longest head of a request or an answer, bytes; also the longest payload of all.
pub const MAX_HEAD: usize = 64 * 1024;
/// Longest payload of a Data frame, bytes. Also a stream's turn in the output: short enough
/// that 64 busy streams still see each other's frames within a megabyte.
pub const MAX_DATA: usize = 16 * 1024;
/// Length of every piece of a control message but the last, bytes.
pub const CONTROL_CHUNK: usize = 16 * 1024;
/// Longest text of a Goodbye, bytes of UTF-8.
pub const MAX_GOODBYE_TEXT: usize = 256;

const END: u8 = 0x80;

/// Names a stream for the life of its tunnel. Rises from 1, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(NonZeroU32);

impl StreamId {
    /// `None` for 0, which stands for the connection itself.
    pub const fn new(id: u32) -> Option<Self> {
        match NonZeroU32::new(id) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    /// The number on the wire.
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

/// What is kept by stream. The ids of a tunnel rise, and there are at most [`Hello::MAX_STREAMS`] at once, so that a
/// peer that chooses them badly gains some microseconds; a hash against collisions would be wasted on each of the
/// dozen looks that a request takes.
pub type StreamMap<T> = HashMap<StreamId, T, BuildHasherDefault<StreamHasher>>;

/// Spreads numbers that follow one another.
#[derive(Debug, Default, Clone, Copy)]
pub struct StreamHasher(u64);

impl Hasher for StreamHasher {
    fn finish(&self) -> u64 {
        // The place in the map comes from the low bits, which so depend on all of the number.
        self.0.rotate_left(32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32((*byte).into());
        }
    }

    fn write_u32(&mut self, number: u32) {
        // The golden ratio in 64 bits: neighbours land far from one another, in the high bits too.
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a side grants to its peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// Streams open at once, within [`Hello::MAX_STREAMS`].
    pub max_streams: u32,
    /// Credit of each stream at its start, bytes, within [`Hello::STREAM_CREDIT`].
    pub stream_credit: u32,
    /// Longest head taken, bytes, within [`Hello::MAX_HEAD`].
    pub max_head: u32,
}

impl Hello {
    /// Bounds of [`max_streams`](Self::max_streams).
    pub const MAX_STREAMS: RangeInclusive<u32> = 1..=65_536;
    /// Bounds of [`stream_credit`](Self::stream_credit).
    pub const STREAM_CREDIT: RangeInclusive<u32> = 1 << 20..=64 << 20;
    /// Bounds of [`max_head`](Self::max_head).
    pub const MAX_HEAD: RangeInclusive<u32> = 1024..=65_536;

    const LENGTH: usize = 14;
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Limits of the sender; its first frame.
    Hello(Hello),
    /// Head of a request or an answer.
    Head {
        /// The stream, which a gateway's Head opens.
        stream: StreamId,
        /// At most [`MAX_HEAD`].
        bytes: Bytes,
        /// No body follows.
        end: bool,
    },
    /// Part of a body.
    Data {
        /// The stream.
        stream: StreamId,
        /// At most [`MAX_DATA`]; empty only at the end.
        bytes: Bytes,
        /// The body is complete.
        end: bool,
    },
    /// Credit for the receiver of this frame.
    Window {
        /// The stream.
        stream: StreamId,
        /// Bytes more.
        credit: NonZeroU32,
    },
    /// The sender neither sends nor reads any further on this stream.
    Reset {
        /// The stream.
        stream: StreamId,
        /// Why; the roles give it meaning.
        code: u32,
    },
    /// Asks for a Pong.
    Ping(u64),
    /// Answers a Ping.
    Pong(u64),
    /// The sender wants no new streams.
    Goodbye {
        /// Highest stream id that the sender opened or saw; 0: none.
        last: u32,
        /// Why, see [`goodbye`](crate::goodbye).
        code: u32,
        /// At most [`MAX_GOODBYE_TEXT`], for the other side's log.
        text: String,
    },
    /// A piece of a control message.
    Control {
        /// 1 to [`CONTROL_CHUNK`] bytes, exactly that many before the last.
        bytes: Bytes,
        /// The message is complete.
        end: bool,
    },
}

/// Bytes that are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A kind that version 1 does not have.
    #[error("unknown frame kind {0}")]
    UnknownKind(u8),
    /// Shorter or longer than its kind may be.
    #[error("{kind:?} frame of {length} bytes, allowed are {shortest} to {longest}")]
    Length {
        /// The kind.
        kind: Kind,
        /// Stated in the header.
        length: u32,
        /// Least for this kind, here.
        shortest: usize,
        /// Most for this kind, here.
        longest: usize,
    },
    /// A stream id where none belongs, or none where one does.
    #[error("{kind:?} frame with stream id {stream}")]
    StreamId {
        /// The kind.
        kind: Kind,
        /// Stated in the header.
        stream: u32,
    },
    /// An END flag on a kind that has none.
    #[error("{0:?} frame with an end flag")]
    EndFlag(Kind),
    /// Another version of the protocol.
    #[error("protocol version {0}, this side speaks 1")]
    Version(u16),
    /// A Hello with limits outside their bounds.
    #[error("hello with limits out of bounds: {0:?}")]
    Limits(Hello),
    /// A Window that grants nothing.
    #[error("window frame without credit")]
    NoCredit,
    /// A Goodbye whose text is not UTF-8 or has control characters.
    #[error("goodbye with an unprintable text")]
    Text,
}

/// Kind of a frame: the low seven bits of the header's fifth byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named like the frames")]
#[repr(u8)]
pub enum Kind {
    Hello = 1,
    Head = 2,
    Data = 3,
    Window = 4,
    Reset = 5,
    Ping = 6,
    Pong = 7,
    Goodbye = 8,
    Control = 9,
}

impl Kind {
    const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Hello,
            2 => Self::Head,
            3 => Self::Data,
            4 => Self::Window,
            5 => Self::Reset,
            6 => Self::Ping,
            7 => Self::Pong,
            8 => Self::Goodbye,
            9 => Self::Control,
            _ => return None,
        })
    }

    const fn belongs_to_a_stream(self) -> bool {
        matches!(self, Self::Head | Self::Data | Self::Window | Self::Reset)
    }

    const fn may_end(self) -> bool {
        matches!(self, Self::Head | Self::Data | Self::Control)
    }

    const fn lengths(self, end: bool, max_head: usize) -> RangeInclusive<usize> {
        match self {
            // Another version's Hello may be of another length; it must be read to be named.
            Self::Hello => 2..=64,
            Self::Head => 0..=max_head,
            Self::Data => (!end as usize)..=MAX_DATA,
            Self::Window | Self::Reset => 4..=4,
            Self::Ping | Self::Pong => 8..=8,
            Self::Goodbye => 8..=8 + MAX_GOODBYE_TEXT,
            Self::Control if end => 1..=CONTROL_CHUNK,
            Self::Control => CONTROL_CHUNK..=CONTROL_CHUNK,
        }
    }
}

/// Header of a frame, with everything checked that can be without the payload.
#[derive(Debug, Clone, Copy)]
struct Header {
    length: usize,
    kind: Kind,
    end: bool,
    stream: u32,
}

impl Header {
    fn parse(mut bytes: &[u8], max_head: usize) -> Result<Self, FrameError> {
        // The decoder hands over HEADER_LENGTH bytes, so none of these reads can run out.
        let (length, kind, stream) = (bytes.get_u32(), bytes.get_u8(), bytes.get_u32());
        let end = kind & END != 0;
        let kind = Kind::from_byte(kind & !END).ok_or(FrameError::UnknownKind(kind & !END))?;
        if end && !kind.may_end() {
            return Err(FrameError::EndFlag(kind));
        }
        if kind.belongs_to_a_stream() == (stream == 0) {
            return Err(FrameError::StreamId { kind, stream });
        }
        let lengths = kind.lengths(end, max_head);
        match usize::try_from(length) {
            Ok(length) if lengths.contains(&length) => Ok(Self { length, kind, end, stream }),
            _ => {
                let (shortest, longest) = lengths.into_inner();
                Err(FrameError::Length { kind, length, shortest, longest })
            }
        }
    }
}

/// Writes a header. The caller keeps to the lengths of the kind.
fn put_header(out: &mut BytesMut, kind: Kind, end: bool, stream: u32, length: usize) {
    debug_assert!(length <= MAX_HEAD);
    // No kind is longer than MAX_HEAD.
    #[expect(clippy::cast_possible_truncation)]
    out.put_u32(length as u32);
    out.put_u8(kind as u8 | if end { END } else { 0 });
    out.put_u32(stream);
}

/// Writes the header of a Data frame whose payload the caller appends, from as many pieces as it has.
pub(crate) fn put_data_header(out: &mut BytesMut, stream: StreamId, length: usize, end: bool) {
    put_header(out, Kind::Data, end, stream.get(), length);
}

impl Frame {
    /// Appends the frame to `out`. Lengths must be within the bounds of the kind; nothing is checked
    /// here, so that tests can write what a hostile peer would.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Hello(hello) => {
                put_header(out, Kind::Hello, false, 0, Hello::LENGTH);
                out.put_u16(VERSION);
                out.put_u32(hello.max_streams);
                out.put_u32(hello.stream_credit);
                out.put_u32(hello.max_head);
            }
            Self::Head { stream, bytes, end } => {
                put_header(out, Kind::Head, *end, stream.get(), bytes.len());
                out.put_slice(bytes);
            }
            Self::Data { stream, bytes, end } => {
                put_data_header(out, *stream, bytes.len(), *end);
                out.put_slice(bytes);
            }
            Self::Window { stream, credit } => {
                put_header(out, Kind::Window, false, stream.get(), 4);
                out.put_u32(credit.get());
            }
            Self::Reset { stream, code } => {
                put_header(out, Kind::Reset, false, stream.get(), 4);
                out.put_u32(*code);
            }
            Self::Ping(value) => {
                put_header(out, Kind::Ping, false, 0, 8);
                out.put_u64(*value);
            }
            Self::Pong(value) => {
                put_header(out, Kind::Pong, false, 0, 8);
                out.put_u64(*value);
            }
            Self::Goodbye { last, code, text } => {
                put_header(out, Kind::Goodbye, false, 0, 8 + text.len());
                out.put_u32(*last);
                out.put_u32(*code);
                out.put_slice(text.as_bytes());
            }
            Self::Control { bytes, end } => {
                put_header(out, Kind::Control, *end, 0, bytes.len());
                out.put_slice(bytes);
            }
        }
    }

    /// Reads a payload whose length `Header::parse` has held against its kind.
    fn parse(header: Header, payload: Piece<'_>) -> Result<Self, FrameError> {
        let Header { kind, end, .. } = header;
        let mut fields: &[u8] = &payload;
        if let Some(stream) = StreamId::new(header.stream) {
            return Ok(match kind {
                Kind::Head => Self::Head { stream, bytes: payload.into_bytes(), end },
                Kind::Data => Self::Data { stream, bytes: payload.into_bytes(), end },
                Kind::Window => {
                    let credit = NonZeroU32::new(fields.get_u32()).ok_or(FrameError::NoCredit)?;
                    Self::Window { stream, credit }
                }
                Kind::Reset => Self::Reset { stream, code: fields.get_u32() },
                _ => return Err(FrameError::StreamId { kind, stream: header.stream }),
            });
        }
        match kind {
            Kind::Hello => Self::parse_hello(fields),
            Kind::Ping => Ok(Self::Ping(fields.get_u64())),
            Kind::Pong => Ok(Self::Pong(fields.get_u64())),
            Kind::Goodbye => {
                let (last, code) = (fields.get_u32(), fields.get_u32());
                let text = str::from_utf8(fields).map_err(|_| FrameError::Text)?;
                // It goes into logs.
                if text.contains(char::is_control) {
                    return Err(FrameError::Text);
                }
                Ok(Self::Goodbye { last, code, text: text.to_owned() })
            }
            Kind::Control => Ok(Self::Control { bytes: payload.into_bytes(), end }),
            _ => Err(FrameError::StreamId { kind, stream: 0 }),
        }
    }

    fn parse_hello(mut fields: &[u8]) -> Result<Self, FrameError> {
        #[expect(clippy::cast_possible_truncation, reason = "at most 64")]
        let length = fields.len() as u32;
        let version = fields.get_u16();
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        if length as usize != Hello::LENGTH {
            let (shortest, longest) = (Hello::LENGTH, Hello::LENGTH);
            return Err(FrameError::Length { kind: Kind::Hello, length, shortest, longest });
        }
        let (max_streams, stream_credit, max_head) = (fields.get_u32(), fields.get_u32(), fields.get_u32());
        let hello = Hello { max_streams, stream_credit, max_head };
        let sound = Hello::MAX_STREAMS.contains(&max_streams)
            && Hello::STREAM_CREDIT.contains(&stream_credit)
            && Hello::MAX_HEAD.contains(&max_head);
        if sound { Ok(Self::Hello(hello)) } else { Err(FrameError::Limits(hello)) }
    }
}

/// Cuts a byte stream into frames, however it was chunked. Holds at most one frame, and nothing that
/// its header has not justified. Of no further use after an error.
#[derive(Debug)]
pub struct Decoder {
    max_head: usize,
    /// Of the frame whose payload is being gathered.
    header: Option<Header>,
    /// Beginning of a header or payload that a chunk ended in.
    partial: BytesMut,
}

impl Decoder {
    /// `max_head`: longest Head taken, bytes.
    pub fn new(max_head: usize) -> Self {
        Self { max_head, header: None, partial: BytesMut::new() }
    }

    /// The next whole frame, and `input` moved behind it; `None` when all of `input` is used up.
    ///
    /// Payloads are copied out at their own size, so a small one that is kept for long pins no read buffer.
    pub fn next_frame(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, FrameError> {
        let header = if let Some(header) = self.header {
            header
        } else {
            let Some(start) = self.take(input, HEADER_LENGTH) else { return Ok(None) };
            let header = Header::parse(&start, self.max_head)?;
            *self.header.insert(header)
        };
        let Some(payload) = self.take(input, header.length) else { return Ok(None) };
        self.header = None;
        Frame::parse(header, payload).map(Some)
    }

    /// Exactly `length` bytes, once they are there.
    fn take<'a>(&mut self, input: &mut &'a [u8], length: usize) -> Option<Piece<'a>> {
        if self.partial.is_empty()
            && let Some((piece, rest)) = input.split_at_checked(length)
        {
            *input = rest;
            return Some(Piece::Whole(piece));
        }
        let missing = length.saturating_sub(self.partial.len());
        let (more, rest) = input.split_at(missing.min(input.len()));
        *input = rest;
        if more.is_empty() {
            return None;
        }
        self.partial.reserve(missing);
        self.partial.put_slice(more);
        (more.len() == missing).then(|| Piece::Gathered(std::mem::take(&mut self.partial).freeze()))
    }
}

/// All frames in `bytes` that are whole. What a fuzz target calls.
pub fn decode_all(mut bytes: &[u8]) -> Result<Vec<Frame>, FrameError> {
    let mut decoder = Decoder::new(MAX_HEAD);
    let mut frames = Vec::new();
    while let Some(frame) = decoder.next_frame(&mut bytes)? {
        frames.push(frame);
    }
    Ok(frames)
}

/// A run of bytes: borrowed from the input, or gathered from several.
enum Piece<'a> {
    Whole(&'a [u8]),
    Gathered(Bytes),
}

impl Piece<'_> {
    fn into_bytes(self) -> Bytes {
        match self {
            Self::Whole(slice) => Bytes::copy_from_slice(slice),
            Self::Gathered(bytes) => bytes,
        }
    }
}

impl Deref for Piece<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Whole(slice) => slice,
            Self::Gathered(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: StreamId = StreamId::new(7).unwrap();

    fn one_of_each() -> Vec<Frame> {
        let bytes = Bytes::from_static(b"abc");
        vec![
            Frame::Hello(Hello { max_streams: 9, stream_credit: 1 << 20, max_head: 1024 }),
            Frame::Head { stream: STREAM, bytes: bytes.clone(), end: false },
            Frame::Data { stream: STREAM, bytes: bytes.clone(), end: false },
            Frame::Data { stream: STREAM, bytes: Bytes::new(), end: true },
            Frame::Window { stream: STREAM, credit: NonZeroU32::MIN },
            Frame::Reset { stream: STREAM, code: 5 },
            Frame::Ping(1),
            Frame::Pong(u64::MAX),
            Frame::Goodbye { last: 7, code: 0, text: "bis später".to_owned() },
            Frame::Control { bytes: Bytes::from(vec![b'x'; CONTROL_CHUNK]), end: false },
            Frame::Control { bytes, end: true },
        ]
    }

    fn wire(frames: &[Frame]) -> BytesMut {
        let mut out = BytesMut::new();
        for frame in frames {
            frame.encode(&mut out);
        }
        out
    }

    #[test]
    fn the_bytes_are_those_of_the_document() {
        let head = Frame::Head { stream: STREAM, bytes: Bytes::from_static(b"abc"), end: true };
        assert_eq!(wire(&[head])[..], *b"\x00\x00\x00\x03\x82\x00\x00\x00\x07abc");
        let hello = Frame::Hello(Hello { max_streams: 258, stream_credit: 1 << 20, max_head: 1 << 16 });
        assert_eq!(
            wire(&[hello])[..],
            *b"\0\0\0\x0e\x01\0\0\0\0\x00\x01\x00\x00\x01\x02\x00\x10\x00\x00\x00\x01\x00\x00"
        );
        let goodbye = Frame::Goodbye { last: 1, code: 2, text: "x".to_owned() };
        assert_eq!(wire(&[goodbye])[..], *b"\0\0\0\x09\x08\0\0\0\0\0\0\0\x01\0\0\0\x02x");
    }

    #[test]
    fn frames_survive_the_wire_in_chunks_of_any_size() {
        let frames = one_of_each();
        let bytes = wire(&frames);
        for size in [1, 2, 8, 9, 10, 100, 20_000] {
            let mut decoder = Decoder::new(MAX_HEAD);
            let mut read = Vec::new();
            for mut chunk in bytes.chunks(size) {
                while let Some(frame) = decoder.next_frame(&mut chunk).unwrap() {
                    read.push(frame);
                }
            }
            assert_eq!(read, frames, "chunks of {size}");
        }
    }

    #[test]
    fn what_the_document_forbids_is_refused() {
        let refused = |bytes: &[u8]| decode_all(bytes).unwrap_err();
        assert_eq!(refused(b"\0\0\0\0\x0a\0\0\0\0"), FrameError::UnknownKind(10));
        assert_eq!(refused(b"\0\0\0\x04\x84\0\0\0\x01"), FrameError::EndFlag(Kind::Window));
        assert_eq!(refused(b"\0\0\0\x03\x03\0\0\0\0"), FrameError::StreamId { kind: Kind::Data, stream: 0 });
        assert_eq!(
            refused(b"\0\0\0\x08\x06\0\0\0\x01"),
            FrameError::StreamId { kind: Kind::Ping, stream: 1 }
        );
        // Refused by the header alone: nothing is held for a payload that may not be.
        for (header, kind) in [
            (b"\xff\xff\xff\xff\x02\0\0\0\x01", Kind::Head),
            (b"\x00\x01\x00\x01\x02\0\0\0\x01", Kind::Head),
            (b"\x00\x00\x40\x01\x03\0\0\0\x01", Kind::Data),
            (b"\x00\x00\x00\x00\x03\0\0\0\x01", Kind::Data),
            (b"\x00\x00\x00\x01\x09\0\0\0\x00", Kind::Control),
            (b"\x00\x00\x00\x00\x89\0\0\0\x00", Kind::Control),
            (b"\x00\x00\x01\x09\x08\0\0\0\x00", Kind::Goodbye),
            (b"\x00\x00\x00\x41\x01\0\0\0\x00", Kind::Hello),
        ] {
            assert!(matches!(refused(header), FrameError::Length { kind: k, .. } if k == kind), "{kind:?}");
        }
        assert_eq!(refused(b"\0\0\0\x04\x04\0\0\0\x01\0\0\0\0"), FrameError::NoCredit);
        assert_eq!(refused(b"\0\0\0\x02\x01\0\0\0\0\x00\x02"), FrameError::Version(2));
        assert!(matches!(refused(b"\0\0\0\x02\x01\0\0\0\0\x00\x01"), FrameError::Length { .. }));
        let limits = Hello { max_streams: 1, stream_credit: 1, max_head: 1024 };
        assert_eq!(refused(&wire(&[Frame::Hello(limits)])), FrameError::Limits(limits));
        for text in [&b"\xff"[..], b"a\nb"] {
            let mut bytes = vec![0, 0, 0, 8 + u8::try_from(text.len()).unwrap(), 8];
            bytes.extend([0; 12]);
            bytes.extend(text);
            assert_eq!(refused(&bytes), FrameError::Text);
        }
    }

    #[test]
    fn a_head_longer_than_this_side_takes_is_refused_by_its_header() {
        let head = Frame::Head { stream: STREAM, bytes: vec![0; 1025].into(), end: true };
        let bytes = wire(&[head]);
        let outcome = Decoder::new(1024).next_frame(&mut &bytes[..HEADER_LENGTH]);
        assert!(matches!(outcome, Err(FrameError::Length { length: 1025, longest: 1024, .. })));
    }
}
