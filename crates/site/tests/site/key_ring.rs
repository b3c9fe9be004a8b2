use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proto::snapshot::Publication;
use proto::token::{KeySet, TokenError};
use proto::trust::{Purpose, SiteRoot};
use site::keys::{KeyState, ServerNames};
use site::{By, CcmSubject, Evidence, KeyError, NewBulkToken, NewGateway, OpenError, Site};

use crate::support::{TestSite, anna, clock, config, device, init_config, key_of, now};

async fn ring(site: &Site) -> Vec<(KeyState, proto::id::Guid)> {
    let keys = site.list_keys().await.unwrap();
    keys.iter().filter(|key| key.x5t.is_some()).map(|key| (key.state, key.id)).collect()
}

async fn in_state(site: &Site, state: KeyState) -> proto::id::Guid {
    ring(site).await.into_iter().find(|(found, _)| *found == state).unwrap().1
}

#[tokio::test]
async fn rotation_breaks_no_token_and_the_old_key_goes_when_its_last_token_has_expired() {
    let test = TestSite::new().await;
    let old = test.site.create_bulk_token(&anna(), NewBulkToken::default()).await.unwrap().text;
    let (current, next) =
        (in_state(&test.site, KeyState::Current).await, in_state(&test.site, KeyState::Next).await);
    test.site.rotate_token_key(&anna()).await.unwrap();
    assert_eq!(in_state(&test.site, KeyState::Current).await, next, "the one that gateways know already");
    assert_eq!(in_state(&test.site, KeyState::Retired).await, current);
    assert_eq!(test.site.current_snapshot().token_certificates.len(), 3);
    let new = test.site.create_bulk_token(&anna(), NewBulkToken::default()).await.unwrap().text;
    for text in [&old, &new] {
        assert!(test.site.token_keys().verify(text).is_ok());
    }
    let test = test.restart().await;
    assert!(test.site.token_keys().verify(&old).is_ok());

    test.advance(3 * 86_400 + 121);
    test.site.upkeep().await.unwrap();
    assert_eq!(test.site.current_snapshot().token_certificates.len(), 2);
    assert!(matches!(test.site.token_keys().verify(&old), Err(TokenError::UnknownKey(_))));
    assert!(test.site.token_keys().verify(&new).is_ok());
}

#[tokio::test]
async fn rotation_under_load_refuses_no_good_token() {
    let test = TestSite::new().await;
    let id = test.site.register_client(None, device(1), Evidence::None).await.unwrap().client_id;
    let subject = CcmSubject::Device { device: id, key: key_of(1) };
    let stop = Arc::new(AtomicBool::new(false));
    let mut load = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (site, stop) = (test.site.clone(), Arc::clone(&stop));
        load.spawn(async move {
            // What a gateway verifies with is what was published before, so both are asked.
            let mut tokens = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let token = site.issue_ccm_token(subject).await.unwrap().text;
                site.token_keys().verify(&token).unwrap();
                published_keys(&site).verify(&token).unwrap();
                tokens.push(token);
                tokio::task::yield_now().await;
            }
            tokens
        });
    }
    for _ in 0..3 {
        test.site.rotate_token_key(&anna()).await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let tokens: Vec<_> = load.join_all().await.concat();
    let signers: HashSet<_> =
        tokens.iter().map(|token| token.split('.').next().unwrap().to_owned()).collect();
    assert!(signers.len() >= 3, "{} tokens by {} keys", tokens.len(), signers.len());
    let (own, published) = (test.site.token_keys(), published_keys(&test.site));
    for token in &tokens {
        assert!(
            own.verify(token).is_ok() && published.verify(token).is_ok(),
            "the first as well as the last"
        );
    }
}

#[tokio::test]
async fn the_ring_waits_for_gateways_that_do_not_know_the_next_key_yet() {
    let test = TestSite::new().await;
    let site = &test.site;
    let new = NewGateway { name: "gw1".into(), host: "g".into(), address: "g:443".into() };
    let gateway = site.add_gateway(&anna(), new).await.unwrap().gateway;
    let report = |version| {
        let state = proto::link::GatewayState { gateway, tunnels: 1, shards: 1, version, problem: None };
        site.record_gateway_state(proto::id::Guid::nil(), state);
    };
    report(site.current_snapshot().version);
    site.rotate_token_key(&anna()).await.unwrap();
    let next = in_state(site, KeyState::Next).await;
    let rotation = tokio::spawn({
        let site = site.clone();
        async move { site.rotate_token_key(&anna()).await }
    });
    // Long enough for the ring to move if it did not wait: the new key is made first, then written.
    for _ in 0..3000 {
        assert_eq!(in_state(site, KeyState::Next).await, next);
    }
    assert!(!rotation.is_finished());
    report(site.current_snapshot().version);
    rotation.await.unwrap().unwrap();
    assert_eq!(in_state(site, KeyState::Current).await, next);
    // A key that is known to somebody else must go, whoever has heard of it.
    let current = in_state(site, KeyState::Current).await;
    site.drop_token_key(&anna(), current).await.unwrap();
    test.advance(61);
    site.rotate_token_key(&anna()).await.unwrap();
}

