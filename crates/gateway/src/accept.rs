//! One connection that made its handshake, and each request on it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, HeaderValue, TRANSFER_ENCODING};
use http::request::Parts;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use proto::id::RequestId;
use proto::identity::{self, Identity};
use proto::link::{Event, RequestHead, TUNNEL_ALPN};
use proto::path::{self, External};
use proto::pki::Distrust;
use proto::reason::Reason;
use proto::time::Timestamp;
use runtime::listen::TlsConnection;
use runtime::telemetry::Chain;
use tracing::field::display;
use tracing::{Span, debug, info};

use crate::admit::{Admitted, Asked, Bearer, BodyLength, NotAccepted, NotTrusted, Passage, Refused, Verify};
use crate::events::HOP;
use crate::gateway::Gateway;
use crate::limit::UnderWay;
use crate::log::COMPONENT;
use crate::route::{self, About, AnswerBody, Outgoing, Ticket};
use crate::shown::Shown;
use crate::state::{GatewayState, LastToken};
use crate::tunnel::Peer;
use crate::{control, headers, limit, reply};
use reply::{Answered, Reply};

/// Longest `Host` that is repeated in logs, in bytes.
const HOST_BYTES: usize = 255;

/// Bytes that are taken at once from a tunnel's connection: the answers of a busy moment, or four full records.
const TUNNEL_READS: usize = 64 * 1024;

/// Serves a connection: a tunnel to those who asked for one by ALPN, requests to everybody else.
pub(crate) async fn connection(
    gateway: Arc<Gateway>,
    shard: u16,
    mut stream: TlsConnection,
    peer: SocketAddr,
) {
    let (_, tls) = stream.get_ref();
    if tls.alpn_protocol() == Some(TUNNEL_ALPN) {
        let state = gateway.publisher.current();
        let withdrawn = state.as_ref().map(|state| &state.snapshot.withdrawn_links);
        let chain = tls.peer_certificates().unwrap_or_default();
        match Peer::judge(chain, gateway.publisher.root(), withdrawn, gateway.now()) {
            Ok(connector) => {
                stream.get_mut().0.grow(TUNNEL_READS);
                let _known = gateway.limits.tunnel_here(peer.ip());
                Box::pin(control::tunnel(&gateway, shard, stream, connector)).await;
            }
            Err(error) => {
                let reason = Reason::LinkRefused;
                info!(component = COMPONENT, %peer, %reason, error = %Chain(&error), "tunnel refused");
            }
        }
        return;
    }
    let caller = Caller {
        source: peer.ip(),
        shown: tls.peer_certificates().and_then(Shown::new),
        last_token: LastToken::default(),
    };
    let service = service_fn(|request| {
        // Boxed: the room for an answer is taken by the connections that wait for one, not by those that idle.
        let answer = Box::pin(answer(&gateway, shard, &caller, request));
        async move { Answered::Ok(answer.await) }
    });
    if let Err(error) = runtime::http::serve(stream, &gateway.http, &gateway.drain, service).await {
        if error.is_parse() {
            gateway.limits.unreadable(peer.ip(), Instant::now());
        }
        debug!(component = COMPONENT, %peer, error = %Chain(&error), "connection ended early");
    }
}

