//! Where the random choices of a schedule come from: a seed, or a fuzzer's bytes.

/// An endless supply of numbers.
#[derive(Debug)]
pub(crate) enum Choices<'a> {
    /// The state of a SplitMix64 generator.
    Seed(u64),
    /// Taken from the front; zeros once they are used up.
    Bytes(&'a [u8]),
}

impl Choices<'_> {
    /// Whether nothing but zeros follows.
    pub(crate) fn is_spent(&self) -> bool {
        matches!(self, Self::Bytes([]))
    }

    /// A number below `limit`, which is at least 1. A fuzzer's bytes are spent as sparingly as it allows.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        let width = match limit {
            0..=1 => return 0,
            2..=0x100 => 1,
            0x101..=0x1_0000 => 2,
            _ => 4,
        };
        let number = match self {
            Self::Seed(state) => {
                *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut mixed = *state;
                mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                usize::try_from((mixed ^ (mixed >> 31)) & 0xffff_ffff).expect("32 bits")
            }
            Self::Bytes(bytes) => {
                let (taken, rest) = bytes.split_at(width.min(bytes.len()));
                *bytes = rest;
                taken.iter().fold(0, |number, byte| number << 8 | usize::from(*byte))
            }
        };
        number % limit
    }

    pub(crate) fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == times - 1
    }

    /// One of `of`.
    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> Option<T> {
        if of.is_empty() { None } else { Some(of[self.below(of.len())]) }
    }

    /// A length up to `most`: often tiny, often at a bound of the protocol, else any.
    pub(crate) fn length(&mut self, most: usize) -> usize {
        const BOUNDS: [usize; 10] = [0, 1, 255, 256, 257, 16_383, 16_384, 16_385, 65_536, 262_144];
        let length = match self.below(4) {
            0 => self.below(300),
            1 => BOUNDS[self.below(BOUNDS.len())],
            _ => self.below(most + 1),
        };
        length.min(most)
    }

    /// Bytes as they come, at most `most`.
    pub(crate) fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| u8::try_from(self.below(256)).expect("a byte")).collect()
    }
}
