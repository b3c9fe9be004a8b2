use std::net::{Ipv4Addr, Ipv6Addr};

use proto::endpoint;
use proto::id::{ClientId, Guid, RoleId};
use proto::path::Door;
use proto::time::Timestamp;
use proto::token::{Token, TokenClass};

use super::refusal::retry_after;
use super::*;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn limits(change: impl FnOnce(&mut Config)) -> Limits {
    let mut config = Config::default();
    change(&mut config);
    Limits::new(&config, 20_000)
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
    let site = |text: &str| Key::site(text.parse().unwrap());
    assert!(site("2001:db8:1:2::1").is_some() && site("2001:db8:1:2::1") == site("2001:db8:1:ffff::9"));
    assert_ne!(site("2001:db8:1:2::1"), site("2001:db8:2:2::1"));
    assert_eq!((site("10.1.2.3"), site("::ffff:10.1.2.3")), (None, None));
    assert_eq!(v6("::ffff:10.1.2.3"), Key::source(IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3))));
}

#[test]
fn a_source_is_charged_for_what_it_did_not_prove_and_for_nothing_else() {
    let limits = limits(|config| config.source_refused = limit("1/min burst 3"));
    let now = Instant::now();
    let ours = Refused::new(Reason::NoTunnel, "");
    let limited = too_many(Over::DeviceRequests, Wait(1));
    for free in [&ours, &limited] {
        (0..100).for_each(|_| limits.refused(HERE, free, now));
        assert_eq!(limits.source(HERE, now, || false), Ok(()));
    }
    let theirs = Refused::new(Reason::NoToken, "");
    (0..3).for_each(|_| limits.refused(HERE, &theirs, now));
    let refused = limits.source(HERE, now, || false).unwrap_err();
    assert_eq!(
        (refused.reason, refused.status().as_u16(), refused.close),
        (Reason::SourceTooFast, 429, false)
    );
    let wait = refused.wait.unwrap();
    assert!(limits.source(HERE, now + wait, || false).is_ok(), "after {wait:?}");
    assert_eq!(limits.source(HERE, now, || true), Ok(()), "a neighbour whose token was verified before");
    assert_eq!(limits.counts().of(Over::SourceRefused), 1);
}

#[test]
fn pages_of_our_own_are_charged_to_their_source() {
    let limits = limits(|config| config.source_refused = limit("1/min burst 3"));
    let now = Instant::now();
    assert_eq!((0..300).filter(|_| limits.page(HERE, now).is_ok()).count(), 3);
    let refused = limits.page(HERE, now).unwrap_err();
    assert_eq!((refused.reason, refused.wait.is_some()), (Reason::SourceTooFast, true));
    let other = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
    assert!(limits.page(other, now).is_ok());
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
        config.bulk_tokens = Limit::OFF;
    });
    let now = Instant::now();
    let ask = |key: u8, source: u8| {
        let shown = (key > 0).then(|| Thumbprint::from_bytes([key; 32]));
        let source = IpAddr::V4(Ipv4Addr::new(127, 0, 0, source));
        let identity =
            if source == HERE { token(TokenClass::Bulk, 0) } else { token(TokenClass::SelfProve, key) };
        limits.passage(&passage("/CCM_STS", identity), shown, source, now)
    };
    assert!(ask(1, 1).is_ok() && ask(1, 1).is_ok());
    assert_eq!(ask(1, 1).unwrap_err().reason, Reason::DeviceTooFast);
    // The holder of a bulk token makes keys as it likes, and is still one source; so is one without a key.
    assert!((2..6).all(|key| ask(key, 1).is_ok()));
    assert_eq!(ask(9, 1).unwrap_err().reason, Reason::SourceTooFast);
    assert_eq!(ask(0, 1).unwrap_err().reason, Reason::SourceTooFast);
    // Devices that the site knows still find the quarter that strangers leave them.
    assert!(ask(7, 2).is_ok() && ask(10, 3).is_ok());
    let refused = ask(11, 4).unwrap_err();
    assert_eq!((refused.reason, refused.status().as_u16()), (Reason::Overloaded, 503));
    assert!(
        limits.passage(&passage("/SMS_MP/.sms_aut", token(TokenClass::Device, 1)), None, HERE, now).is_ok()
    );
    assert_eq!(limits.counts().of(Over::AllTokens), 1);
}

#[test]
fn whoever_meets_one_limit_has_taken_nothing_of_the_others() {
    let limits = limits(|config| {
        config.device_tokens = limit("1/min burst 2");
        config.source_tokens = limit("1/min burst 10");
        config.bulk_tokens = limit("1/min burst 6");
    });
    let now = Instant::now();
    let ask = |key: u8, class, source: u8| {
        let source = IpAddr::V4(Ipv4Addr::new(127, 0, 0, source));
        let device = if class == TokenClass::SelfProve { key } else { 0 };
        let shown = Some(Thumbprint::from_bytes([key; 32]));
        limits.passage(&passage("/CCM_STS", token(class, device)), shown, source, now)
    };
    // One device asks a thousand times: its neighbours behind the address and on the bulk token lose two.
    assert_eq!((0..1000).filter(|_| ask(1, TokenClass::Bulk, 1).is_ok()).count(), 2);
    assert_eq!(
        (2..100).filter(|key| ask(*key, TokenClass::Bulk, 1).is_ok()).count(),
        4,
        "of the bulk token's six"
    );
    let refused = ask(200, TokenClass::Bulk, 2).unwrap_err();
    assert!(refused.reason == Reason::SourceTooFast && refused.detail.contains("bulk_tokens"), "{refused:?}");
    // Of the address's ten the refused ones have taken nothing, and a bulk token that is used up is nobody else's.
    assert_eq!((1..100).filter(|key| ask(*key, TokenClass::SelfProve, 1).is_ok()).count(), 4);
    assert_eq!(limits.counts().of(Over::SourceTokens), 95);
}

