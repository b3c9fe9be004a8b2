use std::collections::HashSet;

use proto::id::RoleId;
use proto::identity::TokenBinding;
use proto::snapshot::{Publication, Snapshot};
use proto::time::Timestamp;
use proto::trust::{Purpose, SiteRoot};
use site::{NewConnector, NewGateway, NewRole, RoleChange, RoleMode, SettingError, Site};
use x509_parser::pem::Pem;

use crate::support::{TestSite, anna, now};

fn new_role(name: &str) -> NewRole {
    NewRole {
        name: name.to_owned(),
        internal_url: "http://127.0.0.1:8080".to_owned(),
        mode: RoleMode::Http,
        gateway_traffic: true,
    }
}

fn new_gateway(name: &str) -> NewGateway {
    NewGateway { name: name.into(), host: "cmg.example.org".into(), address: "cmg.example.org:443".into() }
}

fn root(site: &Site) -> SiteRoot {
    SiteRoot::new(site.root_certificate()).unwrap()
}

fn chain(pem: &str) -> Vec<Vec<u8>> {
    Pem::iter_from_buffer(pem.as_bytes()).map(|pem| pem.unwrap().contents).collect()
}

async fn follow(site: &Site, snapshot: &mut Snapshot, now: Timestamp) {
    let Some(signed) = site.changes_since(snapshot.version).await.unwrap() else { return };
    match signed.open(&root(site), now).unwrap() {
        Publication::Snapshot(whole) => *snapshot = *whole,
        Publication::Delta(delta) => snapshot.apply_delta(delta).unwrap(),
    }
}

#[tokio::test]
async fn whoever_follows_the_deltas_has_what_the_site_publishes() {
    let test = TestSite::new().await;
    let site = &test.site;
    let signed = site.snapshot().unwrap();
    let Ok(Publication::Snapshot(mut follower)) = signed.open(&root(site), now(&test)) else { panic!() };
    assert_eq!(follower.version, 1);
    let mut watch = site.watch_published();

    let role = site.add_role(&anna(), new_role("mp1")).await.unwrap();
    assert_eq!(role.id, RoleId::FIRST);
    watch.changed().await.unwrap();
    assert_eq!(watch.borrow_and_update().version, 2);
    follow(site, &mut follower, now(&test)).await;
    assert!(follower.roles[&RoleId::FIRST].gateway_traffic);

    site.set_role(&anna(), role.id, RoleChange { gateway_traffic: Some(false), ..RoleChange::default() })
        .await
        .unwrap();
    site.set_setting(&anna(), "token_binding", "off").await.unwrap();
    let token = site.create_bulk_token(&anna(), site::NewBulkToken::default()).await.unwrap().token.id;
    site.block_bulk_token(&anna(), token).await.unwrap();
    site.rotate_token_key(&anna()).await.unwrap();
    follow(site, &mut follower, now(&test)).await;
    assert_eq!(*follower, *site.current_snapshot());
    assert_eq!(follower.settings.token_binding, TokenBinding::Off);

    site.remove_role(&anna(), role.id).await.unwrap();
    follow(site, &mut follower, now(&test)).await;
    assert!(follower.roles.is_empty());
    assert!(site.changes_since(follower.version).await.unwrap().is_none());

    // After a restart the tables say the same as the changes did.
    let test = test.restart().await;
    let rebuilt = test.site.current_snapshot();
    assert_eq!(
        (rebuilt.version, &rebuilt.roles, &rebuilt.blocked_bulk_tokens, rebuilt.settings),
        (follower.version, &follower.roles, &follower.blocked_bulk_tokens, follower.settings)
    );
    let as_set = |snapshot: &Snapshot| {
        snapshot.token_certificates.iter().map(|certificate| certificate.der.clone()).collect::<HashSet<_>>()
    };
    assert_eq!(as_set(&rebuilt), as_set(&follower));
}

#[tokio::test]
async fn one_who_is_ahead_or_has_nothing_gets_the_whole() {
    let test = TestSite::new().await;
    for version in [0, 99] {
        let signed = test.site.changes_since(version).await.unwrap().unwrap();
        assert!(matches!(signed.open(&root(&test.site), now(&test)), Ok(Publication::Snapshot(_))));
    }
}

#[tokio::test]
async fn a_gateways_bundle_holds_its_own_key_and_no_address_of_the_inside() {
    let test = TestSite::new().await;
    test.site.add_role(&anna(), new_role("mp1")).await.unwrap();
    let bundle = test.site.add_gateway(&anna(), new_gateway("gw1")).await.unwrap();
    let link = chain(&bundle.link.certificate_pem);
    assert_eq!(link.len(), 2);
    root(&test.site).verify(&link, Purpose::LinkGateway, now(&test)).unwrap();
    assert!(root(&test.site).verify(&link, Purpose::LinkConnector, now(&test)).is_err());
    assert_eq!(chain(&bundle.site_root_pem), [test.site.root_certificate()]);
    assert!(bundle.link.key_pem.starts_with("-----BEGIN PRIVATE KEY-----\n"));
    assert!(!serde_json::to_string(&bundle).unwrap().contains("127.0.0.1"));
    assert!(matches!(bundle.snapshot.open(&root(&test.site), now(&test)), Ok(Publication::Snapshot(_))));
    assert!(test.site.add_gateway(&anna(), new_gateway("gw1")).await.is_err(), "the name is taken");
    assert_eq!(test.site.list_gateway_targets().await.unwrap()[0].gateway, bundle.gateway);
}

