//! What is said between site, connection point and gateway besides device traffic.
//!
//! The site link is an HTTPS connection that the connection point dials; after an upgrade
//! both sides send messages: four bytes of length (big-endian), then JSON. Down come
//! publications and the map of roles and gateways; up go acknowledgements, counters and
//! events. The same publications travel on through the tunnel's control messages, where the
//! gateway answers with its own. Requests and answers have heads of their own form ([`RequestHead`],
//! [`AnswerHead`]).

mod head;

use serde::{Deserialize, Serialize};

use crate::id::{ClientId, Guid, RequestId, RoleId, Thumbprint};
use crate::snapshot::Signed;
use crate::time::Timestamp;

pub use head::{AnswerHead, HEADERS_MAX, HeadError, HeadTooLong, Headers, RequestHead};

/// Path of the site link, and the protocol that its upgrade names.
pub const LINK_PATH: &str = "/link";
/// Value of the `Upgrade` header.
pub const LINK_PROTOCOL: &str = "roamgate-link/1";
/// ALPN of a tunnel between connection point and gateway.
pub const TUNNEL_ALPN: &[u8] = b"roamgate-tunnel/1";

/// Request header in which a connection point tells a role which client certificate opened the MutualAuth
/// door (SHA-256 in hex), from [`RequestHead::certificate`]. Written by the connection point alone: it is
/// on no list of what may pass from outside. A hint that may only ever make a role refuse (R39).
pub const PEER_CERTIFICATE_HEADER: &str = "roamgate-peer-certificate";

/// Name inside a gateway's link certificate (a DNS name, never resolved).
pub fn gateway_name(id: Guid) -> String {
    format!("{id}.gateway.roamgate.internal")
}

/// Name inside a connection point's link certificate.
pub fn connector_name(id: Guid) -> String {
    format!("{id}.connection-point.roamgate.internal")
}

/// Name inside the certificate of the site link and the operator API, besides the host's own.
pub const SITE_NAME: &str = "site.roamgate.internal";

/// A role as a connection point knows it: where to forward.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleTarget {
    /// Its number in external paths.
    pub role: RoleId,
    /// Base URL inside, `http://host:port` or `https://host:port`, without a path.
    pub internal_url: String,
    /// By whom an `https:` role's certificate must have been issued.
    pub trust: RoleTrust,
    /// Whether the role demands the connection point's own client certificate.
    pub client_certificate: bool,
}

/// Under whose root a role shows its HTTPS certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "by")]
pub enum RoleTrust {
    /// The site's own (enhanced HTTP).
    Site,
    /// The organisation's PKI: the site's trust list.
    Pki {
        /// Authorities that may have issued it.
        list: crate::pki::TrustList,
    },
}

/// A gateway as a connection point knows it: whom to dial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayTarget {
    /// Its id, which its link certificate names.
    pub gateway: Guid,
    /// Its name, for logs.
    pub name: String,
    /// `host:port` as the connection point reaches it.
    pub address: String,
    /// External base address `host[:port]` as devices write it, for log lines.
    pub host: String,
}

/// From the site to a connection point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum Down {
    /// A publication for all gateways, to be passed on as it is.
    Publication {
        /// The version that it leads to.
        version: u64,
        /// Whether it is a whole snapshot.
        whole: bool,
        /// The signed document.
        signed: Signed,
    },
    /// Gateways to be connected to; all others are to be left.
    Gateways {
        /// The complete list.
        gateways: Vec<GatewayTarget>,
    },
    /// Published roles; requests for others are refused.
    Roles {
        /// The complete list.
        roles: Vec<RoleTarget>,
    },
    /// Link certificates (of gateways) that are withdrawn: leave them within 5 seconds.
    Withdrawn {
        /// The complete list.
        thumbprints: Vec<Thumbprint>,
    },
}

