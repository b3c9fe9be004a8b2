use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use crate::limit::{AtOnce, Limit, Portion};

const MOST: u32 = 400;
const KEPT: u32 = 40;

fn limits(change: impl FnOnce(&mut Config)) -> Limits {
    let mut config = Config { tunnel_connections: KEPT, ..Config::default() };
    change(&mut config);
    Limits::new(&config, MOST)
}

fn v4(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number))
}

fn v6(site: u16, network: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, site, network, 0, 0, 0, 1))
}

/// Connects as often as it is let in, up to `count` times.
fn connect(limits: &Limits, count: u32, from: impl Fn(u32) -> IpAddr) -> Vec<Pass> {
    let now = Instant::now();
    (0..count).filter_map(|number| limits.connect(from(number), now)).collect()
}

#[test]
fn one_source_holds_a_quarter_of_all_connections_and_gets_back_what_it_closed() {
    let limits = limits(|_| {});
    let mut held = connect(&limits, 1000, |_| v4(1));
    assert_eq!(held.len(), 100, "25 % of {MOST}");
    assert_eq!(limits.counts().of(Over::SourceConnections), 900);
    assert_eq!(connect(&limits, 10, |_| v4(2)).len(), 10, "a neighbour is let in");
    held.truncate(60);
    assert_eq!(connect(&limits, 1000, |_| v4(1)).len(), 40);
    let off = self::limits(|config| config.source_connections = Portion::OFF);
    assert_eq!(connect(&off, 300, |_| v4(1)).len(), 300);
}

#[test]
fn a_48_holds_twice_as_many_as_its_64s_however_many_it_has() {
    let limits = limits(|_| {});
    let networks = |number: u32| v6(1, u16::try_from(number / 10).unwrap());
    assert_eq!(connect(&limits, 100, |_| v6(2, 1)).len(), 100);
    let held = connect(&limits, 1000, networks);
    assert_eq!(held.len(), 200);
    drop(held);
    assert_eq!(connect(&limits, 1000, networks).len(), 200, "all of it came back");
}

#[test]
fn when_devices_hold_all_their_places_a_tunnel_still_comes_through() {
    let limits = limits(|_| {});
    let crowd = connect(&limits, 2000, v4);
    let (devices, waiting): (Vec<_>, Vec<_>) = crowd.into_iter().partition(|pass| !pass.only_tunnel);
    assert_eq!(devices.len(), (MOST - KEPT) as usize);
    assert_eq!(waiting.len(), (KEPT / 2) as usize, "the other half is for sources with a tunnel");
    let now = Instant::now();
    assert!(!limits.greet(&waiting[0], false, now), "a device that got a place kept for tunnels");
    drop(waiting);

    // A connection point that nobody knows yet.
    let mut pass = limits.connect(v4(90_000), now).unwrap();
    assert!(pass.only_tunnel && limits.greet(&pass, true, now));
    assert!(Limits::go_on(&mut pass, true) && pass.held.is_none(), "a tunnel needs no device's place");
    // One that speaks of a tunnel in its greeting and then wants none.
    let mut liar = limits.connect(v4(90_001), now).unwrap();
    assert!(limits.greet(&liar, true, now) && !Limits::go_on(&mut liar, false));
    drop(devices);
    assert_eq!(connect(&limits, 2000, v4).iter().filter(|pass| !pass.only_tunnel).count(), 360);
}

#[test]
fn strangers_cannot_hold_what_is_kept_for_sources_with_a_tunnel() {
    let limits = limits(|_| {});
    let now = Instant::now();
    let here = limits.tunnel_here(v4(7));
    let _devices = connect(&limits, 10_000, v4);
    // One source takes two places at most, many take half.
    assert!(limits.connect(v4(50_000), now).is_none());
    assert_eq!(connect(&limits, 100, |_| v4(7)).len(), 20);
    drop(here);
    let again = limits.connect(v4(7), now);
    assert!(again.is_some_and(|pass| pass.only_tunnel), "it had one lately");
}

