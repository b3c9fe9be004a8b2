//! Who calls: the bearer key of a named operator, asked for before anything else is looked at.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue,
    REFERRER_POLICY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use proto::reason::REQUEST_ID_HEADER;
use runtime::id::request_id;
use site::{By, Operator};
use tracing::{Instrument as _, debug, info, info_span};

use super::error::{ApiError, Code};
use super::route::Right;
use super::{Api, Peer};
use crate::log::OPERATOR_API;

/// Longest Authorization header that is looked at, in bytes; an operator's key has some 50.
const CREDENTIALS_BYTES: usize = 256;
/// Characters of a path that are logged. Ids and names are shorter; a token's own text is not.
const LOGGED_PATH_CHARS: usize = 120;

/// What every named operator may do. Operators with fewer rights come with the console; the check
/// of each route stands already.
const RIGHTS: &[Right] = &[Right::Read, Right::Change];

/// The operator of a request, proved by the key.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    operator: Operator,
    from: IpAddr,
    rights: &'static [Right],
}

impl Caller {
    /// On whose behalf the site acts: the operator's name and address stand in the audit record.
    pub(crate) fn by(&self) -> By {
        self.operator.by(Some(self.from))
    }

    /// Whether the operator holds a right.
    pub(crate) fn may(&self, right: Right) -> bool {
        self.rights.contains(&right)
    }
}

/// Names the request, finds its operator, and puts on every answer what an answer must carry.
pub(crate) async fn guard(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let id = request_id(&api.clock);
    // Cut, so that a token pasted in place of its id does not stand whole in the log.
    let path: String = request.uri().path().chars().take(LOGGED_PATH_CHARS).collect();
    let line = format!("{} {path}", request.method());
    let span = info_span!("operator_request", request_id = %id, component = OPERATOR_API);
    async {
        let peer = request.extensions().get::<Peer>().copied();
        let mut response = match authenticate(&api, request.headers(), peer).await {
            Ok(caller) => {
                let operator = caller.operator.name.clone();
                let reads = request.method().is_safe();
                request.extensions_mut().insert(caller);
                let response = next.run(request).await;
                let status = response.status().as_u16();
                if reads {
                    debug!(operator, line, status, "operator request");
                } else {
                    info!(operator, line, status, "operator request");
                }
                response
            }
            Err(refusal) => {
                debug!(line, status = refusal.status().as_u16(), "operator request refused");
                refusal.into_response()
            }
        };
        finish(response.headers_mut(), &id.to_string());
        response
    }
    .instrument(span)
    .await
}

async fn authenticate(api: &Api, headers: &HeaderMap, peer: Option<Peer>) -> Result<Caller, ApiError> {
    let refused = || {
        ApiError::new(
            Code::Unauthorized,
            "the operator's key is missing or not accepted",
            "Name the file with the key by --operator-key-file, or once by `roamgate context set`. A lost key is \
             replaced by another operator.",
        )
    };
    let key = bearer(headers).ok_or_else(refused)?;
    let peer = peer.ok_or_else(refused)?;
    let operator = api.site.authenticate_operator(key).await?.ok_or_else(refused)?;
    Ok(Caller { operator, from: peer.0.ip(), rights: RIGHTS })
}

/// The key behind `Bearer`, when there is exactly one such header.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (all.next(), all.next()) else { return None };
    let value = value.to_str().ok().filter(|value| value.len() <= CREDENTIALS_BYTES)?;
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

/// Nothing of an answer is kept, guessed at, framed or linked.
fn finish(headers: &mut HeaderMap, id: &str) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    );
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(HeaderName::from_static(REQUEST_ID_HEADER), id);
    }
}

/// What a refused caller must show, by the rules of HTTP.
pub(super) fn challenge(headers: &mut HeaderMap) {
    headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"roamgate\""));
}

#[cfg(test)]
mod tests {
    use proto::id::Guid;
    use proto::time::Timestamp;

    use super::*;

    impl Caller {
        /// Somebody with these rights.
        pub(crate) fn with(rights: &'static [Right]) -> Self {
            let created_at = Timestamp::default();
            let operator = Operator { id: Guid::nil(), name: "somebody".into(), created_at, disabled: false };
            Self { operator, from: IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), rights }
        }
    }

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (AUTHORIZATION, HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn one_bearer_key_is_taken_and_nothing_else() {
        assert_eq!(bearer(&headers(&["Bearer rgop_x"])), Some("rgop_x"));
        assert_eq!(bearer(&headers(&["bearer rgop_x"])), Some("rgop_x"));
        let long = format!("Bearer {}", "x".repeat(CREDENTIALS_BYTES));
        for wrong in [&[][..], &["rgop_x"], &["Basic rgop_x"], &["Bearer a", "Bearer a"], &[&long]] {
            assert_eq!(bearer(&headers(wrong)), None, "{wrong:?}");
        }
    }
}
