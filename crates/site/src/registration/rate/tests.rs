use std::net::IpAddr;

use proto::id::{Guid, Thumbprint};

use super::table::{DOORS, LONGEST_WAIT};
use super::*;

const LIMITS: Limits = Limits { burst: 3, interval: Duration::from_secs(10), usual: 2 };
/// So much that only a door of one device or user is ever full.
const WIDE: Limits = Limits { burst: 100_000, interval: Duration::from_millis(1), usual: 100_000 };

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(1_790_000_000 + seconds)
}

fn shared(door: Door) -> Doors {
    Doors { own: None, shared: door }
}

fn token(number: u32) -> Doors {
    shared(Door::Token(Guid::from_bytes((u128::from(number) << 64).to_be_bytes())))
}

fn source(number: u32) -> Doors {
    shared(Door::Source(IpAddr::V4(number.into())))
}

/// A certificate of the same authority by number.
fn certificate(number: u32) -> Doors {
    let own = Door::Certificate(Thumbprint::of(&number.to_be_bytes()));
    Doors { own: Some(own), shared: Door::Authority("CN=Devices".into()) }
}

#[test]
fn a_burst_passes_then_one_an_interval_and_each_refused_one_is_told_another_moment() {
    let (mut rates, door) = (Rates::default(), token(0));
    for _ in 0..3 {
        assert_eq!(rates.enter(&door, at(0), LIMITS), Ok(()));
    }
    assert_eq!(rates.enter(&door, at(0), LIMITS), Err(Duration::from_secs(20)));
    assert_eq!(rates.enter(&door, at(0), LIMITS), Err(Duration::from_secs(30)));
    assert_eq!(rates.enter(&source(1), at(0), LIMITS), Ok(()), "another door is another count");
    assert_eq!(rates.enter(&door, at(10), LIMITS), Ok(()));
    assert!(rates.enter(&door, at(10), LIMITS).is_err());
    for _ in 0..1000 {
        assert!(rates.enter(&door, at(10), LIMITS).unwrap_err() <= LONGEST_WAIT);
    }
    rates.give_back(&door, at(10), LIMITS);
    assert_eq!(rates.enter(&door, at(10), LIMITS), Ok(()), "a place that made no device is free again");
    for _ in 0..3 {
        assert_eq!(rates.enter(&door, at(1000), LIMITS), Ok(()), "all places come back, and no more");
    }
    assert!(rates.enter(&door, at(1000), LIMITS).is_err());
}

#[test]
fn more_than_usual_in_an_hour_is_told_once_and_stands_for_a_day() {
    let (mut rates, door) = (Rates::default(), token(0));
    let came = |rates: &mut Rates, time| rates.came(&door, at(time), LIMITS)[1].clone();
    assert_eq!([came(&mut rates, 0), came(&mut rates, 1)], [None, None]);
    let burst = came(&mut rates, 2).unwrap();
    assert_eq!((&burst.door, burst.came, burst.since), (&door.shared, 3, at(0)));
    assert_eq!(came(&mut rates, 3), None);
    for _ in 0..3 {
        rates.enter(&door, at(4), LIMITS).unwrap();
    }
    rates.enter(&door, at(4), LIMITS).unwrap_err();
    rates.refused(&door, at(4), LIMITS);
    let seen = rates.bursts(at(5));
    assert_eq!((seen.len(), seen[0].came, seen[0].refused), (1, 4, 1));
    assert_eq!(came(&mut rates, 3700), None, "the next hour is usual again");
    assert_eq!(rates.bursts(at(3700)).len(), 1);
    assert!(rates.bursts(at(4 + 86_400)).is_empty());
}

#[test]
fn one_certificate_makes_few_devices_and_takes_nothing_from_the_others_of_its_authority() {
    let (mut rates, limits) = (Rates::default(), Limits { burst: 150, ..WIDE });
    let limits = Limits { interval: Duration::from_mins(1), ..limits };
    for _ in 0..OWN.burst {
        assert_eq!(rates.enter(&certificate(1), at(0), limits), Ok(()));
    }
    for _ in 0..1000 {
        assert!(rates.enter(&certificate(1), at(0), limits).is_err());
    }
    for number in 0..50 {
        assert_eq!(rates.enter(&certificate(2 + number), at(0), limits), Ok(()), "the other 50 places");
    }
    assert!(rates.enter(&certificate(99), at(0), limits).is_err());
    assert_eq!(rates.enter(&certificate(1), at(60), limits), Ok(()), "one a minute");
    assert!(rates.enter(&certificate(1), at(60), limits).is_err());
}

#[test]
fn what_the_authority_is_denied_is_not_taken_from_the_certificate() {
    let mut rates = Rates::default();
    for number in 10..13 {
        rates.enter(&certificate(number), at(0), LIMITS).unwrap();
    }
    for _ in 0..1000 {
        rates.enter(&certificate(1), at(0), LIMITS).unwrap_err();
    }
    let far = 3600;
    for _ in 0..3 {
        assert_eq!(rates.enter(&certificate(1), at(far), LIMITS), Ok(()));
    }
    rates.give_back(&certificate(1), at(far), LIMITS);
    assert_eq!(rates.enter(&certificate(1), at(far), LIMITS), Ok(()), "both doors have it back");
}

#[test]
fn more_devices_by_one_certificate_than_one_host_is_are_told() {
    let mut rates = Rates::default();
    for _ in 0..OWN.usual {
        assert_eq!(rates.came(&certificate(1), at(0), WIDE), [None, None]);
        assert_eq!(rates.came(&certificate(2), at(0), WIDE), [None, None]);
    }
    let [own, shared] = rates.came(&certificate(1), at(0), WIDE);
    assert_eq!((own.map(|burst| burst.came), shared), (Some(21), None));
}

#[test]
fn tables_are_bounded_and_one_kind_of_door_takes_no_room_from_another() {
    let mut rates = Rates::default();
    for number in 0..u32::try_from(DOORS).unwrap() + 500 {
        let _ = rates.enter(&source(number), at(0), LIMITS);
        assert_eq!(rates.enter(&certificate(number), at(0), WIDE), Ok(()));
    }
    assert_eq!(rates.addresses.len(), DOORS + 1, "and one for all others");
    assert_eq!(rates.own.len(), DOORS, "beyond them only the authority counts");
    assert!(rates.enter(&source(u32::MAX), at(0), LIMITS).is_err(), "others share their places");
    for number in 0..3 {
        assert_eq!(rates.enter(&token(number), at(0), LIMITS), Ok(()), "a token has its own");
    }
    assert_eq!(rates.enter(&source(u32::MAX), at(7200), LIMITS), Ok(()));
    assert_eq!(rates.addresses.len(), 1, "who is quiet for an hour is forgotten");
}
