//! Lines as they are written.

use std::borrow::Cow;
use std::fmt::Write;

use serde::Deserialize;

use super::component::Format;
use super::escape::{self, break_up};
use super::record::{Line, Value};
use super::stamp::{self, Stamps};

/// What goes to standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Console {
    /// Nothing.
    Off,
    /// A line for people.
    #[default]
    Text,
    /// A JSON object a line, for collectors.
    Json,
}

/// Marks that delimit records; inside a message they are broken up.
pub(super) const CCM_START: &str = "<![LOG[";
pub(super) const CCM_END: &str = "]LOG]!>";
pub(super) const SIMPLE_END: &str = "$$<";

/// Puts lines into formats. Remembers what lines have in common.
#[derive(Debug, Default)]
pub(super) struct Formatter {
    stamps: Stamps,
    /// How a line of the thread ends that wrote the last one.
    ending: Option<(u64, String)>,
}

// Writing to a `String` cannot fail, here and below.

impl Formatter {
    /// Appends `line` with its line end, in the format of its component.
    pub(super) fn native(&mut self, out: &mut String, line: &Line<'_>) {
        match line.spec.format {
            Format::Ccm => self.ccm(out, line),
            Format::Simple => self.simple(out, line),
        }
    }

    fn ccm(&mut self, out: &mut String, line: &Line<'_>) {
        let text = break_up(break_up(readable(line), CCM_START), CCM_END);
        out.extend([CCM_START, &*text, CCM_END, "<time=\""]);
        let stamp = self.stamps.at(line.now);
        stamp.write_time(out);
        out.extend(["+000\" date=\"", stamp.date]);
        let (component, kind) = (attribute(line.name), kind(line.level));
        let (thread, (file, number)) = (line.thread, line.source);
        let _ = writeln!(
            out,
            "\" component=\"{component}\" context=\"\" type=\"{kind}\" thread=\"{thread}\" file=\"{file}:{number}\">"
        );
    }

    fn simple(&mut self, out: &mut String, line: &Line<'_>) {
        let mut text = readable(line);
        if text.as_bytes().contains(&b'\n') {
            text = text.replace('\n', "~").into();
        }
        let text = break_up(text, SIMPLE_END);
        out.extend([&*text, "~~  ", SIMPLE_END, &*attribute(line.name), "><"]);
        let stamp = self.stamps.at(line.now);
        out.extend([stamp.date, " "]);
        stamp.write_time(out);
        out.push_str(self.ending(line.thread));
    }

    /// `+00><thread=10 (0xA)>` and the line end.
    fn ending(&mut self, thread: u64) -> &str {
        if self.ending.as_ref().is_some_and(|(known, _)| *known != thread) {
            self.ending = None;
        }
        let make = || (thread, format!("+00><thread={thread} (0x{thread:X})>\n"));
        &self.ending.get_or_insert_with(make).1
    }

    /// Appends `line` as a line for people.
    pub(super) fn console(&mut self, out: &mut String, line: &Line<'_>) {
        self.stamps.at(line.now).write_time(out);
        let text = readable(line).replace('\n', "\n    ");
        let _ = writeln!(out, " {:5} {}: {text}", line.level.as_str(), attribute(line.name));
    }
}

/// Appends `line` as a JSON object. Nothing is left out, also of a verbatim line.
pub(super) fn write_json(out: &mut String, line: &Line<'_>) {
    let at = stamp::date_time(line.now);
    let level = line.level.as_str().to_ascii_lowercase();
    let (date, time) = (at.date(), at.time());
    let (h, m, s) = (time.hour(), time.minute(), time.second());
    let microseconds = time.subsec_nanosecond() / 1_000;
    let _ =
        write!(out, "{{\"time\":\"{date}T{h:02}:{m:02}:{s:02}.{microseconds:06}Z\",\"level\":\"{level}\"");
    member(out, "component", line.name);
    member(out, "message", line.message);
    if let Some(id) = line.request_id {
        member(out, "request_id", id);
    }
    if !line.fields.is_empty() {
        out.push_str(",\"fields\":{");
        for (index, field) in line.fields.iter().enumerate() {
            out.push_str(if index == 0 { "" } else { "," });
            json_string(out, field.name);
            out.push(':');
            match &field.value {
                Value::Bare(text) => out.push_str(text),
                Value::Text(text) => json_string(out, text.as_str()),
            }
        }
        out.push('}');
    }
    let (file, number) = line.source;
    let _ = writeln!(out, ",\"thread\":{},\"source\":\"{file}:{number}\"}}", line.thread);
}

fn member(out: &mut String, name: &str, text: &str) {
    let _ = write!(out, ",\"{name}\":");
    json_string(out, text);
}

/// Appends `text` as a string of JSON.
pub(crate) fn json_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// The message and, unless it is verbatim, the fields and the request id.
fn readable<'a>(line: &Line<'a>) -> Cow<'a, str> {
    let text = escape::message(line.message);
    if line.verbatim || (line.fields.is_empty() && line.request_id.is_none()) {
        return text;
    }
    let mut text = text.into_owned();
    for field in line.fields {
        let _ = write!(text, " {}=", field.name);
        escape::value(&mut text, field.value.as_str());
    }
    if let Some(id) = line.request_id {
        text.push_str(" request_id=");
        escape::value(&mut text, id);
    }
    text.into()
}

/// A component's name as it can stand between quotes and angle brackets.
fn attribute(name: &str) -> Cow<'_, str> {
    // Asked byte by byte first: every name of our own is of these.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.: ".contains(&byte);
    let fits = |c: char| c.is_alphanumeric() || "_-.: ".contains(c);
    if name.bytes().all(plain) || name.chars().all(fits) {
        return Cow::Borrowed(name);
    }
    name.chars().map(|c| if fits(c) { c } else { '_' }).collect()
}

/// The number that colours a row in a viewer.
fn kind(level: tracing::Level) -> u8 {
    match level {
        tracing::Level::ERROR => 3,
        tracing::Level::WARN => 2,
        _ => 1,
    }
}
