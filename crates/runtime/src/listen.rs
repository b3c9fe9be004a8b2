//! Sockets that are listened on, and the loop that takes what comes.

mod admission;
mod cap;
mod handshake;
mod turns;

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rustls::ServerConfig;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;
use tracing::{debug, info, warn};

use crate::drain::Drain;
use crate::read_ahead::ReadAhead;
use cap::Place;
use handshake::HandshakeTime;
use turns::Turns;

pub use admission::{Admission, Everybody, Welcome};
pub use cap::{ConnectionCap, ConnectionCounts};

/// Connections that the kernel holds until we take them. Beyond it the kernel lets new ones try again, so
/// it must outlast a busy moment, not an outage.
pub const BACKLOG: u32 = 1024;

/// Time a client has for its TLS handshake. Devices on poor lines need two or three seconds; whoever is
/// slower holds a place that others want.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The same for its first part where most places are taken: three times what a line with loss needs for it.
const HELLO_TIMEOUT_WHEN_SCARCE: Duration = Duration::from_secs(3);

/// Connections that are taken in one go: a millisecond of work. In a flood the kernel drops what waits above
/// [`BACKLOG`], and its peers come again in step, after one second, three and seven.
const ACCEPTED_AT_ONCE: usize = 64;

/// Pause after the system refused to hand over a connection for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An address could not be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}{}", hint(source))]
pub struct BindError {
    /// The address that was asked for.
    pub address: SocketAddr,
    /// What the operating system said.
    pub source: io::Error,
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => ": another program has it",
        io::ErrorKind::PermissionDenied => {
            ": ports below 1024 need CAP_NET_BIND_SERVICE or a socket from systemd"
        }
        io::ErrorKind::AddrNotAvailable => ": no interface of this host has it",
        _ => "",
    }
}

/// Listens on `address`. It is called before any runtime exists, so that all roles bind before one serves;
/// [`TcpListener::from_std`] makes the result tokio's on the runtime that serves it.
pub fn bind(address: SocketAddr) -> Result<std::net::TcpListener, BindError> {
    open(address, false).map_err(|source| BindError { address, source })
}

/// Listens on `address` once for each of `shards` threads (at least one). The kernel spreads connections over
/// them (`SO_REUSEPORT`) and a connection stays where it was put. With port 0 all get the port of the first.
/// Where the system cannot do that, the shards take turns at one socket.
pub fn bind_shards(address: SocketAddr, shards: usize) -> Result<Vec<std::net::TcpListener>, BindError> {
    let failed = |source| BindError { address, source };
    let several = cfg!(unix) && shards > 1;
    let first = open(address, several).map_err(failed)?;
    let bound = first.local_addr().map_err(failed)?;
    let mut listeners = Vec::with_capacity(shards);
    for _ in 1..shards {
        let next = if several { open(bound, true) } else { first.try_clone() };
        listeners.push(next.map_err(failed)?);
    }
    listeners.insert(0, first);
    Ok(listeners)
}

fn open(address: SocketAddr, reuse_port: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // On Unix this lets a restarted process have its port back at once; on Windows it would let others in.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(reuse_port)?;
    #[cfg(not(unix))]
    let _ = reuse_port;
    socket.set_nonblocking(true)?;
    // Answers are written whole, so waiting for more to send with them only costs time. On Linux connections have
    // this from the socket that they came by, which saves a system call for each; elsewhere each is told.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(BACKLOG).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// What an accept loop allows.
#[derive(Debug)]
pub struct AcceptOptions<A = Everybody> {
    /// Connections at once, handshakes included. One above is closed at once: refusing early is kinder than
    /// silence.
    pub cap: ConnectionCap,
    /// Longest TLS handshake, the wait for its first byte included.
    pub handshake_timeout: Duration,
    /// Asked about each peer.
    pub admission: Arc<A>,
}

impl<A> Clone for AcceptOptions<A> {
    fn clone(&self) -> Self {
        Self {
            cap: self.cap.clone(),
            handshake_timeout: self.handshake_timeout,
            admission: Arc::clone(&self.admission),
        }
    }
}

impl AcceptOptions {
    /// At most `connections`, handshakes within [`HANDSHAKE_TIMEOUT`], from everywhere.
    pub fn new(connections: usize) -> Self {
        Self {
            cap: ConnectionCap::new(connections),
            handshake_timeout: HANDSHAKE_TIMEOUT,
            admission: Arc::new(Everybody),
        }
    }

    /// The same, for those only whom `admission` lets in.
    #[must_use]
    pub fn admit<A: Admission>(self, admission: Arc<A>) -> AcceptOptions<A> {
        let Self { cap, handshake_timeout, .. } = self;
        AcceptOptions { cap, handshake_timeout, admission }
    }
}

/// A TLS connection as its handler gets it. Boxed: it has more than a kilobyte, and each future that it is handed
/// on through would keep room for it.
pub type TlsConnection = Box<TlsStream<ReadAhead<TcpStream>>>;

/// Takes TCP connections of a listener that [`bind`] made until `drain` begins and runs `handler` for each, as a task of the drain.
///
/// The handler gets the peer's address, an IPv4 one also where it came through an IPv6 socket, and should end
/// soon after the drain began.
pub async fn serve_plain<A, H, F>(listener: TcpListener, options: AcceptOptions<A>, drain: Drain, handler: H)
where
    A: Admission,
    H: Fn(TcpStream, SocketAddr) -> F + Send + Sync,
    F: Future<Output = ()> + Send + 'static,
{
    let start = |stream, peer, held: Held<A::Pass>| {
        let connection = handler(stream, peer);
        drain.spawn(async move {
            connection.await;
            drop(held);
        });
    };
    accept_each(listener, &options, &drain, start).await;
}

/// The same with TLS: `handler` gets those that made the handshake in time.
pub async fn serve_tls<A, H, F>(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    options: AcceptOptions<A>,
    drain: Drain,
    handler: H,
) where
    A: Admission,
    H: Fn(TlsConnection, SocketAddr) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let turns = Arc::new(Turns::default());
    let start = |stream, peer: SocketAddr, mut held: Held<A::Pass>| {
        let turns = Arc::clone(&turns);
        let patience = handshake_time(options.handshake_timeout, options.cap.is_scarce());
        let (admission, config) = (Arc::clone(&options.admission), Arc::clone(&config));
        let (counts, handler) = (Arc::clone(options.cap.counts()), handler.clone());
        // Handshake and handler are boxed apart, so that a connection is never larger than what it is doing: most
        // do nothing, and there are tens of thousands.
        drain.spawn(async move {
            let admission = admission.as_ref();
            let made = handshake::make(stream, config, patience, &turns, admission, &mut held.pass);
            let made = Box::pin(made).await;
            match made {
                Ok(made) => {
                    counts.handshake(made.stream.get_ref().1, made.took);
                    Box::pin(handler(made.stream, peer)).await;
                }
                Err(failed) => {
                    failed.count(&counts);
                    debug!(%peer, error = %failed, "no handshake");
                }
            }
            drop(held);
        });
    };
    accept_each(listener, &options, &drain, start).await;
}

