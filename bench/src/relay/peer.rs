//! Who is measured: Roamgate, and whatever else carries a request from a TLS port to an inner server.
//!
//! Each gets the same request byte for byte but for path and `Host`, token included: nobody has less to
//! carry than Roamgate. Only Roamgate looks at the token.

mod haproxy;
mod inner;
mod nginx;
mod ssh;
mod tcp_tunnel;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) use self::inner::Inner;
use super::load::{Ask, TlsJob};
use crate::lab::{Authority, EnrolledDevice, LabError};
use crate::process::{Process, ProcessError, free_ports};

/// How long a peer may take until it listens.
const PATIENCE: Duration = Duration::from_secs(15);
/// Bytes of a small answer.
pub(super) const SMALL: u64 = 1024;
/// Bytes of a large answer.
pub(super) const LARGE: u64 = 64 * 1024 * 1024;
/// Bytes of the body of a message.
pub(super) const MESSAGE: usize = 2 * 1024;

/// The header with a token, up to it.
const BEARER: &str = "Authorization: Bearer ";
/// A header of no meaning, up to its value.
const FILLING: &str = "X-Filling: ";

/// Name of Roamgate in results.
pub(super) const OURS: &str = "roamgate";
/// Name of the inner server itself, asked without anything between.
pub(super) const DIRECT: &str = "direct";
/// Name of the proxy without a tunnel that everything is compared with.
pub(super) const NGINX: &str = "nginx";
/// Name of the same proxy with TLS inside, too, as our connection point has it.
pub(super) const NGINX_TLS: &str = "nginx-tls";
/// Name of two nginx with TLS between them.
pub(super) const NGINX_TWICE: &str = "nginx-nginx";
/// Name of two nginx with TLS between them and inside.
pub(super) const NGINX_TWICE_TLS: &str = "nginx-nginx-tls";
/// Name of haproxy as a proxy without a tunnel.
pub(super) const HAPROXY: &str = "haproxy";
/// Name of haproxy with a tunnel that is dialled from inside.
pub(super) const HAPROXY_REVERSE: &str = "haproxy-rhttp";
/// Name of rathole with TLS.
pub(super) const RATHOLE: &str = "rathole";
/// Name of wstunnel, reverse, over TLS.
pub(super) const WSTUNNEL: &str = "wstunnel";
/// Name of `ssh -R`.
pub(super) const SSH: &str = "ssh";

/// Why a peer is not there.
#[derive(Debug, thiserror::Error)]
pub(super) enum PeerError {
    /// It is not installed.
    #[error("{0} is not installed (bench/peers/install.sh)")]
    NotInstalled(&'static str),
    /// Its files could not be made.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// It did not start.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A file could not be written, or no port was free.
    #[error("cannot set it up")]
    Io(#[from] std::io::Error),
}

/// One that is measured.
#[derive(Debug)]
pub(super) struct Peer {
    /// Short name, for options and results.
    pub(super) id: &'static str,
    /// What stands in tables.
    pub(super) title: String,
    /// Where it listens.
    pub(super) address: SocketAddr,
    /// The same with an RSA certificate, where that is measured.
    pub(super) rsa: Option<SocketAddr>,
    /// The same, asking for a client certificate.
    pub(super) asking: Option<SocketAddr>,
    /// Whether it speaks TLS.
    pub(super) is_tls: bool,
    /// What stands before the path of the inner server.
    pub(super) prefix: String,
    /// The process that devices meet.
    pub(super) front: u32,
    /// All of its processes, the first of each tree; without the inner server.
    pub(super) all: Vec<u32>,
    /// Its processes, to be ended with it.
    pub(super) processes: Vec<Process>,
}

impl Peer {
    /// An error when one of its processes has ended.
    pub(super) fn check(&mut self) -> Result<(), ProcessError> {
        self.processes.iter_mut().try_for_each(Process::check)
    }
}

/// What peers are made from.
#[derive(Debug)]
pub(super) struct Ground<'a> {
    /// Folder for everything.
    pub(super) folder: &'a Path,
    /// Who issues certificates.
    pub(super) authority: &'a Authority,
    /// The inner server.
    pub(super) inner: &'a Inner,
    /// Where built or unpacked programs are.
    pub(super) programs: Vec<PathBuf>,
}

impl Ground<'_> {
    fn program(&self, name: &'static str) -> Result<PathBuf, PeerError> {
        crate::process::find_program(name, &self.programs).ok_or(PeerError::NotInstalled(name))
    }

