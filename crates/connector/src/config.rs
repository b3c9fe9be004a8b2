//! The section `[connection-point]` of a configuration file, and the bundle that it names.

use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use proto::bundle::ConnectorBundle;
use proto::link;
use proto::trust::{SiteRoot, TrustError};
use runtime::config::HumanDuration;
use runtime::config::private_file::{self, PrivateFileError};
use runtime::tls::{MaterialError, OwnCertificate};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use serde::Deserialize;

/// Section `[connection-point]`. It names no address for anybody's requests, because there is none.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The file that `roamgate connection-point add` wrote; mode 0600.
    pub bundle: PathBuf,
    /// Folder for what the site said last; made with mode 0700 when it is missing.
    pub state_directory: PathBuf,
    /// How long a role may take to begin its answer, and how long either side may be silent in
    /// the middle of a body. Default 60 seconds, the timeout that clients state in their own
    /// messages [observed]; a longer one only holds memory for somebody who has gone.
    #[serde(default = "default_timeout")]
    pub request_timeout: HumanDuration,
    /// Requests under way in one tunnel. The gateway is told, and answers more with 503 and
    /// `retry`: bounds memory (a request may hold some 1.3 MiB each way) and the connections
    /// towards a role. Default 512.
    #[serde(default = "default_requests")]
    pub max_requests_per_tunnel: NonZeroU16,
    /// The connection point's own PKI certificate, for management points in HTTPS mode that demand one: a PEM
    /// file with its chain, several of them, or a folder of `.pem`, `.crt` and `.cer` files. Of those that a
    /// role's authorities issued the one that lasts longest is shown. Looked at every minute. Default: none.
    #[serde(default)]
    pub client_certificate: Paths,
    /// The private keys of these: PEM, mode 0600, one file, several, or a folder of `.pem` and `.key` files.
    /// Which key belongs to which certificate is found out. Default: none.
    #[serde(default)]
    pub client_key: Paths,
    /// Write the lines of the field's verbose level (`VerboseLogging`) as ordinary ones.
    #[serde(default)]
    pub verbose_logging: bool,
    /// Threads that carry device traffic; 0, the default: one for each core.
    #[serde(default)]
    pub threads: u16,
    /// Address of `/livez`, `/readyz` and `/metrics`, plain HTTP: keep it private. Default: none.
    #[serde(default)]
    pub admin_listen: Option<SocketAddr>,
    /// Names by which monitors may ask for these pages. Addresses, `localhost` and names without a dot or under
    /// endings like `.internal` need not be named; others do, because a stranger's page in a browser inside could
    /// point its own name at this address. Default: none.
    #[serde(default)]
    pub admin_names: Vec<String>,
}

/// One path or several.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Paths {
    /// One file or folder.
    One(PathBuf),
    /// Several.
    Many(Vec<PathBuf>),
}

