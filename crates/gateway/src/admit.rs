//! Whether a request may pass: a pure decision over what it says, what its connection has proved, and what
//! the site published.
//!
//! The order is that of the design: path of a published role, method, size, identity. So a stranger learns
//! from a refusal nothing but the table that our documentation prints anyway.

use std::sync::Arc;

use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, StatusCode, Version};
use proto::endpoint::Endpoint;
use proto::id::{ClientId, RoleId, Thumbprint};
use proto::identity::{self, Identity};
use proto::path::{self, Door, External, PathError};
use proto::reason::Reason;
use proto::snapshot::Snapshot;
use proto::status;
use proto::time::Timestamp;
use proto::token::{Token, TokenError};

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
    Role(Passage),
    /// To the gateway's own page.
    ServiceMetadata,
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
}

impl Refused {
    /// A refusal after which the connection may go on.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { reason, status: None, phrase: None, detail, device: None, allow: &[], close: false }
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
        let body = body_length(&head.headers).ok_or_else(|| malformed("the body's length is not clear"))?;
        let mut authorizations = head.headers.get_all(AUTHORIZATION).iter();
        let authorization = match (authorizations.next(), authorizations.next()) {
            (None, _) => None,
            (Some(_), Some(_)) => return Err(malformed("there are several Authorization headers")),
            (Some(value), None) => {
                Some(value.to_str().map_err(|_| malformed("the Authorization header is not text"))?)
            }
        };
        Ok(Self { method: head.method.as_str(), target, authorization, body, shown })
    }

    /// Decides. `verify` checks form and signature of a token, and remembers what it has seen.
    pub fn admit(
        &self,
        site: &Snapshot,
        verify: impl Fn(&str) -> Result<Arc<Token>, TokenError>,
        now: Timestamp,
    ) -> Result<Admitted, Refused> {
        let external = path::parse_external(self.target).map_err(refused_path)?;
        let (door, methods, max_body) = match &external {
            External::ServiceMetadata(door) => (*door, METADATA_METHODS, 0),
            External::Role { door, role, path } => {
                let published = site.roles.get(role).is_some_and(|role| role.gateway_traffic);
                if !published || !path.endpoint.is_published() {
                    return Err(Refused::new(Reason::UnknownPath, "no role published this path here"));
                }
                (*door, path.endpoint.methods, path.endpoint.max_body)
            }
        };
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
        let token = self.identify(door, site, verify, now)?;
        match external {
            External::ServiceMetadata(_) => Ok(Admitted::ServiceMetadata),
            External::Role { door, role, path } => {
                let caller = token.class.caller();
                if !path.endpoint.open_outside_to(caller) {
                    let detail = format!("{caller:?} does not open {} from outside", path.endpoint.path);
                    return Err(Refused {
                        device: token.device,
                        ..Refused::new(Reason::TokenWrongEndpoint, detail)
                    });
                }
                let identity = Identity::Token((*token).clone());
                Ok(Admitted::Role(Passage {
                    door,
                    role,
                    endpoint: path.endpoint,
                    target: path.target(),
                    identity,
                }))
            }
        }
    }

    /// Who asks. No certificate is trusted by its chain yet, so everybody needs a token.
    fn identify(
        &self,
        door: Door,
        site: &Snapshot,
        verify: impl Fn(&str) -> Result<Arc<Token>, TokenError>,
        now: Timestamp,
    ) -> Result<Arc<Token>, Refused> {
        let Some(text) = self.authorization.and_then(identity::bearer) else {
            return Err(match (door, self.shown) {
                (Door::ServerAuth, _) => Refused::new(Reason::NoToken, "no bearer token"),
                (Door::MutualAuth, None) => {
                    Refused::new(Reason::NoClientCertificate, "neither certificate nor token")
                }
                (Door::MutualAuth, Some(shown)) => Refused::new(
                    Reason::NoClientCertificate,
                    format!("no token, and certificate {shown} leads to nothing that the site trusts"),
                ),
            });
        };
        let token = verify(text)
            .map_err(|error| refused_token(door, Reason::TokenNotAccepted, error.to_string(), None))?;
        let binding = site.settings.token_binding;
        identity::judge_token(&token, self.shown, binding, site, now).map_err(|reason| {
            let detail = self.judgement(&token, reason, now);
            // Only a caller that has shown the key is the device that the token names.
            let proved = !matches!(reason, Reason::TokenNotAccepted | Reason::TokenKeyMissing);
            refused_token(door, reason, detail, token.device.filter(|_| proved))
        })?;
        if let Some(shown) = self.shown.filter(|shown| site.blocked_certificates.contains(shown)) {
            let detail = format!("certificate {shown} is that of a blocked device");
            return Err(refused_token(door, Reason::DeviceBlocked, detail, token.device));
        }
        Ok(token)
    }

    /// The exact cause of a judgement, for the operator.
    fn judgement(&self, token: &Token, reason: Reason, now: Timestamp) -> String {
        let show =
            |print: Option<Thumbprint>| print.map_or_else(|| "none".to_owned(), |print| print.to_string());
        match reason {
            Reason::TokenNotAccepted | Reason::TokenKeyMissing => format!(
                "the token is bound to certificate {}, the connection showed {}",
                show(token.confirmation),
                show(self.shown)
            ),
            Reason::TokenExpired | Reason::TokenNotYetValid => {
                token.check_time(now).err().map_or_else(String::new, |error| error.to_string())
            }
            Reason::BulkTokenBlocked => {
                format!("bulk token {} is blocked", token.bulk.unwrap_or(token.unique_id))
            }
            _ => token.device.map_or_else(String::new, |device| format!("device {device} is blocked")),
        }
    }
}

/// Methods of `ServiceMetadata`.
const METADATA_METHODS: &[&str] = &["GET", "HEAD"];

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

fn refused_token(door: Door, reason: Reason, detail: String, device: Option<ClientId>) -> Refused {
    // Who comes to the certificate's door with a token that is none has shown nothing acceptable.
    let phrase = (door == Door::MutualAuth && reason == Reason::TokenNotAccepted)
        .then_some(status::INVALID_CLIENT_CERTIFICATE);
    Refused { phrase, device, ..Refused::new(reason, detail) }
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