#[test]
fn strangers_leave_a_quarter_of_all_tokens_to_devices_that_are_known() {
    let limits = limits(|config| {
        config.all_tokens = limit("1/min burst 100");
        config.bulk_tokens = Limit::OFF;
    });
    let now = Instant::now();
    let ask = |number: u8, class| {
        let device = if class == TokenClass::SelfProve { number } else { 0 };
        let source = IpAddr::V4(Ipv4Addr::new(127, 0, 1, number));
        let shown = Some(Thumbprint::from_bytes([number; 32]));
        limits.passage(&passage("/CCM_STS", token(class, device)), shown, source, now)
    };
    assert_eq!((0..250).filter(|number| ask(*number, TokenClass::Bulk).is_ok()).count(), 75);
    assert_eq!(ask(1, TokenClass::Bulk).unwrap_err().reason, Reason::Overloaded);
    assert_eq!((1..250).filter(|number| ask(*number, TokenClass::SelfProve).is_ok()).count(), 25);
}

#[test]
fn a_device_has_so_many_requests_under_way_and_gets_a_place_back_with_each_that_ends() {
    let limits = limits(|_| {});
    let now = Instant::now();
    let ask = |identity, source: u8| {
        let source = IpAddr::V4(Ipv4Addr::new(127, 0, 0, source));
        limits.passage(&passage("/SMS_MP/.sms_aut", identity), None, source, now)
    };
    // From wherever it comes.
    let mut held: Vec<_> =
        (0..200).filter_map(|source| ask(token(TokenClass::Device, 1), source).ok()).collect();
    assert_eq!(held.len(), 32);
    let refused = ask(token(TokenClass::User, 1), 1).unwrap_err();
    assert_eq!((refused.reason, refused.status().as_u16()), (Reason::DeviceTooFast, 429));
    assert!(refused.wait.is_some(), "with a time to return");
    assert!(ask(token(TokenClass::Device, 2), 1).is_ok(), "a neighbour");
    held.pop();
    assert!(ask(token(TokenClass::Device, 1), 1).is_ok());
    assert_eq!(limits.counts().of(Over::DeviceAtOnce), 169);
}

#[test]
fn keys_that_one_makes_by_the_hundred_do_not_take_all_places() {
    let limits = limits(|config| {
        config.device_registration = Limit::OFF;
        config.source_at_once = "100".parse().unwrap();
    });
    let now = Instant::now();
    let ask = |key: u8, identity| {
        let shown = Some(Thumbprint::from_bytes([key; 32]));
        limits.passage(&passage("/ccm_system_tokenauth/request", identity), shown, HERE, now)
    };
    let made_up = (0..255).flat_map(|key| (0..32).map(move |_| key));
    let held: Vec<_> = made_up.filter_map(|key| ask(key, token(TokenClass::PreAuth, 0)).ok()).collect();
    assert_eq!(held.len(), 100);
    assert_eq!(ask(255, token(TokenClass::PreAuth, 0)).unwrap_err().reason, Reason::SourceTooFast);
    assert!(ask(1, token(TokenClass::Device, 1)).is_ok(), "devices behind the same address go on");
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
            &mut config.bulk_tokens,
            &mut config.source_refused,
            &mut config.source_tokens,
            &mut config.all_tokens,
            &mut config.device_requests,
            &mut config.device_tokens,
            &mut config.device_registration,
        ] {
            *limit = Limit::OFF;
        }
        (config.device_at_once, config.source_at_once) = (AtOnce::OFF, AtOnce::OFF);
    });
    let now = Instant::now();
    let asked = passage("/CCM_STS", token(TokenClass::Bulk, 0));
    let mut under_way = Vec::new();
    for _ in 0..100_000 {
        limits.refused(HERE, &Refused::new(Reason::NoToken, ""), now);
        assert!(limits.source(HERE, now, || false).is_ok() && limits.page(HERE, now).is_ok());
        under_way.push(limits.passage(&asked, None, HERE, now).unwrap());
    }
}

#[test]
fn bodies_are_taken_up_to_the_limit_and_only_with_a_length() {
    let mut config = Config { body_bytes: runtime::config::ByteSize::new(1000), ..Config::default() };
    let limits = Limits::new(&config, 20_000);
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
    assert!(Limits::new(&config, 20_000).body(BodyLength::Chunked).is_ok());
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
    assert_eq!(limits.source(HERE, now, || false), Ok(()));
}
