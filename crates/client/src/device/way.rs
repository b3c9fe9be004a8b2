//! Where the device is, and which way its requests take: the driver of [`crate::location`].

use proto::id::RoleId;
use proto::reason::Reason;

use super::send::{Carry, Outgoing};
use super::{Device, RequestError};
use crate::address::{Address, GatewayAddress, InsideAddress};
use crate::failure::CallError;
use crate::location::{
    Decision, GatewayUse, Inputs, Inside, Locality, Permission, Rule, Whereabouts, decide,
};
use crate::log::{field, line};
use crate::place;
use crate::probe;
use crate::rotation::{Rotated, order};
use crate::standing::{Extent, Wish};
use crate::transport::Answer;

/// Addresses of one kind that one request tries before it fails: the best one and two others.
const ADDRESSES_A_REQUEST: usize = 3;

/// What makes the device look where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// The service, or a command, began.
    Start,
    /// The device is on another network.
    NetworkChange,
    /// The regular look, every 24 hours.
    Regular,
    /// Policy is about to be asked for.
    Poll,
    /// A request is about to be sent, or did not get through.
    Request,
}

impl Occasion {
    const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::NetworkChange => "network change",
            Self::Regular => "regular",
            Self::Poll => "policy poll",
            Self::Request => "request",
        }
    }

    /// Whether everything is looked into anew, and the log says what came of it in any case.
    pub(super) const fn is_fresh(self) -> bool {
        matches!(self, Self::Start | Self::NetworkChange | Self::Regular)
    }
}

impl Device {
    /// Finds out whether the device is inside: asks the management points there, and believes
    /// only the site's signature. Done before each policy poll and whenever nothing is known.
    pub async fn locate(&mut self) -> Result<Locality, RequestError> {
        self.look_around(Occasion::Poll).await
    }

    /// The same on an occasion. At the start, on another network and every 24 hours nothing of before counts:
    /// the device's settings are read, `CMGFQDNs` is looked into, failures of before are forgotten.
    pub async fn look_around(&mut self, occasion: Occasion) -> Result<Locality, RequestError> {
        let local = self.read_local_settings();
        if occasion.is_fresh() {
            self.state.place.standing.forget_failures();
            self.inside_rotation.forget_failures();
        }
        self.ask_inside().await;
        let decision = self.decided(occasion)?;
        if decision.locality == Locality::Internet && self.read_hints(&local, occasion).await {
            return self.decided(occasion).map(|decision| decision.locality);
        }
        Ok(decision.locality)
    }

    /// Asks inside, if that is of any use; gives the last failure.
    pub(super) async fn ask_inside(&mut self) -> Option<CallError> {
        let known = self.management_points();
        let probe = self.state.policy.settings.network_probe.clone();
        if place::always_internet(&self.state) || (known.is_empty() && probe.is_none()) {
            self.inside = Inside::NotTried;
            return None;
        }
        let plan = probe::plan(&known, probe.as_ref(), self.inside_rotation.current(), runtime::id::random());
        let mut last = None;
        for question in plan {
            let mut outgoing = Outgoing::get(probe::TARGET.to_owned(), probe::TARGET.to_owned());
            outgoing.timeout = question.timeout;
            let address = Address::Inside(question.address.clone());
            match self.attempt(&address, &outgoing, &Carry::Nothing).await {
                Err(error) if !probe::is_signed_refusal(&error) => {
                    line!(debug, LocationServices, %address, probe = question.is_probe, error = %runtime::telemetry::Chain(&error), "silent");
                    if !question.is_probe {
                        self.inside_failed(&question.address, &known);
                    }
                    last = Some(error);
                }
                _ => {
                    line!(debug, LocationServices, %address, probe = question.is_probe, "answered with the site's signature");
                    self.inside_rotation.begin_with(&question.address);
                    self.inside_rotation.succeeded(&question.address);
                    self.inside = if question.is_probe { Inside::ProbeAnswered } else { Inside::Answered };
                    return None;
                }
            }
        }
        self.inside = Inside::Silent;
        last
    }

    /// The decision as of what is known, noted, and logged when it is another than before or the occasion
    /// asks for it.
    fn decided(&mut self, occasion: Occasion) -> Result<Decision, RequestError> {
        let (gateways, inside) = (self.gateways(), self.management_points());
        let inputs = Inputs {
            always_internet: place::always_internet(&self.state),
            permission: self.permission(),
            inside: &inside,
            probe: self.state.policy.settings.network_probe.as_ref(),
            gateways: &gateways,
            seen: self.inside,
        };
        let decision = decide(&inputs);
        if decision.rule == Rule::NotTriedYet {
            return Ok(decision);
        }
        let now = self.now();
        let before = self.state.whereabouts.as_ref();
        let known = before.map(|known| (known.locality, known.rule));
        let moved = known.is_some_and(|(locality, _)| locality != decision.locality);
        let changed = known != Some((decision.locality, decision.rule));
        if !changed && occasion == Occasion::Request {
            return Ok(decision);
        }
        let inputs = inputs.to_string();
        let since = before.filter(|_| !moved).map_or(now, |known| known.since);
        let address = before.map(|known| known.address.clone()).unwrap_or_default();
        let (locality, rule) = (decision.locality, decision.rule);
        if changed || occasion.is_fresh() {
            line!(
                info,
                LocationServices,
                occasion = occasion.name(),
                result = %locality,
                rule = %rule,
                gateway_use = gateway_use(decision),
                inputs,
                "location decided"
            );
        }
        if moved {
            let place = if locality == Locality::Intranet { "intranet" } else { "Internet" };
            line!(info, ClientLocation, place, "the device is elsewhere than before");
        }
        self.state.whereabouts =
            Some(Whereabouts { locality, rule, since, address, inputs, looked: Some(now) });
        if changed || occasion.is_fresh() {
            self.save().map_err(RequestError::State)?;
        }
        Ok(decision)
    }

