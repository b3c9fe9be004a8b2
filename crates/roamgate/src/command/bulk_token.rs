//! `roamgate bulk-token`, also in the spelling of the field's tool.

use proto::token::{BULK_LIFETIME_MAX, BULK_LIFETIME_MIN};
use runtime::config::HumanDuration;
use serde_json::json;

use super::element;
use super::once_file::OnceFile;
use crate::api::Api;
use crate::cli::BulkTokenCommand;
use crate::exit::{Exit, Failure};
use crate::output::{self, Column, Format};

const COLUMNS: &[Column] = &[
    ("Id", "id"),
    ("State", "state"),
    ("Valid until", "valid_until"),
    ("Uses", "uses"),
    ("Of", "max_uses"),
    ("Approval", "approval"),
    ("Made by", "created_by"),
    ("Note", "note"),
];

pub(crate) async fn run(command: BulkTokenCommand, api: &Api, format: Format) -> Result<(), Failure> {
    match command {
        BulkTokenCommand::New { lifetime, max_uses, approval, note, token_file } => {
            let body = json!({
                "lifetime_minutes": minutes(&lifetime)?,
                "max_uses": max_uses,
                "approval": approval,
                "note": note,
            });
            let token_file = token_file.map(OnceFile::reserve).transpose()?;
            let mut made = api.post("bulk-tokens", &body).await?;
            if let Some(file) = token_file {
                let token = made["token"].as_str().unwrap_or_default().to_owned();
                let path = file.fill(token.as_bytes())?;
                made["token"] = json!(null);
                let line = made["setup_line"].as_str().unwrap_or_default();
                made["setup_line"] =
                    json!(line.replace(
                        &format!("/regtoken:{token}"),
                        &format!("--regtoken-file {}", path.display())
                    ));
                made["token_file"] = json!(path);
            }
            if format == Format::Json {
                output::json(&made);
                return Ok(());
            }
            let text = |member: &str| made[member].as_str().unwrap_or_default().to_owned();
            output::line(&format!("Token id: {}", text("id")));
            output::line(&format!("Token is valid until {}", text("valid_until")));
            output::line(&format!("Site root (SHA-256): {}", text("site_root_sha256")));
            let token = text("token");
            output::line(&if token.is_empty() {
                format!("Token: in {}", text("token_file"))
            } else {
                format!("Token (shown once):\n{token}")
            });
            let setup = text("setup_line");
            if setup.is_empty() {
                output::line("\nNo gateway and role yet: with them, a set-up line would stand here.");
            } else {
                output::line(&format!("\nOn the device:\n{setup}"));
                output::line(
                    "(Is the gateway's certificate of an authority of your own? Add --ca-file FILE.)",
                );
            }
            Ok(())
        }
        BulkTokenCommand::List => {
            let rows = api.get("bulk-tokens").await?;
            output::list(
                format,
                &rows,
                COLUMNS,
                "No bulk registration tokens. Make one with `roamgate bulk-token new`.",
            );
            Ok(())
        }
        BulkTokenCommand::Show { id } => {
            output::record(format, &api.get(&format!("bulk-tokens/{}", element(&id))).await?, COLUMNS);
            Ok(())
        }
        BulkTokenCommand::Block { id } => act(api, &id, "block", format).await,
        BulkTokenCommand::Unblock { id } => act(api, &id, "unblock", format).await,
    }
}

async fn act(api: &Api, id: &str, verb: &str, format: Format) -> Result<(), Failure> {
    let token = api.post(&format!("bulk-tokens/{}/{verb}", element(id)), &json!({})).await?;
    output::record(format, &token, COLUMNS);
    Ok(())
}

/// A lifetime in whole minutes, a begun one counted. The bounds are the site's; they are asked
/// here as well, before rounding can bring 30 seconds within them.
fn minutes(text: &str) -> Result<u64, Failure> {
    let lifetime: HumanDuration = text.parse().map_err(|error| {
        Failure::from_error(Exit::Usage, &error).help("Write for instance `90 min`, `12h` or `3 days`.")
    })?;
    if !(BULK_LIFETIME_MIN..=BULK_LIFETIME_MAX).contains(&lifetime.get()) {
        return Err(Failure::new(
            Exit::Usage,
            format!("a bulk registration token lives 1 minute to 7 days (10,080 minutes), not {text}"),
        )
        .help("Choose a lifetime within these bounds; without --lifetime it is three days."));
    }
    Ok(lifetime.get().as_secs().div_ceil(60))
}

/// The words of the field's tool as ours: `BulkRegistrationTokenTool.exe /new /lifetime 4320`,
/// also with a colon, in any case, and behind `roamgate bulk-token`. Other words are left alone.
pub(crate) fn translate(words: Vec<String>) -> Vec<String> {
    let is_tool = |word: &str| {
        let name = word.rsplit(['/', '\\']).next().unwrap_or(word).to_ascii_lowercase();
        matches!(name.trim_end_matches(".exe"), "bulkregistrationtokentool" | "bulkregistrationtool")
    };
    let start = match words.as_slice() {
        [program, ..] if is_tool(program) => 1,
        [_, tool, ..] if is_tool(tool) => 2,
        [_, noun, switch, ..] if noun == "bulk-token" && switch.starts_with('/') => 2,
        _ => return words,
    };
    let mut translated = vec!["roamgate".to_owned(), "bulk-token".to_owned()];
    // The tool takes its switches in any order; our command line wants the verb first.
    let is_new = |word: &String| word.eq_ignore_ascii_case("/new");
    translated.extend(words[start..].iter().any(is_new).then(|| "new".to_owned()));
    for word in &words[start..] {
        let (switch, value) = match word.split_once(':') {
            Some((switch, value)) if switch.starts_with('/') => (switch, Some(value)),
            _ => (word.as_str(), None),
        };
        match switch.to_ascii_lowercase().as_str() {
            "/new" => {}
            "/lifetime" => translated.push("--lifetime".to_owned()),
            "/?" | "/help" => translated.push("--help".to_owned()),
            _ => {
                // The tool counts its lifetime in bare minutes.
                let minutes = word.bytes().all(|byte| byte.is_ascii_digit());
                translated.push(if minutes { format!("{word} min") } else { word.clone() });
            }
        }
        translated.extend(value.map(|minutes| format!("{minutes} min")));
    }
    translated
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn the_fields_tool_is_understood_in_every_spelling() {
        let expected: Vec<String> =
            ["roamgate", "bulk-token", "new", "--lifetime", "4320 min"].map(str::to_owned).into();
        for line in [
            "BulkRegistrationTokenTool.exe /new /lifetime 4320",
            "roamgate bulkregistrationtool.EXE /NEW /Lifetime:4320",
            "roamgate bulk-token /new /lifetime 4320",
            "BulkRegistrationTokenTool.exe /lifetime 4320 /new",
        ] {
            assert_eq!(translate(words(line)), expected, "{line}");
        }
    }

    #[test]
    fn a_lifetime_out_of_bounds_is_refused_with_the_bounds() {
        for text in ["30s", "59s", "8 days", "10081 min"] {
            let failure = minutes(text).expect_err(text);
            assert_eq!(failure.exit, Exit::Usage);
            assert!(failure.message.contains("1 minute to 7 days"), "{}", failure.message);
        }
        assert_eq!(["1m", "90s", "7 days"].map(|text| minutes(text).unwrap()), [1, 2, 10_080]);
    }

    #[test]
    fn our_own_words_are_left_alone() {
        let line = words("roamgate bulk-token new --lifetime 3h");
        assert_eq!(translate(line.clone()), line);
    }
}
