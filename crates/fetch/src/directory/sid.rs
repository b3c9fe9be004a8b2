//! Security identifiers: `S-1-5-21-…`, or the bytes that Active Directory keeps.

use std::fmt::Write as _;

/// Most parts after the authority.
const PARTS: usize = 15;

/// A SID in its text form; `None` when the value is none.
pub(super) fn read(value: &[u8]) -> Option<String> {
    match std::str::from_utf8(value) {
        Ok(text) if is_text(text) => Some(text.to_owned()),
        _ => from_bytes(value),
    }
}

/// Revision, number of parts, authority (48 bits, big-endian), parts (32 bits, little-endian).
fn from_bytes(bytes: &[u8]) -> Option<String> {
    let [1, count, authority @ ..] = bytes else { return None };
    let (authority, parts) = authority.split_first_chunk::<6>()?;
    if !(1..=PARTS).contains(&usize::from(*count)) || parts.len() != usize::from(*count) * 4 {
        return None;
    }
    let authority = authority.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    let mut text = format!("S-1-{authority}");
    for part in parts.as_chunks::<4>().0 {
        let _ = write!(text, "-{}", u32::from_le_bytes(*part));
    }
    Some(text)
}

fn is_text(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("S-1-") else { return false };
    let numbers: Vec<_> = rest.split('-').collect();
    let all = numbers.iter().all(|number| {
        !number.is_empty() && number.len() <= 15 && number.bytes().all(|byte| byte.is_ascii_digit())
    });
    all && (2..=PARTS + 1).contains(&numbers.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let bytes = [1, 5, 0, 0, 0, 0, 0, 5, 21, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0x50, 4, 0, 0];
        assert_eq!(read(&bytes).as_deref(), Some("S-1-5-21-1-2-3-1104"));
        assert_eq!(read(b"S-1-5-21-1-2-3-1104").as_deref(), Some("S-1-5-21-1-2-3-1104"));
        assert_eq!(read(b"S-1-5-18").as_deref(), Some("S-1-5-18"));
    }

    #[test]
    fn anything_else_is_no_sid() {
        for wrong in ["", "S-1-5", "S-1-5-x", "s-1-5-18", "S-1-5--18", "S-2-5-18", "S-1-5-18-"] {
            assert_eq!(read(wrong.as_bytes()), None, "{wrong}");
        }
        for wrong in
            [&[1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0][..], &[2, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0], &[1, 0]]
        {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }
}
