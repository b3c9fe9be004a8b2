//! `roamgate-client`: the device's command.

use std::process::ExitCode;

fn main() -> ExitCode {
    client::cli::main_with(std::env::args_os())
}
