//! An answer of a role, read strictly: what two readers could read in two ways is none.

use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use proto::header;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::Patience;
use super::chunked::{Chunked, NotChunked};

/// Most header fields of an answer; more are refused.
const ANSWER_HEADERS: usize = 64;
/// Largest head of an answer, bytes; larger is refused.
const ANSWER_HEAD_BYTES: usize = 64 * 1024;
/// Answers of the kind 1xx before the real one.
const INTERIM_LIMIT: usize = 8;
/// Room that is made for a read of a head. Most answers fit with their body.
const HEAD_ROOM: usize = 4 * 1024;
/// Room with which the middle of a large body is read: all that TLS gives at once.
const RECORD_ROOM: usize = 16 * 1024 + 64;
/// Room that is made when there is less than that. What was read of it goes on its way from where it lies.
const BODY_ROOM: usize = 4 * RECORD_ROOM;

/// The head of an answer.
#[derive(Debug)]
pub(crate) struct RoleAnswer {
    /// Its status, 200 to 999.
    pub(crate) status: StatusCode,
    /// As it came; phrase and values are parts of it.
    text: Bytes,
    phrase: Range<usize>,
    headers: Vec<(&'static str, Range<usize>)>,
    /// `Content-Length`, also of a body that does not come.
    pub(crate) stated: Option<u64>,
    framing: Framing,
    /// Another request may follow on the connection.
    reusable: bool,
}

/// What is still to come of a body.
#[derive(Debug)]
enum Framing {
    Length(u64),
    Chunked(Chunked),
    /// To the end of the connection.
    Rest,
}

impl Framing {
    /// Room that is made for what is still to come, or some of it.
    fn room(&self) -> usize {
        match self {
            Self::Length(left) => usize::try_from(*left).unwrap_or(usize::MAX).clamp(HEAD_ROOM, BODY_ROOM),
            Self::Chunked(_) | Self::Rest => BODY_ROOM,
        }
    }
}

/// Why there is no answer to be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerError {
    /// The connection ended before a byte of it.
    #[error("the role closed the connection without an answer")]
    Closed,
    /// The connection failed.
    #[error("the connection to the role failed")]
    Io(#[source] std::io::Error),
    /// It is no HTTP/1.1.
    #[error("the answer cannot be parsed")]
    Parse(#[from] httparse::Error),
    /// It breaks a rule of HTTP.
    #[error("the answer is not proper: {0}")]
    Improper(&'static str),
    /// A chunk of the body breaks a rule.
    #[error("the answer's body is not properly chunked")]
    Chunk(#[from] NotChunked),
    /// It ended too early.
    #[error("the answer broke off")]
    Cut,
    /// It wants to speak another protocol, which nobody asked for.
    #[error("the role answered with status 101")]
    Switched,
}

/// An answer whose head has come, and the connection that brings the rest.
#[derive(Debug)]
pub(crate) struct Answer<R> {
    /// The head.
    pub(crate) head: RoleAnswer,
    /// For waits on this connection.
    pub(crate) patience: Patience,
    reader: Reader<R>,
}

/// A connection, and what was read of it and not used yet.
#[derive(Debug)]
pub(super) struct Reader<R> {
    pub(super) io: R,
    pub(super) buffer: BytesMut,
    /// The buffer is one for a large body.
    is_large: bool,
}

impl<R> Reader<R> {
    /// `buffer`: empty, perhaps one that was used before.
    pub(super) fn new(io: R, buffer: BytesMut) -> Self {
        Self { io, buffer, is_large: false }
    }
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Reads the head of an answer. `is_head`: of one that has no body by the request's method.
    pub(super) async fn answer(mut self, is_head: bool) -> Result<Answer<R>, (AnswerError, Reader<R>)> {
        match self.head(is_head).await {
            Ok(head) => Ok(Answer { head, patience: Patience::default(), reader: self }),
            Err(error) => Err((error, self)),
        }
    }

    async fn head(&mut self, is_head: bool) -> Result<RoleAnswer, AnswerError> {
        let mut interim = 0;
        let mut seen = 0;
        loop {
            // What has been looked at without an end is looked at again only when there is more of it.
            if self.buffer.len() > seen
                && let Some((length, head)) = RoleAnswer::parse(&self.buffer, is_head)?
            {
                let text = self.buffer.split_to(length);
                match head {
                    Some(head) => return Ok(RoleAnswer { text: text.freeze(), ..head }),
                    None if interim == INTERIM_LIMIT => {
                        return Err(AnswerError::Improper("too many interim answers"));
                    }
                    None => (interim, seen) = (interim + 1, 0),
                }
                continue;
            }
            seen = self.buffer.len();
            if seen >= ANSWER_HEAD_BYTES {
                return Err(AnswerError::Improper("its head is too large"));
            }
            if self.read(HEAD_ROOM, HEAD_ROOM).await? == 0 {
                let nothing_came = seen == 0 && interim == 0;
                return Err(if nothing_came { AnswerError::Closed } else { AnswerError::Cut });
            }
        }
    }

    /// Reads what has come. Where there is not room for `least` bytes, it is made for `room`.
    async fn read(&mut self, least: usize, room: usize) -> Result<usize, AnswerError> {
        if self.buffer.capacity() - self.buffer.len() < least {
            self.buffer.reserve(room);
            self.is_large |= room > RECORD_ROOM;
        }
        self.io.read_buf(&mut self.buffer).await.map_err(AnswerError::Io)
    }
}

impl RoleAnswer {
    /// The head at the beginning of `bytes`, and its length; `None` while it is not whole, and in place of
    /// the head of an interim answer.
    fn parse(bytes: &[u8], is_head: bool) -> Result<Option<(usize, Option<Self>)>, AnswerError> {
        let mut headers = [const { MaybeUninit::uninit() }; ANSWER_HEADERS];
        let mut parsed = httparse::Response::new(&mut []);
        let outcome = httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut parsed,
            bytes,
            &mut headers,
        )?;
        let httparse::Status::Complete(length) = outcome else { return Ok(None) };
        if length > ANSWER_HEAD_BYTES {
            return Err(AnswerError::Improper("its head is too large"));
        }
        let code = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
        let status = code.ok_or(AnswerError::Improper("its status is not one"))?;
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(AnswerError::Switched);
        }
        if status.is_informational() {
            return Ok(Some((length, None)));
        }
        let is_newest = parsed.version == Some(1);
        let mut notes = Notes { reusable: is_newest, ..Notes::default() };
        for header in parsed.headers.iter() {
            notes.take(header.name, header.value, bytes)?;
        }
        let bodiless = is_head || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let framing = match (notes.length, notes.chunked) {
            (Some(_), true) => return Err(AnswerError::Improper("its length is stated in two ways")),
            (None, true) if !is_newest => return Err(AnswerError::Improper("it is chunked in HTTP/1.0")),
            _ if bodiless => Framing::Length(0),
            (Some(length), false) => Framing::Length(length),
            (None, true) => Framing::Chunked(Chunked::default()),
            (None, false) => Framing::Rest,
        };
        Ok(Some((
            length,
            Some(Self {
                status,
                text: Bytes::new(),
                phrase: place(parsed.reason.unwrap_or_default().as_bytes(), bytes),
                headers: notes.headers,
                stated: notes.length,
                reusable: notes.reusable && !matches!(framing, Framing::Rest),
                framing,
            }),
        )))
    }

    /// The status text as the role wrote it.
    pub(crate) fn phrase(&self) -> &str {
        self.part(&self.phrase)
    }

    /// The headers that may pass to a device.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.headers.iter().map(|(name, value)| (*name, self.part(value)))
    }

    fn part(&self, place: &Range<usize>) -> &str {
        let bytes = self.text.get(place.clone()).unwrap_or_default();
        // Looked at when it was noted.
        str::from_utf8(bytes).unwrap_or_default()
    }
}

/// Where `part` lies in `whole`, of which it is a part.
fn place(part: &[u8], whole: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr().wrapping_sub(whole.as_ptr().addr());
    start..start.saturating_add(part.len())
}

/// What the headers of an answer say.
#[derive(Default)]
struct Notes {
    length: Option<u64>,
    chunked: bool,
    reusable: bool,
    headers: Vec<(&'static str, Range<usize>)>,
}

impl Notes {
    /// Takes one; `value` is a part of `head`.
    fn take(&mut self, name: &str, value: &[u8], head: &[u8]) -> Result<(), AnswerError> {
        let improper = AnswerError::Improper;
        if name.eq_ignore_ascii_case("content-length") {
            let digits = str::from_utf8(value).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
            let length = digits.and_then(|digits| digits.parse().ok());
            let length = length.ok_or(improper("its length is no number"))?;
            if self.length.replace(length).is_some() {
                return Err(improper("its length is stated twice"));
            }
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            let is_only = !std::mem::replace(&mut self.chunked, true);
            if !is_only || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(improper("its transfer encoding is not just chunked"));
            }
        } else if name.eq_ignore_ascii_case("connection") {
            let closes = value
                .split(|byte| *byte == b',')
                .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"close"));
            self.reusable &= !closes;
        } else if let Some(passing) = header::find_outward(name)
            && header::visible(value).is_some()
        {
            self.headers.push((passing, place(value, head)));
        }
        Ok(())
    }
}

