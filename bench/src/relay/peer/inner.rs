//! The inner server, the same for everybody: nginx with a small answer out of memory and a large file.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::{DIRECT, LARGE, PATIENCE, Peer, PeerError, SMALL, loopback, nginx, ports};
use crate::lab::{Authority, KeyKind};
use crate::process::{EndBy, Process, find_program};

/// The inner server.
#[derive(Debug)]
pub(in crate::relay) struct Inner {
    /// Where it speaks plain HTTP.
    pub(in crate::relay) plain: SocketAddr,
    /// Where it speaks HTTPS: for Roamgate, tunnels that carry bytes only, and proxies with TLS inside.
    pub(in crate::relay) tls: SocketAddr,
    /// Its process.
    pub(in crate::relay) process: Process,
}

impl Inner {
    pub(in crate::relay) fn start(folder: &Path, authority: &Authority) -> Result<Self, PeerError> {
        let program = find_program("nginx", &[]).ok_or(PeerError::NotInstalled("nginx"))?;
        let folder = folder.join("inner");
        std::fs::create_dir_all(&folder)?;
        let [plain, tls] = ports()?;
        let large = folder.join("large");
        std::fs::write(&large, vec![b'r'; usize::try_from(LARGE).unwrap_or_default()])?;
        let files = authority.issue(&folder, "inner", KeyKind::Ecdsa)?;
        let small = "r".repeat(usize::try_from(SMALL).unwrap_or_default());
        let server = format!(
            "server {{\n listen 127.0.0.1:{plain} reuseport backlog=4096;\n \
             listen 127.0.0.1:{tls} ssl reuseport backlog=4096;\n{}\
             location = /SMS_MP_TokenAuth/.sms_aut {{ return 200 \"{small}\"; }}\n \
             location = /SMS_MP/.sms_aut {{ return 200 \"{small}\"; }}\n \
             location = /ccm_system_tokenauth/request {{ return 200 \"{small}\"; }}\n \
             location = /SMS_MP_TokenAuth/.sms_pol {{ alias \"{}\"; }}\n}}\n",
            nginx::tls_lines(&files),
            large.display(),
        );
        let config = nginx::write(&folder, &server)?;
        let mut command = Command::new(program);
        command.arg("-c").arg(config).arg("-p").arg(&folder);
        let mut process = Process::start("nginx", command, &folder, EndBy::Signal)?;
        let (plain, tls) = (loopback(plain), loopback(tls));
        process.wait_for_port(plain, PATIENCE)?;
        process.wait_for_port(tls, PATIENCE)?;
        Ok(Self { plain, tls, process })
    }
}

/// The inner server as a peer: the limit of what can be reached.
pub(super) fn direct(ground: &super::Ground<'_>) -> Peer {
    Peer {
        id: DIRECT,
        title: "direct to the inner nginx, clear (the limit)".to_owned(),
        address: ground.inner.plain,
        rsa: None,
        asking: None,
        is_tls: false,
        prefix: String::new(),
        front: ground.inner.process.id(),
        all: Vec::new(),
        processes: Vec::new(),
    }
}
