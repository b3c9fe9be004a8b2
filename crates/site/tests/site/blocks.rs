//! Blocking: by key, by hardware, by every certificate and by the tenant's device.

use proto::id::ClientId;
use proto::identity::Blocked as _;
use proto::reason::Reason;
use site::{Credentials, Evidence, NewRegistration, RegistrationError};

use crate::methods::origin;
use crate::support::{TestSite, anna, certificate, device, key_of};

fn with(number: u32, credentials: Credentials) -> NewRegistration {
    NewRegistration { credentials, ..device(number) }
}

fn pki(number: u32) -> Credentials {
    Credentials { pki: Some(certificate(number)), ..Credentials::default() }
}

async fn register(test: &TestSite, new: NewRegistration) -> Result<ClientId, RegistrationError> {
    test.site.register_client(None, new, Evidence::None).await.map(|registered| registered.client_id)
}

#[tokio::test]
async fn a_block_names_every_certificate_of_the_device_and_outlives_a_restart() {
    let test = TestSite::new().await;
    let id = register(&test, with(1, pki(1))).await.unwrap();
    register(&test, with(1, pki(2))).await.unwrap();
    let before = test.site.current_snapshot().version;
    let version = test.site.block_device(&anna(), id, "stolen").await.unwrap();
    let certificates = [key_of(1), certificate(1).thumbprint, certificate(2).thumbprint];
    let published = test.site.current_snapshot();
    assert_eq!((published.version, version), (before + 3, before + 3), "one change a certificate");
    assert!(certificates.iter().all(|certificate| published.blocked_certificates.contains(certificate)));
    assert_eq!(test.site.block_device(&anna(), id, "again").await.unwrap(), version, "nothing new to say");

    let test = test.restart().await;
    let again = test.site.current_snapshot();
    assert!(again.is_device_blocked(id));
    assert_eq!(again.blocked_certificates, published.blocked_certificates);
    let later = test.site.unblock_device(&anna(), id).await.unwrap();
    assert!(later > version);
    let free = test.site.current_snapshot();
    assert!(!free.is_device_blocked(id) && free.blocked_certificates.is_empty());
}

#[tokio::test]
async fn nothing_of_a_blocked_device_comes_back_under_another_key() {
    let test = TestSite::new().await;
    let both = Credentials { entra: Some(origin(1)), ..pki(1) };
    let id = register(&test, with(1, both)).await.unwrap();
    register(&test, with(1, pki(2))).await.unwrap();
    let honest = register(&test, device(5)).await.unwrap();
    test.site.block_device(&anna(), id, "").await.unwrap();
    let entra = Credentials { entra: Some(origin(1)), ..Credentials::default() };
    // The older certificate, too; and a device that is known does not turn into the blocked one.
    for number in [2, 5] {
        for credentials in [pki(1), pki(2), entra.clone()] {
            let refused = register(&test, with(number, credentials)).await.unwrap_err();
            assert_eq!(refused.reason(), Reason::HardwareBlocked, "{refused}");
        }
    }
    assert!(test.site.find_device(honest).await.unwrap().unwrap().pki.is_none());
    test.site.unblock_device(&anna(), id).await.unwrap();
    assert!(register(&test, with(2, entra)).await.is_ok());
}

#[tokio::test]
async fn certificates_that_have_ended_need_no_block() {
    let test = TestSite::new().await;
    let id = register(&test, with(1, pki(1))).await.unwrap();
    test.advance(400 * 86_400);
    let mut fresh = certificate(2);
    fresh.not_after = test.site.now().plus(std::time::Duration::from_hours(24));
    register(&test, with(1, Credentials { pki: Some(fresh.clone()), ..Credentials::default() }))
        .await
        .unwrap();
    test.site.block_device(&anna(), id, "").await.unwrap();
    let blocked = test.site.current_snapshot().blocked_certificates.clone();
    assert_eq!(blocked, [key_of(1), fresh.thumbprint].into());
}
