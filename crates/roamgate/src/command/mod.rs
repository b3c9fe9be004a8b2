//! One file a noun: each turns words of the command line into calls of the operator API.

pub(crate) mod approval_rule;
pub(crate) mod audit;
pub(crate) mod bulk_token;
pub(crate) mod collection;
pub(crate) mod config;
pub(crate) mod connection_point;
pub(crate) mod context;
pub(crate) mod device;
pub(crate) mod explain;
pub(crate) mod gateway;
pub(crate) mod key;
pub(crate) mod logs;
mod offline;
mod once_file;
pub(crate) mod role;
pub(crate) mod settings;
pub(crate) mod site;
pub(crate) mod tenant;
pub(crate) mod token;
pub(crate) mod trace;
pub(crate) mod trust;

use self::once_file::OnceFile;
use crate::api::Api;
use crate::exit::{Exit, Failure};

/// A path element of the API made of what a person typed.
fn element(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect::<Vec<_>>()
        .concat()
}

/// Asks the site for a host's bundle and writes it where it was told to.
async fn add_host(
    api: &Api,
    path: &str,
    body: &serde_json::Value,
    bundle: std::path::PathBuf,
) -> Result<serde_json::Value, Failure> {
    let file = OnceFile::reserve(bundle)?;
    let mut made = api.post(path, body).await?;
    let text =
        serde_json::to_vec_pretty(&made["bundle"]).map_err(|error| Failure::from_error(Exit::Bug, &error))?;
    made["bundle"] = serde_json::json!(file.fill(&text)?);
    Ok(made)
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_was_typed_is_one_path_element() {
        assert_eq!(super::element("GUID:A/../b c"), "GUID%3AA%2F..%2Fb%20c");
    }
}
