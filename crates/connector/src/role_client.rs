//! HTTP/1.1 to the roles inside, over connections that are kept. One client for each traffic
//! thread: a connection never leaves the runtime that it was opened on.

mod body;
mod io;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use proto::id::Thumbprint;
use proto::trust::{Purpose, SiteRoot};
use runtime::Clock;
use runtime::tls::OwnCertificate;
use rustls::version::{TLS12, TLS13};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

pub(crate) use body::{BodyPart, RequestBody};
use io::{Metered, RoleIo};

use crate::peer::{DialError, Peer, Trust, Withdrawn, dial_tcp, dial_tls};
use crate::role::{Issuer, Role, RoleTls};
use crate::role_certificate::RoleCertificates;

/// Connections without a request that are kept for one role. More than the requests that a thread usually has
/// under way would only keep the role's memory busy.
const KEPT_LIMIT: usize = 64;
/// How long a connection is kept without a request. Shorter than the idle time of our management point, so that
/// it is usually we who close, and a kept connection is rarely stale.
const KEPT_TIME: Duration = Duration::from_secs(20);
/// Time between two looks for connections that were kept too long.
const PRUNE_INTERVAL: Duration = Duration::from_secs(1);
/// Most header fields of an answer; more are refused.
const ANSWER_HEADERS: usize = 64;
/// Largest head of an answer in bytes, and the read buffer of a connection; larger is refused.
const ANSWER_HEAD_BYTES: usize = 64 * 1024;

/// Kept connections, and what is needed to open more.
#[derive(Debug)]
pub(crate) struct RoleClient {
    root: Arc<SiteRoot>,
    certificates: Arc<RoleCertificates>,
    clock: Clock,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    connections: HashMap<Party, Vec<Connection>>,
    prune_at: Instant,
}

/// Who is at the two ends of a connection. One that was made under another trust, or with another certificate
/// of ours, is none of these.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Party {
    /// Base URL of the role.
    base: String,
    /// By what its certificate was judged, if by anything.
    trust: Option<Thumbprint>,
    /// What it was shown, if it asked for anything.
    shown: Option<Thumbprint>,
}

/// A connection with no request on it.
#[derive(Debug)]
struct Connection {
    party: Party,
    sender: http1::SendRequest<RequestBody>,
    /// Bytes read from it, ever.
    read: Arc<AtomicU64>,
    idle_since: Instant,
}

/// A request as it will be written.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// The method.
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) uri: Uri,
    /// Headers, `Host` included; those about the body are added by its kind.
    pub(crate) headers: HeaderMap,
    /// The body.
    pub(crate) body: RequestBody,
}

/// An answer whose head has come.
#[derive(Debug)]
pub(crate) struct Answer {
    response: Response<Incoming>,
    connection: Connection,
}