impl<R: AsyncRead + Unpin> Answer<R> {
    /// Length of the body, if it is known beforehand.
    pub(crate) fn body_length(&self) -> Option<u64> {
        match self.head.framing {
            Framing::Length(left) => Some(left),
            Framing::Chunked(_) | Framing::Rest => None,
        }
    }

    /// Nothing more of the body will come.
    pub(crate) fn has_ended(&self) -> bool {
        match &self.head.framing {
            Framing::Length(left) => *left == 0,
            Framing::Chunked(chunked) => chunked.has_ended(),
            Framing::Rest => false,
        }
    }

    /// The whole body, not empty, if it has come with the head; nothing more comes then.
    pub(crate) fn whole_body(&mut self) -> Option<Bytes> {
        let Framing::Length(left) = &mut self.head.framing else { return None };
        let length = usize::try_from(*left).ok()?;
        if length == 0 || length > self.reader.buffer.len() {
            return None;
        }
        *left = 0;
        Some(self.reader.buffer.split_to(length).freeze())
    }

    /// The next piece of the body, not empty; `None` at its end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, AnswerError> {
        loop {
            let buffer = &mut self.reader.buffer;
            match &mut self.head.framing {
                Framing::Length(0) => return Ok(None),
                Framing::Length(left) if !buffer.is_empty() => {
                    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                    *left -= length as u64;
                    return Ok(Some(buffer.split_to(length).freeze()));
                }
                Framing::Chunked(chunked) => {
                    if let Some(piece) = chunked.next(buffer)? {
                        return Ok(Some(piece));
                    }
                    if chunked.has_ended() {
                        return Ok(None);
                    }
                }
                Framing::Rest if !buffer.is_empty() => return Ok(Some(buffer.split().freeze())),
                Framing::Length(_) | Framing::Rest => {}
            }
            let room = self.head.framing.room();
            if self.reader.read(RECORD_ROOM.min(room), room).await? == 0 {
                return match self.head.framing {
                    Framing::Rest => {
                        self.head.framing = Framing::Length(0);
                        Ok(None)
                    }
                    Framing::Length(_) | Framing::Chunked(_) => Err(AnswerError::Cut),
                };
            }
        }
    }

    /// The connection, and its buffer and timer, if another request may follow on it.
    pub(super) fn into_reusable(self) -> Option<(R, BytesMut, Patience)> {
        // Bytes that nobody asked for would be taken for the next answer.
        let clean = self.has_ended() && self.reader.buffer.is_empty();
        let Reader { io, buffer, is_large } = self.reader;
        // Connections without a request shall not hold much.
        let buffer = if is_large { BytesMut::new() } else { buffer };
        (clean && self.head.reusable).then_some((io, buffer, self.patience))
    }
}

