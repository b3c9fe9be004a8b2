//! Client settings by device: what results, why, how it reaches the device, what it applied.

use std::collections::BTreeMap;

use proto::id::{ClientId, Guid, RequestId, Thumbprint};
use proto::request::policy_body::{CimValue, PolicyBody};
use site::{
    Assignment, ClientSettingsChange, ClientSettingsError, Evidence, NewClientSettings, NewPolicy, NewReport,
    PolicyProtection, ReportEffect, Resultant,
};

use crate::support::{TestSite, anna, device};

async fn registered(test: &TestSite, number: u32) -> ClientId {
    test.site.register_client(None, device(number), Evidence::None).await.unwrap().client_id
}

fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn new(name: &str, pairs: &[(&str, &str)], collections: &[&str], not_for: &[&str]) -> NewClientSettings {
    let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
    NewClientSettings {
        name: name.to_owned(),
        priority: None,
        values: values(pairs),
        collections: names(collections),
        not_for: names(not_for),
    }
}

/// The settings that a device is told now: the assignment, and a property of its body.
async fn told(test: &TestSite, id: ClientId, property: &str) -> (Assignment, CimValue) {
    let set = test.site.list_assignments(id).await.unwrap();
    let mut found = set.assignments.iter().filter(|given| given.policy.category == "ClientAgentConfig");
    let assignment = found.next().unwrap().clone();
    assert!(found.next().is_none(), "exactly one body");
    let body = test.site.find_policy_body(&assignment.policy.id, &assignment.policy.hash).await.unwrap();
    let body = PolicyBody::parse(&body.unwrap().bytes, 100_000).unwrap();
    let value = body.instances().next().unwrap().property(property).unwrap().clone();
    assert_eq!(body.version, assignment.policy.version);
    (assignment, value)
}

async fn resultant(test: &TestSite, id: ClientId, setting: &str) -> Resultant {
    let all = test.site.resultant(id).await.unwrap();
    all.into_iter().find(|resultant| resultant.setting == setting).unwrap()
}

async fn heartbeat(test: &TestSite, id: ClientId, data: &str) {
    let report = NewReport {
        client: Some(id),
        endpoint: "MP_DdrEndpoint".into(),
        payload_hash: Thumbprint::of(data.as_bytes()),
        kind: "heartbeat".into(),
        sent_at: None,
        request: RequestId::new(Guid::nil()),
        header: "{}".into(),
        document: Vec::new(),
        message: None,
        effect: ReportEffect::Heartbeat { data: data.to_owned(), policy_serial: None },
    };
    test.site.store_report(report).await.unwrap();
}

#[tokio::test]
async fn a_custom_yes_over_a_default_no_reaches_the_device_by_both_roads() {
    let test = TestSite::new().await;
    let (pilot, other) = (registered(&test, 1).await, registered(&test, 2).await);
    let no = ClientSettingsChange { values: values(&[("EnableCloudGateway", "no")]), ..Default::default() };
    test.site.set_client_settings(&anna(), "Default", no).await.unwrap();
    for id in [pilot, other] {
        assert!(!test.site.cloud_gateway(id).await.unwrap().allowed);
        assert_eq!(told(&test, id, "EnableCloudGateway").await.1, CimValue::Boolean(false));
    }
    let first = told(&test, pilot, "EnableCloudGateway").await.0;

    test.site.add_collection(&anna(), "Pilots", vec![pilot]).await.unwrap();
    let yes = new("Pilots may", &[("EnableCloudGateway", "yes")], &["Pilots"], &[]);
    test.site.add_client_settings(&anna(), yes).await.unwrap();
    // By registration's and confirmation's answers, at once and without any policy.
    let answer = test.site.register_client(None, device(1), Evidence::None).await.unwrap();
    assert!(answer.cloud_gateway.allowed);
    assert!(test.site.confirm_registration(None, pilot, "", true).await.unwrap().cloud_gateway.allowed);
    // By policy: another body, newer than what the device has, under a higher serial.
    let before = test.site.list_assignments(other).await.unwrap().serial;
    let (assignment, value) = told(&test, pilot, "EnableCloudGateway").await;
    assert_eq!(value, CimValue::Boolean(true));
    assert_ne!(assignment.policy.version, first.policy.version);
    assert!(assignment.changed_at > first.changed_at, "also in the same moment");
    assert_eq!(assignment.id, first.id);
    assert!(test.site.list_assignments(pilot).await.unwrap().serial >= before);
    let shown = resultant(&test, pilot, "EnableCloudGateway").await;
    assert_eq!((shown.value.as_str(), shown.from.as_str()), ("yes", "Pilots may"));
    assert_eq!(shown.reason, "priority 1, because the device is in collection \"Pilots\"");
    // The others are told what they were told before.
    assert!(!test.site.cloud_gateway(other).await.unwrap().allowed);
    assert_eq!(told(&test, other, "EnableCloudGateway").await.0.policy, first.policy);

    // And back: out of the collection, the device is told no again.
    let serial = test.site.list_assignments(pilot).await.unwrap().serial;
    test.site.remove_member(&anna(), "Pilots", pilot).await.unwrap();
    let (last, value) = told(&test, pilot, "EnableCloudGateway").await;
    assert_eq!(value, CimValue::Boolean(false));
    assert!(last.changed_at > assignment.changed_at, "a client that asks for changes is sent them");
    assert!(test.site.list_assignments(pilot).await.unwrap().serial > serial);
}

