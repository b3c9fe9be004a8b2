//! A device with other proofs than its own key, against a site and a tenant on loopback: the flows as
//! stories.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proto::combination::Join;
use proto::entra::AuthInfo;
use proto::id::Guid;
use proto::identity::Method;
use proto::path::Door;
use proto::reason::Reason;
use proto::token::TokenClass;
use runtime::config::private_file;
use runtime::{Clock, Drain};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use stand_in::{Control, DeviceSeed, StandIn, TenantConfig, UserSeed};

use super::*;
use crate::credential::preference::Trigger;
use crate::credential::revocation::CrlCheck;
use crate::doctor::Diagnosis;
use crate::failure::{CallError, TlsFault};
use crate::join::Finding;
use crate::policy::PolicyError;
use crate::registration::property;
use crate::state::{Approval, MemoryStore, Setup};
use crate::status::Status;
use crate::testing::pki::{Leaf, Pki};
use crate::testing::{FakeSite, PolicyFixture, fixture_client_id, gateway_with_list, log_to, pin_of};
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

#[tokio::test]
async fn with_a_certificate_alone_a_device_becomes_a_managed_one_at_the_door_for_certificates() {
    let clock = Clock::manual(NOW);
    let site = FakeSite::start(&clock);
    site.site().policies = vec![PolicyFixture::settings("1.00", ""), PolicyFixture::secret()];
    let store = tempfile::tempdir().unwrap();
    let shown =
        put(store.path(), &Pki::with_intermediate("Root", "Issuing"), &Leaf::client("pc1.contoso.com"));
    let mut device = device(setup(&site), with_store(store.path()), &clock);
    device.register().await.unwrap();
    device.confirm().await.unwrap();
    device.policy().await.unwrap();
    device.heartbeat().await.unwrap();
    assert_eq!(device.method(), Method::Certificate);
    assert_eq!(site.site().pki, Some(shown), "the site saw the proof itself");
    for seen in site.take_seen() {
        assert_eq!((seen.door, seen.token), (Some(Door::MutualAuth), None), "{seen:?}");
        assert_eq!(seen.shown, Some(shown));
        assert!(["/ccm_system/request", "/SMS_MP/.sms_pol"].iter().any(|path| seen.target.starts_with(path)));
    }
    assert!(device.state().self_prove.is_some(), "held for the day on which the certificate is gone");
    let report = site.site().reports.pop().unwrap();
    let ours = report.instance("Roamgate_Client").unwrap();
    assert_eq!(ours.value("Method"), Some("certificate"));
    assert!(ours.value("MethodReason").unwrap().contains("CN=pc1.contoso.com"));
}

#[tokio::test]
async fn a_bulk_token_device_moves_to_its_certificate_by_itself_and_back_visibly_when_that_ends() {
    let clock = Clock::manual(NOW);
    let site = FakeSite::start(&clock);
    let store = tempfile::tempdir().unwrap();
    let mut device = device(setup(&site), with_store(store.path()), &clock);
    bulk(&mut device, &clock);
    device.register().await.unwrap();
    device.confirm().await.unwrap();
    let method = device.state().method.clone().unwrap();
    assert_eq!((method.method, method.refused[0].method), (Method::SiteToken, Method::Certificate));
    assert!(method.refused[0].why.contains("no certificate"), "{method:?}");
    assert!(!device.refresh(Trigger::RegistrationRefresh).await.unwrap(), "nothing new, nothing sent");
    site.take_seen();

    let shown = put(store.path(), &Pki::new("Root"), &Leaf::client("pc1"));
    clock.advance(Duration::from_hours(24));
    assert!(device.refresh(Trigger::RegistrationRefresh).await.unwrap());
    let method = device.state().method.clone().unwrap();
    assert_eq!((method.method, method.before), (Method::Certificate, Some(Method::SiteToken)));
    assert_eq!(method.since, device.now());
    assert_eq!((site.site().pki, device.client_id()), (Some(shown), Some(fixture_client_id())));
    assert!(site.take_seen().iter().all(|seen| seen.door == Some(Door::MutualAuth)));

    // The certificate ends in 2028; the device says so and goes on by its site token.
    clock.set(Timestamp::parse_iso8601("2028-01-02T00:00:00Z").unwrap().micros());
    assert!(device.refresh(Trigger::RegistrationRefresh).await.unwrap());
    let method = device.state().method.clone().unwrap();
    assert!(method.method == Method::SiteToken && method.fell_from_certificate());
    assert!(method.refused[0].why.contains("expired at 2028-01-01"), "{}", method.refused[0].why);
    let status = Status::of(device.state(), &key_of(&device), device.now()).to_string();
    assert!(status.contains("Not used          certificate: none of the 1 certificates"), "{status}");
    let properties = site.site().properties.clone();
    let value = |name: &str| properties.iter().find(|p| p.name == name).map(|p| p.value.clone());
    assert_eq!(value(property::METHOD).as_deref(), Some("site-token"));
}

