//! From the head that a gateway sent to a request that we write ourselves. Pure: whatever a
//! gateway says, this is where it is decided whether anything is sent inside, and where to (R44).

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::BytesMut;
use proto::endpoint::Endpoint;
use proto::header;
use proto::id::{RequestId, Thumbprint};
use proto::limits;
use proto::link::{PEER_CERTIFICATE_HEADER, RequestHead};
use proto::path::{PathError, parse_role_path};
use proto::reason::REQUEST_ID_HEADER;

use crate::log::Internal;
use crate::role::{Role, Roles};

/// Longest value of a header that passes, bytes: the longest token.
const HEADER_VALUE_BYTES: usize = limits::TOKEN_BYTES + 64;

/// A request that will be sent, and to whom.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    /// The role.
    pub(crate) role: Arc<Role>,
    /// The row of the endpoint table.
    pub(crate) endpoint: &'static Endpoint,
    /// The method, one of the endpoint's.
    pub(crate) method: &'static str,
    /// Path and query, in the table's spelling.
    pub(crate) target: String,
    /// Headers of the device that pass.
    headers: Vec<(&'static str, &'a str)>,
    request: RequestId,
    certificate: Option<Thumbprint>,
    /// Length of the body, when the device stated it; within the endpoint's bound.
    pub(crate) body_length: Option<u64>,
}

/// How the end of a request's body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is none.
    None,
    /// By its length.
    Length(u64),
    /// By chunks.
    Chunked,
}

impl Plan<'_> {
    /// The whole internal URL, for log lines.
    pub(crate) fn internal(&self) -> Internal<'_> {
        Internal { base: &self.role.base, target: &self.target }
    }

    /// Whether a bearer token goes along.
    pub(crate) fn has_token(&self) -> bool {
        self.headers.iter().any(|(name, _)| *name == "authorization")
    }

    /// Whether the answer will have no body by the request's method.
    pub(crate) fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    /// Bytes that the head takes, or some more.
    pub(crate) fn head_room(&self) -> usize {
        let values: usize = self.headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        256 + self.target.len() + self.role.authority.len() + values
    }

    /// Appends request line and headers.
    pub(crate) fn write_head(&self, framing: Framing, out: &mut BytesMut) {
        out.reserve(self.head_room());
        let mut line = |parts: &[&str]| parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
        line(&[self.method, " ", &self.target, " HTTP/1.1\r\nhost: ", &self.role.authority, "\r\n"]);
        for (name, value) in &self.headers {
            line(&[name, ": ", value, "\r\n"]);
        }
        // Writing to a buffer that grows cannot fail.
        let _ = write!(out, "{REQUEST_ID_HEADER}: {}\r\n", self.request);
        // What the gateway saw at its MutualAuth door; a hint by which a role may only refuse (R39).
        if let Some(certificate) = &self.certificate {
            let mut text = [0; 64];
            let text = hexadecimal(certificate, &mut text);
            let _ = write!(out, "{PEER_CERTIFICATE_HEADER}: {text}\r\n");
        }
        let _ = match framing {
            Framing::None => out.write_str("\r\n"),
            Framing::Length(length) => write!(out, "content-length: {length}\r\n\r\n"),
            Framing::Chunked => out.write_str("transfer-encoding: chunked\r\n\r\n"),
        };
    }
}

