//! A gateway's end of tunnels, over the real engine and real TLS.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use proto::bundle::LinkIdentity;
use proto::link::{AnswerHead, FromGateway, RequestHead, TUNNEL_ALPN, ToGateway};
use runtime::Clock;
use runtime::tls::{ClientCertificates, ServerCertificate, ServerTls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tunnel::{Config, Event, GatewaySide, SendError, StreamId};

use crate::pki::own;

/// A gateway; its shards take connections in the order of `order`, over and over.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    /// What came by control messages.
    pub(crate) control: mpsc::UnboundedReceiver<ToGateway>,
    state: Arc<State>,
    task: JoinHandle<()>,
}

struct State {
    tunnels: Mutex<Vec<Arc<Tunnel>>>,
    /// Tunnels accepted, ever; and those that are up.
    counts: watch::Sender<(usize, usize)>,
}

struct Tunnel {
    shard: u16,
    side: Mutex<GatewaySide>,
    streams: Mutex<HashMap<StreamId, mpsc::UnboundedSender<Event>>>,
    wake: Notify,
}

/// What came back for a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Answer(AnswerHead<'static>, Bytes),
    /// Reset before the head.
    Reset(u32),
    /// Reset after the head.
    Cut(AnswerHead<'static>, u32),
}

impl Reply {
    pub(crate) fn answer(self) -> (AnswerHead<'static>, Bytes) {
        let Self::Answer(head, body) = self else { panic!("an answer and not {self:?}") };
        (head, body)
    }

    pub(crate) fn status(self) -> u16 {
        self.answer().0.status
    }
}

/// What a gateway is like.
#[derive(Clone)]
pub(crate) struct Shape {
    pub(crate) shards: u16,
    pub(crate) order: Vec<u16>,
    pub(crate) version: u64,
}

impl Shape {
    pub(crate) fn single() -> Self {
        Self { shards: 1, order: vec![0], version: 0 }
    }
}

impl Gateway {
    pub(crate) async fn start(address: SocketAddr, identity: &LinkIdentity, shape: Shape) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let tls = ServerTls::new(Clock::system(), Arc::new(ServerCertificate::new(own(identity))))
            .client_certificates(ClientCertificates::ProveKeyOnly)
            .alpn([TUNNEL_ALPN])
            .build()
            .unwrap();
        let acceptor = TlsAcceptor::from(tls);
        let state = Arc::new(State { tunnels: Mutex::default(), counts: watch::Sender::new((0, 0)) });
        let (sender, control) = mpsc::unbounded_channel();
        let accepting = Arc::clone(&state);
        let task = tokio::spawn(async move {
            let mut tunnels = JoinSet::new();
            let mut turn = shape.order.iter().cycle();
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, state, sender) = (acceptor.clone(), Arc::clone(&accepting), sender.clone());
                let hello = FromGateway::Hello {
                    shard: *turn.next().unwrap(),
                    shards: shape.shards,
                    version: shape.version,
                };
                tunnels.spawn(async move {
                    if let Ok(tls) = acceptor.accept(tcp).await {
                        serve(state, tls, hello, sender).await;
                    }
                });
            }
        });
        Self { address, control, state, task }
    }

    /// Waits until so many tunnels are up.
    pub(crate) async fn until_tunnels(&self, wanted: usize) {
        self.until(&format!("{wanted} tunnels"), |(_, up)| up == wanted).await;
    }

    pub(crate) async fn until(&self, what: &str, met: impl Fn((usize, usize)) -> bool) {
        let began = Instant::now();
        let mut counts = self.state.counts.subscribe();
        let waited = tokio::time::timeout(Duration::from_secs(10), counts.wait_for(|now| met(*now))).await;
        assert!(waited.is_ok(), "{what} not there within 10 s");
        println!("{what} after {:?}", began.elapsed());
    }

    /// Tunnels accepted so far.
    pub(crate) fn accepted(&self) -> usize {
        self.state.counts.borrow().0
    }

    /// Shards that have a tunnel, in order, one entry a tunnel.
    pub(crate) fn shards(&self) -> Vec<u16> {
        let mut shards: Vec<_> = self.state.tunnels.lock().unwrap().iter().map(|t| t.shard).collect();
        shards.sort_unstable();
        shards
    }

    /// Sends a control message through the first tunnel.
    pub(crate) fn say(&self, message: &FromGateway) {
        self.first().control(message);
    }

    /// Sends a request and waits for everything that comes back.
    pub(crate) async fn ask(&self, head: &RequestHead<'_>, body: &[u8]) -> Reply {
        let exchange = async {
            let mut open = self.open(head, body.is_empty());
            open.send(Bytes::copy_from_slice(body), true).await;
            open.reply().await
        };
        tokio::time::timeout(Duration::from_secs(20), exchange).await.expect("an answer within 20 s")
    }

    /// Opens a stream and sends the head.
    pub(crate) fn open(&self, head: &RequestHead<'_>, end: bool) -> Open {
        self.open_raw(head.to_bytes().unwrap(), end)
    }

    /// Opens a stream with any bytes for a head.
    pub(crate) fn open_raw(&self, head: Vec<u8>, end: bool) -> Open {
        let tunnel = self.first();
        let (sender, events) = mpsc::unbounded_channel();
        let mut side = tunnel.side.lock().unwrap();
        let id = side.open(Instant::now(), head.into(), end).unwrap();
        tunnel.streams.lock().unwrap().insert(id, sender);
        drop(side);
        tunnel.wake.notify_one();
        Open { tunnel, id, events, early: Vec::new() }
    }

    fn first(&self) -> Arc<Tunnel> {
        Arc::clone(self.state.tunnels.lock().unwrap().first().expect("a tunnel is up"))
    }

    /// Ends at once, with all tunnels.
    pub(crate) async fn kill(self) -> SocketAddr {
        self.task.abort();
        let _ = self.task.await;
        self.address
    }
}

