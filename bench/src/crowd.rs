//! A crowd of devices, played over the real protocol: against a site that is started for it, or against one
//! that is there and is to be sized.
//!
//! | command | devices |
//! |---|---|
//! | `storm` | register all at once by one bulk token |
//! | `poll` | ask for policy and locations at a rate |
//! | `idle` | hold their connections |
//! | `herd` | hold their connections, lose them with the gateway, and come back |
//! | `growth` | register and poll while others fill the database |
//!
//! Devices that register and poll are those of the client's library, each with a key, a memory and a connection of
//! its own. Connections that are only held are made by child processes ([`player`]), lighter, with the client's own
//! schedule for what to do after a failure.

pub(crate) mod connection;
pub(crate) mod device;
pub(crate) mod figures;
mod growth;
mod herd;
mod idle;
pub(crate) mod keys;
mod pause;
mod player;
mod players;
mod poll;
pub(crate) mod results;
mod site;
mod storm;
pub(crate) mod target;
pub(crate) mod watch;

use std::process::ExitCode;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;
use miette::{IntoDiagnostic as _, Result};

use self::connection::{Credentials, GatewayFacts};
use self::device::Afterwards;
use self::figures::Reasons;
use self::site::Site;
use self::target::Target;

/// Devices that come in at once where that is not what is measured.
const AT_ONCE: usize = 64;

/// Which crowd.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Devices register all at once by one bulk token, through the gateway, and wait as long as they are told when
    /// they are turned away. Then the site is asked whether each is there once
    Storm(storm::Arguments),
    /// Registered devices ask for their policy and for locations, at a rate
    Poll(poll::Arguments),
    /// Devices hold a connection each, with a request now and then
    Idle(idle::Arguments),
    /// Devices hold a connection each, the gateway is killed and started again, and all come back
    Herd(herd::Arguments),
    /// What registrations and polls cost with more and more devices in the database, or roles that are published
    Growth(growth::Arguments),
    /// Makes the keys of devices beforehand, so that no run has to wait for them
    Keys {
        /// How many there are to be in the end
        #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=i64::from(keys::MOST)))]
        count: u32,
    },
    /// Holds a part of a crowd's connections (started by the others)
    #[command(hide = true)]
    Player,
}

/// Runs it.
pub(crate) fn run(arguments: Arguments) -> Result<ExitCode> {
    match arguments.command {
        Command::Storm(arguments) => storm::run(&arguments),
        Command::Poll(arguments) => poll::run(&arguments),
        Command::Idle(arguments) => idle::run(&arguments),
        Command::Herd(arguments) => herd::run(&arguments),
        Command::Growth(arguments) => growth::run(&arguments),
        Command::Keys { count } => {
            keys::take(&keys_folder(), count).into_diagnostic()?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Player => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            // Its devices end with the process.
            let outcome = runtime.into_diagnostic()?.block_on(player::play()).into_diagnostic();
            outcome.map(|()| ExitCode::SUCCESS)
        }
    }
}

/// A runtime for what this process does itself.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().into_diagnostic()
}

/// Where keys of devices are kept.
pub(crate) fn keys_folder() -> std::path::PathBuf {
    crate::lab::project_root().join("target").join("bench-keys")
}

/// Registers so many devices, approved and with a CCM token each, for connections that are made without the
/// client's library. An error when one of them is not let in.
pub(crate) fn identities(
    runtime: &tokio::runtime::Runtime,
    target: &Target,
    count: u32,
) -> Result<Vec<Credentials>> {
    let keys = keys::take(&keys_folder(), count).into_diagnostic()?;
    let devices = device::make(&target.site, keys).into_diagnostic()?;
    let token = target.bulk_token().into_diagnostic()?;
    eprintln!("registering {count} devices");
    // Generous: a hundredth of a second for each, and whatever the first ones need.
    let bound = Duration::from_mins(2) + Duration::from_millis(100) * count;
    let entering = device::enter(devices, &token.text, AT_ONCE, Afterwards::Confirm, bound);
    let (inside, entry) = runtime.block_on(entering);
    target.block(&token).into_diagnostic()?;
    if inside.len() < count as usize {
        let (all, again, given_up) = (inside.len(), entry.again.text(), entry.given_up.text());
        miette::bail!("of {count} devices {all} are in; tried again: {again}; gave up: {given_up}");
    }
    runtime.block_on(async {
        let mut credentials = Vec::with_capacity(inside.len());
        for mut played in inside {
            let token = played.device.ccm_token().await.into_diagnostic()?;
            let id = played.device.registered().into_diagnostic()?.client_id;
            credentials.push(Credentials {
                pkcs8: STANDARD.encode(&*played.key.pkcs8),
                certificate: STANDARD.encode(&played.key.certificate),
                client_id: id.to_string(),
                token: token.expose().to_owned(),
            });
        }
        Ok(credentials)
    })
}

/// The gateway of a site in words; connections come from many loopback addresses where it is on this machine.
pub(crate) fn gateway_facts(site: &Site, per_source: u32) -> GatewayFacts {
    GatewayFacts {
        authority: site.gateway.authority().to_owned(),
        address: site.address,
        role: site.gateway.role().to_string(),
        ca: site.gateway_ca.clone(),
        per_source: if site.is_loopback() { per_source } else { 0 },
    }
}

/// Failures as a row shows them: how many, and of what kind.
fn failures(reasons: &Reasons) -> String {
    if reasons.total() == 0 { "0".to_owned() } else { format!("{}: {}", reasons.total(), reasons.text()) }
}
