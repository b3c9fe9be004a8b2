//! Linux, and what is near to it.

use std::fs;
use std::path::PathBuf;

use super::PlatformError;
use crate::network;

/// As the heartbeat names the system.
pub(super) const PLATFORM_ID: &str = "Linux";

/// Where the machine's id is [systemd, D-Bus].
const MACHINE_ID_FILES: [&str; 2] = ["/etc/machine-id", "/var/lib/dbus/machine-id"];

/// `/var/lib/roamgate-client` for the machine's own account; a folder of the account's for others,
/// who could not write there.
pub(super) fn default_state_folder() -> PathBuf {
    // systemd names the folder that it made for the service.
    if let Some(folder) = std::env::var_os("STATE_DIRECTORY").filter(|folder| !folder.is_empty()) {
        return PathBuf::from(folder);
    }
    let machine = PathBuf::from("/var/lib/roamgate-client");
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    match home {
        Some(home) if home.as_path() != std::path::Path::new("/root") => {
            home.join(".local/state/roamgate-client")
        }
        _ => machine,
    }
}

pub(super) fn host_name() -> Option<String> {
    let kernel = fs::read_to_string("/proc/sys/kernel/hostname").ok();
    kernel.or_else(|| fs::read_to_string("/etc/hostname").ok()).or_else(|| std::env::var("HOSTNAME").ok())
}

pub(super) fn machine_id() -> Result<String, PlatformError> {
    let mut last = None;
    for file in MACHINE_ID_FILES {
        match fs::read_to_string(file) {
            Ok(id) if !id.trim().is_empty() => return Ok(id),
            Ok(_) => last = Some(std::io::ErrorKind::InvalidData.into()),
            Err(error) => last = Some(error),
        }
    }
    let source = last.unwrap_or_else(|| std::io::ErrorKind::NotFound.into());
    Err(PlatformError::NoMachineId { what: "/etc/machine-id", source })
}

/// Linux machines are joined by files that setup names; there is nothing to ask.
#[expect(clippy::unnecessary_wraps, reason = "other systems can fail")]
pub(super) fn join_status() -> std::io::Result<Option<Vec<u8>>> {
    Ok(None)
}

/// Addresses and routes of this process' network namespace.
pub(super) fn network_facts() -> Option<Vec<String>> {
    use std::io::Read as _;
    let table = |path: &str| {
        let mut text = String::new();
        let file = fs::File::open(path).ok()?;
        file.take(network::TABLE_BYTES).read_to_string(&mut text).ok()?;
        Some(text)
    };
    let routes = table("/proc/net/route");
    let addresses = table("/proc/net/fib_trie");
    // A kernel without IPv6 has no such table.
    let six = table("/proc/net/if_inet6").unwrap_or_default();
    if routes.is_none() && addresses.is_none() {
        return None;
    }
    let (routes, addresses) = (routes.unwrap_or_default(), addresses.unwrap_or_default());
    let facts =
        [network::ipv4_routes(&routes), network::ipv4_addresses(&addresses), network::ipv6_addresses(&six)];
    Some(facts.concat())
}

/// One datagram to the socket that systemd names; without one nobody listens, which is fine.
pub(super) fn notify(state: &str) {
    #[cfg(target_os = "linux")]
    {
        use std::os::linux::net::SocketAddrExt as _;
        use std::os::unix::ffi::OsStrExt as _;
        use std::os::unix::net::{SocketAddr, UnixDatagram};
        let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
        let address = match name.as_bytes().strip_prefix(b"@") {
            Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name),
            None => SocketAddr::from_pathname(&name),
        };
        let sent =
            address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
        if let Err(error) = sent {
            crate::log::line!(debug, CcmExec, error = %error, "the service manager could not be told");
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = state;
}