fn key_of(device: &Device) -> KeyMaterial {
    KeyMaterial {
        pkcs8: zeroize::Zeroizing::new(Vec::new()),
        certificate: device.identity().certificate().to_vec(),
    }
}

#[tokio::test]
async fn a_refused_certificate_is_noted_and_told_and_tried_again_later() {
    let clock = Clock::manual(NOW);
    let site = FakeSite::start(&clock);
    let store = tempfile::tempdir().unwrap();
    put(store.path(), &Pki::new("Root"), &Leaf::client("pc1"));
    let mut device = device(setup(&site), with_store(store.path()), &clock);
    device.register().await.unwrap();
    device.confirm().await.unwrap();
    site.site().mutual_auth = Some(Reason::CertificateRevoked);
    site.take_seen();
    device.policy().await.unwrap();
    let doors: Vec<_> = site.take_seen().into_iter().map(|seen| seen.door).collect();
    assert_eq!(doors[0], Some(Door::MutualAuth));
    assert!(doors[1..].iter().all(|door| *door == Some(Door::ServerAuth)), "it goes on by its site token");
    let refused = device.state().credentials.certificate_refused.clone().unwrap();
    assert!(!refused.signed && refused.text.contains("RG-1314") && refused.text.contains("nobody vouches"));

    assert!(device.refresh(Trigger::RegistrationRefresh).await.unwrap(), "the site is told");
    let method = device.state().method.clone().unwrap();
    assert!(method.method == Method::SiteToken && method.refused[0].why.contains("RG-1314"), "{method:?}");
    // Nobody signed that: it does not count for long.
    clock.advance(Duration::from_mins(31));
    site.site().mutual_auth = None;
    assert!(device.refresh(Trigger::RegistrationRefresh).await.unwrap());
    assert_eq!(device.method(), Method::Certificate);
}

#[tokio::test]
async fn an_answer_that_asks_for_a_token_moves_no_device_from_its_certificate() {
    let clock = Clock::manual(NOW);
    let site = FakeSite::start(&clock);
    let store = tempfile::tempdir().unwrap();
    put(store.path(), &Pki::new("Root"), &Leaf::client("pc1"));
    let mut device = device(setup(&site), with_store(store.path()), &clock);
    device.register().await.unwrap();
    device.confirm().await.unwrap();
    site.take_seen();
    for reason in [Reason::NoToken, Reason::TokenKeyMissing, Reason::TokenNotAccepted] {
        site.site().mutual_auth = Some(reason);
        let error = device.heartbeat().await.unwrap_err();
        assert_eq!(error.reason(), Some(reason));
        assert!(!device.refresh(Trigger::RegistrationRefresh).await.unwrap());
        assert_eq!(device.method(), Method::Certificate);
        assert!(site.take_seen().iter().all(|seen| seen.door == Some(Door::MutualAuth)), "{reason}");
    }
    assert!(device.state().credentials.certificate_refused.is_none());
}

#[tokio::test]
async fn several_certificates_without_a_choice_leave_the_device_to_its_token_and_say_so() {
    let clock = Clock::manual(NOW);
    let site = FakeSite::start(&clock);
    let store = tempfile::tempdir().unwrap();
    put(store.path(), &Pki::new("One"), &Leaf { serial: 1, ..Leaf::client("pc1") });
    put(store.path(), &Pki::new("Two"), &Leaf { serial: 2, ..Leaf::client("pc1") });
    let mut device = device(setup(&site), with_store(store.path()), &clock);
    bulk(&mut device, &clock);
    device.register().await.unwrap();
    device.confirm().await.unwrap();
    let method = device.state().method.clone().unwrap();
    assert!(
        method.method == Method::SiteToken && method.refused[0].why.contains("CCMFIRSTCERT"),
        "{method:?}"
    );
    let mut first = with_store(store.path());
    first.selection.first = true;
    device.state_mut().proof = first;
    assert!(device.refresh(Trigger::RegistrationRefresh).await.unwrap());
    assert_eq!(device.method(), Method::Certificate);
}

