//! The road back: ended tokens, recovery windows, operators, and who still knocks.

use proto::id::ClientId;
use proto::identity::Method;
use proto::link::Event;
use proto::reason::Reason;
use proto::token::TokenClass;
use site::{CcmSubject, ConfirmError, Credentials, Evidence, Knock, NewBulkToken, NewRegistration, SeenVia};

use crate::support::{TestSite, anna, certificate, device, key_of, now};

const DAY: u64 = 86_400;

async fn approved(test: &TestSite, number: u32) -> ClientId {
    let inside = Evidence::Network { source: "10.1.2.3".parse().unwrap() };
    let id = test.site.register_client(None, device(number), inside).await.unwrap().client_id;
    test.site.confirm_registration(None, id, "", true).await.unwrap();
    id
}

#[tokio::test]
async fn an_ended_token_and_the_key_buy_a_token_for_the_confirmation_alone() {
    let test = TestSite::new().await;
    let id = approved(&test, 1).await;
    let ended = test.site.confirm_registration(None, id, "", true).await.unwrap().token;
    test.advance(120 * DAY);
    let token = test.site.token_keys().verify(&ended).unwrap();
    assert!(token.check_time(now(&test)).is_err());
    let given = test.site.recover_device(id, key_of(1)).await.unwrap();
    let given = test.site.token_keys().verify(&given.text).unwrap();
    assert_eq!((given.class, given.device), (TokenClass::PreAuth, Some(id)), "although it is approved");
    assert_eq!(given.expires.since(now(&test)).as_secs(), 3600);
    let back = test.site.confirm_registration(None, id, "", true).await.unwrap();
    assert!(back.recovered && back.approval_status == 1);
    let record = test.site.find_device(id).await.unwrap().unwrap();
    assert_eq!(record.recovered_at, Some(now(&test)));
    assert!(!test.site.confirm_registration(None, id, "", true).await.unwrap().recovered);
}

#[tokio::test]
async fn the_ended_token_still_verifies_after_its_key_was_rotated() {
    let test = TestSite::new().await;
    let id = approved(&test, 1).await;
    let ended = test.site.confirm_registration(None, id, "", true).await.unwrap().token;
    for _ in 0..2 {
        test.site.rotate_token_key(&anna()).await.unwrap();
    }
    test.advance((90 + 179) * DAY);
    test.site.upkeep().await.unwrap();
    assert!(test.site.token_keys().verify(&ended).is_ok(), "within the recovery window");
    assert!(test.site.recover_device(id, key_of(1)).await.is_ok());
    test.advance(2 * DAY);
    test.site.upkeep().await.unwrap();
    assert!(test.site.token_keys().verify(&ended).is_err());
}

#[tokio::test]
async fn nobody_else_and_nobody_too_late_comes_back() {
    let test = TestSite::new().await;
    let id = approved(&test, 1).await;
    let reason = async |id, key| test.site.recover_device(id, key).await.unwrap_err().reason();
    test.advance(100 * DAY);
    assert_eq!(reason(id, key_of(2)).await, Reason::StsTokenNotAccepted);
    assert_eq!(reason(ClientId::new(proto::id::Guid::nil()), key_of(1)).await, Reason::StsUnknownDevice);
    test.site.block_device(&anna(), id, "").await.unwrap();
    assert_eq!(reason(id, key_of(1)).await, Reason::StsDeviceBlocked);
    test.site.unblock_device(&anna(), id).await.unwrap();
    test.advance(170 * DAY);
    assert_eq!(reason(id, key_of(1)).await, Reason::RecoveryWindowOver);
    let late = test.site.confirm_registration(None, id, "", true).await.unwrap_err();
    assert!(matches!(late, ConfirmError::TooLate { .. }) && late.reason() == Reason::RecoveryWindowOver);

    test.site.readmit_device(&anna(), id).await.unwrap();
    assert!(test.site.recover_device(id, key_of(1)).await.is_ok());
    assert!(test.site.confirm_registration(None, id, "", true).await.unwrap().recovered);
    test.site.block_device(&anna(), id, "").await.unwrap();
    assert!(test.site.readmit_device(&anna(), id).await.is_err(), "a blocked one is unblocked first");
}

