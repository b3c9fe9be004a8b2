//! How a device proves itself, and how that changes without a new id.

use std::collections::BTreeMap;

use proto::id::{ClientId, Guid};
use proto::identity::Method;
use proto::reason::Reason;
use proto::token::EntraOrigin;
use site::{Approval, Credentials, Device, Evidence, NewClientSettings, NewRegistration, Registration, Site};

use crate::support::{TestSite, anna, certificate, device, now};

const DAY: u64 = 86_400;

pub(crate) fn origin(device: u8) -> EntraOrigin {
    let guid = |byte| Guid::from_bytes([byte; 16]);
    EntraOrigin { tenant: guid(200), device: Some(guid(device)), user: None }
}

fn with(number: u32, credentials: Credentials) -> NewRegistration {
    NewRegistration { credentials, ..device(number) }
}

fn pki(number: u32) -> Credentials {
    Credentials { pki: Some(certificate(number)), ..Credentials::default() }
}

fn entra(device: u8) -> Credentials {
    Credentials { entra: Some(origin(device)), ..Credentials::default() }
}

async fn register(site: &Site, new: NewRegistration) -> Registration {
    site.register_client(None, new, Evidence::None).await.unwrap()
}

async fn record(site: &Site, id: ClientId) -> Device {
    site.find_device(id).await.unwrap().unwrap()
}

async fn acts(site: &Site, id: ClientId) -> Vec<String> {
    let rows = site.list_audit(None, 1000).await.unwrap();
    rows.into_iter().rev().filter(|row| row.object == id.to_string()).map(|row| row.act).collect()
}

