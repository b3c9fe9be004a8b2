//! Hex as the protocol writes it: upper case, no separators [observed]. Read in either case.

/// A text that is not hex of the size it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HexError {
    /// Half a byte at the end.
    #[error("an odd number of hex digits")]
    OddLength,
    /// A character that is no hex digit.
    #[error("not a hex digit at position {0}")]
    NotHex(usize),
    /// More bytes than the value may have.
    #[error("more than {limit} bytes of hex")]
    TooLong {
        /// Bytes the value may have.
        limit: usize,
    },
}

const DIGITS: &[u8; 16] = b"0123456789ABCDEF";

/// Writes upper-case hex.
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            text.push(DIGITS.get(usize::from(nibble)).map_or('0', |digit| char::from(*digit)));
        }
    }
    text
}

/// Reads hex of either case; at most `limit` bytes come out.
pub fn decode(text: &str, limit: usize) -> Result<Vec<u8>, HexError> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return Err(HexError::OddLength);
    }
    if digits.len() / 2 > limit {
        return Err(HexError::TooLong { limit });
    }
    let mut bytes = Vec::with_capacity(digits.len() / 2);
    let (pairs, _) = digits.as_chunks::<2>();
    for (index, [high, low]) in pairs.iter().enumerate() {
        let high = nibble(*high).ok_or(HexError::NotHex(index * 2))?;
        let low = nibble(*low).ok_or(HexError::NotHex(index * 2 + 1))?;
        bytes.push(high << 4 | low);
    }
    Ok(bytes)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_back_in_either_case() {
        let bytes: Vec<u8> = (0..=255).collect();
        let text = encode(&bytes);
        assert_eq!(decode(&text, 256), Ok(bytes.clone()));
        assert_eq!(decode(&text.to_lowercase(), 256), Ok(bytes));
        assert!(text.starts_with("000102") && text.ends_with("FDFEFF"));
    }

    #[test]
    fn what_is_no_hex_is_refused() {
        assert_eq!(decode("0", 9), Err(HexError::OddLength));
        assert_eq!(decode("0G", 9), Err(HexError::NotHex(1)));
        assert_eq!(decode("+1", 9), Err(HexError::NotHex(0)));
        assert_eq!(decode("é", 9), Err(HexError::NotHex(0)));
        assert_eq!(decode("000000", 2), Err(HexError::TooLong { limit: 2 }));
    }
}
