//! `roamgate explain`.

use std::io::Read as _;

use serde_json::json;

use crate::exit::{Exit, Failure};
use crate::explain;
use crate::output::{self, Format};
use crate::pages;

/// Longest text that is read, in bytes: some thousand log lines.
const MAX_TEXT: u64 = 1024 * 1024;

pub(crate) fn run(words: &[String], page: Option<&str>, format: Format) -> Result<(), Failure> {
    if let Some(page) = page {
        let text = if page == "errors" { pages::errors() } else { pages::endpoints() };
        match format {
            Format::Json => output::json(&json!({"page": page, "text": text})),
            Format::Table => output::line(text.trim_end()),
        }
        return Ok(());
    }
    let text = if words == ["-"] {
        let mut text = String::new();
        std::io::stdin()
            .take(MAX_TEXT)
            .read_to_string(&mut text)
            .map_err(|error| Failure::from_error(Exit::Usage, &error))?;
        text
    } else {
        words.join(" ")
    };
    let found = explain::explain(&text);
    if format == Format::Json {
        output::json(&json!(found.iter().map(explain::Explanation::to_json).collect::<Vec<_>>()));
    } else {
        for (at, explanation) in found.iter().enumerate() {
            if at > 0 {
                output::line("");
            }
            output::line(&explanation.to_text());
        }
    }
    if found.is_empty() {
        return Err(Failure::new(Exit::NotFound, "nothing in this text is known").help(
            "Give a reason code (RG-1203), an HRESULT (0x87d00231), a status text or a whole log line.",
        ));
    }
    Ok(())
}
