//! A device with other proofs than its own key, against a site and a tenant on loopback: the flows as
//! stories. What they share is here.

mod certificate;
mod entra;
mod revocation;
mod site_token;
mod user;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proto::entra::AuthInfo;
use proto::id::Guid;
use proto::identity::Method;
use proto::token::TokenClass;
use runtime::config::private_file;
use runtime::{Clock, Drain};
use stand_in::{Control, DeviceSeed, StandIn, TenantConfig, UserSeed};
use tempfile::TempDir;

use super::*;
use crate::credential::preference::Trigger;
use crate::state::{MemoryStore, Setup};
use crate::testing::pki::{Leaf, Pki};
use crate::testing::{FakeSite, fixture_client_id, pin_of};
use crate::token::tests::text_of;

const NOW: i64 = 1_790_000_000_000_000;
const TENANT: &str = "9aaf466a-3f40-4468-b3cd-f0010f21f05a";
const DEVICE: &str = "8d2b4ff9-0172-4998-9851-b5324303385f";
const USER: &str = "e8838041-db7a-42d5-b9ae-78813910e4cc";

fn setup(site: &FakeSite) -> Setup {
    Setup {
        name: "pc1".into(),
        hardware_id: "2:00FF".into(),
        site_code: Some("RG1".parse().unwrap()),
        inside: Vec::new(),
        gateways: vec![site.gateway()],
        always_internet: false,
        ca: Some(site.ca.clone()),
        pin: pin_of(site.keys),
    }
}

fn device(setup: Setup, proof: ProofSetup, clock: &Clock) -> Device {
    let now = Timestamp::from_micros(clock.now());
    let mut state = State::new(setup);
    state.proof = proof;
    let options = DeviceOptions {
        state,
        key: KeyMaterial::generate(now).unwrap(),
        store: Arc::new(MemoryStore::default()),
        clock: clock.clone(),
        system_roots: false,
    };
    Device::new(options).unwrap()
}

/// Puts a certificate with its key into a store; gives its thumbprint.
fn put(folder: &Path, pki: &Pki, leaf: &Leaf<'_>) -> Thumbprint {
    let issued = pki.issue(leaf);
    let chain: String = std::iter::once(issued.pem.clone()).chain(pki.intermediate_pem()).collect();
    private_file::write(folder.join(format!("{}.pem", leaf.serial)), chain + &issued.key_pem).unwrap();
    Thumbprint::of(&issued.der)
}

fn with_store(folder: &Path) -> ProofSetup {
    ProofSetup { certificate_store: Some(folder.to_owned()), ..ProofSetup::default() }
}

/// A device that registered with the one certificate of its store.
async fn certified(clock: &Clock) -> (FakeSite, TempDir, Device) {
    let site = FakeSite::start(clock);
    let store = tempfile::tempdir().unwrap();
    put(store.path(), &Pki::new("Root"), &Leaf::client("pc1"));
    let mut device = device(setup(&site), with_store(store.path()), clock);
    device.register().await.unwrap();
    device.confirm().await.unwrap();
    (site, store, device)
}

fn bulk(device: &mut Device, clock: &Clock) {
    device.use_bulk_token(text_of(TokenClass::Bulk, clock.now_seconds() + 3600).into());
}

/// A tenant with one joined device and one user.
struct Tenant {
    control: Control,
    authority: String,
    ca: String,
    info: AuthInfo,
    id: Guid,
    _drain: Drain,
}

impl Tenant {
    fn start(clock: &Clock, join: &Path) -> Self {
        let id: Guid = TENANT.parse().unwrap();
        let certificate = Pki::new("MS-Organization-Access").issue(&Leaf::client(DEVICE));
        private_file::write(join.join("join.pem"), certificate.pem.clone() + &certificate.key_pem).unwrap();
        let mut tenant = TenantConfig::new(id, "Contoso");
        tenant.poll_interval = 0;
        tenant.devices.push(DeviceSeed::joined(DEVICE.parse().unwrap(), "PC1", &certificate.der));
        tenant.users.push(UserSeed::cloud(USER.parse().unwrap(), "anna@contoso.com", "Anna"));
        let (client_app, resource) = (tenant.client_app, tenant.resource.clone());
        let config = stand_in::Config { tenants: vec![tenant], ..stand_in::Config::default() };
        let bound = StandIn::bind(config, clock.clone()).unwrap();
        let (control, authority, ca) = (bound.control(), bound.authority(id), bound.ca_pem().to_owned());
        let info = AuthInfo {
            tenant: id,
            client_app_id: client_app.to_string(),
            resource,
            authority: authority.clone(),
        };
        let drain = Drain::new();
        tokio::spawn(bound.run(drain.clone()));
        Self { control, authority, ca, info, id, _drain: drain }
    }

    fn was_asked(&self) -> bool {
        let counts = self.control.counts();
        counts.discovery + counts.token > 0
    }
}

/// A site that has onboarded the tenant, and the folder with the device's workplace certificate.
fn onboarded(clock: &Clock) -> (FakeSite, TempDir, Tenant) {
    let (site, join) = (FakeSite::start(clock), tempfile::tempdir().unwrap());
    let tenant = Tenant::start(clock, join.path());
    site.site().auth_info = Some(tenant.info.clone());
    (site, join, tenant)
}

fn joined(join: &Path) -> ProofSetup {
    ProofSetup {
        workplace_join: Some(join.to_owned()),
        tenant: Some(TENANT.parse().unwrap()),
        ..ProofSetup::default()
    }
}

/// A device that reaches gateway and tenant.
fn entra_device(site: &FakeSite, tenant: &Tenant, proof: ProofSetup, clock: &Clock) -> Device {
    let ca = format!("{}{}", site.ca, tenant.ca);
    device(Setup { ca: Some(ca), ..setup(site) }, proof, clock)
}

fn key_of(device: &Device) -> KeyMaterial {
    KeyMaterial {
        pkcs8: zeroize::Zeroizing::new(Vec::new()),
        certificate: device.identity().certificate().to_vec(),
    }
}
