//! `roamgate trust`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{element, offline};
use crate::api::Api;
use crate::cli::TrustCommand;
use crate::context::{Context, SiteFlags};
use crate::exit::{Exit, Failure};
use crate::output::{self, Column, Format};

const COLUMNS: &[Column] = &[
    ("SHA-256", "id"),
    ("Kind", "kind"),
    ("Subject", "subject"),
    ("Issued by", "issuer"),
    ("Valid until", "not_after"),
    ("CRL", "crl.number"),
    ("Revoked", "crl.entries"),
    ("Next CRL due", "crl.next_update"),
    ("Problem", "crl.problem"),
];

const VERDICT: &[Column] = &[
    ("Certificate", "subject"),
    ("Verdict", "verdict"),
    ("Because", "cause"),
    ("Reason", "reason"),
    ("What to do", "fix"),
    ("Judged at", "at"),
    ("By", "by"),
];

/// Largest file with certificates or a revocation list that is read, in bytes.
const MAX_FILE: u64 = 48 * 1024 * 1024;

pub(crate) async fn run(command: TrustCommand, flags: &SiteFlags, format: Format) -> Result<(), Failure> {
    let api = || Context::find(flags).and_then(Api::new);
    match command {
        TrustCommand::Add { files, password_file } => add(&api()?, &files, password_file, format).await,
        TrustCommand::List => {
            let rows = api()?.get("trust").await?;
            let empty =
                "No authority is trusted: no client certificate opens anything. `roamgate trust add FILE`.";
            output::list(format, &rows, COLUMNS, empty);
            Ok(())
        }
        TrustCommand::Remove { authority, dry_run: true } => {
            let effect = api()?.get(&format!("trust/{}/effect", element(&authority))).await?;
            output::list(
                format,
                &effect,
                &[
                    ("Device", "name"),
                    ("Client id", "client_id"),
                    ("Would be refused because", "cause"),
                    ("It would go on by", "falls_back_to"),
                ],
                "No device would fail: none has a certificate that leads there.",
            );
            Ok(())
        }
        TrustCommand::Remove { authority, dry_run: false } => {
            let gone = api()?.delete(&format!("trust/{}", element(&authority))).await?;
            output::record(format, &gone, &[("Subject", "subject"), ("Removed", "removed")]);
            Ok(())
        }
        TrustCommand::DistributionPoint { authority, url } => {
            let path = format!("trust/{}/distribution-point", element(&authority));
            output::record(format, &api()?.put(&path, &json!({"url": url})).await?, COLUMNS);
            Ok(())
        }
        TrustCommand::Crl { file } => {
            let state = api()?.post("trust/crl", &json!({"file": read_file(&file)?})).await?;
            output::record(
                format,
                &state,
                &[
                    ("Issuer", "issuer"),
                    ("Number", "number"),
                    ("Made", "this_update"),
                    ("Next due", "next_update"),
                    ("Revoked", "entries"),
                ],
            );
            Ok(())
        }
        TrustCommand::Check(arguments) => {
            let verdict = if arguments.roots.is_empty() {
                let body = json!({"certificate": read_file(&arguments.certificate)?, "at": arguments.at});
                api()?.post("trust/check", &body).await?
            } else {
                offline::judge_certificate(&arguments)?
            };
            output::record(format, &verdict, VERDICT);
            offline::end(&verdict)
        }
    }
}

async fn add(
    api: &Api,
    files: &[PathBuf],
    password_file: Option<PathBuf>,
    format: Format,
) -> Result<(), Failure> {
    let password = password_file.map(|file| offline::read_secret(&file)).transpose()?;
    let known = api.get("trust").await?;
    let mut seen: BTreeSet<String> = known.as_array().into_iter().flatten().filter_map(id).collect();
    let mut added = Vec::new();
    for file in files {
        let body = json!({"file": read_file(file)?, "password": password});
        let rows = api.post("trust", &body).await.map_err(|failure| of_file(failure, file))?;
        // The site answers what the file holds; what it trusted before was not added.
        let rows = rows.as_array().cloned().unwrap_or_default();
        added.extend(rows.into_iter().filter(|row| id(row).is_none_or(|id| seen.insert(id))));
    }
    let columns = &COLUMNS[..5];
    output::list(format, &Value::Array(added), columns, "All of them were trusted before.");
    Ok(())
}

fn id(row: &Value) -> Option<String> {
    row["id"].as_str().map(str::to_owned)
}

/// A refusal of what a file holds names the file: there may be several.
fn of_file(failure: Failure, file: &Path) -> Failure {
    match failure.exit {
        Exit::Usage | Exit::Refused | Exit::Conflict => {
            Failure { message: format!("{}: {}", file.display(), failure.message), ..failure }
        }
        _ => failure,
    }
}

/// A file as the API takes it: base64.
fn read_file(path: &Path) -> Result<String, Failure> {
    offline::read_bounded(path, MAX_FILE).map(|bytes| STANDARD.encode(bytes))
}

/// `roamgate alarms`: here, because most of them are about trust.
pub(crate) async fn alarms(api: &Api, format: Format) -> Result<(), Failure> {
    let rows = api.get("alarms").await?;
    let columns = &[("Since", "since"), ("About", "about"), ("Alarm", "text"), ("What to do", "fix")];
    output::list(format, &rows, columns, "No alarms.");
    if rows.as_array().is_some_and(|rows| !rows.is_empty()) {
        return Err(Failure::new(Exit::Problems, "there are alarms"));
    }
    Ok(())
}