/// What a connection holds until its end.
struct Held<P> {
    pass: P,
    _place: Place,
}

/// How long a handshake may take, and the wait for its first part. Where places are scarce, whoever connects and
/// says nothing must not keep one for long: clients send their ClientHello in the moment that they are connected.
fn handshake_time(longest: Duration, scarce: bool) -> HandshakeTime {
    let hello = if scarce { longest.min(HELLO_TIMEOUT_WHEN_SCARCE) } else { longest };
    HandshakeTime { hello, whole: longest }
}

/// Where connections come from; a test puts its own in place of a listener.
trait Incoming: Send + Sync {
    /// The next one, when it comes.
    fn next(&self) -> impl Future<Output = Accepted> + Send;

    /// One that waits already.
    fn next_waiting(&self) -> impl Future<Output = Option<Accepted>> + Send;
}

type Accepted = io::Result<(TcpStream, SocketAddr)>;

impl Incoming for TcpListener {
    async fn next(&self) -> Accepted {
        self.accept().await
    }

    async fn next_waiting(&self) -> Option<Accepted> {
        poll_fn(|cx| match self.poll_accept(cx) {
            Poll::Ready(accepted) => Poll::Ready(Some(accepted)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }
}

async fn accept_each<A: Admission>(
    incoming: impl Incoming,
    options: &AcceptOptions<A>,
    drain: &Drain,
    start: impl Fn(TcpStream, SocketAddr, Held<A::Pass>),
) {
    let mut troubled = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = drain.started() => return,
            accepted = incoming.next() => accepted,
        };
        let mut accepted = Some(accepted);
        let mut taken = 0;
        while let Some(one) = accepted.take() {
            match one {
                Ok((stream, peer)) => {
                    if troubled {
                        info!("connections are taken again");
                        troubled = false;
                    }
                    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                    admit(stream, peer, options, &start);
                }
                Err(error) if concerns_one_connection(&error) => {
                    debug!(%error, "connection lost before it was taken");
                }
                Err(error) => {
                    if !troubled {
                        warn!(%error, "connections cannot be taken, trying again");
                        troubled = true;
                    }
                    // The process is out of descriptors or memory and the kernel has no event for "there are some
                    // again"; the waiting connection makes the socket ready all the while, so that without a
                    // pause this loop would take the time that others need to close theirs.
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    break;
                }
            }
            taken += 1;
            if taken < ACCEPTED_AT_ONCE {
                accepted = incoming.next_waiting().await;
            } else {
                // In a flood those who are let in want their turn, too.
                tokio::task::yield_now().await;
            }
        }
    }
}

fn admit<A: Admission>(
    stream: TcpStream,
    peer: SocketAddr,
    options: &AcceptOptions<A>,
    start: impl Fn(TcpStream, SocketAddr, Held<A::Pass>),
) {
    let Some(pass) = options.admission.connected(peer.ip()) else {
        options.cap.counts().not_admitted.count();
        debug!(%peer, "connection not admitted");
        return;
    };
    let Some(place) = options.cap.take() else {
        options.cap.counts().refused_at_cap.count();
        debug!(%peer, "connection refused, all places are taken");
        return;
    };
    if !cfg!(target_os = "linux") {
        // See [`open`].
        let _ = stream.set_nodelay(true);
    }
    options.cap.counts().accepted.count();
    start(stream, peer, Held { pass, _place: place });
}

/// Errors of the connection that was about to be taken, not of the listener.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(error.kind(), K::ConnectionAborted | K::ConnectionReset | K::ConnectionRefused | K::Interrupted)
}

#[cfg(test)]
mod tests;
