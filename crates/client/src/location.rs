//! Inside or on the internet, and which way a request takes. Pure decisions; the driver in
//! [`crate::device`] tells what it saw and follows.
//!
//! A device counts as inside while a management point there answers it with the site's own
//! signature. Resolving a name or reaching some host is not enough: that is how devices of
//! the field stay "on the intranet" in a hotel and never try the gateway.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use proto::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::address::{Address, GatewayAddress, InsideAddress};

/// Failures of one gateway after which another one is taken [docs].
pub const ROTATION_FAILURES: usize = 5;
/// The time within which they must fall [docs].
pub const ROTATION_WINDOW: Duration = Duration::from_mins(10);
/// Most gateways that a device remembers, from all sources together.
pub const GATEWAYS: usize = 64;

/// Where the device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Locality {
    /// A management point is reached directly.
    Intranet,
    /// Only a gateway is reached, or nothing else may be used.
    Internet,
}

impl fmt::Display for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Intranet => "intranet",
            Self::Internet => "internet",
        })
    }
}

/// Which rule decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Setup said so (`CCMALWAYSINF=1`).
    AlwaysInternet,
    /// The device knows no management point inside.
    NothingInsideKnown,
    /// A management point inside answered with the site's signature.
    InsideAnswered,
    /// Nothing inside answered, and there is a gateway.
    InsideSilent,
    /// Nothing inside answered, and the site forbids this device the gateway.
    GatewayForbidden,
    /// Nothing inside answered, and no gateway is known.
    NoGatewayKnown,
    /// Nothing was tried yet.
    NotTriedYet,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AlwaysInternet => "the device is set to be always on the internet",
            Self::NothingInsideKnown => "no management point inside is known",
            Self::InsideAnswered => "a management point inside answered with the site's signature",
            Self::InsideSilent => "no management point inside answered",
            Self::GatewayForbidden => "no management point inside answered, and policy forbids the gateway",
            Self::NoGatewayKnown => "no management point inside answered, and no gateway is known",
            Self::NotTriedYet => "nothing was tried yet",
        })
    }
}

/// What the decision is made from.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// Setup's `CCMALWAYSINF`.
    pub always_internet: bool,
    /// Client setting "enable clients to use a cloud management gateway".
    pub gateway_allowed: bool,
    /// Management points inside, in the order of preference.
    pub inside: &'a [InsideAddress],
    /// Gateways that are known, from setup, policy and locations.
    pub gateways: &'a [GatewayAddress],
    /// What the last attempt inside gave; `None` before the first.
    pub inside_answered: Option<bool>,
}

impl fmt::Display for Inputs<'_> {
    /// As the log shows them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answered = match self.inside_answered {
            Some(true) => "answered",
            Some(false) => "silent",
            None => "not tried",
        };
        write!(
            f,
            "always internet: {}, gateway allowed: {}, management points inside: {} ({answered}), gateways known: {}",
            self.always_internet,
            self.gateway_allowed,
            self.inside.len(),
            self.gateways.len()
        )
    }
}

/// Where the device is, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// The result.
    pub locality: Locality,
    /// The rule that gave it.
    pub rule: Rule,
    /// Whether requests go through a gateway now.
    pub through_gateway: bool,
}

/// Decides where the device is and which way its requests take.
pub fn decide(inputs: &Inputs<'_>) -> Decision {
    // The setting cannot shut out a device that has no other way: it would never hear that it
    // was lifted again.
    let allowed = inputs.gateway_allowed || inputs.inside.is_empty();
    let usable = allowed && !inputs.gateways.is_empty();
    let outside = |rule| Decision { locality: Locality::Internet, rule, through_gateway: usable };
    if inputs.always_internet {
        return outside(Rule::AlwaysInternet);
    }
    if inputs.inside.is_empty() {
        return outside(Rule::NothingInsideKnown);
    }
    let inside = |rule| Decision { locality: Locality::Intranet, rule, through_gateway: false };
    match inputs.inside_answered {
        Some(true) => inside(Rule::InsideAnswered),
        None => inside(Rule::NotTriedYet),
        Some(false) if !inputs.gateway_allowed => outside(Rule::GatewayForbidden),
        Some(false) if inputs.gateways.is_empty() => outside(Rule::NoGatewayKnown),
        Some(false) => outside(Rule::InsideSilent),
    }
}

