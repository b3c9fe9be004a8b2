//! A role: an HTTP server that records what reaches it, and answers by the request's query.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use proto::bundle::LinkIdentity;
use proto::id::Thumbprint;
use runtime::Clock;
use runtime::tls::{ClientCertificates, ServerCertificate, ServerTls, Tickets};
use rustls::HandshakeKind;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::pki::own;

/// A request as it stood on the wire.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// Request line and headers, as written.
    pub(crate) head: String,
    pub(crate) body: Bytes,
    /// Number of the connection, from 1.
    pub(crate) connection: usize,
    /// The certificate that the connection point showed.
    pub(crate) certificate: Option<Thumbprint>,
    /// Whether its connection took up a session of another one.
    pub(crate) resumed: bool,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(crate) fn request_line(&self) -> &str {
        self.head.lines().next().unwrap()
    }
}

/// What the role does with a request.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// Writes these bytes and goes on with the connection.
    Write(Bytes),
    /// Writes these bytes and closes.
    WriteAndClose(Bytes),
    /// Closes without a byte.
    Close,
    /// Never answers.
    Hang,
    /// Writes these bytes once the signal is given.
    WriteAfter(watch::Receiver<bool>, Bytes),
}

/// Decides what to do with a request.
pub(crate) type Script = Arc<dyn Fn(&Seen) -> Act + Send + Sync>;

pub(crate) struct Role {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    /// Connections ever, and those that are open.
    pub(crate) connections: watch::Sender<(usize, usize)>,
    /// Its own certificate, if it has one; may be replaced.
    pub(crate) own: Option<Arc<ServerCertificate>>,
    _task: AbortOnDrop,
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Role {
    pub(crate) async fn start(script: impl Fn(&Seen) -> Act + Send + Sync + 'static) -> Self {
        Self::listen(None, script).await
    }

    /// The same behind TLS. Asks for a certificate, and notes what is shown. Sessions may be taken up again.
    pub(crate) async fn start_tls(
        identity: &LinkIdentity,
        script: impl Fn(&Seen) -> Act + Send + Sync + 'static,
    ) -> Self {
        let certificate = Arc::new(ServerCertificate::new(own(identity)));
        let shown: Arc<ServerCertificate> = Arc::clone(&certificate);
        let tls = ServerTls::new(Clock::system(), shown)
            .client_certificates(ClientCertificates::ProveKeyOnly)
            .tickets(Tickets::new().unwrap())
            .build()
            .unwrap();
        let role = Self::listen(Some(TlsAcceptor::from(tls)), script).await;
        Self { own: Some(certificate), ..role }
    }

    async fn listen(
        acceptor: Option<TlsAcceptor>,
        script: impl Fn(&Seen) -> Act + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let connections = watch::Sender::new((0, 0));
        let (recording, counting, script) = (Arc::clone(&seen), connections.clone(), Arc::new(script));
        let task = tokio::spawn(async move {
            let mut tasks = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let number = counting.borrow().0 + 1;
                counting.send_modify(|(ever, open)| (*ever, *open) = (*ever + 1, *open + 1));
                let (recording, counting) = (Arc::clone(&recording), counting.clone());
                let script: Script = Arc::clone(&script) as Script;
                let acceptor = acceptor.clone();
                tasks.spawn(async move {
                    if let Some(acceptor) = acceptor {
                        if let Ok(tls) = acceptor.accept(tcp).await {
                            let (_, session) = tls.get_ref();
                            let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
                            let shown = session.peer_certificates();
                            let shown = shown.and_then(<[_]>::first).map(|leaf| Thumbprint::of(leaf));
                            serve(tls, (number, shown, resumed), &recording, &*script).await;
                        }
                    } else {
                        serve(tcp, (number, None, false), &recording, &*script).await;
                    }
                    counting.send_modify(|(_, open)| *open -= 1);
                });
            }
        });
        Self { address, seen, connections, own: None, _task: AbortOnDrop(task) }
    }

    /// Answers 200 with the request's own body, or `hello` without one.
    pub(crate) async fn echo() -> Self {
        Self::start(|seen| {
            let body = if seen.body.is_empty() { Bytes::from_static(b"hello") } else { seen.body.clone() };
            Act::Write(ok(&body))
        })
        .await
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.borrow().0
    }
}

/// 200 with a stated length.
pub(crate) fn ok(body: &[u8]) -> Bytes {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nserver: secret/1.0\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat().into()
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    tcp: S,
    (connection, certificate, resumed): (usize, Option<Thumbprint>, bool),
    recording: &Mutex<Vec<Seen>>,
    script: &(dyn Fn(&Seen) -> Act + Send + Sync),
) {
    let mut tcp = BufReader::new(tcp);
    while let Some((head, body)) = request(&mut tcp).await {
        let seen = Seen { head, body, connection, certificate, resumed };
        recording.lock().unwrap().push(seen.clone());
        match script(&seen) {
            Act::Write(bytes) => {
                if tcp.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Act::WriteAndClose(bytes) => {
                let _ = tcp.write_all(&bytes).await;
                let _ = tcp.shutdown().await;
                return;
            }
            Act::Close => return,
            Act::WriteAfter(mut signal, bytes) => {
                if signal.wait_for(|given| *given).await.is_err() || tcp.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Act::Hang => {
                // Until the other side closes.
                let _ = tokio::time::timeout(Duration::from_mins(1), tcp.read_u8()).await;
                return;
            }
        }
    }
}

async fn request<S: AsyncRead + AsyncWrite + Unpin>(tcp: &mut BufReader<S>) -> Option<(String, Bytes)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tcp.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let lower = head.to_ascii_lowercase();
    let mut body = Vec::new();
    if let Some((_, rest)) = lower.split_once("content-length: ") {
        let length: usize = rest.split("\r\n").next().unwrap().parse().unwrap();
        body.resize(length, 0);
        tcp.read_exact(&mut body).await.ok()?;
    } else if lower.contains("transfer-encoding: chunked") {
        loop {
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") {
                line.push(tcp.read_u8().await.ok()?);
            }
            let length = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
            let mut chunk = vec![0; length + 2];
            tcp.read_exact(&mut chunk).await.ok()?;
            if length == 0 {
                break;
            }
            body.extend_from_slice(&chunk[..length]);
        }
    }
    Some((head, body.into()))
}
