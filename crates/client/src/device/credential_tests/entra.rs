//! The identity of a joined device in its tenant.

use proto::combination::Join;
use proto::path::Door;

use super::*;
use crate::doctor::Diagnosis;
use crate::join::Finding;
use crate::registration::property;
use crate::testing::log_to;

#[tokio::test]
async fn a_joined_device_registers_by_its_tenant_and_a_gateway_names_the_app() {
    let clock = Clock::manual(NOW);
    let (site, join, tenant) = onboarded(&clock);
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
    let (site, join, tenant) = onboarded(&clock);
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
    let (site, join, tenant) = onboarded(&clock);
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
    let (site, join, tenant) = onboarded(&clock);
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
    let (site, join, tenant) = onboarded(&clock);
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

#[cfg(unix)]
#[tokio::test]
async fn any_program_that_prints_a_token_is_a_source() {
    let clock = Clock::manual(NOW);
    let (site, join, tenant) = onboarded(&clock);
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
