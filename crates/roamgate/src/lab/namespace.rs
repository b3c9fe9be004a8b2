//! Network namespaces for devices: whether they are to be had, and how a program gets into one.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

use super::wire::Wire;

/// How a device is kept from reaching anything but its wires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// Each device has a network namespace of its own.
    Namespace,
    /// The system does not allow that; the reason, for people.
    None(String),
}

impl Isolation {
    /// Tries it out once.
    pub(crate) fn detect() -> Self {
        let attempt = Command::new("unshare")
            .args(["-Urn", "--", "ip", "link", "set", "lo", "up"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .output();
        match attempt {
            Ok(output) if output.status.success() => Self::Namespace,
            Ok(output) => Self::None(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Self::None(format!("cannot run unshare: {error}")),
        }
    }

    /// The command that runs `program` where it can reach only these wires.
    pub(crate) fn command(&self, roamgate: &Path, wires: &[&Wire], program: &[OsString]) -> Command {
        match self {
            Self::None(_) => {
                let (program, arguments) = program.split_first().expect("a program is named");
                let mut command = Command::new(program);
                command.args(arguments);
                command
            }
            Self::Namespace => {
                let mut command = Command::new("unshare");
                command.args(["-Urn", "--"]).arg(roamgate).arg("lab-wire");
                for wire in wires {
                    if let Some(socket) = &wire.socket {
                        command.arg("--wire").arg(format!("{}={}", wire.at_device, socket.display()));
                    }
                }
                command.arg("--").args(program);
                command
            }
        }
    }
}
