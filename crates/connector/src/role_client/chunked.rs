//! Bodies in chunks, by the letter of RFC 9112 (7.1).

use bytes::{Buf, Bytes, BytesMut};

/// Longest line of a chunk's size with its extensions, and of a trailer, bytes.
const LINE_BYTES: usize = 4 * 1024;
/// Most trailer lines; they are dropped.
const TRAILERS: usize = 32;

/// Where the reading of a chunked body stands.
#[derive(Debug, Default)]
pub(super) struct Chunked {
    state: State,
    trailers: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    Data(u64),
    DataEnd,
    Trailer,
    Done,
}

/// A rule of chunks was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotChunked {
    /// The size is not a hexadecimal number of 1 to 16 digits.
    #[error("the size of a chunk is no number")]
    Size,
    /// A line does not end with carriage return and line feed, or ends twice.
    #[error("a line of the chunks does not end as it must")]
    LineEnd,
    /// A line is too long, or there are too many.
    #[error("the chunks have too long or too many lines")]
    TooLong,
}

impl Chunked {
    /// Whether the last chunk and its trailers have been read.
    pub(super) fn has_ended(&self) -> bool {
        self.state == State::Done
    }

    /// The next piece of the body in `buffer`, not empty; `None` when more bytes are needed, or at the end.
    pub(super) fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, NotChunked> {
        loop {
            match self.state {
                State::Size => {
                    let Some(line) = line(buffer)? else { return Ok(None) };
                    self.state = match size(&line)? {
                        0 => State::Trailer,
                        size => State::Data(size),
                    };
                }
                State::Data(left) => {
                    if buffer.is_empty() {
                        return Ok(None);
                    }
                    let length = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                    self.state = match left - length as u64 {
                        0 => State::DataEnd,
                        left => State::Data(left),
                    };
                    return Ok(Some(buffer.split_to(length).freeze()));
                }
                State::DataEnd => match buffer.get(..2) {
                    Some(b"\r\n") => {
                        buffer.advance(2);
                        self.state = State::Size;
                    }
                    Some(_) => return Err(NotChunked::LineEnd),
                    None => return Ok(None),
                },
                State::Trailer => {
                    let Some(line) = line(buffer)? else { return Ok(None) };
                    if line.is_empty() {
                        self.state = State::Done;
                    }
                    self.trailers += 1;
                    if self.trailers > TRAILERS {
                        return Err(NotChunked::TooLong);
                    }
                }
                State::Done => return Ok(None),
            }
        }
    }
}

/// The line at the beginning of `buffer`, without its end.
fn line(buffer: &mut BytesMut) -> Result<Option<BytesMut>, NotChunked> {
    let Some(end) = buffer.iter().take(LINE_BYTES).position(|byte| *byte == b'\n') else {
        return if buffer.len() >= LINE_BYTES { Err(NotChunked::TooLong) } else { Ok(None) };
    };
    let mut line = buffer.split_to(end + 1);
    match line.split_last_chunk() {
        Some((text, b"\r\n")) if !text.contains(&b'\r') => {
            line.truncate(end - 1);
            Ok(Some(line))
        }
        _ => Err(NotChunked::LineEnd),
    }
}

/// The number before any extension.
fn size(line: &[u8]) -> Result<u64, NotChunked> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii_end();
    let text = str::from_utf8(digits).map_err(|_| NotChunked::Size)?;
    if !(1..=16).contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(NotChunked::Size);
    }
    u64::from_str_radix(text, 16).map_err(|_| NotChunked::Size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Result<(Vec<u8>, bool), NotChunked> {
        let mut chunked = Chunked::default();
        let mut buffer = BytesMut::from(text);
        let mut body = Vec::new();
        while let Some(piece) = chunked.next(&mut buffer)? {
            body.extend_from_slice(&piece);
        }
        Ok((body, chunked.has_ended()))
    }

    const GOOD: &[u8] = b"5;name=\"a\"\r\nhello\r\nB\r\n, and more.\r\n0\r\ntrailer: x\r\n\r\n";

    #[test]
    fn chunks_are_put_together_and_extensions_and_trailers_dropped() {
        assert_eq!(read(GOOD), Ok((b"hello, and more.".to_vec(), true)));
    }

    #[test]
    fn a_body_that_is_cut_anywhere_is_not_whole() {
        for length in 0..GOOD.len() {
            let (body, ended) = read(&GOOD[..length]).unwrap();
            assert!(!ended && b"hello, and more.".starts_with(body.as_slice()), "{length}");
        }
    }

    #[test]
    fn bytes_that_come_one_by_one_make_the_same_body() {
        let mut chunked = Chunked::default();
        let (mut buffer, mut body) = (BytesMut::new(), Vec::new());
        for byte in GOOD {
            buffer.extend_from_slice(&[*byte]);
            while let Some(piece) = chunked.next(&mut buffer).unwrap() {
                body.extend_from_slice(&piece);
            }
        }
        assert_eq!((body.as_slice(), chunked.has_ended()), (&b"hello, and more."[..], true));
    }

    #[test]
    fn what_follows_the_last_chunk_is_left_alone() {
        let mut chunked = Chunked::default();
        let mut buffer = BytesMut::from(&b"0\r\n\r\nHTTP/1.1 200"[..]);
        assert_eq!(chunked.next(&mut buffer), Ok(None));
        assert!(chunked.has_ended() && &buffer[..] == b"HTTP/1.1 200");
    }

    #[test]
    fn broken_rules_are_named() {
        for (text, error) in [
            (&b"x\r\n"[..], NotChunked::Size),
            (b"\r\n", NotChunked::Size),
            (b"+5\r\nhello", NotChunked::Size),
            (b"0x5\r\nhello", NotChunked::Size),
            (b" 5\r\nhello", NotChunked::Size),
            (b"11111111111111111\r\n", NotChunked::Size),
            (b"5\nhello\n", NotChunked::LineEnd),
            (b"5\r\r\nhello", NotChunked::LineEnd),
            (b"5\r\nhello\n0\r\n\r\n", NotChunked::LineEnd),
            (b"5\r\nhelloXX", NotChunked::LineEnd),
        ] {
            assert_eq!(read(text), Err(error), "{:?}", text.escape_ascii().to_string());
        }
        assert_eq!(read(&[b'1'; 5000]), Err(NotChunked::TooLong));
        let trailers = ["0\r\n", &"a: b\r\n".repeat(100), "\r\n"].concat();
        assert_eq!(read(trailers.as_bytes()), Err(NotChunked::TooLong));
    }
}
