//! One connection: its requests are read whole, handed on, and answered.

use std::convert::Infallible;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
use proto::http_signature::{self, AnswerToSign, Answered};
use proto::id::RequestId;
use proto::path::{self, PathError};
use proto::reason::{self, REQUEST_ID_HEADER, Reason};
use runtime::Drain;
use runtime::http::HttpOptions;
use runtime::id::request_id;
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::{Instrument as _, Span, debug, error, info, info_span};

use crate::announced::Announced;
use crate::answer::{Answer, Refusal, Style};
use crate::authenticate::signature::{self, Signed};
use crate::body::{self, Bound};
use crate::bounds::within;
use crate::context::Context;
use crate::dispatch;
use crate::handler::Handler;
use crate::log::CLIENT_AUTH;
use crate::request::{Peer, Request, repeated_header};
use crate::{stranded, transport};

/// Parts of the protocol that are known by their path and not served (protocol reference 1.1).
const NOT_SERVED: &[&str] = &[
    "/bgb/",
    "/CCM_Client/",
    "/CCM_Incoming/",
    "/SMS_FSP/",
    "/SMS_DP_SMSPKG$/",
    "/SMS_DP_SMSSIG$/",
    "/SMS_MP_AltAuth/",
    "/SMS_MP_WindowsAuth/",
    "/SMS_MP/.sms_dcm",
    "/SMS_MP_TokenAuth/.sms_dcm",
];

/// Serves one connection until it ends.
pub(crate) async fn serve<S>(context: Context, stream: S, peer: Peer, drain: Drain)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(|request| {
        let (context, peer) = (context.clone(), peer.clone());
        async move { Ok::<_, Infallible>(respond(&context, request, peer).await) }
    });
    if let Err(error) = runtime::http::serve(stream, &HttpOptions::default(), &drain, service).await {
        debug!(peer = %peer.address, %error, "connection ended early");
    }
}

async fn respond(context: &Context, incoming: hyper::Request<Incoming>, peer: Peer) -> Response<Full<Bytes>> {
    let id = name_request(context, &incoming);
    let line = format!("{} {}", incoming.method(), incoming.uri().path());
    let span = info_span!("request", request_id = %id);
    let step = first_step(id, &incoming);
    let _counted = context.counts.begin();
    async {
        let begun = Instant::now();
        let mut endpoint = None;
        let (answer, signed) = match admit(context, id, incoming, peer).await {
            Ok(request) => {
                endpoint = Some(request.endpoint.name);
                process(context, &request, &line, begun).await
            }
            Err(refusal) => (refuse(context, id, &line, begun, &refusal, Style::Document), None),
        };
        let status = answer.status.as_u16();
        context.counts.answered(endpoint, status, begun.elapsed());
        tell_step(&Span::current(), endpoint, &answer);
        write(context, id, &answer, signed.as_ref())
    }
    .instrument(step)
    .instrument(span)
    .await
}

/// The step of a trace that the whole request is: after the connection point's where that named the request, else
/// the first.
fn first_step(id: RequestId, incoming: &hyper::Request<Incoming>) -> Span {
    let (method, endpoint) = (incoming.method().as_str(), tracing::field::Empty);
    if incoming.headers().contains_key(REQUEST_ID_HEADER) {
        let parent = "connection-point.forward";
        runtime::step!("management-point.request", id, method, endpoint = endpoint, parent = parent)
    } else {
        runtime::step!("management-point.request", id, method, endpoint = endpoint)
    }
}

fn tell_step(step: &Span, endpoint: Option<&'static str>, answer: &Answer) {
    if step.is_disabled() {
        return;
    }
    step.record("status", answer.status.as_u16());
    if let Some(endpoint) = endpoint {
        step.record("endpoint", endpoint);
    }
    if let Some(reason) = answer.reason {
        step.record("reason", tracing::field::display(reason));
    }
}

