//! A device of the lab: the client's own program, with a state folder and wires.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::child::{LabChild, run_to_end};
use super::hosts::{CLOCK_FILE, Hosts};
use super::namespace::Isolation;
use super::wire::Wire;
use crate::exit::{Exit, Failure};

/// How long the client may take to set itself up.
const SETUP_PATIENCE: Duration = Duration::from_mins(1);

/// A device, set up and running as a service.
pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) client_id: String,
    pub(crate) state: PathBuf,
    /// Wire to the management point inside; cutting it unplugs the device.
    pub(crate) inside: Option<Wire>,
    /// Wire to the gateway.
    _outside: Wire,
    service: LabChild,
}

impl Device {
    /// Sets a device up by the words that an administrator would use, and starts its service.
    ///
    /// `inside`: whether it is wired to the management point too.
    pub(crate) async fn start(
        hosts: &Hosts,
        isolation: &Isolation,
        name: &str,
        inside: bool,
        setup_words: &[String],
    ) -> Result<Self, Failure> {
        let folder = hosts.folder.join("devices").join(name);
        runtime::config::private_dir::create(&folder)
            .map_err(|error| Failure::from_error(Exit::Refused, &error))?;
        let state = folder.join("state");
        let failed = |error: std::io::Error| Failure::from_error(Exit::Bug, &error);
        let outside = match isolation {
            Isolation::Namespace => Wire::through_socket(&folder, "gateway", hosts.gateway, hosts.gateway),
            // Without a namespace the device reaches the gateway's own port.
            Isolation::None(_) => Wire::on_loopback(any_port(), hosts.gateway).await,
        }
        .map_err(failed)?;
        let inside = match (inside, isolation) {
            (false, _) => None,
            (true, Isolation::Namespace) => {
                let at = hosts.management_point;
                Some(Wire::through_socket(&folder, "mp", at, at).map_err(failed)?)
            }
            (true, Isolation::None(_)) => {
                Some(Wire::on_loopback(any_port(), hosts.management_point).await.map_err(failed)?)
            }
        };
        let wires: Vec<&Wire> = std::iter::once(&outside).chain(&inside).collect();
        let client = |words: &[&str]| -> Vec<OsString> {
            let mut program = vec![hosts.roamgate.clone().into_os_string(), "client".into()];
            program.extend(words.iter().map(OsString::from));
            program.extend(["--state".into(), state.clone().into_os_string()]);
            program
        };

        let mut setup = client(&["setup"]);
        setup.extend(["--name".into(), name.into(), "--hardware-id".into(), "random".into()]);
        setup.extend(["--ca-file".into(), hosts.pki.ca_file.clone().into_os_string()]);
        setup.push("--site-root".into());
        setup.push(format!("sha256:{}", hosts.site_root_sha256).into());
        if let Some(wire) = &inside {
            setup.extend(["--inside".into(), format!("http://{}", wire.at_device).into()]);
        }
        setup.extend(setup_words.iter().map(OsString::from));
        let command = isolation.command(&hosts.roamgate, &wires, &setup);
        run_to_end(&format!("setup of {name}"), command, SETUP_PATIENCE).await?;

        let mut service = client(&["service", "--end-with-stdin"]);
        service.extend(["--poll-interval".into(), "2s".into()]);
        let command = isolation.command(&hosts.roamgate, &wires, &service);
        let service = LabChild::start("service", command, &folder, &hosts.folder.join(CLOCK_FILE))?;

        let mut status = client(&["status"]);
        status.extend(["--output".into(), "json".into()]);
        let command = Isolation::None(String::new()).command(&hosts.roamgate, &[], &status);
        let status = run_to_end(&format!("status of {name}"), command, SETUP_PATIENCE).await?;
        let status: Value =
            serde_json::from_str(&status).map_err(|error| Failure::from_error(Exit::Bug, &error))?;
        let client_id = status["client_id"].as_str().unwrap_or_default().to_owned();
        Ok(Self { name: name.to_owned(), client_id, state, inside, _outside: outside, service })
    }

    /// The process id of its service; `None` once it has ended.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.service.id()
    }

    /// The process of its service.
    pub(crate) fn service(&mut self) -> &mut LabChild {
        &mut self.service
    }

    /// What its log of this name holds now.
    pub(crate) fn log(&self, file: &str) -> String {
        std::fs::read_to_string(self.state.join("logs").join(file)).unwrap_or_default()
    }

    /// Ends its service.
    pub(crate) async fn stop(self) {
        self.service.stop().await;
    }
}

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}
