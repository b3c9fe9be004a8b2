//! Copies of a device are held; a device that roams, is renamed or reinstalled is not.

use std::net::IpAddr;

use proto::id::ClientId;
use proto::reason::Reason;
use site::{
    Approval, CcmSubject, CloneKind, Contact, Device, DeviceError, DeviceFilter, DeviceMark, Evidence,
    NewRegistration, SeenVia,
};

use crate::support::{TestSite, anna, device, key_of};

fn inside() -> Evidence {
    Evidence::Network { source: "10.1.2.3".parse().unwrap() }
}

async fn register(test: &TestSite, new: NewRegistration) -> ClientId {
    test.site.register_client(None, new, inside()).await.unwrap().client_id
}

async fn record(test: &TestSite, id: ClientId) -> Device {
    test.site.find_device(id).await.unwrap().unwrap()
}

fn contact(via: SeenVia, skew_seconds: Option<i64>) -> Contact {
    let address: IpAddr = "10.1.2.3".parse().unwrap();
    Contact { via, address: Some(address), skew_ms: skew_seconds.map(|seconds| seconds * 1000) }
}

/// The device, copied with its state folder to a machine of another name and hardware.
fn copy(number: u32) -> NewRegistration {
    let other = device(number + 1000);
    NewRegistration { name: other.name, hardware_id: other.hardware_id, ..device(number) }
}

#[tokio::test]
async fn one_key_on_two_machines_is_held_with_the_difference_until_it_is_settled() {
    let test = TestSite::new().await;
    let id = register(&test, device(1)).await;
    test.site.confirm_registration(None, id, "", true).await.unwrap();
    for new in [copy(1), device(1)] {
        test.advance(600);
        register(&test, new).await;
        assert!(record(&test, id).await.may_operate(), "a new board, and the old one back");
    }
    test.advance(600);
    let held = test.site.register_client(None, copy(1), inside()).await.unwrap();
    assert!(held.suspected);
    assert_eq!((held.client_id, held.approval, held.approval_status), (id, Approval::Held, -1));
    let device_now = record(&test, id).await;
    let suspicion = device_now.clone_suspicion.clone().unwrap();
    assert_eq!((suspicion.kind, suspicion.other), (CloneKind::SameKey, None));
    let name = suspicion.differences.iter().find(|difference| difference.what == "name").unwrap();
    assert_eq!((name.one.as_str(), name.other.as_str()), ("PC1", "PC1001"));
    assert!(suspicion.differences.iter().any(|difference| difference.what == "hardware id"));

    // Nothing but an operator's settling lets it go on.
    assert_eq!(test.site.register_client(None, device(1), inside()).await.unwrap().approval, Approval::Held);
    let refused = test.site.confirm_registration(None, id, "", true).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::CloneSuspected);
    assert_eq!(test.site.recover_device(id, key_of(1)).await.unwrap_err().reason(), Reason::CloneSuspected);
    let subject = CcmSubject::Device { device: id, key: key_of(1) };
    let token = test.site.issue_ccm_token(subject).await.unwrap();
    assert_eq!(token.class, proto::token::TokenClass::PreAuth);
    let approve = test.site.approve_device(&anna(), id).await.unwrap_err();
    assert!(matches!(approve, DeviceError::CloneSuspected(_)));
    let alarms = test.site.list_alarms().await.unwrap();
    assert!(alarms.iter().any(|alarm| alarm.object == "copy"), "{alarms:?}");

    test.site.settle_conflict(&anna(), id).await.unwrap();
    let settled = record(&test, id).await;
    assert!(settled.may_operate() && settled.clone_suspicion.is_none());
    assert_eq!(settled.approval_by, "network 10.0.0.0/8");
    let filter = DeviceFilter { mark: Some(DeviceMark::Suspected), ..DeviceFilter::default() };
    assert!(test.site.list_devices(filter).await.unwrap().is_empty());
    register(&test, copy(1)).await;
    assert!(record(&test, id).await.may_operate(), "evidence begins anew");
}

#[tokio::test]
async fn a_roaming_device_with_a_wrong_clock_is_never_held() {
    let test = TestSite::new().await;
    let id = register(&test, device(1)).await;
    for round in 0..300_i64 {
        // In and out every 20 seconds for hours, its clock nine minutes slow, renamed by the network.
        let (via, name) =
            [(SeenVia::Intranet, "pc1"), (SeenVia::Gateway, "localhost")][usize::from(round % 2 == 1)];
        test.site.record_contact(id, contact(via, Some(-540 - round % 3)));
        test.site.upkeep().await.unwrap();
        if round % 100 == 0 {
            register(&test, NewRegistration { name: name.to_owned(), ..device(1) }).await;
        }
        test.advance(20);
    }
    let device = record(&test, id).await;
    assert!(device.may_operate() && device.clone_suspicion.is_none());
    assert_eq!(device.clock_text().as_deref(), Some("this device's clock is 9 minutes slow"));
}

