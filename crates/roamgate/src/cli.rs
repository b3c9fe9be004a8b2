//! The command line: every word of it, and nothing else. Larger nouns have a file of their own.

mod collection;
mod tenant;
mod trust;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(crate) use self::collection::{
    ClientSettingsArgs, ClientSettingsCommand, CollectionCommand, ExpectedDeviceCommand,
};
pub(crate) use self::tenant::{DirectoryCommand, TenantCommand, UserCommand};
pub(crate) use self::trust::{CrlCheck, TokenCheckArgs, TokenCommand, TrustCheckArgs, TrustCommand};
use crate::context::SiteFlags;
use crate::output::Format;

const EXIT_CODES: &str = "Exit codes: 0 done, 1 bug, 2 usage, 3 not found, 4 refused, 5 conflict, 6 unreachable, \
                          7 a check found problems, 8 partly done, 9 timed out.";

/// Manages devices on the internet: site, management point, gateway, connection point, and the
/// commands of their operators.
#[derive(Debug, Parser)]
#[command(name = "roamgate", version, propagate_version = true, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) site: SiteFlags,
    /// How results are printed
    #[arg(long, global = true, value_enum, default_value_t)]
    pub(crate) output: Format,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start every role on this machine with a few devices, and play the scenarios of the field
    #[cfg(feature = "site")]
    Lab(LabArgs),
    /// Start the roles that a configuration file names
    Serve(ServeArgs),
    /// Make a site, or show it
    #[command(subcommand)]
    Site(SiteCommand),
    /// Tokens that let devices on the internet register
    #[command(subcommand)]
    BulkToken(BulkTokenCommand),
    /// What approves a device without an operator
    #[command(subcommand)]
    ApprovalRule(ApprovalRuleCommand),
    /// Devices that the rule `expected-list` approves
    #[command(subcommand)]
    ExpectedDevice(ExpectedDeviceCommand),
    /// Devices: who they are, whether they are trusted
    #[command(subcommand)]
    Device(DeviceCommand),
    /// Sets of devices, at which settings and policy are aimed
    #[command(subcommand)]
    Collection(CollectionCommand),
    /// What clients are told: default settings, and custom ones for collections
    #[command(subcommand)]
    ClientSettings(ClientSettingsCommand),
    /// Authorities whose client certificates are trusted, and their revocation lists
    #[command(subcommand)]
    Trust(TrustCommand),
    /// Tokens in hand
    #[command(subcommand)]
    Token(TokenCommand),
    /// Tenants of Entra ID, or of another OpenID provider
    #[command(subcommand)]
    Tenant(TenantCommand),
    /// On-premises directories, whose users are discovered
    #[command(subcommand)]
    Directory(DirectoryCommand),
    /// Discovered users
    #[command(subcommand)]
    User(UserCommand),
    /// What weakens the site, is about to end, or waits for a person
    Alarms,
    /// Internet-facing gateways
    #[command(subcommand)]
    Gateway(GatewayCommand),
    /// Connection points, which dial out to the gateways
    #[command(subcommand)]
    ConnectionPoint(ConnectionPointCommand),
    /// Published roles: management points by URL
    #[command(subcommand)]
    Role(RoleCommand),
    /// The site's signing keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// Site settings
    #[command(subcommand)]
    Settings(SettingsCommand),
    /// The audit trail
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Level of each log component of the site host, changeable while it runs
    #[command(subcommand)]
    Logs(LogsCommand),
    /// What became of a request: every refusal on its way, with the exact cause
    Trace {
        /// The request id of an answer or log line
        #[arg(value_parser = named())]
        request_id: String,
    },
    /// What a code, status text or log line means, and what to do
    Explain {
        /// Reason code, HRESULT, status text or pasted log lines; `-` reads standard input
        #[arg(required_unless_present = "page", allow_negative_numbers = true)]
        text: Vec<String>,
        /// Print a page of the documentation instead
        #[arg(long, value_parser = ["errors", "endpoints"], conflicts_with = "text")]
        page: Option<String>,
    },
    /// Configuration files: check one, or show it with every default
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Where the site is, so that no flags are needed
    #[command(subcommand)]
    Context(ContextCommand),
    /// The device side; the same as the program `roamgate-client`
    #[command(disable_help_flag = true, disable_version_flag = true)]
    Client {
        /// Words of the client's command line
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<std::ffi::OsString>,
    },
    /// Join a network namespace to the lab (used by the lab itself)
    #[cfg(feature = "site")]
    #[command(hide = true)]
    LabWire(LabWireArgs),
}

