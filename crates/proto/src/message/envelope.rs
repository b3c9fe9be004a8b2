//! The envelope: a `multipart/mixed` body with a header part and, mostly, a payload part.
//!
//! Clients differ in small things, which are taken (names in any case, further part headers,
//! a line end behind the closing boundary). Everything else has one reading or none.

use memchr::memmem;

use crate::limits;
use crate::text::{self, Utf16Error};

/// The boundary in every known client [observed]. Read it from the Content-Type all the same.
pub const BOUNDARY: &str = "aAbBcCdDv1234567890VxXyYzZ";
/// The Content-Type of every message and reply. The quotes are part of it (section 12).
pub const CONTENT_TYPE: &str = r#"multipart/mixed; boundary="aAbBcCdDv1234567890VxXyYzZ""#;

const HEADER_PART_TYPE: &str = "text/plain; charset=UTF-16";
const PAYLOAD_PART_TYPE: &str = "application/octet-stream";

/// Why a body is no envelope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Larger than [`limits::MESSAGE_BYTES`].
    #[error("a message of {0} bytes is too large")]
    TooLarge(usize),
    /// Not `multipart/mixed` with one usable boundary.
    #[error("the Content-Type is not multipart/mixed with a boundary")]
    ContentType,
    /// The body does not begin with the boundary the Content-Type names.
    #[error("the body does not begin with its boundary")]
    NoBoundary,
    /// A part does not end with the boundary.
    #[error("the body ends inside a part")]
    Truncated,
    /// Part headers that are no headers, or too long.
    #[error("malformed part headers")]
    PartHeaders,
    /// A part of another type than the one expected in its place.
    #[error("a part of an unexpected type")]
    PartType,
    /// More than a header and a payload.
    #[error("more than two parts")]
    TooManyParts,
    /// Bytes behind the closing boundary, beyond one line end.
    #[error("bytes behind the closing boundary")]
    TrailingData,
    /// The header part is larger than [`limits::MESSAGE_HEADER_BYTES`].
    #[error("a header of {0} bytes is too large")]
    HeaderTooLarge(usize),
    /// The header part is not UTF-16LE with a BOM.
    #[error("the header part is not text")]
    HeaderText(#[source] Utf16Error),
}

/// An envelope taken apart, not further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope<'b> {
    /// The header part's XML, decoded.
    pub header: String,
    /// The payload as stored, if there is a second part. Signatures cover these bytes.
    pub payload: Option<&'b [u8]>,
}

impl<'b> Envelope<'b> {
    /// Takes a body apart by the boundary that its Content-Type names.
    pub fn parse(content_type: &str, body: &'b [u8]) -> Result<Self, EnvelopeError> {
        if body.len() > limits::MESSAGE_BYTES {
            return Err(EnvelopeError::TooLarge(body.len()));
        }
        let boundary = boundary(content_type)?;
        let mut parts = Parts::new(boundary, body)?;
        let header = parts.next_part("text/plain")?;
        if header.len() > limits::MESSAGE_HEADER_BYTES {
            return Err(EnvelopeError::HeaderTooLarge(header.len()));
        }
        let header = text::decode_with_bom(header).map_err(EnvelopeError::HeaderText)?;
        let payload = if parts.closed {
            None
        } else {
            let payload = parts.next_part(PAYLOAD_PART_TYPE)?;
            if !parts.closed {
                return Err(EnvelopeError::TooManyParts);
            }
            Some(payload)
        };
        Ok(Self { header, payload })
    }

    /// Writes an envelope byte for byte as every known client does; replies have the same
    /// form. The Content-Type that goes with it is [`CONTENT_TYPE`].
    pub fn write(header: &str, payload: Option<&[u8]>) -> Vec<u8> {
        let mut body = Vec::with_capacity(header.len() * 2 + payload.map_or(0, <[u8]>::len) + 256);
        push_part_start(&mut body, HEADER_PART_TYPE);
        body.extend_from_slice(&text::encode_with_bom(header));
        if let Some(payload) = payload {
            body.extend_from_slice(b"\r\n");
            push_part_start(&mut body, PAYLOAD_PART_TYPE);
            body.extend_from_slice(payload);
        }
        body.extend_from_slice(format!("\r\n--{BOUNDARY}--").as_bytes());
        body
    }
}

fn push_part_start(body: &mut Vec<u8>, content_type: &str) {
    body.extend_from_slice(format!("--{BOUNDARY}\r\ncontent-type: {content_type}\r\n\r\n").as_bytes());
}

