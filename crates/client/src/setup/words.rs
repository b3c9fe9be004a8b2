//! Splits what people paste into words: whole command lines, quotes of every kind, spaces that
//! are none.

/// Splits one pasted text. Quotes group words and vanish, as on a command line; a quote of a
/// text editor counts as a plain one.
pub(super) fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    let mut pending = false;
    for c in text.chars() {
        match c {
            // Straight quotes, and those that editors and chat programs put in their place.
            '"' | '\u{201C}' | '\u{201D}' | '\u{201E}' | '\u{201F}' => {
                quoted = !quoted;
                pending = true;
            }
            // Zero-width characters come along with text from web pages.
            '\u{200B}'..='\u{200D}' | '\u{FEFF}' => {}
            c if c.is_whitespace() && !quoted => {
                if pending || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                pending = false;
            }
            c => word.push(c),
        }
    }
    if pending || !word.is_empty() {
        words.push(word);
    }
    words
}

/// Whether a word of the shell holds several words of ours: a whole line that was quoted. A
/// value with blanks in it (a path) is none.
pub(super) fn is_line(word: &str) -> bool {
    let mut inner = split(word).into_iter();
    let begins = inner.next().is_some_and(|first| is_program(&first) || is_ours(&first));
    begins && inner.any(|word| is_ours(&word))
}

/// Whether a word looks like a switch or a property.
fn is_ours(word: &str) -> bool {
    word.starts_with('/') || word.split_once('=').is_some_and(|(name, _)| is_name(name))
}

/// A value without the one pair of quotes around it.
pub(super) fn unquoted(value: &str) -> &str {
    let quotes = ['"', '\u{201C}', '\u{201D}', '\u{201E}', '\u{201F}'];
    let value = value.trim();
    match value.strip_prefix(quotes).and_then(|rest| rest.strip_suffix(quotes)) {
        Some(inner) if !inner.contains(quotes) => inner,
        _ => value,
    }
}

/// Whether a word is the program itself, with or without a path.
pub(super) fn is_program(word: &str) -> bool {
    let name = word.rsplit(['\\', '/']).next().unwrap_or(word).to_ascii_lowercase();
    matches!(name.as_str(), "ccmsetup.exe" | "ccmsetup" | "ccmsetup.msi" | "msiexec" | "msiexec.exe")
}

/// Whether a text is the name of a property: `SMSSITECODE`.
pub(super) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Number of single-character changes that make `a` out of `b`, for words of our tables.
pub(super) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        let mut left = i + 1;
        for (y, window) in b.iter().zip(row.windows(2)) {
            let (diagonal, above) = match window {
                [diagonal, above] => (*diagonal, *above),
                _ => break,
            };
            left = (left + 1).min(above + 1).min(diagonal + usize::from(x != *y));
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pasted_text_is_split_as_its_author_meant_it() {
        assert_eq!(split("  a  b\u{a0}c\t"), ["a", "b", "c"]);
        assert_eq!(
            split(r#""C:\Program Files\ccmsetup.exe" /mp:x"#),
            [r"C:\Program Files\ccmsetup.exe", "/mp:x"]
        );
        assert_eq!(split("SMSSITECODE=\u{201C}ABC\u{201D} /x:\"\""), ["SMSSITECODE=ABC", "/x:"]);
        assert_eq!(split("a\u{200b}b"), ["ab"]);
        assert!(split(" ").is_empty());
    }

    #[test]
    fn a_quoted_line_is_told_from_a_quoted_value() {
        for line in ["ccmsetup.exe /mp:x", "/mp:x SMSSITECODE=ABC", "SMSSITECODE=ABC /mp:x"] {
            assert!(is_line(line), "{line}");
        }
        for word in ["ccmsetup.exe", "/mp:x", "C:\\a b\\root.cer", "SMSROOTKEYPATH=C:\\a b\\root.cer", ""] {
            assert!(!is_line(word), "{word}");
        }
    }

    #[test]
    fn one_pair_of_quotes_is_taken_off() {
        for (value, expected) in
            [("\"a b\"", "a b"), ("a \"b\"", "a \"b\""), ("\"a\" \"b\"", "\"a\" \"b\""), ("", "")]
        {
            assert_eq!(unquoted(value), expected);
        }
    }

    #[test]
    fn distances_count_single_changes() {
        for (a, b, expected) in
            [("", "", 0), ("regtokn", "regtoken", 1), ("mp", "mp", 0), ("abc", "xyz", 3), ("ab", "", 2)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }
}
