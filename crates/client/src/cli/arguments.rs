//! What may be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use runtime::config::HumanDuration;

/// Exit codes, as the help shows them; the numbers are those of [`Exit`](super::Exit).
const EXIT_CODES: &str = "Exit codes: 0 done, 1 bug, 2 usage, 3 not found, 4 refused, 5 conflict, \
6 unreachable, 7 a check found problems, 8 partly done, 9 timed out.";

/// The device side of Roamgate.
///
/// Registers this device at its site, inside or over a gateway, and keeps it managed.
#[derive(Debug, Parser)]
#[command(name = "roamgate-client", version, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Folder with the device's key, tokens and policy.
    #[arg(long, global = true, value_name = "FOLDER", env = "ROAMGATE_CLIENT_STATE")]
    pub(crate) state: Option<PathBuf>,
    /// Show the log on standard error, too.
    #[arg(long, short, global = true)]
    pub(crate) verbose: bool,
    /// How much is logged: 0 verbose, 1 default, 2 warnings and errors, 3 errors only.
    #[arg(long, global = true, value_name = "LEVEL", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=3))]
    pub(crate) log_level: u8,
    /// Seconds to add to the clock, in a file: for the lab.
    #[arg(long, global = true, hide = true, value_name = "FILE", env = "ROAMGATE_CLOCK_OFFSET_FILE")]
    pub(crate) clock_offset_file: Option<PathBuf>,
}

/// How a result is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// One JSON document on standard output, and nothing else there.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Set this device up: takes a ccmsetup line as it is pasted.
    #[command(after_help = "Example:\n  roamgate-client setup ccmsetup.exe \