#[tokio::test]
async fn the_sites_preference_for_this_collection_counts_before_the_usual_order() {
    let clock = Clock::manual(NOW);
    let site = FakeSite::start(&clock);
    let store = tempfile::tempdir().unwrap();
    put(store.path(), &Pki::new("Root"), &Leaf::client("pc1"));
    let mut device = device(setup(&site), with_store(store.path()), &clock);
    device.register().await.unwrap();
    device.confirm().await.unwrap();
    device.state_mut().policy.settings.method_preference = vec![Method::SiteToken];
    assert!(device.refresh(Trigger::Policy).await.unwrap());
    let method = device.state().method.clone().unwrap();
    assert!(method.method == Method::SiteToken && method.reason.contains("prefers"), "{method:?}");
    site.take_seen();
    device.heartbeat().await.unwrap();
    assert!(site.take_seen().iter().all(|seen| seen.door == Some(Door::ServerAuth)));
}

#[tokio::test]
async fn a_joined_device_registers_by_its_tenant_and_a_gateway_names_the_app() {
    let clock = Clock::manual(NOW);
    let (site, join) = (FakeSite::start(&clock), tempfile::tempdir().unwrap());
    let tenant = Tenant::start(&clock, join.path());
    site.site().auth_info = Some(tenant.info.clone());
    let mut device = entra_device(&site, &tenant, joined(join.path()), &clock);
    device.register_as(Trigger::Setup).await.unwrap();
    device.confirm().await.unwrap();
    device.policy().await.unwrap();
    assert_eq!(device.method(), Method::EntraDevice);
    let credentials = &device.state().credentials;
    assert_eq!(credentials.entra_device.unwrap().to_string(), DEVICE);
    assert_eq!((credentials.join, credentials.finding), (Some(Join::Entra), Some(Finding::Entra)));
    let seen = site.take_seen();
    let sts = &seen[0];
    assert_eq!((sts.target.as_str(), sts.door), ("/CCM_STS", Some(Door::ServerAuth)));
    let claims = sts.entra.as_ref().unwrap();
    assert!(claims.user.is_none() && claims.device.is_some());
    assert_eq!(seen[1].token, Some(TokenClass::PreAuth), "registration with the token that came for it");
    assert_eq!(seen.last().unwrap().token, Some(TokenClass::Device));
    let properties = site.site().properties.clone();
    assert!(properties.iter().any(|p| p.name == property::JOIN && p.value == "entra"));

    // What the tenant gave stands in the state, and nobody can read it there.
    let state = serde_json::to_string(device.state()).unwrap();
    let token = tenant.control.counts().token;
    assert!(credentials.device_token.is_some() && token == 1 && !state.contains("eyJ0eXAi"), "{state}");
}

#[tokio::test]
async fn a_device_whose_tenant_is_switched_off_goes_on_by_its_self_prove_token() {
    let clock = Clock::manual(NOW);
    let (site, join) = (FakeSite::start(&clock), tempfile::tempdir().unwrap());
    let tenant = Tenant::start(&clock, join.path());
    site.site().auth_info = Some(tenant.info.clone());
    let mut device = entra_device(&site, &tenant, joined(join.path()), &clock);
    device.register_as(Trigger::Setup).await.unwrap();
    device.confirm().await.unwrap();
    device.policy().await.unwrap();
    let given = device.state().ccm.as_ref().unwrap().text.expose().to_owned();
    clock.advance(Duration::from_mins(5));
    site.site().tenant_off = Some(given.clone());
    site.take_seen();
    device.policy().await.unwrap();
    let proofs: Vec<_> = site.take_seen().into_iter().filter(|seen| seen.target == "/CCM_STS").collect();
    assert_eq!(proofs.last().unwrap().token, Some(TokenClass::SelfProve), "{proofs:?}");
    // The next request asks for nothing.
    device.policy().await.unwrap();
    assert!(site.take_seen().iter().all(|seen| seen.target != "/CCM_STS"));
}

