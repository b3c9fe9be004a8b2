//! Which HTTP headers pass through gateway and connection point, by name and direction.
//!
//! Lists of what may pass, never of what may not: a header by which somebody could pretend to be
//! somebody is dropped because nobody thought of letting it through (R45). The connection point
//! applies the same lists again, since a gateway is not believed.

use crate::reason;
use crate::{client_certificate, http_signature};

/// From a device to a role, besides [`http_signature::HEADERS`]: what the clients of the protocol
/// send and a management point reads (protocol reference, sections 1.1, 6.4 and 7.3).
const INWARD: &[&str] = &[
    "authorization",
    "content-type",
    "user-agent",
    "accept",
    "range",
    "ccmclientid",
    "ccmclientidsignature",
    "ccmclienttimestamp",
    "ccmclienttimestampsignature",
    // Spelled so in the vendor's documentation only [docs].
    "ccmclienttimestampssignature",
    "clienttoken",
    "clienttokensignature",
    "depth",
    "translate",
];

/// From a role to a device, besides [`http_signature::HEADERS`].
const OUTWARD: &[&str] = &[
    "content-type",
    "etag",
    "last-modified",
    "retry-after",
    "www-authenticate",
    reason::HEADER,
    reason::REQUEST_ID_HEADER,
];

/// Names of headers that may pass from a device to a role, in lower case.
pub fn inward() -> impl Iterator<Item = &'static str> {
    INWARD.iter().chain(http_signature::HEADERS).chain(client_certificate::HEADERS).copied()
}

/// Names of headers that may pass from a role to a device, in lower case.
pub fn outward() -> impl Iterator<Item = &'static str> {
    OUTWARD.iter().chain(http_signature::HEADERS).copied()
}

/// Whether a value consists of visible ASCII, blanks and tabs: what every reader of HTTP reads alike.
pub fn is_visible(value: &str) -> bool {
    value.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::FORGED_IDENTITY_HEADERS;

    #[test]
    fn no_header_that_claims_an_identity_passes_in_either_direction() {
        for name in FORGED_IDENTITY_HEADERS.iter().chain(&[
            "host",
            "connection",
            "transfer-encoding",
            "content-length",
            "upgrade",
            "cookie",
            "set-cookie",
            "server",
        ]) {
            assert!(inward().chain(outward()).all(|passing| passing != *name), "{name}");
        }
        assert!(inward().all(|name| name != reason::REQUEST_ID_HEADER), "a device does not name its request");
    }
}