#[tokio::test]
async fn a_device_goes_up_by_itself_and_keeps_its_id_and_history() {
    let test = TestSite::new().await;
    let id = register(&test.site, device(1)).await.client_id;
    let first = record(&test.site, id).await;
    assert_eq!((first.method, first.method_since), (Method::SiteToken, now(&test)));
    assert_eq!(first.method_reason, "it registered with a bulk registration token");
    assert_eq!(first.methods_refused.len(), 3);

    test.advance(30 * DAY);
    let up = register(&test.site, with(1, entra(7))).await;
    assert_eq!(
        (up.client_id, up.method, up.method_before),
        (id, Method::EntraDevice, Some(Method::SiteToken))
    );
    let joined = now(&test);
    test.advance(DAY);
    let again = register(&test.site, with(1, entra(7))).await;
    assert_eq!(again.method_before, None);
    let entra_device = record(&test.site, id).await;
    assert_eq!(entra_device.method_since, joined, "kept while nothing changes");
    assert_eq!(entra_device.entra.unwrap().device, origin(7).device);

    test.advance(30 * DAY);
    let both = Credentials { entra: Some(origin(7)), ..pki(1) };
    assert_eq!(register(&test.site, with(1, both)).await.method, Method::Certificate);
    let top = record(&test.site, id).await;
    assert!(top.methods_refused.is_empty() && top.method_reason.contains("CN=PC1"), "{top:?}");
    assert_eq!(top.pki.unwrap().thumbprint, certificate(1).thumbprint);
    assert_eq!(acts(&test.site, id).await.iter().filter(|act| *act == "device.method").count(), 2);
    assert_eq!(test.site.list_devices(site::DeviceFilter::default()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_fall_from_the_certificate_is_never_silent() {
    let test = TestSite::new().await;
    let id = register(&test.site, with(1, pki(1))).await.client_id;
    test.advance(DAY);
    let why = vec![(Method::Certificate, "CN=PC1 was revoked".to_owned())];
    let fallen = NewRegistration { refused: why, ..device(1) };
    assert_eq!(register(&test.site, fallen).await.method_before, Some(Method::Certificate));
    let device = record(&test.site, id).await;
    assert_eq!((device.method, device.fell_back_at), (Method::SiteToken, Some(now(&test))));
    assert_eq!(device.methods_refused[0].reason, "CN=PC1 was revoked");
    assert!(device.pki.is_some(), "what it had is still known");
    let row = test.site.list_audit(None, 1).await.unwrap().remove(0);
    assert_eq!((row.act.as_str(), row.detail.contains("\"fell-back\":true")), ("device.method", true));
    let alarms = test.site.list_alarms().await.unwrap();
    assert!(alarms.iter().any(|alarm| alarm.kind == "device" && alarm.text.contains("PC1")), "{alarms:?}");

    // Another step down is the same fall; the certificate ends it.
    test.advance(DAY);
    register(&test.site, with(1, entra(7))).await;
    assert_eq!(record(&test.site, id).await.fell_back_at, device.fell_back_at);
    register(&test.site, with(1, pki(2))).await;
    assert_eq!(record(&test.site, id).await.fell_back_at, None);
    assert!(test.site.list_fallen_back().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_collection_may_prefer_the_site_token_and_the_record_says_who() {
    let test = TestSite::new().await;
    let id = register(&test.site, with(1, pki(1))).await.client_id;
    test.site.add_collection(&anna(), "Kiosks", vec![id]).await.unwrap();
    let prefer = NewClientSettings {
        name: "Kiosk settings".to_owned(),
        values: BTreeMap::from([("MethodPreference".to_owned(), "site-token".to_owned())]),
        collections: vec!["kiosks".to_owned()],
        ..NewClientSettings::default()
    };
    test.site.add_client_settings(&anna(), prefer).await.unwrap();
    assert_eq!(register(&test.site, with(1, pki(1))).await.method, Method::SiteToken);
    let device = record(&test.site, id).await;
    assert_eq!(device.fell_back_at, None, "an operator asked for it");
    assert!(device.method_reason.contains("Kiosk settings"), "{}", device.method_reason);
    assert!(device.methods_refused.iter().any(|refused| refused.reason.contains("Kiosk settings")));
    test.site.remove_client_settings(&anna(), "kiosk SETTINGS").await.unwrap();
    assert_eq!(register(&test.site, with(1, pki(1))).await.method, Method::Certificate);
}

#[tokio::test]
async fn evidence_approves_by_its_rule_and_entra_is_told_apart_on_the_wire() {
    let test = TestSite::new().await;
    let by_entra = register(&test.site, with(1, entra(1))).await;
    assert_eq!((by_entra.approval, by_entra.approval_status), (Approval::Approved, 3));
    assert!(by_entra.approval_by.starts_with("entra "), "{}", by_entra.approval_by);
    let confirmed = test.site.confirm_registration(None, by_entra.client_id, "", true).await.unwrap();
    assert_eq!(confirmed.approval_status, 3);
    let by_pki = register(&test.site, with(2, pki(2))).await;
    assert_eq!((by_pki.approval_by.as_str(), by_pki.approval_status), ("pki", 1));

    // Approved by a network first, and by Entra from the day that it joins.
    let inside = Evidence::Network { source: "10.1.2.3".parse().unwrap() };
    let third = test.site.register_client(None, device(3), inside).await.unwrap();
    assert_eq!(third.approval_status, 1);
    assert_eq!(register(&test.site, with(3, entra(3))).await.approval_status, 3);
    assert_eq!(register(&test.site, device(3)).await.approval_status, 3, "approval is not the method");

    // What an operator took back, no method gives again.
    test.site.withdraw_approval(&anna(), by_entra.client_id).await.unwrap();
    assert_eq!(register(&test.site, with(1, entra(1))).await.approval_status, -1);
    assert_eq!(register(&test.site, device(9)).await.approval_status, -1);
}

#[tokio::test]
async fn a_key_is_bound_to_one_device_of_a_tenant() {
    let test = TestSite::new().await;
    let id = register(&test.site, with(1, entra(1))).await.client_id;
    let other = test.site.register_client(None, with(1, entra(2)), Evidence::None).await.unwrap_err();
    assert_eq!(other.reason(), Reason::StsOtherEntraDevice);
    assert_eq!(record(&test.site, id).await.entra.unwrap().device, origin(1).device);
    // A user's token that names no device leaves the binding.
    let user = EntraOrigin { device: None, user: Some(Guid::from_bytes([9; 16])), ..origin(1) };
    let by_user = Credentials { entra: Some(user), ..Credentials::default() };
    assert_eq!(register(&test.site, with(1, by_user)).await.method, Method::EntraUser);
    let bound = record(&test.site, id).await.entra.unwrap();
    assert_eq!((bound.device, bound.user), (origin(1).device, user.user));
}

#[tokio::test]
async fn what_another_record_has_proved_makes_a_pair_and_both_go_on() {
    let test = TestSite::new().await;
    let old = register(&test.site, with(1, Credentials { entra: Some(origin(1)), ..pki(1) })).await;
    for credentials in [entra(1), pki(1)] {
        let new = register(&test.site, with(2, credentials)).await;
        assert_ne!(new.client_id, old.client_id);
        assert_eq!(new.conflict_with, Some(old.client_id));
        assert_eq!(record(&test.site, old.client_id).await.conflict_with, Some(new.client_id));
        assert!(record(&test.site, old.client_id).await.may_operate());
        test.site.delete_device(&anna(), new.client_id).await.unwrap();
    }
    // Also when a known device gains it later.
    let third = register(&test.site, device(3)).await;
    assert_eq!(third.conflict_with, None);
    assert_eq!(register(&test.site, with(3, entra(1))).await.conflict_with, Some(old.client_id));
    assert!(acts(&test.site, third.client_id).await.contains(&"device.conflict".to_owned()));
}

#[tokio::test]
async fn a_tenants_token_approves_no_second_key_for_a_device_that_is_approved() {
    let test = TestSite::new().await;
    let old = register(&test.site, with(1, entra(1))).await;
    // A thief with the token and a key of his own, fresh or registered before.
    let waits = register(&test.site, device(3)).await.client_id;
    for thief in [2, 3] {
        let new = register(&test.site, with(thief, entra(1))).await;
        // The second thief's rival may be the first one.
        assert_eq!((new.approval, new.conflict_with.is_some()), (Approval::Held, true), "{thief}");
    }
    // The device itself goes on, and another proof of the second one counts as ever.
    assert_eq!(register(&test.site, with(1, entra(1))).await.approval, Approval::Approved);
    let both = Credentials { entra: Some(origin(1)), ..pki(3) };
    assert_eq!(register(&test.site, with(3, both)).await.approval_by, "pki");
    // A reinstalled device is the one again when an operator says so, or the old record is gone.
    let again = register(&test.site, with(2, entra(1))).await.client_id;
    test.site.delete_device(&anna(), waits).await.unwrap();
    test.site.delete_device(&anna(), old.client_id).await.unwrap();
    assert_eq!(register(&test.site, with(2, entra(1))).await.approval, Approval::Approved);
    // What names no device of the tenant ties nobody.
    let user = EntraOrigin { device: None, user: Some(Guid::from_bytes([9; 16])), ..origin(1) };
    let by_user = Credentials { entra: Some(user), ..Credentials::default() };
    assert_eq!(register(&test.site, with(4, by_user)).await.approval, Approval::Approved);
    assert!(record(&test.site, again).await.may_operate());
}

#[tokio::test]
async fn a_users_token_brings_so_many_keys_a_day_and_no_more() {
    let test = TestSite::new().await;
    test.site.set_setting(&anna(), "entra_user_devices", "3").await.unwrap();
    let by = |number, user: u8, device: Option<Guid>| {
        let origin = EntraOrigin { device, user: Some(Guid::from_bytes([user; 16])), ..origin(1) };
        with(number, Credentials { entra: Some(origin), ..Credentials::default() })
    };
    let approved = async |new| register(&test.site, new).await.approval == Approval::Approved;
    // One that waits for another reason is a new key all the same.
    let waiting = register(&test.site, device(8)).await.client_id;
    for number in 1..=3 {
        assert!(approved(by(number, 9, None)).await, "{number}");
    }
    for _ in 0..3 {
        for number in [4, 5, 8] {
            assert!(!approved(by(number, 9, None)).await, "{number}");
        }
    }
    assert_eq!(record(&test.site, waiting).await.approval_by, "entra-user-devices");
    let alarms = test.site.list_alarms().await.unwrap();
    let alarm = alarms.iter().find(|alarm| alarm.object.starts_with("user ")).unwrap();
    assert!(alarm.text.starts_with("3 devices") && alarm.object.contains("09090909"), "{alarm:?}");
    // Whoever is in goes on; others, and tokens that name their device, are no matter of this user's.
    assert!(approved(by(1, 9, None)).await);
    assert!(approved(by(6, 10, None)).await);
    assert!(approved(by(7, 9, Some(Guid::from_bytes([77; 16])))).await);
    // The next day is another one, but not for what is held: that waits for another proof or an operator.
    test.advance(DAY + 1);
    assert!(!approved(by(4, 9, None)).await);
    assert!(approved(by(11, 9, None)).await);
    let both = Credentials { pki: Some(certificate(4)), ..by(4, 9, None).credentials };
    assert!(approved(with(4, both)).await);
    for id in [waiting, register(&test.site, by(5, 9, None)).await.client_id] {
        test.site.approve_device(&anna(), id).await.unwrap();
    }
    let alarms = test.site.list_alarms().await.unwrap();
    assert!(!alarms.iter().any(|alarm| alarm.object.starts_with("user ")), "{alarms:?}");
}

#[tokio::test]
async fn a_fall_that_only_a_management_point_sees_is_noted_once_and_ends_with_a_good_certificate() {
    let test = TestSite::new().await;
    let id = register(&test.site, with(1, pki(1))).await.client_id;
    for _ in 0..3 {
        test.site.note_fall(id, "CN=PC1 was\nrevoked").await.unwrap();
    }
    let fallen = record(&test.site, id).await;
    assert_eq!((fallen.method, fallen.fell_back_at), (Method::Certificate, Some(test.site.now())));
    assert_eq!(acts(&test.site, id).await.iter().filter(|act| *act == "device.method").count(), 1);
    let alarms = test.site.list_alarms().await.unwrap();
    assert!(alarms.iter().any(|alarm| alarm.object == "fallen back"), "{alarms:?}");
    register(&test.site, with(1, pki(1))).await;
    assert_eq!(record(&test.site, id).await.fell_back_at, None);
    let other = register(&test.site, device(2)).await.client_id;
    test.site.note_fall(other, "it had none").await.unwrap();
    assert_eq!(record(&test.site, other).await.fell_back_at, None, "nothing to fall from");
}

#[tokio::test]
async fn a_certificate_carries_a_registration_whose_tenant_failed() {
    let test = TestSite::new().await;
    let first = register(&test.site, with(1, Credentials { entra: Some(origin(1)), ..pki(1) })).await;
    assert_eq!((first.method, first.approval_status), (Method::Certificate, 3));
    // The management point leaves out what did not hold, and says why.
    let why = vec![(Method::EntraDevice, "tenant switched off".to_owned())];
    let carried = register(&test.site, NewRegistration { refused: why, ..with(2, pki(2)) }).await;
    assert_eq!((carried.method, carried.approval_by.as_str()), (Method::Certificate, "pki"));
}

#[tokio::test]
async fn hostile_reasons_are_one_bounded_line() {
    let test = TestSite::new().await;
    let why = vec![(Method::Certificate, format!("a\r\n{}", "x".repeat(10_000)))];
    let new = NewRegistration { refused: why, method_reason: "b\0\n".repeat(500), ..device(1) };
    let id = register(&test.site, new).await.client_id;
    let device = record(&test.site, id).await;
    for text in [&device.method_reason, &device.methods_refused[0].reason] {
        assert!(text.chars().count() <= 255 && !text.chars().any(char::is_control), "{text:?}");
    }
    let mut large = certificate(1);
    large.chain = vec![vec![0; 100_000]];
    let credentials = Credentials { pki: Some(large), ..Credentials::default() };
    let refused = test.site.register_client(None, with(1, credentials), Evidence::None).await;
    assert_eq!(refused.unwrap_err().reason(), Reason::RegistrationMalformed);
}
