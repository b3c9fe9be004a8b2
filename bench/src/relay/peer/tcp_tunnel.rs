//! Tunnels that carry bytes and know nothing of requests: the TLS of devices ends at the inner server.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::{Ground, PATIENCE, Peer, PeerError, RATHOLE, WSTUNNEL, loopback, ports};
use crate::lab::{KeyKind, quoted};
use crate::process::{EndBy, Process, run_to_end};

/// Password of a container that is on this machine for the length of a measurement.
const CONTAINER_PASSWORD: &str = "bench";

fn peer(id: &'static str, title: &str, address: SocketAddr, outside: Process, inside: Process) -> Peer {
    Peer {
        id,
        title: title.to_owned(),
        address,
        rsa: None,
        asking: None,
        is_tls: true,
        prefix: String::new(),
        front: outside.id(),
        all: vec![outside.id(), inside.id()],
        processes: vec![inside, outside],
    }
}

/// rathole with its TLS transport.
pub(super) fn rathole(ground: &Ground<'_>) -> Result<Peer, PeerError> {
    let program = ground.program("rathole")?;
    let folder = ground.subfolder(RATHOLE)?;
    let [port, dialled] = ports()?;
    let files = ground.authority.issue(&folder, "ecdsa", KeyKind::Ecdsa)?;
    let container = folder.join("identity.p12");
    let mut command = Command::new("openssl");
    command.args(["pkcs12", "-export", "-passout", &format!("pass:{CONTAINER_PASSWORD}")]);
    command.arg("-in").arg(&files.certificate).arg("-inkey").arg(&files.key).arg("-out").arg(&container);
    run_to_end("openssl pkcs12", command)?;
    let server = format!(
        "[server]\nbind_addr = \"127.0.0.1:{dialled}\"\ndefault_token = \"bench\"\n\
         [server.transport]\ntype = \"tls\"\n[server.transport.tls]\npkcs12 = {}\n\
         pkcs12_password = \"{CONTAINER_PASSWORD}\"\n[server.services.inner]\nbind_addr = \"127.0.0.1:{port}\"\n",
        quoted(&container)
    );
    let client = format!(
        "[client]\nremote_addr = \"127.0.0.1:{dialled}\"\ndefault_token = \"bench\"\n\
         [client.transport]\ntype = \"tls\"\n[client.transport.tls]\ntrusted_root = {}\nhostname = \"localhost\"\n\
         [client.services.inner]\nlocal_addr = \"{}\"\n",
        quoted(&ground.authority.file),
        ground.inner.tls
    );
    let start = |name: &str, flag: &str, text: &str| -> Result<Process, PeerError> {
        let config = folder.join(format!("{name}.toml"));
        std::fs::write(&config, text)?;
        let mut command = Command::new(&program);
        command.arg(flag).arg(config).env("RUST_LOG", "warn");
        Ok(Process::start(name, command, &folder, EndBy::Signal)?)
    };
    let mut outside = start("server", "--server", &server)?;
    outside.wait_for_port(loopback(dialled), PATIENCE)?;
    let inside = start("client", "--client", &client)?;
    outside.wait_for_port(loopback(port), PATIENCE)?;
    Ok(peer(RATHOLE, "rathole over TLS (bytes only, TLS ends inside)", loopback(port), outside, inside))
}

/// wstunnel, the inner side dialling by WebSocket over TLS.
pub(super) fn wstunnel(ground: &Ground<'_>) -> Result<Peer, PeerError> {
    let program = ground.program("wstunnel")?;
    let folder = ground.subfolder(WSTUNNEL)?;
    let [port, dialled] = ports()?;
    let files = ground.authority.issue(&folder, "ecdsa", KeyKind::Ecdsa)?;
    let start =
        |name: &str, command: Command, folder: &Path| Process::start(name, command, folder, EndBy::Signal);
    let mut command = Command::new(&program);
    command.args(["server", "--log-lvl", "warn"]);
    command.arg("--tls-certificate").arg(&files.certificate).arg("--tls-private-key").arg(&files.key);
    command.arg(format!("wss://127.0.0.1:{dialled}"));
    let mut outside = start("server", command, &folder)?;
    outside.wait_for_port(loopback(dialled), PATIENCE)?;
    let mut command = Command::new(&program);
    command.args(["client", "--log-lvl", "warn"]);
    command.args(["-R", &format!("tcp://127.0.0.1:{port}:{}", ground.inner.tls)]);
    command.arg(format!("wss://127.0.0.1:{dialled}"));
    let inside = start("client", command, &folder)?;
    outside.wait_for_port(loopback(port), PATIENCE)?;
    Ok(peer(
        WSTUNNEL,
        "wstunnel reverse over TLS (bytes only, TLS ends inside)",
        loopback(port),
        outside,
        inside,
    ))
}