#[tokio::test]
async fn the_fields_lines_about_a_tenant_stand_in_their_files_with_the_values_of_the_run() {
    let clock = Clock::manual(NOW);
    let (site, join) = (FakeSite::start(&clock), tempfile::tempdir().unwrap());
    let tenant = Tenant::start(&clock, join.path());
    site.site().auth_info = Some(tenant.info.clone());
    let logs = tempfile::tempdir().unwrap();
    let (guard, handle) = log_to(logs.path(), runtime::telemetry::Level::Default, &clock);
    let mut device = entra_device(&site, &tenant, joined(join.path()), &clock);
    device.register_as(Trigger::Setup).await.unwrap();
    // A second device, whose key the tenant does not know.
    let stranger = DeviceSeed::joined(DEVICE.parse().unwrap(), "PC1", b"another certificate");
    tenant.control.put_device(tenant.id, stranger).unwrap();
    let mut other = entra_device(&site, &tenant, joined(join.path()), &clock);
    other.register_as(Trigger::Setup).await.unwrap_err();
    drop(guard);
    drop(handle);
    let read = |name: &str| std::fs::read_to_string(logs.path().join(name)).unwrap();
    let gateway = site.gateway().authority().to_owned();
    let port = gateway.rsplit_once(':').unwrap().1.to_owned();
    let (client, resource) = (&tenant.info.client_app_id, &tenant.info.resource);
    let endpoint = format!("{}/oauth2/v2.0/token", tenant.authority.strip_suffix("/v2.0").unwrap());
    let asking = format!(
        "Getting AAD (device) token with: ClientId = {client}, ResourceUrl = {resource}, AccountId = {endpoint}"
    );
    for (file, line) in [
        ("ccmsetup.log", format!("Getting AAD info from CMG '{gateway}'")),
        (
            "ccmsetup.log",
            format!(
                "SMS CCM 5.0: Host=localhost, Path=/CCM_Proxy_ServerAuth/AADAuthInfo?TenantID={TENANT}, Port={port}, Protocol=https, CcmTokenAuth=0, Flags=0x1304, Options=0xe0"
            ),
        ),
        ("ccmsetup.log", format!("Created connection on port {port}")),
        ("ccmsetup.log", "Enabled SSL revocation check.".to_owned()),
        ("ccmsetup.log", asking.clone()),
        ("ccmsetup.log", "Failed to get AAD token..".to_owned()),
        ("ccmsetup.log", "Unknown error (Error: D0090016; Source: Unknown)".to_owned()),
        ("ccmsetup.log", "Failed to get AAD token for 'S-1-5-18' from WAM API. Error 0xd0090016".to_owned()),
        ("ccmsetup.log", "Falling back to get user".to_owned()),
        ("ADALOperationProvider.log", asking),
        ("ADALOperationProvider.log", format!("Retrieved AAD token for AAD device '{DEVICE}'")),
        ("ClientIDManagerStartup.log", "Registering client using AAD auth.".to_owned()),
        ("ClientIDManagerStartup.log", "Cached encrypted token for 'S-1-5-18'. Will expire at '".to_owned()),
    ] {
        assert!(read(file).contains(&line), "{file}: {line}");
    }
}

#[tokio::test]
async fn a_bulk_token_device_that_is_joined_later_moves_to_its_tenant_by_itself() {
    let clock = Clock::manual(NOW);
    let (site, join) = (FakeSite::start(&clock), tempfile::tempdir().unwrap());
    let tenant = Tenant::start(&clock, join.path());
    site.site().auth_info = Some(tenant.info.clone());
    let mut device = entra_device(&site, &tenant, ProofSetup::default(), &clock);
    bulk(&mut device, &clock);
    device.register().await.unwrap();
    device.confirm().await.unwrap();
    device.prove_with(&joined(join.path())).unwrap();
    clock.advance(Duration::from_hours(24 * 30));
    site.take_seen();
    assert!(device.refresh(Trigger::RegistrationRefresh).await.unwrap());
    assert_eq!((device.method(), device.client_id()), (Method::EntraDevice, Some(fixture_client_id())));
    assert!(site.take_seen()[0].entra.is_some());
    // An outage of the tenant strands nobody: the site's own token still shows who asks.
    clock.advance(Duration::from_hours(9));
    tenant.control.fail(stand_in::Part::Everything, stand_in::Fault::ServerError);
    device.confirm().await.unwrap();
    device.policy().await.unwrap();
    let proofs: Vec<_> = site.take_seen().into_iter().filter(|seen| seen.target == "/CCM_STS").collect();
    assert!(proofs.iter().all(|seen| seen.token == Some(TokenClass::SelfProve)), "{proofs:?}");
}

