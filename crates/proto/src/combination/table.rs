//! The table itself. Each row names the fact that it comes from; the first that speaks of a
//! combination decides, so refusals stand before what they take away from.
//!
//! How the facts were read where they leave room:
//!
//! * *Enhanced HTTP counts as HTTP and more*: what goes with an HTTP management point goes with one
//!   in enhanced HTTP.
//! * *Over plain HTTP only the site token goes*: the registered key signs every message. A
//!   certificate and an Entra token both need "eHTTP or HTTPS" (a bearer token would be readable,
//!   and nobody asks for a certificate). So an Entra-joined or hybrid device has its own scenarios
//!   over HTTP, by a site token, and no Entra-joined *client* there.
//! * *At an HTTPS management point inside* all three methods go, for the first table lists them; the
//!   site token's holder registered by a certificate, an Entra token or a bulk token before.
//! * *A user's scenario needs that user's Entra token.* Of device methods none has a user. The
//!   device may be joined to a domain only (its user is asked to sign in), but not to nothing.
//! * *A device in a workgroup or a domain only has no Entra identity*, and a user's token is not its
//!   own.

use crate::combination::{Join, Mode, Refused, Scenario, Way};
use crate::identity::Method;
use crate::reason::Reason;

/// Which part of the facts a row comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// "Three methods": mode and scenarios of each.
    Methods,
    /// "Internet client → MP reached through the gateway".
    Internet,
    /// "On-premises client → on-premises MP".
    Intranet,
    /// "Who proves what at the MP".
    Proof,
}

/// What a row says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes together.
    Allowed,
    /// It does not.
    Refused {
        /// The code of the refusal.
        reason: Reason,
        /// What a person does about it.
        fix: &'static str,
    },
}

/// One row: the combinations that it speaks of, and what it says of them.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    /// Its name, for tests and links.
    pub name: &'static str,
    /// Where it comes from.
    pub source: Source,
    /// The fact, in one sentence.
    pub fact: &'static str,
    /// Modes of the management point.
    pub modes: &'static [Mode],
    /// Ways of proving oneself.
    pub methods: &'static [Method],
    /// How the device is joined.
    pub joins: &'static [Join],
    /// From where it comes.
    pub ways: &'static [Way],
    /// For whom.
    pub scenarios: &'static [Scenario],
    /// What it says.
    pub verdict: Verdict,
}

impl Row {
    /// The verdict as a result.
    pub fn result(&'static self) -> Result<(), Refused> {
        match self.verdict {
            Verdict::Allowed => Ok(()),
            Verdict::Refused { reason, fix } => Err(Refused { row: self, reason, fix }),
        }
    }
}

const ANY_MODE: &[Mode] = &Mode::ALL;
const HTTP: &[Mode] = &[Mode::Http];
const EHTTP_OR_HTTPS: &[Mode] = &[Mode::Ehttp, Mode::Https];
const ANY_METHOD: &[Method] = &Method::PREFERENCE;
const ENTRA: &[Method] = &[Method::EntraDevice, Method::EntraUser];
const ENTRA_USER: &[Method] = &[Method::EntraUser];
const CERTIFICATE: &[Method] = &[Method::Certificate];
const SITE_TOKEN: &[Method] = &[Method::SiteToken];
const CERTIFICATE_OR_TOKEN: &[Method] = &[Method::Certificate, Method::SiteToken];
const NO_USER: &[Method] = &[Method::Certificate, Method::EntraDevice, Method::SiteToken];
const ANY_JOIN: &[Join] = &Join::ALL;
const WORKGROUP: &[Join] = &[Join::Workgroup];
const DOMAIN: &[Join] = &[Join::Domain];
const ENTRA_JOINED: &[Join] = &[Join::Entra];
const HYBRID: &[Join] = &[Join::Hybrid];
const ANY_WAY: &[Way] = &Way::ALL;
const INTRANET: &[Way] = &[Way::Intranet];
const GATEWAY: &[Way] = &[Way::Gateway];
const ANY_SCENARIO: &[Scenario] = &Scenario::ALL;
const DEVICE: &[Scenario] = &[Scenario::Device];
const USER: &[Scenario] = &[Scenario::User];

const TO_EHTTP: &str = "Switch the management point to enhanced HTTP: `roamgate role set ROLE --mode ehttp --internal-url https://HOST:PORT`. \
    Nothing is to be done on the clients.";
const JOIN_IT: &str = "Join the device to an onboarded tenant, or let it prove itself by a client certificate or \
    a site token.";
const SIGN_IN: &str = "Let the user sign in to an onboarded tenant; with a certificate or a site token, scenarios \
    of the device are all there is.";

