//! Reading log lines back, ours and the field's: for tests, and for people who paste a line and ask what it
//! means.

use super::component::Format;
use super::format::{CCM_END, CCM_START, SIMPLE_END};
use super::stamp;

/// A line of a log, taken apart. What a line does not say is `None`; pasted lines are often incomplete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// How it was written.
    pub format: Format,
    /// The message without its frame. In the simple format `~` stands for a line end, and stays.
    pub message: String,
    /// Who wrote it.
    pub component: Option<String>,
    /// When, in microseconds since the Unix epoch.
    pub time: Option<i64>,
    /// Its colour in a viewer; only the CCM format says so.
    pub kind: Option<Kind>,
    /// The number of the thread that wrote it.
    pub thread: Option<u64>,
    /// Source file and line; only the CCM format says so.
    pub source: Option<String>,
}

/// The `type` of a line in the CCM format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 1
    Information,
    /// 2
    Warning,
    /// 3
    Error,
}

/// A piece of pasted text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pasted {
    /// A line of a log.
    Line(LogLine),
    /// A line of something else.
    Plain(String),
}

/// Reads one line of a log; `None` when `text` is not one. A message in the CCM format may itself have
/// several lines.
pub fn parse_line(text: &str) -> Option<LogLine> {
    let text = text.trim().trim_start_matches('\u{feff}');
    if text.starts_with(CCM_START) { parse_ccm(text) } else { parse_simple(text) }
}

/// Takes pasted text apart: lines of logs, one after the other, and whatever stands between them. Empty lines
/// are left out. The work grows with the text, so callers bound its length.
pub fn parse_text(text: &str) -> Vec<Pasted> {
    let mut pieces = Vec::new();
    let mut rest = text.trim_start_matches('\u{feff}').trim_start();
    while !rest.is_empty() {
        let length = first_length(rest);
        let (piece, after) = rest.split_at(length);
        let piece = piece.trim();
        if !piece.is_empty() {
            let line = parse_line(piece);
            pieces.push(line.map_or_else(|| Pasted::Plain(piece.to_owned()), Pasted::Line));
        }
        rest = after.trim_start();
    }
    pieces
}

/// Bytes of the first piece of `text`: up to the end of its line, or of the line where its record ends.
fn first_length(text: &str) -> usize {
    let inside = if text.starts_with(CCM_START) { text.find(CCM_END).unwrap_or(0) } else { 0 };
    let line_end = text.get(inside..).and_then(|rest| rest.find('\n'));
    line_end.map_or(text.len(), |end| inside + end)
}

fn parse_ccm(text: &str) -> Option<LogLine> {
    let (message, frame) = text.strip_prefix(CCM_START)?.split_once(CCM_END)?;
    let time = attribute(frame, "time").zip(attribute(frame, "date"));
    let owned = |name| attribute(frame, name).map(str::to_owned);
    Some(LogLine {
        format: Format::Ccm,
        message: message.to_owned(),
        component: owned("component"),
        time: time.and_then(|(time, date)| stamp::read(date, time)),
        kind: match attribute(frame, "type") {
            Some("1") => Some(Kind::Information),
            Some("2") => Some(Kind::Warning),
            Some("3") => Some(Kind::Error),
            _ => None,
        },
        thread: attribute(frame, "thread").and_then(|thread| thread.parse().ok()),
        source: owned("file"),
    })
}

/// The value of `name="…"` in `frame`.
fn attribute<'a>(frame: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = frame.trim_start_matches(['<', ' ']);
    while let Some((found, after)) = rest.split_once("=\"") {
        let (value, after) = after.split_once('"')?;
        if found.trim() == name {
            return Some(value);
        }
        rest = after;
    }
    None
}

