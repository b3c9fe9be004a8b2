//! HTTP/1.1 to the roles inside, over connections that are kept. One client for each traffic
//! thread: a connection never leaves the runtime that it was opened on.

mod answer;
mod chunked;
mod io;
mod patience;
mod tls;
mod upload;

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;
use proto::id::Thumbprint;
use proto::trust::SiteRoot;
use runtime::Clock;
use runtime::tls::OwnCertificate;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, timeout_at};

pub(crate) use answer::{Answer, AnswerError, RoleAnswer};
pub(crate) use io::RoleIo;
pub(crate) use patience::Patience;
pub(crate) use upload::{Sender, Split};

use answer::Reader;
use tls::{Dialled, Dialler};

use crate::counters::RoleConnections;
use crate::peer::{DialError, PeerStream, dial_tcp};
use crate::role::{Role, RoleTls};
use crate::role_certificate::RoleCertificates;

/// Connections without a request that are kept for one role: as many as a tunnel has requests under way at most, by
/// default. With fewer, a thread that has more under way than it may keep closes the rest after each answer and pays
/// a handshake for each of the next requests, which costs more than the request. What a quiet time leaves over ends
/// after [`KEPT_TIME`]; the role bounds them all by its own cap.
const KEPT_LIMIT: usize = 512;
/// How long a connection is kept without a request. Shorter than the idle time of our management point, so that
/// it is usually we who close, and a kept connection is rarely stale.
const KEPT_TIME: Duration = Duration::from_secs(20);
/// Time between two looks for connections that were kept too long.
const PRUNE_INTERVAL: Duration = Duration::from_secs(1);

/// Kept connections, and what is needed to open more.
#[derive(Debug)]
pub(crate) struct RoleClient {
    root: Arc<SiteRoot>,
    certificates: Arc<RoleCertificates>,
    clock: Clock,
    kept: Mutex<Kept>,
    /// What became of connections, of all clients of a kind together.
    pub(crate) counts: Arc<RoleConnections>,
}

/// By who is at their two ends, whoever was asked last first: a site has a handful of roles, and one that has a
/// thousand has a few busy ones.
#[derive(Debug, Default)]
struct Kept(Vec<Ends>);

/// What is kept for one pair of ends.
#[derive(Debug)]
struct Ends {
    party: Party,
    /// Those without a request, the latest last.
    connections: Vec<Connection>,
    /// How more are opened, where they have TLS, and when one was last.
    dialler: Option<(Arc<Dialler>, Instant)>,
}

/// Who is at the two ends of a connection. One that was made under another trust, or with another certificate
/// of ours, is none of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Party {
    /// Base URL of the role.
    base: Arc<str>,
    /// By what its certificate was judged, if by anything.
    trust: Option<Thumbprint>,
    /// What it was shown, if it asked for anything.
    shown: Option<Thumbprint>,
}

/// A connection with no request on it.
#[derive(Debug)]
struct Connection {
    io: RoleIo,
    /// Empty; kept for its memory.
    buffer: BytesMut,
    patience: Patience,
    idle_since: Instant,
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
    /// It answered nothing, or no HTTP/1.1.
    #[error("the role gave no proper answer")]
    Answer(#[source] AnswerError),
    /// It took too long.
    #[error("the role did not answer in time")]
    Late,
}

impl RoleClient {
    /// A client without connections. `root` judges roles in enhanced HTTP; of `certificates` one is shown to
    /// roles that demand it.
    pub(crate) fn new(root: Arc<SiteRoot>, certificates: Arc<RoleCertificates>, clock: Clock) -> Self {
        Self { root, certificates, clock, kept: Mutex::default(), counts: Arc::default() }
    }

    /// Another client of the same kind, for another thread.
    pub(crate) fn another(&self) -> Self {
        let another = Self::new(Arc::clone(&self.root), Arc::clone(&self.certificates), self.clock.clone());
        Self { counts: Arc::clone(&self.counts), ..another }
    }