/// A request under way.
pub(crate) struct Open {
    tunnel: Arc<Tunnel>,
    id: StreamId,
    events: mpsc::UnboundedReceiver<Event>,
    early: Vec<Event>,
}

impl Open {
    pub(crate) async fn send(&mut self, mut body: Bytes, end: bool) {
        while !body.is_empty() {
            let outcome = {
                let mut side = self.tunnel.side.lock().unwrap();
                let room = side.writable(self.id).min(body.len());
                let part = if room == 0 { body.clone() } else { body.split_to(room) };
                side.send(Instant::now(), self.id, part, end && body.is_empty())
            };
            self.tunnel.wake.notify_one();
            match outcome {
                Ok(()) => {}
                Err(SendError::Full) => {
                    let event = self.events.recv().await.expect("the tunnel is up");
                    if !matches!(event, Event::Writable(_)) {
                        let over = matches!(event, Event::Reset { .. });
                        self.early.push(event);
                        if over {
                            return;
                        }
                    }
                }
                Err(_) => return,
            }
        }
    }

    pub(crate) fn reset(&self, code: u32) {
        self.tunnel.side.lock().unwrap().reset(self.id, code);
        self.tunnel.wake.notify_one();
    }

    async fn event(&mut self) -> Event {
        if self.early.is_empty() {
            self.events.recv().await.expect("the tunnel is up")
        } else {
            self.early.remove(0)
        }
    }

    /// Waits for the head of the answer.
    pub(crate) async fn until_answered(&mut self) {
        loop {
            let event = self.events.recv().await.expect("the tunnel is up");
            let is_head = matches!(event, Event::Head { .. });
            self.early.push(event);
            if is_head {
                return;
            }
        }
    }

