//! A device that a story sets up word by word and asks to do one thing at a time: the client's own
//! program, without a namespace, so that which way it goes is what its setup says.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::{Lab, roamgate};

/// From where a device comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    /// Through the gateway, always.
    Gateway,
    /// From inside, by the management point's plain address.
    Inside,
    /// From inside, by its HTTPS address.
    InsideTls,
}

/// A device.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) state: PathBuf,
    folder: PathBuf,
    clock: PathBuf,
}

impl Machine {
    /// A device of this name; nothing is set up yet.
    pub(crate) fn new(lab: &Lab, name: &str) -> Self {
        let folder = lab.folder.path().join("machines").join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        Self {
            name: name.to_owned(),
            state: folder.join("state"),
            folder,
            clock: PathBuf::from(lab.text("dir")).join("clock-offset"),
        }
    }

    /// A private folder beside its state.
    pub(crate) fn side_folder(&self, name: &str) -> PathBuf {
        let folder = self.folder.join(name);
        runtime::config::private_dir::create(&folder).expect("a folder");
        folder
    }

    /// Sets it up with these further words.
    pub(crate) fn set_up(&self, lab: &Lab, from: From, authorities: &Path, words: &[String]) -> Output {
        let mut command = self.command(&["setup", "--force", "--hardware-id", "random", "SMSSITECODE=RG1"]);
        command.args(["--name", &self.name, "--ca-file"]).arg(authorities);
        command.args(["--site-root", lab.text("site_root_file")]);
        match from {
            From::Gateway => {
                let gateway = lab.text("roles.0.mutual_auth");
                let host = gateway.trim_start_matches("https://");
                command.args([
                    format!("/mp:{gateway}"),
                    format!("CCMHOSTNAME={host}"),
                    "CCMALWAYSINF=1".into(),
                ]);
            }
            From::Inside => {
                command.args(["--inside", &inside(lab)]);
            }
            From::InsideTls => {
                command.args(["--inside", lab.text("roles.0.internal_url")]);
            }
        }
        command.args(words).output().expect("the client runs")
    }

    /// A command of the client on its state.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(roamgate());
        command.arg("client").args(words).arg("--state").arg(&self.state).stdin(Stdio::null());
        command.env("ROAMGATE_CLOCK_OFFSET_FILE", &self.clock);
        command
    }

    /// Runs one.
    pub(crate) fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("the client runs")
    }

    /// Gets policy and reports; what went wrong, if anything.
    pub(crate) fn sync(&self) -> Result<String, String> {
        outcome(&self.run(&["sync"]))
    }

    /// What `client status` says.
    pub(crate) fn status(&self) -> Value {
        let output = self.run(&["status", "--output", "json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!("{}: {error}: {}", self.name, String::from_utf8_lossy(&output.stderr))
        })
    }

    /// What the site has on record of it.
    pub(crate) fn record(&self, lab: &Lab) -> Value {
        lab.operator(&["device", "show", &self.name])
    }

    /// Its state file.
    pub(crate) fn state_file(&self) -> PathBuf {
        self.state.join("client.json")
    }

    /// Certificate and key as curl takes them: PEM, converted by openssl.
    pub(crate) fn tls_files(&self) -> (PathBuf, PathBuf) {
        let (certificate, key) = (self.folder.join("own.pem"), self.folder.join("own.key"));
        for (command, from, to) in [("x509", "certificate.der", &certificate), ("pkey", "key.der", &key)] {
            let mut openssl = Command::new("openssl");
            openssl.args([command, "-inform", "DER", "-in"]).arg(self.state.join(from)).arg("-out").arg(to);
            crate::support::run(&mut openssl, b"");
        }
        (certificate, key)
    }
}

/// What a command printed, or why it failed.
pub(crate) fn outcome(output: &Output) -> Result<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// The management point's plain address.
pub(crate) fn inside(lab: &Lab) -> String {
    let config = site_config(lab);
    let config: toml::Table =
        std::fs::read_to_string(config).expect("a configuration").parse().expect("TOML");
    format!("http://{}", config["management-point"]["listen"].as_str().expect("an address"))
}

/// The site host's configuration file.
pub(crate) fn site_config(lab: &Lab) -> PathBuf {
    PathBuf::from(lab.text("dir")).join("site").join("site.toml")
}
