//! One zlib stream (RFC 1950): how payloads and policy bodies are compressed [observed].

use std::io::Write as _;

use flate2::write::ZlibEncoder;
use flate2::{Compression, Decompress, FlushDecompress, Status};

/// Bytes made room for at first; grows with what really comes out.
const FIRST_CHUNK: usize = 16 * 1024;

/// Why a stream was not inflated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    /// More would come out than may. Memory stays within the limit.
    #[error("more than {limit} bytes when inflated")]
    TooLarge {
        /// Bytes that may come out.
        limit: usize,
    },
    /// Not zlib, or damaged.
    #[error("not a zlib stream")]
    Corrupt,
    /// The stream does not end.
    #[error("the zlib stream is cut off")]
    Truncated,
    /// Bytes behind the end of the stream: nobody sends them, so they are a trick or damage.
    #[error("{0} bytes behind the zlib stream")]
    TrailingData(usize),
}

/// Compresses into one stream that begins `78 9C`, as every known client writes it [observed].
pub fn deflate(plain: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::with_capacity(plain.len() / 4 + 64), Compression::default());
    encoder.write_all(plain).and_then(|()| encoder.finish()).expect("writing to memory does not fail")
}

/// Inflates exactly one stream; never holds more than `limit` bytes and a little.
pub fn inflate(stored: &[u8], limit: usize) -> Result<Vec<u8>, InflateError> {
    let mut inflater = Decompress::new(true);
    let mut plain = Vec::new();
    let mut rest = stored;
    loop {
        if plain.len() == plain.capacity() {
            // One byte more than may come out, so that "too large" shows itself.
            let room = (limit + 1).saturating_sub(plain.len());
            plain.reserve_exact(room.min(plain.len().max(FIRST_CHUNK)));
        }
        let (taken, given) = (inflater.total_in(), inflater.total_out());
        let status = inflater
            .decompress_vec(rest, &mut plain, FlushDecompress::None)
            .map_err(|_| InflateError::Corrupt)?;
        if plain.len() > limit {
            return Err(InflateError::TooLarge { limit });
        }
        let progress = usize::try_from(inflater.total_in() - taken).unwrap_or(rest.len());
        rest = rest.get(progress..).unwrap_or_default();
        match status {
            Status::StreamEnd if rest.is_empty() => return Ok(plain),
            Status::StreamEnd => return Err(InflateError::TrailingData(rest.len())),
            Status::Ok | Status::BufError => {
                if inflater.total_in() == taken && inflater.total_out() == given {
                    return Err(InflateError::Truncated);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_deflated_is_inflated_at_every_size_around_the_chunk() {
        for size in [0, 1, FIRST_CHUNK - 1, FIRST_CHUNK, FIRST_CHUNK + 1, 5 * FIRST_CHUNK] {
            let plain: Vec<u8> = (0..size).map(|i| u8::try_from(i * i % 251).unwrap()).collect();
            let stored = deflate(&plain);
            assert_eq!(&stored[..2], [0x78, 0x9C]);
            assert_eq!(inflate(&stored, size), Ok(plain));
            if size > 0 {
                assert_eq!(inflate(&stored, size - 1), Err(InflateError::TooLarge { limit: size - 1 }));
            }
        }
    }

    #[test]
    fn damage_is_told_apart() {
        let stored = deflate(b"a policy, a policy, a policy");
        let mut longer = stored.clone();
        longer.extend_from_slice(b"\r\n");
        assert_eq!(inflate(&longer, 100), Err(InflateError::TrailingData(2)));
        for length in 0..stored.len() {
            assert_eq!(inflate(&stored[..length], 100), Err(InflateError::Truncated), "{length}");
        }
        let mut wrong_sum = stored.clone();
        *wrong_sum.last_mut().unwrap() ^= 1;
        assert_eq!(inflate(&wrong_sum, 100), Err(InflateError::Corrupt));
        assert_eq!(inflate(b"not zlib", 100), Err(InflateError::Corrupt));
    }
}