#[tokio::test]
async fn a_version_changes_only_with_what_results() {
    let test = TestSite::new().await;
    let (one, two) = (registered(&test, 1).await, registered(&test, 2).await);
    let base = told(&test, two, "LogLevel").await.0;
    assert_eq!(told(&test, one, "LogLevel").await.0, base);
    test.site.add_collection(&anna(), "A", vec![one]).await.unwrap();
    // Settings that say what holds anyway lead to the same body.
    test.site.add_client_settings(&anna(), new("Same", &[("LogLevel", "info")], &["A"], &[])).await.unwrap();
    assert_eq!(told(&test, one, "LogLevel").await.0.policy, base.policy);
    test.advance(60);
    let debug = ClientSettingsChange { values: values(&[("LogLevel", "debug")]), ..Default::default() };
    test.site.set_client_settings(&anna(), "same", debug).await.unwrap();
    let changed = told(&test, one, "LogLevel").await.0;
    assert_ne!(changed.policy.version, base.policy.version);
    assert_eq!(told(&test, two, "LogLevel").await.0, base);
    for _ in 0..3 {
        test.advance(60);
        assert_eq!(told(&test, one, "LogLevel").await.0, changed, "asking changes nothing");
    }
    // A site setting changes both; each goes on from its own.
    test.site.set_setting(&anna(), "policy_polling_interval", "5").await.unwrap();
    let both = [told(&test, one, "LogLevel").await, told(&test, two, "LogLevel").await];
    assert_eq!(both[0].1, CimValue::String("debug".into()));
    assert_eq!(both[1].1, CimValue::String("info".into()));
    assert!(
        both[0].0.policy.version != changed.policy.version && both[1].0.policy.version != base.policy.version
    );
    // On and off again is a new version each time: an old one never comes back as new.
    let mut versions = std::collections::HashSet::from([both[1].0.policy.version.clone()]);
    for value in ["off", "on", "off"] {
        test.site.set_setting(&anna(), "enable_cmg", value).await.unwrap();
        assert!(versions.insert(told(&test, two, "LogLevel").await.0.policy.version), "{value}");
    }
}

#[tokio::test]
async fn what_is_not_for_some_devices_is_not_for_them() {
    let test = TestSite::new().await;
    let (server, laptop) = (registered(&test, 1).await, registered(&test, 2).await);
    test.site.add_collection(&anna(), "Servers", vec![server]).await.unwrap();
    let no = new("Not outside", &[("EnableCloudGateway", "no")], &["All devices"], &["Servers"]);
    test.site.add_client_settings(&anna(), no).await.unwrap();
    assert!(test.site.cloud_gateway(server).await.unwrap().allowed);
    assert!(!test.site.cloud_gateway(laptop).await.unwrap().allowed);
    let shown = resultant(&test, server, "EnableCloudGateway").await;
    assert!(
        shown.from == "default" && shown.reason.contains("is not for collection \"Servers\""),
        "{shown:?}"
    );
    // A device that registers now has it with its first answer.
    let fresh = test.site.register_client(None, device(3), Evidence::None).await.unwrap();
    assert!(!fresh.cloud_gateway.allowed);
    test.site.remove_collection(&anna(), "Servers").await.unwrap();
    assert!(!test.site.cloud_gateway(server).await.unwrap().allowed);
    test.site.remove_client_settings(&anna(), "Not outside").await.unwrap();
    assert!(test.site.cloud_gateway(laptop).await.unwrap().allowed);
}

