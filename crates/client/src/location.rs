//! Inside or on the internet, and what may go through a gateway. Pure decisions; the driver in
//! [`crate::device`] tells what it saw and follows.
//!
//! A device counts as inside while a management point there, or the network-location probe that
//! the site named, answers it with the site's own signature. Resolving a name or reaching some
//! host is not enough: that is how devices of the field stay "on the intranet" in a hotel and
//! never try the gateway.
//!
//! A gateway may be forbidden to a device. That is never a dead end: what concerns the
//! registration still goes through the gateway, and every answer to it says anew whether the
//! gateway is forbidden. So a permission that is given back reaches a device that never comes
//! inside again.

use std::fmt;

use proto::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::address::{Address, GatewayAddress, InsideAddress};

/// Most gateways that a device remembers, from all sources together.
pub const GATEWAYS: usize = 64;
/// Most management points inside that a device knows, from all sources together.
pub const INSIDE: usize = 16;
/// Addresses of one kind that a log line names.
const SHOWN: usize = 8;

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
    /// Setup said so (`CCMALWAYSINF=1`), or a setting of the device (`ClientAlwaysOnInternet`).
    AlwaysInternet,
    /// The device knows no management point inside.
    NothingInsideKnown,
    /// A management point inside answered with the site's signature.
    InsideAnswered,
    /// The site's network-location probe answered with the site's signature.
    ProbeAnswered,
    /// Nothing inside answered, and there is a gateway.
    InsideSilent,
    /// Nothing inside answered, and the site forbids this device the gateway.
    GatewayForbidden,
    /// Nothing inside answered, and a setting of the device (`DisAllowCMG`) forbids the gateway.
    GatewayForbiddenHere,
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
            Self::ProbeAnswered => "the network-location probe answered with the site's signature",
            Self::InsideSilent => "no management point inside answered",
            Self::GatewayForbidden => {
                "no management point inside answered, and the site forbids this device the gateway"
            }
            Self::GatewayForbiddenHere => {
                "no management point inside answered, and a setting of this device (DisAllowCMG) forbids the gateway"
            }
            Self::NoGatewayKnown => "no management point inside answered, and no gateway is known",
            Self::NotTriedYet => "nothing was tried yet",
        })
    }
}

/// Whether the device may use gateways, and who says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Permission {
    /// It may.
    Allowed,
    /// The newest answer of the site that speaks of it forbids it.
    ForbiddenBySite,
    /// An administrator of the device forbids it by hand (`DisAllowCMG`), since the site last
    /// spoke.
    ForbiddenHere,
}

impl Permission {
    /// Whether everything may go through gateways.
    pub const fn is_allowed(self) -> bool {
        matches!(self, Self::Allowed)
    }

    const fn obstacle(self) -> Option<Rule> {
        match self {
            Self::Allowed => None,
            Self::ForbiddenBySite => Some(Rule::GatewayForbidden),
            Self::ForbiddenHere => Some(Rule::GatewayForbiddenHere),
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allowed => "allowed",
            Self::ForbiddenBySite => "forbidden by the site",
            Self::ForbiddenHere => "forbidden on this device (DisAllowCMG)",
        })
    }
}

/// What the last look inside saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Inside {
    /// There was none yet.
    #[default]
    NotTried,
    /// A management point answered.
    Answered,
    /// No management point did, and the site's probe did.
    ProbeAnswered,
    /// Nothing that the site had signed came back.
    Silent,
}

impl Inside {
    /// Whether the device is inside by this look.
    pub const fn is_reached(self) -> bool {
        matches!(self, Self::Answered | Self::ProbeAnswered)
    }
}

