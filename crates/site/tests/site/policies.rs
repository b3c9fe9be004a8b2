use proto::policy_signature::PolicyResource;
use proto::request::policy_body::{CimValue, PolicyBody};
use proto::text::hex;
use proto::trust::verify_rsa;
use site::{
    Evidence, NewGateway, NewPolicy, NewRole, PolicyError, PolicyProtection, RoleChange, RoleMode, UserRef,
    UserTarget, flags,
};

use crate::support::{TestSite, anna, device, now};

const RULES: &str =
    "<PolicyRule PolicyRuleID=\"Rule1\"><PolicyAction PolicyActionType=\"WMI-XML\"/></PolicyRule>";

fn new_policy(protection: PolicyProtection) -> NewPolicy {
    NewPolicy { id: None, category: "Test".into(), protection, rules: RULES.into(), collection: None }
}

async fn registered(test: &TestSite, number: u32) -> proto::id::ClientId {
    test.site.register_client(None, device(number), Evidence::None).await.unwrap().client_id
}

#[tokio::test]
async fn client_settings_get_a_new_version_when_what_they_say_changes() {
    let test = TestSite::new().await;
    let id = registered(&test, 1).await;
    let settings = |set: &site::PolicySet| {
        let found = set.assignments.iter().find(|assigned| assigned.policy.category == "ClientAgentConfig");
        found.unwrap().clone()
    };
    let before = test.site.list_assignments(id).await.unwrap();
    assert_eq!(settings(&before).policy.version, "1.00");
    test.site.set_setting(&anna(), "policy_polling_interval", "5").await.unwrap();
    let after = test.site.list_assignments(id).await.unwrap();
    assert_eq!(settings(&after).policy.version, "2.00");
    assert_eq!(settings(&after).id, settings(&before).id, "the assignment is the same");
    assert!(after.serial > before.serial);
    test.site.set_setting(&anna(), "policy_polling_interval", "5").await.unwrap();
    test.site.set_setting(&anna(), "log_level", "debug").await.unwrap();
    assert_eq!(settings(&test.site.list_assignments(id).await.unwrap()).policy.version, "2.00");

    let role = NewRole {
        name: "mp1".into(),
        internal_url: "http://127.0.0.1:1".into(),
        mode: RoleMode::Http,
        gateway_traffic: true,
    };
    let role = test.site.add_role(&anna(), role).await.unwrap().id;
    let gateway = NewGateway { name: "gw".into(), host: "cmg.example.org".into(), address: "cmg:443".into() };
    test.site.add_gateway(&anna(), gateway).await.unwrap();
    let named = async || {
        let policy = settings(&test.site.list_assignments(id).await.unwrap()).policy;
        let body = test.site.find_policy_body(&policy.id, &policy.hash).await.unwrap().unwrap();
        let body = PolicyBody::parse(&body.bytes, 100_000).unwrap();
        let instance = body.instances().next().unwrap();
        instance.property("CloudGatewayList").and_then(CimValue::as_str).unwrap().to_owned()
    };
    assert_eq!(named().await, "", "no gateway leads to a role in plain HTTP");
    let ehttp = RoleChange {
        internal_url: Some("https://127.0.0.1:1".into()),
        mode: Some(RoleMode::Ehttp),
        ..RoleChange::default()
    };
    test.site.set_role(&anna(), role, ehttp).await.unwrap();
    assert_eq!(named().await, "cmg.example.org/CCM_Proxy_MutualAuth/72057594037927937");
    let policy = settings(&test.site.list_assignments(id).await.unwrap()).policy;
    let body = test.site.find_policy_body(&policy.id, &policy.hash).await.unwrap().unwrap();
    let body = PolicyBody::parse(&body.bytes, 100_000).unwrap();
    let instance = body.instances().next().unwrap();
    assert_eq!((body.id.to_string(), &body.version), (policy.id, &policy.version));
    assert_eq!(instance.property("PolicyPollingInterval"), Some(&CimValue::UInt32(5)));
    assert_eq!(instance.property("EnableCloudGateway"), Some(&CimValue::Boolean(true)));
}