/// Finds the boundary in a Content-Type, quoted or not; names in any case.
fn boundary(content_type: &str) -> Result<&str, EnvelopeError> {
    let mut pieces = content_type.split(';');
    let media_type = pieces.next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("multipart/mixed") {
        return Err(EnvelopeError::ContentType);
    }
    let mut found = None;
    for piece in pieces {
        let Some((name, value)) = piece.split_once('=') else { continue };
        if name.trim().eq_ignore_ascii_case("boundary") && found.replace(value.trim()).is_some() {
            return Err(EnvelopeError::ContentType);
        }
    }
    let value = found.ok_or(EnvelopeError::ContentType)?;
    let bare = match value.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"').ok_or(EnvelopeError::ContentType)?,
        None => value,
    };
    // RFC 2046 without the characters that would need a quoted-string parser.
    let allowed = |c: char| c.is_ascii_alphanumeric() || "'()+_,-./:=?".contains(c);
    if bare.is_empty() || bare.len() > limits::BOUNDARY_CHARS || !bare.chars().all(allowed) {
        return Err(EnvelopeError::ContentType);
    }
    Ok(bare)
}

struct Parts<'b> {
    /// `CRLF -- boundary`.
    delimiter: Vec<u8>,
    rest: &'b [u8],
    closed: bool,
}

impl<'b> Parts<'b> {
    fn new(boundary: &str, body: &'b [u8]) -> Result<Self, EnvelopeError> {
        let delimiter = format!("\r\n--{boundary}").into_bytes();
        let opening = delimiter.get(2..).unwrap_or_default();
        let rest = body.strip_prefix(opening).ok_or(EnvelopeError::NoBoundary)?;
        let rest = rest.strip_prefix(b"\r\n").ok_or(EnvelopeError::NoBoundary)?;
        Ok(Self { delimiter, rest, closed: false })
    }

    /// The content of the next part, which must have this media type. A boundary counts only
    /// at the start of a line and when its line ends right behind it: a payload may contain
    /// anything else. Exactly the one line end before the boundary is not content.
    fn next_part(&mut self, media_type: &str) -> Result<&'b [u8], EnvelopeError> {
        let content = strip_part_headers(self.rest, media_type)?;
        for at in memmem::find_iter(content, &self.delimiter) {
            let Some((part, tail)) = content.split_at_checked(at) else { break };
            let tail = tail.get(self.delimiter.len()..).unwrap_or_default();
            if let Some(rest) = tail.strip_prefix(b"\r\n") {
                self.rest = rest;
                return Ok(part);
            }
            if let Some(end) = tail.strip_prefix(b"--") {
                if !matches!(end, b"" | b"\r\n") {
                    return Err(EnvelopeError::TrailingData);
                }
                self.closed = true;
                self.rest = b"";
                return Ok(part);
            }
        }
        Err(EnvelopeError::Truncated)
    }
}