#[tokio::test]
async fn a_tenant_that_is_not_onboarded_stops_setup_and_asks_nobody_else() {
    let clock = Clock::manual(NOW);
    let (site, join) = (FakeSite::start(&clock), tempfile::tempdir().unwrap());
    let tenant = Tenant::start(&clock, join.path());
    let mut device = entra_device(&site, &tenant, joined(join.path()), &clock);
    let error = device.register_as(Trigger::Setup).await.unwrap_err();
    let RequestError::NoIdentity(why) = &error else { panic!("{error:?}") };
    assert!(why.contains("not onboarded") && why.contains(TENANT), "{why}");
    assert!(!tenant.was_asked() && site.take_seen().is_empty());
    // Another authority than the gateway's, named at setup, is the one that is asked.
    site.site().auth_info =
        Some(AuthInfo { authority: "https://evil.example".into(), ..tenant.info.clone() });
    device.state_mut().proof.authority = Some(tenant.authority.clone());
    device.register_as(Trigger::Setup).await.unwrap();
    assert!(tenant.was_asked());
}

#[tokio::test]
async fn without_a_workplace_certificate_no_token_request_leaves_the_device() {
    let clock = Clock::manual(NOW);
    let (site, join) = (FakeSite::start(&clock), tempfile::tempdir().unwrap());
    let tenant = Tenant::start(&clock, join.path());
    site.site().auth_info = Some(tenant.info.clone());
    let empty = tempfile::tempdir().unwrap();
    let fixture = |name: &str| {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/dsregcmd").join(format!("{name}.txt"))
    };
    for (folder, status) in [
        (empty.path(), Some("entra-joined")),
        (empty.path(), None),
        (join.path(), Some("no-workplace-certificate")),
        (join.path(), Some("device-object-missing")),
        (join.path(), Some("not-joined")),
        (join.path(), Some("key-unusable")),
    ] {
        let proof = ProofSetup { join_status: status.map(fixture), sign_in: true, ..joined(folder) };
        let mut device = entra_device(&site, &tenant, proof, &clock);
        device.prompt_with(Arc::new(|_| panic!("nobody is asked to sign in")));
        let error = device.register_as(Trigger::Setup).await.unwrap_err();
        assert!(matches!(error, RequestError::NoIdentity(_)), "{status:?}: {error:?}");
        assert!(!tenant.was_asked(), "{status:?}");
        let diagnosis = Diagnosis::of(&mut device);
        assert!(diagnosis.has_problems() || status == Some("not-joined"), "{diagnosis}");
    }
}