/// The keys that gateways have.
fn published_keys(site: &Site) -> KeySet {
    let snapshot = site.current_snapshot();
    let certificates = snapshot.token_certificates.iter().map(|certificate| certificate.der.as_slice());
    KeySet::new(snapshot.hierarchy, certificates).unwrap()
}

#[tokio::test]
async fn a_dropped_key_is_out_at_once_and_the_next_takes_its_place() {
    let test = TestSite::new().await;
    let text = test.site.create_bulk_token(&anna(), NewBulkToken::default()).await.unwrap().text;
    let (current, next) =
        (in_state(&test.site, KeyState::Current).await, in_state(&test.site, KeyState::Next).await);
    test.site.drop_token_key(&anna(), current).await.unwrap();
    assert!(test.site.token_keys().verify(&text).is_err());
    assert_eq!(in_state(&test.site, KeyState::Current).await, next);
    assert_eq!(in_state(&test.site, KeyState::Dropped).await, current);
    assert_eq!(test.site.current_snapshot().token_certificates.len(), 2);
    assert!(matches!(test.site.drop_token_key(&anna(), current).await, Err(KeyError::Unknown(_))));
    let new = test.site.create_bulk_token(&anna(), NewBulkToken::default()).await.unwrap().text;
    assert!(test.site.token_keys().verify(&new).is_ok());
}

#[tokio::test]
async fn the_sites_certificates_lead_to_its_root_each_for_its_own_purpose() {
    let test = TestSite::new().await;
    let root = SiteRoot::new(test.site.root_certificate()).unwrap();
    root.verify(&test.site.site_signing_chain(), Purpose::SiteSigning, now(&test)).unwrap();
    root.verify(&test.site.message_chain(), Purpose::Message, now(&test)).unwrap();
    assert!(root.verify(&test.site.message_chain(), Purpose::SiteSigning, now(&test)).is_err());
    let names = ServerNames { dns: vec!["localhost".into()], addresses: vec!["127.0.0.1".parse().unwrap()] };
    for purpose in [Purpose::RoleTls, Purpose::LinkSite] {
        let issued = test.site.issue_server_certificate(purpose, &names).unwrap();
        root.verify(&issued.chain, purpose, now(&test)).unwrap();
    }
    assert_eq!(test.site.sign_answer(b"answer").unwrap().len(), 64);
    let signed = test.site.snapshot().unwrap();
    assert!(matches!(signed.open(&root, now(&test)), Ok(Publication::Snapshot(_))));
}

#[tokio::test]
async fn a_second_site_is_not_made_over_the_first_and_another_key_file_opens_nothing() {
    let test = TestSite::new().await;
    let dir = test.dir.path().to_owned();
    test.site.close().await;
    let again = Site::init(init_config(&dir), clock()).await;
    assert!(matches!(again, Err(site::InitError::Exists(_))));

    let other = tempfile::tempdir().unwrap();
    site::keys::KeyFile::create(&other.path().join("site.key")).unwrap();
    let mut wrong = config(&dir);
    wrong.key_file = other.path().join("site.key");
    assert!(matches!(Site::open(wrong, clock()).await, Err(OpenError::Keys(_))));

    let mut empty = config(&dir);
    empty.database = other.path().join("empty.db");
    assert!(matches!(Site::open(empty, clock()).await, Err(OpenError::NotInitialised(_))));
}

#[tokio::test]
async fn operators_prove_themselves_by_keys_that_the_site_does_not_keep() {
    let test = TestSite::new().await;
    let key = test.operator_key();
    assert!(key.starts_with("rgop_"));
    assert_eq!(test.site.authenticate_operator(&key).await.unwrap().unwrap().name, "anna");
    let mut wrong = key.clone();
    wrong.pop();
    for wrong in [wrong.as_str(), "", "rgop_", &format!("{key}x"), &key.to_uppercase()] {
        assert!(test.site.authenticate_operator(wrong).await.unwrap().is_none());
    }
    let bert = test.site.create_operator(&anna(), "bert").await.unwrap();
    assert_eq!(test.site.authenticate_operator(&bert.key).await.unwrap().unwrap().name, "bert");
    assert!(test.site.create_operator(&anna(), "bert").await.is_err());
    test.site.disable_operator(&anna(), "bert").await.unwrap();
    assert!(test.site.authenticate_operator(&bert.key).await.unwrap().is_none());
    assert!(test.site.disable_operator(&By::site(), "anna").await.is_err(), "somebody must be able to act");
}
