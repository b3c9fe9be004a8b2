//! `roamgate tenant`, `directory` and `user`: words.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::named;

#[derive(Debug, Subcommand)]
pub(crate) enum TenantCommand {
    /// Onboard a tenant: its devices and users may prove themselves by its tokens
    Add(Box<TenantAddArgs>),
    /// All tenants: keys, discovery, problems
    List,
    /// One tenant, and what is still off
    Show {
        #[arg(value_parser = named())]
        tenant: String,
    },
    /// Ask the tenant's authority now for its keys, and say what it answered
    Verify {
        #[arg(value_parser = named())]
        tenant: String,
    },
    /// Discover its users and devices now
    Sync {
        #[arg(value_parser = named())]
        tenant: String,
        /// All of them anew, instead of what changed
        #[arg(long)]
        full: bool,
    },
    /// Refuse its tokens from now on, everywhere within seconds
    Disable {
        #[arg(value_parser = named())]
        tenant: String,
    },
    /// Take them again
    Enable {
        #[arg(value_parser = named())]
        tenant: String,
    },
    /// Forget it, with its users
    Remove {
        #[arg(value_parser = named())]
        tenant: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct TenantAddArgs {
    /// Tenant id: `tid` in its tokens
    pub(crate) tenant_id: proto::id::Guid,
    /// Its name, for people
    #[arg(long, default_value = "")]
    pub(crate) name: String,
    /// Where its discovery document is, without `/.well-known/openid-configuration`; Entra ID's unless named
    #[arg(long, value_name = "URL")]
    pub(crate) authority: Option<String>,
    /// Issuer that its tokens may name; may stand several times; those of Entra ID unless named
    #[arg(long, value_name = "URL")]
    pub(crate) issuer: Vec<String>,
    /// Resource that devices ask tokens for: the App ID URI of the server app
    #[arg(long, default_value = "https://ConfigMgrService", value_name = "URI")]
    pub(crate) resource: String,
    /// Audience that its tokens may name; may stand several times; the resource unless named
    #[arg(long, value_name = "URI")]
    pub(crate) audience: Vec<String>,
    /// The client app that devices ask tokens with
    #[arg(long, value_name = "ID")]
    pub(crate) client_app_id: String,
    /// The app that discovers users and devices; without it discovery stays off
    #[arg(long, value_name = "ID", requires = "secret_file")]
    pub(crate) discovery_app_id: Option<String>,
    /// File with that app's secret; `-` reads standard input
    #[arg(long, value_name = "FILE", requires = "discovery_app_id")]
    pub(crate) secret_file: Option<PathBuf>,
    /// When that secret ends, for the alarm before it, for instance 2027-11-01
    #[arg(long, value_name = "DATE", requires = "discovery_app_id")]
    pub(crate) secret_expires: Option<String>,
    /// Where users and devices are listed, in place of Microsoft Graph
    #[arg(long, value_name = "URL")]
    pub(crate) graph_url: Option<String>,
    /// Authority of the tenant's own HTTPS certificate, where the system does not trust it (PEM)
    #[arg(long, value_name = "FILE")]
    pub(crate) tenant_ca_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DirectoryCommand {
    /// Discover users and computers of an on-premises directory (LDAP)
    Add(Box<DirectoryAddArgs>),
    /// All directories: state and problems
    List,
    /// Discover its users and computers now
    Sync {
        #[arg(value_parser = named())]
        directory: String,
        /// All of them anew, instead of what changed
        #[arg(long)]
        full: bool,
    },
    /// Forget it
    Remove {
        #[arg(value_parser = named())]
        directory: String,
    },
    /// Organisational units whose computers are missing in every tenant
    Unsynced,
}

#[derive(Debug, Args)]
pub(crate) struct DirectoryAddArgs {
    /// Its name, for people
    pub(crate) name: String,
    /// `ldaps://HOST`, or `ldap://HOST` with --start-tls
    #[arg(long, value_name = "URL")]
    pub(crate) url: String,
    /// Where to search, for instance DC=corp,DC=example
    #[arg(long, value_name = "DN")]
    pub(crate) base: String,
    /// The account that asks; without it the directory is asked anonymously
    #[arg(long, value_name = "DN", requires = "secret_file")]
    pub(crate) bind_dn: Option<String>,
    /// File with that account's password
    #[arg(long, value_name = "FILE", requires = "bind_dn")]
    pub(crate) secret_file: Option<PathBuf>,
    /// Begin TLS on an ldap:// connection
    #[arg(long)]
    pub(crate) start_tls: bool,
    /// Authority of the directory's certificate, where the system does not trust it (PEM)
    #[arg(long, value_name = "FILE")]
    pub(crate) directory_ca_file: Option<PathBuf>,
    /// LDAP filter of the users, in place of the usual one
    #[arg(long)]
    pub(crate) filter: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Discovered users
    List {
        /// Only those that one of the discoveries does not know
        #[arg(long)]
        incomplete: bool,
    },
    /// One user: by object id, SID or name
    Show {
        #[arg(value_parser = named())]
        user: String,
    },
}
