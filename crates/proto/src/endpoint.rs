//! The table of everything that may be asked over HTTP.
//!
//! One row an endpoint: path, methods, largest body, and who may call it, inside and
//! through a gateway. The gateway's filter, the management point's dispatch, the test that
//! walks every endpoint without credentials, and `docs/endpoints.md` all read this table;
//! what is not in it does not exist. A gateway's own two pages ([`crate::path::External`])
//! are no role's, and so they are not in it.

use crate::limits;

/// What a caller has shown about itself. The classes that a row of [`ENDPOINTS`] lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Caller {
    /// Nothing, or nothing that held.
    Anonymous,
    /// A client certificate whose chain the site trusts (PKI).
    Certificate,
    /// A token of an onboarded tenant: an Entra device or user.
    Entra,
    /// A bulk registration token.
    Bulk,
    /// A self-prove token, with its key.
    SelfProve,
    /// A CCM token given before registration, with its key.
    PreAuth,
    /// A CCM token of a registered device, with its key.
    Device,
    /// A CCM token of a registered device and its user, with the device's key.
    User,
}

impl Caller {
    /// Every class, for tests that walk the whole matrix.
    pub const ALL: [Self; 8] = [
        Self::Anonymous,
        Self::Certificate,
        Self::Entra,
        Self::Bulk,
        Self::SelfProve,
        Self::PreAuth,
        Self::Device,
        Self::User,
    ];
}

/// One thing that may be asked over HTTP.
#[derive(Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// First path element in the field's spelling: what logs and counters call it.
    pub name: &'static str,
    /// The path at the management point, in the spelling that we forward. Compared without case.
    pub path: &'static str,
    /// Methods that it answers. Compared with case: `ccm_post` is another method.
    pub methods: &'static [&'static str],
    /// Largest request body in bytes.
    pub max_body: usize,
    /// Who may call it at the management point.
    pub inside: &'static [Caller],
    /// Who may call it through a gateway; empty: it never leaves the inside.
    pub outside: &'static [Caller],
    /// What it is for, in one sentence for the documentation.
    pub purpose: &'static str,
}

impl Endpoint {
    /// Whether a caller of this class may call it at the management point.
    pub fn open_inside_to(&self, caller: Caller) -> bool {
        self.inside.contains(&caller)
    }

    /// Whether a caller of this class may call it through a gateway.
    pub fn open_outside_to(&self, caller: Caller) -> bool {
        self.outside.contains(&caller)
    }

    /// Whether any gateway publishes it.
    pub fn is_published(&self) -> bool {
        !self.outside.is_empty()
    }
}

/// Who may call an endpoint that proves nothing by itself: the message carries the proof.
const EVERYONE: &[Caller] = &Caller::ALL;
/// Holders of a CCM token of any type.
const CCM_TOKEN: &[Caller] = &[Caller::PreAuth, Caller::Device, Caller::User];
/// Holders of a CCM token of any type, and devices with a trusted certificate.
const CCM_TOKEN_OR_CERTIFICATE: &[Caller] =
    &[Caller::PreAuth, Caller::Device, Caller::User, Caller::Certificate];
/// Registered devices.
const DEVICE: &[Caller] = &[Caller::Device, Caller::User];
/// Registered devices, by token or by certificate.
const DEVICE_OR_CERTIFICATE: &[Caller] = &[Caller::Device, Caller::User, Caller::Certificate];
/// Who may ask the token service: identities, never a token that came from it.
const IDENTITY: &[Caller] = &[Caller::Certificate, Caller::Entra, Caller::Bulk, Caller::SelfProve];

/// Everything that may be asked, in the order of the protocol reference (section 1.1).
pub static ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        name: "ccm_system",
        path: "/ccm_system/request",
        methods: &["CCM_POST"],
        max_body: limits::MESSAGE_BYTES,
        inside: EVERYONE,
        outside: &[Caller::Certificate],
        purpose: "every client message; the message carries its own signature",
    },
    Endpoint {
        name: "ccm_system_windowsauth",
        path: "/ccm_system_windowsauth/request",
        methods: &["CCM_POST"],
        max_body: limits::MESSAGE_BYTES,
        inside: EVERYONE,
        outside: &[],
        purpose: "answered like ccm_system; the path proves nothing and approves nothing",
    },
    Endpoint {
        name: "ccm_system_altauth",
        path: "/ccm_system_altauth/request",
        methods: &["CCM_POST"],
        max_body: limits::MESSAGE_BYTES,
        inside: EVERYONE,
        outside: &[],
        purpose: "answered like ccm_system; the path proves nothing and approves nothing",
    },
    Endpoint {
        name: "ccm_system_tokenauth",
        path: "/ccm_system_tokenauth/request",
        methods: &["CCM_POST"],
        max_body: limits::MESSAGE_BYTES,
        inside: CCM_TOKEN,
        outside: CCM_TOKEN,
        purpose: "every client message, with a CCM token in the Authorization header",
    },
    Endpoint {
        name: "SMS_MP",
        path: "/SMS_MP/.sms_aut",
        methods: &["GET", "HEAD"],
        max_body: 0,
        inside: EVERYONE,
        outside: CCM_TOKEN_OR_CERTIFICATE,
        purpose: "facts about the site and its management points",
    },
    Endpoint {
        name: "SMS_MP",
        path: "/SMS_MP/.sms_pol",
        methods: &["GET", "HEAD"],
        max_body: 0,
        inside: EVERYONE,
        outside: DEVICE_OR_CERTIFICATE,
        purpose: "policy bodies; a secret one needs the device's signed headers",
    },
    Endpoint {
        name: "SMS_MP_TokenAuth",
        path: "/SMS_MP_TokenAuth/.sms_aut",
        methods: &["GET", "HEAD"],
        max_body: 0,
        inside: CCM_TOKEN,
        outside: CCM_TOKEN,
        purpose: "facts about the site, with a CCM token",
    },
    Endpoint {
        name: "SMS_MP_TokenAuth",
        path: "/SMS_MP_TokenAuth/.sms_pol",
        methods: &["GET", "HEAD"],
        max_body: 0,
        inside: DEVICE,
        outside: DEVICE,
        purpose: "policy bodies, with a CCM token of a registered device",
    },
    Endpoint {
        name: "CCM_STS",
        path: "/CCM_STS",
        methods: &["GET"],
        max_body: 0,
        inside: IDENTITY,
        outside: IDENTITY,
        purpose: "turns a proof of identity into a CCM token",
    },
];

