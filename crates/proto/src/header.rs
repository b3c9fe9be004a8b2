//! Which HTTP headers pass through gateway and connection point, by name and direction.
//!
//! Lists of what may pass, never of what may not: a header by which somebody could pretend to be
//! somebody is dropped because nobody thought of letting it through (R45). The connection point
//! applies the same lists again, since a gateway is not believed.

mod index;

use std::sync::LazyLock;

use crate::reason;
use crate::{client_certificate, http_signature};
pub(crate) use index::Index;

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

/// The name of [`inward`] that `name` is, in whatever case; `None`: it may not pass.
pub fn find_inward(name: &str) -> Option<&'static str> {
    static NAMES: LazyLock<Index> = LazyLock::new(|| Index::new(inward()));
    NAMES.find(name).map(|(_, name)| name)
}

/// The name of [`outward`] that `name` is, in whatever case; `None`: it may not pass.
pub fn find_outward(name: &str) -> Option<&'static str> {
    static NAMES: LazyLock<Index> = LazyLock::new(|| Index::new(outward()));
    NAMES.find(name).map(|(_, name)| name)
}

/// A value as text if it consists of visible ASCII, blanks and tabs: what every reader of HTTP reads alike.
pub fn visible(value: &[u8]) -> Option<&str> {
    // Without a way out of the loop the compiler looks at 32 bytes at once; tokens have a thousand.
    let is_hidden = |byte: &u8| u8::from(!matches!(byte, b' '..=b'~' | b'\t'));
    let hidden = value.iter().map(is_hidden).fold(0, |hidden, byte| hidden | byte);
    if hidden == 0 { str::from_utf8(value).ok() } else { None }
}

/// Whether a value is [`visible`].
pub fn is_visible(value: &str) -> bool {
    visible(value.as_bytes()).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::FORGED_IDENTITY_HEADERS;

    #[test]
    fn exactly_the_listed_names_are_found_in_any_case() {
        for name in inward() {
            assert_eq!(find_inward(&name.to_ascii_uppercase()), Some(name));
            assert_eq!(find_inward(&format!("{name}x")), None);
            assert_eq!(find_inward(&name.replacen(|c: char| c.is_ascii_lowercase(), "_", 1)), None);
        }
        for name in outward() {
            assert_eq!(find_outward(name), Some(name));
        }
        assert_eq!(find_inward("etag"), None);
        assert_eq!(find_outward("authorization"), None);
        assert_eq!(find_inward(""), None);
        assert_eq!(find_inward(&"a".repeat(70_000)), None);
    }

    #[test]
    fn a_value_with_one_byte_that_is_not_visible_is_none() {
        assert_eq!(visible(b"Bearer a\t~"), Some("Bearer a\t~"));
        assert_eq!(visible(b""), Some(""));
        for byte in (0..=u8::MAX).filter(|byte| *byte != b'\t' && !(b' '..=b'~').contains(byte)) {
            let mut value = vec![b'a'; 100];
            value[70] = byte;
            assert_eq!(visible(&value), None, "{byte}");
        }
    }

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
