//! Text that strangers may have written, made visible and harmless.

use std::borrow::Cow;
use std::fmt::{self, Write};

/// Shows text on one line: control characters, line ends and those that turn the direction of writing appear
/// as escapes. For text of strangers inside a message.
#[derive(Clone, Copy, Debug)]
pub struct OneLine<'a>(pub &'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        escape(f, self.0, is_deceptive)
    }
}

/// A message as written by us: line ends and tabs stay, anything else that deceives is escaped.
pub(super) fn message(text: &str) -> Cow<'_, str> {
    if is_plain(text) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len());
    let text = if text.contains('\r') { &text.replace("\r\n", "\n") } else { text };
    // Writing to a `String` cannot fail.
    let _ = escape(&mut clean, text, |c| is_deceptive(c) && c != '\n' && c != '\t');
    Cow::Owned(clean)
}

/// Whether nothing in `text` can deceive: nearly every text. Looks at all of it, which lets the compiler look at many
/// bytes at once.
fn is_plain(text: &str) -> bool {
    text.bytes().fold(true, |plain, byte| plain & matches!(byte, b' '..=b'~'))
}

/// Appends a field's value: as it is where that is plain, else in quotes with escapes.
pub(super) fn value(out: &mut String, text: &str) {
    let plain = !text.is_empty()
        && !text.contains(|c: char| c.is_whitespace() || matches!(c, '"' | '=' | '\\') || is_deceptive(c));
    if plain {
        out.push_str(text);
        return;
    }
    out.push('"');
    let _ = escape(out, text, |c| matches!(c, '"' | '\\') || is_deceptive(c));
    out.push('"');
}

/// Puts a space into each `mark` in `text`, after its first two characters, so that no reader takes it for
/// the mark.
pub(super) fn break_up<'a>(text: Cow<'a, str>, mark: &str) -> Cow<'a, str> {
    // Its first byte is rare, and looking for one byte is quick.
    let may_be_there = mark.bytes().next().is_some_and(|first| text.as_bytes().contains(&first));
    if !may_be_there || !text.contains(mark) {
        return text;
    }
    let (start, end) = mark.split_at(2);
    Cow::Owned(text.replace(mark, &format!("{start} {end}")))
}

fn escape(out: &mut impl Write, text: &str, needs_it: impl Fn(char) -> bool) -> fmt::Result {
    // Nearly every line is plain, and then needs no look at each character's kind.
    if is_plain(text) && !text.bytes().any(|byte| needs_it(char::from(byte))) {
        return out.write_str(text);
    }
    for c in text.chars() {
        match c {
            c if !needs_it(c) => out.write_char(c)?,
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            '"' => out.write_str("\\\"")?,
            '\\' => out.write_str("\\\\")?,
            c => write!(out, "\\u{{{:x}}}", u32::from(c))?,
        }
    }
    Ok(())
}

/// Control characters, line and paragraph separators, marks of direction and invisible joiners.
fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn as_value(text: &str) -> String {
        let mut out = String::new();
        value(&mut out, text);
        out
    }

    #[test]
    fn values_are_quoted_only_where_they_would_be_misread() {
        for (text, written) in [
            ("GUID:1-2", "GUID:1-2"),
            ("/a?b", "/a?b"),
            ("", "\"\""),
            ("two words", "\"two words\""),
            ("a=b", "\"a=b\""),
            ("say \"hi\" \\", "\"say \\\"hi\\\" \\\\\""),
            ("a\r\nb\tc\0", "\"a\\r\\nb\\tc\\u{0}\""),
            ("\u{1b}[2J", "\"\\u{1b}[2J\""),
            ("exe\u{202e}gpj", "\"exe\\u{202e}gpj\""),
            ("Grüße", "Grüße"),
        ] {
            assert_eq!(as_value(text), written);
        }
    }

    #[test]
    fn messages_keep_their_lines_and_nothing_else_that_moves_the_cursor() {
        assert_eq!(message("one\r\ntwo\nthree\tx\ry\u{7}"), "one\ntwo\nthree\tx\\ry\\u{7}");
        assert_eq!(OneLine("a\r\nb\u{2028}").to_string(), "a\\r\\nb\\u{2028}");
    }

    #[test]
    fn marks_are_broken_wherever_they_stand() {
        assert_eq!(break_up("x]LOG]!>]LOG]!>".into(), "]LOG]!>"), "x]L OG]!>]L OG]!>");
        assert_eq!(break_up("x]LOG]!".into(), "]LOG]!>"), "x]LOG]!");
    }
}