/// Why a role gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExchangeError {
    /// It could not be reached.
    #[error("the role cannot be reached")]
    Dial(#[source] DialError),
    /// Its TLS cannot be set up on our side.
    #[error("TLS to the role cannot be set up")]
    Setup(#[source] rustls::Error),
    /// It closed the connection without a byte of an answer.
    #[error("the role closed the connection without an answer")]
    Closed(#[source] hyper::Error),
    /// What it sent is no HTTP/1.1 answer, or too large a head.
    #[error("the role's answer is not proper HTTP/1.1")]
    Malformed(#[source] hyper::Error),
    /// It wants to speak another protocol, which nobody asked for.
    #[error("the role answered with status 101")]
    Switched,
}

impl RoleClient {
    /// A client without connections. `root` judges roles in enhanced HTTP; of `certificates` one is shown to
    /// roles that demand it.
    pub(crate) fn new(root: Arc<SiteRoot>, certificates: Arc<RoleCertificates>, clock: Clock) -> Self {
        let kept = Kept { connections: HashMap::new(), prune_at: Instant::now() };
        Self { root, certificates, clock, kept: Mutex::new(kept) }
    }

    /// Another client of the same kind, for another thread.
    pub(crate) fn another(&self) -> Self {
        Self::new(Arc::clone(&self.root), Arc::clone(&self.certificates), self.clock.clone())
    }

    /// Sends a request and waits for the head of the answer. Dropping the future closes the connection.
    ///
    /// A request whose body is held whole may go out on a kept connection; when that one proves to be
    /// closed before a byte of an answer came, it is sent once more on a fresh one. That is safe because
    /// every handler of a management point is idempotent. A streamed body always gets a fresh
    /// connection, because it could not be sent again.
    pub(crate) async fn exchange(&self, role: &Role, request: Outgoing) -> Result<Answer, ExchangeError> {
        let own = self.certificates.of_role(role);
        let party = Party::new(role, own.as_deref());
        if let Some(again) = request.copy()
            && let Some(kept) = self.take(&party).await
        {
            match send(kept, again).await {
                // No byte came, so the role most likely had closed it: once more.
                Err(ExchangeError::Closed(_)) => {}
                outcome => return outcome,
            }
        }
        send(self.open(role, own.as_deref(), party).await?, request).await
    }

    /// Gives back the connection of an answer whose body was read to its end, and whose request was
    /// written to its end.
    pub(crate) fn keep(&self, answer: Answer) {
        let now = Instant::now();
        let connection = Connection { idle_since: now, ..answer.connection };
        if connection.sender.is_closed() {
            return;
        }
        let mut kept = self.lock();
        if now >= kept.prune_at {
            kept.prune(now);
        }
        match kept.connections.get_mut(&connection.party) {
            Some(list) if list.len() >= KEPT_LIMIT => {}
            Some(list) => list.push(connection),
            None => drop(kept.connections.insert(connection.party.clone(), vec![connection])),
        }
    }

    /// A kept connection that seems alive.
    async fn take(&self, party: &Party) -> Option<Connection> {
        loop {
            // The latest is the one most likely still open.
            let mut connection = self.lock().connections.get_mut(party)?.pop()?;
            let fresh = connection.idle_since.elapsed() < KEPT_TIME;
            // Becomes ready at once, or as soon as its task has seen that it was closed.
            if fresh && connection.sender.ready().await.is_ok() {
                return Some(connection);
            }
        }
    }

    async fn open(
        &self,
        role: &Role,
        own: Option<&OwnCertificate>,
        party: Party,
    ) -> Result<Connection, ExchangeError> {
        let io = match &role.tls {
            Some(tls) => RoleIo::Tls(Box::new(self.open_tls(role, tls, own).await?)),
            None => RoleIo::Plain(dial_tcp(&role.address).await.map_err(ExchangeError::Dial)?),
        };
        let read = Arc::new(AtomicU64::new(0));
        let (sender, connection) = http1::Builder::new()
            .max_headers(ANSWER_HEADERS)
            .max_buf_size(ANSWER_HEAD_BYTES)
            .handshake(TokioIo::new(Metered::new(io, Arc::clone(&read))))
            .await
            .map_err(ExchangeError::Closed)?;
        // Its errors reach whoever waits for the answer; it ends when the sender is dropped.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Connection { party, sender, read, idle_since: Instant::now() })
    }

    /// A connection to a role behind TLS, its certificate judged. Ours is shown to a role that demands one,
    /// and nothing to any other: a connection point has no rights at a role (R61).
    async fn open_tls(
        &self,
        role: &Role,
        tls: &RoleTls,
        own: Option<&OwnCertificate>,
    ) -> Result<TlsStream<TcpStream>, ExchangeError> {
        let trust = match &tls.issuer {
            Issuer::Site => Trust::Site { root: Arc::clone(&self.root), purpose: Purpose::RoleTls },
            Issuer::Pki(store) => Trust::Pki(Arc::clone(store)),
        };
        let peer = Peer {
            trust,
            name: tls.name.clone(),
            withdrawn: Withdrawn::default(),
            clock: self.clock.clone(),
        };
        let config = peer.tls(own, &[&TLS13, &TLS12], Some(b"http/1.1")).map_err(ExchangeError::Setup)?;
        dial_tls(&role.address, tls.name.clone(), config).await.map_err(ExchangeError::Dial)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Party {
    fn new(role: &Role, own: Option<&OwnCertificate>) -> Self {
        Self {
            base: role.base.clone(),
            trust: role.tls.as_ref().map(|tls| tls.trust),
            shown: own.map(|own| Thumbprint::from_bytes(own.leaf().thumbprint_sha256())),
        }
    }
}

impl Kept {
    fn prune(&mut self, now: Instant) {
        self.prune_at = now + PRUNE_INTERVAL;
        self.connections.retain(|_, list| {
            list.retain(|kept| {
                now.saturating_duration_since(kept.idle_since) < KEPT_TIME && !kept.sender.is_closed()
            });
            !list.is_empty()
        });
    }
}

async fn send(mut connection: Connection, request: Outgoing) -> Result<Answer, ExchangeError> {
    let before = connection.read.load(Ordering::Acquire);
    let Outgoing { method, uri, headers, body } = request;
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    match connection.sender.send_request(request).await {
        Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => Err(ExchangeError::Switched),
        Ok(response) => Ok(Answer { response, connection }),
        Err(error) if connection.read.load(Ordering::Acquire) == before => Err(ExchangeError::Closed(error)),
        Err(error) => Err(ExchangeError::Malformed(error)),
    }
}

impl Outgoing {
    /// The same request again, when its body is held whole.
    fn copy(&self) -> Option<Self> {
        Some(Self {
            method: self.method.clone(),
            uri: self.uri.clone(),
            headers: self.headers.clone(),
            body: self.body.copy()?,
        })
    }
}

impl Answer {
    /// The head, and what is left of the body.
    pub(crate) fn parts(&self) -> (&Response<Incoming>, &Incoming) {
        (&self.response, self.response.body())
    }

    /// The next piece of the body; `None` at its end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, hyper::Error> {
        use http_body_util::BodyExt as _;
        while let Some(frame) = self.response.body_mut().frame().await {
            match frame?.into_data() {
                Ok(data) if !data.is_empty() => return Ok(Some(data)),
                // Trailers do not pass.
                _ => {}
            }
        }
        Ok(None)
    }
}
