//! `ssh -R` with a server of its own: what an administrator would try first.

use std::process::Command;

use super::{Ground, PATIENCE, Peer, PeerError, SSH, loopback, ports};
use crate::process::{EndBy, Process, run_to_end};

/// The inner side dials an sshd, which listens for devices; TLS of devices ends at the inner server.
pub(super) fn reverse(ground: &Ground<'_>) -> Result<Peer, PeerError> {
    let folder = ground.subfolder(SSH)?;
    let (server, client) = (ground.program("sshd")?, ground.program("ssh")?);
    let keygen = ground.program("ssh-keygen")?;
    let [port, dialled] = ports()?;
    let at = folder.display();
    for name in ["host", "user"] {
        let mut command = Command::new(&keygen);
        command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(folder.join(name));
        run_to_end("ssh-keygen", command)?;
    }
    std::fs::copy(folder.join("user.pub"), folder.join("authorized"))?;
    // The server demands it of whoever starts it as root, and nobody else needs it.
    std::fs::create_dir_all("/run/sshd").or_else(|error| if is_root() { Err(error) } else { Ok(()) })?;
    let config = folder.join("sshd_config");
    let text = format!(
        "ListenAddress 127.0.0.1:{dialled}\nHostKey {at}/host\nAuthorizedKeysFile {at}/authorized\nPidFile none\n\
         StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n\
         AllowTcpForwarding yes\nGatewayPorts no\n"
    );
    std::fs::write(&config, text)?;
    let mut command = Command::new(server);
    command.args(["-D", "-e", "-f"]).arg(&config);
    let mut outside = Process::start("sshd", command, &folder, EndBy::Signal)?;
    outside.wait_for_port(loopback(dialled), PATIENCE)?;

    let mut command = Command::new(client);
    command.args(["-N", "-F", "none", "-p", &dialled.to_string(), "-i"]).arg(folder.join("user"));
    command.args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]);
    command.args(["-o", "ExitOnForwardFailure=yes", "-o", "BatchMode=yes"]);
    command.args(["-R", &format!("127.0.0.1:{port}:{}", ground.inner.tls), "127.0.0.1"]);
    let mut inside = Process::start("ssh", command, &folder, EndBy::Signal)?;
    inside.wait_for_port(loopback(port), PATIENCE)?;
    Ok(Peer {
        id: SSH,
        title: "ssh -R (bytes only, TLS ends inside)".to_owned(),
        address: loopback(port),
        rsa: None,
        asking: None,
        is_tls: true,
        prefix: String::new(),
        front: outside.id(),
        all: vec![outside.id(), inside.id()],
        processes: vec![inside, outside],
    })
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|about| std::os::unix::fs::MetadataExt::uid(&about) == 0)
}
