//! A device of the lab: the client's own program, with a state folder and wires.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::child::{LabChild, run_to_end};
use super::hosts::{CLOCK_FILE, Hosts};
use super::namespace::Isolation;
use super::wire::Wire;
use crate::exit::{Exit, Failure};

/// How long the client may take to set itself up.
const SETUP_PATIENCE: Duration = Duration::from_mins(1);

/// What a device reaches besides the gateways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Nothing.
    Gateway,
    /// The management point: it is plugged in.
    Inside,
    /// Its tenant.
    Tenant,
}

/// A device, set up and running as a service.
pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) client_id: String,
    pub(crate) state: PathBuf,
    /// Wire to the management point inside, while the device is plugged in.
    inside: Option<Wire>,
    /// Where that wire ends at the device, plugged in or not.
    inside_at: SocketAddr,
    /// Wires to the gateways and, for a joined device, to its tenant.
    _outside: Vec<Wire>,
    folder: PathBuf,
    isolation: Isolation,
    service: LabChild,
}

impl Device {
    /// Sets a device up by the words that an administrator would use, and starts its service.
    ///
    /// It knows the management point inside by its address, as `SMSMP` would name it; `reach` says
    /// what it reaches besides the gateway.
    pub(crate) async fn start(
        hosts: &Hosts,
        isolation: &Isolation,
        name: &str,
        reach: Reach,
        setup_words: &[String],
    ) -> Result<Self, Failure> {
        let folder = hosts.folder.join("devices").join(name);
        runtime::config::private_dir::create(&folder)
            .map_err(|error| Failure::from_error(Exit::Refused, &error))?;
        let state = folder.join("state");
        let failed = |error: std::io::Error| Failure::from_error(Exit::Bug, &error);
        let mut outside = Vec::new();
        for gateway in &hosts.gateways {
            let wire = match isolation {
                Isolation::Namespace => {
                    Wire::through_socket(socket(&folder, &gateway.name), gateway.address, gateway.address)
                }
                // Without a namespace the device reaches the gateway's own port.
                Isolation::None(_) => Wire::on_loopback(free_port().map_err(failed)?, gateway.address).await,
            };
            outside.push((gateway.name.as_str(), wire.map_err(failed)?));
        }
        let inside_at = match isolation {
            Isolation::Namespace => hosts.management_point,
            Isolation::None(_) => free_port().map_err(failed)?,
        };
        if reach == Reach::Tenant && matches!(isolation, Isolation::Namespace) {
            // Without a namespace the device reaches the tenant's own port.
            let tenant = hosts.tenant.address;
            let wire = Wire::through_socket(socket(&folder, TENANT), tenant, tenant).map_err(failed)?;
            outside.push((TENANT, wire));
        }
        let inside = if reach == Reach::Inside {
            Some(plug(isolation, &folder, inside_at, hosts).await.map_err(failed)?)
        } else {
            None
        };
        let mut wires = vec![(inside_at, socket(&folder, INSIDE))];
        for (name, wire) in &outside {
            wires.push((wire.at_device, socket(&folder, name)));
        }
        let client = |words: &[&str]| -> Vec<OsString> {
            let mut program = vec![hosts.roamgate.clone().into_os_string(), "client".into()];
            program.extend(words.iter().map(OsString::from));
            program.extend(["--state".into(), state.clone().into_os_string()]);
            program
        };

        let mut setup = client(&["setup"]);
        setup.extend(["--name".into(), name.into(), "--hardware-id".into(), "random".into()]);
        setup.extend(["--ca-file".into(), hosts.authorities.clone().into_os_string()]);
        setup.push("--site-root".into());
        setup.push(format!("sha256:{}", hosts.site_root_sha256).into());
        setup.extend(["--inside".into(), format!("http://{inside_at}").into()]);
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
        Ok(Self {
            name: name.to_owned(),
            client_id,
            state,
            inside,
            inside_at,
            _outside: outside.into_iter().map(|(_, wire)| wire).collect(),
            folder,
            isolation: isolation.clone(),
            service,
        })
    }

    /// Cuts the wire to the management point, with every connection on it.
    pub(crate) fn unplug(&mut self) {
        self.inside = None;
    }

    /// Wires it to the management point.
    pub(crate) async fn plug_in(&mut self, hosts: &Hosts) -> Result<(), Failure> {
        let wire = plug(&self.isolation, &self.folder, self.inside_at, hosts).await;
        self.inside = Some(wire.map_err(|error| Failure::from_error(Exit::Bug, &error))?);
        Ok(())
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

/// Names of the wires, besides those to gateways, which are called like them.
const TENANT: &str = "tenant";
const INSIDE: &str = "inside";

fn socket(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.sock"))
}

async fn plug(isolation: &Isolation, folder: &Path, at: SocketAddr, hosts: &Hosts) -> std::io::Result<Wire> {
    match isolation {
        Isolation::Namespace => Wire::through_socket(socket(folder, INSIDE), at, hosts.management_point),
        Isolation::None(_) => Wire::on_loopback(at, hosts.management_point).await,
    }
}

/// A loopback port that was free a moment ago.
fn free_port() -> std::io::Result<SocketAddr> {
    std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()
}
