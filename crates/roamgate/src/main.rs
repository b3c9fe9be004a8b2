//! `roamgate`: all server roles, the operators' commands, and the lab, in one program.

mod api;
mod cli;
mod command;
mod config;
mod context;
mod exit;
mod explain;
#[cfg(feature = "site")]
mod lab;
mod output;
mod pages;
mod serve;
mod telemetry;

use std::process::ExitCode;

use clap::Parser as _;

use crate::api::Api;
use crate::cli::{Cli, Command, SiteCommand};
use crate::context::Context;
use crate::exit::{Exit, Failure};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let cli = match Cli::try_parse_from(command::bulk_token::translate(words)) {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing more can be said if even this cannot be printed.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { Exit::Usage as u8 } else { 0 });
        }
    };
    if let Command::Client { words } = cli.command {
        return client::cli::main_with(std::iter::once("roamgate-client".into()).chain(words));
    }
    exit::keep_lines_whole();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(Failure::from_error(Exit::Bug, &error)),
    };
    match runtime.block_on(run(cli)) {
        Ok(code) => code,
        Err(failure) => report(failure),
    }
}

async fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let format = cli.output;
    let api = || Context::find(&cli.site).and_then(Api::new);
    match cli.command {
        #[cfg(feature = "site")]
        Command::Lab(arguments) => lab::run(arguments).await?,
        #[cfg(feature = "site")]
        Command::LabWire(arguments) => {
            let code = lab::run_wired(arguments).await?;
            return Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)));
        }
        Command::Serve(arguments) => serve::run(arguments).await?,
        #[cfg(feature = "site")]
        Command::Site(SiteCommand::Init(arguments)) => command::site::init::run(arguments, format).await?,
        Command::Site(SiteCommand::Show) => command::site::show(&api()?, format).await?,
        Command::BulkToken(command) => command::bulk_token::run(command, &api()?, format).await?,
        Command::ApprovalRule(command) => command::approval_rule::run(command, &api()?, format).await?,
        Command::ExpectedDevice(command) => {
            command::collection::run_expected(command, &api()?, format).await?;
        }
        Command::Collection(command) => command::collection::run(command, &api()?, format).await?,
        Command::ClientSettings(command) => {
            command::collection::run_client_settings(command, &api()?, format).await?;
        }
        Command::Trust(command) => command::trust::run(command, &cli.site, format).await?,
        Command::Token(command) => command::token::run(command, &cli.site, format).await?,
        Command::Tenant(command) => command::tenant::run(command, &api()?, format).await?,
        Command::Directory(command) => command::tenant::run_directory(command, &api()?, format).await?,
        Command::User(command) => command::tenant::run_user(command, &api()?, format).await?,
        Command::Alarms => command::trust::alarms(&api()?, format).await?,
        Command::Device(command) => command::device::run(command, &api()?, format).await?,
        Command::Gateway(command) => command::gateway::run(command, &api()?, format).await?,
        Command::ConnectionPoint(command) => command::connection_point::run(command, &api()?, format).await?,
        Command::Role(command) => command::role::run(command, &api()?, format).await?,
        Command::Key(command) => command::key::run(command, &api()?, format).await?,
        Command::Settings(command) => command::settings::run(command, &api()?, format).await?,
        Command::Audit(command) => command::audit::run(command, &api()?, format).await?,
        Command::Logs(command) => command::logs::run(command, &api()?, format).await?,
        Command::Trace { request_id } => command::trace::run(&request_id, &api()?, format).await?,
        Command::Explain { text, page } => command::explain::run(&text, page.as_deref(), format)?,
        Command::Config(command) => command::config::run(&command, format)?,
        Command::Context(command) => command::context::run(&command, &cli.site, format)?,
        Command::Client { .. } => unreachable!("handled before the runtime was made"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Tells a person what failed, and a script by the exit code.
fn report(failure: Failure) -> ExitCode {
    let code = ExitCode::from(failure.exit as u8);
    output::note(&format!("{:?}", miette::Report::new(failure)));
    code
}
