//! One line, before it is put into a format.

use std::borrow::Cow;
use std::fmt::{self, Write};

use super::component::{ComponentSpec, Route};

/// Longest message, in bytes; what is longer is cut.
pub(super) const MESSAGE_LIMIT: usize = 32 * 1024;

/// Longest value of one field, in bytes; what is longer is cut.
pub(super) const VALUE_LIMIT: usize = 4 * 1024;

/// Stands at the end of what was cut.
const CUT: &str = " [cut]";

/// What was logged, when, where and by whom.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) route: Route,
    pub(super) level: tracing::Level,
    /// Microseconds since the Unix epoch.
    pub(super) now: i64,
    /// Our number of the thread that logged.
    pub(super) thread: u64,
    /// Source file without its folders, and line.
    pub(super) source: (&'static str, u32),
    pub(super) message: Text,
    pub(super) fields: Vec<Field>,
    pub(super) request_id: Option<String>,
    /// Only the message is shown where people read it.
    pub(super) verbatim: bool,
}

/// The same as it is put into a format, whoever holds it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    pub(super) spec: ComponentSpec,
    /// Name of the component in the line.
    pub(super) name: &'a str,
    pub(super) level: tracing::Level,
    pub(super) now: i64,
    pub(super) thread: u64,
    pub(super) source: (&'static str, u32),
    pub(super) message: &'a str,
    pub(super) fields: &'a [Field],
    pub(super) request_id: Option<&'a str>,
    pub(super) verbatim: bool,
}

impl Record {
    pub(super) fn line(&self) -> Line<'_> {
        Line {
            spec: self.route.spec,
            name: &self.route.name,
            level: self.level,
            now: self.now,
            thread: self.thread,
            source: self.source,
            message: self.message.as_str(),
            fields: &self.fields,
            request_id: self.request_id.as_deref(),
            verbatim: self.verbatim,
        }
    }

    /// Memory that its texts take, in bytes, roughly.
    pub(super) fn bytes(&self) -> usize {
        let fields: usize =
            self.fields.iter().map(|field| size_of::<Field>() + field.value.as_str().len()).sum();
        size_of::<Self>() + self.message.as_str().len() + fields
    }
}

/// A field of an event.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) value: Value,
}

#[derive(Debug)]
pub(super) enum Value {
    /// A number or truth value, as JSON writes it too.
    Bare(String),
    Text(Text),
}

impl Value {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Bare(text) => text,
            Self::Text(text) => text.as_str(),
        }
    }
}

/// Text of bounded length.
#[derive(Debug)]
pub(super) struct Text {
    text: Cow<'static, str>,
    limit: usize,
}

impl Text {
    pub(super) fn empty(limit: usize) -> Self {
        Self { text: Cow::Borrowed(""), limit }
    }

    pub(super) fn of(limit: usize, content: &impl fmt::Display) -> Self {
        let mut text = Self::empty(limit);
        // The only error is that of a full text, which is then as long as it may be.
        let _ = write!(text, "{content}");
        text
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }
}

impl Write for Text {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let text = self.text.to_mut();
        let room = self.limit.saturating_sub(text.len());
        if part.len() <= room {
            text.push_str(part);
            return Ok(());
        }
        text.push_str(part.get(..part.floor_char_boundary(room)).unwrap_or_default());
        text.push_str(CUT);
        // Over its limit now, so that nothing more is taken; the error spares the rest of the formatting.
        self.limit = 0;
        Err(fmt::Error)
    }
}

/// Shortens `text` to `limit` bytes as [`Text`] does.
pub(super) fn cut(text: &mut String, limit: usize) {
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit));
        text.push_str(CUT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_between_characters_and_marked() {
        assert_eq!(Text::of(4, &"abcd").as_str(), "abcd");
        assert_eq!(Text::of(4, &"abcde").as_str(), "abcd [cut]");
        assert_eq!(Text::of(4, &"abcä").as_str(), "abc [cut]");
        for text in ["abcd", "abcde", "abcä"] {
            let mut whole = text.to_owned();
            cut(&mut whole, 4);
            assert_eq!(whole, Text::of(4, &text).as_str());
        }
        assert_eq!(Text::of(4, &format_args!("{}{}{}", "abc", "de", "f")).as_str(), "abcd [cut]");
    }
}