#[tokio::test]
async fn one_key_in_two_places_with_two_clocks_is_held() {
    let test = TestSite::new().await;
    let id = register(&test, device(1)).await;
    for round in 0..8 {
        let (via, skew) = [(SeenVia::Intranet, -1200), (SeenVia::Gateway, 0)][round % 2];
        test.site.record_contact(id, contact(via, Some(skew)));
        test.site.upkeep().await.unwrap();
        test.advance(60);
    }
    let suspicion = record(&test, id).await.clone_suspicion.unwrap();
    let clock = suspicion.differences.iter().find(|difference| difference.what == "clock").unwrap();
    assert_eq!((clock.one.as_str(), clock.other.as_str()), ("-1200 s off", "0 s off"));
}

#[tokio::test]
async fn a_gateway_that_holds_requests_back_takes_no_device_out() {
    let test = TestSite::new().await;
    let id = register(&test, device(1)).await;
    for round in 0..40 {
        let (via, skew) = [(SeenVia::Intranet, 0), (SeenVia::Gateway, -1200)][round % 2];
        test.site.record_contact(id, contact(via, Some(skew)));
        test.site.upkeep().await.unwrap();
        test.advance(60);
    }
    assert!(record(&test, id).await.may_operate());
}

#[tokio::test]
async fn an_approved_device_that_moves_to_anothers_hardware_is_held_alone() {
    let test = TestSite::new().await;
    let thief = register(&test, device(2)).await;
    let victim = register(&test, device(1)).await;
    test.advance(600);
    let claim = NewRegistration { hardware_id: device(1).hardware_id, ..device(2) };
    assert_eq!(register(&test, claim).await, thief);
    // The victim's own id is away for a moment, and not lost by that.
    test.advance(600);
    register(&test, NewRegistration { hardware_id: None, ..device(1) }).await;
    register(&test, device(1)).await;
    for round in 0..40 {
        test.site.record_contact([victim, thief][round % 2], contact(SeenVia::Gateway, None));
        test.site.upkeep().await.unwrap();
        test.advance(600);
    }
    assert!(record(&test, victim).await.may_operate());
    let held = record(&test, thief).await;
    assert_eq!(held.approval, Approval::Held);
    let suspicion = held.clone_suspicion.unwrap();
    assert_eq!((suspicion.kind, suspicion.other), (CloneKind::SameHardware, Some(victim)));
    test.site.settle_conflict(&anna(), thief).await.unwrap();
    assert!(record(&test, thief).await.may_operate() && record(&test, victim).await.may_operate());
}

#[tokio::test]
async fn two_approved_keys_of_one_hardware_in_turn_are_both_held() {
    let test = TestSite::new().await;
    let one = register(&test, device(1)).await;
    let twin = NewRegistration { hardware_id: device(1).hardware_id, ..device(2) };
    let other = register(&test, twin.clone()).await;
    for round in 0..8 {
        test.site.record_contact([one, other][round % 2], contact(SeenVia::Gateway, None));
        test.site.upkeep().await.unwrap();
        test.advance(600);
    }
    for (id, rival) in [(one, other), (other, one)] {
        let suspicion = record(&test, id).await.clone_suspicion.unwrap();
        assert_eq!((suspicion.kind, suspicion.other), (CloneKind::SameHardware, Some(rival)));
        assert!(suspicion.differences.iter().any(|difference| difference.what == "key"));
        assert_eq!(record(&test, id).await.approval, Approval::Held);
    }
    test.site.settle_conflict(&anna(), one).await.unwrap();
    for id in [one, other] {
        let settled = record(&test, id).await;
        assert!(settled.may_operate() && settled.conflict_with.is_none(), "{settled:?}");
    }
}

#[tokio::test]
async fn a_stranger_who_claims_anothers_hardware_holds_nobody_but_itself() {
    let test = TestSite::new().await;
    let victim = register(&test, device(1)).await;
    let claim = NewRegistration { hardware_id: device(1).hardware_id, ..device(2) };
    let stranger = test.site.register_client(None, claim, Evidence::None).await.unwrap();
    assert_eq!((stranger.approval, stranger.conflict_with), (Approval::Held, Some(victim)));
    for round in 0..50 {
        test.site.record_contact([victim, stranger.client_id][round % 2], contact(SeenVia::Gateway, None));
        test.site.upkeep().await.unwrap();
        test.advance(60);
    }
    assert!(record(&test, victim).await.may_operate());
}

#[tokio::test]
async fn a_contact_carries_place_and_clock_and_outlives_a_restart() {
    let test = TestSite::new().await;
    let id = register(&test, device(1)).await;
    assert_eq!(record(&test, id).await.clock_text(), None);
    test.advance(60);
    test.site.record_contact(id, contact(SeenVia::Intranet, Some(125)));
    test.advance(1);
    test.site.record_contact(id, contact(SeenVia::Gateway, None));
    for _ in 0..2 {
        let device = record(&test, id).await;
        assert_eq!(device.clock_text().as_deref(), Some("this device's clock is 2 minutes fast"));
        assert_eq!((device.last_seen_via, device.last_address), (SeenVia::Gateway, "10.1.2.3".parse().ok()));
        test.site.upkeep().await.unwrap();
    }
    let test = test.restart().await;
    assert_eq!(record(&test, id).await.clock_skew_ms, Some(125_000));
}
