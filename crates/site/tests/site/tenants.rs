use std::time::Duration;

use proto::entra::KEYS_LIFETIME;
use proto::id::Guid;
use proto::jose::{Jwk, JwkSet};
use proto::time::Timestamp;
use proto::token::{EntraOrigin, TokenClass};
use site::{
    Approval, CcmSubject, CcmTokenError, Evidence, NewTenant, Site, TenantError, TenantPart, WantedKeys,
};
use zeroize::Zeroizing;

use crate::support::{TestSite, anna, device, key_of, now};

pub(crate) const TENANT: Guid = Guid::from_bytes([0x9a; 16]);
const ISSUER: &str = "https://login.example.org/9a/v2.0";

pub(crate) fn tenant(name: &str) -> NewTenant {
    NewTenant {
        tenant: TENANT,
        name: name.to_owned(),
        issuers: vec![ISSUER.to_owned()],
        audiences: Vec::new(),
        client_app_id: "0b7c8ab3-9ea1-4ffa-b2b9-8ffdd944bd8b".to_owned(),
        resource: "https://ConfigMgrService".to_owned(),
        authority: "https://login.example.org/9a".to_owned(),
        graph_url: "https://graph.example.org/v1.0".to_owned(),
        discovery_app_id: "app".to_owned(),
        secret: Some(Zeroizing::new("CANARY-tenant-5fd1".to_owned())),
        secret_expires_at: None,
        ca_pem: None,
        discovery: true,
    }
}

fn keys(kid: &str) -> JwkSet {
    JwkSet { keys: vec![Jwk { kid: kid.to_owned(), alg: "RS256".to_owned(), key: vec![1; 8] }] }
}

async fn put(test: &TestSite, keys: JwkSet) -> Result<(), TenantError> {
    test.site.put_tenant_keys(TENANT, &[ISSUER.to_owned()], keys, now(test)).await
}

fn published(site: &Site) -> Option<proto::entra::PublishedTenant> {
    site.current_snapshot().tenants.get(&TENANT).cloned()
}

#[tokio::test]
async fn a_tenant_is_published_with_its_keys_and_taken_back() {
    let test = TestSite::new().await;
    let added = test.site.add_tenant(&anna(), tenant("contoso")).await.unwrap();
    assert_eq!(added.audiences, ["https://ConfigMgrService"], "the resource, where nothing else was said");
    assert_eq!(published(&test.site).unwrap().keys_until, Timestamp::default(), "no keys, no tokens");
    put(&test, keys("a")).await.unwrap();
    let seen = published(&test.site).unwrap();
    assert_eq!((seen.keys, seen.keys_until), (keys("a"), now(&test).plus(KEYS_LIFETIME)));
    assert!(test.site.tenant_set().tenant(TENANT).is_some());

    test.site.set_tenant_enabled(&anna(), TENANT, false).await.unwrap();
    assert!(!published(&test.site).unwrap().enabled);
    let test = test.restart().await;
    assert!(!published(&test.site).unwrap().enabled, "and after a restart");
    test.site.set_tenant_enabled(&anna(), TENANT, true).await.unwrap();
    test.site.remove_tenant(&anna(), TENANT).await.unwrap();
    assert!(published(&test.site).is_none() && test.site.tenant_set().tenant(TENANT).is_none());
    let unknown = test.site.set_tenant_enabled(&anna(), TENANT, true).await;
    assert!(matches!(unknown, Err(TenantError::Unknown(_))));
}