/// The table.
pub static ROWS: &[Row] = &[
    Row {
        name: "gateway-http",
        source: Source::Internet,
        fact: "Clients that come through a gateway need a management point in enhanced HTTP or HTTPS mode.",
        modes: HTTP,
        methods: ANY_METHOD,
        joins: ANY_JOIN,
        ways: GATEWAY,
        scenarios: ANY_SCENARIO,
        verdict: Verdict::Refused { reason: Reason::RoleInHttpMode, fix: TO_EHTTP },
    },
    Row {
        name: "no-user",
        source: Source::Methods,
        fact: "Certificates, device tokens and site tokens are for scenarios of the device; a user's need that \
            user's Entra token.",
        modes: ANY_MODE,
        methods: NO_USER,
        joins: ANY_JOIN,
        ways: ANY_WAY,
        scenarios: USER,
        verdict: Verdict::Refused { reason: Reason::UserPolicyNotForMethod, fix: SIGN_IN },
    },
    Row {
        name: "workgroup-entra",
        source: Source::Proof,
        fact: "A device in a workgroup proves itself by a client certificate or a site token; it has no Entra \
            identity.",
        modes: ANY_MODE,
        methods: ENTRA,
        joins: WORKGROUP,
        ways: ANY_WAY,
        scenarios: ANY_SCENARIO,
        verdict: Verdict::Refused { reason: Reason::MethodNotForMode, fix: JOIN_IT },
    },
    Row {
        name: "domain-entra",
        source: Source::Proof,
        fact: "A device in a domain only proves itself by a client certificate or a site token; it has no Entra \
            identity.",
        modes: ANY_MODE,
        methods: ENTRA,
        joins: DOMAIN,
        ways: ANY_WAY,
        scenarios: DEVICE,
        verdict: Verdict::Refused { reason: Reason::MethodNotForMode, fix: JOIN_IT },
    },
    Row {
        name: "http-certificate",
        source: Source::Methods,
        fact: "Client certificates need a management point in enhanced HTTP or HTTPS mode.",
        modes: HTTP,
        methods: CERTIFICATE,
        joins: ANY_JOIN,
        ways: INTRANET,
        scenarios: DEVICE,
        verdict: Verdict::Refused { reason: Reason::MethodNotForMode, fix: TO_EHTTP },
    },
    Row {
        name: "http-entra",
        source: Source::Intranet,
        fact: "Entra-joined clients need a management point in enhanced HTTP or HTTPS mode.",
        modes: HTTP,
        methods: ENTRA,
        joins: ANY_JOIN,
        ways: INTRANET,
        scenarios: DEVICE,
        verdict: Verdict::Refused { reason: Reason::MethodNotForMode, fix: TO_EHTTP },
    },
    Row {
        name: "http-user",
        source: Source::Intranet,
        fact: "Scenarios of the user need a management point in enhanced HTTP or HTTPS mode.",
        modes: HTTP,
        methods: ENTRA_USER,
        joins: ANY_JOIN,
        ways: INTRANET,
        scenarios: USER,
        verdict: Verdict::Refused { reason: Reason::MethodNotForMode, fix: TO_EHTTP },
    },
    Row {
        name: "gateway-workgroup",
        source: Source::Internet,
        fact: "A device in a workgroup, with a client certificate or a site token: enhanced HTTP or HTTPS.",
        modes: EHTTP_OR_HTTPS,
        methods: CERTIFICATE_OR_TOKEN,
        joins: WORKGROUP,
        ways: GATEWAY,
        scenarios: DEVICE,
        verdict: Verdict::Allowed,
    },
    Row {
        name: "gateway-domain",
        source: Source::Internet,
        fact: "A device in a domain, with a client certificate or a site token: enhanced HTTP or HTTPS.",
        modes: EHTTP_OR_HTTPS,
        methods: CERTIFICATE_OR_TOKEN,
        joins: DOMAIN,
        ways: GATEWAY,
        scenarios: DEVICE,
        verdict: Verdict::Allowed,
    },
    Row {
        name: "gateway-entra",
        source: Source::Internet,
        fact: "An Entra-joined device: enhanced HTTP or HTTPS.",
        modes: EHTTP_OR_HTTPS,
        methods: ANY_METHOD,
        joins: ENTRA_JOINED,
        ways: GATEWAY,
        scenarios: DEVICE,
        verdict: Verdict::Allowed,
    },
    Row {
        name: "gateway-hybrid",
        source: Source::Internet,
        fact: "A hybrid-joined device: enhanced HTTP or HTTPS.",
        modes: EHTTP_OR_HTTPS,
        methods: ANY_METHOD,
        joins: HYBRID,
        ways: GATEWAY,
        scenarios: DEVICE,
        verdict: Verdict::Allowed,
    },
    Row {
        name: "user",
        source: Source::Proof,
        fact: "A user proves to be one by an Entra user token: enhanced HTTP or HTTPS.",
        modes: EHTTP_OR_HTTPS,
        methods: ENTRA_USER,
        joins: &[Join::Domain, Join::Entra, Join::Hybrid],
        ways: ANY_WAY,
        scenarios: USER,
        verdict: Verdict::Allowed,
    },
    Row {
        name: "intranet-http",
        source: Source::Proof,
        fact: "At a management point in HTTP mode the registered key signs every message: scenarios of the \
            device, however it is joined.",
        modes: HTTP,
        methods: SITE_TOKEN,
        joins: ANY_JOIN,
        ways: INTRANET,
        scenarios: DEVICE,
        verdict: Verdict::Allowed,
    },
    Row {
        name: "intranet-workgroup",
        source: Source::Intranet,
        fact: "A device in a workgroup inside: HTTP, enhanced HTTP or HTTPS.",
        modes: EHTTP_OR_HTTPS,
        methods: CERTIFICATE_OR_TOKEN,
        joins: WORKGROUP,
        ways: INTRANET,
        scenarios: DEVICE,
        verdict: Verdict::Allowed,
    },
    Row {
        name: "intranet-domain",
        source: Source::Intranet,
        fact: "A device in a domain inside: HTTP, enhanced HTTP or HTTPS.",
        modes: EHTTP_OR_HTTPS,
        methods: CERTIFICATE_OR_TOKEN,
        joins: DOMAIN,
        ways: INTRANET,
        scenarios: DEVICE,
        verdict: Verdict::Allowed,
    },
    Row {
        name: "intranet-entra",
        source: Source::Intranet,
        fact: "An Entra-joined device inside: enhanced HTTP or HTTPS.",
        modes: EHTTP_OR_HTTPS,
        methods: ANY_METHOD,
        joins: ENTRA_JOINED,
        ways: INTRANET,
        scenarios: DEVICE,
        verdict: Verdict::Allowed,
    },
    Row {
        name: "intranet-hybrid",
        source: Source::Intranet,
        fact: "A hybrid-joined device inside: HTTP, enhanced HTTP or HTTPS.",
        modes: EHTTP_OR_HTTPS,
        methods: ANY_METHOD,
        joins: HYBRID,
        ways: INTRANET,
        scenarios: DEVICE,
        verdict: Verdict::Allowed,
    },
];

