use proto::id::{ClientId, Guid};
use proto::reason::Reason;
use site::{Approval, Evidence, RegistrationError, Site};

use crate::support::{TestSite, anna, device, key_of};

const NOTHING: Evidence = Evidence::None;

fn inside() -> Evidence {
    Evidence::Network { source: "10.1.2.3".parse().unwrap() }
}

async fn register(site: &Site, number: u32, evidence: Evidence) -> site::Registration {
    site.register_client(None, device(number), evidence).await.unwrap()
}

#[tokio::test]
async fn the_same_key_gets_the_same_id_and_another_key_another() {
    let test = TestSite::new().await;
    let first = register(&test.site, 1, NOTHING).await;
    let again = register(&test.site, 1, NOTHING).await;
    assert_eq!(first.client_id, again.client_id);
    assert!(first.is_new && !again.is_new);
    assert_ne!(register(&test.site, 2, NOTHING).await.client_id, first.client_id);
}

#[tokio::test]
async fn another_key_for_secrets_is_audited() {
    let test = TestSite::new().await;
    let id = register(&test.site, 1, NOTHING).await.client_id;
    let mut other = device(1);
    other.encryption_certificate = device(2).encryption_certificate;
    for _ in 0..2 {
        test.site.register_client(None, other.clone(), NOTHING).await.unwrap();
    }
    let rows = test.site.list_audit(None, 100).await.unwrap();
    let acts: Vec<_> = rows.iter().filter(|row| row.object == id.to_string()).map(|row| &*row.act).collect();
    assert_eq!(acts, ["device.encrypt-to", "device.register"]);
}

#[tokio::test]
async fn a_rule_approves_by_evidence_and_the_record_names_it() {
    let test = TestSite::new().await;
    let stranger = register(&test.site, 1, NOTHING).await;
    assert_eq!((stranger.approval, stranger.approval_by.as_str()), (Approval::Held, "manual"));
    let outside = Evidence::Network { source: "192.0.2.1".parse().unwrap() };
    assert_eq!(register(&test.site, 2, outside).await.approval, Approval::Held);
    let insider = register(&test.site, 3, inside()).await;
    assert_eq!((insider.approval, insider.approval_by.as_str()), (Approval::Approved, "network 10.0.0.0/8"));
    let record = test.site.find_device(insider.client_id).await.unwrap().unwrap();
    assert!(record.may_operate());
    assert_eq!(record.approval_by, "network 10.0.0.0/8");
}

#[tokio::test]
async fn better_evidence_approves_later_but_never_against_an_operator() {
    let test = TestSite::new().await;
    let id = register(&test.site, 1, NOTHING).await.client_id;
    assert_eq!(register(&test.site, 1, inside()).await.approval, Approval::Approved);
    test.site.withdraw_approval(&anna(), id).await.unwrap();
    let after = register(&test.site, 1, inside()).await;
    assert_eq!((after.approval, after.approval_by.as_str()), (Approval::Held, "operator:anna"));
    test.site.approve_device(&anna(), id).await.unwrap();
    assert_eq!(register(&test.site, 1, NOTHING).await.approval, Approval::Approved, "and stays so");
}

#[tokio::test]
async fn the_labs_word_counts_in_the_lab_only() {
    let field = TestSite::new().await;
    let refused = field.site.register_client(None, device(1), Evidence::Lab).await;
    assert!(matches!(refused, Err(RegistrationError::NotALab)));
    let id = ClientId::new(Guid::from_bytes([9; 16]));
    assert!(matches!(field.site.seed_device(id, device(1)).await, Err(RegistrationError::NotALab)));
    let lab = TestSite::with(|config| config.lab = true).await;
    assert_eq!(register(&lab.site, 1, Evidence::Lab).await.approval_by, "lab");
    let mut proved = device(3);
    proved.credentials.pki = Some(crate::support::certificate(3));
    let by_rule = lab.site.register_client(None, proved, Evidence::Lab).await.unwrap();
    assert_eq!(by_rule.approval_by, "pki", "the lab names the rule of the field where one fits");
    assert_eq!(lab.site.seed_device(id, device(2)).await.unwrap().client_id, id);
}

