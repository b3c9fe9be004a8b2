//! Whether a request may pass: a pure decision over what it says, what its connection has proved, and what
//! the site published.
//!
//! The order is that of the design: path of a published role, method, size, identity. So a stranger learns
//! from a refusal nothing but the table that our documentation prints anyway.

mod identify;

use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, StatusCode, Version};
use proto::combination::Mode;
use proto::endpoint::{Caller, Endpoint};
use proto::entra::{AuthInfo, PublishedTenant};
use proto::header;
use proto::id::{ClientId, Guid, RoleId, Thumbprint};
use proto::identity::Identity;
use proto::path::{self, Door, External, PathError, RolePath};
use proto::reason::Reason;
use proto::snapshot::Snapshot;
use proto::time::Timestamp;

pub use identify::{Bearer, NotAccepted, NotTrusted, Verify};

/// A request as admission sees it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The method, with its case.
    pub method: &'a str,
    /// Path and query as the device wrote them.
    pub target: &'a str,
    /// The `Authorization` header, if there is one.
    pub authorization: Option<&'a str>,
    /// What it says about its body.
    pub body: BodyLength,
    /// Thumbprint of the certificate whose key the TLS handshake proved.
    pub shown: Option<Thumbprint>,
}

/// What a request says about the length of its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// So many bytes; 0 also when it says nothing.
    Known(u64),
    /// It comes in chunks.
    Chunked,
}

/// A request that may pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admitted {
    /// To a role.
    Role(Box<Passage>),
    /// To the gateway's own page.
    ServiceMetadata,
    /// To a stranger who asks about an onboarded tenant.
    AuthInfo(AuthInfo),
}

/// Where an admitted request goes, and who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// The door it came by.
    pub door: Door,
    /// The role.
    pub role: RoleId,
    /// The row of the table.
    pub endpoint: &'static Endpoint,
    /// Path and query in the spelling that is passed on.
    pub target: String,
    /// Who asks.
    pub identity: Identity,
}

/// A request that may not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The code.
    pub reason: Reason,
    /// Status in place of the code's usual one.
    pub status: Option<StatusCode>,
    /// Status text in place of the code's usual one.
    pub phrase: Option<&'static str>,
    /// The exact cause for the operator; never for the device.
    pub detail: String,
    /// The device, where its key was proved.
    pub device: Option<ClientId>,
    /// Methods that would be answered, for 405.
    pub allow: &'static [&'static str],
    /// Whether the connection cannot go on after it.
    pub close: bool,
    /// The onboarded tenant whose keys should be fetched anew: one that is not known here may have signed.
    pub wants_keys_of: Option<Guid>,
    /// Where a limit refused: when there will be room.
    pub wait: Option<Duration>,
}

impl Refused {
    /// A refusal after which the connection may go on.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self {
            reason,
            status: None,
            phrase: None,
            detail,
            device: None,
            allow: &[],
            close: false,
            wants_keys_of: None,
            wait: None,
        }
    }

    /// A refusal after which nobody knows where the next request begins, or wants to.
    pub fn closing(reason: Reason, detail: impl Into<String>) -> Self {
        Self { close: true, ..Self::new(reason, detail) }
    }

    /// Its HTTP status.
    pub fn status(&self) -> StatusCode {
        let usual = StatusCode::from_u16(self.reason.row().status).unwrap_or(StatusCode::BAD_GATEWAY);
        self.status.unwrap_or(usual)
    }
}

impl<'a> Asked<'a> {
    /// Reads the head of a request. What two readers could read in two ways is refused.
    pub fn read(head: &'a Parts, shown: Option<Thumbprint>) -> Result<Self, Refused> {
        let malformed = |detail: &str| Refused::closing(Reason::MalformedRequest, detail);
        if head.uri.scheme().is_some() || head.uri.authority().is_some() {
            return Err(malformed("the request target is not in origin form"));
        }
        let target = head.uri.path_and_query().map_or("", |target| target.as_str());
        let hosts = head.headers.get_all(HOST).iter().count();
        if hosts > 1 || (hosts == 0 && head.version == Version::HTTP_11) {
            return Err(malformed("the request needs exactly one Host header"));
        }
        let host = head.headers.get(HOST);
        if host.is_some_and(|host| !is_host(host.as_bytes())) {
            return Err(malformed("the Host header names no host"));
        }
        let body = body_length(&head.headers).ok_or_else(|| malformed("the body's length is not clear"))?;
        let mut authorizations = head.headers.get_all(AUTHORIZATION).iter();
        let authorization = match (authorizations.next(), authorizations.next()) {
            (None, _) => None,
            (Some(_), Some(_)) => return Err(malformed("there are several Authorization headers")),
            (Some(value), None) => {
                let text = header::visible(value.as_bytes());
                Some(text.ok_or_else(|| malformed("the Authorization header is not text"))?)
            }
        };
        Ok(Self { method: head.method.as_str(), target, authorization, body, shown })
    }