impl Default for Paths {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Paths {
    /// All of them: files, and folders of such files.
    pub fn paths(&self) -> Vec<PathBuf> {
        match self {
            Self::One(path) => vec![path.clone()],
            Self::Many(paths) => paths.clone(),
        }
    }
}

fn default_timeout() -> HumanDuration {
    HumanDuration::new(Duration::from_mins(1))
}

fn default_requests() -> NonZeroU16 {
    NonZeroU16::new(512).unwrap_or(NonZeroU16::MIN)
}

impl Config {
    /// The number of threads that is meant.
    pub(crate) fn thread_count(&self) -> NonZeroUsize {
        NonZeroUsize::new(usize::from(self.threads))
            .or_else(|| thread::available_parallelism().ok())
            .unwrap_or(NonZeroUsize::MIN)
    }
}

/// Why a bundle cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The file could not be read, or is open to others.
    #[error("the bundle cannot be read")]
    File(#[source] PrivateFileError),
    /// It is not JSON of this kind.
    #[error("{} is not a connection point's bundle", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// It is for another kind of host, or made by a later version.
    #[error("the bundle has the format {found:?}; this program reads {:?}", ConnectorBundle::FORMAT)]
    Format {
        /// What stands in it.
        found: String,
    },
    /// The site root in it is not PEM.
    #[error("the site root in the bundle is damaged")]
    RootPem(#[source] pem::Error),
    /// The site root in it is no certificate.
    #[error("the site root in the bundle cannot be used")]
    Root(#[source] TrustError),
    /// Its own certificate or key cannot be used.
    #[error("the link certificate in the bundle cannot be used")]
    Link(#[source] MaterialError),
    /// Its certificate belongs to another host.
    #[error("the link certificate in the bundle does not name connection point {expected}")]
    AnotherName {
        /// The name that it should have.
        expected: String,
    },
    /// It names no site link.
    #[error("the bundle names no address of the site")]
    NoSite,
}

/// What the bundle holds, parsed and checked against itself.
#[derive(Debug)]
pub(crate) struct Identity {
    /// Name of this connection point, for logs and reports.
    pub(crate) name: String,
    /// Judges gateways, the site and roles in enhanced HTTP.
    pub(crate) root: SiteRoot,
    /// Own end of every link.
    pub(crate) certificate: OwnCertificate,
    /// `host:port` of the site link, in the order of trying; at least one.
    pub(crate) site_links: Vec<String>,
}

impl Identity {
    /// Reads the bundle at `path`.
    pub(crate) fn load(path: &Path) -> Result<Self, BundleError> {
        let text = private_file::read(path).map_err(BundleError::File)?;
        let bundle: ConnectorBundle = serde_json::from_slice(&text)
            .map_err(|source| BundleError::Content { path: path.to_owned(), source })?;
        Self::from_bundle(bundle)
    }

    fn from_bundle(bundle: ConnectorBundle) -> Result<Self, BundleError> {
        if bundle.format != ConnectorBundle::FORMAT {
            return Err(BundleError::Format { found: bundle.format.chars().take(80).collect() });
        }
        let root =
            CertificateDer::from_pem_slice(bundle.site_root_pem.as_bytes()).map_err(BundleError::RootPem)?;
        let root = SiteRoot::new(root.to_vec()).map_err(BundleError::Root)?;
        let certificate =
            OwnCertificate::from_pem(bundle.link.certificate_pem.as_bytes(), bundle.link.key_pem.as_bytes())
                .map_err(BundleError::Link)?;
        let expected = link::connector_name(bundle.connector);
        if !certificate.leaf().dns_names().contains(&expected) {
            return Err(BundleError::AnotherName { expected });
        }
        if bundle.site_links.is_empty() {
            return Err(BundleError::NoSite);
        }
        Ok(Self { name: bundle.name, root, certificate, site_links: bundle.site_links })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_keys_are_enough_and_the_rest_has_defaults() {
        let config: Config = toml::from_str("bundle = \"b\"\nstate_directory = \"s\"").unwrap();
        assert_eq!(config.request_timeout.get(), Duration::from_mins(1));
        assert_eq!(config.max_requests_per_tunnel.get(), 512);
        assert!(!config.verbose_logging && config.thread_count().get() >= 1);
        assert_eq!((config.admin_listen, config.admin_names), (None, Vec::new()));
    }

    #[test]
    fn certificates_are_named_one_by_one_or_as_a_list() {
        let text = "bundle = \"b\"\nstate_directory = \"s\"\n\
            client_certificate = \"cp.pem\"\nclient_key = [\"a.key\", \"keys\"]";
        let config: Config = toml::from_str(text).unwrap();
        assert_eq!(config.client_certificate.paths(), [PathBuf::from("cp.pem")]);
        assert_eq!(config.client_key.paths(), [PathBuf::from("a.key"), PathBuf::from("keys")]);
        let without: Config = toml::from_str("bundle = \"b\"\nstate_directory = \"s\"").unwrap();
        assert!(without.client_certificate.paths().is_empty());
    }

    #[test]
    fn a_misspelt_key_and_a_tunnel_without_requests_are_refused() {
        for wrong in ["listen = \"0.0.0.0:443\"", "max_requests_per_tunnel = 0", "request_timeout = 60"] {
            let text = format!("bundle = \"b\"\nstate_directory = \"s\"\n{wrong}");
            assert!(toml::from_str::<Config>(&text).is_err(), "{wrong}");
        }
    }
}
