//! Answers to what never became a request.
//!
//! A head that cannot be read is answered by hyper itself, with a bare status. Whoever has codes for refusals
//! wants them there too, so the connection puts an [`Early`] answer in the place of hyper's: it knows that
//! what is being written is hyper's own when no request is left that could be answered ([`super::pace`]).

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::body::{Buf, Bytes};
use hyper::ext::ReasonPhrase;
use hyper::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderValue};
use hyper::{Response, StatusCode};
use tokio::io::AsyncWrite;

/// Makes the answers to heads that cannot be read (400), are too long (414, 431) or come too slowly (408).
/// Their connection is closed afterwards.
#[derive(Clone)]
pub struct Early(Arc<dyn Fn(StatusCode) -> Response<Bytes> + Send + Sync>);

impl Early {
    /// `answer` is called once for each such head with the status that the peer is going to get. What it
    /// says of length, connection and date is replaced.
    pub fn new(answer: impl Fn(StatusCode) -> Response<Bytes> + Send + Sync + 'static) -> Self {
        Self(Arc::new(answer))
    }

    /// The answer as it stands on the wire.
    pub(super) fn bytes(&self, status: StatusCode) -> Bytes {
        let mut answer = (self.0)(status);
        let length = answer.body().len();
        let headers = answer.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        headers.insert(CONTENT_LENGTH, length.into());
        headers.remove(DATE);
        let (head, body) = answer.into_parts();
        let phrase = head.extensions.get::<ReasonPhrase>().map_or_else(
            || head.status.canonical_reason().unwrap_or_default().as_bytes(),
            |phrase| phrase.as_bytes(),
        );
        let now = jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT");
        let mut text = format!("HTTP/1.1 {} ", head.status.as_u16()).into_bytes();
        text.extend(phrase);
        text.extend(format!("\r\ndate: {now}\r\n").bytes());
        for (name, value) in &head.headers {
            text.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        text.extend(b"\r\n");
        text.extend(body);
        text.into()
    }
}

impl fmt::Debug for Early {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Early")
    }
}

/// The status of an answer whose first bytes these are.
pub(super) fn status_of(answer: &[u8]) -> Option<StatusCode> {
    let digits = answer.strip_prefix(b"HTTP/1.")?.get(2..5)?;
    StatusCode::from_bytes(digits).ok()
}

/// An early answer on its way out.
#[derive(Debug)]
pub(super) struct Writing(Bytes);

impl Writing {
    pub(super) fn new(answer: Bytes) -> Self {
        Self(answer)
    }

    /// Writes until all of it is taken.
    pub(super) fn poll<I>(&mut self, io: &mut I, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        I: AsyncWrite + Unpin,
    {
        while self.0.has_remaining() {
            match std::task::ready!(Pin::new(&mut *io).poll_write(cx, &self.0))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.0.advance(count),
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_early_answer_states_its_own_length_and_the_end_of_the_connection() {
        let early = Early::new(|status| {
            let answer = Response::builder().status(status).header("x-code", "7");
            let answer = answer.header("connection", "keep-alive").header("content-length", "900");
            let mut answer = answer.body(Bytes::from_static(b"no")).unwrap();
            answer.extensions_mut().insert(ReasonPhrase::from_static(b"Not This"));
            answer
        });
        let text = String::from_utf8(early.bytes(StatusCode::URI_TOO_LONG).to_vec()).unwrap();
        assert!(text.starts_with("HTTP/1.1 414 Not This\r\ndate: "), "{text}");
        assert!(text.ends_with("\r\n\r\nno"), "{text}");
        for line in ["connection: close", "content-length: 2", "x-code: 7"] {
            assert_eq!(text.matches(&format!("\r\n{line}\r\n")).count(), 1, "{line}: {text}");
        }
        assert_eq!(text.matches("content-length").count() + text.matches("connection").count(), 2, "{text}");
    }

    #[test]
    fn a_status_is_read_of_an_answer_only() {
        assert_eq!(status_of(b"HTTP/1.1 431 Request Header"), Some(StatusCode::from_u16(431).unwrap()));
        assert_eq!(status_of(b"HTTP/1.0 400 Bad Request\r\n"), Some(StatusCode::BAD_REQUEST));
        for other in [&b"HTTP/1.1"[..], b"HTTP/1.1 4", b"HTTP/2 400 Bad", b"body", b""] {
            assert_eq!(status_of(other), None, "{other:?}");
        }
    }
}