/// Merges the gateways of all sources, the better source first, without doubles and bounded.
pub fn known_gateways<'a>(sources: impl IntoIterator<Item = &'a [GatewayAddress]>) -> Vec<GatewayAddress> {
    let mut known: Vec<GatewayAddress> = Vec::new();
    for gateway in sources.into_iter().flatten() {
        if known.len() < GATEWAYS && !known.contains(gateway) {
            known.push(gateway.clone());
        }
    }
    known
}

/// Which gateway is used, and when another one is taken.
#[derive(Debug, Default)]
pub struct Rotation {
    current: Option<GatewayAddress>,
    failures: BTreeMap<GatewayAddress, VecDeque<Timestamp>>,
}

/// A gateway that takes the place of the one used so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotated {
    /// The new one.
    pub to: GatewayAddress,
    /// Its place in the list of known ones, from 1: the number in the field's log line.
    pub number: usize,
}

impl Rotation {
    /// The gateway to use now: the one used so far while it is still known, else one at random.
    pub fn choose(
        &mut self,
        known: &[GatewayAddress],
        random: u64,
    ) -> Option<(GatewayAddress, Option<Rotated>)> {
        if let Some(current) = &self.current
            && known.contains(current)
        {
            return Some((current.clone(), None));
        }
        let rotated = self.take_another(known, random)?;
        Some((rotated.to.clone(), Some(rotated)))
    }

    /// Notes that the gateway could not be reached; takes another one at random after
    /// [`ROTATION_FAILURES`] within [`ROTATION_WINDOW`], if there is another.
    pub fn failed(
        &mut self,
        gateway: &GatewayAddress,
        known: &[GatewayAddress],
        now: Timestamp,
        random: u64,
    ) -> Option<Rotated> {
        self.failures.retain(|gateway, _| known.contains(gateway));
        let times = self.failures.entry(gateway.clone()).or_default();
        times.push_back(now);
        while times.front().is_some_and(|first| now.since(*first) > ROTATION_WINDOW)
            || times.len() > ROTATION_FAILURES
        {
            times.pop_front();
        }
        if times.len() < ROTATION_FAILURES || self.current.as_ref() != Some(gateway) || known.len() < 2 {
            return None;
        }
        self.failures.remove(gateway);
        self.take_another(known, random)
    }

    /// Notes that the gateway answered.
    pub fn succeeded(&mut self, gateway: &GatewayAddress) {
        self.failures.remove(gateway);
    }

    /// Another gateway than the current one, for one request that the current one failed.
    pub fn other_than(
        &self,
        failed: &GatewayAddress,
        known: &[GatewayAddress],
        random: u64,
    ) -> Option<GatewayAddress> {
        let others: Vec<_> = known.iter().filter(|gateway| *gateway != failed).collect();
        pick(others.len(), random).and_then(|at| others.get(at).map(|gateway| (*gateway).clone()))
    }

    fn take_another(&mut self, known: &[GatewayAddress], random: u64) -> Option<Rotated> {
        let current = self.current.take();
        let others: Vec<_> =
            known.iter().enumerate().filter(|(_, gateway)| Some(*gateway) != current.as_ref()).collect();
        let (index, gateway) = *others.get(pick(others.len(), random)?)?;
        self.current = Some(gateway.clone());
        Some(Rotated { to: gateway.clone(), number: index + 1 })
    }
}

/// A place among `count`, evenly by `random`.
fn pick(count: usize, random: u64) -> Option<usize> {
    let count = u64::try_from(count).ok().filter(|count| *count > 0)?;
    usize::try_from((u128::from(random) * u128::from(count)) >> 64).ok()
}

/// What the device knows about where it is, kept in its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whereabouts {
    /// The last decision.
    pub locality: Locality,
    /// Why.
    pub rule: Rule,
    /// Since when.
    pub since: Timestamp,
    /// The address used last.
    pub address: String,
}

