//! Sockets that are listened on, and the loop that takes what comes.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{HandshakeKind, ServerConfig};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, info, warn};

use crate::drain::Drain;
use crate::metrics::{Counter, HANDSHAKE_BOUNDS, Histogram};

/// Connections that the kernel holds until we take them. Beyond it the kernel lets new ones try again, so
/// it must outlast a busy moment, not an outage.
pub const BACKLOG: u32 = 1024;

/// Time a client has for its TLS handshake. Devices on poor lines need two or three seconds; whoever is
/// slower holds a place that others want.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

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
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(BACKLOG).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// How many connections may be open at once. Clones share one count, so that the shards of a listener have
/// one cap.
#[derive(Clone, Debug)]
pub struct ConnectionCap {
    places: Arc<Semaphore>,
    connections: usize,
    counts: Arc<ConnectionCounts>,
}

impl ConnectionCap {
    /// At most `connections` at once (and never more than tokio can count, some 2^60).
    pub fn new(connections: usize) -> Self {
        let connections = connections.min(Semaphore::MAX_PERMITS);
        Self { places: Arc::new(Semaphore::new(connections)), connections, counts: Arc::default() }
    }

    /// Places that are free now.
    pub fn free(&self) -> usize {
        self.places.available_permits()
    }

    /// Places that are taken now.
    pub fn taken(&self) -> usize {
        self.connections.saturating_sub(self.free())
    }

    /// What became of the connections that came.
    pub fn counts(&self) -> &ConnectionCounts {
        &self.counts
    }
}

/// What became of connections since the start.
#[derive(Debug)]
pub struct ConnectionCounts {
    /// Taken.
    pub accepted: Counter,
    /// Closed at once because all places were taken.
    pub refused_at_cap: Counter,
    /// Closed at once because their peer was not admitted.
    pub not_admitted: Counter,
    /// Handshakes that were made in full.
    pub handshakes_full: Counter,
    /// Handshakes that resumed an earlier session.
    pub handshakes_resumed: Counter,
    /// Handshakes that failed.
    pub handshakes_failed: Counter,
    /// Handshakes that were not finished in time.
    pub handshakes_late: Counter,
    /// How long those took that were made.
    pub handshake_time: Histogram,
}

impl Default for ConnectionCounts {
    fn default() -> Self {
        Self {
            accepted: Counter::default(),
            refused_at_cap: Counter::default(),
            not_admitted: Counter::default(),
            handshakes_full: Counter::default(),
            handshakes_resumed: Counter::default(),
            handshakes_failed: Counter::default(),
            handshakes_late: Counter::default(),
            handshake_time: Histogram::new(HANDSHAKE_BOUNDS),
        }
    }
}

impl ConnectionCounts {
    fn handshake(&self, tls: &rustls::ServerConnection, took: Duration) {
        match tls.handshake_kind() {
            Some(HandshakeKind::Resumed) => self.handshakes_resumed.count(),
            _ => self.handshakes_full.count(),
        }
        self.handshake_time.observe(took);
    }
}

/// Whether someone may connect at all, asked before any work is done for them.
pub type Admit = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// What an accept loop allows.
#[derive(Clone)]
pub struct AcceptOptions {
    /// Connections at once, handshakes included. One above is closed at once: refusing early is kinder than
    /// silence.
    pub cap: ConnectionCap,
    /// Longest TLS handshake.
    pub handshake_timeout: Duration,
    /// Asked about each peer's address; whoever is not admitted is closed without an answer.
    pub admit: Option<Admit>,
}

impl AcceptOptions {
    /// At most `connections`, handshakes within [`HANDSHAKE_TIMEOUT`], from everywhere.
    pub fn new(connections: usize) -> Self {
        Self { cap: ConnectionCap::new(connections), handshake_timeout: HANDSHAKE_TIMEOUT, admit: None }
    }
}

/// Takes TCP connections until `drain` begins and runs `handler` for each, as a task of the drain.
///
/// The handler gets the peer's address, an IPv4 one also where it came through an IPv6 socket, and should end
/// soon after the drain began.
pub async fn serve_plain<H, F>(listener: TcpListener, options: AcceptOptions, drain: Drain, handler: H)
where
    H: Fn(TcpStream, SocketAddr) -> F + Send + Sync,
    F: Future<Output = ()> + Send + 'static,
{
    let start = |stream, peer, place: OwnedSemaphorePermit| {
        let connection = handler(stream, peer);
        drain.spawn(async move {
            connection.await;
            drop(place);
        });
    };
    accept_each(listener, &options, &drain, start).await;
}

/// The same with TLS: `handler` gets those that made the handshake in time.
pub async fn serve_tls<H, F>(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    options: AcceptOptions,
    drain: Drain,
    handler: H,
) where
    H: Fn(TlsStream<TcpStream>, SocketAddr) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let acceptor = TlsAcceptor::from(config);
    let start = |stream, peer, place: OwnedSemaphorePermit| {
        let handshake = Box::pin(timeout(options.handshake_timeout, acceptor.accept(stream)));
        let handler = handler.clone();
        let (counts, began) = (Arc::clone(&options.cap.counts), Instant::now());
        // Handshake and handler are boxed apart, so that a connection is never larger than what it is doing: most
        // do nothing, and there are tens of thousands.
        drain.spawn(async move {
            match handshake.await {
                Ok(Ok(stream)) => {
                    counts.handshake(stream.get_ref().1, began.elapsed());
                    Box::pin(handler(stream, peer)).await;
                }
                Ok(Err(error)) => {
                    counts.handshakes_failed.count();
                    debug!(%peer, %error, "handshake failed");
                }
                Err(_) => {
                    counts.handshakes_late.count();
                    debug!(%peer, "handshake not finished in time");
                }
            }
            drop(place);
        });
    };
    accept_each(listener, &options, &drain, start).await;
}