#[tokio::test]
async fn bodies_are_found_by_version_and_by_hash_and_match_it() {
    let test = TestSite::new().await;
    for protection in [PolicyProtection::Public, PolicyProtection::Compressed, PolicyProtection::Secret] {
        let policy = test.site.add_policy(&anna(), new_policy(protection)).await.unwrap();
        assert_eq!(policy.flags, protection.flags());
        for name in [&policy.version, &policy.hash] {
            let body = test.site.find_policy_body(&policy.id.to_uppercase(), name).await.unwrap().unwrap();
            let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &body.bytes);
            assert_eq!(policy.hash, format!("SHA256:{}", hex::encode(hash.as_ref())));
            let read = PolicyBody::parse(&body.bytes, 100_000).unwrap();
            assert_eq!((read.id.to_string(), &read.version), (policy.id.clone(), &policy.version));
        }
    }
    for (id, name) in [("{x}", "1.00"), ("", ""), ("{x}", "SHA256:zz"), ("{x}", "SHA256:")] {
        assert!(test.site.find_policy_body(id, name).await.unwrap().is_none());
    }
    assert!(flags::SECRET & PolicyProtection::Secret.flags() != 0);
}

#[tokio::test]
async fn what_a_device_is_assigned_is_signed_for_it_alone() {
    let test = TestSite::new().await;
    let (one, two) = (registered(&test, 1).await, registered(&test, 2).await);
    test.site.add_policy(&anna(), new_policy(PolicyProtection::Public)).await.unwrap();
    let signed = test.site.sign_assignments(one).await.unwrap();
    verify_rsa(&signed.chain[0], &signed.manifest.bytes(), &signed.signature).unwrap();
    assert_eq!(signed.manifest.policies.len(), 2);
    let check = |device, last| signed.manifest.check(device, PolicyResource::Machine, last, now(&test));
    assert!(check(one, signed.set.serial).is_ok());
    assert!(check(two, 0).is_err());
    let mut altered = signed.manifest.clone();
    altered.policies[0].hash.push('0');
    assert!(verify_rsa(&signed.chain[0], &altered.bytes(), &signed.signature).is_err());
    let other = test.site.add_policy(&anna(), new_policy(PolicyProtection::Public)).await.unwrap();
    let later = test.site.sign_assignments(one).await.unwrap();
    assert!(later.manifest.policies.iter().any(|policy| policy.id == other.id));
    assert!(check(one, later.set.serial).is_err(), "an old list is refused");
}

#[tokio::test]
async fn policy_reaches_the_members_of_its_collection() {
    let test = TestSite::new().await;
    let (one, two) = (registered(&test, 1).await, registered(&test, 2).await);
    let pilots = test.site.add_collection(&anna(), "Pilots", vec![one]).await.unwrap();
    let aimed = NewPolicy { collection: Some(pilots.id), ..new_policy(PolicyProtection::Public) };
    let policy = test.site.add_policy(&anna(), aimed).await.unwrap();
    let has = async |device| {
        let set = test.site.list_assignments(device).await.unwrap();
        set.assignments.iter().any(|assignment| assignment.policy.id == policy.id)
    };
    assert!(has(one).await && !has(two).await);
    let nowhere = NewPolicy { collection: Some("none".into()), ..new_policy(PolicyProtection::Public) };
    assert!(matches!(test.site.add_policy(&anna(), nowhere).await, Err(PolicyError::UnknownCollection(_))));
}

#[tokio::test]
async fn rules_that_are_no_xml_are_refused() {
    let test = TestSite::new().await;
    for rules in ["<PolicyRule>", "</Policy>", "<!DOCTYPE a><a/>", "&x;"] {
        let new = NewPolicy { rules: rules.into(), ..new_policy(PolicyProtection::Public) };
        assert!(matches!(test.site.add_policy(&anna(), new).await, Err(PolicyError::Xml)), "{rules}");
    }
}

