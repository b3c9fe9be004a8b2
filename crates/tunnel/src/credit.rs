//! Credit of one stream: what may be sent before the other side's caller has consumed.

use crate::ProtocolError;

/// Least that a Data frame with payload costs. Tiny frames cost their receiver far more memory than
/// their bytes, so they are charged for it: 1 MiB of credit is at most 4,096 frames.
pub(crate) const LEAST_COST: usize = 256;

fn cost(length: usize) -> u32 {
    match length {
        0 => 0,
        _ => u32::try_from(length.max(LEAST_COST)).unwrap_or(u32::MAX),
    }
}

/// Credit that the peer has granted.
#[derive(Debug)]
pub(crate) struct SendCredit {
    left: u32,
    whole: u32,
}

impl SendCredit {
    pub(crate) fn new(whole: u32) -> Self {
        Self { left: whole, whole }
    }

    /// Bytes that the credit covers in one piece.
    pub(crate) fn left(&self) -> usize {
        self.left as usize
    }

    /// Whether a frame of any length can be sent.
    pub(crate) fn covers_a_frame(&self) -> bool {
        self.left() >= LEAST_COST
    }

    /// Pays for a frame of at most [`left`](Self::left) bytes.
    pub(crate) fn spend(&mut self, length: usize) {
        debug_assert!(cost(length) <= self.left);
        self.left = self.left.saturating_sub(cost(length));
    }

    /// Takes back what the peer returns. It can return no more than was spent.
    pub(crate) fn add(&mut self, credit: u32) -> Result<(), ProtocolError> {
        match self.left.checked_add(credit) {
            Some(left) if left <= self.whole => self.left = left,
            _ => return Err(ProtocolError::WindowOverflow),
        }
        Ok(())
    }
}

/// Credit granted to the peer. `left + owed + returnable = whole` at all times.
#[derive(Debug)]
pub(crate) struct ReceiveCredit {
    /// What the peer may still spend.
    left: u32,
    /// Cost of what was received and is not yet consumed.
    owed: u32,
    /// Bytes received and not yet consumed; never more than `owed`.
    held: u32,
    whole: u32,
}

impl ReceiveCredit {
    pub(crate) fn new(whole: u32) -> Self {
        Self { left: whole, owed: 0, held: 0, whole }
    }

    /// Charges a frame to the peer.
    pub(crate) fn receive(&mut self, length: usize) -> Result<(), ProtocolError> {
        let cost = cost(length);
        self.left = self.left.checked_sub(cost).ok_or(ProtocolError::CreditOverrun)?;
        self.owed += cost;
        // A frame costs at least its length, so this is no more than `cost`.
        self.held += cost.min(u32::try_from(length).unwrap_or(u32::MAX));
        Ok(())
    }

    /// The caller is done with `length` of the bytes. What tiny frames cost above their length is
    /// returned with the last of them, since which frames the bytes came in is not kept.
    pub(crate) fn consume(&mut self, length: usize) {
        let length = u32::try_from(length).unwrap_or(u32::MAX).min(self.held);
        self.held -= length;
        self.owed = if self.held == 0 { 0 } else { self.owed - length };
    }

    /// Whether so much can be returned that a Window frame is worth it.
    pub(crate) fn return_is_due(&self) -> bool {
        self.returnable() >= self.whole / 2
    }

    /// Returns all that can be.
    pub(crate) fn take_returnable(&mut self) -> u32 {
        let credit = self.returnable();
        self.left += credit;
        credit
    }

    fn returnable(&self) -> u32 {
        self.whole - self.left - self.owed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: u32 = 1 << 20;

    #[test]
    fn a_frame_beyond_the_credit_is_refused() {
        let mut credit = ReceiveCredit::new(WHOLE);
        for _ in 0..64 {
            credit.receive(16 * 1024).unwrap();
        }
        assert_eq!(credit.receive(1), Err(ProtocolError::CreditOverrun));
        credit.receive(0).expect("the end costs nothing");
    }

    #[test]
    fn tiny_frames_are_charged_and_given_back_when_all_are_consumed() {
        let mut credit = ReceiveCredit::new(WHOLE);
        for _ in 0..4096 {
            credit.receive(1).unwrap();
        }
        assert_eq!(credit.receive(1), Err(ProtocolError::CreditOverrun));
        credit.consume(4095);
        assert_eq!(credit.returnable(), 4095);
        assert!(!credit.return_is_due());
        credit.consume(1);
        assert!(credit.return_is_due());
        assert_eq!(credit.take_returnable(), WHOLE);
        assert_eq!(credit.returnable(), 0);
    }

    #[test]
    fn consuming_more_than_was_received_grants_nothing_extra() {
        let mut credit = ReceiveCredit::new(WHOLE);
        credit.receive(600_000).unwrap();
        credit.consume(usize::MAX);
        assert_eq!(credit.take_returnable(), 600_000);
    }

    #[test]
    fn a_peer_cannot_return_more_than_was_spent() {
        let mut credit = SendCredit::new(WHOLE);
        assert_eq!(credit.add(1), Err(ProtocolError::WindowOverflow));
        credit.spend(1);
        assert_eq!(credit.add(257), Err(ProtocolError::WindowOverflow));
        credit.add(256).unwrap();
        assert_eq!(credit.add(u32::MAX), Err(ProtocolError::WindowOverflow));
        assert_eq!(credit.left(), WHOLE as usize);
    }
}