    /// Every gateway that the device knows: named by the site, by setup, or by `CMGFQDNs`.
    pub fn gateways(&self) -> Vec<GatewayAddress> {
        place::gateways(&self.state)
    }

    /// Every management point inside that the device knows: named by setup, or by the site.
    pub fn management_points(&self) -> Vec<InsideAddress> {
        place::management_points(&self.state)
    }

    /// Those, and the probe behind them: a management point, too.
    pub(super) fn inside_addresses(&self) -> Vec<InsideAddress> {
        let mut known = self.management_points();
        if let Some(probe) = &self.state.policy.settings.network_probe
            && !known.contains(probe)
        {
            known.push(probe.clone());
        }
        known
    }

    /// Whether the device may use gateways, and who says so.
    pub fn permission(&self) -> Permission {
        place::permission(&self.state)
    }

    /// Whether the device is outside and may ask there only whether the gateway is still forbidden.
    pub fn may_only_ask_for_permission(&self) -> bool {
        let outside = self.state.whereabouts.as_ref().is_some_and(|known| !known.is_inside());
        outside && self.permission() == Permission::ForbiddenBySite && !self.gateways().is_empty()
    }

    /// Sends a request by the way that is open now. One that does not get through inside goes at
    /// once through a gateway.
    pub(crate) async fn send(&mut self, outgoing: &Outgoing<'_>) -> Result<Answer, RequestError> {
        let mut last = None;
        if self.inside == Inside::NotTried {
            last = self.ask_inside().await;
        }
        let decision = self.decided(Occasion::Request)?;
        if decision.locality == Locality::Intranet {
            match self.send_inside(outgoing).await {
                Err(error) if error.is_of_the_way() => {
                    line!(info, LocationServices, "the inside does not answer any more");
                    self.inside = Inside::Silent;
                    let RequestError::Call(call) = error else { return Err(error) };
                    last = Some(call);
                }
                other => return other,
            }
        }
        let decision = self.decided(Occasion::Request)?;
        let is_open = match decision.gateway {
            GatewayUse::Everything => true,
            GatewayUse::Registration => outgoing.concerns_registration(),
            GatewayUse::Nothing => false,
        };
        if is_open {
            return self.send_outside(outgoing).await;
        }
        // There is no other way, and what did not answer a while ago may be back.
        if last.is_none() {
            last = self.ask_inside().await;
            if self.decided(Occasion::Request)?.locality == Locality::Intranet {
                return self.send_inside(outgoing).await;
            }
        }
        let rule = decision.obstacle.unwrap_or(decision.rule);
        Err(RequestError::NoWay { rule, source: last.map(Box::new) })
    }

    /// Sends to the management point inside that is in use, or to the assigned one where the message belongs
    /// there, and to others while the way fails.
    async fn send_inside(&mut self, outgoing: &Outgoing<'_>) -> Result<Answer, RequestError> {
        let known = self.inside_addresses();
        let nobody = || RequestError::NoWay { rule: Rule::NothingInsideKnown, source: None };
        let random = runtime::id::random();
        let (current, rotated) = self.inside_rotation.choose(&known, random).ok_or_else(nobody)?;
        if let Some(rotated) = rotated {
            log_inside_rotation(&rotated);
        }
        let first = known.first().filter(|_| outgoing.goes_to_assigned()).unwrap_or(&current);
        let mut last = None;
        for inside in order(first, &known, random).into_iter().take(ADDRESSES_A_REQUEST) {
            match self.attempt(&Address::Inside(inside.clone()), outgoing, &Carry::Nothing).await {
                // One that speaks HTTPS only is not asked in vain: its address by HTTPS may be known, too.
                Err(error) if error.is_of_the_way() || error.reason() == Some(Reason::MethodNotForMode) => {
                    self.inside_failed(&inside, &known);
                    last = Some(error);
                }
                other => {
                    self.inside_rotation.succeeded(&inside);
                    return other.map_err(RequestError::Call);
                }
            }
        }
        Err(last.map_or_else(nobody, RequestError::Call))
    }

