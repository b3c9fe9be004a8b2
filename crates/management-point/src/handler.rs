//! Who answers an endpoint of the table, and in which way it refuses.

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