#[tokio::test]
async fn without_a_device_token_a_user_signs_in_and_without_that_setup_stops() {
    let clock = Clock::manual(NOW);
    let (site, join) = (FakeSite::start(&clock), tempfile::tempdir().unwrap());
    let tenant = Tenant::start(&clock, join.path());
    site.site().auth_info = Some(tenant.info.clone());
    // The tenant knows another key of this device.
    let stranger = DeviceSeed::joined(DEVICE.parse().unwrap(), "PC1", b"another certificate");
    tenant.control.put_device(tenant.id, stranger).unwrap();
    let mut device = entra_device(&site, &tenant, joined(join.path()), &clock);
    let error = device.register_as(Trigger::Setup).await.unwrap_err();
    let RequestError::NoIdentity(why) = &error else { panic!("{error:?}") };
    assert!(why.contains("Entra device: ") && why.contains("Entra user: no user has signed in"), "{why}");

    // Somebody is there: the user's token carries the registration, and says which user it is.
    let pem = std::fs::read(join.path().join("join.pem")).unwrap();
    let der = CertificateDer::from_pem_slice(&pem).unwrap();
    let known = DeviceSeed::joined(DEVICE.parse().unwrap(), "PC1", &der);
    tenant.control.put_device(tenant.id, known).unwrap();
    device.state_mut().proof.sign_in = true;
    let (control, id) = (tenant.control.clone(), tenant.id);
    device.prompt_with(Arc::new(move |prompt: &Prompt| {
        assert!(prompt.address.starts_with("https://"));
        control.approve(id, &prompt.code, "anna@contoso.com").unwrap();
    }));
    let sid = device.sign_in().await.unwrap();
    assert_eq!(sid, crate::credential::entra::sid_of(USER.parse().unwrap()));
    let account = device.state().credentials.accounts.get(&sid).unwrap();
    assert_eq!(account.name, "anna@contoso.com");
    assert!(account.refresh.is_some());
    device.state_mut().policy.settings.method_preference = vec![Method::EntraUser];
    device.register_as(Trigger::Setup).await.unwrap();
    assert_eq!(device.method(), Method::EntraUser);
    let claims = site.take_seen()[0].entra.clone().unwrap();
    assert_eq!(claims.user.unwrap().to_string(), USER);
    assert_eq!(claims.device.unwrap().to_string(), DEVICE, "and on which device");
}

#[tokio::test]
async fn user_policy_goes_with_the_users_own_token_and_a_refusal_keeps_its_reason() {
    let clock = Clock::manual(NOW);
    let (site, join) = (FakeSite::start(&clock), tempfile::tempdir().unwrap());
    let tenant = Tenant::start(&clock, join.path());
    site.site().auth_info = Some(tenant.info.clone());
    let mut device = entra_device(&site, &tenant, joined(join.path()), &clock);
    device.register().await.unwrap();
    device.confirm().await.unwrap();
    let (control, id) = (tenant.control.clone(), tenant.id);
    device.prompt_with(Arc::new(move |prompt: &Prompt| {
        control.approve(id, &prompt.code, "anna@contoso.com").unwrap();
    }));
    let sid = device.sign_in().await.unwrap();
    site.site().policies = vec![PolicyFixture::public("1.00")];
    site.site().serial = 4;
    site.take_seen();
    let policy = device.user_policy(&sid).await.unwrap();
    assert_eq!((policy.serial, policy.applied.len()), (4, 1));
    assert_eq!(device.state().policy.serial, 0, "apart from the device's");
    let seen = site.take_seen();
    assert!(seen[0].entra.as_ref().unwrap().user.is_some());
    assert!(seen[1..].iter().all(|seen| seen.token == Some(TokenClass::User)), "{seen:?}");
    // Renewed by the refresh token, cached under the account.
    clock.advance(Duration::from_hours(9));
    device.user_policy(&sid).await.unwrap();

    // Another user's list, or the device's own, is none of this user's.
    let anna = site.site().user.take();
    for other in [None, Some(Guid::nil())] {
        site.site().user = other;
        let error = device.user_policy(&sid).await.unwrap_err();
        let told = device.state().credentials.accounts.get(&sid).unwrap().policy.refused.clone().unwrap();
        assert!(told.contains("was not asked for"), "{error:?}: {told}");
    }
    site.site().user = anna;

    site.site().user_policy_refused = Some(Reason::UserPolicyNotForMethod);
    device.user_policy(&sid).await.unwrap_err();
    let account = device.state().credentials.accounts.get(&sid).unwrap();
    assert!(account.policy.refused.as_ref().unwrap().contains("RG-3203"), "{account:?}");
    assert_eq!(account.policy.applied.len(), 1, "what was in force stays");
    assert_eq!(device.sign_out("ANNA@contoso.com").unwrap().as_deref(), Some(sid.as_str()));
    assert!(device.state().credentials.accounts.is_empty());
}

