//! How fast new devices may come (R19).

use std::net::IpAddr;
use std::time::Duration;

use proto::id::Guid;
use proto::reason::Reason;
use proto::token::EntraOrigin;
use site::{By, Credentials, Evidence, NewBulkToken, NewRegistration, Registration, RegistrationError};
use tokio::task::JoinSet;

use crate::support::{TestSite, anna, certificate, device};

/// The address of a connection point, by which all come who come through it.
fn connection_point() -> IpAddr {
    "10.0.0.9".parse().unwrap()
}

/// Registers these devices at once.
async fn register_all(
    test: &TestSite,
    numbers: impl Iterator<Item = u32>,
    evidence: Evidence,
) -> Vec<(u32, Result<Registration, RegistrationError>)> {
    let mut tasks = JoinSet::new();
    for number in numbers {
        let site = test.site.clone();
        tasks.spawn(async move {
            (number, site.register_client(Some(connection_point()), device(number), evidence).await)
        });
    }
    tasks.join_all().await
}

async fn set(test: &TestSite, name: &str, value: &str) {
    test.site.set_setting(&anna(), name, value).await.unwrap();
}

async fn bulk_token(test: &TestSite) -> Evidence {
    let made = test.site.create_bulk_token(&anna(), NewBulkToken::default()).await.unwrap();
    Evidence::BulkToken { id: made.token.id }
}

