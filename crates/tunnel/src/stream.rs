//! One stream as one side sees it.

use bytes::Bytes;

use crate::credit::{ReceiveCredit, SendCredit};
use crate::frame::MAX_DATA;
use crate::queue::SendQueue;

/// Where the direction towards the peer stands.
#[derive(Debug)]
pub(crate) enum Sending {
    /// The connector has not answered yet.
    NoHead,
    /// The head waits to be written.
    HeadWaits(Bytes),
    /// The head is written.
    Body,
    /// END or Reset is written.
    Done,
}

/// Where the direction from the peer stands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Receiving {
    NoHead,
    Body,
    /// END or Reset was read.
    Done,
}

/// Whether the stream is given up, by either side. It is then closed for the caller, and stays only
/// until both ends have said so.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Cancel {
    No,
    /// A Reset with this code waits to be written.
    Due(u32),
    Written,
}

#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) sending: Sending,
    pub(crate) receiving: Receiving,
    pub(crate) cancel: Cancel,
    pub(crate) queue: SendQueue,
    pub(crate) send_credit: SendCredit,
    pub(crate) receive_credit: ReceiveCredit,
    /// Body bytes that may still go by the fast ring.
    pub(crate) fast_left: usize,
    /// Stands in the urgent queue.
    pub(crate) is_urgent: bool,
    /// Stands in a ring.
    pub(crate) has_turn: bool,
    /// The caller wants to hear when it can send more.
    pub(crate) wants_room: bool,
}

/// Room that is worth waking the caller for.
pub(crate) const WORTH_WAKING: usize = MAX_DATA;

impl Stream {
    pub(crate) fn new(sending: Sending, receiving: Receiving, sent: u32, received: u32) -> Self {
        Self {
            sending,
            receiving,
            cancel: Cancel::No,
            queue: SendQueue::default(),
            send_credit: SendCredit::new(sent),
            receive_credit: ReceiveCredit::new(received),
            fast_left: MAX_DATA,
            is_urgent: false,
            has_turn: false,
            wants_room: false,
        }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancel != Cancel::No
    }

    /// Both ends have said their last. A Reset that still waits then has nothing left to stop, and must
    /// not hold the slot: the peer counts it as free.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.sending, Sending::Done) && self.receiving == Receiving::Done
    }

    /// Bytes that the caller may add.
    pub(crate) fn writable(&self, queue_limit: usize) -> usize {
        let may_send = matches!(self.sending, Sending::HeadWaits(_) | Sending::Body)
            && !self.is_cancelled()
            && !self.queue.has_ended();
        if !may_send {
            return 0;
        }
        let credit = self.send_credit.left().saturating_sub(self.queue.len());
        credit.min(queue_limit.saturating_sub(self.queue.load()))
    }

    /// Length of the Data frame that can be written now, if one can.
    pub(crate) fn next_length(&self) -> Option<usize> {
        if !matches!(self.sending, Sending::Body) || self.is_cancelled() {
            None
        } else if self.queue.only_end_is_left() {
            Some(0)
        } else if self.queue.len() > 0 && self.send_credit.covers_a_frame() {
            Some(self.queue.len().min(MAX_DATA).min(self.send_credit.left()))
        } else {
            None
        }
    }

    /// A Window frame is due.
    pub(crate) fn owes_credit(&self) -> bool {
        self.receiving == Receiving::Body && !self.is_cancelled() && self.receive_credit.return_is_due()
    }
}
