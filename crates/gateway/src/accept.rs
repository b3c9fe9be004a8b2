//! One connection that made its handshake, and each request on it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use http::header::{AUTHORIZATION, CONNECTION, HOST, HeaderValue, TRANSFER_ENCODING};
use http::request::Parts;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use proto::id::RequestId;
use proto::identity::Identity;
use proto::link::{Event, RequestHead, TUNNEL_ALPN};
use proto::path::{self, External};
use proto::pki::Distrust;
use proto::reason::Reason;
use proto::time::Timestamp;
use runtime::telemetry::Chain;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tracing::{debug, info};

use crate::admit::{Admitted, Asked, Bearer, BodyLength, NotAccepted, NotTrusted, Passage, Refused, Verify};
use crate::events::HOP;
use crate::gateway::Gateway;
use crate::log::COMPONENT;
use crate::route::{self, About, AnswerBody, Ticket};
use crate::shown::Shown;
use crate::state::GatewayState;
use crate::tunnel::Peer;
use crate::{control, headers, reply};
use reply::{Answered, Reply};

/// Longest `Host` that is repeated in logs, in bytes.
const HOST_BYTES: usize = 255;

/// Serves a connection: a tunnel to those who asked for one by ALPN, requests to everybody else.
pub(crate) async fn connection(
    gateway: Arc<Gateway>,
    shard: u16,
    stream: TlsStream<TcpStream>,
    peer: SocketAddr,
) {
    let (_, tls) = stream.get_ref();
    if tls.alpn_protocol() == Some(TUNNEL_ALPN) {
        let state = gateway.publisher.current();
        let withdrawn = state.as_ref().map(|state| &state.snapshot.withdrawn_links);
        let chain = tls.peer_certificates().unwrap_or_default();
        match Peer::judge(chain, gateway.publisher.root(), withdrawn, gateway.now()) {
            Ok(connector) => control::tunnel(&gateway, shard, stream, connector).await,
            Err(error) => {
                let reason = Reason::LinkRefused;
                info!(component = COMPONENT, %peer, %reason, error = %Chain(&error), "tunnel refused");
            }
        }
        return;
    }
    let shown = tls.peer_certificates().and_then(Shown::new);
    let service = service_fn(|request| {
        let (gateway, shown) = (&gateway, shown.as_ref());
        async move { Answered::Ok(answer(gateway, shard, shown, request).await) }
    });
    if let Err(error) = runtime::http::serve(stream, &gateway.http, &gateway.drain, service).await {
        debug!(component = COMPONENT, %peer, error = %Chain(&error), "connection ended early");
    }
}

/// Answers one request.
async fn answer(
    gateway: &Arc<Gateway>,
    shard: u16,
    shown: Option<&Shown>,
    request: Request<Incoming>,
) -> Response<Reply> {
    let (at, began) = (gateway.now(), Instant::now());
    let id = RequestId::new(runtime::id::request_id(&gateway.clock).into());
    let (head, body) = request.into_parts();
    let arrived = Arrived { id, at, began, head: &head };
    let outcome = match arrived.admit(gateway, shown) {
        Ok(Passed::Page(answer)) => Ok(answer),
        Ok(Passed::Role(passage, length)) => arrived.relay(gateway, shard, passage, length, body).await,
        Err(refused) => {
            count_refused(gateway, &head, &refused);
            Err(refused)
        }
    };
    let mut answer = outcome.unwrap_or_else(|refused| {
        arrived.tell(gateway, &refused);
        if let Some(tenant) = refused.wants_keys_of {
            gateway.want_keys(tenant);
        }
        reply::refused(&refused, id, runtime::id::random())
    });
    if head.headers.contains_key(TRANSFER_ENCODING) {
        // Where chunks and a length were both stated hyper follows the chunks, and RFC 9112 (6.3) wants the
        // connection closed: what follows may be the other reading's.
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

/// What a request can prove, by the state that was in force when it came.
struct Proofs<'a> {
    state: &'a GatewayState,
    shown: Option<&'a Shown>,
}

impl Verify for Proofs<'_> {
    fn bearer(&self, text: &str) -> Result<Bearer, NotAccepted> {
        self.state.verify_bearer(text)
    }

    fn certificate(&self, now: Timestamp) -> Result<(), NotTrusted> {
        let shown = self.shown.ok_or(NotTrusted::Distrust(Distrust::Missing))?;
        shown.judge(self.state.trust(), now)
    }
}

