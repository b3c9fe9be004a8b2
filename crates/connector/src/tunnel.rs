//! One tunnel: the connection to a gateway shard, and the driver of the engine in crate `tunnel`.
//!
//! The engine stands behind a lock that only tasks of one thread take. Tasks of requests call it
//! directly and then wake the driver, which writes what has gathered in one go.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use proto::id::Thumbprint;
use proto::limits;
use proto::link::{FromGateway, TUNNEL_ALPN};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::client::TlsStream;
use tunnel::{Config, ConnectorSide, ControlError, Event, LostReason, StreamId, goodbye};

use crate::peer::DialError;
use crate::stream::{Gone, RequestStream};

/// Time for the gateway's control Hello, which names its shard, after the handshake.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest control message taken from a gateway: 256 events or a few thousand counters.
const GATEWAY_MESSAGE_BYTES: usize = 2 * limits::LINK_MESSAGE_BYTES;
/// Bytes read from the connection at once.
const READ_SIZE: usize = 64 * 1024;

/// A tunnel as everybody but its driver sees it.
#[derive(Debug)]
pub(crate) struct Tunnel {
    shared: Mutex<Shared>,
    changed: Notify,
}

/// The engine and what it has delivered.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The engine.
    pub(crate) side: ConnectorSide,
    streams: HashMap<StreamId, Incoming>,
    closed: Option<Ended>,
}

/// What came for a request and was not yet taken. The engine's credit bounds it.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// Of the body.
    pub(crate) data: BytesMut,
    /// The body is complete.
    pub(crate) ended: bool,
    changed: Arc<Notify>,
}

/// Why a tunnel is over, or never was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    /// It was not made.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The other side does not speak our protocol.
    #[error("what answers there is not a gateway of this program")]
    NotAGateway,
    /// No control Hello came.
    #[error("the gateway did not say which shard it is")]
    NoGreeting,
    /// The connection failed.
    #[error("the connection to the gateway failed")]
    Io(#[source] io::Error),
    /// The engine ended it.
    #[error(transparent)]
    Lost(LostReason),
    /// The site withdrew the gateway's certificate.
    #[error("the site has withdrawn the gateway's certificate")]
    Withdrawn,
    /// The site does not list the gateway any more.
    #[error("the gateway is not listed any more")]
    NotListed,
}

/// What the driver does with what comes out of a tunnel.
pub(crate) trait Handler: Send {
    /// A request. The task runs until the tunnel is over.
    fn request(&mut self, stream: RequestStream, head: Bytes, no_body: bool, tasks: &mut JoinSet<()>);
    /// A control message; `false` ends the tunnel as one that does not speak our protocol.
    fn control(&mut self, message: FromGateway) -> bool;
    /// The gateway takes no new requests here.
    fn leaving(&mut self, text: &str);
}

impl Tunnel {
    /// A tunnel over a connection that was just made, with at most `max_requests` under way.
    pub(crate) fn new(max_requests: u32) -> Arc<Self> {
        let config = Config {
            max_streams: max_requests,
            // What a gateway reports is small; one in the wrong hands shall not fill this host's memory.
            max_control: GATEWAY_MESSAGE_BYTES,
            // A control message is JSON within which the signed document is a JSON text: its quotes double.
            control_queue: 2 * limits::SNAPSHOT_BYTES,
            ..Config::default()
        };
        let side = ConnectorSide::new(config, std::time::Instant::now());
        let shared = Shared { side, streams: HashMap::new(), closed: None };
        Arc::new(Self { shared: Mutex::new(shared), changed: Notify::new() })
    }

    /// Asks the gateway for no new requests; those under way finish, then the tunnel ends.
    pub(crate) fn goodbye(&self, text: &str) {
        self.lock().side.goodbye(goodbye::STOPPING, text);
        self.wake();
    }

    /// Ends the tunnel at once, with everything that is under way.
    pub(crate) fn close(&self, why: Ended) {
        self.lock().closed = Some(why);
        self.wake();
    }

    /// Sends a control message to the gateway.
    pub(crate) fn send_control(&self, message: Bytes) -> Result<(), ControlError> {
        let outcome = self.lock().side.send_control(message);
        self.wake();
        outcome
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the driver look at the engine.
    pub(crate) fn wake(&self) {
        self.changed.notify_one();
    }
}

impl Shared {
    /// What has come for a request.
    pub(crate) fn stream(&mut self, id: StreamId) -> Result<&mut Incoming, Gone> {
        self.streams.get_mut(&id).ok_or(Gone)
    }

