//! What a command prints: a table for people, or exactly one JSON document for scripts.

use std::io::{self, IsTerminal, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON document on standard output and nothing else there.
    Json,
}

/// A column of a table: heading, and the member of each row that it shows (`a.b` goes deeper).
pub(crate) type Column = (&'static str, &'static str);

/// Prints a list.
pub(crate) fn list(format: Format, rows: &Value, columns: &[Column], empty: &str) {
    if format == Format::Json {
        return json(rows);
    }
    let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
    if rows.is_empty() {
        return line(empty);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(arrangement());
    table.set_header(columns.iter().map(|(heading, _)| *heading));
    for row in rows {
        table.add_row(columns.iter().map(|(_, member)| text(find(row, member))));
    }
    line(&table.to_string());
}

/// Prints one thing as name and value, a line each.
pub(crate) fn record(format: Format, record: &Value, fields: &[Column]) {
    if format == Format::Json {
        return json(record);
    }
    let width = fields.iter().map(|(heading, _)| heading.len()).max().unwrap_or(0);
    for (heading, member) in fields {
        let mut heading = *heading;
        for value in entries(find(record, member)) {
            line(&format!("{heading:width$}  {value}"));
            heading = "";
        }
    }
}

/// Prints one JSON document.
pub(crate) fn json(value: &Value) {
    // A value that came from JSON always has a JSON form.
    line(&serde_json::to_string_pretty(value).unwrap_or_default());
}

/// Prints one line. A reader that went away (`| head`) is not an error.
pub(crate) fn line(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}

/// Prints a note for people beside the result: on standard error, so that JSON stays alone.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

fn arrangement() -> ContentArrangement {
    if io::stdout().is_terminal() { ContentArrangement::Dynamic } else { ContentArrangement::Disabled }
}

fn find<'a>(value: &'a Value, member: &str) -> &'a Value {
    member.split('.').fold(value, |value, name| value.get(name).unwrap_or(&Value::Null))
}

/// What a record shows behind one heading: of several sentences each has a line of its own.
fn entries(value: &Value) -> Vec<String> {
    let entries = match value {
        Value::Array(items) => items.iter().map(text).collect(),
        other => vec![text(other)],
    };
    entries.into_iter().filter(|entry: &String| !entry.is_empty()).collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => printable(text),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        Value::Object(members) => {
            let members = members.iter().filter(|(_, value)| !value.is_null());
            members.map(|(name, value)| format!("{name}={}", text(value))).collect::<Vec<_>>().join(" ")
        }
        Value::Number(number) => number.to_string(),
    }
}

/// What a device sent may hold anything: nothing of it may steer the terminal (R56).
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_device_sent_cannot_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\rc"), "a\u{fffd}[2Jb\u{fffd}c");
    }

    #[test]
    fn deeper_members_are_found_and_missing_ones_are_empty() {
        let row = serde_json::json!({"a": {"b": [1, true]}});
        assert_eq!(text(find(&row, "a.b")), "1, yes");
        assert_eq!(text(find(&row, "a.c.d")), "");
        assert_eq!(text(&row), "a=b=1, yes");
    }

    #[test]
    fn of_several_sentences_each_has_a_line() {
        assert_eq!(entries(&serde_json::json!(["one, two", "three", null])), ["one, two", "three"]);
        assert!(entries(&Value::Null).is_empty());
    }
}
