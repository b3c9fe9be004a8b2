//! `roamgate config`.

use std::path::Path;

use runtime::tls::CertificateFiles;

use crate::cli::ConfigCommand;
use crate::config;
use crate::exit::{Exit, Failure, chain};
use crate::output::{self, Format};

pub(crate) fn run(command: &ConfigCommand, format: Format) -> Result<(), Failure> {
    match command {
        ConfigCommand::Check { file } => check(file, format),
        ConfigCommand::Show { file } => {
            config::load(file)?;
            let text =
                std::fs::read_to_string(file).map_err(|error| Failure::from_error(Exit::Usage, &error))?;
            let filled = filled(&text)?;
            match format {
                Format::Json => output::json(&serde_json::json!(filled)),
                Format::Table => output::line(filled.to_string().trim_end()),
            }
            Ok(())
        }
    }
}

/// The distribution's files, which hold every key with its default (a test compares them with the code).
const DEFAULTS: [&str; 3] = [
    include_str!("../../../../config/site.toml"),
    include_str!("../../../../config/gateway.toml"),
    include_str!("../../../../config/connection-point.toml"),
];

/// The file's own values, and the default of every key that it leaves out. Keys without a default
/// that it leaves out stay out.
fn filled(text: &str) -> Result<toml::Table, Failure> {
    let read =
        |text: &str| text.parse::<toml::Table>().map_err(|error| Failure::from_error(Exit::Usage, &error));
    let mut filled = read(text)?;
    filled.entry("logs").or_insert_with(|| toml::Table::new().into());
    for defaults in DEFAULTS {
        for (section, defaults) in read(defaults)? {
            let (Some(section), Some(defaults)) =
                (filled.get_mut(&section).and_then(toml::Value::as_table_mut), defaults.as_table())
            else {
                continue;
            };
            for (key, value) in defaults {
                section.entry(key).or_insert_with(|| value.clone());
            }
        }
    }
    Ok(filled)
}

/// Reads the file, and the files that it names, as `serve` would.
fn check(file: &Path, format: Format) -> Result<(), Failure> {
    let config = config::load(file)?;
    let mut problems: Vec<String> = Vec::new();
    #[cfg(feature = "gateway")]
    if let Some(gateway) = &config.gateway {
        problems.extend(gateway.check().err().map(|error| error.to_string()));
        problems.extend(unreadable(&gateway.bundle));
        problems.extend(unusable(&gateway.certificate, &gateway.key));
    }
    #[cfg(feature = "connector")]
    if let Some(connection_point) = &config.connection_point {
        problems.extend(unreadable(&connection_point.bundle));
        for paths in [&connection_point.client_certificate, &connection_point.client_key] {
            problems.extend(paths.paths().iter().filter_map(|path| unreadable(path)));
        }
    }
    #[cfg(feature = "site")]
    if let Some(site) = &config.site {
        for path in [&site.database, &site.key_file] {
            problems.extend(unreadable(path));
        }
    }
    #[cfg(feature = "site")]
    if let Some(point) = &config.management_point {
        match (&point.certificate, &point.key) {
            (Some(certificate), Some(key)) => problems.extend(unusable(certificate, key)),
            (Some(one), None) | (None, Some(one)) => problems.push(format!(
                "{}: [management-point] needs both certificate and key, or neither",
                one.display()
            )),
            (None, None) => {}
        }
    }
    if format == Format::Json {
        output::json(&serde_json::json!({"roles": config.roles(), "problems": problems}));
    } else {
        output::line(&format!("Starts: {}", config.roles().join(", ")));
        for problem in &problems {
            output::line(&format!("Problem: {problem}"));
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Exit::Problems, format!("{} would not start as it is", file.display())))
}

fn unreadable(path: &Path) -> Option<String> {
    std::fs::File::open(path).err().map(|error| format!("{}: {error}", path.display()))
}

/// What is wrong with a certificate and its key: one of the files, or that they do not belong together.
fn unusable(certificate: &Path, key: &Path) -> Option<String> {
    let files = CertificateFiles { certificate: certificate.to_owned(), key: key.to_owned() };
    files.load().err().map(|error| chain(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_shown_with_the_defaults_of_its_own_roles_and_no_others() {
        let shown = filled("[gateway]\nshards = 3\n").unwrap();
        assert_eq!(shown["gateway"]["shards"].as_integer(), Some(3));
        assert_eq!(shown["gateway"]["answer_timeout"].as_str(), Some("65s"));
        assert_eq!(shown["logs"]["level"].as_integer(), Some(1));
        assert!(!shown.contains_key("site"), "{shown}");
    }
}
