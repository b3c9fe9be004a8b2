//! `roamgate config`.

use std::path::Path;

use crate::cli::ConfigCommand;
use crate::config;
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};

pub(crate) fn run(command: &ConfigCommand, format: Format) -> Result<(), Failure> {
    match command {
        ConfigCommand::Check { file } => check(file, format),
        ConfigCommand::Show { file } => {
            let config = config::load(file)?;
            output::line(&format!("{config:#?}"));
            Ok(())
        }
    }
}

/// Reads the file, and the files that it names, as `serve` would.
fn check(file: &Path, format: Format) -> Result<(), Failure> {
    let config = config::load(file)?;
    let mut problems: Vec<String> = Vec::new();
    #[cfg(feature = "gateway")]
    if let Some(gateway) = &config.gateway {
        problems.extend(gateway.check().err().map(|error| error.to_string()));
        for path in [&gateway.bundle, &gateway.certificate, &gateway.key] {
            problems.extend(unreadable(path));
        }
    }
    #[cfg(feature = "connector")]
    if let Some(connection_point) = &config.connection_point {
        problems.extend(unreadable(&connection_point.bundle));
    }
    #[cfg(feature = "site")]
    if let Some(site) = &config.site {
        for path in [&site.database, &site.key_file] {
            problems.extend(unreadable(path));
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