    /// Nobody takes any more of this request's body.
    pub(crate) fn forget(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.remove(&id) {
            self.side.consumed(id, stream.data.len());
        }
    }

    fn receive(&mut self, id: StreamId, bytes: &[u8], end: bool) {
        match self.streams.get_mut(&id) {
            Some(stream) => {
                stream.data.extend_from_slice(bytes);
                stream.ended |= end;
                stream.changed.notify_waiters();
            }
            // The answer is complete already and the rest of the body is of no use.
            None => self.side.consumed(id, bytes.len()),
        }
    }

    fn close(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.remove(&id) {
            stream.changed.notify_waiters();
        }
    }
}

/// Certificate of the gateway at the other end of `tls`, if that is a gateway at all.
pub(crate) fn peer_of(tls: &TlsStream<TcpStream>) -> Result<Thumbprint, Ended> {
    let connection = tls.get_ref().1;
    if connection.alpn_protocol() != Some(TUNNEL_ALPN) {
        return Err(Ended::NotAGateway);
    }
    let leaf = connection.peer_certificates().and_then(<[_]>::first).ok_or(Ended::NotAGateway)?;
    Ok(Thumbprint::of(leaf))
}

/// Drives the tunnel until it is over. Requests under way end with it.
pub(crate) async fn drive(tunnel: Arc<Tunnel>, tls: TlsStream<TcpStream>, handler: impl Handler) -> Ended {
    let (reader, writer) = tokio::io::split(tls);
    let mut driver = Driver {
        tunnel,
        reader,
        writer,
        handler,
        tasks: JoinSet::new(),
        input: BytesMut::with_capacity(READ_SIZE),
        output: BytesMut::new(),
        unflushed: false,
        greeted: false,
        greeting_by: Instant::now() + GREETING_TIMEOUT,
    };
    let ended = driver.run().await;
    driver.tasks.abort_all();
    driver.farewell().await;
    ended
}

struct Driver<H> {
    tunnel: Arc<Tunnel>,
    reader: ReadHalf<TlsStream<TcpStream>>,
    writer: WriteHalf<TlsStream<TcpStream>>,
    handler: H,
    tasks: JoinSet<()>,
    input: BytesMut,
    output: BytesMut,
    /// TLS may hold back records until it is told to flush.
    unflushed: bool,
    greeted: bool,
    greeting_by: Instant,
}

/// What the loop does after a look at the engine.
enum Next {
    Wait { until: Option<std::time::Instant> },
    End(Ended),
}

impl<H: Handler> Driver<H> {
    async fn run(&mut self) -> Ended {
        loop {
            let until = match self.look() {
                Next::Wait { until } => until,
                Next::End(ended) => return ended,
            };
            // Everything is written: whoever says goodbye may leave.
            let nothing_to_write = self.output.is_empty() && !self.unflushed;
            if nothing_to_write && self.is_finished() {
                return Ended::Lost(LostReason::Finished);
            }
            let deadline = until.map_or(self.greeting_by, Instant::from_std);
            let deadline = if self.greeted { deadline } else { deadline.min(self.greeting_by) };
            let writer = &mut self.writer;
            let (output, unflushed) = (&mut self.output, &mut self.unflushed);
            let write = async {
                if output.is_empty() {
                    writer.flush().await?;
                    *unflushed = false;
                } else {
                    writer.write_buf(output).await?;
                    *unflushed = true;
                }
                Ok::<_, io::Error>(())
            };
            tokio::select! {
                read = self.reader.read_buf(&mut self.input) => match read {
                    Ok(0) => self.tunnel.lock().side.transport_closed(),
                    Ok(_) => self.receive(),
                    Err(error) => return Ended::Io(error),
                },
                written = write, if !nothing_to_write => if let Err(error) = written {
                    return Ended::Io(error);
                },
                () = self.tunnel.changed.notified() => {}
                () = sleep_until(deadline) => {
                    // A process that was stopped for a while must not take its own absence for the peer's:
                    // what has arrived is read before anybody is given up.
                    match self.reader.read_buf(&mut self.input).now_or_never() {
                        Some(Ok(length)) if length > 0 => self.receive(),
                        _ => self.expire(),
                    }
                }
                Some(_) = self.tasks.join_next(), if !self.tasks.is_empty() => {}
            }
        }
    }

