//! Network namespaces for devices: whether they are to be had, and how a program gets into one.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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

    /// The command that runs `program` where it can reach only these wires: addresses there, and the
    /// sockets that they lead to.
    pub(crate) fn command(
        &self,
        roamgate: &Path,
        wires: &[(SocketAddr, PathBuf)],
        program: &[OsString],
    ) -> Command {
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
                for (at, socket) in wires {
                    command.arg("--wire").arg(format!("{at}={}", socket.display()));
                }
                command.arg("--").args(program);
                command
            }
        }
    }
}