#[tokio::test]
async fn a_reinstalled_device_is_a_second_record_and_the_first_goes_on() {
    let test = TestSite::new().await;
    let old = register(&test.site, 1, inside()).await;
    let mut reinstalled = device(2);
    reinstalled.hardware_id = device(1).hardware_id;
    let new = test.site.register_client(None, reinstalled, NOTHING).await.unwrap();
    assert_ne!(new.client_id, old.client_id);
    assert_eq!(new.conflict_with, Some(old.client_id));
    assert_eq!(new.approval, Approval::Held, "it inherits nothing");
    let record = test.site.find_device(old.client_id).await.unwrap().unwrap();
    assert_eq!(record.conflict_with, Some(new.client_id));
    assert!(record.may_operate() && record.signing_thumbprint == key_of(1));

    let filter = site::DeviceFilter { conflicts: true, ..site::DeviceFilter::default() };
    assert_eq!(test.site.list_devices(filter.clone()).await.unwrap().len(), 2);
    test.site.settle_conflict(&anna(), new.client_id).await.unwrap();
    assert!(test.site.list_devices(filter).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_same_name_in_another_case_is_a_conflict_too() {
    let test = TestSite::new().await;
    let old = register(&test.site, 1, NOTHING).await;
    let mut twin = device(2);
    twin.name = "pc1".to_owned();
    let new = test.site.register_client(None, twin, NOTHING).await.unwrap();
    assert_eq!(new.conflict_with, Some(old.client_id));
}

#[tokio::test]
async fn a_blocked_device_stays_out_by_key_and_by_hardware() {
    let test = TestSite::new().await;
    let id = register(&test.site, 1, inside()).await.client_id;
    test.site.block_device(&anna(), id, "stolen").await.unwrap();
    let same_key = test.site.register_client(None, device(1), inside()).await.unwrap_err();
    assert_eq!(same_key.reason(), Reason::Blocked);
    let mut new_key = device(2);
    new_key.hardware_id = device(1).hardware_id;
    let refused = test.site.register_client(None, new_key.clone(), inside()).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::HardwareBlocked);
    // Nor may an honest-looking device turn itself into the blocked one.
    register(&test.site, 3, inside()).await;
    let mut turned = device(3);
    turned.hardware_id = device(1).hardware_id;
    assert!(test.site.register_client(None, turned, inside()).await.is_err());

    test.site.unblock_device(&anna(), id).await.unwrap();
    assert!(test.site.register_client(None, device(1), inside()).await.is_ok());
    assert!(test.site.register_client(None, new_key, inside()).await.is_ok());
}

#[tokio::test]
async fn hostile_names_are_refused_and_change_nothing() {
    let test = TestSite::new().await;
    for hostile in ["", "a\0b", "a\u{202e}b", &"x".repeat(256), "line\nbreak"] {
        let mut new = device(1);
        new.name = hostile.to_owned();
        let refused = test.site.register_client(None, new, inside()).await.unwrap_err();
        assert_eq!(refused.reason(), Reason::RegistrationMalformed, "{hostile:?}");
    }
    let mut long = device(1);
    long.hardware_id = Some("x".repeat(10_000_000));
    assert!(test.site.register_client(None, long, inside()).await.is_err());
    assert!(test.site.list_devices(site::DeviceFilter::default()).await.unwrap().is_empty());
    let mut markup = device(1);
    markup.name = "<script>'; DROP TABLE device; --".to_owned();
    let id = test.site.register_client(None, markup.clone(), inside()).await.unwrap().client_id;
    assert_eq!(test.site.find_device(id).await.unwrap().unwrap().name, markup.name);
}

#[tokio::test]
async fn that_a_device_signs_is_never_lowered() {
    let test = TestSite::new().await;
    let id = register(&test.site, 1, inside()).await.client_id;
    let mut unsigned = device(1);
    unsigned.signs_requests = false;
    test.site.register_client(None, unsigned, inside()).await.unwrap();
    test.site.confirm_registration(None, id, "", false).await.unwrap();
    assert!(test.site.find_device(id).await.unwrap().unwrap().signs_requests);
}

#[tokio::test]
async fn a_thousand_devices_at_once_are_all_registered_and_none_twice() {
    let test = TestSite::new().await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..1000 {
        let site = test.site.clone();
        // Each device comes twice at the same time.
        tasks.spawn(async move { register(&site, number / 2, inside()).await.client_id });
    }
    let ids: std::collections::HashSet<_> = tasks.join_all().await.into_iter().collect();
    assert_eq!(ids.len(), 500);
    assert_eq!(test.site.list_devices(site::DeviceFilter::default()).await.unwrap().len(), 500);
    assert_eq!(test.site.verify_audit().await.unwrap(), site::AuditVerdict::Whole { rows: 1 + 500 });
}
