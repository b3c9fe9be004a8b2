use std::collections::VecDeque;
use std::task::{Context, Poll};

use hyper::body::{Frame, SizeHint};
use proto::id::{ClientId, Guid};
use proto::limits::MESSAGE_BYTES;

use super::*;

const BOUND: Bound = Bound { bytes: MESSAGE_BYTES, patience: Duration::from_secs(5) };

/// Pieces of a body, and then its end or nothing at all.
struct Pieces {
    left: VecDeque<Bytes>,
    stated: Option<u64>,
    ends: bool,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.left.pop_front() {
            Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            None if self.ends => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.stated.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

fn pieces(lengths: &[usize], states: bool) -> Pieces {
    let piece = |(number, length): (usize, &usize)| vec![u8::try_from(number % 251).unwrap(); *length].into();
    let stated = states.then(|| lengths.iter().sum::<usize>() as u64);
    Pieces { left: lengths.iter().enumerate().map(piece).collect(), stated, ends: true }
}

fn device() -> Sender {
    Sender::Device(ClientId::new(Guid::nil()))
}

fn nobody() -> Sender {
    panic!("a short body counts for nobody")
}

#[tokio::test]
async fn pieces_are_put_together_whatever_is_stated() {
    for lengths in [&[][..], &[1], &[0, 3], &[FREE], &[FREE, 1], &[16 * 1024; 320], &[1, MESSAGE_BYTES - 1]] {
        for states in [true, false] {
            let shares = Shares::default();
            let mut expected = Vec::new();
            pieces(lengths, states).left.iter().for_each(|piece| expected.extend_from_slice(piece));
            let read = read(pieces(lengths, states), BOUND, &shares, device).await.unwrap();
            assert_eq!(read.bytes, expected);
            let fits = |bytes: usize| shares.look(device(), (2 * MESSAGE_BYTES - bytes) as u64).is_ok();
            if expected.len() <= FREE {
                assert!(fits(0), "{lengths:?} holds nothing");
            } else {
                assert!(!fits(expected.len() - 1), "{lengths:?} holds all of it");
                let most = (expected.len() + expected.len() / 4 + FREE).min(MESSAGE_BYTES);
                assert!(fits(most), "{lengths:?} holds little more");
            }
            drop(read);
            assert!(fits(0), "what was answered holds nothing");
        }
    }
}

#[tokio::test]
async fn a_body_beyond_the_bound_is_refused_stated_or_not() {
    for states in [true, false] {
        let shares = Shares::default();
        let over = read(pieces(&[MESSAGE_BYTES, 1], states), BOUND, &shares, device).await;
        assert!(matches!(over, Err(BodyError::TooLarge(MESSAGE_BYTES))));
        assert!(shares.look(device(), 2 * MESSAGE_BYTES as u64).is_ok(), "what was held is free again");
    }
}

#[tokio::test]
async fn a_short_body_needs_no_share() {
    let shares = Shares::default();
    assert_eq!(read(pieces(&[FREE], true), BOUND, &shares, nobody).await.unwrap().bytes.len(), FREE);
    assert_eq!(read(pieces(&[9, 9], false), BOUND, &shares, nobody).await.unwrap().bytes.len(), 18);
}

#[tokio::test]
async fn what_does_not_fit_now_is_told_so_before_it_is_sent_where_it_states_its_length() {
    let shares = Shares::default();
    let mut held = shares.open(device());
    held.grow_to(MESSAGE_BYTES as u64 + 1).unwrap();
    let silent = Pieces { left: VecDeque::new(), stated: Some(MESSAGE_BYTES as u64), ends: false };
    let refused = read(silent, BOUND, &shares, device).await;
    assert!(matches!(refused, Err(BodyError::Full(Full::Sender(_)))));
    let unstated = read(pieces(&[MESSAGE_BYTES / 2, MESSAGE_BYTES / 2], false), BOUND, &shares, device).await;
    assert!(matches!(unstated, Err(BodyError::Full(Full::Sender(_)))));
    let refusal: Refusal = unstated.unwrap_err().into();
    assert_eq!(refusal.reason, Reason::Busy);
    drop(held);
    assert!(read(pieces(&[MESSAGE_BYTES], true), BOUND, &shares, device).await.is_ok());
}

#[tokio::test]
async fn a_body_that_does_not_end_is_given_up_and_its_room_is_free() {
    let shares = Shares::default();
    let bound = Bound { patience: Duration::from_millis(10), ..BOUND };
    let stuck = Pieces { left: [vec![0; 2 * FREE].into()].into(), stated: None, ends: false };
    let given_up = read(stuck, bound, &shares, device).await;
    assert!(matches!(given_up, Err(BodyError::TooSlow)));
    assert!(shares.look(device(), 2 * MESSAGE_BYTES as u64).is_ok());
}