    fn subfolder(&self, name: &str) -> Result<PathBuf, PeerError> {
        let folder = self.folder.join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }
}

/// Makes a peer.
pub(super) type Start = fn(&Ground<'_>) -> Result<Peer, PeerError>;

/// All peers by name, in the order of tables.
pub(super) const PEERS: &[(&str, Start)] = &[
    (DIRECT, |ground| Ok(inner::direct(ground))),
    (NGINX, nginx::proxy),
    (NGINX_TLS, nginx::proxy_tls),
    (HAPROXY, haproxy::proxy),
    (NGINX_TWICE, nginx::twice),
    (NGINX_TWICE_TLS, nginx::twice_tls),
    (HAPROXY_REVERSE, haproxy::reverse),
    (RATHOLE, tcp_tunnel::rathole),
    (WSTUNNEL, tcp_tunnel::wstunnel),
    (SSH, ssh::reverse),
];

impl Peer {
    /// TLS of a connection to it.
    pub(super) fn tls(&self, authority: &Authority, own: Option<&EnrolledDevice>) -> Option<TlsJob> {
        self.is_tls.then(|| TlsJob {
            ca_file: authority.file.clone(),
            own: own.map(|device| (device.certificate.clone(), device.key.clone())),
        })
    }

    /// The request for a small answer.
    pub(super) fn get_small(&self, token: &str) -> Ask {
        self.ask("GET", "/SMS_MP_TokenAuth/.sms_aut?MPLIST", token, "", SMALL)
    }

    /// The request for a large answer.
    pub(super) fn get_large(&self, token: &str) -> Ask {
        self.ask("GET", "/SMS_MP_TokenAuth/.sms_pol?POLICY", token, "", LARGE)
    }

    /// A message.
    pub(super) fn post(&self, token: &str) -> Ask {
        let body = "r".repeat(MESSAGE);
        self.ask("CCM_POST", "/ccm_system_tokenauth/request", token, &body, SMALL)
    }

    /// The request for what a device may have by a token or by its certificate: by this token.
    pub(super) fn get_by_token(&self, token: &str) -> Ask {
        self.ask("GET", "/SMS_MP/.sms_aut?MPLIST", token, "", SMALL)
    }

    /// The same without a token, by the certificate of the handshake; as long as with this token.
    pub(super) fn get_by_certificate(&self, token: &str) -> Ask {
        let by_token = self.get_by_token(token);
        let filling = format!("{FILLING}{}", "r".repeat(BEARER.len() + token.len() - FILLING.len()));
        let request = by_token.request.replace("/CCM_Proxy_ServerAuth/", "/CCM_Proxy_MutualAuth/");
        Ask { request: request.replace(&format!("{BEARER}{token}"), &filling), ..by_token }
    }

    fn ask(&self, method: &str, path: &str, token: &str, body: &str, answer_bytes: u64) -> Ask {
        let length =
            if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let request = format!(
            "{method} {}{path} HTTP/1.1\r\nHost: localhost:{}\r\nUser-Agent: ConfigMgr Messaging HTTP \
             Sender\r\n{BEARER}{token}\r\n{length}\r\n{body}",
            self.prefix,
            self.address.port()
        );
        Ask { request, answer_bytes }
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn ports<const N: usize>() -> Result<[u16; N], PeerError> {
    Ok(free_ports()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_without_a_token_is_as_long_as_with_it() {
        let peer = Peer {
            id: OURS,
            title: String::new(),
            address: loopback(443),
            rsa: None,
            asking: None,
            is_tls: true,
            prefix: "/CCM_Proxy_ServerAuth/role".to_owned(),
            front: 1,
            all: Vec::new(),
            processes: Vec::new(),
        };
        let (one, other) = (peer.get_by_token("a.b.c"), peer.get_by_certificate("a.b.c"));
        assert_eq!(one.request.len(), other.request.len());
        assert!(other.request.starts_with("GET /CCM_Proxy_MutualAuth/role/SMS_MP/.sms_aut"));
        assert!(
            !other.request.contains("a.b.c") && other.request.ends_with("rrr\r\n\r\n"),
            "{}",
            other.request
        );
    }
}