#[tokio::test]
async fn a_renewal_whose_answer_is_lost_is_harmless() {
    let test = TestSite::new().await;
    let id = approved(&test, 1).await;
    let held = test.site.confirm_registration(None, id, "", true).await.unwrap().token;
    test.advance(30 * DAY);
    for _ in 0..3 {
        drop(test.site.confirm_registration(None, id, "", true).await.unwrap());
    }
    let token = test.site.token_keys().verify(&held).unwrap();
    assert!(token.check_time(now(&test)).is_ok());
    let subject = CcmSubject::Device { device: id, key: key_of(1) };
    assert_eq!(test.site.issue_ccm_token(subject).await.unwrap().class, TokenClass::Device);
}

#[tokio::test]
async fn a_bulk_token_on_an_installed_client_brings_it_back_under_its_id() {
    let test = TestSite::new().await;
    let id = approved(&test, 1).await;
    test.advance(400 * DAY);
    let new = NewBulkToken { max_uses: Some(1), ..NewBulkToken::default() };
    let bulk = test.site.create_bulk_token(&anna(), new).await.unwrap().token.id;
    for _ in 0..3 {
        let evidence = Evidence::BulkToken { id: bulk };
        let back = test.site.register_client(None, device(1), evidence).await.unwrap();
        assert_eq!((back.client_id, back.is_new), (id, false));
    }
    assert_eq!(test.site.show_bulk_token(bulk).await.unwrap().uses, 1, "once a key");
    assert!(test.site.confirm_registration(None, id, "", true).await.is_ok());
    let rows = test.site.list_audit(None, 100).await.unwrap();
    let readmitted = rows.iter().find(|row| row.act == "device.readmit").unwrap();
    assert!(readmitted.detail.contains("bulk-token"), "{}", readmitted.detail);

    // A token that only lets devices wait readmits nobody.
    test.advance(400 * DAY);
    let hold = NewBulkToken { approval: site::BulkTokenApproval::Hold, ..NewBulkToken::default() };
    let bulk = test.site.create_bulk_token(&anna(), hold).await.unwrap().token.id;
    test.site.register_client(None, device(1), Evidence::BulkToken { id: bulk }).await.unwrap();
    assert!(test.site.confirm_registration(None, id, "", true).await.is_err());
}

#[tokio::test]
async fn a_deleted_device_is_unknown_on_every_road() {
    let test = TestSite::new().await;
    let id = approved(&test, 1).await;
    test.site.delete_device(&anna(), id).await.unwrap();
    let confirm = test.site.confirm_registration(None, id, "", true).await.unwrap_err();
    assert_eq!(confirm.reason(), Reason::MessageRefused);
    assert_eq!(test.site.recover_device(id, key_of(1)).await.unwrap_err().reason(), Reason::StsUnknownDevice);
    assert!(test.site.readmit_device(&anna(), id).await.is_err());
}

fn knock(device: Option<ClientId>, key: Option<u32>, reason: Reason) -> Knock {
    Knock {
        device,
        key: key.map(key_of),
        name: None,
        reason,
        via: SeenVia::Gateway,
        address: None,
        detail: "why exactly".to_owned(),
    }
}

