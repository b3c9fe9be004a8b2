//! Answers as a device gets them: refusals of our own, our own page, and what a role answered.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use hyper::body::{Body, Frame, SizeHint};
use hyper::ext::ReasonPhrase;
use proto::entra::AuthInfo;
use proto::id::{RequestId, RoleId, SiteCode};
use proto::link::AnswerHead;
use proto::reason::{self, Action, Reason};
use proto::snapshot::Snapshot;
use serde::Serialize;

use crate::admit::Refused;
use crate::headers;
use crate::route::AnswerBody;

/// Bounds of `Retry-After` in seconds. The spread keeps those who were refused at one moment from
/// returning at one moment. A missing tunnel is usually back within seconds, and devices with it; a gateway
/// that has too much to do gets more time.
const fn retry_after_seconds(reason: Reason) -> (u64, u64) {
    match reason {
        Reason::NoTunnel | Reason::NoSnapshot | Reason::TunnelLost => (1, 4),
        _ => (5, 30),
    }
}

const REQUEST_ID: HeaderName = HeaderName::from_static(reason::REQUEST_ID_HEADER);

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum Reply {
    /// A text of ours, or a short answer of a role; taken when it is sent.
    Text(Bytes),
    /// What a role answers, as it comes.
    Relayed(Box<AnswerBody>),
}

/// An answer that a role began cannot be finished.
pub(crate) type ReplyError = Box<dyn std::error::Error + Send + Sync>;

/// A refusal. Says the code and what it means in general; the exact cause is for the operator. `random`
/// decides within the spread when the client should return.
pub(crate) fn refused(refused: &Refused, request: RequestId, random: u64) -> Response<Reply> {
    let row = refused.reason.row();
    let text = format!("{}: {}\n", refused.reason, row.cause);
    let mut answer = Response::new(Reply::Text(text.into()));
    *answer.status_mut() = refused.status();
    if let Some(phrase) = refused.phrase.or(row.phrase) {
        answer.extensions_mut().insert(ReasonPhrase::from_static(phrase.as_bytes()));
    }
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(reason::HEADER, text_value(&refused.reason.to_string()));
    if row.action == Action::Retry {
        let (from, to) = retry_after_seconds(refused.reason);
        headers.insert(RETRY_AFTER, (from + random % (to - from + 1)).into());
    }
    if !refused.allow.is_empty() {
        headers.insert(ALLOW, text_value(&refused.allow.join(", ")));
    }
    if refused.close {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    named(answer, request)
}

/// What `ServiceMetadata` says.
#[derive(Serialize)]
struct Metadata<'a> {
    site_code: SiteCode,
    gateway: &'a str,
    snapshot_version: u64,
    roles: Vec<Role<'a>>,
}

#[derive(Serialize)]
struct Role<'a> {
    role_id: RoleId,
    name: &'a str,
}

/// The gateway's own page: whom it serves.
pub(crate) fn metadata(gateway: &str, site: &Snapshot, request: RequestId) -> Response<Reply> {
    let roles = site.roles.values().filter(|role| role.gateway_traffic);
    let page = Metadata {
        site_code: site.site_code,
        gateway,
        snapshot_version: site.version,
        roles: roles.map(|role| Role { role_id: role.role, name: &role.name }).collect(),
    };
    json(&page, request)
}

/// With which app the devices of a tenant ask for tokens.
pub(crate) fn auth_info(info: &AuthInfo, request: RequestId) -> Response<Reply> {
    json(info, request)
}

fn json(page: &impl Serialize, request: RequestId) -> Response<Reply> {
    let text = serde_json::to_vec(page).expect("numbers and texts have a JSON form");
    let mut answer = Response::new(Reply::Text(text.into()));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    named(answer, request)
}

/// A role's answer with what may pass of it. `body` is asked for unless the answer has none.
pub(crate) fn relayed(
    head: &AnswerHead<'_>,
    method: &Method,
    request: RequestId,
    body: impl FnOnce(Option<u64>) -> Reply,
) -> Response<Reply> {
    let status = status(head.status);
    let bodiless =
        method == Method::HEAD || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let mut answer = Response::new(if bodiless {
        // Nothing is sent, but the ticket ends with the answer.
        drop(body(None));
        Reply::Text(Bytes::new())
    } else {
        body(head.body_length)
    });
    *answer.status_mut() = status;
    headers::outward(&head.headers, answer.headers_mut());
    if method == Method::HEAD
        && let Some(length) = head.body_length
    {
        answer.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    let unusual = head.phrase.as_deref().filter(|_| status.as_u16() >= 400);
    if let Some(Ok(phrase)) = unusual.map(|phrase| ReasonPhrase::try_from(phrase.as_bytes())) {
        answer.extensions_mut().insert(phrase);
    }
    named(answer, request)
}

fn named(mut answer: Response<Reply>, request: RequestId) -> Response<Reply> {
    let mut room = [0; 36];
    answer.headers_mut().insert(REQUEST_ID, text_value(request.guid().text(&mut room)));
    answer
}

fn text_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("codes, methods and GUIDs are visible ASCII")
}

fn status(number: u16) -> StatusCode {
    StatusCode::from_u16(number).unwrap_or(StatusCode::BAD_GATEWAY)
}

impl Body for Reply {
    type Data = Bytes;
    type Error = ReplyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReplyError>>> {
        match self.get_mut() {
            Self::Text(text) if text.is_empty() => Poll::Ready(None),
            Self::Text(text) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(text))))),
            Self::Relayed(body) => {
                Pin::new(body.as_mut()).poll_frame(cx).map(|frame| frame.map(|part| part.map_err(Into::into)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text) => text.is_empty(),
            Self::Relayed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => SizeHint::with_exact(text.len() as u64),
            Self::Relayed(body) => body.size_hint(),
        }
    }
}

/// An answer always comes of a request, if only a refusal.
pub(crate) type Answered = Result<Response<Reply>, Infallible>;