/// Answers one request.
async fn answer(
    gateway: &Arc<Gateway>,
    shard: u16,
    caller: &Caller,
    request: Request<Incoming>,
) -> Response<Reply> {
    let source = caller.source;
    let (at, began) = (gateway.now(), Instant::now());
    let id = RequestId::new(runtime::id::request_id(&gateway.clock).into());
    let (head, body) = request.into_parts();
    // Never the query: it may name a device.
    let step = runtime::step!("gateway.request", id, method = head.method.as_str(), path = head.uri.path());
    let arrived = Arrived { id, at, began, source, head: &head, step };
    let admitted = {
        let step = runtime::step!("gateway.admit", id, parent = "gateway.request");
        arrived.admit(gateway, caller).inspect_err(|refused| note_refusal(&step, refused))
    };
    let outcome = match admitted {
        Ok(Passed::Page(answer)) => {
            gateway.ledger.counters.elsewhere(answer.status().as_u16());
            Ok(answer)
        }
        Ok(Passed::Role(passage, length, under_way)) => {
            arrived.relay(gateway, shard, passage, length, body, under_way).await
        }
        Err(refused) => {
            gateway.limits.refused(source, &refused, began);
            arrived.count_refused(gateway, &refused);
            Err(refused)
        }
    };
    let refused = outcome.is_err();
    let mut answer = outcome.unwrap_or_else(|refused| {
        gateway.ledger.counters.refusal(refused.reason);
        note_refusal(&arrived.step, &refused);
        if gateway.limits.tells(&refused, began) {
            arrived.tell(gateway, &refused);
        }
        if let Some(tenant) = refused.wants_keys_of {
            gateway.want_keys(tenant);
        }
        let random = runtime::id::random();
        let mut answer = reply::refused(&refused, id, random);
        limit::say_when(&refused, random, answer.headers_mut());
        answer
    });
    if refused && head_states_much(&head) {
        // What was not read of the body is not read any more, so the connection cannot go on.
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if head.headers.contains_key(TRANSFER_ENCODING) {
        // Where chunks and a length were both stated hyper follows the chunks, and RFC 9112 (6.3) wants the
        // connection closed: what follows may be the other reading's.
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

/// Who is at the other end of a connection, as far as it is known.
struct Caller {
    source: IpAddr,
    shown: Option<Shown>,
    last_token: LastToken,
}

/// What a request can prove, by the state that was in force when it came.
struct Proofs<'a> {
    state: &'a GatewayState,
    caller: &'a Caller,
}

impl Verify for Proofs<'_> {
    fn bearer(&self, text: &str) -> Result<Bearer, NotAccepted> {
        self.state.verify_bearer_of(&self.caller.last_token, text)
    }

    fn certificate(&self, now: Timestamp) -> Result<(), NotTrusted> {
        let shown = self.caller.shown.as_ref().ok_or(NotTrusted::Distrust(Distrust::Missing))?;
        shown.judge(self.state.trust(), now)
    }
}

/// A request's head, and when it came.
struct Arrived<'a> {
    id: RequestId,
    at: Timestamp,
    began: Instant,
    source: IpAddr,
    head: &'a Parts,
    /// The request as a whole, for whoever collects traces.
    step: Span,
}

/// What passes admission.
enum Passed {
    /// A page of our own: here it is.
    Page(Response<Reply>),
    /// To a role.
    Role(Box<Passage>, BodyLength, UnderWay),
}