fn parse_simple(text: &str) -> Option<LogLine> {
    let (message, frame) = text.rsplit_once(SIMPLE_END)?;
    let message = message.trim_end();
    let message = message.strip_suffix("~~").or_else(|| message.strip_suffix('~')).unwrap_or(message);
    let mut parts = frame.split('>').map(|part| part.trim_start_matches('<'));
    let component = parts.next().filter(|name| !name.is_empty())?;
    let stamp = parts.next().and_then(|stamp| stamp.split_once(' '));
    let thread = parts.next().and_then(|thread| thread.strip_prefix("thread="));
    let thread = thread.and_then(|thread| thread.split(' ').next());
    Some(LogLine {
        format: Format::Simple,
        message: message.to_owned(),
        component: Some(component.to_owned()),
        time: stamp.and_then(|(date, time)| stamp::read(date, time.trim())),
        kind: None,
        thread: thread.and_then(|thread| thread.parse().ok()),
        source: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // Both lines are of the field's documentation.
    const CCM: &str = r#"<![LOG[Message text]LOG]!><time="14:30:00.000+000" date="03-23-2026" component="ClientIDManagerStartup" context="" type="1" thread="1234" file="source.cpp:100">"#;
    const SIMPLE: &str = "RequestUri: /CCM_PROXY_SERVERAUTH/72057594037937981/CCM_STS  RequestCount: 1~~  $$<CMGService><06-24-2020 15:31:46.376+00><thread=4992 (0x1380)>";

    #[test]
    fn a_ccm_line_of_the_field_is_read() {
        assert_eq!(
            parse_line(CCM).unwrap(),
            LogLine {
                format: Format::Ccm,
                message: "Message text".into(),
                component: Some("ClientIDManagerStartup".into()),
                time: Some(1_774_276_200_000_000),
                kind: Some(Kind::Information),
                thread: Some(1234),
                source: Some("source.cpp:100".into()),
            }
        );
    }

    #[test]
    fn a_simple_line_of_the_field_is_read() {
        let line = parse_line(SIMPLE).unwrap();
        assert_eq!(
            line.message,
            "RequestUri: /CCM_PROXY_SERVERAUTH/72057594037937981/CCM_STS  RequestCount: 1"
        );
        assert_eq!(line.component.as_deref(), Some("CMGService"));
        assert_eq!((line.time, line.thread), (Some(1_593_012_706_376_000), Some(4992)));
    }

    #[test]
    fn pasted_lines_of_all_kinds_are_told_apart() {
        let two_lines = CCM.replace("Message text", "first\r\nsecond");
        let text = format!("\u{feff}\r\n{two_lines}\r\nplain words\n\n{SIMPLE}\n{CCM}");
        let pieces = parse_text(&text);
        let messages: Vec<_> = pieces
            .iter()
            .map(|piece| match piece {
                Pasted::Line(line) => line.message.as_str(),
                Pasted::Plain(text) => text.as_str(),
            })
            .collect();
        assert_eq!(messages.len(), 4, "{messages:?}");
        assert_eq!(
            (messages[0], messages[1], messages[3]),
            ("first\r\nsecond", "plain words", "Message text")
        );
        assert!(matches!(pieces[1], Pasted::Plain(_)) && matches!(pieces[2], Pasted::Line(_)));
    }

    #[test]
    fn incomplete_lines_give_what_they_have() {
        let line = parse_line("<![LOG[x]LOG]!><time=\"late\" date=\"03-23-2026\" component=\"C").unwrap();
        assert_eq!((line.time, line.component, line.kind), (None, None, None));
        let line = parse_line("x $$<C>").unwrap();
        assert_eq!((line.message.as_str(), line.component.as_deref(), line.time), ("x", Some("C"), None));
        assert_eq!(parse_line("<![LOG[never ended"), None);
        assert_eq!(parse_line("just words"), None);
        assert_eq!(parse_line(""), None);
    }

    #[test]
    fn no_cut_of_a_line_makes_the_parser_fail_or_loop() {
        for line in [CCM, SIMPLE] {
            for end in 0..=line.len() {
                let pieces = parse_text(&line[..end]);
                assert!(pieces.len() <= 1, "{end}");
            }
        }
    }
}
