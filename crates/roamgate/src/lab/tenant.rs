//! A stand-in of a tenant for the lab: it speaks as Entra ID does, and belongs to nobody.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use proto::id::Guid;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use runtime::{Clock, Drain};
use serde_json::{Value, json};
use stand_in::{Config, DeviceSeed, StandIn, TenantConfig, UserSeed};

use crate::api::Api;
use crate::exit::{Exit, Failure};

/// The lab's tenant; any GUID would do.
const TENANT: &str = "7d2c1a50-9a3e-4c41-8f0a-5e1b7c9d2f10";
/// A device of it.
const DEVICE: &str = "7d2c1a50-0000-4000-8000-0000000000d1";
/// A user of the cloud alone.
const USER: &str = "7d2c1a50-0000-4000-8000-0000000000a1";
/// A user whose home is an on-premises directory, which the lab does not have.
const HYBRID_USER: &str = "7d2c1a50-0000-4000-8000-0000000000a2";

/// The running stand-in, and what its devices need.
pub(crate) struct Tenant {
    pub(crate) id: Guid,
    pub(crate) authority: String,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    resource: String,
    client_app: Guid,
    /// Authority of its HTTPS certificate.
    pub(crate) ca_file: PathBuf,
    /// Folder with the workplace-join certificate and key of one joined device.
    pub(crate) workplace_join: PathBuf,
    drain: Drain,
}

impl Tenant {
    /// Starts it on loopback and onboards it.
    pub(crate) async fn start(folder: &Path, clock_file: &Path, api: &Api) -> Result<Self, Failure> {
        let bug = |error: &dyn std::error::Error| Failure::from_error(Exit::Bug, error);
        let written = |error: &dyn std::error::Error| Failure::from_error(Exit::Refused, error);
        let folder = folder.join("tenant");
        let workplace_join = folder.join("workplace-join");
        for path in [&folder, &workplace_join] {
            runtime::config::private_dir::create(path).map_err(|error| written(&error))?;
        }
        let id = |text: &str| text.parse::<Guid>().map_err(|error| bug(&error));
        let (certificate, pem, key) = workplace_join_certificate().map_err(|error| bug(&error))?;
        runtime::config::private_file::write(workplace_join.join("device.pem"), pem)
            .map_err(|error| written(&error))?;
        runtime::config::private_file::write(workplace_join.join("device.key"), key)
            .map_err(|error| written(&error))?;

        let mut tenant = TenantConfig::new(id(TENANT)?, "Roamgate lab tenant");
        "https://ConfigMgrService".clone_into(&mut tenant.resource);
        tenant.poll_interval = 1;
        tenant.devices.push(DeviceSeed::joined(id(DEVICE)?, "entra-1", &certificate));
        tenant.users.push(UserSeed::cloud(id(USER)?, "cloud@lab.example", "A user of the cloud"));
        tenant.users.push(
            UserSeed::cloud(id(HYBRID_USER)?, "hybrid@lab.example", "A hybrid user")
                .with_sid("S-1-5-21-1004336348-1177238915-682003330-1106"),
        );
        let (resource, client_app) = (tenant.resource.clone(), tenant.client_app);
        let (discovery_app, secret) = (tenant.discovery_app, tenant.discovery_secret.clone());
        let config = Config { tenants: vec![tenant], ..Config::default() };
        let bound =
            StandIn::bind(config, Clock::with_offset_file(clock_file)).map_err(|error| bug(&error))?;
        let ca_file = folder.join("authority.pem");
        runtime::config::private_file::write(&ca_file, bound.ca_pem()).map_err(|error| written(&error))?;
        let (tenant, address, drain) = (id(TENANT)?, bound.address(), Drain::new());
        let authority = bound.authority(tenant);
        let onboarding = json!({
            "tenant_id": tenant,
            "name": "lab",
            "authority": authority,
            "issuers": bound.issuers(tenant),
            "resource": resource,
            "audiences": [resource],
            "client_app_id": client_app,
            "discovery_app_id": discovery_app,
            "secret": secret,
            "graph_url": bound.base(),
            "ca_pem": bound.ca_pem(),
        });
        tokio::spawn(bound.run(drain.clone()));
        api.post("tenants", &onboarding).await?;
        api.post("tenants/lab/sync", &json!({"full": true})).await?;
        Ok(Self { id: tenant, authority, address, resource, client_app, ca_file, workplace_join, drain })
    }

    /// The member `tenant` of the ready file.
    pub(crate) fn ready(&self) -> Value {
        json!({
            "tenant_id": self.id,
            "authority": self.authority,
            "resource": self.resource,
            "client_app_id": self.client_app,
            "ca_file": self.ca_file,
            "workplace_join_dir": self.workplace_join,
        })
    }
}

impl Drop for Tenant {
    fn drop(&mut self) {
        self.drain.begin(std::time::Duration::ZERO);
    }
}

/// A certificate named after the device's id in its tenant, as a join makes it: DER, and certificate
/// and key as PEM.
fn workplace_join_certificate() -> Result<(Vec<u8>, String, String), rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, DEVICE);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.der().to_vec(), certificate.pem(), key.serialize_pem()))
}
