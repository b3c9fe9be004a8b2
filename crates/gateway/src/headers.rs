//! Which headers pass, by name and in one direction. Everything else is dropped, so that no header by which
//! somebody could pretend to be somebody ever reaches the inside (R45).

use http::header::{HeaderMap, HeaderName, HeaderValue};
use proto::header;
use proto::link::Headers;
use proto::reason::REQUEST_ID_HEADER;

/// The headers of a request that pass, in their order. Values that are not visible ASCII are dropped: no
/// header of the list has such.
pub(crate) fn inward(headers: &HeaderMap) -> Headers<'_> {
    headers
        .iter()
        .filter_map(|(name, value)| {
            let name = header::find_inward(name.as_str())?;
            Some((name.into(), header::visible(value.as_bytes())?.into()))
        })
        .collect()
}

/// Adds the headers of an answer that pass. What is no header at all is dropped like what may not pass.
pub(crate) fn outward(from: &Headers<'_>, to: &mut HeaderMap) {
    for (name, value) in from {
        // The request id is the gateway's own to say.
        let Some(name) = header::find_outward(name).filter(|name| *name != REQUEST_ID_HEADER) else {
            continue;
        };
        if let Ok(value) = HeaderValue::from_str(value) {
            to.append(HeaderName::from_static(name), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_headers_pass_with_their_values() {
        let mut headers = HeaderMap::new();
        headers.insert("CCMClientID", HeaderValue::from_static("GUID:x"));
        headers.insert("X-Forwarded-For", HeaderValue::from_static("10.0.0.1"));
        headers.insert("roamgate-peer-certificate", HeaderValue::from_static("forged"));
        headers.insert("roamgate-path", HeaderValue::from_static("/CCM_STS"));
        headers.insert("accept", HeaderValue::from_bytes(b"\xff").unwrap());
        let mut passed = inward(&headers);
        passed.sort();
        assert_eq!(
            passed,
            [("ccmclientid".into(), "GUID:x".into()), ("roamgate-path".into(), "/CCM_STS".into())]
        );
    }

    #[test]
    fn answers_cannot_smuggle_headers() {
        let mut to = HeaderMap::new();
        let from = [
            ("ETag", "\"1\""),
            ("Set-Cookie", "a=b"),
            ("content-length", "3"),
            ("roamgate-request-id", "another"),
            ("etag", "x\r\nset-cookie: a"),
            ("bad name", "x"),
        ];
        outward(&from.map(|(name, value)| (name.into(), value.into())).into(), &mut to);
        assert_eq!(to.len(), 1);
        assert_eq!(to["etag"], "\"1\"");
    }
}
