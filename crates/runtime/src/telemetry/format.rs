//! Lines as they are written.

use std::borrow::Cow;
use std::fmt::Write;

use serde::Deserialize;

use super::component::Format;
use super::escape::{self, break_up};
use super::record::{Record, Value};
use super::stamp;

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

/// Appends `record` with its line end, in the format of its component.
pub(super) fn write_native(out: &mut String, record: &Record) {
    match record.route.spec.format {
        Format::Ccm => write_ccm(out, record),
        Format::Simple => write_simple(out, record),
    }
}

// Writing to a `String` cannot fail, here and below.

fn write_ccm(out: &mut String, record: &Record) {
    let mut text = readable(record);
    break_up(&mut text, CCM_START);
    break_up(&mut text, CCM_END);
    let at = stamp::date_time(record.now);
    let _ = write!(out, "{CCM_START}{text}{CCM_END}<time=\"");
    stamp::write_time(out, at);
    out.push_str("+000\" date=\"");
    stamp::write_date(out, at);
    let (component, kind) = (attribute(&record.route.name), kind(record.level));
    let (thread, (file, line)) = (record.thread, record.source);
    let _ = writeln!(
        out,
        "\" component=\"{component}\" context=\"\" type=\"{kind}\" thread=\"{thread}\" file=\"{file}:{line}\">"
    );
}

fn write_simple(out: &mut String, record: &Record) {
    let mut text = readable(record);
    if text.contains('\n') {
        text = text.replace('\n', "~");
    }
    break_up(&mut text, SIMPLE_END);
    let at = stamp::date_time(record.now);
    let _ = write!(out, "{text}~~  {SIMPLE_END}{}><", attribute(&record.route.name));
    stamp::write_date(out, at);
    out.push(' ');
    stamp::write_time(out, at);
    let thread = record.thread;
    let _ = writeln!(out, "+00><thread={thread} (0x{thread:X})>");
}

/// Appends `record` as a line for people.
pub(super) fn write_console(out: &mut String, record: &Record) {
    let at = stamp::date_time(record.now);
    stamp::write_time(out, at);
    let text = readable(record).replace('\n', "\n    ");
    let _ = writeln!(out, " {:5} {}: {text}", record.level.as_str(), attribute(&record.route.name));
}

/// Appends `record` as a JSON object. Nothing is left out, also of a verbatim line.
pub(super) fn write_json(out: &mut String, record: &Record) {
    let at = stamp::date_time(record.now);
    let level = record.level.as_str().to_ascii_lowercase();
    let (date, time) = (at.date(), at.time());
    let (h, m, s) = (time.hour(), time.minute(), time.second());
    let microseconds = time.subsec_nanosecond() / 1_000;
    let _ =
        write!(out, "{{\"time\":\"{date}T{h:02}:{m:02}:{s:02}.{microseconds:06}Z\",\"level\":\"{level}\"");
    member(out, "component", &record.route.name);
    member(out, "message", record.message.as_str());
    if let Some(id) = &record.request_id {
        member(out, "request_id", id);
    }
    if !record.fields.is_empty() {
        out.push_str(",\"fields\":{");
        for (index, field) in record.fields.iter().enumerate() {
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
    let (file, line) = record.source;
    let _ = writeln!(out, ",\"thread\":{},\"source\":\"{file}:{line}\"}}", record.thread);
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
fn readable(record: &Record) -> String {
    let mut text = escape::message(record.message.as_str());
    if record.verbatim {
        return text;
    }
    for field in &record.fields {
        let _ = write!(text, " {}=", field.name);
        escape::value(&mut text, field.value.as_str());
    }
    if let Some(id) = &record.request_id {
        text.push_str(" request_id=");
        escape::value(&mut text, id);
    }
    text
}

/// A component's name as it can stand between quotes and angle brackets.
fn attribute(name: &str) -> Cow<'_, str> {
    let fits = |c: char| c.is_alphanumeric() || "_-.: ".contains(c);
    if name.chars().all(fits) {
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