/// Takes any word but the empty one, which a forgotten variable of a script leaves behind.
fn named() -> clap::builder::NonEmptyStringValueParser {
    clap::builder::NonEmptyStringValueParser::new()
}

#[derive(Debug, Args)]
pub(crate) struct LabArgs {
    /// Folder for everything that the lab writes; a fresh temporary one unless named
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Play the scenarios and end, instead of staying up
    #[arg(long)]
    pub(crate) once: bool,
    /// Write a JSON description of the lab to this file once everything answers
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
    /// Devices that register over the internet, at least one
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=200))]
    pub(crate) devices: u16,
    /// Gateways, each a process of its own with its own certificate
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=8))]
    pub(crate) gateways: u8,
    /// Connection points; each dials every gateway
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=8))]
    pub(crate) connection_points: u8,
    /// End when standard input closes (for programs that start the lab)
    #[arg(long, hide = true)]
    pub(crate) end_with_stdin: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LabWireArgs {
    /// Local address and Unix socket of a wire, `127.0.0.1:PORT=/path`
    #[arg(long, required = true)]
    pub(crate) wire: Vec<String>,
    /// Program to run beside the wires, with its arguments
    #[arg(last = true, required = true)]
    pub(crate) program: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// The configuration file; a section in it is a role started
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// End when standard input closes (for programs that start a role)
    #[arg(long, hide = true)]
    pub(crate) end_with_stdin: bool,
    /// Approve whatever registers (for the lab alone)
    #[arg(long, hide = true)]
    pub(crate) lab_approve_everything: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SiteCommand {
    /// Make a new site in a folder: database, keys, first operator, configuration file
    #[cfg(feature = "site")]
    Init(SiteInitArgs),
    /// Show the site, how its devices fare, and what weakens it
    Show,
}

#[derive(Debug, Args)]
pub(crate) struct SiteInitArgs {
    /// Folder for the site, made if need be; must not hold a site yet
    #[arg(long, value_name = "DIR", default_value = "roamgate-site")]
    pub(crate) dir: PathBuf,
    /// Three letters or digits
    #[arg(long, default_value = "RG1")]
    pub(crate) site_code: proto::id::SiteCode,
    /// Name of the site, for people
    #[arg(long, default_value = "Roamgate")]
    pub(crate) name: String,
    /// Name of the first operator, whose key is written into the folder
    #[arg(long, default_value = "admin")]
    pub(crate) operator: String,
    /// Network whose devices are approved without token; may stand several times
    #[arg(long, value_name = "CIDR")]
    pub(crate) intranet: Vec<String>,
    /// Name or address by which other hosts and devices inside reach this host
    #[arg(long, value_name = "HOST", default_value = "localhost")]
    pub(crate) host: String,
    /// Port of the management point
    #[arg(long, default_value_t = 8080)]
    pub(crate) mp_port: u16,
    /// Port of the management point for HTTPS (enhanced HTTP), which connection points use
    #[arg(long, default_value_t = 8445)]
    pub(crate) mp_tls_port: u16,
    /// Port of the site link, which connection points dial
    #[arg(long, default_value_t = 8444)]
    pub(crate) link_port: u16,
    /// Port of the operator API
    #[arg(long, default_value_t = 8443)]
    pub(crate) api_port: u16,
    /// Address that they listen on
    #[arg(long, default_value = "0.0.0.0")]
    pub(crate) listen: std::net::IpAddr,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BulkTokenCommand {
    /// Make a token; its text is shown once
    New {
        /// How long it lives: 1 minute to 7 days, for instance `90 min`, `12h`, `3 days`
        #[arg(long, default_value = "3 days")]
        lifetime: String,
        /// How many devices may register with it; without a limit unless named
        #[arg(long)]
        max_uses: Option<u32>,
        /// What becomes of devices that register with it
        #[arg(long, default_value = "automatic", value_parser = ["automatic", "hold"])]
        approval: String,
        /// What it is for
        #[arg(long)]
        note: Option<String>,
        /// Write the token to this new file (mode 0600) instead of showing it
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
    },
    /// All tokens, without their texts
    List,
    /// One token: its uses and state
    Show {
        #[arg(value_parser = named())]
        id: String,
    },
    /// Refuse it from now on, everywhere within seconds
    Block {
        #[arg(value_parser = named())]
        id: String,
    },
    /// Take it again
    Unblock {
        #[arg(value_parser = named())]
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ApprovalRuleCommand {
    /// The rules, in the order in which they are asked
    List,
    /// Replace the whole list
    Set {
        /// `bulk-token` (as each token says), `pki`, `entra`, `expected-list`, `network=192.0.2.0/24` (devices
        /// inside), `manual`
        #[arg(required = true)]
        rules: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// All devices
    List {
        /// Only devices in this state
        #[arg(long, value_parser = ["approved", "held", "blocked", "online"])]
        state: Option<String>,
        /// Who knocks with dead credentials, and why
        #[arg(long, conflicts_with_all = ["state", "expiring"])]
        stranded: bool,
        /// Whose credentials end within so many days
        #[arg(long, value_name = "DAYS", conflicts_with = "state")]
        expiring: Option<u32>,
    },
    /// One device, by client id or name
    Show {
        #[arg(value_parser = named())]
        device: String,
    },
    /// Trust it
    Approve {
        #[arg(value_parser = named())]
        device: String,
    },
    /// Refuse it from now on, everywhere within seconds
    Block {
        #[arg(value_parser = named())]
        device: String,
    },
    /// Take it again
    Unblock {
        #[arg(value_parser = named())]
        device: String,
    },
    /// Take its approval back: it stays registered and gets no policy
    Hold {
        #[arg(value_parser = named())]
        device: String,
    },
    /// Let it come back by its key once more, after its recovery window
    Readmit {
        #[arg(value_parser = named())]
        device: String,
    },
    /// Settle a conflict, a suspected copy (its approval comes back) or a fall from the certificate
    Settle {
        #[arg(value_parser = named())]
        device: String,
    },
    /// Forget it; it must register anew
    Delete {
        #[arg(value_parser = named())]
        device: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum GatewayCommand {
    /// Make a gateway known and write its bundle, which belongs on its host alone
    Add {
        /// Its name, for people
        name: String,
        /// `host:port` at which the connection points reach it
        #[arg(long, value_name = "HOST:PORT")]
        address: String,
        /// `host[:port]` by which devices reach it; the address unless named
        #[arg(long, value_name = "HOST")]
        host: Option<String>,
        /// New file for the bundle (mode 0600)
        #[arg(long, value_name = "FILE")]
        bundle: PathBuf,
    },
    /// All gateways, with tunnels and version
    List,
    /// One gateway, by id or name
    Show {
        #[arg(value_parser = named())]
        gateway: String,
    },
    /// Withdraw its certificate and forget it, by id or name
    Remove {
        #[arg(value_parser = named())]
        gateway: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConnectionPointCommand {
    /// Make a connection point known and write its bundle, which belongs on its host alone
    Add {
        /// Its name, for people
        name: String,
        /// New file for the bundle (mode 0600)
        #[arg(long, value_name = "FILE")]
        bundle: PathBuf,
    },
    /// All connection points
    List,
    /// Withdraw its certificate and forget it, by id or name
    Remove {
        #[arg(value_parser = named())]
        connection_point: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum RoleCommand {
    /// Publish a management point by its URL inside
    Add {
        /// Its name, for people
        name: String,
        /// Base URL inside, for instance https://mp1.example.org:8445
        #[arg(long, value_name = "URL")]
        internal_url: String,
        /// What it speaks: plain HTTP, enhanced HTTP (a certificate of the site's), HTTPS (one of yours)
        #[arg(long, default_value = "ehttp", value_parser = ["http", "ehttp", "https"])]
        mode: String,
        /// Whether gateways pass requests to it
        #[arg(long, default_value = "on", value_parser = ["on", "off"])]
        gateway_traffic: String,
    },
    /// All roles with their external addresses
    List,
    /// One role: what protects each hop, and which clients its mode takes
    Show {
        /// Its number or name
        #[arg(value_parser = named())]
        role: String,
    },
    /// Change a role
    #[command(group(clap::ArgGroup::new("change").required(true).multiple(true)))]
    Set {
        /// Its number or name, as `role list` shows it
        #[arg(value_parser = named())]
        role: String,
        /// Base URL inside
        #[arg(long, value_name = "URL", group = "change")]
        internal_url: Option<String>,
        /// What it speaks: http with an http:// URL; ehttp (enhanced HTTP) or https with an https:// one
        #[arg(long, value_parser = ["http", "ehttp", "https"], group = "change")]
        mode: Option<String>,
        /// Whether gateways pass requests to it
        #[arg(long, value_parser = ["on", "off"], group = "change")]
        gateway_traffic: Option<String>,
        /// Whether an HTTPS one demands the connection point's own client certificate
        #[arg(long, value_parser = ["on", "off"], group = "change")]
        demand_client_certificate: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// All keys and certificates of the site
    List,
    /// Bring the next token signing key into use; tokens of the old one stay valid
    Rotate,
    /// Let a stolen token signing key verify no longer: whatever it signed is refused within a minute,
    /// self-prove tokens of devices included
    Drop {
        /// The id, as `key list` shows it
        #[arg(value_parser = named())]
        id: String,
    },
    /// Print a public certificate, or the site's revocation list, as PEM
    Export {
        /// Which one
        #[arg(value_parser = ["site-root", "token-signing", "site-crl"])]
        certificate: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SettingsCommand {
    /// All settings with value, default and meaning
    List,
    /// What results for one device: each client setting with its reason, and what the device applied
    Show {
        /// Client id or name
        #[arg(long, value_parser = named())]
        device: String,
    },
    /// Change one; recorded in the audit trail
    Set {
        /// As `settings list` shows it
        #[arg(value_parser = named())]
        name: String,
        /// Without the unit
        value: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// The newest records
    List {
        /// How many
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Check the chain; names the first record that was changed, removed or moved
    Verify,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LogsCommand {
    /// Levels of all components
    List,
    /// Set one: 0 verbose, 1 default, 2 warnings and errors, 3 errors only
    Set {
        /// As `logs list` shows it
        #[arg(value_parser = named())]
        component: String,
        #[arg(value_parser = clap::value_parser!(u8).range(0..=3))]
        level: u8,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Read a configuration file and everything it names, and say what is wrong
    Check {
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Show a configuration file with every default filled in
    Show {
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// Remember --server, --ca-file and --operator-key-file
    Set,
    /// Show what is remembered
    Show,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_may_be_negative_and_flags_behind_it_are_still_flags() {
        let cli = Cli::try_parse_from(["roamgate", "explain", "-2147012721", "--output", "json"]).unwrap();
        assert_eq!(cli.output, Format::Json);
        assert!(matches!(cli.command, Command::Explain { text, .. } if text == ["-2147012721"]));
    }
}