/mp:https://gw.example.org/CCM_Proxy_MutualAuth/72057594037927937 \
CCMHOSTNAME=gw.example.org/CCM_Proxy_MutualAuth/72057594037927937 SMSSITECODE=RG1 \
--regtoken-file token.txt --site-root sha256:…")]
    Setup(SetupArguments),
    /// Register this device, or confirm its registration and renew its self-prove token.
    Register {
        /// File with a bulk registration token; - is standard input.
        #[arg(long, value_name = "FILE", env = "ROAMGATE_REGTOKEN_FILE")]
        regtoken_file: Option<PathBuf>,
    },
    /// Show or change the settings of this device that an administrator makes by hand: CMGFQDNs=
    /// DisAllowCMG= ClientAlwaysOnInternet=. They stand in settings.json of the state folder; the
    /// service reads them at its start, on another network, and with each policy poll.
    Settings {
        /// NAME=VALUE; NAME= takes a setting back. Without any they are shown.
        #[arg(value_name = "NAME=VALUE")]
        words: Vec<String>,
    },
    /// Get policy and send a heartbeat now.
    Sync,
    /// Show what this device is, where it is, and what it last did.
    Status {
        /// How to write it.
        #[arg(long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Look at what this device can prove about itself: join state, certificate, tokens, clock.
    Doctor {
        /// How to write it.
        #[arg(long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Name other ways to prove this device, and use the best of them at once.
    Credentials(ProofArguments),
    /// Sign a user of the tenant in: shows a page and a code.
    SignIn,
    /// Forget a user's tokens and policy.
    SignOut {
        /// SID, principal name or object id, as `status` shows them.
        #[arg(value_name = "ACCOUNT")]
        account: String,
    },
    /// Get the policy of users that are signed in.
    UserPolicy {
        /// One of them; without it all.
        #[arg(value_name = "ACCOUNT")]
        account: Option<String>,
    },
    /// Print the current CCM token, renewed if its end is near.
    Token,
    /// Run until stopped: renew tokens, poll policy, report.
    Service {
        /// Time between two policy polls instead of what policy says, such as "5 min".
        #[arg(long, value_name = "TIME")]
        poll_interval: Option<HumanDuration>,
        /// Time between two heartbeats, such as "7 days".
        #[arg(long, value_name = "TIME")]
        heartbeat_interval: Option<HumanDuration>,
        /// Stop when standard input ends.
        #[arg(long)]
        end_with_stdin: bool,
    },
    /// Remove everything that this client keeps, its key included.
    Uninstall,
}

#[derive(Debug, Args)]
pub(crate) struct SetupArguments {
    /// Words in the ccmsetup spelling, in any case and order: /mp: /regtoken: CCMHOSTNAME=
    /// SMSSITECODE= SMSMP= SMSROOTKEYPATH= …
    #[arg(value_name = "WORD")]
    pub(crate) words: Vec<String>,
    /// Further root certificates (PEM) that the gateway's certificate may lead to.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// The site's root: a certificate file, or sha256:… as `roamgate bulk-token new` prints it.
    #[arg(long, value_name = "FILE|sha256:HEX")]
    pub(crate) site_root: Option<String>,
    /// File with the bulk registration token; - is standard input.
    #[arg(long, value_name = "FILE", env = "ROAMGATE_REGTOKEN_FILE")]
    pub(crate) regtoken_file: Option<PathBuf>,
    /// The device's name; without it the host's.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Names the hardware: the word random, or 2:HEX. Without it a hash of the machine's id.
    #[arg(long, value_name = "ID", env = "ROAMGATE_HARDWARE_ID")]
    pub(crate) hardware_id: Option<String>,
    /// A management point inside; may be repeated.
    #[arg(long, value_name = "URL")]
    pub(crate) inside: Vec<String>,
    #[command(flatten)]
    pub(crate) proof: ProofArguments,
    /// Set up anew a device that is registered already. It keeps its key, and so its id.
    #[arg(long)]
    pub(crate) force: bool,
}

/// Ways to prove the device besides its own key.
#[derive(Debug, Args)]
pub(crate) struct ProofArguments {
    /// Folder with certificates of the organisation's PKI and their keys (PEM, DER, PFX). Also
    /// CCMCERTSTORE=.
    #[arg(long, value_name = "FOLDER", env = "ROAMGATE_CERTIFICATE_STORE")]
    pub(crate) certificate_store: Option<PathBuf>,
    /// File with the passphrase of PFX files in it.
    #[arg(long, value_name = "FILE")]
    pub(crate) certificate_password_file: Option<PathBuf>,
    /// Folder with the workplace-join certificate (named after the device's id in its tenant) and key.
    #[arg(long, value_name = "FOLDER", env = "ROAMGATE_WORKPLACE_JOIN")]
    pub(crate) workplace_join: Option<PathBuf>,
    /// File with the output of `dsregcmd /status`.
    #[arg(long, value_name = "FILE")]
    pub(crate) join_status: Option<PathBuf>,
    /// Where the tenant gives tokens; without it, as the device's join or a gateway says.
    #[arg(long, value_name = "URL")]
    pub(crate) authority: Option<String>,
    /// A program that prints a device token as {"access_token": …, "expires_on": …}.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) device_token_command: Option<String>,
    /// A program that prints a user token in the same way.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) user_token_command: Option<String>,
    /// Ask a user to sign in when no better way is left.
    #[arg(long)]
    pub(crate) sign_in: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn pasted_words_and_options_are_told_apart_in_any_order() {
        let line = [
            "roamgate-client",
            "setup",
            "ccmsetup.exe",
            "/mp:",
            "--state",
            "/tmp/x",
            "SMSSITECODE=ABC",
            "--inside",
            "http://mp",
            "/regtoken:abc",
        ];
        let arguments = Arguments::parse_from(line);
        assert_eq!(arguments.common.state, Some("/tmp/x".into()));
        let Command::Setup(setup) = arguments.command else { panic!("not setup") };
        assert_eq!(setup.words, ["ccmsetup.exe", "/mp:", "SMSSITECODE=ABC", "/regtoken:abc"]);
        assert_eq!(setup.inside, ["http://mp"]);
    }
}