    pub(crate) async fn reply(mut self) -> Reply {
        let mut head = None;
        let mut body = BytesMut::new();
        loop {
            match self.event().await {
                Event::Head { head: bytes, end, .. } => {
                    let parsed = AnswerHead::from_bytes(&bytes).unwrap().into_owned();
                    if end {
                        return Reply::Answer(parsed, Bytes::new());
                    }
                    head = Some(parsed);
                }
                Event::Data { bytes, end, .. } => {
                    body.extend_from_slice(&bytes);
                    self.tunnel.side.lock().unwrap().consumed(self.id, bytes.len());
                    self.tunnel.wake.notify_one();
                    if end {
                        return Reply::Answer(head.expect("head before body"), body.freeze());
                    }
                }
                Event::Reset { code, .. } => {
                    return head.map_or(Reply::Reset(code), |head| Reply::Cut(head, code));
                }
                _ => {}
            }
        }
    }
}

impl Tunnel {
    fn control(&self, message: &FromGateway) {
        let bytes = serde_json::to_vec(message).unwrap();
        self.side.lock().unwrap().send_control(bytes.into()).unwrap();
        self.wake.notify_one();
    }
}

/// Takes the tunnel off the list, also when its task is ended.
struct Listed {
    state: Arc<State>,
    tunnel: Arc<Tunnel>,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.state.tunnels.lock().unwrap().retain(|tunnel| !Arc::ptr_eq(tunnel, &self.tunnel));
        self.state.counts.send_modify(|(_, up)| *up -= 1);
    }
}

async fn serve(
    state: Arc<State>,
    mut tls: TlsStream<TcpStream>,
    hello: FromGateway,
    control: mpsc::UnboundedSender<ToGateway>,
) {
    assert!(tls.get_ref().1.peer_certificates().is_some(), "the connection point shows its certificate");
    let FromGateway::Hello { shard, .. } = hello else { panic!("a hello") };
    let tunnel = Arc::new(Tunnel {
        shard,
        side: Mutex::new(GatewaySide::new(Config::default(), Instant::now())),
        streams: Mutex::default(),
        wake: Notify::new(),
    });
    tunnel.control(&hello);
    let mut listed = None;
    let mut output = BytesMut::new();
    let mut input = vec![0; 64 * 1024];
    loop {
        loop {
            let Some(event) = tunnel.side.lock().unwrap().next_event() else { break };
            let stream = match &event {
                Event::Hello(_) => {
                    state.tunnels.lock().unwrap().push(Arc::clone(&tunnel));
                    listed = Some(Listed { state: Arc::clone(&state), tunnel: Arc::clone(&tunnel) });
                    state.counts.send_modify(|(ever, up)| (*ever, *up) = (*ever + 1, *up + 1));
                    continue;
                }
                Event::Control(message) => {
                    let _ = control.send(serde_json::from_slice(message).unwrap());
                    continue;
                }
                Event::Goodbye { .. } => {
                    listed = None;
                    continue;
                }
                Event::Lost(_) => return,
                Event::Head { stream, .. }
                | Event::Data { stream, .. }
                | Event::Reset { stream, .. }
                | Event::Writable(stream) => *stream,
            };
            if let Some(sender) = tunnel.streams.lock().unwrap().get(&stream) {
                let _ = sender.send(event);
            }
        }
        tunnel.side.lock().unwrap().next_bytes(&mut output);
        if !output.is_empty() {
            if tls.write_all(&output).await.is_err() || tls.flush().await.is_err() {
                return;
            }
            output.clear();
            continue;
        }
        let deadline = tunnel.side.lock().unwrap().next_deadline();
        let deadline = deadline.unwrap_or_else(|| Instant::now() + Duration::from_mins(1));
        tokio::select! {
            read = tls.read(&mut input) => match read {
                Ok(0) | Err(_) => {
                    tunnel.side.lock().unwrap().transport_closed();
                    drop(listed);
                    return;
                }
                Ok(length) => {
                    let _ = tunnel.side.lock().unwrap().receive_bytes(Instant::now(), &input[..length]);
                }
            },
            () = tunnel.wake.notified() => {}
            () = tokio::time::sleep_until(deadline.into()) => {
                tunnel.side.lock().unwrap().expire(Instant::now());
            }
        }
    }
}