/// The id that a connection point gave, or a new one. It is only a name.
fn name_request(context: &Context, incoming: &hyper::Request<Incoming>) -> RequestId {
    let given = incoming.headers().get(REQUEST_ID_HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
    given.unwrap_or_else(|| RequestId::new(request_id(context.clock()).into()))
}

/// Finds the endpoint and reads the body, within the endpoint's bounds.
async fn admit(
    context: &Context,
    id: RequestId,
    incoming: hyper::Request<Incoming>,
    peer: Peer,
) -> Result<Request, Refusal> {
    let (head, body) = incoming.into_parts();
    transport::check_peer(context, &peer)?;
    // An absolute target names a host; we are the only one here.
    let target = match head.uri.path_and_query() {
        Some(target) if head.uri.authority().is_none() => target.as_str().to_owned(),
        _ => return Err(Refusal::new(Reason::MalformedRequest, "the target is not a path")),
    };
    let path = path::parse_role_path(&target).map_err(|error| bad_path(&target, error))?;
    let (endpoint, query) = (path.endpoint, path.query.map(str::to_owned));
    if !endpoint.methods.contains(&head.method.as_str()) {
        return Err(Refusal::new(Reason::MethodNotAllowed, format!("{} is not answered here", head.method)));
    }
    if let Some(name) = repeated_header(&head.headers) {
        return Err(Refusal::new(Reason::MalformedRequest, format!("the header {name} stands twice")));
    }
    transport::check_road(context, &peer.transport, endpoint, &head.headers)?;
    let bound = Bound { bytes: endpoint.max_body, patience: context.body_timeout };
    let sender = || Announced::by(context, &head.headers).sender(&head.headers, &peer);
    let body = body::read(body, bound, &context.bodies, sender).await?;
    Ok(Request {
        id,
        method: head.method,
        target,
        endpoint,
        query,
        headers: head.headers,
        body,
        peer: peer.address,
        transport: peer.transport,
    })
}

fn bad_path(target: &str, error: PathError) -> Refusal {
    let reason = match error {
        PathError::TooLong => Reason::TargetTooLong,
        PathError::Malformed => Reason::MalformedRequest,
        PathError::NotAGatewayPath | PathError::UnknownEndpoint if is_known(target) => Reason::NotServed,
        PathError::NotAGatewayPath | PathError::UnknownEndpoint => Reason::UnknownPath,
    };
    Refusal::caused(reason, &error)
}

fn is_known(target: &str) -> bool {
    NOT_SERVED
        .iter()
        .any(|prefix| target.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)))
}

/// Checks the request's signature and dispatches it. The signature's bearer gets signed answers.
async fn process(
    context: &Context,
    request: &Request,
    line: &str,
    begun: Instant,
) -> (Answer, Option<AnswerSigning>) {
    let handler = Handler::of(request.endpoint);
    let refused = |refusal| (refuse(context, request.id, line, begun, &refusal, handler.style()), None);
    let comes = Announced::by(context, &request.headers).comes();
    let _place = match context.bounds.work(comes).await {
        Ok(place) => place,
        Err(refusal) => return refused(refusal),
    };
    // On the heap: the state of all handlers together is some 20 KB, and would be moved about.
    let work = Box::pin(work(context, request, line, begun));
    within(handler.time(), work).await.unwrap_or_else(refused)
}

/// The work itself. Whoever gives it up loses the answer: what was sent to the site is done all the same.
async fn work(
    context: &Context,
    request: &Request,
    line: &str,
    begun: Instant,
) -> (Answer, Option<AnswerSigning>) {
    let style = Handler::of(request.endpoint).style();
    let authenticating = runtime::step_inside!("management-point.authenticate");
    let signed = match signature::verify(context, request).instrument(authenticating).await {
        Ok(signed) => signed,
        Err(refusal) => return (refuse(context, request.id, line, begun, &refusal, style), None),
    };
    let signing = signed.as_ref().map(|signed| AnswerSigning::new(request, signed));
    let handling = runtime::step_inside!("management-point.handle", handler = ?Handler::of(request.endpoint));
    let answer = match dispatch::dispatch(context, request, signed.as_ref()).instrument(handling).await {
        Ok(answer) => answer,
        Err(refusal) => {
            stranded::note(context, request, &refusal);
            refuse(context, request.id, line, begun, &refusal, style)
        }
    };
    (answer, signing)
}

/// Turns a refusal into its answer; the cause goes to log and site.
fn refuse(
    context: &Context,
    id: RequestId,
    line: &str,
    begun: Instant,
    refusal: &Refusal,
    style: Style,
) -> Answer {
    let answer = refusal.answer(style);
    let (status, reason) = (answer.status.as_u16(), refusal.reason);
    context.counts.refused(reason);
    // Who is busy is not broken, and whoever keeps it busy must not fill the log with errors.
    if reason.is_server_fault() && reason != Reason::Busy {
        error!(component = CLIENT_AUTH, %reason, status, asked = line, detail = refusal.detail, "request failed");
    } else {
        let device = refusal.device.map(tracing::field::display);
        info!(component = CLIENT_AUTH, %reason, status, asked = line, device, detail = refusal.detail, "request refused");
    }
    context.events.record(context.now(), id, line, status, refusal, begun.elapsed());
    answer
}

