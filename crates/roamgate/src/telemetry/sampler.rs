//! Which requests are traced.

/// Bits of a trace's id that are chance, also in ours, which begin with the time.
const RANDOM_BITS: u32 = 56;

/// A request is traced on every hop or on none, for each decides by the request's id.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Sampler {
    /// All.
    Always,
    /// None.
    Never,
    /// Those whose random bits are at least this.
    AtLeast(u64),
}

impl Sampler {
    /// A share of all, from 0 to 1.
    pub(super) fn share(share: f64) -> Option<Self> {
        // Both bounds are whole numbers below 2^56, which a float of 64 bits holds exactly.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let threshold = ((1.0 - share) * 2_f64.powi(RANDOM_BITS.cast_signed())) as u64;
        (0.0..=1.0).contains(&share).then_some(Self::AtLeast(threshold))
    }

    /// Whether a request is wanted.
    pub(super) fn wants(self, request: &[u8; 16]) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::AtLeast(threshold) => {
                let last = u128::from_be_bytes(*request) & ((1 << RANDOM_BITS) - 1);
                last >= u128::from(threshold)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_our_own_ids_is_about_that_share() {
        let clock = runtime::Clock::system();
        let ids: Vec<_> = (0..2000).map(|_| runtime::id::request_id(&clock).into_bytes()).collect();
        for (share, few, many) in [(0.0, 0, 0), (0.25, 400, 600), (0.75, 1400, 1600), (1.0, 2000, 2000)] {
            let sampler = Sampler::share(share).unwrap();
            let wanted = ids.iter().filter(|id| sampler.wants(id)).count();
            assert!((few..=many).contains(&wanted), "{share}: {wanted}");
        }
    }

    #[test]
    fn there_is_no_share_beyond_all() {
        assert_eq!(Sampler::share(1.5), None);
        assert_eq!(Sampler::share(f64::NAN), None);
    }
}