/// From a connection point to the site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum Up {
    /// First message: what runs here, and the version of the last publication seen (0: none).
    Hello {
        /// Program version.
        program: String,
        /// Last publication passed on.
        version: u64,
    },
    /// A gateway's state as its tunnels show it.
    Gateway(GatewayState),
    /// Traffic since the last report, every five minutes.
    Counters {
        /// Which gateway; `None`: the connection point's own.
        gateway: Option<Guid>,
        /// Beginning of the window.
        from: Timestamp,
        /// End of the window.
        to: Timestamp,
        /// A row an endpoint.
        endpoints: Vec<EndpointCounters>,
    },
    /// Refused and slow requests.
    Events {
        /// At most 256 at a time.
        events: Vec<Event>,
    },
    /// A delta did not fit: send a whole snapshot.
    NeedSnapshot {
        /// The version that is there.
        have: u64,
    },
    /// A gateway met a token signed by a key of this tenant that it does not know. A hint; the site
    /// fetches at most twice a minute, whoever asks.
    WantKeys {
        /// The tenant.
        tenant: Guid,
    },
}

/// How a connection point sees one gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayState {
    /// The gateway.
    pub gateway: Guid,
    /// Tunnels that are up.
    pub tunnels: u16,
    /// Shards that the gateway says it has.
    pub shards: u16,
    /// The publication that it acknowledged last.
    pub version: u64,
    /// Why there is no tunnel, when there is none.
    pub problem: Option<String>,
}

/// Counters of one endpoint, under the field's names (`facts/monitoring.md`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointCounters {
    /// External path with prefix and role id (gateway), or endpoint name (connection point).
    pub name: String,
    /// Requests.
    pub requests: u64,
    /// Bytes of request bodies.
    pub request_bytes: u64,
    /// Answers.
    pub responses: u64,
    /// Bytes of answer bodies.
    pub response_bytes: u64,
    /// Sum of the time they took, in microseconds.
    pub elapsed_micros: u64,
    /// Refused or failed.
    pub failed: u64,
    /// With a bearer token.
    pub with_token: u64,
    /// Most at once.
    pub concurrent_max: u64,
}

/// A refused or slow request, for `roamgate trace`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// Which request.
    pub request: RequestId,
    /// `gateway` or `connection-point`.
    pub hop: String,
    /// Method and path, without the query.
    pub target: String,
    /// HTTP status.
    pub status: u16,
    /// Reason code, `RG-1203`.
    pub reason: Option<String>,
    /// The exact cause, for the operator; at most 300 characters, never a secret.
    pub detail: String,
    /// The device, where one was proved.
    pub device: Option<ClientId>,
    /// Milliseconds that it took.
    pub elapsed_ms: u64,
}

/// Control messages inside a tunnel, from the connection point to the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum ToGateway {
    /// A publication of the site.
    Publication {
        /// The signed document.
        signed: Signed,
    },
}

/// Control messages inside a tunnel, from the gateway to the connection point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum FromGateway {
    /// First message: which shard this tunnel reached, of how many, and what is known.
    Hello {
        /// Counted from 0.
        shard: u16,
        /// How many there are.
        shards: u16,
        /// Version of the publication in force; 0: none.
        version: u64,
    },
    /// A publication was taken; `version` is now in force.
    Ack {
        /// The version.
        version: u64,
    },
    /// A publication was not taken: a whole snapshot is needed.
    NeedSnapshot {
        /// The version that is there.
        have: u64,
    },
    /// Traffic since the last report.
    Counters {
        /// Beginning of the window.
        from: Timestamp,
        /// End of the window.
        to: Timestamp,
        /// A row a path.
        endpoints: Vec<EndpointCounters>,
    },
    /// Refused and slow requests.
    Events {
        /// At most 256 at a time.
        events: Vec<Event>,
    },
    /// A token was signed by a key of this tenant that is not known here; said at most once in 30
    /// seconds for all tenants.
    WantKeys {
        /// The tenant.
        tenant: Guid,
    },
}

/// Codes of a tunnel stream that was reset, so that the other side can name the cause.
pub mod reset {
    /// The device went away.
    pub const CANCELLED: u32 = 1;
    /// The role could not be reached.
    pub const ROLE_UNREACHABLE: u32 = 2;
    /// The role's answer broke off.
    pub const ANSWER_CUT: u32 = 3;
    /// The request's body broke off.
    pub const REQUEST_CUT: u32 = 4;
    /// The peer broke the protocol.
    pub const PROTOCOL: u32 = 5;
    /// It took too long.
    pub const TIMEOUT: u32 = 6;
}