/// Takes the headers off a part, which must have this media type and no encoding.
fn strip_part_headers<'b>(part: &'b [u8], media_type: &str) -> Result<&'b [u8], EnvelopeError> {
    let window = part.get(..part.len().min(limits::PART_HEADER_BYTES)).unwrap_or(part);
    let end = memmem::find(window, b"\r\n\r\n").ok_or(EnvelopeError::PartHeaders)?;
    let (head, content) = part.split_at_checked(end).ok_or(EnvelopeError::PartHeaders)?;
    let head = std::str::from_utf8(head).map_err(|_| EnvelopeError::PartHeaders)?;
    let mut typed = false;
    for line in head.split("\r\n") {
        let (name, value) = line.split_once(':').ok_or(EnvelopeError::PartHeaders)?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-type") {
            let essence = value.split(';').next().unwrap_or_default().trim();
            if typed || !essence.eq_ignore_ascii_case(media_type) {
                return Err(EnvelopeError::PartType);
            }
            typed = true;
        } else if name.eq_ignore_ascii_case("content-transfer-encoding")
            && !["binary", "8bit", "7bit"].iter().any(|plain| value.eq_ignore_ascii_case(plain))
        {
            return Err(EnvelopeError::PartHeaders);
        }
    }
    if !typed {
        return Err(EnvelopeError::PartType);
    }
    content.get(4..).ok_or(EnvelopeError::PartHeaders)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &[u8]) -> Result<Envelope<'_>, EnvelopeError> {
        Envelope::parse(CONTENT_TYPE, body)
    }

    #[test]
    fn any_payload_comes_back_as_written() {
        let tricky: [&[u8]; 6] = [
            b"",
            b"\r\n",
            b"\r\n\r\n--\r\n",
            b"--aAbBcCdDv1234567890VxXyYzZ--",
            b"\r\n--aAbBcCdDv1234567890VxXyYzZx\r\n--aAbBcCdDv1234567890VxXyYz",
            &[0; 300],
        ];
        for payload in tricky {
            let body = Envelope::write("<Msg/>", Some(payload));
            let envelope = parse(&body).unwrap();
            assert_eq!((envelope.header.as_str(), envelope.payload), ("<Msg/>", Some(payload)));
        }
        assert_eq!(parse(&Envelope::write("<Msg/>", None)).unwrap().payload, None);
    }

    #[test]
    fn the_habits_of_clients_are_taken() {
        let header = text::encode_with_bom("<Msg/>");
        let mut body = b"--x.y\r\nContent-Type:Text/Plain\r\nX-Any: 1\r\n\r\n".to_vec();
        body.extend_from_slice(&header);
        body.extend_from_slice(
            b"\r\n--x.y\r\nCONTENT-TYPE: application/Octet-Stream; a=b\r\n\
              Content-Transfer-Encoding: Binary\r\n\r\n\r\n\0\r\n\r\n--x.y--\r\n",
        );
        for content_type in ["multipart/mixed; boundary=x.y", "Multipart/Mixed;charset=x; Boundary=\"x.y\""] {
            let envelope = Envelope::parse(content_type, &body).unwrap();
            assert_eq!(envelope.payload, Some(&b"\r\n\0\r\n"[..]));
        }
    }

    #[test]
    fn every_other_reading_is_refused() {
        let good = Envelope::write("<Msg/>", Some(b"payload"));
        for content_type in [
            "",
            "multipart/mixed",
            "multipart/form-data; boundary=x",
            "multipart/mixed; boundary=",
            "multipart/mixed; boundary=\"x",
            "multipart/mixed; boundary=a; boundary=a",
            "multipart/mixed; boundary=a b",
            "text/xml",
        ] {
            assert_eq!(
                Envelope::parse(content_type, &good),
                Err(EnvelopeError::ContentType),
                "{content_type}"
            );
        }
        let long = format!("multipart/mixed; boundary={}", "a".repeat(71));
        assert_eq!(Envelope::parse(&long, &good), Err(EnvelopeError::ContentType));
        assert_eq!(Envelope::parse("multipart/mixed; boundary=other", &good), Err(EnvelopeError::NoBoundary));

        let with = |before: &[u8], after: &[u8]| [before, &good, after].concat();
        assert_eq!(parse(&with(b"\r\n", b"")), Err(EnvelopeError::NoBoundary));
        assert_eq!(parse(&with(b"\0", b"")), Err(EnvelopeError::NoBoundary));
        assert_eq!(parse(&with(b"", b"\0")), Err(EnvelopeError::TrailingData));
        assert_eq!(parse(&with(b"", b"\r\n\r\n")), Err(EnvelopeError::TrailingData));
        assert_eq!(parse(&good[..good.len() - 1]), Err(EnvelopeError::Truncated));

        let replaced = |from: &str, to: &str| {
            let at = memmem::find(&good, from.as_bytes()).unwrap();
            [&good[..at], to.as_bytes(), &good[at + from.len()..]].concat()
        };
        assert_eq!(parse(&replaced("text/plain", "text/html")), Err(EnvelopeError::PartType));
        assert_eq!(parse(&replaced("octet-stream", "xml")), Err(EnvelopeError::PartType));
        assert_eq!(parse(&replaced("content-type", "content type")), Err(EnvelopeError::PartType));
        assert_eq!(parse(&replaced("content-type:", "content-type")), Err(EnvelopeError::PartHeaders));
        assert_eq!(
            parse(&replaced("octet-stream", "octet-stream\r\nContent-Transfer-Encoding: base64")),
            Err(EnvelopeError::PartHeaders)
        );
        let three = replaced(
            "payload",
            &format!("payload\r\n--{BOUNDARY}\r\ncontent-type: application/octet-stream\r\n\r\nx"),
        );
        assert_eq!(parse(&three), Err(EnvelopeError::TooManyParts));
    }

    #[test]
    fn sizes_are_bounded() {
        let header = |chars: usize| Envelope::write(&"x".repeat(chars), None);
        assert!(parse(&header(limits::MESSAGE_HEADER_BYTES / 2 - 1)).is_ok());
        assert!(matches!(
            parse(&header(limits::MESSAGE_HEADER_BYTES / 2)),
            Err(EnvelopeError::HeaderTooLarge(_))
        ));
        let large = Envelope::write("<Msg/>", Some(&vec![0; limits::MESSAGE_BYTES]));
        assert!(matches!(parse(&large), Err(EnvelopeError::TooLarge(_))));
        let wide =
            format!("--{BOUNDARY}\r\nx: {}\r\n\r\n\r\n--{BOUNDARY}--", "y".repeat(limits::PART_HEADER_BYTES));
        assert_eq!(parse(wide.as_bytes()), Err(EnvelopeError::PartHeaders));
    }
}
