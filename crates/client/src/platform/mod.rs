//! Everything that depends on the operating system, one file per system. Nothing else in the
//! client asks which system it runs on.
//!
//! Each file has the same items: the default state folder, the host's name, what names the
//! hardware, which system it is, how it is joined, on which network it is, and how a service manager is told that the
//! service is ready. `certificate_store` is a store that is a folder, on every system.

mod certificate_store;
#[cfg(not(windows))]
mod linux;
#[cfg(windows)]
mod windows;

#[cfg(not(windows))]
use linux as system;
#[cfg(windows)]
use windows as system;

use std::path::{Path, PathBuf};

use proto::id::Thumbprint;
use proto::text::hex;

use crate::credential::pki::StoredCertificate;
use crate::join::{JoinStatus, JoinStatusError, OUTPUT_BYTES};
use crate::network::Fingerprint;

pub use certificate_store::CertificateStoreError;

/// Why a fact about this machine is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum PlatformError {
    /// The system tells no stable id of the machine.
    #[error("this machine has no id that could be read ({what}); name one with --hardware-id")]
    NoMachineId {
        /// Where it was looked for.
        what: &'static str,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The host's name cannot be read.
    #[error("the host's name cannot be found out; name the device with --name")]
    NoHostName,
    /// A `--hardware-id` that is none.
    #[error("a hardware id is the word random, or 2: and an even number of up to 128 hex digits")]
    BadHardwareId,
}

/// Where a device keeps its state unless `--state` says otherwise.
pub fn default_state_folder() -> PathBuf {
    system::default_state_folder()
}

/// The name of this host, without its domain.
pub fn host_name() -> Result<String, PlatformError> {
    let name = system::host_name().ok_or(PlatformError::NoHostName)?;
    let short = name.trim().split('.').next().unwrap_or_default().to_owned();
    if short.is_empty() { Err(PlatformError::NoHostName) } else { Ok(short) }
}

/// The system as the heartbeat names it: `PlatformID` of `CCM_DiscoveryData`.
pub fn platform_id() -> &'static str {
    system::PLATFORM_ID
}

/// Tells the service manager, if there is one, that the service is ready.
pub fn notify_ready() {
    system::notify("READY=1");
}

/// Tells the service manager, if there is one, that the service is ending.
pub fn notify_stopping() {
    system::notify("STOPPING=1");
}

/// What distinguishes the network that the device is on now from others; `None` where the system does not
/// say.
pub fn network() -> Option<Fingerprint> {
    system::network_facts().map(Fingerprint::of)
}

/// The certificates of a store. Here a store is a folder; the stores of Windows come with the Windows
/// client, behind the same function.
pub fn certificates(
    store: &Path,
    password_file: Option<&Path>,
) -> Result<Vec<StoredCertificate>, CertificateStoreError> {
    certificate_store::read(store, password_file)
}

/// Why the device's join state is not known.
#[derive(Debug, thiserror::Error)]
pub enum JoinStateError {
    /// The file cannot be read.
    #[error("{} cannot be read", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The command cannot be run.
    #[error("`dsregcmd /status` could not be run")]
    Command(#[source] std::io::Error),
    /// What came is something else.
    #[error("the join state cannot be read")]
    Content(#[source] JoinStatusError),
}

/// How the device is joined: from a file with the output of `dsregcmd /status` where one is named, else
/// from the system; `None` where the system knows no such thing.
pub fn join_status(file: Option<&Path>) -> Result<Option<JoinStatus>, JoinStateError> {
    use std::io::Read as _;
    let bytes = match file {
        Some(path) => {
            let failed = |source| JoinStateError::File { path: path.to_owned(), source };
            let mut bytes = Vec::new();
            let limit = OUTPUT_BYTES as u64 + 1;
            std::fs::File::open(path).map_err(failed)?.take(limit).read_to_end(&mut bytes).map_err(failed)?;
            Some(bytes)
        }
        None => system::join_status().map_err(JoinStateError::Command)?,
    };
    bytes.map(|bytes| JoinStatus::read(&bytes).map_err(JoinStateError::Content)).transpose()
}

/// Names the hardware as the wire does: `2:` and hex.
///
/// `wish` is the option `--hardware-id` or its variable: `random` (the lab, where many devices
/// live on one machine), or the id itself. Without it, a hash of the machine's own id: stable
/// over a reinstallation of the client, and not the id itself, which other programs use too.
pub fn hardware_id(wish: Option<&str>) -> Result<String, PlatformError> {
    match wish {
        Some(word) if word.eq_ignore_ascii_case("random") => {
            let mut bytes = [0; 20];
            runtime::id::fill(&mut bytes);
            Ok(format!("2:{}", hex::encode(&bytes)))
        }
        Some(id) => read_hardware_id(id).ok_or(PlatformError::BadHardwareId),
        None => {
            let id = system::machine_id()?;
            Ok(hash_machine_id(&id))
        }
    }
}

fn hash_machine_id(id: &str) -> String {
    let digest = Thumbprint::of(format!("roamgate-hardware-id/1\n{}", id.trim()).as_bytes());
    format!("2:{digest}")
}

fn read_hardware_id(text: &str) -> Option<String> {
    let digits = text.trim().strip_prefix("2:")?;
    let bytes = hex::decode(digits, 64).ok().filter(|bytes| !bytes.is_empty())?;
    Some(format!("2:{}", hex::encode(&bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hardware_id_is_random_given_or_a_hash_of_the_machines() {
        let random = || hardware_id(Some("Random")).unwrap();
        let (one, two) = (random(), random());
        assert_ne!(one, two);
        assert_eq!(read_hardware_id(&one), Some(one));
        assert_eq!(hardware_id(Some("2:00ff")).unwrap(), "2:00FF");
        for wrong in ["", "2:", "2:0", "2:xx", "00ff", &format!("2:{}", "00".repeat(65))] {
            assert!(matches!(hardware_id(Some(wrong)), Err(PlatformError::BadHardwareId)), "{wrong}");
        }
        let hashed = hash_machine_id("0123456789abcdef\n");
        assert_eq!(hashed, hash_machine_id("0123456789abcdef"));
        assert!(!hashed.to_ascii_lowercase().contains("0123456789abcdef") && hashed.len() == 66);
    }

    #[test]
    fn this_host_has_a_name_and_a_place_for_state() {
        let name = host_name().unwrap();
        assert!(!name.contains('.') && !name.is_empty());
        assert!(default_state_folder().is_absolute());
    }
}
