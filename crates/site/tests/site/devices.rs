use std::time::Duration;

use proto::id::Guid;
use proto::identity::Blocked as _;
use proto::reason::Reason;
use proto::token::TokenClass;
use site::{CcmSubject, ConfirmError, DeviceError, DeviceFilter, Evidence, SeenVia};

use crate::support::{TestSite, anna, device, key_of, now};

const DAY: u64 = 86_400;

fn inside() -> Evidence {
    Evidence::Network { source: "10.1.2.3".parse().unwrap() }
}

async fn registered(test: &TestSite, number: u32) -> proto::id::ClientId {
    test.site.register_client(None, device(number), inside()).await.unwrap().client_id
}

#[tokio::test]
async fn a_confirmation_gives_a_self_prove_token_and_renewal_ends_none() {
    let test = TestSite::new().await;
    let id = registered(&test, 1).await;
    let first = test.site.confirm_registration(None, id, "0.1.0", true).await.unwrap();
    assert_eq!(first.approval_status, 1);
    let token = test.site.token_keys().verify(&first.token).unwrap();
    assert_eq!(
        (token.class, token.device, token.confirmation),
        (TokenClass::SelfProve, Some(id), Some(key_of(1)))
    );
    assert_eq!(token.expires.since(now(&test)), Duration::from_secs(90 * DAY));
    test.advance(30 * DAY);
    let second = test.site.confirm_registration(None, id, "0.2.0", true).await.unwrap();
    assert_ne!(first.token, second.token);
    assert!(test.site.token_keys().verify(&first.token).unwrap().check_time(now(&test)).is_ok());
    assert_eq!(test.site.find_device(id).await.unwrap().unwrap().client_version, "0.2.0");
}

#[tokio::test]
async fn a_held_device_is_told_so_and_keeps_the_means_to_come_back() {
    let test = TestSite::new().await;
    let id = test.site.register_client(None, device(1), Evidence::None).await.unwrap().client_id;
    let held = test.site.confirm_registration(None, id, "", true).await.unwrap();
    assert_eq!(held.approval_status, -1);
    assert!(test.site.token_keys().verify(&held.token).is_ok());
    test.site.approve_device(&anna(), id).await.unwrap();
    assert_eq!(test.site.confirm_registration(None, id, "", true).await.unwrap().approval_status, 1);
}

#[tokio::test]
async fn a_device_comes_back_by_its_key_within_the_window_and_after_it_by_an_operator() {
    let test = TestSite::new().await;
    let id = registered(&test, 1).await;
    test.site.confirm_registration(None, id, "", true).await.unwrap();
    let early = test.site.readmit_device(&anna(), id).await.unwrap_err();
    assert!(matches!(early, DeviceError::NoReadmission { .. }), "it may come back by itself");
    let healthy = test.site.settle_conflict(&anna(), id).await.unwrap_err();
    assert!(matches!(healthy, DeviceError::NothingToSettle(_)), "nothing is marked");
    test.advance((90 + 179) * DAY);
    test.site.confirm_registration(None, id, "", true).await.unwrap();
    test.advance((90 + 180) * DAY);
    let late = test.site.confirm_registration(None, id, "", true).await.unwrap_err();
    assert!(matches!(late, ConfirmError::TooLate { .. }));
    test.site.readmit_device(&anna(), id).await.unwrap();
    assert!(test.site.confirm_registration(None, id, "", true).await.is_ok());
}

#[tokio::test]
async fn a_device_token_needs_the_registered_key_and_a_device_that_is_not_blocked() {
    let test = TestSite::new().await;
    let id = registered(&test, 1).await;
    let ask = |key| test.site.issue_ccm_token(CcmSubject::Device { device: id, key });
    let given = ask(key_of(1)).await.unwrap();
    assert_eq!(given.expires_in, Duration::from_hours(8));
    let token = test.site.token_keys().verify(&given.text).unwrap();
    assert_eq!(
        (token.class, token.device, token.confirmation),
        (TokenClass::Device, Some(id), Some(key_of(1)))
    );
    assert_eq!(ask(key_of(2)).await.unwrap_err().reason(), Reason::StsTokenNotAccepted);
    test.site.block_device(&anna(), id, "").await.unwrap();
    assert_eq!(ask(key_of(1)).await.unwrap_err().reason(), Reason::StsDeviceBlocked);
    let confirm = test.site.confirm_registration(None, id, "", true).await.unwrap_err();
    assert_eq!(confirm.reason(), Reason::Blocked);
}

