//! A connection point that answers by itself: the other side of the tunnel, over real TLS.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use proto::bundle::LinkIdentity;
use proto::link::{AnswerHead, FromGateway, RequestHead, TUNNEL_ALPN, ToGateway};
use proto::snapshot::{Change, Signed};
use runtime::tls::{ClientTls, OwnCertificate, ProveKeyOnly};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tunnel::{Config, ConnectorSide, Event, StreamId};

use crate::site::Site;
use crate::within;

/// What the connection point does about a request.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// Answers.
    Answer(AnswerHead<'static>, Bytes),
    /// Keeps the request until it is told to answer.
    Hold,
    /// Cuts the connection.
    Cut,
    /// Resets the stream with this code.
    Reset(u32),
}

/// Decides about each request, once its body has come.
pub(crate) type Handler = Arc<dyn Fn(&RequestHead<'static>, &[u8]) -> Act + Send + Sync>;

/// What a test can tell a connection point.
enum Tell {
    Publish(Signed),
    /// Answer all that is held.
    Release,
    /// End the connection.
    Leave,
}

/// A connection point's tunnel, run by a task of its own.
pub(crate) struct FakeConnector {
    tell: mpsc::UnboundedSender<Tell>,
    heard: Arc<Mutex<Vec<FromGateway>>>,
    requests: Arc<Mutex<Vec<RequestHead<'static>>>>,
    ended: Option<oneshot::Receiver<()>>,
}

/// An answer of 200 with this body.
pub(crate) fn ok(body: impl Into<Bytes>) -> Act {
    let body = body.into();
    let head = AnswerHead {
        status: 200,
        phrase: None,
        headers: vec![("content-type".into(), "text/plain".into())],
        body_length: Some(body.len() as u64),
    };
    Act::Answer(head, body)
}

/// Answers everything with what came: method, target and body.
pub(crate) fn echo() -> Handler {
    Arc::new(|head, body| {
        let mut text = format!("{} {}\n", head.method, head.target).into_bytes();
        text.extend(body);
        ok(text)
    })
}

impl FakeConnector {
    /// Dials and waits for the gateway's first word; fails if the gateway refuses.
    pub(crate) async fn dial(address: SocketAddr, link: &LinkIdentity, handler: Handler) -> Self {
        let connector = Self::try_dial(address, link, handler).await.expect("the handshake succeeds");
        let hello = connector.next_heard(0).await;
        assert!(matches!(hello, FromGateway::Hello { .. }), "{hello:?}");
        connector
    }

    /// Dials; `None`: the handshake failed.
    pub(crate) async fn try_dial(address: SocketAddr, link: &LinkIdentity, handler: Handler) -> Option<Self> {
        let own = OwnCertificate::from_pem(link.certificate_pem.as_bytes(), link.key_pem.as_bytes()).unwrap();
        let tls = ClientTls::with_verifier(crate::clock(), AnyServer::new())
            .certificate(&own)
            .alpn([TUNNEL_ALPN])
            .without_resumption()
            .build()
            .unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("gateway").unwrap();
        let stream = within(TlsConnector::from(tls).connect(name, stream)).await.ok()?;
        let (tell, told) = mpsc::unbounded_channel();
        let (end, ended) = oneshot::channel();
        let (heard, requests) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<Mutex<Vec<_>>>::default());
        let run = Run {
            side: ConnectorSide::new(Config::default(), Instant::now()),
            handler,
            heard: Arc::clone(&heard),
            requests: Arc::clone(&requests),
            open: HashMap::new(),
        };
        tokio::spawn(async move {
            run.run(stream, told).await;
            let _ = end.send(());
        });
        Some(Self { tell, heard, requests, ended: Some(ended) })
    }

    pub(crate) fn publish(&self, signed: Signed) {
        self.tell.send(Tell::Publish(signed)).ok().unwrap();
    }

    /// Ends the connection as a crash would.
    pub(crate) fn leave(&self) {
        self.tell.send(Tell::Leave).ok().unwrap();
    }

    /// Publishes changes that follow version `from`, and waits until they are in force.
    pub(crate) async fn change(&self, site: &Site, from: u64, changes: Vec<Change>) {
        self.publish(site.signed_delta(from, from + 1, changes));
        let version = from + 1;
        self.heard(|message| (*message == FromGateway::Ack { version }).then_some(())).await;
    }

    pub(crate) fn release(&self) {
        self.tell.send(Tell::Release).ok().unwrap();
    }

    /// The control message of this number, counted from 0, once it has come.
    pub(crate) async fn next_heard(&self, number: usize) -> FromGateway {
        crate::eventually(|| async { self.heard.lock().unwrap().get(number).cloned() }).await
    }

    /// The first control message that `pick` takes.
    pub(crate) async fn heard<T>(&self, pick: impl Fn(&FromGateway) -> Option<T>) -> T {
        crate::eventually(|| async { self.heard.lock().unwrap().iter().find_map(&pick) }).await
    }

    /// All control messages so far.
    pub(crate) fn all_heard(&self) -> Vec<FromGateway> {
        self.heard.lock().unwrap().clone()
    }

    /// The requests that have reached it.
    pub(crate) fn requests(&self) -> Vec<RequestHead<'static>> {
        self.requests.lock().unwrap().clone()
    }

    /// Waits until so many requests have reached it.
    pub(crate) async fn has_requests(&self, count: usize) {
        crate::eventually(|| async { (self.requests.lock().unwrap().len() >= count).then_some(()) }).await;
    }

    /// Waits for the end of the connection.
    pub(crate) async fn ended(&mut self) {
        within(self.ended.take().unwrap()).await.unwrap();
    }
}

