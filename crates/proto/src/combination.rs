//! Which way of proving oneself goes with which mode of management point, from where: the two
//! interdependency tables of the field as one piece of code (facts: `client-authentication.md`).

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a management point speaks to clients inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Plain HTTP; every message is signed. Takes nothing from gateways.
    Http,
    /// HTTP, and HTTPS with a site-issued certificate besides (enhanced HTTP). The default.
    #[default]
    Ehttp,
    /// HTTPS with a PKI certificate.
    Https,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Http, Self::Ehttp, Self::Https];

    /// The word in the database, in configuration and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Ehttp => "ehttp",
            Self::Https => "https",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == word)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a device is joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Join {
    /// To nothing.
    Workgroup,
    /// To an on-premises domain.
    Domain,
    /// To Entra ID.
    Entra,
    /// To both.
    Hybrid,
}

impl Join {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Workgroup, Self::Domain, Self::Entra, Self::Hybrid];
}

/// From where a request comes to the management point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// Straight, from inside.
    Intranet,
    /// Through a gateway.
    Gateway,
}

/// Whose scenario: device management or user management.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// The device's.
    Device,
    /// Its user's.
    User,
}