#[tokio::test]
async fn who_knocks_with_dead_credentials_is_listed_with_what_to_do_until_it_is_back() {
    let test = TestSite::new().await;
    let id = approved(&test, 1).await;
    test.advance(400 * DAY);
    let first = now(&test);
    for _ in 0..3 {
        test.site.record_knock(knock(Some(id), None, Reason::RecoveryWindowOver));
        test.site.upkeep().await.unwrap();
        test.advance(60);
    }
    test.site.record_knock(Knock {
        name: Some("PC\u{1}9".into()),
        ..knock(None, Some(9), Reason::MessageRefused)
    });
    test.site.upkeep().await.unwrap();
    let test = test.restart().await;
    let list = test.site.list_stranded().await.unwrap();
    assert_eq!(list.len(), 2, "{list:?}");
    let stranger = list.iter().find(|stranded| stranded.device.is_none()).unwrap();
    assert_eq!((stranger.name.as_str(), stranger.key, stranger.registered), ("PC9", Some(key_of(9)), false));
    let known = list.iter().find(|stranded| stranded.device == Some(id)).unwrap();
    assert_eq!((known.name.as_str(), known.count, known.since), ("PC1", 3, first));
    assert_eq!((known.reason.as_str(), known.detail.as_str()), ("RG-5004", "why exactly"));
    assert!(known.advice.contains(&format!("roamgate device readmit {id}")), "{}", known.advice);

    test.site.readmit_device(&anna(), id).await.unwrap();
    test.site.register_client(None, device(9), Evidence::None).await.unwrap();
    assert!(test.site.list_stranded().await.unwrap().is_empty());
    // One that is simply heard again is not stranded either.
    test.site.record_knock(knock(Some(id), None, Reason::TokenExpired));
    assert_eq!(test.site.list_stranded().await.unwrap().len(), 1);
    test.advance(1);
    test.site.record_seen(id, SeenVia::Gateway);
    assert!(test.site.list_stranded().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_a_gateway_refused_shows_as_stranded_and_what_passes_by_itself_does_not() {
    let test = TestSite::new().await;
    let id = approved(&test, 1).await;
    test.advance(60);
    let event = |reason: &str, device| Event {
        at: now(&test),
        request: proto::id::RequestId::new(proto::id::Guid::nil()),
        hop: "gateway".into(),
        target: "GET /CCM_STS".into(),
        status: 401,
        reason: Some(reason.into()),
        detail: "expired".into(),
        device,
        elapsed_ms: 1,
    };
    let events = vec![event("RG-1102", Some(id)), event("RG-1203", None), event("nonsense", Some(id))];
    test.site.store_events(proto::id::Guid::nil(), events).await.unwrap();
    assert!(test.site.list_stranded().await.unwrap().is_empty());
    test.site.store_events(proto::id::Guid::nil(), vec![event("RG-1312", Some(id))]).await.unwrap();
    let list = test.site.list_stranded().await.unwrap();
    assert_eq!((list.len(), list[0].via, list[0].reason.as_str()), (1, SeenVia::Gateway, "RG-1312"));
}

#[tokio::test]
async fn strangers_without_end_push_no_known_device_out() {
    let test = TestSite::new().await;
    let id = approved(&test, 1).await;
    test.advance(60);
    test.site.record_knock(knock(Some(id), None, Reason::RecoveryWindowOver));
    test.site.upkeep().await.unwrap();
    for round in 0..3 {
        test.advance(60);
        for number in 0..6_000 {
            test.site.record_knock(knock(None, Some(10 + round * 6_000 + number), Reason::MessageRefused));
        }
        test.site.upkeep().await.unwrap();
    }
    let rows = rusqlite::Connection::open(test.database()).unwrap();
    let count = |sql: &str| rows.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count("SELECT count(*) FROM stranded"), 10_000);
    assert_eq!(count("SELECT count(*) FROM stranded WHERE client_id IS NOT NULL"), 1);
}

#[tokio::test]
async fn what_ends_soon_is_forecast_by_device() {
    let test = TestSite::new().await;
    let id = approved(&test, 1).await;
    let mut pki = certificate(2);
    pki.not_after = now(&test).plus(std::time::Duration::from_secs(20 * DAY));
    let new = NewRegistration {
        credentials: Credentials { pki: Some(pki.clone()), ..Credentials::default() },
        ..device(2)
    };
    let with_pki = test.site.register_client(None, new, Evidence::None).await.unwrap();
    assert_eq!(with_pki.method, Method::Certificate);
    let within = |days: u64| test.site.list_expiring(std::time::Duration::from_secs(days * DAY));
    assert!(within(10).await.unwrap().is_empty());
    let soon = within(30).await.unwrap();
    assert_eq!((soon.len(), soon[0].device, soon[0].ends), (1, with_pki.client_id, pki.not_after));
    assert_eq!((soon[0].credential, soon[0].recovers_until), (site::CredentialKind::Pki, None));
    let all = within(91).await.unwrap();
    assert_eq!((all.len(), all[1].device, all[1].credential), (2, id, site::CredentialKind::SelfProve));
    assert_eq!(all[1].recovers_until.unwrap().since(all[1].ends).as_secs(), 180 * DAY);
    test.site.block_device(&anna(), id, "").await.unwrap();
    assert_eq!(within(91).await.unwrap().len(), 1);
}
