//! What a stand-in begins with.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use proto::id::Guid;
use serde::{Deserialize, Serialize};

use crate::certificate::Ca;

/// Where a stand-in listens and whom it knows.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where it listens; port 0 takes a free one. Loopback: it gives tokens to whoever asks nicely.
    pub listen: SocketAddr,
    /// The host name in its addresses and its certificate. `localhost` works without any entry in
    /// the system's tables.
    pub host: String,
    /// The authority that signs its certificate; `None` makes one ([`crate::Bound::ca_pem`]).
    pub ca: Option<Ca>,
    /// Its tenants.
    pub tenants: Vec<TenantConfig>,
}

impl Default for Config {
    fn default() -> Self {
        let listen = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        Self { listen, host: "localhost".to_owned(), ca: None, tenants: Vec::new() }
    }
}

/// Which form of access token the server app asks for (`requestedAccessTokenVersion`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenVersion {
    /// Issuer `{base}/{tenant}/`, audience the App ID URI. What apps registered by the field's
    /// wizard get.
    #[default]
    V1,
    /// Issuer `{base}/{tenant}/v2.0`, audience the server app's id.
    V2,
}

/// One tenant.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantConfig {
    /// `tid`.
    pub tenant: Guid,
    /// For people.
    pub name: String,
    /// The App ID URI of the server app: what devices and users ask tokens for.
    pub resource: String,
    /// The server app's id.
    pub server_app: Guid,
    /// The client app that devices and users ask with.
    pub client_app: Guid,
    /// The app that the site lists users with.
    pub discovery_app: Guid,
    /// Its secret. A made-up one of a made-up tenant, so it may be printed.
    pub discovery_secret: String,
    /// The form of access tokens.
    #[serde(default)]
    pub version: TokenVersion,
    /// Life of access tokens in seconds.
    #[serde(default = "default_lifetime")]
    pub token_lifetime: u64,
    /// Seconds that a client is told to wait between two questions whether a user has signed in;
    /// who asks sooner is told to slow down. 0 never tells.
    #[serde(default = "default_interval")]
    pub poll_interval: u64,
    /// Life of a sign-in code in seconds.
    #[serde(default = "default_code_lifetime")]
    pub code_lifetime: u64,
    /// Users or devices on a page when the asker names no number.
    #[serde(default = "default_page")]
    pub page_size: usize,
    /// Users there from the start.
    #[serde(default)]
    pub users: Vec<UserSeed>,
    /// Devices there from the start.
    #[serde(default)]
    pub devices: Vec<DeviceSeed>,
}

fn default_lifetime() -> u64 {
    3_600
}

fn default_interval() -> u64 {
    5
}

fn default_code_lifetime() -> u64 {
    900
}

fn default_page() -> usize {
    100
}

impl TenantConfig {
    /// A tenant with made-up apps and nobody in it, the same each time for the same id.
    pub fn new(tenant: Guid, name: &str) -> Self {
        let derived = |last: u8| {
            let mut bytes = *tenant.as_bytes();
            bytes[15] ^= last;
            Guid::from_bytes(bytes)
        };
        Self {
            tenant,
            name: name.to_owned(),
            resource: format!("api://{tenant}/roamgate"),
            server_app: derived(0x51),
            client_app: derived(0x52),
            discovery_app: derived(0x53),
            discovery_secret: "discovery-secret-of-the-stand-in".to_owned(),
            version: TokenVersion::default(),
            token_lifetime: default_lifetime(),
            poll_interval: default_interval(),
            code_lifetime: default_code_lifetime(),
            page_size: default_page(),
            users: Vec::new(),
            devices: Vec::new(),
        }
    }
}

/// A user of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserSeed {
    /// Object id.
    pub id: Guid,
    /// Principal name; also the name to sign in with.
    pub upn: String,
    /// For people.
    pub name: String,
    /// On-premises SID: present for a hybrid user.
    #[serde(default)]
    pub sid: Option<String>,
    /// On-premises account name (`sAMAccountName`).
    #[serde(default)]
    pub account: Option<String>,
    /// On-premises DNS domain.
    #[serde(default)]
    pub domain: Option<String>,
    /// On-premises distinguished name.
    #[serde(default)]
    pub distinguished_name: Option<String>,
}

impl UserSeed {
    /// A user of the cloud alone.
    pub fn cloud(id: Guid, upn: &str, name: &str) -> Self {
        Self {
            id,
            upn: upn.to_owned(),
            name: name.to_owned(),
            sid: None,
            account: None,
            domain: None,
            distinguished_name: None,
        }
    }

    /// A user synchronised from a directory.
    #[must_use]
    pub fn with_sid(mut self, sid: &str) -> Self {
        self.sid = Some(sid.to_owned());
        self.account = Some(self.upn.split('@').next().unwrap_or_default().to_owned());
        self
    }
}

/// A device object of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceSeed {
    /// Device id (`deviceid` of its tokens).
    pub id: Guid,
    /// Object id (`oid` of its tokens).
    pub object: Guid,
    /// Computer name.
    pub name: String,
    /// Whether it may sign in.
    #[serde(default = "default_enabled")]
    pub enabled: bool,
    /// `AzureAd` (joined), `ServerAd` (hybrid) or `Workplace` (registered).
    #[serde(default = "default_trust")]
    pub trust: String,
    /// On-premises SID of a hybrid device.
    #[serde(default)]
    pub sid: Option<String>,
    /// Its workplace-join certificate: base64 of the DER. Without one it gets no tokens.
    #[serde(default)]
    pub certificate: Option<String>,
}

fn default_enabled() -> bool {
    true
}

fn default_trust() -> String {
    "AzureAd".to_owned()
}

impl DeviceSeed {
    /// A joined device with this workplace-join certificate, DER.
    pub fn joined(id: Guid, name: &str, certificate: &[u8]) -> Self {
        use base64::Engine as _;
        let mut object = *id.as_bytes();
        object[0] ^= 0x0b;
        Self {
            id,
            object: Guid::from_bytes(object),
            name: name.to_owned(),
            enabled: true,
            trust: default_trust(),
            sid: None,
            certificate: Some(base64::engine::general_purpose::STANDARD.encode(certificate)),
        }
    }
}
