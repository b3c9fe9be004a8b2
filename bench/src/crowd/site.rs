//! The site that a crowd is sent to: one of our own on this machine, or that of a ready file.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use client::address::GatewayAddress;
use client::trust::{Pin, PinError};
use proto::id::RoleId;
use serde::Deserialize;

use crate::lab::Deployment;

/// The site cannot be found by its ready file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SiteError {
    /// A file that belongs to it cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The ready file is not what it should be.
    #[error("{} is no description of a site", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// It names no role.
    #[error("the description of the site names no published role")]
    NoRole,
    /// The gateway's name or role is malformed.
    #[error("the gateway's address {0} cannot be used")]
    Gateway(String),
    /// The gateway's host name has no address.
    #[error("the gateway {host} has no address")]
    NoAddress {
        /// The name.
        host: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The site root cannot be read.
    #[error("the site root cannot be used")]
    Root(#[source] PinError),
}

/// What is read of a ready file; the lab writes more.
#[derive(Debug, Deserialize)]
struct Ready {
    gateway: ReadyGateway,
    roles: Vec<ReadyRole>,
    operator: Operator,
    site_root_file: PathBuf,
    /// Process ids by role, where the site runs on this machine.
    #[serde(default)]
    pids: BTreeMap<String, Option<u32>>,
}

#[derive(Debug, Deserialize)]
struct ReadyGateway {
    host: String,
    ca_file: PathBuf,
}

#[derive(Debug, Deserialize)]
struct ReadyRole {
    role_id: String,
}

/// Where the operator API is, and who asks.
#[derive(Debug, Clone, Deserialize)]
struct Operator {
    url: String,
    ca_file: PathBuf,
    key_file: PathBuf,
}

impl Operator {
    fn words(&self) -> Vec<String> {
        let file = |path: &Path| path.display().to_string();
        let words = ["--server", &self.url, "--ca-file", &file(&self.ca_file), "--operator-key-file"];
        words.into_iter().map(str::to_owned).chain([file(&self.key_file)]).collect()
    }
}

/// A site to which devices can be sent.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    /// The gateway and the role behind it.
    pub(crate) gateway: GatewayAddress,
    /// Where the gateway answers.
    pub(crate) address: SocketAddr,
    /// Authorities of the gateway's certificate (PEM).
    pub(crate) gateway_ca: String,
    /// Words that name the site to `roamgate`.
    pub(crate) context: Vec<String>,
    /// The site root, as devices are told it.
    pub(crate) pin: Pin,
    /// Processes of the site on this machine: `site`, `gateway`, `connection-point`.
    pub(crate) pids: BTreeMap<String, u32>,
}

impl Site {
    /// Reads a ready file and everything that it names.
    pub(crate) fn read(path: &Path) -> Result<Self, SiteError> {
        let ready: Ready = serde_json::from_str(&text(path)?)
            .map_err(|source| SiteError::Form { path: path.to_owned(), source })?;
        let role = &ready.roles.first().ok_or(SiteError::NoRole)?.role_id;
        let host = ready.gateway.host;
        let role = RoleId::from_str(role).map_err(|_| SiteError::Gateway(format!("{host} role {role}")))?;
        let gateway = GatewayAddress::new(&host, role).map_err(|_| SiteError::Gateway(host))?;
        let of_this_machine = ["site", "gateway", "connection-point"];
        let pids = ready.pids.into_iter().filter_map(|(name, pid)| Some((name, pid?)));
        Ok(Self {
            address: resolve(gateway.authority())?,
            gateway,
            gateway_ca: text(&ready.gateway.ca_file)?,
            context: ready.operator.words(),
            pin: Pin::from_file(&ready.site_root_file).map_err(SiteError::Root)?,
            pids: pids.filter(|(name, _)| of_this_machine.contains(&name.as_str())).collect(),
        })
    }

    /// A site of our own, laid out in `folder`.
    pub(crate) fn of(deployment: &Deployment, folder: &Path) -> Result<Self, SiteError> {
        let role = &deployment.management_point_role;
        let wrong = || SiteError::Gateway(format!("{} role {role}", deployment.host));
        let role = RoleId::from_str(role).map_err(|_| wrong())?;
        let pids = [
            ("site", deployment.site_pid()),
            ("gateway", deployment.gateway_pid()),
            ("connection-point", deployment.connector_pid()),
        ];
        Ok(Self {
            gateway: GatewayAddress::new(&deployment.host, role).map_err(|_| wrong())?,
            address: deployment.address,
            gateway_ca: text(&deployment.ca_file)?,
            context: Vec::new(),
            pin: Pin::from_file(&folder.join("site").join("site-root.pem")).map_err(SiteError::Root)?,
            pids: pids.into_iter().map(|(name, pid)| (name.to_owned(), pid)).collect(),
        })
    }

    /// Whether the gateway is on this machine, so that connections may come from any loopback address.
    pub(crate) fn is_loopback(&self) -> bool {
        self.address.ip().is_loopback()
    }
}

fn text(path: &Path) -> Result<String, SiteError> {
    std::fs::read_to_string(path).map_err(|source| SiteError::Read { path: path.to_owned(), source })
}

/// The first address of a name, IPv4 before IPv6.
fn resolve(authority: &str) -> Result<SocketAddr, SiteError> {
    use std::net::ToSocketAddrs as _;
    let host = if authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        authority.to_owned()
    } else {
        format!("{authority}:443")
    };
    let failed = |source| SiteError::NoAddress { host: host.clone(), source };
    let found: Vec<_> = host.to_socket_addrs().map_err(failed)?.collect();
    let nobody = || failed(std::io::ErrorKind::AddrNotAvailable.into());
    found.iter().find(|address| address.is_ipv4()).or(found.first()).copied().ok_or_else(nobody)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_port_means_443_and_ipv4_comes_first() {
        assert_eq!(resolve("127.0.0.1").unwrap().to_string(), "127.0.0.1:443");
        assert_eq!(resolve("localhost:8443").unwrap().to_string(), "127.0.0.1:8443");
        assert!(matches!(resolve("nobody.invalid"), Err(SiteError::NoAddress { .. })));
    }

    #[test]
    fn a_description_without_a_role_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ready.json");
        let operator = r#"{"url":"https://localhost:1","ca_file":"c","key_file":"k"}"#;
        let text = format!(
            r#"{{"gateway":{{"host":"localhost:1","ca_file":"c"}},"roles":[],"operator":{operator},"site_root_file":"r"}}"#
        );
        std::fs::write(&path, text).unwrap();
        assert!(matches!(Site::read(&path), Err(SiteError::NoRole)));
        std::fs::write(&path, "{}").unwrap();
        assert!(matches!(Site::read(&path), Err(SiteError::Form { .. })));
    }
}