struct Run {
    side: ConnectorSide,
    handler: Handler,
    heard: Arc<Mutex<Vec<FromGateway>>>,
    requests: Arc<Mutex<Vec<RequestHead<'static>>>>,
    open: HashMap<StreamId, Open>,
}

struct Open {
    head: RequestHead<'static>,
    body: Vec<u8>,
    held: bool,
    /// What is left of the answer.
    answer: Option<Bytes>,
}

impl Run {
    async fn run(mut self, mut stream: TlsStream<TcpStream>, mut told: mpsc::UnboundedReceiver<Tell>) {
        let mut out = BytesMut::new();
        let mut input = vec![0; 64 * 1024];
        loop {
            while let Some(event) = self.side.next_event() {
                if !self.handle(event) {
                    return;
                }
            }
            if self.side.next_bytes(&mut out) > 0 {
                if stream.write_all(&out).await.is_err() || stream.flush().await.is_err() {
                    return;
                }
                out.clear();
                // What was written made room, and that is an event.
                continue;
            }
            if self.side.is_idle() && self.side.is_draining() {
                let _ = stream.shutdown().await;
                return;
            }
            let deadline = self.side.next_deadline().unwrap_or_else(Instant::now);
            tokio::select! {
                read = stream.read(&mut input) => match read {
                    Ok(count @ 1..) => {
                        if self.side.receive_bytes(Instant::now(), &input[..count]).is_err() {
                            return;
                        }
                    }
                    _ => return,
                },
                told = told.recv() => match told {
                    Some(Tell::Publish(signed)) => {
                        let message = serde_json::to_vec(&ToGateway::Publication { signed }).unwrap();
                        self.side.send_control(message.into()).unwrap();
                    }
                    Some(Tell::Release) => self.release(),
                    // The test has let go of it.
                    Some(Tell::Leave) | None => return,
                },
                () = tokio::time::sleep_until(deadline.into()) => self.side.expire(Instant::now()),
            }
        }
    }

    /// `false`: the connection is to be cut.
    fn handle(&mut self, event: Event) -> bool {
        match event {
            Event::Head { stream, head, end } => {
                let head = RequestHead::from_bytes(&head).unwrap().into_owned();
                self.requests.lock().unwrap().push(head.clone());
                self.open.insert(stream, Open { head, body: Vec::new(), held: false, answer: None });
                if end { self.act(stream) } else { true }
            }
            Event::Data { stream, bytes, end } => {
                self.side.consumed(stream, bytes.len());
                self.open.get_mut(&stream).unwrap().body.extend(&bytes);
                if end { self.act(stream) } else { true }
            }
            Event::Writable(stream) => {
                self.go_on(stream);
                true
            }
            Event::Reset { stream, .. } => {
                self.open.remove(&stream);
                true
            }
            Event::Control(message) => {
                self.heard.lock().unwrap().push(serde_json::from_slice(&message).unwrap());
                true
            }
            Event::Hello(_) | Event::Goodbye { .. } => true,
            Event::Lost(_) => false,
        }
    }

    fn act(&mut self, stream: StreamId) -> bool {
        let open = self.open.get_mut(&stream).unwrap();
        match (self.handler)(&open.head, &open.body) {
            Act::Answer(head, body) => self.answer(stream, &head, body),
            Act::Hold => open.held = true,
            Act::Cut => return false,
            Act::Reset(code) => {
                self.side.reset(stream, code);
            }
        }
        true
    }

    fn answer(&mut self, stream: StreamId, head: &AnswerHead<'_>, body: Bytes) {
        let head = head.to_bytes().unwrap();
        self.side.answer(Instant::now(), stream, head.into(), body.is_empty()).unwrap();
        if !body.is_empty() {
            self.open.get_mut(&stream).unwrap().answer = Some(body);
            self.go_on(stream);
        }
    }

    /// Sends what can be sent of an answer.
    fn go_on(&mut self, stream: StreamId) {
        let Some(body) = self.open.get_mut(&stream).and_then(|open| open.answer.as_mut()) else { return };
        let count = self.side.writable(stream).min(body.len());
        let end = count == body.len();
        self.side.send(Instant::now(), stream, body.copy_to_bytes(count), end).unwrap();
        if !end && self.side.writable(stream) > 0 {
            self.go_on(stream);
        }
    }

    fn release(&mut self) {
        let held =
            self.open.iter_mut().filter_map(|(id, open)| std::mem::take(&mut open.held).then_some(*id));
        let held: Vec<_> = held.collect();
        for stream in held {
            let Act::Answer(head, body) = ok("released") else { unreachable!() };
            self.answer(stream, &head, body);
        }
    }
}

/// Takes any server that proves its key, as a connection point does before it judges the chain.
#[derive(Debug)]
pub(crate) struct AnyServer(ProveKeyOnly);

impl AnyServer {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(ProveKeyOnly::new()))
    }
}

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