#[tokio::test]
async fn two_tenants_share_neither_id_nor_name_nor_issuer() {
    let test = TestSite::new().await;
    test.site.add_tenant(&anna(), tenant("contoso")).await.unwrap();
    let by = anna();
    let add = |new| test.site.add_tenant(&by, new);
    assert!(matches!(add(tenant("other")).await, Err(TenantError::Exists(_))));
    let other = Guid::from_bytes([2; 16]);
    let same_name = NewTenant { tenant: other, ..tenant("contoso") };
    assert!(matches!(add(same_name).await, Err(TenantError::NameTaken(_))));
    let same_issuer = NewTenant { tenant: other, ..tenant("fabrikam") };
    assert!(matches!(add(same_issuer).await, Err(TenantError::IssuerTaken(_))));
    for authority in ["http://login.example.org", "https://u@login", "file:///etc", ""] {
        let wrong = NewTenant { authority: authority.to_owned(), ..tenant("x") };
        assert!(matches!(add(wrong).await, Err(TenantError::Name(_))), "{authority}");
    }
    assert_eq!(test.site.list_tenants().await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_outage_of_the_provider_touches_no_known_key_and_is_an_alarm() {
    let test = TestSite::new().await;
    test.site.add_tenant(&anna(), NewTenant { discovery: false, ..tenant("contoso") }).await.unwrap();
    put(&test, keys("a")).await.unwrap();
    let version = test.site.current_snapshot().version;
    assert!(matches!(put(&test, JwkSet::default()).await, Err(TenantError::NoKeys)));
    let stranger = ["https://elsewhere".to_owned()];
    let refused = test.site.put_tenant_keys(TENANT, &stranger, keys("b"), now(&test)).await;
    assert!(matches!(refused, Err(TenantError::Issuer { .. })));
    test.site.note_tenant_failure(TENANT, TenantPart::Keys, "HTTP 500").await.unwrap();
    assert_eq!(test.site.current_snapshot().version, version);
    assert_eq!(published(&test.site).unwrap().keys, keys("a"));
    let tenants = test.site.list_tenants().await.unwrap();
    assert_eq!(tenants[0].problem(), Some("HTTP 500"));
    let texts = || async {
        let alarms = test.site.list_alarms().await.unwrap();
        alarms.into_iter().filter(|alarm| alarm.kind == "tenant").map(|alarm| alarm.text).collect::<Vec<_>>()
    };
    assert_eq!(texts().await, ["Keys of contoso could not be fetched: HTTP 500; the known ones go on."]);
    test.advance(86_401);
    assert!(texts().await[0].starts_with("Keys of contoso count no longer"));
    put(&test, keys("a")).await.unwrap();
    assert!(texts().await.is_empty());
}

#[tokio::test]
async fn keys_fetched_every_quarter_of_an_hour_are_published_once_an_hour() {
    let test = TestSite::new().await;
    test.site.add_tenant(&anna(), tenant("contoso")).await.unwrap();
    let mut versions = std::collections::BTreeSet::new();
    for _ in 0..16 {
        put(&test, keys("a")).await.unwrap();
        versions.insert(test.site.current_snapshot().version);
        test.advance(15 * 60);
    }
    assert_eq!(versions.len(), 4);
    let before = test.site.current_snapshot().version;
    put(&test, keys("b")).await.unwrap();
    assert_eq!(test.site.current_snapshot().version, before + 1, "other keys at once");
    let fetched = test.site.list_tenants().await.unwrap()[0].keys_fetched_at;
    assert_eq!(fetched, Some(now(&test)));
}

#[tokio::test]
async fn strangers_cause_a_fetch_in_thirty_seconds_and_only_for_tenants_that_count() {
    let test = TestSite::new().await;
    test.site.want_keys(TENANT);
    assert_eq!(test.site.take_wanted_keys(), WantedKeys::Nothing, "unknown");
    test.site.add_tenant(&anna(), tenant("contoso")).await.unwrap();
    // Onboarding wakes the fetcher by itself.
    tokio::time::timeout(Duration::from_secs(5), test.site.wanted_keys().notified()).await.unwrap();
    assert_eq!(test.site.take_wanted_keys(), WantedKeys::Fetch(TENANT));
    for _ in 0..1000 {
        test.site.want_keys(TENANT);
    }
    assert_eq!(test.site.take_wanted_keys(), WantedKeys::After(Duration::from_secs(30)));
    test.advance(30);
    assert_eq!(test.site.take_wanted_keys(), WantedKeys::Fetch(TENANT));
    assert_eq!(test.site.take_wanted_keys(), WantedKeys::Nothing);
    test.site.want_keys(TENANT);
    put(&test, keys("a")).await.unwrap();
    assert_eq!(test.site.take_wanted_keys(), WantedKeys::Nothing, "they were just fetched");
    test.site.set_tenant_enabled(&anna(), TENANT, false).await.unwrap();
    test.site.want_keys(TENANT);
    assert_eq!(test.site.take_wanted_keys(), WantedKeys::Nothing, "switched off");
}

#[tokio::test]
async fn a_secret_comes_back_as_it_was_and_lies_nowhere_in_the_clear() {
    let test = TestSite::new().await;
    let ends = now(&test).plus(Duration::from_hours(24 * 20));
    let new = NewTenant { secret_expires_at: Some(ends), ..tenant("contoso") };
    assert!(!format!("{new:?}").contains("CANARY"));
    test.site.add_tenant(&anna(), new).await.unwrap();
    let secret = test.site.tenant_secret(TENANT).await.unwrap().unwrap();
    assert_eq!(secret.as_str(), "CANARY-tenant-5fd1");
    let credentials = test.site.list_site_credentials().await.unwrap();
    assert_eq!((credentials[0].kind, credentials[0].ends_at), ("tenant-secret", ends));
    assert!(test.site.list_alarms().await.unwrap().iter().any(|alarm| alarm.kind == "credential"));
    let next = Zeroizing::new("CANARY-tenant-77aa".to_owned());
    test.site.set_tenant_secret(&anna(), TENANT, next, None).await.unwrap();
    assert_eq!(test.site.tenant_secret(TENANT).await.unwrap().unwrap().as_str(), "CANARY-tenant-77aa");
    assert!(!test.site.list_alarms().await.unwrap().iter().any(|alarm| alarm.kind == "credential"));

    let audit = serde_json::to_string(&test.site.list_audit(None, 100).await.unwrap()).unwrap();
    let listed = format!("{:?}", test.site.list_tenants().await.unwrap());
    let snapshot = test.site.snapshot().unwrap().payload.clone();
    let dir = test.dir.path().to_owned();
    test.site.close().await;
    let files = std::fs::read_dir(dir).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    let mut places: Vec<Vec<u8>> = files.collect();
    places.extend([audit.into_bytes(), listed.into_bytes(), snapshot.into_bytes()]);
    for place in places {
        assert!(!place.windows(6).any(|window| window == b"CANARY"));
    }
}

fn origin(device: Option<u8>, user: Option<u8>) -> EntraOrigin {
    let guid = |byte: u8| Guid::from_bytes([byte; 16]);
    EntraOrigin { tenant: TENANT, device: device.map(guid), user: user.map(guid) }
}

#[tokio::test]
async fn an_entra_token_opens_registration_and_then_what_it_speaks_for() {
    let test = TestSite::new().await;
    let site = &test.site;
    let ask = |origin| site.issue_ccm_token(CcmSubject::Entra { origin, key: key_of(1) });
    assert!(matches!(ask(origin(Some(1), None)).await, Err(CcmTokenError::UnknownTenant(_))));
    site.add_tenant(&anna(), tenant("contoso")).await.unwrap();
    let first = ask(origin(Some(1), None)).await.unwrap();
    assert_eq!(first.class, TokenClass::PreAuth);
    let token = site.token_keys().verify(&first.text).unwrap();
    assert_eq!(
        (token.entra, token.confirmation, token.device),
        (Some(origin(Some(1), None)), Some(key_of(1)), None)
    );

    let mut new = device(1);
    new.credentials.entra = token.entra;
    let registered =
        site.register_client(None, new, Evidence::Entra { origin: origin(Some(1), None) }).await.unwrap();
    assert_eq!(registered.approval, Approval::Approved);
    assert_eq!(registered.approval_by, format!("entra {TENANT}"));
    let class = |token: &site::CcmToken| site.token_keys().verify(&token.text).unwrap();
    let own = class(&ask(origin(Some(1), None)).await.unwrap());
    assert_eq!((own.class, own.device), (TokenClass::Device, Some(registered.client_id)));
    let with_user = class(&ask(origin(Some(1), Some(7))).await.unwrap());
    assert_eq!((with_user.class, with_user.user), (TokenClass::User, origin(None, Some(7)).user));
    let other = ask(origin(Some(2), None)).await;
    assert!(matches!(other, Err(CcmTokenError::OtherEntraDevice { .. })), "a copied token");

    site.withdraw_approval(&anna(), registered.client_id).await.unwrap();
    assert_eq!(ask(origin(Some(1), Some(7))).await.unwrap().class, TokenClass::PreAuth);
    site.set_tenant_enabled(&anna(), TENANT, false).await.unwrap();
    assert!(matches!(ask(origin(Some(1), None)).await, Err(CcmTokenError::TenantDisabled(_))));
    site.set_tenant_enabled(&anna(), TENANT, true).await.unwrap();
    site.block_device(&anna(), registered.client_id, "").await.unwrap();
    assert!(matches!(ask(origin(Some(1), None)).await, Err(CcmTokenError::Blocked(_))));
    // Nor by its tenant under another key.
    let other_key = CcmSubject::Entra { origin: origin(Some(1), None), key: key_of(2) };
    let refused = site.issue_ccm_token(other_key).await.unwrap_err();
    assert!(matches!(refused, CcmTokenError::EntraDeviceBlocked(_)), "{refused:?}");
}
