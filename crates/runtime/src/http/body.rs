//! Bodies read whole.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use hyper::body::{Body, Bytes};
use tokio::time::timeout;

/// Why a body was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError<E: std::error::Error + 'static> {
    /// It is longer than allowed: 413.
    #[error("the body has more than {limit} bytes")]
    TooLarge {
        /// What was allowed.
        limit: usize,
    },
    /// It did not arrive in time: 408.
    #[error("the body did not arrive in time")]
    TooSlow,
    /// The connection broke, or the framing is wrong: 400, if anybody is there.
    #[error("the body broke off")]
    Broken(#[source] E),
}

/// Reads `body` whole: at most `limit` bytes, in at most `time`. One that announces too much is refused before
/// a byte of it is read; trailers are dropped.
pub async fn read_body<B>(mut body: B, limit: usize, time: Duration) -> Result<Bytes, BodyError<B::Error>>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::error::Error + 'static,
{
    if body.size_hint().lower() > limit as u64 {
        return Err(BodyError::TooLarge { limit });
    }
    timeout(time, collect(&mut body, limit)).await.unwrap_or(Err(BodyError::TooSlow))
}

async fn collect<B>(body: &mut B, limit: usize) -> Result<Bytes, BodyError<B::Error>>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::error::Error + 'static,
{
    let mut first = Bytes::new();
    let mut all: Vec<u8> = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
        let Ok(data) = frame.map_err(BodyError::Broken)?.into_data() else { continue };
        let held = if all.is_empty() { first.len() } else { all.len() };
        if data.len() > limit - held {
            return Err(BodyError::TooLarge { limit });
        }
        // Most bodies are one piece, which then needs no copy.
        if held == 0 {
            first = data;
        } else {
            if all.is_empty() {
                all.extend_from_slice(&first);
            }
            all.extend_from_slice(&data);
        }
    }
    Ok(if all.is_empty() { first } else { all.into() })
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::task::{Context, Poll};

    use hyper::body::Frame;

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    /// Pieces, and then the end or nothing at all.
    struct Pieces(VecDeque<&'static str>, bool);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.0.pop_front() {
                Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece.into())))),
                None if self.1 => Poll::Ready(None),
                None => Poll::Pending,
            }
        }
    }

    fn pieces(pieces: &[&'static str]) -> Pieces {
        Pieces(pieces.iter().copied().collect(), true)
    }

    #[tokio::test]
    async fn pieces_are_put_together_up_to_the_limit() {
        for (parts, whole) in [(&[][..], ""), (&["abc"], "abc"), (&["a", "", "bc", "d"], "abcd")] {
            assert_eq!(read_body(pieces(parts), whole.len(), SOON).await.unwrap(), whole);
            if let Some(less) = whole.len().checked_sub(1) {
                let error = read_body(pieces(parts), less, SOON).await.unwrap_err();
                assert!(matches!(error, BodyError::TooLarge { limit } if limit == less));
            }
        }
    }

    #[tokio::test]
    async fn an_announced_excess_is_refused_unread() {
        let error = read_body(String::from("abc"), 2, Duration::ZERO).await.unwrap_err();
        assert!(matches!(error, BodyError::TooLarge { limit: 2 }));
    }

    #[tokio::test]
    async fn a_body_that_does_not_end_is_given_up() {
        let stuck = Pieces(VecDeque::from(["abc"]), false);
        let error = read_body(stuck, 10, Duration::from_millis(10)).await.unwrap_err();
        assert!(matches!(error, BodyError::TooSlow));
    }
}
