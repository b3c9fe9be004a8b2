//! Who answers an endpoint of the table, and in which way it refuses.

use std::time::Duration;

use proto::endpoint::Endpoint;

use crate::answer::Style;

/// Who answers an endpoint of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handler {
    /// Client messages; the message names its own endpoint.
    Message,
    /// `.sms_aut`.
    SiteFacts,
    /// `.sms_pol`.
    PolicyBody,
    /// `CCM_STS`.
    TokenService,
}

impl Handler {
    /// By the end of the path: doors that differ only in who may pass have the same handler.
    pub(crate) fn of(endpoint: &Endpoint) -> Self {
        match endpoint.path {
            path if path.ends_with("/.sms_aut") => Self::SiteFacts,
            path if path.ends_with("/.sms_pol") => Self::PolicyBody,
            path if path.ends_with("/request") => Self::Message,
            _ => Self::TokenService,
        }
    }

    /// Longest time for the work on one request, its place and body being there. What takes longer waits
    /// for a database that has more to do than it can, and 503 tells the device to come later: devices
    /// give up on silence after 30 seconds and more.
    pub(crate) const fn time(self) -> Duration {
        match self {
            Self::TokenService | Self::SiteFacts => Duration::from_secs(15),
            Self::PolicyBody => Duration::from_secs(20),
            // Inventory of some megabytes is inflated and stored.
            Self::Message => Duration::from_secs(25),
        }
    }

    /// In which way it refuses.
    pub(crate) const fn style(self) -> Style {
        match self {
            Self::Message => Style::Message,
            Self::TokenService => Style::TokenService,
            Self::SiteFacts | Self::PolicyBody => Style::Document,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::endpoint::ENDPOINTS;

    #[test]
    fn every_row_of_the_table_has_its_handler() {
        for endpoint in ENDPOINTS {
            let expected = match endpoint.name {
                "CCM_STS" => Handler::TokenService,
                name if name.starts_with("ccm_system") => Handler::Message,
                _ if endpoint.path.ends_with(".sms_aut") => Handler::SiteFacts,
                _ => Handler::PolicyBody,
            };
            assert_eq!(Handler::of(endpoint), expected, "{}", endpoint.path);
        }
    }
}
