//! Names of certificates for people: RFC 4514, bounded and harmless to print.

use der::Decode as _;
use x509_cert::name::Name;

/// Longest name that is printed, in characters.
const NAME_CHARS: usize = 200;

/// The name (DER) as text. It may be a stranger's: whatever could turn a line of a log around or
/// break it is replaced (R28).
pub(super) fn text(der: &[u8]) -> String {
    let Ok(name) = Name::from_der(der) else { return "(unreadable name)".to_owned() };
    if name.is_empty() {
        return "(no name)".to_owned();
    }
    clean(&name.to_string())
}

/// Any text of a stranger, made harmless in the same way.
pub(super) fn clean(text: &str) -> String {
    let mut short: String = text
        .chars()
        .take(NAME_CHARS)
        .map(|c| if c.is_control() || turns_direction(c) { '\u{FFFD}' } else { c })
        .collect();
    if text.chars().nth(NAME_CHARS).is_some() {
        short.pop();
        short.push('…');
    }
    short
}

/// Characters that reorder or hide what stands around them.
fn turns_direction(c: char) -> bool {
    matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}')
}

#[cfg(test)]
mod tests {
    use der::Encode as _;
    use std::str::FromStr as _;

    use super::*;

    fn der(name: &str) -> Vec<u8> {
        Name::from_str(name).unwrap().to_der().unwrap()
    }

    #[test]
    fn a_name_is_written_from_its_end_and_escaped() {
        assert_eq!(text(&der("CN=Lab \\, Issuing,O=Lab,C=DE")), "CN=Lab \\, Issuing,O=Lab,C=DE");
        assert_eq!(text(&[0x30, 0]), "(no name)");
        assert_eq!(text(b"no name at all"), "(unreadable name)");
    }

    #[test]
    fn a_hostile_name_is_cut_and_cannot_turn_a_line_around() {
        let long = text(&der(&format!("CN={}", "x".repeat(500))));
        assert_eq!(long.chars().count(), NAME_CHARS);
        assert!(long.ends_with('…'));
        let turned = text(&der("CN=a\u{202E}b"));
        assert!(!turned.contains('\u{202E}'), "{turned}");
        assert!(!clean("a\r\nb\u{1b}").chars().any(char::is_control));
    }
}
