//! Which gateways have answered on which network, and in which order the next request tries them. Pure; time
//! and randomness are arguments.
//!
//! A device that knows several gateways begins with the one that answered it last, here if it ever did here,
//! else anywhere. One that failed rests for a while: it is still tried, but last. So a gateway that is gone
//! costs one request its delay and not every one, and none is forgotten.

use std::cmp::Reverse;
use std::time::Duration;

use proto::id::RoleId;
use proto::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::address::GatewayAddress;
use crate::location::GATEWAYS;
use crate::network::Fingerprint;

/// Networks that are remembered; the one that the device was on longest ago is forgotten first. Home, office,
/// two phones and some hotels.
const NETWORKS: usize = 8;
/// The first rest is a random part of this. Long enough for a process to be restarted.
const FIRST_REST: Duration = Duration::from_secs(30);
/// No rest is longer: a gateway that was repaired is of use again soon, also where all others fail.
const LONGEST_REST: Duration = Duration::from_mins(10);

/// What is remembered of gateways, on each network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Standing {
    /// The network that the device was on last comes first. At most [`NETWORKS`].
    networks: Vec<Network>,
}

/// What gateways did on one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Network {
    /// `None`: a system that does not say on which network it is.
    place: Option<Fingerprint>,
    /// At most [`GATEWAYS`].
    gateways: Vec<Record>,
}

/// What one gateway did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    gateway: GatewayAddress,
    /// The last time that it answered.
    answered: Option<Timestamp>,
    /// Failures since then.
    failures: u32,
    /// Until when it is tried after all others.
    rests_until: Option<Timestamp>,
}

/// How far a failure reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// The host was not reached: whatever is behind it has failed.
    Host,
    /// The host answered, and could not pass the request on to this role.
    Role,
}

/// What the next gateway is chosen for.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// All gateways that are known.
    pub known: &'a [GatewayAddress],
    /// The network that the device is on.
    pub place: Option<Fingerprint>,
    /// The role that the request belongs to, where that matters.
    pub role: Option<RoleId>,
    /// Now.
    pub now: Timestamp,
    /// Spreads devices that know nothing yet over all gateways.
    pub random: u64,
}

impl Standing {
    /// The best gateway that is not in `tried`. In this order: those that do not rest; those that lead to the
    /// wanted role; those that answered on this network, the latest first; the same anywhere; by chance.
    pub fn best(&self, wish: &Wish<'_>, tried: &[GatewayAddress]) -> Option<GatewayAddress> {
        let here = self.networks.iter().find(|network| network.place == wish.place);
        let rank = |(at, gateway): &(usize, &GatewayAddress)| {
            let record = here.and_then(|network| network.record(gateway));
            let elsewhere =
                self.networks.iter().filter_map(|network| network.record(gateway)?.answered).max();
            (
                record.is_some_and(|record| record.rests(wish.now)),
                wish.role.is_some_and(|role| role != gateway.role()),
                Reverse(record.and_then(|record| record.answered)),
                Reverse(elsewhere),
                chance(wish.random, *at),
            )
        };
        let left = wish.known.iter().enumerate().filter(|(_, gateway)| !tried.contains(gateway));
        left.min_by_key(rank).map(|(_, gateway)| gateway.clone())
    }

    /// Notes that a gateway answered.
    pub fn answered(&mut self, gateway: &GatewayAddress, wish: &Wish<'_>) {
        let record = self.network(wish).record_mut(gateway);
        (record.answered, record.failures, record.rests_until) = (Some(wish.now), 0, None);
    }

    /// Notes that one failed: it rests, ever longer.
    pub fn failed(&mut self, gateway: &GatewayAddress, extent: Extent, wish: &Wish<'_>) {
        let network = self.network(wish);
        let failures = network.record_mut(gateway).failures;
        let rest = runtime::backoff::next(failures, FIRST_REST, LONGEST_REST, wish.random);
        for known in wish.known {
            if known == gateway || (extent == Extent::Host && known.authority() == gateway.authority()) {
                let record = network.record_mut(known);
                record.failures = failures.saturating_add(1);
                record.rests_until = Some(wish.now.plus(rest));
            }
        }
    }

    /// Forgets every failure: the network may be another one behind the same addresses.
    pub fn forget_failures(&mut self) {
        for record in self.networks.iter_mut().flat_map(|network| &mut network.gateways) {
            (record.failures, record.rests_until) = (0, None);
        }
    }

    /// The network that the device is on, first in the list from now on. What it knows of gateways that are
    /// not known any more is forgotten.
    fn network(&mut self, wish: &Wish<'_>) -> &mut Network {
        let found = self.networks.iter().position(|network| network.place == wish.place);
        let mut network = match found {
            Some(at) => self.networks.remove(at),
            None => Network { place: wish.place, gateways: Vec::new() },
        };
        network.gateways.retain(|record| wish.known.contains(&record.gateway));
        network.gateways.truncate(GATEWAYS);
        self.networks.truncate(NETWORKS - 1);
        self.networks.insert(0, network);
        self.networks.first_mut().expect("it was put there just now")
    }
}

