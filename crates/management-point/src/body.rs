//! The body of a request, read whole: at the sender's pace, and within its share of the memory.
//!
//! A body comes through a connection point as fast as its device sends it, and the device may sit on a poor
//! line, or send a byte now and then on purpose. So its time grows with what has arrived ([`pace`]), and its
//! place among the others with what it holds ([`share`]): who sends slowly holds little, and keeps nobody out.

mod pace;
mod share;

use std::future::poll_fn;
use std::pin::Pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::Body;
use proto::reason::Reason;
use tokio::time::timeout;

use crate::answer::Refusal;
use pace::Pace;
pub(crate) use share::{Claim, Full, Hold, Sender, Shares};

/// Bytes of a body that take nothing of the shares. Everything but inventory is far below it [observed], and
/// what such bodies hold in all is bounded by the connections that are open.
const FREE: usize = 64 * 1024;

/// A body that arrived whole. What it holds is given back with it.
#[derive(Debug, Default)]
pub(crate) struct Received {
    /// The bytes.
    pub(crate) bytes: Bytes,
    _hold: Option<Hold>,
}

/// What a body must keep to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound {
    /// Most bytes.
    pub(crate) bytes: usize,
    /// How long its sender may keep it waiting, and most time that it has in hand later on.
    pub(crate) patience: Duration,
}

/// Why a body was not read to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// It is longer than its endpoint takes.
    #[error("the body has more than {0} bytes")]
    TooLarge(usize),
    /// Its sender took too long.
    #[error("the body did not arrive in time")]
    TooSlow,
    /// The connection broke, or the framing is wrong.
    #[error("the body broke off")]
    Broken(#[source] hyper::Error),
    /// There is no room for it right now.
    #[error("no room for the body")]
    Full(#[from] Full),
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        let reason = match error {
            BodyError::TooLarge(_) => Reason::BodyTooLarge,
            BodyError::TooSlow => Reason::RequestTooSlow,
            BodyError::Broken(_) => Reason::MalformedRequest,
            BodyError::Full(_) => Reason::Busy,
        };
        Self::caused(reason, &error)
    }
}

/// Reads a body whole; trailers are dropped. `sender` is asked for a large one only.
pub(crate) async fn read<B>(
    mut body: B,
    bound: Bound,
    shares: &Shares,
    sender: impl Fn() -> Sender,
) -> Result<Received, BodyError>
where
    B: Body<Data = Bytes, Error = hyper::Error> + Unpin,
{
    let expected = body.size_hint();
    if expected.lower() > bound.bytes as u64 {
        return Err(BodyError::TooLarge(bound.bytes));
    }
    let whole = expected.exact().and_then(|length| usize::try_from(length).ok());
    let mut gathered = Gathered::new(whole.unwrap_or(bound.bytes));
    if whole.is_some_and(|length| length > FREE) {
        // What cannot fit is not sent for nothing. The room is taken only as the body comes.
        shares.look(sender(), gathered.most as u64)?;
    }
    let mut pace = Pace::new(bound.patience);
    loop {
        let asked = Instant::now();
        let frame = timeout(pace.in_hand(), poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)));
        let Some(frame) = frame.await.map_err(|_| BodyError::TooSlow)? else { break };
        let Ok(part) = frame.map_err(BodyError::Broken)?.into_data() else { continue };
        pace.came(part.len(), asked.elapsed(), shares.are_crowded());
        if part.len() > bound.bytes - gathered.len() {
            return Err(BodyError::TooLarge(bound.bytes));
        }
        gathered.add(part, shares, &sender)?;
    }
    Ok(gathered.into_received())
}

/// A body so far, and the room that it takes.
#[derive(Debug)]
struct Gathered {
    /// Most bodies are one piece, which needs no copy.
    first: Bytes,
    all: Vec<u8>,
    hold: Option<Hold>,
    /// Bytes that it may grow to.
    most: usize,
}

impl Gathered {
    fn new(most: usize) -> Self {
        Self { first: Bytes::new(), all: Vec::new(), hold: None, most }
    }

    fn len(&self) -> usize {
        if self.all.is_empty() { self.first.len() } else { self.all.len() }
    }

    /// Adds a piece, its room being taken before.
    fn add(&mut self, part: Bytes, shares: &Shares, sender: impl Fn() -> Sender) -> Result<(), Full> {
        let length = self.len() + part.len();
        let room = self.room(length);
        if room > FREE {
            self.hold.get_or_insert_with(|| shares.open(sender())).grow_to(room as u64)?;
        }
        if self.len() == 0 {
            self.first = part;
            return Ok(());
        }
        if self.all.capacity() < length {
            self.all.reserve_exact(room - self.all.len());
        }
        if self.all.is_empty() {
            self.all.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.all.extend_from_slice(&part);
        Ok(())
    }

    /// Room for so many bytes: a quarter more, so that a long body is not moved at every piece.
    fn room(&self, length: usize) -> usize {
        match &self.hold {
            Some(hold) if length as u64 <= hold.bytes() => usize::try_from(hold.bytes()).unwrap_or(length),
            _ if length <= FREE => self.most.min(FREE).max(length),
            _ => (length + (length / 4).max(FREE)).min(self.most).max(length),
        }
    }

    fn into_received(self) -> Received {
        let bytes = if self.all.is_empty() { self.first } else { self.all.into() };
        Received { bytes, _hold: self.hold }
    }
}

#[cfg(test)]
mod tests;
