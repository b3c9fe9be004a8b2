use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proto::endpoint::Caller;
use proto::identity::Blocked as _;
use proto::reason::Reason;
use proto::token::{TokenClass, x5t};
use site::{
    Approval, BulkTokenApproval, BulkTokenError, BulkTokenState, CcmSubject, Evidence, NewBulkToken, Site,
};

use crate::support::{START, TestSite, anna, device, key_of, now};

async fn make(site: &Site, new: NewBulkToken) -> (proto::id::Guid, String) {
    let made = site.create_bulk_token(&anna(), new).await.unwrap();
    (made.token.id, made.text)
}

#[tokio::test]
async fn the_text_is_that_of_the_published_sample() {
    let test = TestSite::new().await;
    let (id, text) = make(&test.site, NewBulkToken::default()).await;
    let parts: Vec<_> = text.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap()).collect();
    let keys = test.site.list_keys().await.unwrap();
    let current =
        keys.iter().find(|key| key.x5t.is_some() && key.state == site::keys::KeyState::Current).unwrap();
    let header = format!(r#"{{"typ":"JWT","alg":"RS256","x5t":"{}"}}"#, x5t(&current.certificate));
    assert_eq!(parts[0], header.as_bytes());
    let claims = format!(
        r#"{{"SCCMTokenCategory":"SCCMPreAuthToken","Authority":"SCCM","License":"SCCM","Type":"BulkRegistration","TenantId":"7B0C3806-D28C-4A45-ADB2-FB9F94A462F8","UniqueId":"{id}","iss":"urn:sccm:oauth2:7b0c3806-d28c-4a45-adb2-fb9f94a462f8","aud":"urn:sccm:service","exp":{},"nbf":{START}}}"#,
        START + 259_200
    );
    assert_eq!(parts[1], claims.as_bytes());
    assert_eq!(parts[2].len(), 256);
    assert_eq!(text.len(), 858);
    let read = test.site.token_keys().verify(&text).unwrap();
    assert_eq!((read.class, read.unique_id), (TokenClass::Bulk, id));
}

#[tokio::test]
async fn a_token_lives_a_minute_to_seven_days() {
    let test = TestSite::new().await;
    for (seconds, fits) in [(59, false), (60, true), (604_800, true), (604_801, false), (0, false)] {
        let new = NewBulkToken { lifetime: Duration::from_secs(seconds), ..NewBulkToken::default() };
        let made = test.site.create_bulk_token(&anna(), new).await;
        assert_eq!(made.is_ok(), fits, "{seconds} s");
    }
    let none = NewBulkToken { max_uses: Some(0), ..NewBulkToken::default() };
    assert!(matches!(test.site.create_bulk_token(&anna(), none).await, Err(BulkTokenError::NoUses)));
}

#[tokio::test]
async fn of_a_hundred_at_once_exactly_as_many_register_as_the_token_allows() {
    let test = TestSite::new().await;
    let (id, _) = make(&test.site, NewBulkToken { max_uses: Some(10), ..NewBulkToken::default() }).await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..100 {
        let site = test.site.clone();
        tasks.spawn(
            async move { site.register_client(None, device(number), Evidence::BulkToken { id }).await },
        );
    }
    let results = tasks.join_all().await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 10);
    for refused in results.iter().filter_map(|result| result.as_ref().err()) {
        assert_eq!(refused.reason(), Reason::BulkTokenUsedUp);
    }
    let token = test.site.show_bulk_token(id).await.unwrap();
    assert_eq!((token.uses, token.state(now(&test))), (10, BulkTokenState::UsedUp));
    assert_eq!(test.site.list_devices(site::DeviceFilter::default()).await.unwrap().len(), 10);

    // A device that is in comes again without using up anything.
    let inside = test.site.list_devices(site::DeviceFilter::default()).await.unwrap();
    let number: u32 = inside[0].name.trim_start_matches("PC").parse().unwrap();
    test.site.register_client(None, device(number), Evidence::BulkToken { id }).await.unwrap();
    assert_eq!(test.site.show_bulk_token(id).await.unwrap().uses, 10);
}

#[tokio::test]
async fn the_maker_decides_about_approval() {
    let test = TestSite::new().await;
    let (automatic, _) = make(&test.site, NewBulkToken::default()).await;
    let hold = NewBulkToken { approval: BulkTokenApproval::Hold, ..NewBulkToken::default() };
    let (hold, _) = make(&test.site, hold).await;
    let register = |number, id| test.site.register_client(None, device(number), Evidence::BulkToken { id });
    assert_eq!(register(1, automatic).await.unwrap().approval, Approval::Approved);
    assert_eq!(register(2, hold).await.unwrap().approval, Approval::Held);
}

#[tokio::test]
async fn blocked_expired_and_unknown_tokens_let_nobody_in() {
    let test = TestSite::new().await;
    let (id, _) = make(&test.site, NewBulkToken::default()).await;
    let register = |id| test.site.register_client(None, device(1), Evidence::BulkToken { id });
    let ask = |id| test.site.issue_ccm_token(CcmSubject::Stranger { bulk_token: id, key: key_of(1) });

    let unknown = proto::id::Guid::nil();
    assert_eq!(register(unknown).await.unwrap_err().reason(), Reason::BulkTokenUnknown);
    assert_eq!(ask(unknown).await.unwrap_err().reason(), Reason::BulkTokenUnknown);

    test.site.block_bulk_token(&anna(), id).await.unwrap();
    assert!(test.site.current_snapshot().is_bulk_token_blocked(id));
    assert_eq!(register(id).await.unwrap_err().reason(), Reason::BulkTokenBlocked);
    assert_eq!(ask(id).await.unwrap_err().reason(), Reason::StsBulkTokenBlocked);
    test.site.unblock_bulk_token(&anna(), id).await.unwrap();
    assert!(!test.site.current_snapshot().is_bulk_token_blocked(id));
    assert!(register(id).await.is_ok());

    test.advance(259_200);
    assert_eq!(register(id).await.unwrap_err().reason(), Reason::InsideTokenExpired);
    assert_eq!(ask(id).await.unwrap_err().reason(), Reason::StsTokenExpired);
}

#[tokio::test]
async fn a_stranger_gets_a_token_bound_to_its_key_that_does_not_outlive_the_bulk_token() {
    let test = TestSite::new().await;
    let hour = NewBulkToken { lifetime: Duration::from_hours(1), ..NewBulkToken::default() };
    let (id, _) = make(&test.site, hour).await;
    let given =
        test.site.issue_ccm_token(CcmSubject::Stranger { bulk_token: id, key: key_of(1) }).await.unwrap();
    assert_eq!(given.expires_in, Duration::from_hours(1));
    let token = test.site.token_keys().verify(&given.text).unwrap();
    assert_eq!(token.class.caller(), Caller::PreAuth);
    assert_eq!((token.bulk, token.device, token.confirmation), (Some(id), None, Some(key_of(1))));
    assert_eq!(test.site.show_bulk_token(id).await.unwrap().uses, 0, "asking is no use");
}