impl Network {
    fn record(&self, gateway: &GatewayAddress) -> Option<&Record> {
        self.gateways.iter().find(|record| record.gateway == *gateway)
    }

    fn record_mut(&mut self, gateway: &GatewayAddress) -> &mut Record {
        let at = self.gateways.iter().position(|record| record.gateway == *gateway).unwrap_or_else(|| {
            let gateway = gateway.clone();
            self.gateways.push(Record { gateway, answered: None, failures: 0, rests_until: None });
            self.gateways.len() - 1
        });
        self.gateways.get_mut(at).expect("it was found there or put there just now")
    }
}

impl Record {
    fn rests(&self, now: Timestamp) -> bool {
        // A clock that was set back makes no rest longer than the longest.
        self.rests_until.is_some_and(|until| now < until && until.since(now) <= LONGEST_REST)
    }
}

/// A number for the address at this place, another one for each `random`.
fn chance(random: u64, at: usize) -> u64 {
    let at = u64::try_from(at).unwrap_or(u64::MAX).wrapping_add(1);
    // The finaliser of SplitMix64: every bit of both moves every bit of the result.
    let mut mixed = random ^ at.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Extent::{Host, Role};

    fn gateway(host: &str, role: u64) -> GatewayAddress {
        GatewayAddress::new(host, RoleId::new(role)).unwrap()
    }

    fn gateways(count: u64) -> Vec<GatewayAddress> {
        (0..count).map(|n| gateway(&format!("gw{n}"), 7)).collect()
    }

    fn network(name: &str) -> Fingerprint {
        Fingerprint::of(vec![name.to_owned()])
    }

    fn at(known: &[GatewayAddress], second: i64) -> Wish<'_> {
        let now = Timestamp::from_seconds(1_000_000 + second);
        Wish { known, place: Some(network("home")), role: None, now, random: u64::MAX }
    }

    /// The order in which one request tries them.
    fn order(standing: &Standing, wish: &Wish<'_>) -> Vec<GatewayAddress> {
        let mut tried = Vec::new();
        while let Some(next) = standing.best(wish, &tried) {
            tried.push(next);
        }
        tried
    }

    #[test]
    fn the_gateway_that_answered_last_is_first() {
        let known = gateways(5);
        let mut standing = Standing::default();
        standing.answered(&known[1], &at(&known, 0));
        standing.answered(&known[3], &at(&known, 1));
        for random in [0, 1, 1 << 40, u64::MAX] {
            let wish = Wish { random, ..at(&known, 2) };
            assert_eq!(order(&standing, &wish)[..2], [known[3].clone(), known[1].clone()], "{random}");
        }
    }

    #[test]
    fn devices_that_know_nothing_spread_over_all_gateways() {
        let known = gateways(4);
        let mut first = [0; 4];
        for random in 0..4000_u64 {
            let wish = Wish { random: random.wrapping_mul(0x5851_f42d_4c95_7f2d), ..at(&known, 0) };
            let order = order(&Standing::default(), &wish);
            assert_eq!(order.len(), 4);
            first[known.iter().position(|gateway| *gateway == order[0]).unwrap()] += 1;
        }
        assert!(first.iter().all(|times| (850..1150).contains(times)), "{first:?}");
    }

    #[test]
    fn one_that_fails_is_tried_last_until_its_rest_is_over_and_then_by_what_it_did() {
        let known = gateways(3);
        let mut standing = Standing::default();
        standing.answered(&known[2], &at(&known, 0));
        standing.failed(&known[2], Host, &at(&known, 1));
        assert_eq!(order(&standing, &at(&known, 2)).last(), Some(&known[2]));
        // Nobody else ever answered: after its rest it is the best again.
        assert_eq!(order(&standing, &at(&known, 31)).first(), Some(&known[2]));
        // Another one did: the device stays there.
        standing.answered(&known[0], &at(&known, 3));
        assert_eq!(order(&standing, &at(&known, 31))[..2], [known[0].clone(), known[2].clone()]);
        // And comes back when that one fails.
        standing.failed(&known[0], Host, &at(&known, 40));
        assert_eq!(order(&standing, &at(&known, 41)).first(), Some(&known[2]));
    }

    #[test]
    fn rests_double_until_the_longest_and_an_answer_ends_them() {
        let known = gateways(2);
        let mut standing = Standing::default();
        let mut rests = Vec::new();
        for failure in 0..8 {
            let now = failure * 10_000;
            standing.failed(&known[0], Host, &at(&known, now));
            let rests_at = |second: i64| {
                let record = standing.networks[0].record(&known[0]).unwrap();
                record.rests(at(&known, now + second).now)
            };
            rests.push((1..=700).take_while(|second| rests_at(*second)).count());
        }
        assert_eq!(rests, [29, 59, 119, 239, 479, 599, 599, 599]);
        standing.answered(&known[0], &at(&known, 80_000));
        standing.failed(&known[0], Host, &at(&known, 80_001));
        assert!(!standing.networks[0].record(&known[0]).unwrap().rests(at(&known, 80_032).now));
    }

    #[test]
    fn all_at_rest_are_still_all_tried_and_the_one_that_was_good_first() {
        let known = gateways(3);
        let mut standing = Standing::default();
        standing.answered(&known[1], &at(&known, 0));
        for gateway in &known {
            standing.failed(gateway, Host, &at(&known, 1));
        }
        let order = order(&standing, &at(&known, 2));
        assert_eq!((order.len(), &order[0]), (3, &known[1]));
        standing.forget_failures();
        assert!(
            known
                .iter()
                .all(|gateway| !standing.networks[0].record(gateway).unwrap().rests(at(&known, 2).now))
        );
    }

    #[test]
    fn what_answered_elsewhere_comes_before_what_never_did_and_after_what_did_here() {
        let known = gateways(4);
        let mut standing = Standing::default();
        let office = |second| Wish { place: Some(network("office")), ..at(&known, second) };
        standing.answered(&known[1], &at(&known, 0));
        standing.answered(&known[2], &office(5));
        assert_eq!(order(&standing, &at(&known, 6))[..2], [known[1].clone(), known[2].clone()]);
        assert_eq!(order(&standing, &office(6))[..2], [known[2].clone(), known[1].clone()]);
        // A failure in the office says nothing about home.
        standing.failed(&known[1], Host, &office(7));
        assert_eq!(order(&standing, &at(&known, 8))[0], known[1]);
        let hotel = Wish { place: None, ..at(&known, 8) };
        assert_eq!(order(&standing, &hotel)[..2], [known[2].clone(), known[1].clone()]);
    }

    #[test]
    fn a_host_that_is_not_reached_rests_with_all_its_roles_and_a_role_that_is_not_alone() {
        let known = vec![gateway("gw0", 7), gateway("gw0", 8), gateway("gw0", 9), gateway("gw1", 7)];
        let mut standing = Standing::default();
        standing.answered(&known[0], &at(&known, 0));
        standing.failed(&known[0], Host, &at(&known, 1));
        assert_eq!(order(&standing, &at(&known, 2))[0], known[3]);
        let mut standing = Standing::default();
        standing.answered(&known[1], &at(&known, 0));
        standing.answered(&known[0], &at(&known, 1));
        standing.failed(&known[0], Role, &at(&known, 2));
        assert_eq!(order(&standing, &at(&known, 3))[0], known[1]);
    }

    #[test]
    fn a_request_that_belongs_to_a_role_goes_there_while_it_does_not_rest() {
        let known = vec![gateway("gw0", 7), gateway("gw1", 8)];
        let mut standing = Standing::default();
        standing.answered(&known[0], &at(&known, 0));
        let wish = |second| Wish { role: Some(RoleId::new(8)), ..at(&known, second) };
        assert_eq!(order(&standing, &wish(1))[0], known[1]);
        standing.failed(&known[1], Role, &wish(2));
        assert_eq!(order(&standing, &wish(3))[0], known[0]);
    }

    #[test]
    fn a_clock_that_was_set_back_keeps_nobody_at_rest() {
        let known = gateways(2);
        let mut standing = Standing::default();
        standing.failed(&known[0], Host, &at(&known, 500_000));
        assert!(!standing.networks[0].record(&known[0]).unwrap().rests(at(&known, 0).now));
    }

    #[test]
    fn memory_is_bounded_and_survives_being_written_and_read() {
        let known = gateways(GATEWAYS as u64);
        let mut standing = Standing::default();
        for number in 0..20 {
            let wish = Wish { place: Some(network(&format!("network {number}"))), ..at(&known, number) };
            for gateway in &known {
                standing.answered(gateway, &wish);
            }
        }
        assert_eq!(standing.networks.len(), NETWORKS);
        assert_eq!(standing.networks[0].place, Some(network("network 19")));
        let text = serde_json::to_string(&standing).unwrap();
        assert_eq!(serde_json::from_str::<Standing>(&text).unwrap(), standing);
        // Another list of the site: what is not in it is forgotten.
        let fewer = &known[..3];
        standing.answered(&fewer[0], &Wish { place: Some(network("network 19")), ..at(fewer, 30) });
        assert_eq!(standing.networks[0].gateways.len(), 3);
        assert_eq!(serde_json::from_str::<Standing>("{}").unwrap(), Standing::default());
    }
}