/// A request's head, and when it came.
struct Arrived<'a> {
    id: RequestId,
    at: Timestamp,
    began: Instant,
    head: &'a Parts,
}

/// What passes admission.
enum Passed {
    /// A page of our own: here it is.
    Page(Response<Reply>),
    /// To a role.
    Role(Box<Passage>, BodyLength),
}

impl Arrived<'_> {
    fn admit(&self, gateway: &Gateway, shown: Option<&Shown>) -> Result<Passed, Refused> {
        if gateway.drain.has_started() {
            return Err(Refused::closing(Reason::Draining, "the gateway is stopping"));
        }
        let asked = Asked::read(self.head, shown.map(Shown::thumbprint))?;
        let state = gateway.publisher.load();
        let state = state.as_ref().ok_or_else(|| Refused::new(Reason::NoSnapshot, "no snapshot yet"))?;
        Ok(match asked.admit(&state.snapshot, &Proofs { state, shown }, self.at)? {
            Admitted::AuthInfo(info) => Passed::Page(reply::auth_info(&info, self.id)),
            Admitted::ServiceMetadata => {
                Passed::Page(reply::metadata(&gateway.name, &state.snapshot, self.id))
            }
            Admitted::Role(passage) => Passed::Role(passage, asked.body),
        })
    }

    async fn relay(
        &self,
        gateway: &Arc<Gateway>,
        shard: u16,
        passage: Box<Passage>,
        length: BodyLength,
        body: Incoming,
    ) -> Result<Response<Reply>, Refused> {
        let place = gateway.in_flight.enter();
        let place =
            place.ok_or_else(|| Refused::new(Reason::Overloaded, "too many requests are under way"))?;
        let row = gateway.ledger.counters.row(passage.door, passage.role, passage.endpoint);
        let about = About {
            began: self.began,
            at: self.at,
            request: self.id,
            name: name_of(self.head),
            device: passage.identity.device(),
        };
        let mut ticket = Ticket::new(Arc::clone(&gateway.ledger), row, place, about);
        let max_body = passage.endpoint.max_body as u64;
        let head = self.request_head(*passage, length);
        let request = route::Request { head, body, length, max_body };
        let relayed = route::relay(&gateway.tunnels, shard, request, gateway.patience, &mut ticket).await;
        let answer = relayed.inspect_err(|refused| ticket.answered(refused.status().as_u16()))?;
        ticket.answered(answer.head.status);
        let route::Answer { head, stream, upload } = answer;
        let wait = gateway.patience.answer;
        Ok(reply::relayed(&head, &self.head.method, self.id, |length| {
            Box::new(AnswerBody::new(stream, upload, length, wait, ticket))
        }))
    }

    fn request_head(&self, passage: Passage, length: BodyLength) -> RequestHead {
        let host = self.head.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let host = host.get(..HOST_BYTES).unwrap_or(host);
        RequestHead {
            request: self.id,
            method: self.head.method.as_str().to_owned(),
            role: passage.role,
            target: passage.target,
            external: format!("https://{host}{}", self.head.uri),
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

    /// Tells operator and site of a refusal.
    fn tell(&self, gateway: &Gateway, refused: &Refused) {
        let status = refused.status().as_u16();
        let target = name_of(self.head);
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

/// Counts what was refused before it was passed on; on a published path also in that path's row. Reasons that
/// come before the path was looked at must not make rows: strangers would choose their names.
fn count_refused(gateway: &Gateway, head: &Parts, refused: &Refused) {
    use Reason as R;
    let counters = &gateway.ledger.counters;
    counters.total().refused();
    let before_path = matches!(
        refused.reason,
        R::UnknownPath | R::MalformedRequest | R::TargetTooLong | R::NoSnapshot | R::Draining
    );
    let target = head.uri.path_and_query().map_or("", |target| target.as_str());
    if !before_path && let Ok(External::Role { door, role, path }) = path::parse_external(target) {
        counters.row(door, role, path.endpoint).refused(head.headers.contains_key(AUTHORIZATION));
    }
}

/// Method and path, without the query: for people.
fn name_of(head: &Parts) -> String {
    let path: String = head.uri.path().chars().take(300).collect();
    let method = head.method.as_str();
    format!("{} {path}", method.get(..20).unwrap_or(method))
}