    /// Decides. `verify` checks what costs signatures.
    pub fn admit(&self, site: &Snapshot, verify: &impl Verify, now: Timestamp) -> Result<Admitted, Refused> {
        let external = path::parse_external(self.target).map_err(refused_path)?;
        match external {
            External::AuthInfo { tenant, .. } => {
                self.check_size(OWN_METHODS, 0)?;
                auth_info(site, tenant).map(Admitted::AuthInfo)
            }
            External::ServiceMetadata(door) => {
                self.check_size(OWN_METHODS, 0)?;
                match self.identify(door, None, site, verify, now)? {
                    // A tenant's token buys a token and nothing else.
                    Identity::Entra(_) => Err(wrong_endpoint(Caller::Entra, "ServiceMetadata", None)),
                    _ => Ok(Admitted::ServiceMetadata),
                }
            }
            External::Role { door, role, path } => self.admit_to_role(door, role, path, site, verify, now),
        }
    }

    fn admit_to_role(
        &self,
        door: Door,
        role: RoleId,
        path: RolePath<'_>,
        site: &Snapshot,
        verify: &impl Verify,
        now: Timestamp,
    ) -> Result<Admitted, Refused> {
        let endpoint = path.endpoint;
        let published = site.roles.get(&role).filter(|role| role.gateway_traffic && endpoint.is_published());
        let published =
            published.ok_or_else(|| Refused::new(Reason::UnknownPath, "no role published this path here"))?;
        self.check_size(endpoint.methods, endpoint.max_body)?;
        let identity = self.identify(door, Some(endpoint), site, verify, now)?;
        let caller = identity.caller();
        if !endpoint.open_outside_to(caller) {
            return Err(wrong_endpoint(caller, endpoint.path, identity.device()));
        }
        // Last, so that strangers learn nothing about the inside.
        if published.mode == Mode::Http {
            let detail = format!("role {} ({}) is in plain HTTP mode", published.role, published.name);
            return Err(Refused {
                device: identity.device(),
                ..Refused::new(Reason::RoleInHttpMode, detail)
            });
        }
        Ok(Admitted::Role(Box::new(Passage { door, role, endpoint, target: path.target(), identity })))
    }

    /// Method, then size.
    fn check_size(&self, methods: &'static [&'static str], max_body: usize) -> Result<(), Refused> {
        if !methods.contains(&self.method) {
            let refused = Refused::new(Reason::MethodNotAllowed, "the endpoint does not answer this method");
            return Err(Refused { allow: methods, ..refused });
        }
        if let BodyLength::Known(length) = self.body
            && length > max_body as u64
        {
            let detail = format!("the body has {length} bytes, the endpoint takes {max_body}");
            return Err(Refused::closing(Reason::BodyTooLarge, detail));
        }
        Ok(())
    }
}

fn wrong_endpoint(caller: Caller, path: &str, device: Option<ClientId>) -> Refused {
    let detail = format!("{caller:?} does not open {path} from outside");
    Refused { device, ..Refused::new(Reason::TokenWrongEndpoint, detail) }
}

/// What a stranger is told about a tenant. One that is off is as unknown as one that never was.
fn auth_info(site: &Snapshot, tenant: Guid) -> Result<AuthInfo, Refused> {
    let info = site.tenants.get(&tenant).and_then(PublishedTenant::auth_info);
    info.ok_or_else(|| Refused::new(Reason::UnknownPath, "no tenant of this id is onboarded and on"))
}

/// Methods of the gateway's own pages.
const OWN_METHODS: &[&str] = &["GET", "HEAD"];

/// Name or address, and port: nothing by which one reader would find another host in it than the next.
fn is_host(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b".:-_[]".contains(byte))
}

/// One length, or chunks and nothing else; `None` where it could be either.
fn body_length(headers: &HeaderMap) -> Option<BodyLength> {
    let mut encodings = headers.get_all(TRANSFER_ENCODING).iter();
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    match (encodings.next(), lengths.next()) {
        (None, None) => Some(BodyLength::Known(0)),
        (None, Some(length)) => {
            let text = length.to_str().ok()?;
            // `u64::from_str` would take a sign.
            let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let alone = lengths.next().is_none();
            (is_number && alone).then(|| text.parse().ok().map(BodyLength::Known)).flatten()
        }
        (Some(encoding), None) => {
            let alone = encodings.next().is_none();
            (alone && encoding.as_bytes().eq_ignore_ascii_case(b"chunked")).then_some(BodyLength::Chunked)
        }
        (Some(_), Some(_)) => None,
    }
}

fn refused_path(error: PathError) -> Refused {
    match error {
        PathError::Malformed => Refused::closing(Reason::MalformedRequest, error.to_string()),
        PathError::TooLong => Refused::closing(Reason::TargetTooLong, error.to_string()),
        PathError::NotAGatewayPath | PathError::UnknownEndpoint => {
            Refused::new(Reason::UnknownPath, error.to_string())
        }
    }
}

#[cfg(test)]
mod tests;