/// Why a request of a gateway is not forwarded. A gateway of this site never sends one of these,
/// unless its snapshot is older than ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotForwarded {
    /// The role is not published.
    #[error("the role is not published")]
    Role,
    /// The path is not that of an endpoint.
    #[error("the path is not that of a published endpoint")]
    Path(#[source] PathError),
    /// The endpoint never leaves the inside.
    #[error("the endpoint is not published")]
    Inside,
    /// The endpoint does not answer the method.
    #[error("the endpoint does not answer this method")]
    Method,
    /// The body is larger than the endpoint takes.
    #[error("the body is larger than the endpoint takes")]
    Body,
    /// A header that passes is malformed, too long, or there twice.
    #[error("header {0} is malformed or there twice")]
    Header(&'static str),
}

/// Judges the head of a request, and plans it anew.
pub(crate) fn plan<'a>(head: &'a RequestHead<'_>, roles: &Roles) -> Result<Plan<'a>, NotForwarded> {
    let role = roles.find(head.role).ok_or(NotForwarded::Role)?;
    let path = parse_role_path(&head.target).map_err(NotForwarded::Path)?;
    let endpoint = path.endpoint;
    if !endpoint.is_published() {
        return Err(NotForwarded::Inside);
    }
    let method = endpoint.methods.iter().find(|known| **known == head.method).ok_or(NotForwarded::Method)?;
    if head.body_length.is_some_and(|length| length > endpoint.max_body as u64) {
        return Err(NotForwarded::Body);
    }
    Ok(Plan {
        role: Arc::clone(role),
        endpoint,
        method,
        target: path.target(),
        headers: headers(head)?,
        request: head.request,
        certificate: head.certificate,
        body_length: head.body_length,
    })
}

/// The same as the thumbprint shows itself, without a call of the formatter for each byte.
fn hexadecimal<'a>(thumbprint: &Thumbprint, out: &'a mut [u8; 64]) -> &'a str {
    let digit = |half: u8| if half < 10 { b'0' + half } else { b'A' + half - 10 };
    for (pair, byte) in out.as_chunks_mut().0.iter_mut().zip(thumbprint.as_bytes()) {
        *pair = [digit(byte >> 4), digit(byte & 15)];
    }
    str::from_utf8(out).unwrap_or_default()
}

