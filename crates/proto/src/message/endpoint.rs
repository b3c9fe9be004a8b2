//! Addressees of messages, and which bodies each of them takes.
//!
//! A message's signature covers the payload but not the addressee, so the two are tied
//! together here: a body is taken only where its root element belongs (section 4.4).

use std::fmt;
use std::str::FromStr;

use crate::request::report::InventoryAction;

/// `TargetEndpoint` of a message to a management point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MessageEndpoint {
    /// Registration and its confirmation.
    ClientRegistration,
    /// Policy assignments.
    PolicyManager,
    /// Sites, management points, content, update servers.
    LocationManager,
    /// Heartbeat.
    Discovery,
    /// Hardware inventory.
    HardwareInventory,
    /// Software inventory.
    SoftwareInventory,
    /// State messages and metering.
    Relay,
    /// Status messages.
    StatusReceiver,
    /// Known by name only; not served [talk].
    TokenManager,
}

/// A message to somebody we have never heard of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown endpoint {0:?}")]
pub struct UnknownEndpoint(pub String);

impl MessageEndpoint {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::ClientRegistration,
        Self::PolicyManager,
        Self::LocationManager,
        Self::Discovery,
        Self::HardwareInventory,
        Self::SoftwareInventory,
        Self::Relay,
        Self::StatusReceiver,
        Self::TokenManager,
    ];

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClientRegistration => "MP_ClientRegistration",
            Self::PolicyManager => "MP_PolicyManager",
            Self::LocationManager => "MP_LocationManager",
            Self::Discovery => "MP_DdrEndpoint",
            Self::HardwareInventory => "MP_HinvEndpoint",
            Self::SoftwareInventory => "MP_SinvEndpoint",
            Self::Relay => "MP_RelayEndpoint",
            Self::StatusReceiver => "StatusReceiver",
            Self::TokenManager => "MP_TokenManager",
        }
    }

    /// Whether clients sign what they send here [observed]. Registration is signed inside
    /// its body instead.
    pub const fn is_signed(self) -> bool {
        match self {
            Self::PolicyManager
            | Self::Discovery
            | Self::HardwareInventory
            | Self::SoftwareInventory
            | Self::StatusReceiver
            | Self::TokenManager => true,
            Self::ClientRegistration | Self::LocationManager | Self::Relay => false,
        }
    }

    /// Whether clients wait for an answer with a body [observed].
    pub const fn is_synchronous(self) -> bool {
        matches!(
            self,
            Self::ClientRegistration | Self::PolicyManager | Self::LocationManager | Self::TokenManager
        )
    }

    /// Whether this endpoint takes a body with this root element, and we can read it.
    pub fn accepts(self, root: &str) -> bool {
        let roots: &[&str] = match self {
            Self::ClientRegistration => &["ClientRegistrationRequest"],
            Self::PolicyManager => &["RequestAssignments"],
            Self::LocationManager => &[
                "SiteInformationRequest",
                "AssignedSiteRequest",
                "ContentLocationRequest",
                "EnumerateMPLocationRequest",
                "LocalMPLocationRequest",
                "WSUSLocationRequest",
            ],
            Self::Discovery | Self::HardwareInventory | Self::SoftwareInventory | Self::Relay => &["Report"],
            Self::StatusReceiver => &["Status"],
            Self::TokenManager => &[],
        };
        roots.contains(&root)
    }

    /// Whether a report of this inventory belongs here. All reports share one root element,
    /// so without this a signed heartbeat could be handed in again as an inventory.
    pub fn accepts_report(self, action: Option<InventoryAction>) -> bool {
        match self {
            Self::Discovery => action == Some(InventoryAction::Discovery),
            Self::HardwareInventory => action == Some(InventoryAction::Hardware),
            Self::SoftwareInventory => action == Some(InventoryAction::Software),
            // State messages have none [observed]; what metering has is not known.
            Self::Relay => !matches!(
                action,
                Some(InventoryAction::Discovery | InventoryAction::Hardware | InventoryAction::Software)
            ),
            Self::ClientRegistration
            | Self::PolicyManager
            | Self::LocationManager
            | Self::StatusReceiver
            | Self::TokenManager => false,
        }
    }
}

impl fmt::Display for MessageEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for MessageEndpoint {
    type Err = UnknownEndpoint;

    /// Compared without case.
    fn from_str(text: &str) -> Result<Self, UnknownEndpoint> {
        Self::ALL
            .into_iter()
            .find(|endpoint| endpoint.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| UnknownEndpoint(text.chars().take(80).collect()))
    }
}

/// Whether the endpoint of this name takes a body with this root element.
pub fn endpoint_accepts(endpoint: &str, root: &str) -> bool {
    endpoint.parse().is_ok_and(|endpoint: MessageEndpoint| endpoint.accepts(root))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::{MESSAGE_RULES, find_message_rule};

    #[test]
    fn names_are_read_in_any_case() {
        for endpoint in MessageEndpoint::ALL {
            assert_eq!(endpoint.name().to_lowercase().parse(), Ok(endpoint));
        }
        assert!("MP_DdrEndpoint ".parse::<MessageEndpoint>().is_err());
    }

    #[test]
    fn a_body_fits_where_it_belongs_only() {
        assert!(endpoint_accepts("mp_locationmanager", "WSUSLocationRequest"));
        for (endpoint, root) in [
            ("MP_LocationManager", "RequestAssignments"),
            ("MP_LocationManager", "TokenServicesRequest"),
            ("MP_PolicyManager", "Report"),
            ("MP_TokenManager", "Report"),
            ("MP_DdrEndpoint", "report"),
            ("nobody", "Report"),
        ] {
            assert!(!endpoint_accepts(endpoint, root), "{endpoint} {root}");
        }
    }

    #[test]
    fn a_report_fits_the_endpoint_of_its_inventory_only() {
        use InventoryAction::{Discovery, Hardware, Software};
        let homes = [
            (Some(Discovery), MessageEndpoint::Discovery),
            (Some(Hardware), MessageEndpoint::HardwareInventory),
            (Some(Software), MessageEndpoint::SoftwareInventory),
            (None, MessageEndpoint::Relay),
        ];
        for endpoint in MessageEndpoint::ALL {
            for (action, home) in homes {
                assert_eq!(endpoint.accepts_report(action), endpoint == home, "{endpoint} {action:?}");
            }
        }
    }

    #[test]
    fn the_rules_know_every_endpoint_that_takes_a_body_and_agree_on_signatures() {
        for endpoint in MessageEndpoint::ALL {
            match find_message_rule(endpoint.name()) {
                Some(rule) => assert_eq!(rule.signed, endpoint.is_signed(), "{endpoint}"),
                None => assert_eq!(endpoint, MessageEndpoint::TokenManager),
            }
        }
        assert_eq!(MESSAGE_RULES.len(), MessageEndpoint::ALL.len() - 1);
    }
}
