//! Measures Roamgate beside its peers in one run, and plays crowds of devices.

mod crowd;
mod lab;
mod process;
mod relay;
mod report;
mod site_speed;
mod soak;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures Roamgate beside its peers, and plays crowds of devices.
///
/// Everything is started by itself and stays on loopback, but for `crowd` and `soak` with `--ready-file`: they send
/// their devices to the site that the file describes, wherever it is.
#[derive(Debug, Parser)]
#[command(name = "roamgate-bench", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The relay beside nginx, haproxy and other tunnels, and the table of `docs/performance.md`.
    Relay(relay::Arguments),
    /// A crowd of devices: registration storm, policy polls, idle connections, the herd after an outage.
    Crowd(crowd::Arguments),
    /// Tokens and registrations per second, beside the bare signing rate and a commit for each row.
    Site(site_speed::Arguments),
    /// A million requests, and connections torn by the hundred thousand: whether memory stays where it was.
    Soak(soak::Arguments),
}

fn main() -> miette::Result<ExitCode> {
    match Arguments::parse().command {
        Command::Relay(arguments) => relay::run(arguments),
        Command::Crowd(arguments) => crowd::run(arguments),
        Command::Site(arguments) => site_speed::run(arguments),
        Command::Soak(arguments) => soak::run(arguments),
    }
}
