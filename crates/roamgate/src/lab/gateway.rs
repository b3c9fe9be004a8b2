//! A gateway of the lab: a process of its own, with its bundle and its certificate and nothing else.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::child::LabChild;
use super::hosts::{Folders, add, quoted, write_host};
use super::pki::ServerCertificate;
use crate::api::Api;
use crate::exit::Failure;

/// Threads that serve devices.
const SHARDS: u16 = 2;

/// Where a gateway is, and where it keeps its things.
#[derive(Debug)]
pub(crate) struct Gateway {
    /// Name of its process and of its folder: `gateway`, `gateway-2` and so on.
    pub(crate) name: String,
    /// Where it listens for devices and connection points.
    pub(crate) address: SocketAddr,
    /// The same as devices write it.
    pub(crate) host: String,
    /// `host:port` of its answers to monitors.
    pub(crate) admin: String,
    /// Its configuration file.
    pub(crate) config: PathBuf,
}

impl Gateway {
    /// Makes the gateway of this number (from 1) known to the site and starts it, on these two ports.
    pub(crate) async fn start(
        folders: &Folders<'_>,
        api: &Api,
        number: usize,
        [port, admin]: [u16; 2],
        own: &ServerCertificate,
    ) -> Result<(Self, LabChild), Failure> {
        let name = super::hosts::numbered("gateway", number);
        let folder = folders.lab.join(&name);
        let host = format!("localhost:{port}");
        let known = json!({"name": format!("GW{number}"), "address": host, "host": host});
        let bundle = add(api, "gateways", known).await?;
        let text = format!(
            "[gateway]\nbundle = {}\nstate_directory = {}\nlisten = [\"127.0.0.1:{port}\"]\n\
             certificate = {}\nkey = {}\nadmin_listen = \"127.0.0.1:{admin}\"\nshards = {SHARDS}\n\n\
             [logs]\ndirectory = {}\n",
            quoted(&folder.join("bundle.json")),
            quoted(&folder.join("state")),
            quoted(&own.certificate),
            quoted(&own.key),
            quoted(&folder.join("logs")),
        );
        let config = write_host(&folder, "gateway.toml", &bundle, &text)?;
        let child = LabChild::start(&name, folders.serve(&config), folders.lab, folders.clock)?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Ok((Self { name, address, host, admin: format!("127.0.0.1:{admin}"), config }, child))
    }

    /// Its entry in the ready file.
    pub(crate) fn ready(&self, number: usize, authority: &Path) -> Value {
        json!({
            "name": format!("GW{number}"),
            "process": self.name,
            "url": format!("https://{}", self.host),
            "host": self.host,
            "ca_file": authority,
            "config": self.config,
            "metrics": format!("http://{}/metrics", self.admin),
        })
    }
}
