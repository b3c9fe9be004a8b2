//! The command line: arguments in, exit codes out.

mod arguments;
mod command;
mod exit;
mod problem;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;

pub use self::exit::Exit;

use self::arguments::Arguments;

/// Runs the command that these words name, the program's own name first.
///
/// Here and not in the program, because the server's program can play a device, too: the lab
/// and whoever has only that one at hand.
pub fn main_with(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(words) {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    problem::keep_lines_whole();
    match command::run(arguments) {
        Ok(exit) => exit.into(),
        Err(problem) => problem.report(),
    }
}
