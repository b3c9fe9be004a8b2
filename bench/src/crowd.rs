//! To be written.

use std::process::ExitCode;

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

/// Runs it.
pub(crate) fn run(_arguments: Arguments) -> miette::Result<ExitCode> {
    Ok(ExitCode::SUCCESS)
}
