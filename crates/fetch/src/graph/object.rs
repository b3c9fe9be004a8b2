//! Users and devices as the service lists them.

use proto::id::Guid;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// A user of a tenant. A property that was never set is empty.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// Object id.
    pub id: Guid,
    /// `user@domain`.
    #[serde(default)]
    pub user_principal_name: Option<String>,
    /// Name for people.
    #[serde(default)]
    pub display_name: Option<String>,
    /// Mail address.
    #[serde(default)]
    pub mail: Option<String>,
    /// The SID of a hybrid user.
    #[serde(default)]
    pub on_premises_security_identifier: Option<String>,
    /// Account name of a hybrid user.
    #[serde(default)]
    pub on_premises_sam_account_name: Option<String>,
    /// Domain of a hybrid user.
    #[serde(default)]
    pub on_premises_domain_name: Option<String>,
    /// Distinguished name of a hybrid user.
    #[serde(default)]
    pub on_premises_distinguished_name: Option<String>,
}

/// A device object of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Object id.
    pub id: Guid,
    /// Device id: what tokens name.
    #[serde(default)]
    pub device_id: Option<Guid>,
    /// Computer name.
    #[serde(default)]
    pub display_name: Option<String>,
    /// The SID of a hybrid device.
    #[serde(default)]
    pub on_premises_security_identifier: Option<String>,
}

/// One line of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry<T> {
    /// It is there, with these properties.
    Present(T),
    /// The object with this id is gone.
    Gone(Guid),
}

/// What can be listed.
pub trait Listed: DeserializeOwned {
    /// For messages.
    const WHAT: &'static str;
    /// Where the list is, below the service's address.
    const PATH: &'static str;
    /// Properties that are asked for.
    const SELECT: &'static str;
    /// Which permission is missing when the list is refused.
    const PERMISSION: &'static str;
}

impl Listed for User {
    const WHAT: &'static str = "users";
    const PATH: &'static str = "/v1.0/users/delta";
    const SELECT: &'static str = "id,displayName,mail,userPrincipalName,onPremisesSecurityIdentifier,\
        onPremisesDomainName,onPremisesSamAccountName,onPremisesDistinguishedName";
    const PERMISSION: &'static str = "Directory.Read.All (or User.Read.All)";
}

impl Listed for Device {
    const WHAT: &'static str = "devices";
    const PATH: &'static str = "/v1.0/devices/delta";
    const SELECT: &'static str = "id,deviceId,displayName,onPremisesSecurityIdentifier";
    const PERMISSION: &'static str = "Directory.Read.All (or Device.Read.All)";
}