#[cfg(test)]
impl RoleAnswer {
    /// Reads a whole head.
    pub(crate) fn read(bytes: &[u8], is_head: bool) -> Result<Self, AnswerError> {
        let (_, head) = Self::parse(bytes, is_head)?.ok_or(AnswerError::Cut)?;
        Ok(Self { text: Bytes::copy_from_slice(bytes), ..head.ok_or(AnswerError::Cut)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn whole(bytes: &[u8], is_head: bool) -> Result<(RoleAnswer, Vec<u8>, bool), AnswerError> {
        let reader = Reader::new(bytes, BytesMut::new());
        let mut answer = reader.answer(is_head).await.map_err(|(error, _)| error)?;
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await? {
            body.extend_from_slice(&piece);
        }
        let Answer { head, reader, .. } = answer;
        let reusable = head.reusable && reader.buffer.is_empty();
        Ok((head, body, reusable))
    }

    #[tokio::test]
    async fn the_end_of_a_body_is_found_by_each_framing() {
        for (text, is_head, body, reusable) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", false, "hello", true),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello", false, "hello", false),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello and more", false, "hello", false),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
                false,
                "hello",
                true,
            ),
            ("HTTP/1.1 200 OK\r\n\r\nhello", false, "hello", false),
            ("HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello", false, "hello", false),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", true, "", true),
            ("HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", false, "", true),
            ("HTTP/1.1 204 No Content\r\n\r\n", false, "", true),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
                false,
                "ok",
                true,
            ),
        ] {
            let (_, came, again) = whole(text.as_bytes(), is_head).await.unwrap();
            assert_eq!((came.as_slice(), again), (body.as_bytes(), reusable), "{text:?}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_cut_anywhere_is_no_answer() {
        for text in [
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ] {
            for length in 0..text.len() {
                let outcome = whole(&text.as_bytes()[..length], false).await;
                let expected = if length == 0 { "Closed" } else { "Cut" };
                assert_eq!(format!("{:?}", outcome.unwrap_err()), expected, "{length}");
            }
        }
    }

    #[tokio::test]
    async fn a_body_that_came_with_the_head_is_taken_whole_and_no_other() {
        for (text, body) in [
            ("content-length: 5\r\n\r\nhello", Some("hello")),
            ("content-length: 5\r\n\r\nhell", None),
            ("content-length: 0\r\n\r\n", None),
            ("transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", None),
            ("\r\nhello", None),
        ] {
            let text = format!("HTTP/1.1 200 OK\r\n{text}");
            let mut answer = Reader::new(text.as_bytes(), BytesMut::new()).answer(false).await.unwrap();
            let whole = answer.whole_body();
            assert_eq!(whole.as_deref(), body.map(str::as_bytes), "{text:?}");
            if body.is_some() {
                assert!(answer.has_ended() && answer.into_reusable().is_some());
            }
        }
    }

    #[tokio::test]
    async fn a_connection_keeps_a_small_buffer_and_no_large_one() {
        let mut buffer = BytesMut::new();
        for (length, is_kept) in [(1000, true), (10_000, true), (1_000_000, false), (3000, true)] {
            let text = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{}", "x".repeat(length));
            let mut answer = Reader::new(text.as_bytes(), buffer).answer(false).await.unwrap();
            let mut came = 0;
            while let Some(piece) = answer.chunk().await.unwrap() {
                came += piece.len();
            }
            assert_eq!(came, length);
            (_, buffer, _) = answer.into_reusable().unwrap();
            assert!(buffer.is_empty());
            assert_eq!(buffer.try_reclaim(HEAD_ROOM), is_kept, "{length}");
        }
    }

    #[tokio::test]
    async fn what_can_be_read_in_two_ways_is_refused() {
        for headers in [
            "content-length: 5\r\ncontent-length: 5\r\n",
            "content-length: +5\r\n",
            "content-length: 5, 5\r\n",
            "content-length: 0x5\r\n",
            "content-length: \r\n",
            "content-length: 99999999999999999999\r\n",
            "content-length: 5\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
            "transfer-encoding: gzip, chunked\r\n",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: identity\r\n",
            "content-length : 5\r\n",
            "content-length: 5\r\n folded\r\n",
        ] {
            let text = format!("HTTP/1.1 200 OK\r\n{headers}\r\nhello");
            assert!(whole(text.as_bytes(), false).await.is_err(), "{headers:?}");
        }
        let text = "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
        assert!(whole(text.as_bytes(), false).await.is_err());
        let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(9);
        assert!(matches!(whole(interim.as_bytes(), false).await, Err(AnswerError::Improper(_))));
        let switched = "HTTP/1.1 101 Switching Protocols\r\n\r\n";
        assert!(matches!(whole(switched.as_bytes(), false).await, Err(AnswerError::Switched)));
    }
}