#[tokio::test]
async fn a_policy_for_users_reaches_the_user_on_a_device_and_no_device() {
    let test = TestSite::new().await;
    let device = registered(&test, 1).await;
    let guid = |byte| proto::id::Guid::from_bytes([byte; 16]);
    let anybody = UserRef { tenant: guid(1), user: guid(2) };
    let (other, stranger) = (UserRef { user: guid(3), ..anybody }, UserRef { tenant: guid(9), ..anybody });
    let new = || new_policy(PolicyProtection::Public);
    let mine = test.site.add_user_policy(&anna(), new(), UserTarget::User(anybody)).await.unwrap();
    test.advance(1);
    let all = test.site.add_user_policy(&anna(), new(), UserTarget::Tenant(guid(1))).await.unwrap();
    let ids = async |user| {
        let signed = test.site.policy_for_user(device, user).await.unwrap();
        verify_rsa(&signed.chain[0], &signed.manifest.bytes(), &signed.signature).unwrap();
        let resource = PolicyResource::User(user.user);
        assert_eq!((signed.manifest.device, signed.manifest.resource), (device, resource));
        signed.set.assignments.into_iter().map(|given| given.policy.id).collect::<Vec<_>>()
    };
    let own = test.site.sign_assignments(device).await.unwrap().manifest.resource;
    assert_eq!(own, PolicyResource::Machine);
    assert_eq!(ids(anybody).await, [mine.id.clone(), all.id.clone()]);
    assert_eq!(ids(other).await, std::slice::from_ref(&all.id));
    assert!(ids(stranger).await.is_empty());
    assert_eq!(test.site.list_assignments(device).await.unwrap().assignments.len(), 1, "settings only");
    let body = test.site.find_policy_body(&mine.id, &mine.hash).await.unwrap().unwrap();
    assert!(proto::text::decode_with_bom(&body.bytes).unwrap().contains("PolicyType=\"User\""));

    // A new version moves the assignment; a device whose settings say no gets none.
    let id = mine.id.parse().ok();
    let newer = NewPolicy { id, ..new() };
    test.advance(1);
    let newer = test.site.add_user_policy(&anna(), newer, UserTarget::User(anybody)).await.unwrap();
    let set = test.site.policy_for_user(device, anybody).await.unwrap().set;
    assert_eq!((set.assignments.len(), &set.assignments[0].policy), (2, &newer));
    let off = site::ClientSettingsChange {
        values: [("EnableUserPolicy".to_owned(), "no".to_owned())].into(),
        ..Default::default()
    };
    test.site.set_client_settings(&anna(), "default", off).await.unwrap();
    assert!(ids(anybody).await.is_empty());
    let both = NewPolicy { collection: Some("All devices".into()), ..new() };
    let refused = test.site.add_user_policy(&anna(), both, UserTarget::Tenant(guid(1))).await;
    assert!(matches!(refused, Err(PolicyError::UsersAndDevices)));
}

#[tokio::test]
async fn a_policy_aimed_at_two_collections_is_told_once_in_its_newest_version() {
    let test = TestSite::new().await;
    let device = registered(&test, 1).await;
    for name in ["A", "B"] {
        test.site.add_collection(&anna(), name, vec![device]).await.unwrap();
    }
    let aimed = |id, name: &str| NewPolicy {
        id,
        collection: Some(name.into()),
        ..new_policy(PolicyProtection::Public)
    };
    let first = test.site.add_policy(&anna(), aimed(None, "A")).await.unwrap();
    test.advance(1);
    let second = test.site.add_policy(&anna(), aimed(first.id.parse().ok(), "B")).await.unwrap();
    let set = test.site.list_assignments(device).await.unwrap();
    assert_eq!((set.assignments.len(), &set.assignments[1].policy), (2, &second));
}