#[tokio::test]
async fn what_a_device_applied_is_held_against_what_results() {
    let test = TestSite::new().await;
    let id = registered(&test, 1).await;
    let unsaid = resultant(&test, id, "EnableCloudGateway").await;
    assert_eq!((unsaid.reported, unsaid.differs), (None, false));
    heartbeat(&test, id, r#"{"settings":{"EnableCloudGateway":"0","PolicyPollingInterval":"60"}}"#).await;
    let shown = resultant(&test, id, "EnableCloudGateway").await;
    assert_eq!((shown.reported.as_deref(), shown.differs), (Some("no"), true));
    assert!(!resultant(&test, id, "PolicyPollingInterval").await.differs);
    heartbeat(&test, id, r#"{"settings":{"EnableCloudGateway":"TRUE"}}"#).await;
    assert!(!resultant(&test, id, "EnableCloudGateway").await.differs);
}

#[tokio::test]
async fn objects_are_listed_by_priority_and_changed_in_part() {
    let test = TestSite::new().await;
    test.site.add_collection(&anna(), "A", Vec::new()).await.unwrap();
    let first =
        test.site.add_client_settings(&anna(), new("One", &[("loglevel", "DEBUG")], &["A"], &[])).await;
    let first = first.unwrap();
    assert_eq!((first.priority, first.values.clone()), (1, values(&[("LogLevel", "debug")])));
    let second = NewClientSettings { priority: Some(7), ..new("Two", &[], &[], &["a"]) };
    test.site.add_client_settings(&anna(), second).await.unwrap();
    let third = test.site.add_client_settings(&anna(), new("Three", &[], &[], &[])).await.unwrap();
    assert_eq!(third.priority, 8, "after the others");
    let list = test.site.list_client_settings().await.unwrap();
    let order: Vec<_> = list.iter().map(|object| (object.name.as_str(), object.priority)).collect();
    assert_eq!(order, [("One", 1), ("Two", 7), ("Three", 8), ("default", 10_000)]);
    assert_eq!(
        (list[1].not_for.as_slice(), list[0].collections.as_slice()),
        (["A".into()].as_slice(), ["A".into()].as_slice())
    );

    let change = ClientSettingsChange {
        priority: Some(3),
        values: values(&[("LogLevel", ""), ("HeartbeatInterval", "60")]),
        ..Default::default()
    };
    let changed = test.site.set_client_settings(&anna(), "one", change).await.unwrap();
    assert_eq!((changed.priority, changed.values), (3, values(&[("HeartbeatInterval", "60")])));
    assert_eq!(changed.collections, ["A"], "what is not named stays");
    assert_eq!(changed.changed_by.as_deref(), Some("operator:anna"));
}

#[tokio::test]
async fn the_default_holds_site_settings_and_others() {
    let test = TestSite::new().await;
    let id = registered(&test, 1).await;
    let change =
        values(&[("PolicyPollingInterval", "15"), ("HeartbeatInterval", "120"), ("CheckServerCrl", "no")]);
    let change = ClientSettingsChange { values: change.clone(), ..Default::default() };
    let default = test.site.set_client_settings(&anna(), "default", change.clone()).await.unwrap();
    assert_eq!(default.values, change.values);
    assert_eq!(test.site.settings().policy_polling_interval.as_secs(), 15 * 60);
    assert!(!test.site.settings().clients_check_crl);
    assert_eq!(told(&test, id, "HeartbeatInterval").await.1, CimValue::UInt32(120));
    assert_eq!(told(&test, id, "CheckServerCrl").await.1, CimValue::Boolean(false));
    assert!(resultant(&test, id, "HeartbeatInterval").await.reason.contains("the default settings say so"));
    assert_eq!(resultant(&test, id, "LogLevel").await.reason, "nobody has said otherwise");
    let prefer = ClientSettingsChange {
        values: values(&[("MethodPreference", "entra-device")]),
        ..Default::default()
    };
    test.site.set_client_settings(&anna(), "default", prefer).await.unwrap();
    assert_eq!(
        told(&test, id, "MethodPreference").await.1,
        CimValue::String("entra-device,certificate,entra-user,site-token".into())
    );
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let test = TestSite::new().await;
    test.site.add_collection(&anna(), "A", Vec::new()).await.unwrap();
    let serial = test.site.list_assignments(registered(&test, 1).await).await.unwrap().serial;
    let add = async |new| test.site.add_client_settings(&anna(), new).await.unwrap_err();
    assert!(matches!(
        add(new("X", &[("Colour", "red")], &[], &[])).await,
        ClientSettingsError::UnknownSetting(_)
    ));
    let wrong = add(new("X", &[("PolicyPollingInterval", "1")], &[], &[])).await;
    assert_eq!(wrong.to_string(), "PolicyPollingInterval takes 3 to 1440 minutes, not \"1\"");
    assert!(matches!(add(new("X", &[], &["B"], &[])).await, ClientSettingsError::UnknownCollection(_)));
    assert!(matches!(add(new("X", &[], &["A"], &["a"])).await, ClientSettingsError::Twice(_)));
    assert!(matches!(add(new("DEFAULT", &[], &[], &[])).await, ClientSettingsError::Exists(_)));
    assert!(matches!(add(new("a\nb", &[], &[], &[])).await, ClientSettingsError::Name(_)));
    for priority in [0, 10_000, u32::MAX] {
        let refused = add(NewClientSettings { priority: Some(priority), ..new("X", &[], &[], &[]) }).await;
        assert!(matches!(refused, ClientSettingsError::Priority(_)), "{priority}");
    }
    let default = ClientSettingsChange { priority: Some(1), ..Default::default() };
    let refused = test.site.set_client_settings(&anna(), "default", default).await;
    assert!(matches!(refused, Err(ClientSettingsError::Default)));
    assert!(matches!(
        test.site.remove_client_settings(&anna(), "x").await,
        Err(ClientSettingsError::Unknown(_))
    ));
    assert_eq!(test.site.list_client_settings().await.unwrap().len(), 1);
    assert_eq!(test.site.list_assignments(ClientId::new(Guid::nil())).await.unwrap().serial, serial);
}

#[tokio::test]
async fn weak_custom_settings_raise_an_alarm() {
    let test = TestSite::new().await;
    test.site
        .add_client_settings(&anna(), new("Loose", &[("CheckServerCrl", "no")], &[], &[]))
        .await
        .unwrap();
    let alarms = test.site.list_alarms().await.unwrap();
    assert!(
        alarms.iter().any(|alarm| alarm.kind == "client-settings" && alarm.object == "Loose"),
        "{alarms:?}"
    );
}

#[tokio::test]
async fn a_list_from_which_something_was_taken_has_a_newer_moment() {
    let test = TestSite::new().await;
    let id = registered(&test, 1).await;
    test.site.add_collection(&anna(), "A", vec![id]).await.unwrap();
    let policy = NewPolicy {
        id: None,
        category: "Test".into(),
        protection: PolicyProtection::Public,
        rules: "<PolicyRule/>".into(),
        collection: Some("A".into()),
    };
    test.site.add_policy(&anna(), policy).await.unwrap();
    let newest = async || {
        let set = test.site.list_assignments(id).await.unwrap();
        (set.assignments.len(), set.assignments.iter().map(|given| given.changed_at).max().unwrap())
    };
    let with = newest().await;
    test.site.remove_collection(&anna(), "a").await.unwrap();
    let without = newest().await;
    assert_eq!((with.0, without.0), (2, 1));
    assert!(without.1 > with.1);
}
