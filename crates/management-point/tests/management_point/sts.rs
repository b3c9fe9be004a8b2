//! The token service.

use std::time::Duration;

use proto::id::ClientId;
use proto::message::MessageEndpoint;
use proto::message::header_identity::client_token_headers;
use proto::reason::Reason;
use proto::request::registration::ClientRegistrationResponse;
use proto::token::{self as tokens, TokenClass};
use site::NewBulkToken;

use crate::support::{Answer, Ask, Bench, Token, devices, operator};

fn grant(answer: &Answer) -> serde_json::Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    serde_json::from_slice(&answer.body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_token_buys_a_token_for_registration_bound_to_the_callers_key() {
    let bench = Bench::start().await;
    let [device, ..] = devices();
    let bulk = bench.bulk_token().await;
    let ask = Ask::get("/CCM_STS").bearer(&bulk.text).signed(device, None, bench.now());
    let (message, answer) = (ask.asked(), bench.send(ask).await);
    let grant = grant(&answer);
    assert_eq!((grant["token_type"].as_str(), grant["expires_in"].as_u64()), (Some("CCM"), Some(28_800)));
    let token = bench.site.token_keys().verify(grant["access_token"].as_str().unwrap()).unwrap();
    assert_eq!(token.class, TokenClass::PreAuth);
    assert_eq!(token.confirmation, Some(device.thumbprint()));
    assert_eq!((token.bulk, token.device), (Some(bulk.token.id), None));
    assert!(answer.is_signed_by(&bench.site, &message));
    assert_eq!(
        bench.site.show_bulk_token(bulk.token.id).await.unwrap().uses,
        0,
        "counted at registration only"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_self_prove_token_buys_a_device_token_and_before_approval_one_without_rights() {
    let bench = Bench::start().await;
    let [device, ..] = devices();
    let id = device.register(&bench).await.client_id;
    let own = device.confirm(&bench, id).await.pre_auth_token.unwrap();
    let read = |text: &str| bench.site.token_keys().verify(text).unwrap();
    let held = read(&device.exchange(&bench, &own, Some(id)).await);
    assert_eq!((held.class, held.device), (TokenClass::PreAuth, Some(id)));
    bench.site.approve_device(&operator(), id).await.unwrap();
    let approved = read(&device.exchange(&bench, &own, Some(id)).await);
    assert_eq!((approved.class, approved.device), (TokenClass::Device, Some(id)));
    assert_eq!(approved.expires.since(bench.now()), tokens::CCM_LIFETIME);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_third_party_device_proves_its_key_by_identity_headers() {
    let bench = Bench::start().await;
    let [device, other, _] = devices();
    let id = seed(&bench, device, 1).await;
    let other_id = seed(&bench, other, 2).await;
    let confirmed = bench.site.confirm_registration(None, id, "", false).await.unwrap();
    let with = |headers: [(&str, String); 2]| {
        let ask = Ask::get("/CCM_STS").bearer(&confirmed.token);
        headers.iter().fold(ask, |ask, (name, value)| ask.header(name, value))
    };
    let good = bench.send(with(client_token_headers(id, bench.now(), &device.key))).await;
    assert_eq!(grant(&good)["token_type"], "CCM");
    let refused = |answer: Answer| (answer.status, answer.reason());
    let generic = (401, Some(Reason::StsTokenNotAccepted));
    // Another key under this id; nobody at all; another device under its own id.
    assert_eq!(refused(bench.send(with(client_token_headers(id, bench.now(), &other.key))).await), generic);
    assert_eq!(refused(bench.send(Ask::get("/CCM_STS").bearer(&confirmed.token)).await), generic);
    let wrong = refused(bench.send(with(client_token_headers(other_id, bench.now(), &other.key))).await);
    assert_eq!(wrong, (403, Some(Reason::WrongDevice)));
    // An hour is the window of these headers.
    let late = bench.now().minus(Duration::from_secs(3601));
    let old = refused(bench.send(with(client_token_headers(id, late, &device.key))).await);
    assert_eq!(old, (403, Some(Reason::MessageTooOld)));
}

/// A device that does not sign its requests.
async fn seed(bench: &Bench, device: &crate::support::TestDevice, number: u8) -> ClientId {
    let id = ClientId::new(proto::id::Guid::from_bytes([number; 16]));
    let new = site::NewRegistration {
        signing_certificate: device.certificate.clone(),
        encryption_certificate: device.certificate.clone(),
        name: format!("PC{number}"),
        fqdn: String::new(),
        hardware_id: None,
        client_version: String::new(),
        signs_requests: false,
        join: None,
        credentials: site::Credentials::default(),
        refused: Vec::new(),
        method_reason: String::new(),
        via: site::SeenVia::Intranet,
    };
    bench.site.seed_device(id, new).await.unwrap();
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_is_named_to_its_holder_and_to_nobody_else() {
    let bench = Bench::start().await;
    let [device, other, _] = devices();
    let id = device.enroll(&bench).await;
    let own = device.token(&bench, id, Token::SelfProve).await;
    let new = NewBulkToken { lifetime: Duration::from_mins(1), ..NewBulkToken::default() };
    let bulk = bench.site.create_bulk_token(&operator(), new).await.unwrap();
    bench.clock.advance(tokens::SELF_PROVE_LIFETIME + Duration::from_secs(61));
    let ask = |text: &str, by, id| Ask::get("/CCM_STS").bearer(text).signed(by, id, bench.now());
    let refused = |answer: Answer| (answer.status, answer.phrase.clone(), answer.reason());
    let expired = (401, "Unauthorized".to_owned(), Some(Reason::StsTokenExpired));
    assert_eq!(refused(bench.send(ask(&bulk.text, other, None)).await), expired);
    // A device's own token, ended, is a way back for its key and nothing for another.
    assert_eq!(bench.send(ask(&own, device, Some(id))).await.status, 200);
    let generic = (401, "Unauthorized".to_owned(), Some(Reason::StsTokenNotAccepted));
    assert_eq!(refused(bench.send(ask(&own, other, None)).await), generic, "not told whose token it is");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_was_away_comes_back_by_its_key_within_the_recovery_window() {
    let bench = Bench::start().await;
    let [device, ..] = devices();
    let id = device.enroll(&bench).await;
    let own = device.token(&bench, id, Token::SelfProve).await;
    bench.clock.advance(tokens::SELF_PROVE_LIFETIME + Duration::from_secs(61));
    let read = |text: &str| bench.site.token_keys().verify(text).unwrap();
    let back = device.exchange(&bench, &own, Some(id)).await;
    let token = read(&back);
    assert_eq!((token.class, token.device), (TokenClass::PreAuth, Some(id)));
    assert_eq!(token.expires.since(bench.now()), Duration::from_hours(1));
    // It opens the confirmation and nothing that a device may.
    let path = "/ccm_system_tokenauth/request";
    let beat = device.message(
        &bench,
        id,
        MessageEndpoint::Discovery,
        &crate::support::heartbeat(id, bench.now(), 0),
    );
    let answer =
        bench.send(Ask::message(path, beat).bearer(&back).signed(device, Some(id), bench.now())).await;
    assert_eq!(answer.reason(), Some(Reason::InsideTokenWrongEndpoint));
    let body = crate::support::confirmation_body(device, id, bench.now());
    let confirmation = crate::support::message::plain(&bench, MessageEndpoint::ClientRegistration, &body);
    let ask = Ask::message(path, confirmation).bearer(&back).signed(device, Some(id), bench.now());
    let response = ClientRegistrationResponse::parse(&bench.send(ask).await.reply()).unwrap();
    let token = read(&device.exchange(&bench, &response.pre_auth_token.unwrap(), Some(id)).await);
    assert_eq!((token.class, token.device), (TokenClass::Device, Some(id)));

    // Past the window nothing but an operator helps, who sees it knock.
    bench.clock.advance(tokens::SELF_PROVE_LIFETIME * 20);
    let ask = Ask::get("/CCM_STS").bearer(&own).signed(device, Some(id), bench.now());
    let reason = bench.send(ask).await.reason();
    assert!(matches!(reason, Some(Reason::RecoveryWindowOver | Reason::StsTokenNotAccepted)), "{reason:?}");
    let body = crate::support::confirmation_body(device, id, bench.now());
    let confirmation = crate::support::message::plain(&bench, MessageEndpoint::ClientRegistration, &body);
    let ask = Ask::message("/ccm_system/request", confirmation).signed(device, Some(id), bench.now());
    assert_eq!(bench.send(ask).await.reason(), Some(Reason::RecoveryWindowOver));
    bench.site.upkeep().await.unwrap();
    let stranded = bench.site.list_stranded().await.unwrap();
    assert!(stranded.iter().any(|who| who.device == Some(id) && who.reason == "RG-5004"), "{stranded:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_and_deletions_count_at_the_next_request() {
    let bench = Bench::start().await;
    let [device, stranger, _] = devices();
    let id = device.enroll(&bench).await;
    let own = device.token(&bench, id, Token::SelfProve).await;
    let bulk = bench.bulk_token().await;
    let ask = |text: &str, by, id| Ask::get("/CCM_STS").bearer(text).signed(by, id, bench.now());
    let refused = |answer: Answer| (answer.status, answer.phrase.clone(), answer.reason());

    bench.site.block_bulk_token(&operator(), bulk.token.id).await.unwrap();
    let answer = refused(bench.send(ask(&bulk.text, stranger, None)).await);
    assert_eq!(answer, (403, "Forbidden".into(), Some(Reason::StsBulkTokenBlocked)));
    bench.site.block_device(&operator(), id, "stolen").await.unwrap();
    let answer = refused(bench.send(ask(&own, device, Some(id))).await);
    assert_eq!(answer, (403, "Forbidden".into(), Some(Reason::StsDeviceBlocked)));
    bench.site.unblock_device(&operator(), id).await.unwrap();
    assert_eq!(bench.send(ask(&own, device, Some(id))).await.status, 200);
    bench.site.delete_device(&operator(), id).await.unwrap();
    let answer = refused(bench.send(ask(&own, device, Some(id))).await);
    assert_eq!(answer, (403, "Un-authorized request".into(), Some(Reason::StsUnknownDevice)));
    // An operator sees who knocks with a record that is gone.
    bench.site.upkeep().await.unwrap();
    let stranded = bench.site.list_stranded().await.unwrap();
    assert!(stranded.iter().any(|who| !who.registered && who.reason == "RG-4006"), "{stranded:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_or_without_its_key_nothing_is_given() {
    let bench = Bench::start().await;
    let [device, other, _] = devices();
    let id = device.enroll(&bench).await;
    let own = device.token(&bench, id, Token::SelfProve).await;
    let bulk = bench.bulk_token().await.text;
    let missing = bench.send(Ask::get("/CCM_STS")).await;
    assert_eq!((missing.status, missing.reason()), (401, Some(Reason::StsTokenMissing)));
    for ask in [
        Ask::get("/CCM_STS").bearer(&own),
        Ask::get("/CCM_STS").bearer(&bulk),
        Ask::get("/CCM_STS").bearer("a.b.c"),
        Ask::get("/CCM_STS").header("Authorization", "Basic YTpi"),
        Ask::get("/CCM_STS").bearer(&own).signed(other, None, bench.now()),
        // Signed for another token than the one that is sent.
        Ask::get("/CCM_STS").signed(device, Some(id), bench.now()).bearer(&own),
    ] {
        let answer = bench.send(ask).await;
        assert_eq!((answer.status, answer.reason()), (401, Some(Reason::StsTokenNotAccepted)), "{answer:?}");
        assert_eq!(answer.text(), "RG-4002\n", "nothing but the code");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_changed_character_of_a_token_is_noticed() {
    let bench = Bench::start().await;
    let [device, ..] = devices();
    let good = bench.bulk_token().await.text;
    let (mut refused, mut tried) = (0, 0);
    for at in (0..good.len()).step_by(7) {
        let mut bytes = good.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let text = String::from_utf8(bytes).unwrap();
        let answer = bench.send(Ask::get("/CCM_STS").bearer(&text).signed(device, None, bench.now())).await;
        tried += 1;
        refused += usize::from((answer.status, answer.reason()) == (401, Some(Reason::StsTokenNotAccepted)));
    }
    println!("{refused} of {tried} changed tokens refused");
    assert_eq!(refused, tried);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_up_bulk_token_lets_in_only_those_who_used_it() {
    let bench = Bench::start().await;
    let [device, other, _] = devices();
    let new = NewBulkToken { max_uses: Some(1), ..NewBulkToken::default() };
    let bulk = bench.site.create_bulk_token(&operator(), new).await.unwrap();
    let first = device.exchange(&bench, &bulk.text, None).await;
    let second = other.exchange(&bench, &bulk.text, None).await;
    let ask = |by: &crate::support::TestDevice, name: &str, token: &str| {
        let body = crate::support::registration_body(by, name, bench.now(), None);
        let body = crate::support::message::plain(
            &bench,
            proto::message::MessageEndpoint::ClientRegistration,
            &body,
        );
        Ask::message("/ccm_system_tokenauth/request", body).bearer(token).signed(by, None, bench.now())
    };
    assert_eq!(bench.send(ask(device, "PC1", &first)).await.reason(), None);
    let late = bench.send(ask(other, "PC2", &second)).await;
    assert_eq!((late.status, late.reason()), (200, Some(Reason::BulkTokenUsedUp)));
    // The same key again is no second use.
    assert_eq!(bench.send(ask(device, "PC1", &first)).await.reason(), None);
    assert_eq!(bench.site.show_bulk_token(bulk.token.id).await.unwrap().uses, 1);
    let sts = bench.send(Ask::get("/CCM_STS").bearer(&bulk.text).signed(other, None, bench.now())).await;
    assert_eq!(sts.reason(), Some(Reason::BulkTokenUsedUp));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_binding_off_a_self_prove_token_counts_by_itself() {
    let bench = Bench::start().await;
    let [device, ..] = devices();
    let id = seed(&bench, device, 1).await;
    let own = bench.site.confirm_registration(None, id, "", false).await.unwrap().token;
    assert_eq!(bench.send(Ask::get("/CCM_STS").bearer(&own)).await.status, 401);
    bench.site.set_setting(&operator(), "token_binding", "off").await.unwrap();
    assert_eq!(bench.send(Ask::get("/CCM_STS").bearer(&own)).await.status, 200);
}
