//! Noticing that the device is on another network: a fingerprint of its addresses and routes, looked at
//! every second. Pure but for what [`crate::platform`] reads.

use proto::id::Thumbprint;
use serde::{Deserialize, Serialize};

/// Longest text of the system that is read, in bytes: tables of hosts with many addresses are long, and
/// what stands behind this changes nothing.
pub const TABLE_BYTES: u64 = 256 * 1024;
/// Most facts that count.
const FACTS: usize = 4096;

/// What distinguishes one network from another, in one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(Thumbprint);

impl Fingerprint {
    /// The fingerprint of facts such as addresses and routes, in whatever order the system names them.
    pub fn of(mut facts: Vec<String>) -> Self {
        facts.sort_unstable();
        facts.dedup();
        facts.truncate(FACTS);
        Self(Thumbprint::of(facts.join("\n").as_bytes()))
    }
}

/// Tells a change that stays from one that is under way: while a cable is plugged in, addresses and routes
/// come one after the other.
#[derive(Debug, Default)]
pub struct Watch {
    settled: Option<Fingerprint>,
    coming: Option<Fingerprint>,
}

impl Watch {
    /// Takes a look; `true`: since the last change that was told, the network is another one, and it was
    /// the same at the look before. The first look tells nothing. A system that tells nothing is no change.
    pub fn look(&mut self, now: Option<Fingerprint>) -> bool {
        let Some(now) = now else { return false };
        let Some(settled) = self.settled else {
            self.settled = Some(now);
            return false;
        };
        if now == settled {
            self.coming = None;
            return false;
        }
        if self.coming != Some(now) {
            self.coming = Some(now);
            return false;
        }
        (self.settled, self.coming) = (Some(now), None);
        true
    }

    /// The network of the last change that was told, or of the first look.
    pub fn settled(&self) -> Option<Fingerprint> {
        self.settled
    }
}

/// IPv4 routes of Linux' `/proc/net/route`: interface, destination, gateway, metric, mask. Counters stay out.
pub fn ipv4_routes(table: &str) -> Vec<String> {
    let route = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (interface, destination, gateway) = (words.next()?, words.next()?, words.next()?);
        let (metric, mask) = (words.nth(3)?, words.next()?);
        (interface != "lo").then(|| format!("route {interface} {destination}/{mask} {gateway} {metric}"))
    };
    table.lines().skip(1).filter_map(route).collect()
}

/// IPv4 addresses of the host, of Linux' `/proc/net/fib_trie`; loopback stays out.
pub fn ipv4_addresses(trie: &str) -> Vec<String> {
    let mut last = "";
    let mut found = Vec::new();
    for line in trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address;
        } else if line == "/32 host LOCAL" && !last.starts_with("127.") {
            found.push(format!("address {last}"));
        }
    }
    found
}

/// IPv6 addresses of the host, of Linux' `/proc/net/if_inet6`. Only those that are good beyond the link
/// count: each interface that comes and goes on a host with containers brings one that is not.
pub fn ipv6_addresses(table: &str) -> Vec<String> {
    const GLOBAL: &str = "00";
    let address = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let address = words.next()?;
        let prefix = words.nth(1)?;
        let (scope, _flags, interface) = (words.next()?, words.next()?, words.next()?);
        (scope == GLOBAL).then(|| format!("address {address}/{prefix} {interface}"))
    };
    table.lines().filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &str = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth0\t000200C0\t00000000\t0001\t0\t7\t0\t00FFFFFF\t0\t0\t0
";
    const TRIE: &str = "\
Main:
  +-- 0.0.0.0/0 3 0 5
     +-- 127.0.0.0/8 2 0 2
           |-- 127.0.0.1
              /32 host LOCAL
        +-- 192.0.2.0/30 2 0 2
           |-- 192.0.2.0
              /24 link UNICAST
           |-- 192.0.2.2
              /32 host LOCAL
        |-- 192.0.2.255
           /32 link BROADCAST
";
    const SIX: &str = "\
fe8000000000000000fc00fffe000001 04 40 20 80     eth0
00000000000000000000000000000001 01 80 10 80       lo
fd000000000000000000000000000002 04 40 00 82     eth0
";

    fn facts() -> Vec<String> {
        [ipv4_routes(ROUTES), ipv4_addresses(TRIE), ipv6_addresses(SIX)].concat()
    }

    #[test]
    fn the_systems_tables_give_addresses_and_routes_and_nothing_that_only_counts() {
        assert_eq!(
            facts(),
            [
                "route eth0 00000000/00000000 010200C0 100",
                "route eth0 000200C0/00FFFFFF 00000000 0",
                "address 192.0.2.2",
                "address fd000000000000000000000000000002/40 eth0",
            ]
        );
        let busier = ROUTES.replace("\t0001\t0\t7\t", "\t0001\t3\t9\t");
        assert_eq!(ipv4_routes(&busier), ipv4_routes(ROUTES));
        assert!(
            ipv4_routes("").is_empty() && ipv6_addresses("x y").is_empty() && ipv4_addresses("?").is_empty()
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_says_on_which_network_it_is_and_says_the_same_twice() {
        let network = crate::platform::network();
        assert!(network.is_some());
        assert_eq!(network, crate::platform::network());
    }

    #[test]
    fn order_is_no_difference_and_an_address_is() {
        let mut turned = facts();
        turned.reverse();
        assert_eq!(Fingerprint::of(turned), Fingerprint::of(facts()));
        assert_ne!(Fingerprint::of(facts()[1..].to_vec()), Fingerprint::of(facts()));
    }

    #[test]
    fn a_change_is_told_once_when_it_stays() {
        let of = |name: &str| Some(Fingerprint::of(vec![name.to_owned()]));
        let (home, between, office) = (of("home"), of("between"), of("office"));
        let mut watch = Watch::default();
        let looks = [home, home, between, office, office, office, None, home, office, office, home, home];
        let told: Vec<_> = looks.into_iter().map(|now| watch.look(now)).collect();
        let changes: Vec<_> = told.iter().enumerate().filter(|(_, told)| **told).map(|(at, _)| at).collect();
        // At the second look at the office, and at the second one in a row at home.
        assert_eq!(changes, [4, 11]);
    }
}
