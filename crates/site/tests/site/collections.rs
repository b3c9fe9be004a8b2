//! Collections: made, filled, emptied, removed.

use proto::id::{ClientId, Guid};
use site::{CollectionError, Evidence, NewPolicy, PolicyProtection};

use crate::support::{TestSite, anna, device};

async fn registered(test: &TestSite, number: u32) -> ClientId {
    test.site.register_client(None, device(number), Evidence::None).await.unwrap().client_id
}

#[tokio::test]
async fn members_come_and_go_by_id_or_name_of_the_collection() {
    let test = TestSite::new().await;
    let (one, two) = (registered(&test, 1).await, registered(&test, 2).await);
    let made = test.site.add_collection(&anna(), "Pilots", vec![one]).await.unwrap();
    assert_eq!(made.members, 1);
    assert_eq!(test.site.add_member(&anna(), "pilots", two).await.unwrap().members, 2);
    assert_eq!(test.site.add_member(&anna(), &made.id, two).await.unwrap().members, 2, "once");
    let members = test.site.list_members("PILOTS", None).await.unwrap();
    let mut names: Vec<_> = members.iter().map(|member| member.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["PC1", "PC2"]);
    assert_eq!(test.site.list_members("Pilots", Some(members[0].device)).await.unwrap(), members[1..]);
    assert_eq!(test.site.remove_member(&anna(), "Pilots", one).await.unwrap().members, 1);
    let of = test.site.list_collections_of(two).await.unwrap();
    assert_eq!(of.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["All devices", "Pilots"]);
    assert_eq!(test.site.list_collections_of(one).await.unwrap().len(), 1);
    let everybody = test.site.find_collection("all devices").await.unwrap();
    assert_eq!((everybody.id.as_str(), everybody.members), ("SMS00001", 2));
    assert_eq!(test.site.list_members("SMS00001", None).await.unwrap().len(), 2);
    test.site.delete_device(&anna(), two).await.unwrap();
    assert_eq!(test.site.find_collection("Pilots").await.unwrap().members, 0);
    let acts: Vec<_> =
        test.site.list_audit(None, 100).await.unwrap().into_iter().map(|row| row.act).collect();
    assert_eq!(acts.iter().filter(|act| *act == "collection.add-member").count(), 1);
}

#[tokio::test]
async fn what_was_aimed_at_a_removed_collection_is_aimed_at_nobody() {
    let test = TestSite::new().await;
    let one = registered(&test, 1).await;
    test.site.add_collection(&anna(), "Pilots", vec![one]).await.unwrap();
    let policy = NewPolicy {
        id: None,
        category: String::new(),
        protection: PolicyProtection::Public,
        rules: "<PolicyRule/>".into(),
        collection: Some("Pilots".into()),
    };
    test.site.add_policy(&anna(), policy).await.unwrap();
    let before = test.site.list_assignments(one).await.unwrap();
    assert_eq!(before.assignments.len(), 2);
    assert_eq!(test.site.remove_collection(&anna(), "Pilots").await.unwrap().members, 1);
    let after = test.site.list_assignments(one).await.unwrap();
    assert_eq!(after.assignments.len(), 1);
    assert!(after.serial > before.serial);
    assert_eq!(test.site.list_collections().await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let test = TestSite::new().await;
    let one = registered(&test, 1).await;
    let nobody = ClientId::new(Guid::nil());
    test.site.add_collection(&anna(), "A", Vec::new()).await.unwrap();
    let by = anna();
    assert!(matches!(test.site.add_collection(&by, "a", vec![]).await, Err(CollectionError::Exists(_))));
    assert!(matches!(test.site.add_collection(&by, " ", vec![]).await, Err(CollectionError::Name(_))));
    assert!(matches!(
        test.site.add_collection(&by, "B", vec![nobody]).await,
        Err(CollectionError::UnknownDevice(_))
    ));
    assert!(test.site.find_collection("B").await.is_err(), "rolled back");
    assert!(matches!(test.site.add_member(&by, "C", one).await, Err(CollectionError::Unknown(_))));
    assert!(matches!(test.site.add_member(&by, "A", nobody).await, Err(CollectionError::UnknownDevice(_))));
    assert!(matches!(test.site.add_member(&by, "All devices", one).await, Err(CollectionError::AllDevices)));
    assert!(matches!(test.site.remove_collection(&by, "SMS00001").await, Err(CollectionError::AllDevices)));
}