    /// Sends a request, `bytes` being the whole of it, and waits for the head of the answer. `is_head`: the
    /// answer has no body by the request's method. Dropping the future closes the connection, and so does `until`.
    ///
    /// The request may go out on a kept connection; when that one proves to be closed before a byte of an
    /// answer came, it is sent once more on a fresh one. That is safe because every handler of a management
    /// point is idempotent.
    pub(crate) async fn exchange(
        &self,
        role: &Role,
        bytes: &[u8],
        is_head: bool,
        until: Instant,
    ) -> Result<(Answer<RoleIo>, Party), ExchangeError> {
        let own = self.certificates.of_role(role);
        let party = Party::new(role, own.as_deref());
        if let Some(kept) = self.take(&party) {
            self.counts.reused.count();
            match kept.exchange(bytes, is_head, until).await {
                // No byte came, so the role most likely had closed it: once more.
                Err(ExchangeError::Answer(AnswerError::Closed)) => self.counts.stale.count(),
                outcome => return Ok((outcome?, party)),
            }
        }
        // Rare, and far larger than the rest: on the heap, so that the tasks of most requests are small.
        let fresh = Box::pin(async {
            let io = self.open(role, own.as_deref(), &party).await?;
            Connection::new(io, BytesMut::new(), Patience::default()).exchange(bytes, is_head, until).await
        });
        Ok((timeout_at(until, fresh).await.map_err(|_| ExchangeError::Late)??, party))
    }

    /// A fresh connection in two halves, for a request that is sent while its answer may come already. Never a
    /// kept one, because such a request could not be sent again.
    pub(crate) async fn open_split(&self, role: &Role) -> Result<(Sender, Split), ExchangeError> {
        let own = self.certificates.of_role(role);
        let party = Party::new(role, own.as_deref());
        Ok(upload::split(self.open(role, own.as_deref(), &party).await?, party))
    }

    /// Gives back the connection of an answer whose body was read to its end, and whose request was
    /// written to its end.
    pub(crate) fn keep(&self, answer: Answer<RoleIo>, party: &Party) {
        if let Some((io, buffer, patience)) = answer.into_reusable() {
            self.put_back(Connection::new(io, buffer, patience), party);
        }
    }

    /// Closes, until dropped, the connections that were kept too long or that their role has closed: also
    /// while no request comes, which is when a role that restarts would find all of them half-closed.
    pub(crate) async fn keep_up(&self) {
        let mut tick = tokio::time::interval(PRUNE_INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let now = tick.tick().await;
            self.lock().prune(now);
        }
    }

    fn put_back(&self, connection: Connection, party: &Party) {
        let mut kept = self.lock();
        let connections = &mut kept.of_or_new(party).connections;
        if connections.len() < KEPT_LIMIT {
            self.counts.kept.count();
            connections.push(connection);
        }
    }

    /// A kept connection that seems alive.
    fn take(&self, party: &Party) -> Option<Connection> {
        loop {
            // The latest is the one most likely still open.
            let mut connection = self.lock().of(party)?.connections.pop()?;
            if connection.idle_since.elapsed() < KEPT_TIME && connection.is_silent() {
                return Some(connection);
            }
        }
    }

    async fn open(
        &self,
        role: &Role,
        own: Option<&OwnCertificate>,
        party: &Party,
    ) -> Result<RoleIo, ExchangeError> {
        self.counts.opened.count();
        Ok(match &role.tls {
            Some(tls) => RoleIo::Tls(self.open_tls(role, tls, own, party).await?),
            None => RoleIo::Plain(dial_tcp(&role.address).await.map_err(ExchangeError::Dial)?),
        })
    }

    /// A connection to a role behind TLS, its certificate judged. Ours is shown to a role that demands one,
    /// and nothing to any other: a connection point has no rights at a role (R61).
    async fn open_tls(
        &self,
        role: &Role,
        tls: &RoleTls,
        own: Option<&OwnCertificate>,
        party: &Party,
    ) -> Result<Box<PeerStream>, ExchangeError> {
        let new = || Dialler::new(tls, own, &self.root, &self.clock).map_err(ExchangeError::Setup);
        let known = self.lock().dialler(party, Instant::now());
        let dialler = match known {
            Some(dialler) => dialler,
            None => self.share(party, new()?),
        };
        match dialler.dial(&role.address).await.map_err(ExchangeError::Dial)? {
            Dialled::Trusted(stream) => Ok(stream),
            Dialled::OfOldSession => {
                let dialler = new()?;
                let stream = dialler.dial_anew(&role.address).await.map_err(ExchangeError::Dial)?;
                self.share(party, dialler);
                Ok(stream)
            }
        }
    }

