//! Windows. What needs the registry, the service manager or the key store comes with the
//! Windows client; until then those facts are refused with an error that says what to name.

use std::path::PathBuf;

use super::PlatformError;

/// As the heartbeat names the system; published samples have this form [observed].
pub(super) const PLATFORM_ID: &str = "Microsoft Windows NT Workstation 10.0";

/// `C:\ProgramData\Roamgate\Client`.
pub(super) fn default_state_folder() -> PathBuf {
    let data =
        std::env::var_os("ProgramData").map_or_else(|| PathBuf::from(r"C:\ProgramData"), PathBuf::from);
    data.join("Roamgate").join("Client")
}

pub(super) fn host_name() -> Option<String> {
    std::env::var("COMPUTERNAME").ok()
}

/// The machine's id is in the registry, which this version does not read.
pub(super) fn machine_id() -> Result<String, PlatformError> {
    let source =
        std::io::Error::new(std::io::ErrorKind::Unsupported, "the registry is not read by this version");
    Err(PlatformError::NoMachineId { what: r"HKLM\SOFTWARE\Microsoft\Cryptography\MachineGuid", source })
}

/// What `dsregcmd /status` prints.
pub(super) fn join_status() -> std::io::Result<Option<Vec<u8>>> {
    let output = std::process::Command::new("dsregcmd").arg("/status").output()?;
    Ok(Some(output.stdout))
}

/// The addresses from which packets to the world would leave. No packet is sent: connecting a UDP socket only
/// asks the system for its route.
#[expect(clippy::unnecessary_wraps, reason = "other systems cannot say")]
pub(super) fn network_facts() -> Option<Vec<String>> {
    use std::net::UdpSocket;
    // Addresses of documentation: nobody has them.
    let ways = [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")];
    let source = |(from, to): (&str, &str)| {
        let socket = UdpSocket::bind(from).ok()?;
        socket.connect(to).ok()?;
        socket.local_addr().ok().map(|address| format!("address {}", address.ip()))
    };
    Some(ways.into_iter().filter_map(source).collect())
}

/// A program that is no Windows service has no manager to tell.
pub(super) fn notify(_state: &str) {}