/// The row for a path, compared without case; `None`: there is no such endpoint.
///
/// Nothing is decoded or tidied first. A path in any other spelling (`//`, `%2e`, a
/// trailing slash) is another path, and so it is unknown.
pub fn find(path: &str) -> Option<&'static Endpoint> {
    ENDPOINTS.iter().find(|endpoint| endpoint.path.eq_ignore_ascii_case(path))
}

/// What one endpoint of the client protocol (the addressee inside a message) asks of its caller.
#[derive(Debug, PartialEq, Eq)]
pub struct MessageRule {
    /// `TargetEndpoint` of the message. Compared without case.
    pub name: &'static str,
    /// Who may send to it. A registered device that proves its key by the message's
    /// signature counts as [`Caller::Device`], whatever path it came by.
    pub callers: &'static [Caller],
    /// Whether the message must carry a signature by the registered key.
    pub signed: bool,
    /// Whether an unapproved device may send to it.
    pub before_approval: bool,
}

/// The endpoints of the client protocol that we answer (section 3.1 of the reference).
pub static MESSAGE_RULES: &[MessageRule] = &[
    MessageRule { name: "MP_ClientRegistration", callers: EVERYONE, signed: false, before_approval: true },
    MessageRule { name: "MP_LocationManager", callers: EVERYONE, signed: false, before_approval: true },
    MessageRule {
        name: "MP_PolicyManager",
        callers: DEVICE_OR_CERTIFICATE,
        signed: true,
        before_approval: false,
    },
    MessageRule {
        name: "MP_DdrEndpoint",
        callers: DEVICE_OR_CERTIFICATE,
        signed: true,
        before_approval: false,
    },
    MessageRule {
        name: "MP_HinvEndpoint",
        callers: DEVICE_OR_CERTIFICATE,
        signed: true,
        before_approval: false,
    },
    MessageRule {
        name: "MP_SinvEndpoint",
        callers: DEVICE_OR_CERTIFICATE,
        signed: true,
        before_approval: false,
    },
    // The vendor's SDK sends state messages unsigned [observed]: taken as an anonymous
    // statement, never as proof of anything.
    MessageRule { name: "MP_RelayEndpoint", callers: EVERYONE, signed: false, before_approval: true },
    MessageRule {
        name: "StatusReceiver",
        callers: DEVICE_OR_CERTIFICATE,
        signed: true,
        before_approval: false,
    },
];

/// The rule for a message's `TargetEndpoint`, compared without case.
pub fn find_message_rule(name: &str) -> Option<&'static MessageRule> {
    MESSAGE_RULES.iter().find(|rule| rule.name.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_found_in_any_case_and_in_no_other_spelling() {
        assert_eq!(find("/sms_mp/.SMS_AUT").map(|e| e.path), Some("/SMS_MP/.sms_aut"));
        for wrong in
            ["", "/", "/CCM_STS/", "//CCM_STS", "/CCM%5FSTS", "/x/../CCM_STS", "/CCM_STS;a", "CCM_STS"]
        {
            assert_eq!(find(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn no_token_service_token_buys_another_and_no_bulk_token_opens_anything_else() {
        for endpoint in ENDPOINTS {
            let sts = endpoint.name == "CCM_STS";
            assert_eq!(endpoint.open_outside_to(Caller::Bulk), sts, "{}", endpoint.path);
            assert_eq!(endpoint.open_outside_to(Caller::SelfProve), sts, "{}", endpoint.path);
            assert!(!(sts && endpoint.open_inside_to(Caller::Device)));
        }
    }

    #[test]
    fn nothing_is_open_to_a_stranger_through_a_gateway() {
        assert!(ENDPOINTS.iter().all(|endpoint| !endpoint.open_outside_to(Caller::Anonymous)));
    }

    #[test]
    fn paths_that_prove_nothing_never_leave_the_inside() {
        for path in ["/ccm_system_windowsauth/request", "/ccm_system_altauth/request"] {
            assert!(!find(path).unwrap().is_published());
        }
    }
}
