//! An answer's body on its way out of a tunnel, at the pace of the device that reads it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use proto::link::reset;
use tokio::time::{Instant, Sleep, sleep};

use super::{Ticket, Upload};
use crate::tunnel::{Broken, Stream};

/// The body of a relayed answer. It moves what is left of the request, too.
#[derive(Debug)]
pub(crate) struct AnswerBody {
    /// Gone when the answer is complete.
    stream: Option<Stream>,
    upload: Option<Box<Upload>>,
    /// Bytes that must still come, where the role stated the length.
    remaining: Option<u64>,
    timeout: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// Bytes given since others had their turn.
    given: usize,
    ticket: Ticket,
}

/// Bytes that are given in one go. Behind it wait the shard's other requests, for some hundred microseconds.
const GIVEN_AT_ONCE: usize = 64 * 1024;

/// Why an answer breaks off. The device sees its connection end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerError {
    /// The stream in the tunnel broke.
    #[error("the answer broke off")]
    Broken(#[source] Broken),
    /// More or fewer bytes than stated.
    #[error("the answer has another length than it says")]
    Length,
    /// No further part in time.
    #[error("the answer did not go on in time")]
    Timeout,
}

impl AnswerBody {
    pub(crate) fn new(
        stream: Stream,
        upload: Option<Box<Upload>>,
        length: Option<u64>,
        timeout: Duration,
        ticket: Ticket,
    ) -> Self {
        Self { stream: Some(stream), upload, remaining: length, timeout, timer: None, given: 0, ticket }
    }

    fn take(&mut self, part: &Bytes) -> Result<(), AnswerError> {
        if let Some(remaining) = &mut self.remaining {
            *remaining = remaining.checked_sub(part.len() as u64).ok_or(AnswerError::Length)?;
        }
        self.ticket.received(part.len());
        self.given += part.len();
        if let Some(timer) = &mut self.timer {
            timer.as_mut().reset(Instant::now() + self.timeout);
        }
        Ok(())
    }

    /// Ends it; the stream is gone with its code.
    fn fail(&mut self, error: AnswerError) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        self.ticket.broke_off();
        self.upload = None;
        if let Some(stream) = self.stream.take() {
            let code = if matches!(error, AnswerError::Timeout) { reset::TIMEOUT } else { reset::PROTOCOL };
            stream.abandon(code);
        }
        Poll::Ready(Some(Err(error)))
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let this = self.get_mut();
        let Some(stream) = &this.stream else { return Poll::Ready(None) };
        if let Some(upload) = &mut this.upload {
            let over = upload.poll(cx, stream).is_ready();
            this.ticket.sent(upload.received());
            if over {
                // Whole, or not wanted any more: the answer counts.
                this.upload = None;
            }
        }
        if this.given >= GIVEN_AT_ONCE {
            this.given = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match stream.poll_part(cx) {
            Poll::Ready(Some(Ok(part))) => match this.take(&part) {
                Ok(()) => Poll::Ready(Some(Ok(Frame::data(part)))),
                Err(error) => this.fail(error),
            },
            Poll::Ready(None) if this.remaining.is_some_and(|bytes| bytes > 0) => {
                this.fail(AnswerError::Length)
            }
            Poll::Ready(None) => {
                this.stream = None;
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(broken))) => this.fail(AnswerError::Broken(broken)),
            Poll::Pending => {
                this.given = 0;
                let timer = this.timer.get_or_insert_with(|| Box::pin(sleep(this.timeout)));
                match timer.as_mut().poll(cx) {
                    Poll::Ready(()) => this.fail(AnswerError::Timeout),
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.stream {
            Some(stream) => stream.has_ended() && self.remaining.is_none_or(|bytes| bytes == 0),
            None => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.remaining.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