/// For a combination that no row speaks of: there is none.
pub(super) static NOTHING_SAID: Row = Row {
    name: "nothing-said",
    source: Source::Methods,
    fact: "Nothing says that this goes together.",
    modes: &[],
    methods: &[],
    joins: &[],
    ways: &[],
    scenarios: &[],
    verdict: Verdict::Refused { reason: Reason::MethodNotForMode, fix: TO_EHTTP },
};

static NEWCOMER_INSIDE: Row = Row {
    name: "newcomer-intranet",
    source: Source::Proof,
    fact: "At a management point in HTTP or enhanced HTTP mode a device inside may register by its key alone; \
        a rule or a person approves it.",
    modes: &[Mode::Http, Mode::Ehttp],
    methods: &[],
    joins: ANY_JOIN,
    ways: INTRANET,
    scenarios: DEVICE,
    verdict: Verdict::Allowed,
};

static NEWCOMER_AT_HTTPS: Row = Row {
    name: "newcomer-https",
    source: Source::Proof,
    fact: "At a management point in HTTPS mode a device registers by a client certificate, an Entra token or a \
        bulk registration token; being inside is not enough.",
    modes: &[Mode::Https],
    methods: &[],
    joins: ANY_JOIN,
    ways: INTRANET,
    scenarios: DEVICE,
    verdict: Verdict::Refused {
        reason: Reason::MethodNotForMode,
        fix: "Give the device a client certificate or a bulk registration token (`roamgate bulk-token new`), or \
            switch the management point to enhanced HTTP.",
    },
};

static NEWCOMER_OUTSIDE: Row = Row {
    name: "newcomer-gateway",
    source: Source::Proof,
    fact: "Through a gateway a device registers by a client certificate, an Entra token or a bulk registration \
        token.",
    modes: ANY_MODE,
    methods: &[],
    joins: ANY_JOIN,
    ways: GATEWAY,
    scenarios: DEVICE,
    verdict: Verdict::Refused {
        reason: Reason::MethodNotForMode,
        fix: "Give the device a client certificate or a bulk registration token (`roamgate bulk-token new`).",
    },
};

/// The row for a registration without evidence.
pub(super) fn newcomer(mode: Mode, way: Way) -> &'static Row {
    match (mode, way) {
        (_, Way::Gateway) => &NEWCOMER_OUTSIDE,
        (Mode::Https, Way::Intranet) => &NEWCOMER_AT_HTTPS,
        (Mode::Http | Mode::Ehttp, Way::Intranet) => &NEWCOMER_INSIDE,
    }
}
