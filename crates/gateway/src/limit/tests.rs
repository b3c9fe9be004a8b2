use std::net::{Ipv4Addr, Ipv6Addr};

use proto::endpoint;
use proto::id::{Guid, RoleId};
use proto::path::Door;
use proto::time::Timestamp;
use proto::token::{Token, TokenClass};

use super::*;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn limits(change: impl FnOnce(&mut Config)) -> Limits {
    let mut config = Config::default();
    change(&mut config);
    Limits::new(&config)
}

fn limit(text: &str) -> Limit {
    text.parse().unwrap()
}

fn token(class: TokenClass, device: u8) -> Identity {
    Identity::Token(Token {
        class,
        unique_id: Guid::nil(),
        hierarchy: Guid::nil(),
        device: (device > 0).then(|| ClientId::new(Guid::from_bytes([device; 16]))),
        user: None,
        bulk: None,
        entra: None,
        confirmation: None,
        not_before: Timestamp::from_seconds(0),
        expires: Timestamp::from_seconds(1),
    })
}

fn passage(path: &str, identity: Identity) -> Passage {
    let endpoint = endpoint::find(path).unwrap();
    Passage { door: Door::ServerAuth, role: RoleId::FIRST, endpoint, target: path.to_owned(), identity }
}

#[test]
fn an_ipv6_source_is_its_network_and_a_mapped_address_is_the_ipv4_one() {
    let v6 = |text: &str| Key::source(IpAddr::V6(text.parse::<Ipv6Addr>().unwrap()));
    assert_eq!(v6("2001:db8:1:2::1"), v6("2001:db8:1:2:ffff::9"));
    assert_ne!(v6("2001:db8:1:2::1"), v6("2001:db8:1:3::1"));
    assert_eq!(v6("::ffff:10.1.2.3"), Key::source(IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3))));
}

#[test]
fn handshakes_are_limited_by_source_and_in_all_at_n_and_n_plus_1_and_100_n() {
    let limits = limits(|config| {
        config.source_handshakes = limit("1/min burst 30");
        config.all_handshakes = limit("1/min burst 50");
    });
    let now = Instant::now();
    let other = IpAddr::V4(Ipv4Addr::new(127, 0, 7, 7));
    assert!((0..30).all(|_| limits.handshake(HERE, now)), "n pass");
    assert!(!limits.handshake(HERE, now), "n + 1 does not");
    assert!((0..3000).all(|_| !limits.handshake(HERE, now)), "nor do 100 n");
    // What one source was denied has cost the others nothing.
    assert_eq!((0..3000).filter(|_| limits.handshake(other, now)).count(), 20);
    assert_eq!(limits.counts().of(Over::SourceHandshakes), 3001 + 2970);
    assert_eq!(limits.counts().of(Over::AllHandshakes), 10);
    assert!(limits.handshake(other, now + Duration::from_mins(1)), "room comes back");
}

#[test]
fn a_source_is_charged_for_what_it_did_not_prove_and_for_nothing_else() {
    let limits = limits(|config| config.source_refused = limit("1/min burst 3"));
    let now = Instant::now();
    let ours = Refused::new(Reason::NoTunnel, "");
    let limited = too_many(Over::DeviceRequests, Wait(1));
    for free in [&ours, &limited] {
        (0..100).for_each(|_| limits.refused(HERE, free, now));
        assert_eq!(limits.source(HERE, now), Ok(()));
    }
    let theirs = Refused::new(Reason::NoToken, "");
    (0..3).for_each(|_| limits.refused(HERE, &theirs, now));
    let refused = limits.source(HERE, now).unwrap_err();
    assert_eq!(
        (refused.reason, refused.status().as_u16(), refused.close),
        (Reason::SourceTooFast, 429, false)
    );
    let wait = refused.wait.unwrap();
    assert!(limits.source(HERE, now + wait).is_ok(), "after {wait:?}");
    assert_eq!(limits.counts().of(Over::SourceRefused), 1);
}

#[test]
fn one_device_is_limited_and_its_neighbours_are_not() {
    let limits = limits(|config| config.device_requests = limit("1/min burst 10"));
    let now = Instant::now();
    let ask = |identity| limits.passage(&passage("/SMS_MP/.sms_aut", identity), None, HERE, now);
    assert!((0..10).all(|_| ask(token(TokenClass::Device, 1)).is_ok()));
    let refused = ask(token(TokenClass::Device, 1)).unwrap_err();
    assert_eq!((refused.reason, refused.status().as_u16()), (Reason::DeviceTooFast, 429));
    assert!((0..1000).all(|_| ask(token(TokenClass::User, 1)).is_err()), "as its user, too");
    assert!((0..10).all(|_| ask(token(TokenClass::Device, 2)).is_ok()));
    let thumbprint = Thumbprint::from_bytes([5; 32]);
    assert!((0..10).all(|_| ask(Identity::Certificate { thumbprint }).is_ok()));
    assert!(ask(Identity::Certificate { thumbprint }).is_err());
}

