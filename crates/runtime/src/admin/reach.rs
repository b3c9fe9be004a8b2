//! From where the pages can be reached, and by what name.
//!
//! The pages ask nobody who he is, so they belong on an address that only monitors reach. A browser inside is the
//! way around that: a page of a stranger may name a host whose address turns into ours once it is loaded, and then
//! read what we answer to its own name. So only names that no stranger can own are answered.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Endings that the internet's registries give to nobody.
const PRIVATE_ENDINGS: [&str; 5] = ["localhost", "local", "internal", "lan", "home.arpa"];

/// Whether only hosts nearby reach this address: this one, its networks, or an operator's own.
pub(super) fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, ..] = address.octets();
            // 100.64.0.0/10 is that of overlay networks, and of carriers' own.
            let shared = a == 100 && (64..128).contains(&b);
            address.is_loopback() || address.is_private() || address.is_link_local() || shared
        }
        IpAddr::V6(address) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
        }
    }
}

/// Whether a request for this `Host` is answered: one by address, by a name that no stranger can own, or by one of
/// `names`. `None`: it names none, as no browser does.
pub(super) fn is_ours(host: Option<&[u8]>, names: &[String]) -> bool {
    let Some(host) = host else { return true };
    let Ok(host) = std::str::from_utf8(host) else { return false };
    let name = without_port(host);
    let name = name.strip_suffix('.').unwrap_or(name);
    if let Some(address) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().is_ok();
    }
    if name.parse::<Ipv4Addr>().is_ok() || names.iter().any(|ours| ours.eq_ignore_ascii_case(name)) {
        return true;
    }
    let mut labels = name.rsplit('.');
    let last = labels.next().unwrap_or_default();
    if last.is_empty() || !last.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
        return false;
    }
    labels.next().is_none()
        || PRIVATE_ENDINGS.iter().any(|ending| {
            let name = name.to_ascii_lowercase();
            name.strip_suffix(ending).is_some_and(|rest| rest.ends_with('.'))
        })
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        // The colons of an IPv6 address are inside of its brackets.
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !port.ends_with(']') => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_told_from_those_that_everybody_reaches() {
        for address in [
            "127.0.0.1",
            "127.9.9.9",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.1.1",
            "100.64.0.1",
            "::1",
        ] {
            assert!(is_private(address.parse().unwrap()), "{address}");
        }
        for address in ["fd00::1", "fe80::1", "::ffff:10.0.0.1"] {
            assert!(is_private(address.parse().unwrap()), "{address}");
        }
        for address in
            ["0.0.0.0", "::", "8.8.8.8", "100.128.0.1", "172.32.0.1", "2001:db8::1", "::ffff:8.8.8.8"]
        {
            assert!(!is_private(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn names_that_a_stranger_can_own_are_not_ours() {
        let names = ["gw1.example.com".to_owned()];
        let ours = |host: &str| is_ours(Some(host.as_bytes()), &names);
        for host in [
            "127.0.0.1:9444",
            "10.1.2.3",
            "[::1]:9444",
            "[fd00::1]",
            "localhost",
            "LocalHost:9444",
            "gw1",
            "gw1:9444",
            "gateway.local",
            "gw1.corp.internal:9444",
            "GW1.example.com",
            "gw1.example.com:9444",
            "gw1.example.com.",
        ] {
            assert!(ours(host), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9444",
            "gw1.example.com.evil.example",
            "evil-local.example",
            "xlocal.com",
            "127.0.0.1.evil.example",
            "[::1].evil.example",
            "",
            ".",
            ":9444",
            "a.b.",
            "evil.example:80@localhost",
            "[evil.example]",
            "localhost.evil.example",
            ".local.com",
        ] {
            assert!(!ours(host), "{host}");
        }
        assert!(is_ours(None, &[]), "who names no host is no browser");
        assert!(!is_ours(Some(b"\xff"), &[]));
    }
}
