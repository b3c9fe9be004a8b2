//! Users who sign in.

use proto::reason::Reason;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::*;
use crate::testing::PolicyFixture;

#[tokio::test]
async fn without_a_device_token_a_user_signs_in_and_without_that_setup_stops() {
    let clock = Clock::manual(NOW);
    let (site, join, tenant) = onboarded(&clock);
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
    let (site, join, tenant) = onboarded(&clock);
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
