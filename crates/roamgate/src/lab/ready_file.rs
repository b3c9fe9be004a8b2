//! The file by which tests and benchmarks find a running lab.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::client_pki::ClientPki;
use super::connection_point::ConnectionPoint;
use super::gateway::Gateway;
use crate::exit::{Exit, Failure};

/// One device of the lab.
#[derive(Debug, Clone)]
pub(crate) struct ReadyDevice {
    pub(crate) name: String,
    pub(crate) client_id: String,
    pub(crate) state_dir: PathBuf,
}

/// What the lab knows once everything answers. Fields that this build cannot fill are absent.
#[derive(Debug)]
pub(crate) struct Ready<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) site: &'a Value,
    pub(crate) roles: &'a Value,
    /// At least one.
    pub(crate) gateways: &'a [Gateway],
    pub(crate) connection_points: &'a [ConnectionPoint],
    pub(crate) gateway_ca: &'a Path,
    pub(crate) tenant: Value,
    pub(crate) pki: &'a ClientPki,
    pub(crate) operator_url: &'a str,
    pub(crate) site_root: &'a Path,
    pub(crate) operator_key: &'a Path,
    pub(crate) token_certificate: &'a Path,
    pub(crate) devices: &'a [ReadyDevice],
    pub(crate) pids: Value,
}

impl Ready<'_> {
    /// The document of the design, section 7. The lists `gateways` and `connection_points` are ours, besides:
    /// what stands under `gateway` is the first of them.
    pub(crate) fn document(&self) -> Value {
        let first = self.gateways.first().expect("a lab has at least one");
        let roles: Vec<Value> = self
            .roles
            .as_array()
            .into_iter()
            .flatten()
            .map(|role| {
                let id = &role["role_id"];
                let door = |name: &str| {
                    format!("https://{}/CCM_Proxy_{name}/{}", first.host, id.as_str().unwrap_or_default())
                };
                json!({
                    "role_id": id,
                    "kind": role["kind"],
                    "mode": role["mode"],
                    "internal_url": role["internal_url"],
                    "mutual_auth": door("MutualAuth"),
                    "server_auth": door("ServerAuth"),
                })
            })
            .collect();
        let gateways: Vec<Value> = (1..)
            .zip(self.gateways)
            .map(|(number, gateway)| gateway.ready(number, self.gateway_ca))
            .collect();
        let connection_points: Vec<Value> =
            (1..).zip(self.connection_points).map(|(number, point)| point.ready(number)).collect();
        let devices: Vec<Value> = self
            .devices
            .iter()
            .map(|device| json!({"name": device.name, "client_id": device.client_id, "state_dir": device.state_dir}))
            .collect();
        json!({
            "site_code": self.site["site_code"],
            "site_id": self.site["hierarchy_id"],
            "dir": self.dir,
            "gateway": {
                "url": format!("https://{}", first.host),
                "host": first.host,
                "ca_file": self.gateway_ca,
            },
            "gateways": gateways,
            "connection_points": connection_points,
            "roles": roles,
            "operator": {"url": self.operator_url, "ca_file": self.site_root, "key_file": self.operator_key},
            "token_signing_certificate_file": self.token_certificate,
            "site_root_file": self.site_root,
            "devices": devices,
            "metrics": {"gateway": format!("http://{}/metrics", first.admin)},
            "tenant": self.tenant,
            "pki": {
                "ca_file": self.pki.authorities,
                "client_cert_file": self.pki.certificate,
                "client_key_file": self.pki.key,
                "revoked_cert_file": self.pki.revoked_certificate,
                "revoked_key_file": self.pki.revoked_key,
                "crl_url": self.pki.crl_url,
                "store_dir": self.pki.store,
            },
            "pids": self.pids,
        })
    }
}

/// Writes the document so that a reader sees all of it or nothing.
pub(crate) fn write(path: &Path, document: &Value) -> Result<(), Failure> {
    let text = serde_json::to_vec_pretty(document).map_err(|error| Failure::from_error(Exit::Bug, &error))?;
    runtime::config::private_file::write(path, text)
        .map_err(|error| Failure::from_error(Exit::Refused, &error))
}