impl Address {
    /// The addresses that a decision allows, the first to be tried first.
    pub(crate) fn inside_of(inside: &[InsideAddress]) -> Vec<Self> {
        inside.iter().cloned().map(Self::Inside).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Locality::{Internet, Intranet};

    fn gateways(count: u64) -> Vec<GatewayAddress> {
        (0..count)
            .map(|n| GatewayAddress::new(&format!("gw{n}"), proto::id::RoleId::new(7)).unwrap())
            .collect()
    }

    #[test]
    fn the_table_of_decisions() {
        let inside: Vec<InsideAddress> = vec!["mp1".parse().unwrap()];
        let (one, none) = (gateways(1), Vec::new());
        for (always, allowed, inside, gateways, answered, expected) in [
            (false, true, &inside[..], &one, None, (Intranet, Rule::NotTriedYet, false)),
            (false, true, &inside[..], &one, Some(true), (Intranet, Rule::InsideAnswered, false)),
            (false, true, &inside[..], &one, Some(false), (Internet, Rule::InsideSilent, true)),
            (false, false, &inside[..], &one, Some(false), (Internet, Rule::GatewayForbidden, false)),
            (false, false, &inside[..], &one, Some(true), (Intranet, Rule::InsideAnswered, false)),
            (false, true, &inside[..], &none, Some(false), (Internet, Rule::NoGatewayKnown, false)),
            (true, true, &inside[..], &one, Some(true), (Internet, Rule::AlwaysInternet, true)),
            (true, false, &inside[..], &one, Some(true), (Internet, Rule::AlwaysInternet, false)),
            (false, true, &[][..], &one, None, (Internet, Rule::NothingInsideKnown, true)),
            (false, false, &[][..], &one, None, (Internet, Rule::NothingInsideKnown, true)),
            (false, true, &[][..], &none, None, (Internet, Rule::NothingInsideKnown, false)),
        ] {
            let inputs = Inputs {
                always_internet: always,
                gateway_allowed: allowed,
                inside,
                gateways,
                inside_answered: answered,
            };
            let decision = decide(&inputs);
            assert_eq!((decision.locality, decision.rule, decision.through_gateway), expected, "{inputs}");
        }
    }

    #[test]
    fn a_gateway_is_left_after_five_failures_in_ten_minutes() {
        let known = gateways(3);
        let mut rotation = Rotation::default();
        let (first, rotated) = rotation.choose(&known, 0).unwrap();
        assert_eq!((&first, rotated.unwrap().number), (&known[0], 1));
        let minute = |n: i64| Timestamp::from_seconds(n * 60);
        // Four within the window, one of them too old when the fifth comes.
        for at in [0, 8, 9, 10] {
            assert_eq!(rotation.failed(&first, &known, minute(at), 0), None);
        }
        assert_eq!(rotation.failed(&first, &known, minute(11), 0), None);
        let rotated = rotation.failed(&first, &known, minute(12), 0).unwrap();
        assert_eq!((rotated.to.clone(), rotated.number), (known[1].clone(), 2));
        assert_eq!(rotation.choose(&known, u64::MAX), Some((rotated.to, None)));
    }

    #[test]
    fn an_answer_makes_former_failures_forgotten() {
        let known = gateways(2);
        let mut rotation = Rotation::default();
        let (first, _) = rotation.choose(&known, 0).unwrap();
        for second in 0..4 {
            assert_eq!(rotation.failed(&first, &known, Timestamp::from_seconds(second), 0), None);
        }
        rotation.succeeded(&first);
        assert_eq!(rotation.failed(&first, &known, Timestamp::from_seconds(5), 0), None);
    }

    #[test]
    fn an_only_gateway_is_kept_whatever_it_does() {
        let known = gateways(1);
        let mut rotation = Rotation::default();
        let (only, _) = rotation.choose(&known, 5).unwrap();
        for second in 0..20 {
            assert_eq!(rotation.failed(&only, &known, Timestamp::from_seconds(second), 0), None);
        }
        assert_eq!(rotation.other_than(&only, &known, 0), None);
        assert_eq!(rotation.choose(&[], 0), None);
    }

    #[test]
    fn a_gateway_that_is_no_longer_known_is_left_at_once() {
        let known = gateways(3);
        let mut rotation = Rotation::default();
        rotation.choose(&known[..1], 0).unwrap();
        let (now, rotated) = rotation.choose(&known[1..], u64::MAX).unwrap();
        assert_eq!((now, rotated.unwrap().number), (known[2].clone(), 2));
    }

    #[test]
    fn sources_are_merged_in_their_order_and_bounded() {
        let (a, b) = (gateways(2), gateways(100));
        let known = known_gateways([&a[1..], &b[..]]);
        assert_eq!((&known[0], &known[1], known.len()), (&b[1], &b[0], GATEWAYS));
    }
}
