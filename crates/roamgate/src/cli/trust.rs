//! `roamgate trust` and `roamgate token`: words.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::named;

#[derive(Debug, Subcommand)]
pub(crate) enum TrustCommand {
    /// Trust authorities: every root and intermediate of a file (PEM, DER, PKCS#7, PFX)
    Add {
        /// Certificates of authorities; a self-signed one becomes a root, others intermediates
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// File with the password of a PFX
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// All authorities, and how old their revocation lists are
    List,
    /// Trust an authority no longer
    Remove {
        /// SHA-256 of its certificate, or the beginning of it, as `trust list` shows it
        #[arg(value_parser = named())]
        authority: String,
        /// Change nothing; say which devices would fail
        #[arg(long)]
        dry_run: bool,
    },
    /// Say where an authority publishes its own revocation list
    DistributionPoint {
        /// SHA-256 of its certificate, or the beginning of it
        #[arg(value_parser = named())]
        authority: String,
        /// http:// or https://
        url: String,
    },
    /// Upload a revocation list, where the site cannot fetch it
    Crl {
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Judge a client certificate: by the site's trust, or by files alone
    Check(TrustCheckArgs),
}

#[derive(Debug, Args)]
pub(crate) struct TrustCheckArgs {
    /// The certificate, with whatever else the device would show behind it (PEM or DER)
    #[arg(long, value_name = "FILE")]
    pub(crate) certificate: PathBuf,
    /// Roots to judge by, in place of the site's; may stand several times
    #[arg(long, value_name = "FILE")]
    pub(crate) roots: Vec<PathBuf>,
    /// Intermediates to judge by; may stand several times
    #[arg(long, value_name = "FILE", requires = "roots")]
    pub(crate) intermediates: Vec<PathBuf>,
    /// Revocation list to judge by; may stand several times
    #[arg(long, value_name = "FILE", requires = "roots")]
    pub(crate) crl: Vec<PathBuf>,
    /// What a missing or stale revocation list means
    #[arg(long, value_enum, default_value_t, requires = "roots")]
    pub(crate) crl_check: CrlCheck,
    /// The moment of judgement, for instance 2026-11-21T12:00:00Z; now unless named
    #[arg(long, value_name = "TIME")]
    pub(crate) at: Option<String>,
}

/// How revocation is judged when files alone decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum CrlCheck {
    /// Without a current list: refused
    #[default]
    Hard,
    /// Without a current list: accepted
    Soft,
    /// Not checked
    Off,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Judge a token of the site or of a tenant: by the site, or by files alone
    Check(TokenCheckArgs),
}

#[derive(Debug, Args)]
pub(crate) struct TokenCheckArgs {
    /// File with the token; `-` reads standard input
    #[arg(value_name = "FILE")]
    pub(crate) token: PathBuf,
    /// Keys to judge by, in place of the site's: a tenant's key set (JSON), or the site's token signing
    /// certificate (PEM, as `key export token-signing` prints it)
    #[arg(long, value_name = "FILE")]
    pub(crate) keys: Option<PathBuf>,
    /// The issuer that a tenant's token must name (needed with a key set)
    #[arg(long, requires = "keys")]
    pub(crate) issuer: Option<String>,
    /// The audience that a tenant's token must name (needed with a key set)
    #[arg(long, requires = "keys")]
    pub(crate) audience: Option<String>,
    /// The moment of judgement, for instance 2026-11-21T12:00:00Z; now unless named
    #[arg(long, value_name = "TIME")]
    pub(crate) at: Option<String>,
}
