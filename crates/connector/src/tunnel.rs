//! One tunnel: the connection to a gateway shard, as everybody but its driver sees it.
//!
//! The engine of crate `tunnel` stands behind a lock that only tasks of one thread take. Tasks of requests
//! call it directly and then wake the driver, which writes what has gathered in one go.

mod driver;

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use proto::id::Thumbprint;
use proto::limits;
use proto::link::{FromGateway, TUNNEL_ALPN};
use tunnel::{Config, ConnectorSide, ControlError, Event, LostReason, StreamId, StreamMap, goodbye};

use crate::peer::{DialError, PeerStream};
use crate::stream::{Gone, RequestStream};

pub(crate) use driver::drive;

/// Time for the gateway's control Hello, which names its shard, after the handshake.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest control message taken from a gateway: 256 events or a few thousand counters.
const GATEWAY_MESSAGE_BYTES: usize = 2 * limits::LINK_MESSAGE_BYTES;

/// A tunnel as everybody but its driver sees it.
#[derive(Debug)]
pub(crate) struct Tunnel {
    shared: Mutex<Shared>,
    driver: AtomicWaker,
}

/// The engine and what it has delivered.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The engine.
    pub(crate) side: ConnectorSide,
    streams: StreamMap<Incoming>,
    closed: Option<Ended>,
}

/// What came for a request and was not yet taken. The engine's credit bounds it.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    /// Of the body; none is empty.
    pub(crate) parts: VecDeque<Bytes>,
    /// The body is complete.
    pub(crate) ended: bool,
    /// The request's task, if it waits for anything of this. One place is enough: whatever it waits for, it is one
    /// task, and looks at everything when it is woken.
    task: Option<Waker>,
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
    /// A request. Its task ends soon after the stream is gone, as it is when the tunnel is over.
    fn request(&mut self, stream: RequestStream, head: Bytes, no_body: bool);
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
        let shared = Shared { side, streams: StreamMap::default(), closed: None };
        Arc::new(Self { shared: Mutex::new(shared), driver: AtomicWaker::new() })
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

    /// Has the driver look at the engine: when there is something to write, and else in vain.
    pub(crate) fn wake(&self) {
        self.driver.wake();
    }
}

impl Shared {
    /// What has come for a request.
    pub(crate) fn stream(&mut self, id: StreamId) -> Result<&mut Incoming, Gone> {
        self.streams.get_mut(&id).ok_or(Gone)
    }

    /// Nobody takes any more of this request's body. Whether the gateway is to be told now.
    pub(crate) fn forget(&mut self, id: StreamId) -> bool {
        let Some(stream) = self.streams.remove(&id) else { return false };
        self.side.consumed(id, stream.parts.iter().map(Bytes::len).sum())
    }

    /// The next event that is not about a request under way alone; those are dealt with here.
    fn next_event(&mut self) -> Option<Event> {
        loop {
            match self.side.next_event()? {
                Event::Data { stream, bytes, end } => self.receive(stream, bytes, end),
                Event::Reset { stream, .. } => self.close(stream),
                Event::Writable(stream) => {
                    if let Ok(incoming) = self.stream(stream) {
                        incoming.wake();
                    }
                }
                other => return Some(other),
            }
        }
    }

    fn receive(&mut self, id: StreamId, bytes: Bytes, end: bool) {
        let Some(stream) = self.streams.get_mut(&id) else {
            // The answer is complete already and the rest of the body is of no use. The driver, who brought it,
            // writes next.
            self.side.consumed(id, bytes.len());
            return;
        };
        if !bytes.is_empty() {
            stream.parts.push_back(bytes);
        }
        stream.ended |= end;
        stream.wake();
    }

    fn close(&mut self, id: StreamId) {
        if let Some(mut stream) = self.streams.remove(&id) {
            stream.wake();
        }
    }

    fn close_all(&mut self) {
        self.streams.drain().for_each(|(_, mut stream)| stream.wake());
    }
}

impl Incoming {
    /// Has the calling task woken by the next change.
    pub(crate) fn wait(&mut self, task: &Waker) {
        match &mut self.task {
            Some(known) => known.clone_from(task),
            None => self.task = Some(task.clone()),
        }
    }

    fn wake(&mut self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }
}

/// Certificate of the gateway at the other end of `tls`, if that is a gateway at all.
pub(crate) fn peer_of(tls: &PeerStream) -> Result<Thumbprint, Ended> {
    let connection = tls.get_ref().1;
    if connection.alpn_protocol() != Some(TUNNEL_ALPN) {
        return Err(Ended::NotAGateway);
    }
    let leaf = connection.peer_certificates().and_then(<[_]>::first).ok_or(Ended::NotAGateway)?;
    Ok(Thumbprint::of(leaf))
}