#[test]
fn tokens_are_limited_by_key_by_source_and_in_all() {
    let limits = limits(|config| {
        config.device_tokens = limit("1/min burst 2");
        config.source_tokens = limit("1/min burst 6");
        config.all_tokens = limit("1/min burst 8");
    });
    let now = Instant::now();
    let ask = |key: u8, source: u8| {
        let shown = (key > 0).then(|| Thumbprint::from_bytes([key; 32]));
        let source = IpAddr::V4(Ipv4Addr::new(127, 0, 0, source));
        limits.passage(&passage("/CCM_STS", token(TokenClass::Bulk, 0)), shown, source, now)
    };
    assert!(ask(1, 1).is_ok() && ask(1, 1).is_ok());
    assert_eq!(ask(1, 1).unwrap_err().reason, Reason::DeviceTooFast);
    // The holder of a bulk token makes keys as it likes, and is still one source; so is one without a key.
    assert!((2..6).all(|key| ask(key, 1).is_ok()));
    assert_eq!(ask(9, 1).unwrap_err().reason, Reason::SourceTooFast);
    assert_eq!(ask(0, 1).unwrap_err().reason, Reason::SourceTooFast);
    assert!(ask(0, 2).is_ok() && ask(10, 3).is_ok());
    let refused = ask(11, 4).unwrap_err();
    assert_eq!((refused.reason, refused.status().as_u16()), (Reason::Overloaded, 503));
    assert!(
        limits.passage(&passage("/SMS_MP/.sms_aut", token(TokenClass::Device, 1)), None, HERE, now).is_ok()
    );
    assert_eq!(limits.counts().of(Over::AllTokens), 1);
}

#[test]
fn messages_before_registration_have_a_limit_of_their_own() {
    let limits = limits(|config| config.device_registration = limit("1/min burst 2"));
    let now = Instant::now();
    let shown = Some(Thumbprint::from_bytes([1; 32]));
    let ask = |class, device| {
        limits.passage(&passage("/ccm_system_tokenauth/request", token(class, device)), shown, HERE, now)
    };
    assert!(ask(TokenClass::PreAuth, 0).is_ok() && ask(TokenClass::PreAuth, 0).is_ok());
    assert!(ask(TokenClass::PreAuth, 0).is_err());
    assert!((0..100).all(|_| ask(TokenClass::Device, 1).is_ok()), "registered devices go on");
}

#[test]
fn limits_that_are_off_refuse_nobody() {
    let limits = limits(|config| {
        for limit in [
            &mut config.source_handshakes,
            &mut config.all_handshakes,
            &mut config.source_refused,
            &mut config.source_tokens,
            &mut config.all_tokens,
            &mut config.device_requests,
            &mut config.device_tokens,
            &mut config.device_registration,
        ] {
            *limit = Limit::OFF;
        }
    });
    let now = Instant::now();
    let asked = passage("/CCM_STS", token(TokenClass::Bulk, 0));
    for _ in 0..100_000 {
        limits.refused(HERE, &Refused::new(Reason::NoToken, ""), now);
        assert!(limits.handshake(HERE, now) && limits.source(HERE, now).is_ok());
        assert!(limits.passage(&asked, None, HERE, now).is_ok());
    }
}

#[test]
fn bodies_are_taken_up_to_the_limit_and_only_with_a_length() {
    let mut config = Config { body_bytes: runtime::config::ByteSize::new(1000), ..Config::default() };
    let limits = Limits::new(&config);
    assert!(limits.body(BodyLength::Known(1000)).is_ok());
    for (length, reason) in [
        (BodyLength::Known(1001), Reason::BodyTooLarge),
        (BodyLength::Known(100_000), Reason::BodyTooLarge),
        (BodyLength::Chunked, Reason::LengthRequired),
    ] {
        let refused = limits.body(length).unwrap_err();
        assert_eq!((refused.reason, refused.close), (reason, true));
    }
    assert_eq!(limits.counts().of(Over::Bodies), 3);
    config.chunked_bodies = true;
    assert!(Limits::new(&config).body(BodyLength::Chunked).is_ok());
    assert_eq!((limits.max_body(5), limits.max_body(5000)), (5, 1000));
}

#[test]
fn those_refused_together_return_at_different_times_and_none_too_early() {
    let wait = Duration::from_millis(3500);
    let times: Vec<_> = (0..1000).map(|random| retry_after(wait, random)).collect();
    assert!(times.iter().all(|time| (4..=10).contains(time)), "{times:?}");
    assert!((4..=10).all(|time| times.contains(&time)));
    assert_eq!(retry_after(Duration::ZERO, 0), 1);
}

#[test]
fn a_flood_of_refusals_by_limits_is_told_of_now_and_then() {
    let limits = limits(|_| {});
    let now = Instant::now();
    let limited = too_many(Over::SourceRefused, Wait(1));
    assert_eq!((0..10_000).filter(|_| limits.tells(&limited, now)).count(), 100);
    assert!((0..1000).all(|_| limits.tells(&Refused::new(Reason::NoToken, ""), now)));
}

#[test]
fn a_million_sources_change_neither_memory_nor_a_neighbours_room() {
    let limits = limits(|config| config.source_refused = limit("1/min burst 1000"));
    let now = Instant::now();
    for number in 0..1_000_000_u32 {
        limits.unreadable(IpAddr::V4(Ipv4Addr::from(number.wrapping_mul(2_654_435_761))), now);
    }
    assert_eq!(limits.source(HERE, now), Ok(()));
}