#[tokio::test]
async fn a_block_is_published_and_a_blocked_record_cannot_be_deleted_away() {
    let test = TestSite::new().await;
    let id = registered(&test, 1).await;
    test.site.block_device(&anna(), id, "stolen").await.unwrap();
    let snapshot = test.site.current_snapshot();
    assert!(snapshot.is_device_blocked(id) && snapshot.blocked_certificates.contains(&key_of(1)));
    assert!(matches!(test.site.delete_device(&anna(), id).await, Err(DeviceError::Blocked(_))));
    test.site.unblock_device(&anna(), id).await.unwrap();
    assert!(!test.site.current_snapshot().is_device_blocked(id));
    test.site.delete_device(&anna(), id).await.unwrap();
    assert!(test.site.find_device(id).await.unwrap().is_none());
    let gone = test.site.issue_ccm_token(CcmSubject::Device { device: id, key: key_of(1) }).await;
    assert_eq!(gone.unwrap_err().reason(), Reason::StsUnknownDevice);
}

#[tokio::test]
async fn a_contact_shows_at_once_and_outlives_a_restart() {
    let test = TestSite::new().await;
    let id = registered(&test, 1).await;
    test.advance(3 * 3600);
    assert!(!test.site.find_device(id).await.unwrap().unwrap().online, "two polls have passed");
    test.site.record_seen(id, SeenVia::Intranet);
    let seen_at = now(&test);
    let device = test.site.find_device(id).await.unwrap().unwrap();
    assert!(device.online && device.last_seen_at == seen_at && device.last_seen_via == SeenVia::Intranet);
    let test = test.restart().await;
    assert_eq!(test.site.find_device(id).await.unwrap().unwrap().last_seen_at, seen_at);
    test.site.block_device(&anna(), id, "").await.unwrap();
    assert!(!test.site.find_device(id).await.unwrap().unwrap().online);
}

#[tokio::test]
async fn a_message_id_is_taken_once_also_across_a_restart_and_forgotten_when_it_is_too_old() {
    let test = TestSite::new().await;
    let (id, other) = (registered(&test, 1).await, registered(&test, 2).await);
    let message = Guid::from_bytes([3; 16]);
    assert!(test.site.take_message(id, message).await.unwrap());
    assert!(!test.site.take_message(id, message).await.unwrap());
    assert!(test.site.take_message(other, message).await.unwrap(), "each device has its own");
    let test = test.restart().await;
    assert!(!test.site.take_message(id, message).await.unwrap());
    // The limit of clock skew is an hour to either side.
    test.advance(2 * 3600 - 1);
    test.site.upkeep().await.unwrap();
    assert!(!test.site.take_message(id, message).await.unwrap());
    test.advance(2);
    test.site.upkeep().await.unwrap();
    assert!(test.site.take_message(id, message).await.unwrap(), "its signature is too old by now");
}

#[tokio::test]
async fn devices_are_listed_by_name_and_state_page_by_page() {
    let test = TestSite::new().await;
    for number in 0..5 {
        registered(&test, number).await;
    }
    let held = test.site.register_client(None, device(77), Evidence::None).await.unwrap().client_id;
    let list = |filter: DeviceFilter| test.site.list_devices(filter);
    let all = DeviceFilter::default;
    assert_eq!(list(DeviceFilter { name: Some("pc7".into()), ..all() }).await.unwrap().len(), 1);
    let waiting = list(DeviceFilter { approval: Some(site::Approval::Held), ..all() }).await.unwrap();
    assert_eq!(waiting.iter().map(|device| device.id).collect::<Vec<_>>(), [held]);
    let first = list(DeviceFilter { limit: 4, ..all() }).await.unwrap();
    let rest = list(DeviceFilter { after: Some(first[3].id), limit: 4, ..all() }).await.unwrap();
    assert_eq!((first.len(), rest.len()), (4, 2));
    test.site.block_device(&anna(), held, "").await.unwrap();
    assert_eq!(list(DeviceFilter { blocked: Some(true), ..all() }).await.unwrap().len(), 1);
    assert_eq!(list(DeviceFilter { blocked: Some(false), ..all() }).await.unwrap().len(), 5);
}
