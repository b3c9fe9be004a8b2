//! Where frames are written.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

/// A piece of a body from this length on is kept as it is: copying it costs more than the slice of its own that it
/// takes when it is written.
const KEPT_BYTES: usize = 4096;
/// Most slices of one write. A system call takes as many, and TLS makes records of 16 KiB of them.
const SLICES: usize = 32;

/// Takes what [`next_bytes`](crate::Side::next_bytes) gives.
pub trait Output {
    /// Bytes that it holds.
    fn length(&self) -> usize;

    /// Where what is short goes: behind everything that it holds.
    fn tail(&mut self) -> &mut BytesMut;

    /// Adds a part of a body.
    fn put(&mut self, part: Bytes);
}

/// One piece after another.
impl Output for BytesMut {
    fn length(&self) -> usize {
        self.len()
    }

    fn tail(&mut self) -> &mut BytesMut {
        self
    }

    fn put(&mut self, part: Bytes) {
        self.extend_from_slice(&part);
    }
}

/// Frames on their way out: what is short is gathered, long parts of bodies stay where they are.
#[derive(Debug, Default)]
pub struct Pieces {
    ready: VecDeque<Bytes>,
    tail: BytesMut,
    /// Of `ready`.
    length: usize,
}

impl Pieces {
    /// Whether nothing is left to be written.
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.tail.is_empty()
    }

    /// Writes the first pieces by `write`, which says how many bytes it took.
    pub fn write_with<T>(&self, write: impl FnOnce(&[IoSlice<'_>]) -> T) -> T {
        if self.ready.is_empty() {
            return write(&[IoSlice::new(&self.tail)]);
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let pieces =
            self.ready.iter().map(|piece| &**piece).chain([&*self.tail]).filter(|piece| !piece.is_empty());
        let mut used = 0;
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            *slice = IoSlice::new(piece);
            used += 1;
        }
        write(slices.get(..used).unwrap_or_default())
    }

    /// So many bytes have been written.
    pub fn advance(&mut self, mut written: usize) {
        while let Some(first) = self.ready.front_mut() {
            if written < first.len() {
                first.advance(written);
                self.length -= written;
                return;
            }
            written -= first.len();
            self.length -= first.len();
            self.ready.pop_front();
        }
        self.tail.advance(written.min(self.tail.len()));
    }
}

impl Output for Pieces {
    fn length(&self) -> usize {
        self.length + self.tail.len()
    }

    fn tail(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    fn put(&mut self, part: Bytes) {
        if part.len() < KEPT_BYTES {
            self.tail.extend_from_slice(&part);
            return;
        }
        let before = self.tail.split().freeze();
        for piece in [before, part] {
            if !piece.is_empty() {
                self.length += piece.len();
                self.ready.push_back(piece);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(length: usize, seed: u8) -> Bytes {
        (0..length).map(|at| seed.wrapping_add(at.to_le_bytes()[0])).collect()
    }

    proptest! {
        #[test]
        fn pieces_come_out_as_one_row_of_bytes_however_they_are_written(
            parts in proptest::collection::vec((0_usize..10_000, any::<bool>()), 0..60),
            steps in proptest::collection::vec(1_usize..30_000, 1..40),
        ) {
            let (mut pieces, mut whole) = (Pieces::default(), BytesMut::new());
            let (mut steps, mut out) = (steps.iter().cycle(), Vec::new());
            let mut write = |pieces: &mut Pieces| {
                let most = *steps.next().unwrap();
                let before = out.len();
                pieces.write_with(|slices| {
                    let all = slices.iter().flat_map(|slice| slice.iter().copied());
                    out.extend(all.take(most));
                });
                pieces.advance(out.len() - before);
            };
            for (at, (length, short)) in parts.into_iter().enumerate() {
                let part = bytes(length, at.to_le_bytes()[0]);
                if short {
                    pieces.tail().extend_from_slice(&part);
                } else {
                    pieces.put(part.clone());
                }
                whole.put(part);
                prop_assert_eq!(pieces.is_empty(), pieces.length() == 0);
                if at % 3 == 0 {
                    write(&mut pieces);
                }
            }
            while !pieces.is_empty() {
                write(&mut pieces);
            }
            prop_assert_eq!(pieces.length(), 0);
            prop_assert!(out == whole);
        }
    }
}