#[tokio::test]
async fn a_removed_gateway_is_withdrawn_and_its_name_is_free() {
    let test = TestSite::new().await;
    let bundle = test.site.add_gateway(&anna(), new_gateway("gw1")).await.unwrap();
    test.site.remove_gateway(&anna(), bundle.gateway).await.unwrap();
    assert_eq!(test.site.current_snapshot().withdrawn_links.len(), 1);
    assert!(test.site.list_gateways().await.unwrap().is_empty());
    assert!(test.site.remove_gateway(&anna(), bundle.gateway).await.is_err());
    test.site.add_gateway(&anna(), new_gateway("gw1")).await.unwrap();
}

#[tokio::test]
async fn only_a_connection_point_on_record_is_let_onto_the_site_link() {
    let test = TestSite::new().await;
    let new = NewConnector { name: "cp1".into(), site_links: vec!["site.example.org:8443".into()] };
    let connector = test.site.add_connector(&anna(), new.clone()).await.unwrap();
    let gateway = test.site.add_gateway(&anna(), new_gateway("gw1")).await.unwrap();
    let shown = chain(&connector.link.certificate_pem);
    let party = test.site.authenticate_connector(&shown).await.unwrap().unwrap();
    assert_eq!((party.id, party.name.as_str()), (connector.connector, "cp1"));

    let wrong_role = chain(&gateway.link.certificate_pem);
    assert!(test.site.authenticate_connector(&wrong_role).await.unwrap().is_none());
    assert!(test.site.authenticate_connector(&[]).await.unwrap().is_none());
    let other = TestSite::new().await;
    // The other site is a copy with the same keys that never heard of this connection point.
    assert!(other.site.authenticate_connector(&shown).await.unwrap().is_none());
    test.site.remove_connector(&anna(), connector.connector).await.unwrap();
    assert!(test.site.authenticate_connector(&shown).await.unwrap().is_none());
}

#[tokio::test]
async fn addresses_that_would_lead_elsewhere_are_refused() {
    let test = TestSite::new().await;
    for url in ["http://a/path", "ftp://a", "http://user@a", "", "javascript:alert(1)"] {
        let role = NewRole { internal_url: url.into(), ..new_role("x") };
        assert!(test.site.add_role(&anna(), role).await.is_err(), "{url}");
    }
    let none = NewConnector { name: "x".into(), site_links: vec![] };
    assert!(test.site.add_connector(&anna(), none).await.is_err());
}

#[tokio::test]
async fn settings_are_checked_and_say_when_they_weaken() {
    let test = TestSite::new().await;
    assert!(matches!(test.site.set_setting(&anna(), "no_such", "1").await, Err(SettingError::Unknown(_))));
    let wrong = test.site.set_setting(&anna(), "policy_polling_interval", "2").await.unwrap_err();
    assert_eq!(wrong.to_string(), "policy_polling_interval takes 3 to 1440 minutes, not \"2\"");
    test.site.set_setting(&anna(), "token_binding", "off").await.unwrap();
    let list = test.site.list_settings().await.unwrap();
    let binding = list.iter().find(|setting| setting.name == "token_binding").unwrap();
    assert!(
        binding.weakens && binding.value == "off" && binding.changed_by.as_deref() == Some("operator:anna")
    );
    let everybody = vec![site::ApprovalRule::Network("0.0.0.0/0".parse().unwrap())];
    assert_eq!(test.site.list_alarms().await.unwrap().len(), 1);
    let newest = &test.site.list_audit(None, 1).await.unwrap()[0];
    assert_eq!(newest.act, "setting.set");
    assert!(newest.detail.contains("\"weakens\":true") && newest.from.as_deref() == Some("10.0.0.5"));
    test.site.set_approval_rules(&anna(), everybody).await.unwrap();
    let alarms = test.site.list_alarms().await.unwrap();
    assert_eq!(alarms.iter().map(|alarm| alarm.kind).collect::<Vec<_>>(), ["setting", "approval-rule"]);
}

#[tokio::test]
async fn it_is_known_which_gateways_have_taken_a_version() {
    let test = TestSite::new().await;
    let site = &test.site;
    let one = site.add_gateway(&anna(), new_gateway("gw1")).await.unwrap().gateway;
    let two = site.add_gateway(&anna(), new_gateway("gw2")).await.unwrap().gateway;
    let connector = proto::id::Guid::from_bytes([3; 16]);
    let report = |gateway, version| {
        let state = proto::link::GatewayState { gateway, tunnels: 1, shards: 1, version, problem: None };
        site.record_gateway_state(connector, state);
    };
    report(one, 5);
    report(two, 4);
    let has = site.acknowledgements(5).await.unwrap();
    assert_eq!((has.acknowledged, has.all), (1, 2));
    assert_eq!(has.waiting, ["gw2"]);
    report(two, 6);
    assert_eq!(site.acknowledgements(5).await.unwrap().acknowledged, 2, "a later one counts, too");
}