impl Arrived<'_> {
    fn admit(&self, gateway: &Gateway, caller: &Caller) -> Result<Passed, Refused> {
        if gateway.drain.has_started() {
            return Err(Refused::closing(Reason::Draining, "the gateway is stopping"));
        }
        gateway.limits.source(self.source, self.began, || self.shows_known(gateway, caller))?;
        let asked = Asked::read(self.head, caller.shown.as_ref().map(Shown::thumbprint))?;
        gateway.limits.body(asked.body)?;
        let state = gateway.publisher.load();
        let state = state.as_ref().ok_or_else(|| Refused::new(Reason::NoSnapshot, "no snapshot yet"))?;
        Ok(match asked.admit(&state.snapshot, &Proofs { state, caller }, self.at)? {
            Admitted::AuthInfo(info) => {
                gateway.limits.page(self.source, self.began)?;
                Passed::Page(reply::auth_info(&info, self.id))
            }
            Admitted::ServiceMetadata => {
                gateway.limits.page(self.source, self.began)?;
                Passed::Page(reply::metadata(&gateway.name, &state.snapshot, self.id))
            }
            Admitted::Role(passage) => {
                let under_way = gateway.limits.passage(&passage, asked.shown, self.source, self.began)?;
                Passed::Role(passage, asked.body, under_way)
            }
        })
    }

    /// Whether the request shows what was verified before, so that judging it costs no signature.
    fn shows_known(&self, gateway: &Gateway, caller: &Caller) -> bool {
        let authorization = self.head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        match authorization.and_then(identity::bearer) {
            Some(token) => gateway.publisher.load().as_ref().is_some_and(|state| state.knows_bearer(token)),
            None => caller.shown.as_ref().is_some_and(Shown::was_trusted),
        }
    }

    async fn relay(
        &self,
        gateway: &Arc<Gateway>,
        shard: u16,
        passage: Box<Passage>,
        length: BodyLength,
        body: Incoming,
        under_way: UnderWay,
    ) -> Result<Response<Reply>, Refused> {
        let mut arriving = None;
        let body = if length == BodyLength::Known(0) {
            Outgoing::Held(Bytes::new())
        } else {
            arriving = Some(gateway.in_flight.arrive());
            let max_body = gateway.limits.max_body(passage.endpoint.max_body);
            let patience = gateway.patience.body;
            let held = route::hold(&gateway.tunnels, shard, body, length, max_body, patience);
            // Boxed, as most requests have none.
            Box::pin(held).await.inspect_err(|refused| self.count_refused(gateway, refused))?
        };
        let place = gateway.in_flight.enter();
        drop(arriving);
        let place =
            place.ok_or_else(|| Refused::new(Reason::Overloaded, "too many requests are under way"))?;
        let row = gateway.ledger.counters.row(passage.door, passage.role, passage.endpoint);
        let about = About {
            began: self.began,
            at: self.at,
            request: self.id,
            method: self.head.method.clone(),
            uri: self.head.uri.clone(),
            device: passage.identity.device(),
            step: self.step.clone(),
        };
        let mut ticket = Ticket::new(Arc::clone(&gateway.ledger), row, place, under_way, about);
        let head = self.request_head(*passage, length);
        let request = route::Request { head, body };
        let step = runtime::step!("gateway.route", self.id, parent = "gateway.request");
        let relayed = route::relay(&gateway.tunnels, shard, request, gateway.patience, &mut ticket).await;
        let told = |ticket: &mut Ticket, refused: &Refused| {
            ticket.answered(refused.status().as_u16());
            note_refusal(&step, refused);
        };
        let route::Answer { head, stream, upload } =
            relayed.inspect_err(|refused| told(&mut ticket, refused))?;
        let head = route::read_head(&head).inspect_err(|refused| told(&mut ticket, refused))?;
        ticket.answered(head.status);
        step.record("status", head.status);
        drop(step);
        let wait = gateway.patience.answer;
        Ok(reply::relayed(&head, &self.head.method, self.id, |length| {
            if upload.is_none()
                && let Some(whole) = stream.take_whole(length)
            {
                ticket.received(whole.len());
                return Reply::Text(whole);
            }
            Reply::Relayed(Box::new(AnswerBody::new(stream, upload, length, wait, ticket)))
        }))
    }

    fn request_head(&self, passage: Passage, length: BodyLength) -> RequestHead<'_> {
        let host = self.head.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let host = host.get(..HOST_BYTES).unwrap_or(host);
        let target = self.head.uri.path_and_query().map_or("", |target| target.as_str());
        RequestHead {
            request: self.id,
            method: self.head.method.as_str().into(),
            role: passage.role,
            target: passage.target.into(),
            external: ["https://", host, target].concat().into(),
            certificate: match passage.identity {
                Identity::Certificate { thumbprint } => Some(thumbprint),
                Identity::Anonymous | Identity::Entra(_) | Identity::Token(_) => None,
            },
            headers: headers::inward(&self.head.headers),
            body_length: match length {
                BodyLength::Known(length) => Some(length),
                BodyLength::Chunked => None,
            },
        }
    }

    /// Counts what was refused before it was passed on; on a published path in that path's row. Reasons that
    /// come before the path was looked at must not make rows: strangers would choose their names.
    fn count_refused(&self, gateway: &Gateway, refused: &Refused) {
        use Reason as R;
        let counters = &gateway.ledger.counters;
        counters.total().refused();
        let status = refused.status().as_u16();
        let before_path = matches!(
            refused.reason,
            R::UnknownPath | R::MalformedRequest | R::TargetTooLong | R::NoSnapshot | R::Draining
        );
        let target = self.head.uri.path_and_query().map_or("", |target| target.as_str());
        if !before_path && let Ok(External::Role { door, role, path }) = path::parse_external(target) {
            let with_token = self.head.headers.contains_key(AUTHORIZATION);
            let row = counters.row(door, role, path.endpoint);
            row.refused_with(with_token, status, self.began.elapsed());
        } else {
            counters.elsewhere(status);
        }
    }

    /// Tells operator and site of a refusal.
    fn tell(&self, gateway: &Gateway, refused: &Refused) {
        let status = refused.status().as_u16();
        let target = route::name_of(&self.head.method, &self.head.uri);
        info!(
            component = COMPONENT, request_id = %self.id,
            reason = %refused.reason,
            status,
            %target,
            detail = %refused.detail,
            "request refused"
        );
        gateway.ledger.events.push(Event {
            at: self.at,
            request: self.id,
            hop: HOP.to_owned(),
            target,
            status,
            reason: Some(refused.reason.to_string()),
            detail: refused.detail.clone(),
            device: refused.device,
            elapsed_ms: u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
        });
    }
}

/// Whether a request states a body that may be still on its way when the request is refused: smaller ones come
/// with their head, or are read away.
fn head_states_much(head: &Parts) -> bool {
    let length =
        head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    length.is_some_and(|length| length > route::HELD_BYTES)
}

/// Writes into a step why it did not lead on.
fn note_refusal(step: &Span, refused: &Refused) {
    if !step.is_disabled() {
        step.record("reason", display(refused.reason));
        step.record("status", refused.status().as_u16());
    }
}