    fn receive(&mut self) {
        let now = std::time::Instant::now();
        // An error is the engine's last event too.
        let _ = self.tunnel.lock().side.receive_bytes(now, &self.input);
        self.input.clear();
    }

    fn expire(&mut self) {
        self.tunnel.lock().side.expire(std::time::Instant::now());
    }

    fn is_finished(&self) -> bool {
        let shared = self.tunnel.lock();
        shared.side.is_draining() && shared.side.is_idle()
    }

    /// Takes everything that the engine has for us.
    fn look(&mut self) -> Next {
        if !self.greeted && Instant::now() >= self.greeting_by {
            return Next::End(Ended::NoGreeting);
        }
        // The guard must not live in the loop: handlers take the lock themselves.
        while let Some(event) = self.next_event() {
            if let Some(ended) = self.handle(event) {
                return Next::End(ended);
            }
        }
        let mut shared = self.tunnel.lock();
        if let Some(ended) = shared.closed.take() {
            return Next::End(ended);
        }
        if shared.side.next_bytes(&mut self.output) > 0 && !shared.streams.is_empty() {
            // Writing frees room; the engine may have told so.
            drop(shared);
            while let Some(event) = self.next_event() {
                if let Some(ended) = self.handle(event) {
                    return Next::End(ended);
                }
            }
            shared = self.tunnel.lock();
        }
        Next::Wait { until: shared.side.next_deadline() }
    }

    fn next_event(&self) -> Option<Event> {
        self.tunnel.lock().side.next_event()
    }

    fn handle(&mut self, event: Event) -> Option<Ended> {
        match event {
            // The engine's hello says nothing to us; a goodbye may answer our own.
            Event::Hello(_) | Event::Goodbye { code: goodbye::AGREED, .. } => {}
            Event::Head { stream, head, end } => self.open(stream, head, end),
            Event::Data { stream, bytes, end } => self.tunnel.lock().receive(stream, &bytes, end),
            Event::Reset { stream, .. } => self.tunnel.lock().close(stream),
            Event::Writable(stream) => {
                if let Ok(incoming) = self.tunnel.lock().stream(stream) {
                    incoming.changed.notify_waiters();
                }
            }
            Event::Control(message) => return self.control(&message),
            Event::Goodbye { text, .. } => self.handler.leaving(&text),
            Event::Lost(reason) => return Some(Ended::Lost(reason)),
        }
        None
    }

    fn open(&mut self, id: StreamId, head: Bytes, end: bool) {
        let changed = Arc::new(Notify::new());
        let incoming = Incoming { data: BytesMut::new(), ended: end, changed: Arc::clone(&changed) };
        self.tunnel.lock().streams.insert(id, incoming);
        let stream = RequestStream::new(Arc::clone(&self.tunnel), id, changed);
        self.handler.request(stream, head, end, &mut self.tasks);
    }

    fn control(&mut self, message: &[u8]) -> Option<Ended> {
        // A message that a later version added is not for us.
        let Ok(message) = serde_json::from_slice::<FromGateway>(message) else { return None };
        let is_hello = matches!(message, FromGateway::Hello { .. });
        // Once, and before everything else.
        if is_hello == self.greeted {
            return Some(Ended::NotAGateway);
        }
        self.greeted = true;
        (!self.handler.control(message)).then_some(Ended::NotAGateway)
    }

    /// Writes what the engine still has to say, for a moment, and closes.
    async fn farewell(&mut self) {
        const MOMENT: Duration = Duration::from_millis(200);
        self.tunnel.lock().side.next_bytes(&mut self.output);
        let close = async {
            self.writer.write_all(&self.output).await?;
            self.writer.shutdown().await
        };
        // Whoever is gone does not read it.
        let _ = tokio::time::timeout(MOMENT, close).await;
        let mut shared = self.tunnel.lock();
        shared.side.transport_closed();
        let ids: Vec<_> = shared.streams.keys().copied().collect();
        for id in ids {
            shared.close(id);
        }
    }
}