/// How an answer is to be signed.
#[derive(Debug)]
struct AnswerSigning {
    message_id: proto::id::Guid,
    /// The request's signature, to which the answer is tied.
    signature: String,
    with_chain: bool,
    /// The answer to HEAD has no body.
    bodiless: bool,
}

impl AnswerSigning {
    fn new(request: &Request, signed: &Signed) -> Self {
        let wants = request.header(http_signature::WANT);
        Self {
            message_id: signed.message_id,
            // A request that is signed has one.
            signature: request.header(http_signature::SIGNATURE).unwrap_or_default().to_owned(),
            with_chain: wants.is_some_and(|value| value.eq_ignore_ascii_case("chain")),
            bodiless: request.method == Method::HEAD,
        }
    }
}

fn write(
    context: &Context,
    id: RequestId,
    answer: &Answer,
    signing: Option<&AnswerSigning>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(answer.body.clone()));
    *response.status_mut() = answer.status;
    if let Some(phrase) = answer.phrase {
        // Our own phrases can all be sent.
        let _ = runtime::http::set_reason(&mut response, phrase);
    }
    if let Some(content_type) = answer.content_type {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    put(&mut response, REQUEST_ID_HEADER, &id.to_string());
    if let Some(wait) = answer.wait {
        put(&mut response, "retry-after", &wait.as_millis().div_ceil(1000).max(1).to_string());
    } else if answer.status == StatusCode::SERVICE_UNAVAILABLE {
        put(&mut response, "retry-after", &retry_after().to_string());
    }
    if let Some(reason) = answer.reason {
        put(&mut response, reason::HEADER, &reason.to_string());
    }
    for (name, value) in signing.map(|signing| sign(context, answer, signing)).unwrap_or_default() {
        put(&mut response, name, &value);
    }
    response
}

fn sign(context: &Context, answer: &Answer, signing: &AnswerSigning) -> Vec<http_signature::Header> {
    let chain = context.site.message_chain();
    let Some(leaf) = chain.first() else { return Vec::new() };
    let reason = answer.reason.map(|reason| reason.to_string());
    let to_sign = AnswerToSign {
        status: answer.status.as_u16(),
        answers: Answered { message_id: signing.message_id, signature: &signing.signature },
        reason: reason.as_deref(),
        body: if signing.bodiless { &[] } else { &answer.body },
    };
    let key = proto::id::Thumbprint::of(leaf);
    match to_sign.headers(context.now(), key, |base| context.site.sign_answer(base)) {
        Ok(mut headers) => {
            if signing.with_chain {
                let root = context.site.root_certificate();
                let whole = chain.iter().map(Vec::as_slice).chain([root.as_slice()]);
                headers.push((http_signature::CERTIFICATE, http_signature::write_certificates(whole)));
            }
            headers
        }
        Err(error) => {
            // The client will not believe the answer and ask again.
            error!(%error, "answer not signed");
            Vec::new()
        }
    }
}

/// Seconds until a device should ask again, spread so that not all come at once.
fn retry_after() -> u64 {
    5 + runtime::id::random() % 26
}

fn put(response: &mut Response<Full<Bytes>>, name: &'static str, value: &str) {
    // Codes, ids, digests and base64: all of them may stand in a header.
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(HeaderName::from_static(name), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_and_not_served_is_told_from_what_is_unknown() {
        for (target, reason) in [
            ("/bgb/handler.ashx?RequestType=LogIn", Reason::NotServed),
            ("/ccm_client/ccmsetup.cab", Reason::NotServed),
            ("/SMS_DP_SMSPKG$/RG100001", Reason::NotServed),
            ("/sms_fsp/.sms_fsp", Reason::NotServed),
            ("/", Reason::UnknownPath),
            ("/bgb", Reason::UnknownPath),
            ("/admin", Reason::UnknownPath),
        ] {
            assert_eq!(bad_path(target, PathError::UnknownEndpoint).reason, reason, "{target}");
        }
    }
}