    /// Lets all further connections of this party be opened by `dialler`.
    fn share(&self, party: &Party, dialler: Dialler) -> Arc<Dialler> {
        let dialler = Arc::new(dialler);
        self.lock().of_or_new(party).dialler = Some((Arc::clone(&dialler), Instant::now()));
        dialler
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Party {
    fn new(role: &Role, own: Option<&OwnCertificate>) -> Self {
        Self {
            base: Arc::clone(&role.base),
            trust: role.tls.as_ref().map(|tls| tls.trust),
            shown: own.map(|own| Thumbprint::from_bytes(own.leaf().thumbprint_sha256())),
        }
    }
}

impl Connection {
    /// `buffer`: empty.
    fn new(io: RoleIo, buffer: BytesMut, patience: Patience) -> Self {
        Self { io, buffer, patience, idle_since: Instant::now() }
    }

    /// Sends a request and waits for the head of its answer.
    async fn exchange(
        self,
        bytes: &[u8],
        is_head: bool,
        until: Instant,
    ) -> Result<Answer<RoleIo>, ExchangeError> {
        let Self { io, buffer, mut patience, .. } = self;
        let answer = patience.until(until, send(Reader::new(io, buffer), bytes, is_head)).await;
        let mut answer = answer.map_err(|_| ExchangeError::Late)?.map_err(ExchangeError::Answer)?;
        answer.patience = patience;
        Ok(answer)
    }

    /// Neither closed by the role nor with bytes that nobody asked for. Costs no system call while the
    /// runtime has not heard of any.
    fn is_silent(&mut self) -> bool {
        let mut byte = [0];
        let mut buffer = ReadBuf::new(&mut byte);
        let mut context = Context::from_waker(Waker::noop());
        matches!(Pin::new(&mut self.io).poll_read(&mut context, &mut buffer), Poll::Pending)
    }
}

impl Kept {
    /// What is kept for this party, which stands first from now on.
    fn of(&mut self, party: &Party) -> Option<&mut Ends> {
        let place = self.0.iter().position(|ends| ends.party == *party)?;
        self.0.swap(0, place);
        self.0.first_mut()
    }

    fn of_or_new(&mut self, party: &Party) -> &mut Ends {
        let place = self.0.iter().position(|ends| ends.party == *party).unwrap_or_else(|| {
            self.0.push(Ends { party: party.clone(), connections: Vec::new(), dialler: None });
            self.0.len() - 1
        });
        self.0.swap(0, place);
        self.0.first_mut().expect("it was found or put there just now")
    }

    /// How connections of this party are opened, if one was lately.
    fn dialler(&mut self, party: &Party, now: Instant) -> Option<Arc<Dialler>> {
        let (dialler, used) = self.of(party)?.dialler.as_mut()?;
        *used = now;
        Some(Arc::clone(dialler))
    }

    fn prune(&mut self, now: Instant) {
        let is_recent = |since: Instant| now.saturating_duration_since(since) < KEPT_TIME;
        self.0.retain_mut(|ends| {
            ends.connections.retain_mut(|kept| is_recent(kept.idle_since) && kept.is_silent());
            // Its sessions are of use as long as anything goes on between these two.
            let is_dialled = ends.dialler.as_ref().is_some_and(|(_, used)| is_recent(*used));
            is_dialled || !ends.connections.is_empty()
        });
    }
}

async fn send(
    mut reader: Reader<RoleIo>,
    bytes: &[u8],
    is_head: bool,
) -> Result<Answer<RoleIo>, AnswerError> {
    let written = async {
        reader.io.write_all(bytes).await?;
        reader.io.flush().await
    };
    let written = written.await;
    // A role may answer without reading all, and close: what it says counts.
    match (reader.answer(is_head).await, written) {
        (Ok(answer), _) => Ok(answer),
        (Err((AnswerError::Closed | AnswerError::Io(_), reader)), _) if reader.buffer.is_empty() => {
            Err(AnswerError::Closed)
        }
        (Err((error, _)), _) => Err(error),
    }
}