/// Where connections come from; a test puts its own in place of a listener.
trait Incoming: Send + Sync {
    fn next(&self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send;
}

impl Incoming for TcpListener {
    async fn next(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.accept().await
    }
}

async fn accept_each(
    incoming: impl Incoming,
    options: &AcceptOptions,
    drain: &Drain,
    start: impl Fn(TcpStream, SocketAddr, OwnedSemaphorePermit),
) {
    let mut troubled = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = drain.started() => return,
            accepted = incoming.next() => accepted,
        };
        match accepted {
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
            }
        }
    }
}

fn admit(
    stream: TcpStream,
    peer: SocketAddr,
    options: &AcceptOptions,
    start: impl Fn(TcpStream, SocketAddr, OwnedSemaphorePermit),
) {
    if options.admit.as_ref().is_some_and(|admit| !admit(peer.ip())) {
        options.cap.counts.not_admitted.count();
        debug!(%peer, "connection not admitted");
        return;
    }
    let Ok(place) = Arc::clone(&options.cap.places).try_acquire_owned() else {
        options.cap.counts.refused_at_cap.count();
        debug!(%peer, "connection refused, all places are taken");
        return;
    };
    // Answers are written whole, so waiting for more to send with them only costs time. It fails only on a
    // connection that is dead already, which the handler will notice.
    let _ = stream.set_nodelay(true);
    options.cap.counts.accepted.count();
    start(stream, peer, place);
}

/// Errors of the connection that was about to be taken, not of the listener.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(error.kind(), K::ConnectionAborted | K::ConnectionReset | K::ConnectionRefused | K::Interrupted)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::drain::Finished;

    const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::from_std(bind(LOOPBACK).unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    async fn echo(mut stream: TcpStream, _peer: SocketAddr) {
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    }

    async fn is_served(stream: &mut TcpStream) -> bool {
        let mut byte = [0];
        stream.write_all(b"x").await.is_ok() && stream.read_exact(&mut byte).await.is_ok()
    }

    #[test]
    fn an_address_in_use_is_named_with_the_reason() {
        let first = bind(LOOPBACK).unwrap();
        let address = first.local_addr().unwrap();
        let error = bind(address).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot listen on {address}: another program has it"));
    }

    #[test]
    fn all_shards_listen_on_the_port_that_the_first_one_got() {
        let listeners = bind_shards(LOOPBACK, 3).unwrap();
        let ports: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        assert_eq!(ports.len(), 3);
        assert!(ports[0] != 0 && ports.iter().all(|port| *port == ports[0]), "{ports:?}");
        assert_eq!(bind_shards(LOOPBACK, 0).unwrap().len(), 1);
    }

    #[tokio::test]
    async fn connections_above_the_cap_are_closed_and_places_come_back() {
        let (listener, address) = listener();
        let (drain, options) = (Drain::new(), AcceptOptions::new(1));
        drain.spawn(serve_plain(listener, options.clone(), drain.clone(), echo));

        let mut first = TcpStream::connect(address).await.unwrap();
        assert!(is_served(&mut first).await);
        let mut second = TcpStream::connect(address).await.unwrap();
        assert!(!is_served(&mut second).await, "the only place is taken");
        drop(first);
        while options.cap.free() == 0 {
            tokio::task::yield_now().await;
        }
        let mut third = TcpStream::connect(address).await.unwrap();
        assert!(is_served(&mut third).await);
    }

    #[tokio::test]
    async fn whoever_is_not_admitted_is_closed_unanswered() {
        let (listener, address) = listener();
        let mut options = AcceptOptions::new(10);
        options.admit = Some(Arc::new(|peer: IpAddr| !peer.is_loopback()));
        let drain = Drain::new();
        drain.spawn(serve_plain(listener, options, drain.clone(), echo));
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert!(!is_served(&mut stream).await);
    }

    #[tokio::test]
    async fn a_drain_ends_the_loop_and_closes_the_listener() {
        let (listener, address) = listener();
        let drain = Drain::new();
        drain.spawn(serve_plain(listener, AcceptOptions::new(10), drain.clone(), echo));
        drain.begin(Duration::from_secs(5));
        assert_eq!(drain.finish().await, Finished::Clean);
        assert!(TcpStream::connect(address).await.is_err());
    }

    /// Fails as a process without free descriptors does, and then works.
    struct Starved {
        listener: TcpListener,
        failures: AtomicUsize,
    }

    impl Incoming for Starved {
        async fn next(&self) -> io::Result<(TcpStream, SocketAddr)> {
            const EMFILE: i32 = 24;
            let failed = self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
            if failed.is_ok() {
                return Err(io::Error::from_raw_os_error(EMFILE));
            }
            self.listener.accept().await
        }
    }

    #[tokio::test]
    async fn the_loop_outlives_a_want_of_descriptors() {
        let (listener, address) = listener();
        let starved = Starved { listener, failures: AtomicUsize::new(2) };
        let drain = Drain::new();
        let tasks = drain.clone();
        drain.spawn(async move {
            let start = |stream, peer, place: OwnedSemaphorePermit| {
                tasks.spawn(async move {
                    echo(stream, peer).await;
                    drop(place);
                });
            };
            accept_each(starved, &AcceptOptions::new(1), &tasks, start).await;
        });
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert!(is_served(&mut stream).await);
    }
}
