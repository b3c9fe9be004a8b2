//! Parts of a body that wait.

use std::collections::VecDeque;

use bytes::Bytes;

/// Parts of a body in their order. One alone needs no room besides this, and most bodies come in one.
#[derive(Debug, Default)]
pub struct Parts {
    /// Empty only when there is none.
    first: Bytes,
    rest: VecDeque<Bytes>,
}

impl Parts {
    /// Adds a part at the end; one without bytes is none.
    pub fn push(&mut self, part: Bytes) {
        if self.first.is_empty() {
            self.first = part;
        } else if !part.is_empty() {
            self.rest.push_back(part);
        }
    }

    /// Takes the first part.
    pub fn pop(&mut self) -> Option<Bytes> {
        let next = self.rest.pop_front().unwrap_or_default();
        Some(std::mem::replace(&mut self.first, next)).filter(|part| !part.is_empty())
    }

    /// Takes at most `length` bytes of the first part.
    pub fn pop_some(&mut self, length: usize) -> Option<Bytes> {
        if self.first.len() <= length {
            return self.pop();
        }
        Some(self.first.split_to(length))
    }

    /// How many parts there are.
    pub fn len(&self) -> usize {
        usize::from(!self.first.is_empty()) + self.rest.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// Bytes of all parts. Walks through them.
    pub fn bytes(&self) -> usize {
        self.first.len() + self.rest.iter().map(Bytes::len).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_out_in_the_order_they_went_in() {
        let mut parts = Parts::default();
        for part in ["one", "", "two", "three"] {
            parts.push(Bytes::from_static(part.as_bytes()));
        }
        assert_eq!((parts.len(), parts.bytes()), (3, 11));
        assert_eq!(parts.pop().unwrap(), "one");
        assert_eq!(parts.pop_some(2).unwrap(), "tw");
        parts.push(Bytes::from_static(b"four"));
        for rest in ["o", "three", "four"] {
            assert!(!parts.is_empty());
            assert_eq!(parts.pop_some(100).unwrap(), rest);
        }
        assert_eq!((parts.pop(), parts.len(), parts.is_empty()), (None, 0, true));
    }
}
