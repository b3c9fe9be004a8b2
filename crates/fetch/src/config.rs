//! What an administrator may set about fetching.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::outbound::Proxies;

/// How the site fetches. The defaults suit Active Directory and a site that reaches the internet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether the system's proxies are used (`HTTPS_PROXY` and the like). LDAP knows no proxies.
    pub proxies: Proxies,
    /// Names of attributes, by the name of the directory that has others than Active Directory.
    pub attributes: BTreeMap<String, Attributes>,
}

/// Which attributes of a directory hold what. What Active Directory calls them is asked for besides
/// and is taken where one of these is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Attributes {
    /// The SID, in binary or as text.
    pub sid: String,
    /// The account name without its domain.
    pub account: String,
    /// `user@domain`.
    pub principal_name: String,
    /// The name for people.
    pub display_name: String,
    /// The mail address.
    pub mail: String,
    /// A filter that finds computers.
    pub computers: String,
}

impl Default for Attributes {
    fn default() -> Self {
        Self {
            sid: "objectSid".to_owned(),
            account: "sAMAccountName".to_owned(),
            principal_name: "userPrincipalName".to_owned(),
            display_name: "displayName".to_owned(),
            mail: "mail".to_owned(),
            computers: "(objectClass=computer)".to_owned(),
        }
    }
}
