//! From the head that a gateway sent to a request that we write ourselves. Pure: whatever a
//! gateway says, this is where it is decided whether anything is sent inside, and where to (R44).

use std::sync::Arc;

use http::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Uri};
use proto::endpoint::Endpoint;
use proto::header;
use proto::limits;
use proto::link::{PEER_CERTIFICATE_HEADER, RequestHead};
use proto::path::{PathError, parse_role_path};
use proto::reason::REQUEST_ID_HEADER;

use crate::role::{Role, Roles};

/// Longest value of a header that passes, bytes: the longest token.
const HEADER_VALUE_BYTES: usize = limits::TOKEN_BYTES + 64;

/// A request that will be sent, and to whom.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The role.
    pub(crate) role: Arc<Role>,
    /// The row of the endpoint table.
    pub(crate) endpoint: &'static Endpoint,
    /// The method, one of the endpoint's.
    pub(crate) method: Method,
    /// Path and query, in the table's spelling.
    pub(crate) uri: Uri,
    /// All headers but those about the body.
    pub(crate) headers: HeaderMap,
    /// Length of the body, when the device stated it; within the endpoint's bound.
    pub(crate) body_length: Option<u64>,
}

impl Plan {
    /// The whole internal URL, for log lines.
    pub(crate) fn internal_url(&self) -> String {
        format!("{}{}", self.role.base, self.uri)
    }

    /// Whether a bearer token goes along.
    pub(crate) fn has_token(&self) -> bool {
        self.headers.contains_key(http::header::AUTHORIZATION)
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

/// Judges the head of a request, and writes it anew.
pub(crate) fn plan(head: &RequestHead, roles: &Roles) -> Result<Plan, NotForwarded> {
    let role = roles.find(head.role).ok_or(NotForwarded::Role)?;
    let path = parse_role_path(&head.target).map_err(NotForwarded::Path)?;
    let endpoint = path.endpoint;
    if !endpoint.is_published() {
        return Err(NotForwarded::Inside);
    }
    let method = endpoint.methods.iter().find(|known| **known == head.method).ok_or(NotForwarded::Method)?;
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| NotForwarded::Method)?;
    if head.body_length.is_some_and(|length| length > endpoint.max_body as u64) {
        return Err(NotForwarded::Body);
    }
    let target: PathAndQuery =
        path.target().try_into().map_err(|_| NotForwarded::Path(PathError::Malformed))?;
    Ok(Plan {
        headers: headers(head, role)?,
        role: Arc::clone(role),
        endpoint,
        method,
        uri: Uri::from(target),
        body_length: head.body_length,
    })
}

fn headers(head: &RequestHead, role: &Role) -> Result<HeaderMap, NotForwarded> {
    let mut headers = HeaderMap::new();
    for (name, value) in &head.headers {
        let Some(name) = header::inward().find(|passing| passing.eq_ignore_ascii_case(name)) else {
            continue;
        };
        let bad = || NotForwarded::Header(name);
        if value.len() > HEADER_VALUE_BYTES {
            return Err(bad());
        }
        let value = HeaderValue::from_str(value).map_err(|_| bad())?;
        // Two of a kind could be read in two ways further inside, unless they are a list by definition.
        let is_second = headers.append(HeaderName::from_static(name), value);
        if is_second && name != "accept" {
            return Err(bad());
        }
    }
    let own = |text: &str, what| HeaderValue::from_str(text).map_err(|_| NotForwarded::Header(what));
    headers.insert(HOST, own(&role.authority, "host")?);
    headers.insert(
        HeaderName::from_static(REQUEST_ID_HEADER),
        own(&head.request.to_string(), REQUEST_ID_HEADER)?,
    );
    // What the gateway saw at its MutualAuth door; a hint by which a role may only refuse (R39).
    if let Some(certificate) = head.certificate {
        headers.insert(
            HeaderName::from_static(PEER_CERTIFICATE_HEADER),
            own(&certificate.to_string(), PEER_CERTIFICATE_HEADER)?,
        );
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use proto::endpoint::ENDPOINTS;
    use proto::id::{Guid, RequestId, RoleId};
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

    fn head(method: &str, target: &str) -> RequestHead {
        RequestHead {
            request: RequestId::new(Guid::nil()),
            method: method.into(),
            role: RoleId::FIRST,
            target: target.into(),
            external: String::new(),
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
                let planned = plan(&head(method, &endpoint.path.to_ascii_uppercase()), &roles);
                if endpoint.is_published() {
                    assert_eq!(planned.unwrap().uri.to_string(), endpoint.path);
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
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        let plan = plan(&head, &roles()).unwrap();
        let mut names: Vec<_> = plan.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["authorization", "host", "roamgate-request-id", "signature"]);
        assert_eq!(plan.headers["host"], "mp.example:8080");
        assert_eq!(plan.headers["roamgate-request-id"], Guid::nil().to_string());
        assert!(plan.has_token());
    }

    #[test]
    fn the_certificate_of_the_door_is_told_by_us_and_by_nobody_else() {
        let mut head = head("GET", "/CCM_STS");
        head.headers = vec![(PEER_CERTIFICATE_HEADER.to_owned(), "forged".to_owned())];
        assert!(!plan(&head, &roles()).unwrap().headers.contains_key(PEER_CERTIFICATE_HEADER));
        let certificate = proto::id::Thumbprint::of(b"leaf");
        head.certificate = Some(certificate);
        let headers = plan(&head, &roles()).unwrap().headers;
        let told: Vec<_> = headers.get_all(PEER_CERTIFICATE_HEADER).iter().collect();
        assert_eq!(told, [&certificate.to_string()]);
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