fn headers<'a>(head: &'a RequestHead<'_>) -> Result<Vec<(&'static str, &'a str)>, NotForwarded> {
    let mut headers: Vec<(&'static str, &str)> = Vec::with_capacity(head.headers.len());
    for (name, value) in &head.headers {
        let Some(name) = header::find_inward(name) else { continue };
        // Two of a kind could be read in two ways further inside, unless they are a list by definition.
        let is_second = name != "accept" && headers.iter().any(|(passed, _)| *passed == name);
        if is_second || value.len() > HEADER_VALUE_BYTES || !header::is_visible(value) {
            return Err(NotForwarded::Header(name));
        }
        headers.push((name, value));
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use proto::endpoint::ENDPOINTS;
    use proto::id::{Guid, RoleId};
    use proto::link::{RoleTarget, RoleTrust};

    use super::*;

    fn roles() -> Roles {
        let target = RoleTarget {
            role: RoleId::FIRST,
            internal_url: "http://mp.example:8080".into(),
            trust: RoleTrust::Site,
            client_certificate: false,
        };
        Roles::new(&[target]).0
    }

    fn head<'a>(method: &'a str, target: &'a str) -> RequestHead<'a> {
        RequestHead {
            request: RequestId::new(Guid::nil()),
            method: method.into(),
            role: RoleId::FIRST,
            target: target.into(),
            external: "".into(),
            certificate: None,
            headers: Vec::new(),
            body_length: None,
        }
    }

    #[test]
    fn every_published_endpoint_is_forwarded_in_the_tables_spelling_and_no_other() {
        let roles = roles();
        for endpoint in ENDPOINTS {
            for method in endpoint.methods {
                let path = endpoint.path.to_ascii_uppercase();
                let head = head(method, &path);
                let planned = plan(&head, &roles);
                if endpoint.is_published() {
                    assert_eq!(planned.unwrap().target, endpoint.path);
                } else {
                    assert_eq!(planned.unwrap_err(), NotForwarded::Inside);
                }
            }
        }
    }

    #[test]
    fn a_gateway_can_name_no_host_path_or_method_of_its_own() {
        let roles = roles();
        for target in [
            "",
            "*",
            "http://169.254.169.254/latest/meta-data",
            "http://127.0.0.1/CCM_STS",
            "//127.0.0.1/CCM_STS",
            "/\\127.0.0.1/CCM_STS",
            "@evil.example/CCM_STS",
            "/CCM_STS/",
            "/CCM_STS/../SMS_MP/.sms_aut",
            "/%43CM_STS",
            "/CCM_STS#fragment",
            "/CCM_STS?a b",
            "/CCM_STS?a\r\nHost: evil",
            "/CCM_STS HTTP/1.1\r\n\r\nGET /other",
            "/admin",
        ] {
            assert!(matches!(plan(&head("GET", target), &roles), Err(NotForwarded::Path(_))), "{target:?}");
        }
        for method in ["POST", "get", "CONNECT", "OPTIONS", "TRACE", "GET / HTTP/1.1\r\nx:", ""] {
            assert_eq!(
                plan(&head(method, "/CCM_STS"), &roles).unwrap_err(),
                NotForwarded::Method,
                "{method}"
            );
        }
        let other = RequestHead { role: RoleId::new(5), ..head("GET", "/CCM_STS") };
        assert_eq!(plan(&other, &roles).unwrap_err(), NotForwarded::Role);
    }

    #[test]
    fn headers_outside_the_list_are_dropped_and_ours_cannot_be_forged() {
        let mut head = head("GET", "/CCM_STS");
        head.headers = [
            ("Host", "evil"),
            ("roamgate-request-id", "forged"),
            ("roamgate-peer-certificate", "forged"),
            ("Roamgate-Peer-Certificate", "forged"),
            ("transfer-encoding", "chunked"),
            ("content-length", "5"),
            ("connection", "upgrade"),
            ("x-forwarded-for", "1.2.3.4"),
            ("Authorization", "Bearer t"),
            ("signature", "sig1=:AA==:"),
        ]
        .map(|(name, value)| (name.into(), value.into()))
        .to_vec();
        assert_eq!(
            written(&head),
            "GET /CCM_STS HTTP/1.1\r\n\
             host: mp.example:8080\r\n\
             authorization: Bearer t\r\n\
             signature: sig1=:AA==:\r\n\
             roamgate-request-id: 00000000-0000-0000-0000-000000000000\r\n\r\n"
        );
        assert!(plan(&head, &roles()).unwrap().has_token());
    }

    fn written(head: &RequestHead<'_>) -> String {
        let mut out = BytesMut::new();
        plan(head, &roles()).unwrap().write_head(Framing::None, &mut out);
        String::from_utf8(out.into()).unwrap()
    }

    #[test]
    fn the_certificate_of_the_door_is_told_by_us_and_by_nobody_else() {
        let mut head = head("GET", "/CCM_STS");
        head.headers = vec![(PEER_CERTIFICATE_HEADER.into(), "forged".into())];
        assert!(!written(&head).contains("forged"));
        let certificate = Thumbprint::of(b"leaf");
        head.certificate = Some(certificate);
        let line = format!("\r\n{PEER_CERTIFICATE_HEADER}: {certificate}\r\n");
        assert_eq!((written(&head).matches(&line).count(), written(&head).contains("forged")), (1, false));
    }

    #[test]
    fn the_end_of_the_body_is_told_in_one_way() {
        let head = head("GET", "/CCM_STS");
        let end = |framing| {
            let mut out = BytesMut::new();
            plan(&head, &roles()).unwrap().write_head(framing, &mut out);
            let text = String::from_utf8(out.into()).unwrap();
            text.rsplit_once("00000000\r\n").unwrap().1.to_owned()
        };
        assert_eq!(end(Framing::None), "\r\n");
        assert_eq!(end(Framing::Length(0)), "content-length: 0\r\n\r\n");
        assert_eq!(end(Framing::Chunked), "transfer-encoding: chunked\r\n\r\n");
    }

    #[test]
    fn headers_that_can_be_read_in_two_ways_stop_the_request() {
        for (first, second) in [("authorization", "Authorization"), ("range", "range")] {
            let mut head = head("GET", "/CCM_STS");
            head.headers = vec![(first.into(), "a".into()), (second.into(), "b".into())];
            assert!(matches!(plan(&head, &roles()), Err(NotForwarded::Header(_))));
        }
        let mut smuggled = head("GET", "/CCM_STS");
        smuggled.headers = vec![("accept".into(), "a\r\nx: y".into())];
        assert_eq!(plan(&smuggled, &roles()).unwrap_err(), NotForwarded::Header("accept"));
    }

    #[test]
    fn a_stated_length_is_held_against_the_endpoints_bound() {
        let mut message = head("CCM_POST", "/ccm_system_tokenauth/request");
        message.body_length = Some(limits::MESSAGE_BYTES as u64);
        assert!(plan(&message, &roles()).is_ok());
        message.body_length = Some(limits::MESSAGE_BYTES as u64 + 1);
        assert_eq!(plan(&message, &roles()).unwrap_err(), NotForwarded::Body);
    }
}