#[cfg(unix)]
#[tokio::test]
async fn any_program_that_prints_a_token_is_a_source() {
    let clock = Clock::manual(NOW);
    let (site, join) = (FakeSite::start(&clock), tempfile::tempdir().unwrap());
    let tenant = Tenant::start(&clock, join.path());
    site.site().auth_info = Some(tenant.info.clone());
    let seed = DeviceSeed::joined(DEVICE.parse().unwrap(), "PC1", b"");
    let token = tenant.control.device_token(tenant.id, &seed).unwrap();
    let file = join.path().join("token.json");
    private_file::write(&file, format!(r#"{{"access_token":"{token}","expires_in":3600}}"#)).unwrap();
    let command = vec!["/bin/cat".to_owned(), file.display().to_string()];
    let proof =
        ProofSetup { device_token_command: command, tenant: Some(tenant.id), ..ProofSetup::default() };
    let mut device = entra_device(&site, &tenant, proof, &clock);
    device.register_as(Trigger::Setup).await.unwrap();
    assert_eq!(device.method(), Method::EntraDevice);
    // An app's own token is no device's.
    let app = tenant.control.app_token(tenant.id).unwrap();
    private_file::write(&file, format!(r#"{{"access_token":"{app}","expires_in":3600}}"#)).unwrap();
    let proof = ProofSetup { tenant: Some(tenant.id), ..device.state().proof.clone() };
    let mut other = entra_device(&site, &tenant, proof, &clock);
    let error = other.register_as(Trigger::Setup).await.unwrap_err();
    assert!(matches!(&error, RequestError::NoIdentity(why) if why.contains("which device")), "{error:?}");
}

#[tokio::test]
async fn a_device_whose_self_prove_token_has_ended_comes_back_by_its_key() {
    let clock = Clock::manual(NOW);
    let site = FakeSite::start(&clock);
    let mut device = device(setup(&site), ProofSetup::default(), &clock);
    bulk(&mut device, &clock);
    device.register().await.unwrap();
    device.confirm().await.unwrap();
    // The token on the command line was never kept.
    device.bulk = None;
    site.take_seen();
    clock.advance(Duration::from_hours(24 * 120));
    device.policy().await.unwrap();
    let seen: Vec<_> = site.take_seen().into_iter().map(|seen| (seen.target, seen.token)).collect();
    let request = "/ccm_system_tokenauth/request".to_owned();
    assert_eq!(
        seen[..4],
        [
            ("/CCM_STS".to_owned(), Some(TokenClass::SelfProve)),
            (request.clone(), Some(TokenClass::PreAuth)),
            ("/CCM_STS".to_owned(), Some(TokenClass::SelfProve)),
            (request, Some(TokenClass::Device)),
        ]
    );
    assert!(device.state().self_prove.as_ref().unwrap().expires > device.now());
    assert_eq!(device.client_id(), Some(fixture_client_id()));
}

#[tokio::test]
async fn a_wrong_clock_is_corrected_by_signed_answers_and_told() {
    let (site_clock, slow) = (Clock::manual(NOW), Clock::manual(NOW - 9 * 60_000_000));
    let site = FakeSite::start(&site_clock);
    let mut device = device(setup(&site), ProofSetup::default(), &slow);
    bulk(&mut device, &site_clock);
    device.register().await.unwrap();
    device.confirm().await.unwrap();
    assert_eq!(device.now().seconds(), site_clock.now_seconds());
    assert_eq!(device.state().credentials.clock_offset / 60_000_000, 9);
    let status = Status::of(device.state(), &key_of(&device), device.now()).to_string();
    assert!(status.contains("this device's clock is 9 minutes slow"), "{status}");
    // Somebody on the way cannot set it.
    site.site().fault = crate::testing::Fault::OtherSite;
    site_clock.advance(Duration::from_hours(24 * 365));
    device.heartbeat().await.unwrap_err();
    assert_eq!(device.state().credentials.clock_offset / 60_000_000, 9);
    site.site().fault = crate::testing::Fault::None;
    // Set right again: the offset goes.
    site_clock.set(NOW);
    slow.set(NOW);
    device.heartbeat().await.unwrap();
    assert_eq!(device.state().credentials.clock_offset / 60_000_000, 0);
}

/// A distribution point that serves one list, or nothing.
fn distribution_point(list: Arc<std::sync::Mutex<Option<Vec<u8>>>>) -> String {
    use http_body_util::Full;
    use hyper::service::service_fn;
    use hyper::{Request, Response};
    let listener = runtime::listen::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(runtime::listen::serve_plain(
        listener,
        runtime::listen::AcceptOptions::new(10),
        Drain::new(),
        move |stream, _| {
            let list = Arc::clone(&list);
            async move {
                let service = service_fn(move |_: Request<hyper::body::Incoming>| {
                    let list = list.lock().unwrap().clone();
                    async move {
                        let mut answer =
                            Response::new(Full::new(bytes::Bytes::from(list.clone().unwrap_or_default())));
                        if list.is_none() {
                            *answer.status_mut() = hyper::StatusCode::NOT_FOUND;
                        }
                        Ok::<_, std::convert::Infallible>(answer)
                    }
                });
                let _ = runtime::http::serve(
                    stream,
                    &runtime::http::HttpOptions::default(),
                    &Drain::new(),
                    service,
                )
                .await;
            }
        },
    ));
    format!("http://127.0.0.1:{}/issuing.crl", address.port())
}

#[tokio::test]
async fn a_gateways_certificate_is_checked_for_revocation_before_anything_is_sent() {
    let clock = Clock::manual(NOW);
    let pki = Pki::new("Gateway Root");
    for (revoked, expected) in [(&[][..], true), (&[7][..], false)] {
        let list = Arc::new(std::sync::Mutex::new(Some(pki.crl(revoked, 1))));
        let address = distribution_point(list);
        let site = FakeSite::start_with(&clock, pki.root_pem(), gateway_with_list(&pki, &address));
        let mut device = device(setup(&site), ProofSetup::default(), &clock);
        bulk(&mut device, &clock);
        let result = device.register().await;
        if expected {
            result.unwrap();
            assert!(device.state().credentials.unchecked_servers.is_empty());
        } else {
            let error = result.unwrap_err();
            let Some(CallError::Tls { fault, .. }) = error.call() else { panic!("{error:?}") };
            assert_eq!(*fault, TlsFault::Revoked);
            assert!(site.take_seen().is_empty());
        }
    }
}

#[tokio::test]
async fn a_list_that_cannot_be_had_is_a_warning_or_an_end_as_the_site_settled() {
    let clock = Clock::manual(NOW);
    let pki = Pki::new("Gateway Root");
    let list = Arc::new(std::sync::Mutex::new(None));
    let address = distribution_point(Arc::clone(&list));
    let site = FakeSite::start_with(&clock, pki.root_pem(), gateway_with_list(&pki, &address));
    let mut device = device(setup(&site), ProofSetup { no_crl_check: true, ..ProofSetup::default() }, &clock);
    bulk(&mut device, &clock);
    device.register().await.unwrap();
    device.confirm().await.unwrap();
    assert_eq!(device.revocation_check(), CrlCheck::Off);
    assert!(device.state().credentials.unchecked_servers.is_empty());

    // The first settings end the bootstrap; the device does not fall silent.
    device.state_mut().policy.settings.version = Some("1.00".into());
    let reopened = |device: &Device| {
        let options = DeviceOptions {
            state: device.state().clone(),
            key: KeyMaterial {
                pkcs8: zeroize::Zeroizing::new(device.identity().pkcs8().to_vec()),
                certificate: device.identity().certificate().to_vec(),
            },
            store: Arc::new(MemoryStore::default()),
            clock: clock.clone(),
            system_roots: false,
        };
        Device::new(options).unwrap()
    };
    let mut soft = reopened(&device);
    soft.heartbeat().await.unwrap();
    let warning = soft.state().credentials.unchecked_servers[0].clone();
    assert!(warning.host == "localhost" && warning.text.contains("404"), "{warning:?}");
    let report = site.site().reports.pop().unwrap();
    let ours = report.instance("Roamgate_Client").unwrap();
    assert_eq!(ours.value("ServerRevocationCheck"), Some("soft"));

    device.state_mut().policy.settings.revocation_check = Some(CrlCheck::Hard);
    let mut hard = reopened(&device);
    let error = hard.policy().await.unwrap_err();
    let PolicyError::Request(told) = &error else { panic!("{error:?}") };
    let Some(CallError::Tls { fault, .. }) = told.call() else { panic!("{told:?}") };
    assert_eq!(*fault, TlsFault::RevocationUnknown);
    *list.lock().unwrap() = Some(pki.crl(&[], 2));
    clock.advance(Duration::from_mins(31));
    hard.policy().await.unwrap();
    assert_eq!(hard.state().registration.unwrap().approval, Approval::Approved);
}