/// What the decision is made from.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// Setup's `CCMALWAYSINF`, or the device's `ClientAlwaysOnInternet`.
    pub always_internet: bool,
    /// Client setting "enable clients to use a cloud management gateway", or `DisAllowCMG`.
    pub permission: Permission,
    /// Management points inside that are known.
    pub inside: &'a [InsideAddress],
    /// The network-location probe that the site named.
    pub probe: Option<&'a InsideAddress>,
    /// Gateways that are known, from the site, from setup, from `CMGFQDNs`.
    pub gateways: &'a [GatewayAddress],
    /// What the last look inside saw.
    pub seen: Inside,
}

impl fmt::Display for Inputs<'_> {
    /// As the log shows them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seen = match self.seen {
            Inside::NotTried => "not tried",
            Inside::Answered => "answered",
            Inside::ProbeAnswered => "only the probe answered",
            Inside::Silent => "silent",
        };
        let (always, permission) = (self.always_internet, self.permission);
        write!(f, "always internet: {always}, gateway: {permission}, management points inside: ")?;
        list(f, self.inside)?;
        match self.probe {
            Some(probe) => write!(f, ", probe: {probe}")?,
            None => f.write_str(", probe: none")?,
        }
        write!(f, ", inside: {seen}, gateways: ")?;
        list(f, self.gateways)
    }
}

fn list(f: &mut fmt::Formatter<'_>, addresses: &[impl fmt::Display]) -> fmt::Result {
    if addresses.is_empty() {
        return f.write_str("none");
    }
    for (at, address) in addresses.iter().take(SHOWN).enumerate() {
        write!(f, "{}{address}", if at == 0 { "" } else { " " })?;
    }
    match addresses.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        Some(more) => write!(f, " and {more} more"),
        None => Ok(()),
    }
}

/// What may go through a gateway now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GatewayUse {
    /// Everything.
    Everything,
    /// Only what concerns the registration: its answer says whether more may.
    Registration,
    /// Nothing.
    Nothing,
}

/// Where the device is, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// The result.
    pub locality: Locality,
    /// The rule that gave it.
    pub rule: Rule,
    /// What may go through a gateway.
    pub gateway: GatewayUse,
    /// Why not everything may, where that is so.
    pub obstacle: Option<Rule>,
}

/// Decides where the device is and which way its requests take.
pub fn decide(inputs: &Inputs<'_>) -> Decision {
    let none_known = inputs.gateways.is_empty();
    let obstacle = inputs.permission.obstacle().or(none_known.then_some(Rule::NoGatewayKnown));
    let gateway = match inputs.permission {
        _ if none_known => GatewayUse::Nothing,
        Permission::Allowed => GatewayUse::Everything,
        Permission::ForbiddenBySite => GatewayUse::Registration,
        Permission::ForbiddenHere => GatewayUse::Nothing,
    };
    let outside = |rule| Decision { locality: Locality::Internet, rule, gateway, obstacle };
    let inside = |rule| {
        let gateway = GatewayUse::Nothing;
        Decision { locality: Locality::Intranet, rule, gateway, obstacle: None }
    };
    if inputs.always_internet {
        return outside(Rule::AlwaysInternet);
    }
    if inputs.inside.is_empty() && inputs.probe.is_none() {
        return outside(Rule::NothingInsideKnown);
    }
    match inputs.seen {
        Inside::Answered => inside(Rule::InsideAnswered),
        Inside::ProbeAnswered => inside(Rule::ProbeAnswered),
        Inside::NotTried => inside(Rule::NotTriedYet),
        Inside::Silent => outside(obstacle.unwrap_or(Rule::InsideSilent)),
    }
}

/// Merges the gateways of all sources, the better source first, without doubles and bounded.
pub fn known_gateways<'a>(sources: impl IntoIterator<Item = &'a [GatewayAddress]>) -> Vec<GatewayAddress> {
    merged(sources, GATEWAYS)
}

/// The same for management points inside.
pub fn known_inside<'a>(sources: impl IntoIterator<Item = &'a [InsideAddress]>) -> Vec<InsideAddress> {
    merged(sources, INSIDE)
}

