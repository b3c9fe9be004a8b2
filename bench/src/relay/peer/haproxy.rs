//! haproxy as a TLS proxy, and its reverse HTTP/2: the inner one dials, as our connection point does.

use std::path::Path;
use std::process::Command;

use super::{Ground, HAPROXY, HAPROXY_REVERSE, PATIENCE, Peer, PeerError, loopback, ports};
use crate::lab::KeyKind;
use crate::process::{EndBy, Process};

/// Folder below `target/peers` with a haproxy of version 2.9 or later, and the loader of its libraries.
const NEWER: &str = "haproxy-new";

/// What version 3.0 wants to be told before it lets itself be dialled from inside.
const REVERSE: &str = "global\n expose-experimental-directives\n";

fn head(threads: usize) -> String {
    format!(
        "global\n nbthread {threads}\n maxconn 9000\n ssl-default-bind-options ssl-min-ver TLSv1.3\n \
         ssl-default-bind-curves X25519\n ssl-server-verify none\n\
         defaults\n mode http\n http-reuse always\n timeout connect 5s\n timeout client 1h\n timeout server 1h\n \
         timeout http-keep-alive 1h\n"
    )
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn start(mut command: Command, folder: &Path, name: &str, text: &str) -> Result<Process, PeerError> {
    let config = folder.join(format!("{name}.cfg"));
    std::fs::write(&config, text)?;
    command.args(["-db", "-f"]).arg(config);
    Ok(Process::start(name, command, folder, EndBy::Signal)?)
}

/// One haproxy: TLS outside, plain HTTP over kept connections inside.
pub(super) fn proxy(ground: &Ground<'_>) -> Result<Peer, PeerError> {
    let folder = ground.subfolder(HAPROXY)?;
    let [port] = ports()?;
    let files = ground.authority.issue(&folder, "ecdsa", KeyKind::Ecdsa)?;
    let text = head(threads())
        + &format!(
            "frontend outside\n bind 127.0.0.1:{port} ssl crt {} alpn http/1.1\n default_backend inside\n\
             backend inside\n server inner {} pool-max-conn 512\n",
            files.both.display(),
            ground.inner.plain
        );
    let program = ground.program("haproxy")?;
    let mut process = start(Command::new(program), &folder, "haproxy", &text)?;
    process.wait_for_port(loopback(port), PATIENCE)?;
    Ok(Peer {
        id: HAPROXY,
        title: "haproxy TLS proxy, no tunnel".to_owned(),
        address: loopback(port),
        rsa: None,
        asking: None,
        is_tls: true,
        prefix: String::new(),
        front: process.id(),
        all: vec![process.id()],
        processes: vec![process],
    })
}

/// A haproxy that knows `rhttp@`: the system's own where it is new enough, else one that was unpacked.
fn newer(ground: &Ground<'_>) -> Result<Command, PeerError> {
    let unpacked =
        ground.programs.iter().map(|folder| folder.join(NEWER).join("run")).find(|path| path.is_file());
    if let Some(path) = unpacked {
        return Ok(Command::new(path));
    }
    let system = ground.program("haproxy")?;
    let said = Command::new(&system).arg("-v").output()?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    if knows_reverse(&said) {
        Ok(Command::new(system))
    } else {
        Err(PeerError::NotInstalled("haproxy ≥ 2.9"))
    }
}

/// Whether `haproxy -v` names a version that can be dialled from inside: 2.9 or later.
fn knows_reverse(said: &str) -> bool {
    let version = said.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let mut parts = version.unwrap_or_default().split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (2, 9)
}

/// Two of them: the inner one dials the outer one, which sends requests back over that HTTP/2 connection.
pub(super) fn reverse(ground: &Ground<'_>) -> Result<Peer, PeerError> {
    let folder = ground.subfolder(HAPROXY_REVERSE)?;
    let [port, dialled] = ports()?;
    let threads = threads();
    let files = ground.authority.issue(&folder, "ecdsa", KeyKind::Ecdsa)?;
    let both = files.both.display();
    let outer = REVERSE.to_owned()
        + &head(threads)
        + &format!(
            "frontend outside\n bind 127.0.0.1:{port} ssl crt {both} alpn http/1.1\n default_backend inside\n\
             backend inside\n server inner rhttp@ pool-purge-delay 1h\n\
             frontend dialled\n bind 127.0.0.1:{dialled} ssl crt {both} alpn h2\n \
             tcp-request session attach-srv inside/inner\n"
        );
    let inner = REVERSE.to_owned()
        + &head(threads)
        + &format!(
            "backend dial\n server outer 127.0.0.1:{dialled} ssl verify none alpn h2\n\
             frontend reversed\n bind rhttp@dial/outer nbconn {threads}\n default_backend inside\n\
             backend inside\n server inner {} pool-max-conn 512\n",
            ground.inner.plain
        );
    let mut outside = start(newer(ground)?, &folder, "outer", &outer)?;
    outside.wait_for_port(loopback(dialled), PATIENCE)?;
    outside.wait_for_port(loopback(port), PATIENCE)?;
    let inside = start(newer(ground)?, &folder, "inner", &inner)?;
    Ok(Peer {
        id: HAPROXY_REVERSE,
        title: "haproxy reverse HTTP/2 (same idea as ours)".to_owned(),
        address: loopback(port),
        rsa: None,
        asking: None,
        is_tls: true,
        prefix: String::new(),
        front: outside.id(),
        all: vec![outside.id(), inside.id()],
        processes: vec![outside, inside],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_tells_whether_it_can_be_dialled_from_inside() {
        assert!(!knows_reverse("HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/"));
        assert!(knows_reverse("HAProxy version 2.9.0 2023/12/05"));
        assert!(knows_reverse("HAProxy version 3.0.11-1+deb13u1 2026/01/01"));
        assert!(!knows_reverse(""));
    }
}