#[tokio::test]
async fn ten_thousand_registrations_with_one_token_come_in_at_the_rate_and_raise_an_alarm() {
    let test = TestSite::new().await;
    let token = bulk_token(&test).await;
    let mut waiting = Vec::new();
    let mut longest = Duration::ZERO;
    for chunk in 0..20 {
        for (number, answer) in register_all(&test, chunk * 500..(chunk + 1) * 500, token).await {
            match answer {
                Ok(registered) => assert!(registered.is_new),
                Err(RegistrationError::TooFast { wait }) => {
                    longest = longest.max(wait);
                    waiting.push(number);
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
    assert_eq!(waiting.len(), 4000, "a roll-out of 6,000 passes at once, and not one more");
    assert!(longest > Duration::from_secs(290), "they are told to come one after the other: {longest:?}");
    let alarm = test.site.list_alarms().await.unwrap().into_iter().find(|alarm| alarm.kind == "registration");
    assert!(alarm.unwrap().text.contains("6000 new devices"), "more than usual");

    let mut minutes = 0;
    while !waiting.is_empty() {
        test.advance(60);
        minutes += 1;
        let answers = register_all(&test, waiting.iter().copied().take(700), token).await;
        let come: Vec<_> = answers.into_iter().filter(|(_, answer)| answer.is_ok()).map(|(n, _)| n).collect();
        assert_eq!(come.len(), waiting.len().min(600), "600 a minute");
        waiting.retain(|number| !come.contains(number));
    }
    assert_eq!(minutes, 7);
    let tokens = test.site.list_bulk_tokens().await.unwrap();
    assert_eq!(tokens[0].uses, 10_000, "all are in, none twice");
    let audit = test.site.list_audit(None, 1000).await.unwrap();
    let bursts = audit.iter().filter(|row| row.act == "registration.burst").count();
    assert!(bursts <= 1, "an hour's burst is noted once");
}

#[tokio::test]
async fn known_devices_and_other_doors_never_wait_for_a_burst() {
    let test = TestSite::new().await;
    set(&test, "registration_burst", "2").await;
    let (token, other) = (bulk_token(&test).await, bulk_token(&test).await);
    let answers = register_all(&test, 0..3, token).await;
    let refused: Vec<_> = answers.iter().filter_map(|(_, answer)| answer.as_ref().err()).collect();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].reason(), Reason::RegistrationTooFast);
    let known = answers.iter().find(|(_, answer)| answer.is_ok()).unwrap().0;
    for _ in 0..5 {
        let again = test.site.register_client(Some(connection_point()), device(known), token).await.unwrap();
        assert!(!again.is_new);
    }
    let by_other = test.site.register_client(Some(connection_point()), device(10), other).await;
    assert!(by_other.unwrap().is_new, "another token");
    let by_source = register_all(&test, 20..23, Evidence::None).await;
    assert_eq!(
        by_source.iter().filter(|(_, answer)| answer.is_ok()).count(),
        2,
        "an address without a token"
    );
}

/// Devices of a tenant's user, whose tokens name no device.
fn of_user(number: u32, user: u8) -> NewRegistration {
    let origin = EntraOrigin {
        tenant: Guid::from_bytes([7; 16]),
        device: None,
        user: Some(Guid::from_bytes([user; 16])),
    };
    NewRegistration {
        credentials: Credentials { entra: Some(origin), ..Credentials::default() },
        ..device(number)
    }
}

#[tokio::test]
async fn who_proves_something_does_not_wait_for_strangers_that_come_through_the_same_connection_point() {
    let test = TestSite::new().await;
    set(&test, "registration_burst", "2").await;
    let strangers = register_all(&test, 0..4, Evidence::None).await;
    assert_eq!(strangers.iter().filter(|(_, answer)| answer.is_err()).count(), 2);
    let by_certificate = |number| NewRegistration {
        credentials: Credentials { pki: Some(certificate(number)), ..Credentials::default() },
        ..device(number)
    };
    let from = Some(connection_point());
    for number in [10, 11] {
        let new = of_user(number, 1);
        assert!(test.site.register_client(from, new, Evidence::None).await.unwrap().is_new);
    }
    let refused = test.site.register_client(from, of_user(12, 2), Evidence::None).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::RegistrationTooFast, "the tenant's two are in");
    let token = bulk_token(&test).await;
    let by_token = test.site.register_client(from, by_certificate(20), token).await;
    assert!(by_token.unwrap().is_new, "a roll-out with a token waits for neither");
}

#[tokio::test]
async fn one_users_token_makes_few_devices_and_other_users_come_in() {
    let test = TestSite::new().await;
    let from = Some(connection_point());
    let mut came = 0;
    for number in 0..110 {
        match test.site.register_client(from, of_user(number, 1), Evidence::None).await {
            Ok(registered) => came += u32::from(registered.is_new),
            Err(error) => assert_eq!(error.reason(), Reason::RegistrationTooFast),
        }
    }
    assert_eq!(came, 100);
    assert!(test.site.register_client(from, of_user(200, 2), Evidence::None).await.unwrap().is_new);
    let alarms = test.site.list_alarms().await.unwrap();
    let alarm = alarms.iter().find(|alarm| alarm.kind == "registration").unwrap();
    assert!(alarm.text.contains("100 new devices registered with user"), "{}", alarm.text);
}

#[tokio::test]
async fn a_registration_that_makes_no_device_takes_no_place() {
    let test = TestSite::new().await;
    set(&test, "registration_burst", "1").await;
    let token = bulk_token(&test).await;
    let Evidence::BulkToken { id } = token else { unreachable!() };
    test.site.block_bulk_token(&anna(), id).await.unwrap();
    for number in 0..3 {
        let refused = test.site.register_client(Some(connection_point()), device(number), token).await;
        assert_eq!(refused.unwrap_err().reason(), Reason::BulkTokenBlocked);
    }
    test.site.unblock_bulk_token(&anna(), id).await.unwrap();
    assert!(test.site.register_client(Some(connection_point()), device(0), token).await.unwrap().is_new);
}

#[tokio::test]
async fn a_burst_is_in_the_audit_trail() {
    let test = TestSite::new().await;
    set(&test, "registration_usual", "2").await;
    let token = bulk_token(&test).await;
    register_all(&test, 0..5, token).await;
    let audit = test.site.list_audit(None, 100).await.unwrap();
    let noted: Vec<_> = audit.iter().filter(|row| row.act == "registration.burst").collect();
    assert_eq!(noted.len(), 1);
    assert_eq!((noted[0].actor.as_str(), By::site().actor.to_string()), ("site", "site".to_owned()));
    assert!(noted[0].object.starts_with("bulk token "));
    test.advance(25 * 3600);
    assert!(test.site.list_alarms().await.unwrap().iter().all(|alarm| alarm.kind != "registration"));
}
