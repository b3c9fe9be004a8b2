//! From HTTP to the link: one request, answered with 101 or refused.

use std::convert::Infallible;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::{TokioIo, TokioTimer};
use proto::link::{LINK_PATH, LINK_PROTOCOL};
use proto::reason::{self, Reason};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

/// Time for the request and its answer.
const TIME: Duration = Duration::from_secs(10);
/// Bytes buffered in each direction, and the largest head.
const BUFFER: usize = 16 * 1024;

/// Answers the first request of a connection and hands over what is behind it, when it asked for
/// the link and `known` says that its sender may have it.
pub(super) async fn accept<I>(io: I, known: bool) -> Option<TokioIo<Upgraded>>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let granted = Mutex::new(None);
    let service = service_fn(|mut request: Request<Incoming>| {
        let answer = answer(&mut request, known, &granted);
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(TIME)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    // Whatever went wrong here went wrong for the peer, which sees it.
    timeout(TIME, connection).await.ok()?.ok()?;
    let upgrade: OnUpgrade = granted.into_inner().ok()??;
    timeout(TIME, upgrade).await.ok()?.ok().map(TokioIo::new)
}

fn answer(
    request: &mut Request<Incoming>,
    known: bool,
    granted: &Mutex<Option<OnUpgrade>>,
) -> Response<Full<Bytes>> {
    if !known {
        let mut refused = refuse(StatusCode::FORBIDDEN, Reason::LinkRefused.row().cause);
        if let Ok(code) = HeaderValue::from_str(&Reason::LinkRefused.to_string()) {
            refused.headers_mut().insert(HeaderName::from_static(reason::HEADER), code);
        }
        return refused;
    }
    if request.method() != Method::GET || request.uri().path() != LINK_PATH {
        return refuse(StatusCode::NOT_FOUND, "There is the site link here and nothing else.");
    }
    if !asks_for_link(request.headers()) {
        return refuse(
            StatusCode::UPGRADE_REQUIRED,
            "The request does not ask for the protocol of the link.",
        );
    }
    if let Ok(mut granted) = granted.lock() {
        *granted = Some(hyper::upgrade::on(request));
    }
    let mut switching = Response::new(Full::new(Bytes::new()));
    *switching.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    switching.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    switching.headers_mut().insert(UPGRADE, HeaderValue::from_static(LINK_PROTOCOL));
    switching
}

fn asks_for_link(headers: &HeaderMap) -> bool {
    let is = |value: &HeaderValue, word: &str| {
        value.to_str().is_ok_and(|text| text.split(',').any(|part| part.trim().eq_ignore_ascii_case(word)))
    };
    headers.get_all(CONNECTION).iter().any(|value| is(value, "upgrade"))
        && headers.get_all(UPGRADE).iter().any(|value| is(value, LINK_PROTOCOL))
}

fn refuse(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    if status == StatusCode::UPGRADE_REQUIRED {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static(LINK_PROTOCOL));
    }
    response
}
