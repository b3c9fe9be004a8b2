//! Certificates of a PKI: chosen, refused, and gone.

use proto::path::Door;
use proto::reason::Reason;

use super::*;
use crate::registration::property;
use crate::status::Status;
use crate::testing::PolicyFixture;

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

#[tokio::test]
async fn a_refused_certificate_is_noted_and_told_and_tried_again_later() {
    let clock = Clock::manual(NOW);
    let (site, _store, mut device) = certified(&clock).await;
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
    let (site, _store, mut device) = certified(&clock).await;
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
    let (site, _store, mut device) = certified(&clock).await;
    device.state_mut().policy.settings.method_preference = vec![Method::SiteToken];
    assert!(device.refresh(Trigger::Policy).await.unwrap());
    let method = device.state().method.clone().unwrap();
    assert!(method.method == Method::SiteToken && method.reason.contains("prefers"), "{method:?}");
    site.take_seen();
    device.heartbeat().await.unwrap();
    assert!(site.take_seen().iter().all(|seen| seen.door == Some(Door::ServerAuth)));
}
