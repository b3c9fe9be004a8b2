use site::{Approval, ApprovalRule, Evidence, ExpectedDeviceError, NewExpectedDevice, NewRegistration, Site};

use crate::support::{TestSite, anna, device};

fn expected(name: &str, hardware_id: &str) -> NewExpectedDevice {
    NewExpectedDevice { name: name.into(), hardware_id: hardware_id.into(), note: String::new() }
}

async fn register(site: &Site, new: NewRegistration) -> (Approval, String) {
    let registered = site.register_client(None, new, Evidence::None).await.unwrap();
    (registered.approval, registered.approval_by)
}

async fn expecting(entries: Vec<NewExpectedDevice>) -> TestSite {
    let test = TestSite::new().await;
    test.site
        .set_approval_rules(&anna(), vec![ApprovalRule::ExpectedList, ApprovalRule::Manual])
        .await
        .unwrap();
    test.site.add_expected_devices(&anna(), entries).await.unwrap();
    test
}

#[tokio::test]
async fn a_new_site_approves_whoever_proves_an_identity_and_holds_the_rest() {
    let test = TestSite::new().await;
    let kinds: Vec<_> = test.site.approval_rules().iter().map(ApprovalRule::kind).collect();
    assert_eq!(kinds, ["bulk-token", "entra", "pki", "network", "manual"]);
    assert_eq!(register(&test.site, device(1)).await, (Approval::Held, "manual".to_owned()));
}

#[tokio::test]
async fn an_expected_device_is_approved_once_by_hardware_or_name() {
    let test = expecting(vec![expected("", "2:00000001"), expected("pc2", "")]).await;
    let entries = test.site.list_expected_devices(None).await.unwrap();
    let by = |hardware: &str| {
        let entry = entries.iter().find(|entry| entry.hardware_id == hardware).unwrap();
        (Approval::Approved, format!("expected-list {}", entry.id))
    };
    assert_eq!(register(&test.site, device(1)).await, by("2:00000001"));
    assert_eq!(register(&test.site, device(2)).await, by(""), "whatever its case");
    assert_eq!(register(&test.site, device(1)).await, by("2:00000001"), "the same key again");
    assert_eq!(register(&test.site, device(3)).await.0, Approval::Held, "nobody expects it");
    // Another key that claims the same is not expected any more.
    let mut copy = device(4);
    copy.hardware_id = device(1).hardware_id;
    assert_eq!(register(&test.site, copy).await.0, Approval::Held);
    let mut copy = device(5);
    copy.name = "PC2".to_owned();
    assert_eq!(register(&test.site, copy).await.0, Approval::Held);
}

#[tokio::test]
async fn an_entry_with_name_and_hardware_wants_both() {
    let test = expecting(vec![expected("PC1", "2:00000001")]).await;
    let mut other = device(2);
    other.hardware_id = device(1).hardware_id;
    assert_eq!(register(&test.site, other).await.0, Approval::Held);
    let mut other = device(3);
    other.name = "PC1".to_owned();
    assert_eq!(register(&test.site, other).await.0, Approval::Held);
    assert_eq!(register(&test.site, device(1)).await.0, Approval::Approved);
}

#[tokio::test]
async fn the_list_takes_no_entry_that_fits_everybody_and_names_alone_are_an_alarm() {
    let test = expecting(vec![expected("pc9", "")]).await;
    let nothing = test.site.add_expected_devices(&anna(), vec![expected(" ", "")]).await;
    assert!(matches!(nothing, Err(ExpectedDeviceError::Nothing)));
    let alarms = test.site.list_alarms().await.unwrap();
    assert_eq!(alarms[0].object, "expected-list");
    let entry = test.site.list_expected_devices(None).await.unwrap()[0].id;
    test.site.remove_expected_device(&anna(), entry).await.unwrap();
    assert!(test.site.list_alarms().await.unwrap().is_empty());
    let gone = test.site.remove_expected_device(&anna(), entry).await;
    assert!(matches!(gone, Err(ExpectedDeviceError::Unknown(_))));
}

#[tokio::test]
async fn without_its_rule_the_list_is_not_even_asked() {
    let test = expecting(vec![expected("pc1", "")]).await;
    test.site.set_approval_rules(&anna(), vec![ApprovalRule::Manual]).await.unwrap();
    assert_eq!(register(&test.site, device(1)).await.0, Approval::Held);
    assert_eq!(test.site.list_expected_devices(None).await.unwrap()[0].taken_by, None);
}