#[test]
fn a_connection_point_is_let_in_beside_neighbours_that_used_up_their_address() {
    let limits = limits(|config| config.source_handshakes = "1/min burst 5".parse().unwrap());
    let now = Instant::now();
    let _here = limits.tunnel_here(v4(1));
    let neighbours: Vec<_> = (0..100).filter_map(|_| limits.connect(v4(1), now)).collect();
    assert_eq!(neighbours.iter().filter(|pass| limits.greet(pass, false, now)).count(), 5);
    let pass = limits.connect(v4(1), now).unwrap();
    assert!(pass.only_tunnel && limits.greet(&pass, true, now));
    // Whoever speaks of tunnels all the time from there has a limit as well.
    let often = (0..10_000).filter(|_| limits.greet(&pass, true, now)).count();
    assert_eq!(often, 199);
}

#[test]
fn handshakes_are_charged_when_they_greet_by_source_then_by_48_then_in_all() {
    let limits = limits(|config| {
        config.source_handshakes = "1/min burst 30".parse().unwrap();
        config.all_handshakes = "1/min burst 200".parse().unwrap();
        config.source_connections = Portion::OFF;
    });
    let now = Instant::now();
    // Connections that say nothing cost nobody anything.
    drop(connect(&limits, 100_000, v4));
    let greets = |from: IpAddr, times: u32| {
        let pass = limits.connect(from, now).unwrap();
        (0..times).filter(|_| limits.greet(&pass, false, now)).count()
    };
    assert_eq!(greets(v4(1), 30), 30, "n pass");
    assert_eq!(greets(v4(1), 3000), 0, "n + 1 do not, nor 100 n");
    let of_a_site: usize = (0..100).map(|network| greets(v6(1, network), 100)).sum();
    assert_eq!(of_a_site, 120, "four times a /64");
    assert_eq!(greets(v4(2), 100), 30);
    assert_eq!(greets(v4(3), 100), 20, "what others were denied was not taken from all");
    assert_eq!(limits.counts().of(Over::AllHandshakes), 10);
    let _here = limits.tunnel_here(v4(4));
    assert_eq!(greets(v4(4), 100), 30, "where a tunnel comes from, its own limit counts alone");
    let later = now + Duration::from_mins(1);
    assert!(limits.greet(&limits.connect(v4(1), later).unwrap(), false, later), "room comes back");
}

/// What becomes of a handshake whose ClientHello offers these protocols.
fn welcome_of(limits: &Limits, from: IpAddr, offered: &[&[u8]]) -> Welcome {
    let mut tls = rustls::ClientConfig::builder_with_provider(runtime::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    tls.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
    let mut client =
        rustls::ClientConnection::new(Arc::new(tls), "gateway.example".try_into().unwrap()).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    let mut acceptor = rustls::server::Acceptor::default();
    acceptor.read_tls(&mut hello.as_slice()).unwrap();
    let accepted = acceptor.accept().ok().flatten().expect("a whole ClientHello");
    let mut pass = limits.connected(from).unwrap();
    limits.greeted(&mut pass, &accepted.client_hello())
}

#[test]
fn tunnels_come_before_devices_and_nobody_passes_by_the_limits() {
    let limits = limits(|config| config.source_handshakes = "1/min burst 3".parse().unwrap());
    assert_eq!(welcome_of(&limits, v4(1), &[]), Welcome::InTurn);
    assert_eq!(welcome_of(&limits, v4(1), &[b"http/1.1"]), Welcome::InTurn);
    assert_eq!(welcome_of(&limits, v4(1), &[TUNNEL_ALPN]), Welcome::First, "no tunnel came from there yet");
    assert_eq!(welcome_of(&limits, v4(1), &[TUNNEL_ALPN]), Welcome::Refused);
    let _here = limits.tunnel_here(v4(1));
    assert_eq!(welcome_of(&limits, v4(1), &[b"http/1.1"]), Welcome::Refused);
    assert_eq!(welcome_of(&limits, v4(1), &[b"http/1.1", TUNNEL_ALPN]), Welcome::First);
}

#[test]
fn a_small_gateway_keeps_a_quarter_for_tunnels_and_no_more() {
    let config = Config::default();
    assert_eq!((config.kept_for_tunnels(20_000), config.kept_for_tunnels(100)), (64, 25));
    assert_eq!(config.kept_for_tunnels(1), 0);
    let off = Config {
        source_handshakes: Limit::OFF,
        source_connections: Portion::OFF,
        device_at_once: AtOnce::OFF,
        ..config
    };
    assert!(Limits::new(&off, 1).connect(v4(1), Instant::now()).is_some());
}