    fn inside_failed(&mut self, address: &InsideAddress, known: &[InsideAddress]) {
        let now = self.now();
        if let Some(rotated) = self.inside_rotation.failed(address, known, now, runtime::id::random()) {
            log_inside_rotation(&rotated);
        }
    }

    /// Sends through the gateway that answered last, or one that leads to the assigned management point where
    /// the message belongs there, and through others while the way fails. What each of them did is remembered.
    pub(super) async fn through_gateways(
        &mut self,
        outgoing: &Outgoing<'_>,
        carry: &Carry,
    ) -> Result<Answer, RequestError> {
        let forbidden = match self.permission() {
            Permission::Allowed => None,
            Permission::ForbiddenBySite if outgoing.concerns_registration() => None,
            Permission::ForbiddenBySite => Some(Rule::GatewayForbidden),
            Permission::ForbiddenHere => Some(Rule::GatewayForbiddenHere),
        };
        if let Some(rule) = forbidden {
            return Err(RequestError::NoWay { rule, source: None });
        }
        let known = self.gateways();
        let nobody = || RequestError::NoWay { rule: Rule::NoGatewayKnown, source: None };
        self.begin_with_a_gateway(&known);
        let role = outgoing.goes_to_assigned().then(|| self.assigned_role(&known)).flatten();
        let mut tried: Vec<GatewayAddress> = Vec::new();
        let mut last = None;
        while tried.len() < ADDRESSES_A_REQUEST {
            let standing = &self.state.place.standing;
            let Some(gateway) = standing.best(&self.wish(&known, role), &tried) else { break };
            let address = Address::Gateway(gateway.clone(), carry.door());
            let outcome = self.attempt(&address, outgoing, carry).await;
            // A try may have taken its time, and may have shown that the clock is off.
            let wish = self.wish(&known, role);
            match outcome {
                Err(error) if error.is_of_the_way() => {
                    self.state.place.standing.failed(&gateway, extent_of(&error), &wish);
                    tried.push(gateway);
                    last = Some(error);
                }
                other => {
                    self.state.place.standing.answered(&gateway, &wish);
                    // The one that was in use has failed just now: this one takes its place.
                    if self.rotation.current().is_none_or(|current| tried.contains(current)) {
                        self.rotate_to(&gateway, &known);
                    }
                    return other.map_err(RequestError::Call);
                }
            }
        }
        Err(last.map_or_else(nobody, RequestError::Call))
    }

    /// What a gateway is chosen for now.
    fn wish<'a>(&self, known: &'a [GatewayAddress], role: Option<RoleId>) -> Wish<'a> {
        Wish { known, place: self.network, role, now: self.now(), random: runtime::id::random() }
    }

    /// Settles which gateway counts as the one in use, where none does or it is not known any more: the best.
    fn begin_with_a_gateway(&mut self, known: &[GatewayAddress]) {
        if self.rotation.current().is_none_or(|current| !known.contains(current))
            && let Some(best) = self.state.place.standing.best(&self.wish(known, None), &[])
        {
            self.rotate_to(&best, known);
        }
    }

    fn rotate_to(&mut self, gateway: &GatewayAddress, known: &[GatewayAddress]) {
        if let Some(rotated) = self.rotation.move_to(gateway, known) {
            log_rotation(&rotated);
        }
    }

    /// The role of the management point that the device is assigned to: the one that setup named, or the first
    /// that the site did.
    fn assigned_role(&self, known: &[GatewayAddress]) -> Option<RoleId> {
        self.state.setup.gateways.first().or(known.first()).map(GatewayAddress::role)
    }
}

/// How much of a gateway a failure speaks of. What was answered, by whomever, came from a host that is reached.
const fn extent_of(error: &CallError) -> Extent {
    match error {
        CallError::Refused { .. } | CallError::NotBelieved { .. } | CallError::TooLarge { .. } => {
            Extent::Role
        }
        CallError::NameNotResolved { .. }
        | CallError::CannotConnect { .. }
        | CallError::TimedOut { .. }
        | CallError::Tls { .. }
        | CallError::Broken { .. } => Extent::Host,
    }
}

/// As the log says it.
const fn gateway_use(decision: Decision) -> &'static str {
    match (decision.locality, decision.gateway) {
        (Locality::Intranet, _) => "not needed",
        (Locality::Internet, GatewayUse::Everything) => "for everything",
        (Locality::Internet, GatewayUse::Registration) => "only to ask whether it is still forbidden",
        (Locality::Internet, GatewayUse::Nothing) => "none",
    }
}

fn log_rotation(rotated: &Rotated<GatewayAddress>) {
    field!(
        info,
        ClientLocation,
        "Rotating internet management point, new management point [{}] is: https://{} (0) with capabilities: <Capabilities SchemaVersion =\"1.0\"><Property Name=\"SSL\" Version=\"1\" /></Capabilities>",
        rotated.number,
        rotated.to
    );
}

fn log_inside_rotation(rotated: &Rotated<InsideAddress>) {
    line!(
        info,
        ClientLocation,
        number = rotated.number,
        management_point = %rotated.to,
        "another management point inside is used from now on"
    );
}