fn merged<'a, A: Clone + PartialEq + 'a>(sources: impl IntoIterator<Item = &'a [A]>, limit: usize) -> Vec<A> {
    let mut known: Vec<A> = Vec::new();
    for address in sources.into_iter().flatten() {
        if known.len() < limit && !known.contains(address) {
            known.push(address.clone());
        }
    }
    known
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
    /// What the decision was made from, as the log shows it.
    #[serde(default)]
    pub inputs: String,
    /// When it was last looked into.
    #[serde(default)]
    pub looked: Option<Timestamp>,
}

impl Whereabouts {
    /// Whether the device is inside.
    pub fn is_inside(&self) -> bool {
        self.locality == Locality::Intranet
    }
}

impl Address {
    /// Addresses inside as ways to a management point, the first to be tried first.
    pub(crate) fn inside_of(inside: &[InsideAddress]) -> Vec<Self> {
        inside.iter().cloned().map(Self::Inside).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use GatewayUse::{Everything, Nothing, Registration};
    use Locality::{Internet, Intranet};
    use Permission::{Allowed, ForbiddenBySite, ForbiddenHere};

    fn gateways(count: u64) -> Vec<GatewayAddress> {
        (0..count)
            .map(|n| GatewayAddress::new(&format!("gw{n}"), proto::id::RoleId::new(7)).unwrap())
            .collect()
    }

    const PERMISSIONS: [Permission; 3] = [Allowed, ForbiddenBySite, ForbiddenHere];
    const SEEN: [Inside; 4] = [Inside::NotTried, Inside::Answered, Inside::ProbeAnswered, Inside::Silent];

    /// Every combination of inputs, as the decision and the inputs it was made from.
    fn every_combination(mut check: impl FnMut(&Inputs<'_>, Decision)) {
        let (mp, probe): (InsideAddress, InsideAddress) =
            ("mp1".parse().unwrap(), "https://probe".parse().unwrap());
        let (inside, gateways) = (vec![mp], gateways(2));
        for always_internet in [false, true] {
            for permission in PERMISSIONS {
                for inside in [&[][..], &inside] {
                    for probe in [None, Some(&probe)] {
                        for gateways in [&[][..], &gateways] {
                            for seen in SEEN {
                                let inputs =
                                    Inputs { always_internet, permission, inside, probe, gateways, seen };
                                check(&inputs, decide(&inputs));
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_table_of_decisions() {
        let mp: Vec<InsideAddress> = vec!["mp1".parse().unwrap()];
        let probe: InsideAddress = "https://probe".parse().unwrap();
        let (one, none) = (gateways(1), Vec::new());
        let silent = Inside::Silent;
        for (always_internet, permission, (inside, probe), gateways, seen, expected) in [
            (false, Allowed, (&mp[..], None), &one, Inside::NotTried, (Intranet, Rule::NotTriedYet, Nothing)),
            (false, Allowed, (&mp, None), &one, Inside::Answered, (Intranet, Rule::InsideAnswered, Nothing)),
            (false, Allowed, (&mp, None), &one, silent, (Internet, Rule::InsideSilent, Everything)),
            (
                false,
                ForbiddenBySite,
                (&mp, None),
                &one,
                silent,
                (Internet, Rule::GatewayForbidden, Registration),
            ),
            (
                false,
                ForbiddenHere,
                (&mp, None),
                &one,
                silent,
                (Internet, Rule::GatewayForbiddenHere, Nothing),
            ),
            (
                false,
                ForbiddenBySite,
                (&mp, None),
                &one,
                Inside::Answered,
                (Intranet, Rule::InsideAnswered, Nothing),
            ),
            (false, Allowed, (&mp, None), &none, silent, (Internet, Rule::NoGatewayKnown, Nothing)),
            (false, ForbiddenBySite, (&mp, None), &none, silent, (Internet, Rule::GatewayForbidden, Nothing)),
            (
                true,
                Allowed,
                (&mp, None),
                &one,
                Inside::Answered,
                (Internet, Rule::AlwaysInternet, Everything),
            ),
            (
                true,
                ForbiddenBySite,
                (&mp, None),
                &one,
                silent,
                (Internet, Rule::AlwaysInternet, Registration),
            ),
            (true, Allowed, (&mp, None), &none, silent, (Internet, Rule::AlwaysInternet, Nothing)),
            (
                false,
                Allowed,
                (&[], None),
                &one,
                Inside::NotTried,
                (Internet, Rule::NothingInsideKnown, Everything),
            ),
            (
                false,
                ForbiddenBySite,
                (&[], None),
                &one,
                silent,
                (Internet, Rule::NothingInsideKnown, Registration),
            ),
            (
                false,
                Allowed,
                (&[], Some(&probe)),
                &one,
                Inside::NotTried,
                (Intranet, Rule::NotTriedYet, Nothing),
            ),
            (
                false,
                Allowed,
                (&[], Some(&probe)),
                &one,
                Inside::ProbeAnswered,
                (Intranet, Rule::ProbeAnswered, Nothing),
            ),
            (
                false,
                Allowed,
                (&mp, Some(&probe)),
                &one,
                Inside::ProbeAnswered,
                (Intranet, Rule::ProbeAnswered, Nothing),
            ),
            (false, Allowed, (&mp, Some(&probe)), &one, silent, (Internet, Rule::InsideSilent, Everything)),
        ] {
            let inputs = Inputs { always_internet, permission, inside, probe, gateways, seen };
            let decision = decide(&inputs);
            assert_eq!((decision.locality, decision.rule, decision.gateway), expected, "{inputs}");
        }
    }

    #[test]
    fn in_every_combination_the_intranet_needs_an_answer_that_the_site_signed_or_an_open_question() {
        let mut combinations = 0;
        every_combination(|inputs, decision| {
            combinations += 1;
            let knows_inside = !inputs.inside.is_empty() || inputs.probe.is_some();
            let expected = !inputs.always_internet && knows_inside && inputs.seen != Inside::Silent;
            assert_eq!(decision.locality == Intranet, expected, "{inputs}");
        });
        assert_eq!(combinations, 2 * 3 * 2 * 2 * 2 * 4);
    }

    #[test]
    fn in_every_combination_a_gateway_carries_what_the_permission_lets_it() {
        every_combination(|inputs, decision| {
            let outside = decision.locality == Internet && !inputs.gateways.is_empty();
            let expected = match inputs.permission {
                Allowed if outside => Everything,
                ForbiddenBySite if outside => Registration,
                _ => Nothing,
            };
            assert_eq!(decision.gateway, expected, "{inputs}");
            // Whoever is turned away hears why.
            let turned_away = decision.locality == Internet && decision.gateway != Everything;
            assert_eq!(decision.obstacle.is_some(), turned_away, "{inputs}");
        });
    }

    #[test]
    fn what_the_log_shows_names_the_values_of_the_run() {
        let (inside, gateways) = (vec!["mp1".parse().unwrap()], gateways(10));
        let inputs = Inputs {
            always_internet: false,
            permission: ForbiddenHere,
            inside: &inside,
            probe: None,
            gateways: &gateways,
            seen: Inside::Silent,
        };
        let shown = inputs.to_string();
        for part in [
            "always internet: false, gateway: forbidden on this device (DisAllowCMG), ",
            "management points inside: http://mp1, probe: none, inside: silent, ",
            "gateways: gw0/CCM_Proxy_MutualAuth/7 gw1/",
            "gw7/CCM_Proxy_MutualAuth/7 and 2 more",
        ] {
            assert!(shown.contains(part), "{shown}");
        }
    }

    #[test]
    fn sources_are_merged_in_their_order_and_bounded() {
        let (a, b) = (gateways(2), gateways(100));
        let known = known_gateways([&a[1..], &b[..]]);
        assert_eq!((&known[0], &known[1], known.len()), (&b[1], &b[0], GATEWAYS));
    }
}
