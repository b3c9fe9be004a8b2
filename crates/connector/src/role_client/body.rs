//! Bodies of requests to roles.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

/// A body on its way to a role.
#[derive(Debug)]
pub(crate) enum RequestBody {
    /// Held whole; `None` when nothing is left of it.
    Whole(Option<Bytes>),
    /// Comes piece by piece.
    Streamed {
        /// The pieces. A channel that closes before [`BodyPart::End`] is a body that was cut.
        parts: mpsc::Receiver<BodyPart>,
        /// Bytes still to come, when the whole length is known.
        left: Option<u64>,
        /// The end has been seen.
        ended: bool,
    },
}

/// A piece of a streamed body.
#[derive(Debug)]
pub(crate) enum BodyPart {
    /// Some bytes.
    Data(Bytes),
    /// The body is complete.
    End,
}

/// The sender of a streamed body went away, or sent another length than it had stated.
#[derive(Debug, thiserror::Error)]
#[error("the request's body broke off")]
pub(crate) struct RequestCut;

impl RequestBody {
    /// A body that is held whole.
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self::Whole((!bytes.is_empty()).then_some(bytes))
    }

    /// The same body again, when it is held whole.
    pub(super) fn copy(&self) -> Option<Self> {
        match self {
            Self::Whole(bytes) => Some(Self::Whole(bytes.clone())),
            Self::Streamed { .. } => None,
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = RequestCut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestCut>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Streamed { ended: true, .. } => Poll::Ready(None),
            Self::Streamed { parts, left, ended } => {
                let Poll::Ready(part) = parts.poll_recv(cx) else { return Poll::Pending };
                Poll::Ready(match part {
                    Some(BodyPart::Data(bytes)) => {
                        if let Some(left) = left {
                            let Some(rest) = left.checked_sub(bytes.len() as u64) else {
                                return Poll::Ready(Some(Err(RequestCut)));
                            };
                            *left = rest;
                        }
                        Some(Ok(Frame::data(bytes)))
                    }
                    Some(BodyPart::End) if left.is_none_or(|left| left == 0) => {
                        *ended = true;
                        None
                    }
                    Some(BodyPart::End) | None => Some(Err(RequestCut)),
                })
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Streamed { ended, .. } => *ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Streamed { left: Some(left), .. } => SizeHint::with_exact(*left),
            Self::Streamed { left: None, .. } => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    async fn collect(parts: Vec<BodyPart>, left: Option<u64>) -> Result<Bytes, RequestCut> {
        let (sender, parts_end) = mpsc::channel(8);
        for part in parts {
            sender.send(part).await.unwrap();
        }
        drop(sender);
        let body = RequestBody::Streamed { parts: parts_end, left, ended: false };
        body.collect().await.map(http_body_util::Collected::to_bytes)
    }

    fn data(text: &'static str) -> BodyPart {
        BodyPart::Data(Bytes::from_static(text.as_bytes()))
    }

    #[tokio::test]
    async fn a_body_is_complete_only_with_its_end_and_its_stated_length() {
        assert_eq!(collect(vec![data("ab"), data("c"), BodyPart::End], None).await.unwrap(), "abc");
        assert_eq!(collect(vec![data("abc"), BodyPart::End], Some(3)).await.unwrap(), "abc");
        assert!(collect(vec![data("abc")], None).await.is_err());
        assert!(collect(vec![data("abc")], Some(3)).await.is_err());
        assert!(collect(vec![data("abc"), BodyPart::End], Some(4)).await.is_err());
        assert!(collect(vec![data("abc"), BodyPart::End], Some(2)).await.is_err());
    }
}
