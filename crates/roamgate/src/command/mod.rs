//! One file a noun: each turns words of the command line into calls of the operator API.

pub(crate) mod audit;
pub(crate) mod bulk_token;
pub(crate) mod config;
pub(crate) mod connection_point;
pub(crate) mod context;
pub(crate) mod device;
pub(crate) mod explain;
pub(crate) mod gateway;
pub(crate) mod key;
pub(crate) mod logs;
pub(crate) mod role;
pub(crate) mod settings;
pub(crate) mod site;
pub(crate) mod trace;

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

/// Writes a bundle for one host: private, and never over another file.
fn write_bundle(path: &std::path::Path, bundle: &serde_json::Value) -> Result<(), crate::exit::Failure> {
    use crate::exit::{Exit, Failure};
    if path.exists() {
        return Err(Failure::new(Exit::Conflict, format!("{} is there already", path.display()))
            .help("Name another file, or remove it: a bundle is written once."));
    }
    let text = serde_json::to_vec_pretty(bundle).map_err(|error| Failure::from_error(Exit::Bug, &error))?;
    runtime::config::private_file::write(path, &text)
        .map_err(|error| Failure::from_error(Exit::Refused, &error))
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_was_typed_is_one_path_element() {
        assert_eq!(super::element("GUID:A/../b c"), "GUID%3AA%2F..%2Fb%20c");
    }
}
