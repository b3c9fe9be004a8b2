//! A role's inner server as no management point should be: it records every request that it was given whole,
//! and answers as badly as a fault wants.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

/// Longest head of a request that it reads.
const HEAD: usize = 64 * 1024;
/// Bytes that are written at once.
const PIECE: usize = 16 * 1024;

type Stream = TlsStream<TcpStream>;

/// What it does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Manner {
    /// Answers.
    #[default]
    Good,
    /// Closes a connection at its second request, unread: what a server does whose patience with a kept
    /// connection ended just now.
    Stale,
    /// Takes a request whole and closes without a byte of an answer.
    TakeAndClose,
    /// Takes a request whole, and answers after this time.
    Slow(Duration),
    /// Takes a request whole, and says nothing.
    Never,
    /// Reads the head of a request and no more.
    ReadsNothing,
    /// The first kind of garbage: no HTTP at all.
    NotHttp,
    /// Half a head, and the end.
    HalfHead,
    /// A head that has no end in sight.
    EndlessHead,
    /// Fewer bytes than it says.
    TooShort,
    /// More bytes than it says.
    TooLong,
    /// Another protocol, which nobody asked for.
    Switches,
    /// An answer that never ends and says no length.
    Endless,
    /// Half of the answer, and then a reset.
    CutReply,
}

/// The server.
pub(crate) struct Inner {
    pub(crate) port: u16,
    tls: TlsAcceptor,
    shared: Arc<Shared>,
    listening: Option<CancellationToken>,
}

#[derive(Debug, Default)]
struct Shared {
    manner: Mutex<Manner>,
    /// Body bytes of each request that have come, and how often it came whole.
    requests: Mutex<HashMap<u64, Came>>,
    /// Ends the connections of now.
    connections: Mutex<CancellationToken>,
}

/// What came of one request.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Came {
    /// Times that it came whole.
    pub(crate) whole: u32,
    /// Times that its head came.
    pub(crate) begun: u32,
    /// Body bytes of the last time.
    pub(crate) bytes: usize,
}

/// A request's head.
struct Head {
    number: u64,
    /// Bytes of the answer that are asked for.
    answer: usize,
    length: usize,
}

impl Inner {
    /// Listens on this port of localhost.
    pub(crate) async fn start(port: u16, tls: Arc<rustls::ServerConfig>) -> Self {
        let mut inner = Self { port, tls: tls.into(), shared: Arc::default(), listening: None };
        inner.listen().await;
        inner
    }

    /// Listens again after [`Inner::stop`], on the same port.
    pub(crate) async fn listen(&mut self) {
        let listener = self.bind().await;
        let listening = CancellationToken::new();
        self.listening = Some(listening.clone());
        let (shared, tls) = (Arc::clone(&self.shared), self.tls.clone());
        tokio::spawn(async move {
            while let Some(Ok((stream, _))) = listening.run_until_cancelled(listener.accept()).await {
                let (shared, end) = (Arc::clone(&shared), shared.connections.lock().expect("fine").clone());
                let tls = tls.clone();
                tokio::spawn(async move {
                    // A connection that breaks is what this server is for.
                    end.run_until_cancelled(serve(stream, tls, &shared)).await;
                });
            }
        });
    }

    /// Its port; the task of an earlier listener may still be about to give it back.
    async fn bind(&self) -> TcpListener {
        let mut bound = None;
        super::until("the inner server's port is free", Duration::from_secs(5), || {
            let listen = || {
                let socket = TcpSocket::new_v4()?;
                socket.set_reuseaddr(true)?;
                socket.bind(SocketAddr::from(([127, 0, 0, 1], self.port)))?;
                socket.listen(1024)
            };
            bound = listen().ok();
            bound.is_some()
        })
        .await;
        bound.expect("it was waited for")
    }

    /// Closes everything; nobody listens any more.
    pub(crate) fn stop(&mut self) {
        if let Some(listening) = self.listening.take() {
            listening.cancel();
        }
        self.close_connections();
    }

    /// Closes all connections.
    pub(crate) fn close_connections(&self) {
        std::mem::take(&mut *self.shared.connections.lock().expect("no task failed")).cancel();
    }

    pub(crate) fn behave(&self, manner: Manner) {
        *self.shared.manner.lock().expect("no task failed") = manner;
    }

    /// What came of this request.
    pub(crate) fn came(&self, number: u64) -> Came {
        self.shared.requests.lock().expect("no task failed").get(&number).copied().unwrap_or_default()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn serve(stream: TcpStream, tls: TlsAcceptor, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = tls.accept(stream).await?;
    let outcome = requests(&mut stream, shared).await;
    let cut = *shared.manner.lock().expect("no task failed") == Manner::CutReply;
    if !cut {
        stream.shutdown().await?;
    }
    outcome
}

async fn requests(stream: &mut Stream, shared: &Shared) -> io::Result<()> {
    let mut input = Vec::new();
    let mut earlier = 0_u32;
    while let Some(mut head) = read_head(stream, &mut input).await? {
        let manner = *shared.manner.lock().expect("no task failed");
        if manner == Manner::Stale && earlier > 0 {
            return Ok(());
        }
        earlier += 1;
        if manner == Manner::ReadsNothing {
            return std::future::pending().await;
        }
        read_body(stream, &mut input, &mut head, shared).await?;
        match manner {
            Manner::TakeAndClose => return Ok(()),
            Manner::Slow(time) => tokio::time::sleep(time).await,
            _ => {}
        }
        let goes_on = answer(stream, manner, &head).await?;
        stream.flush().await?;
        if !goes_on {
            return Ok(());
        }
    }
    Ok(())
}

/// The next head; `None` at the end of the connection.
async fn read_head(stream: &mut Stream, input: &mut Vec<u8>) -> io::Result<Option<Head>> {
    let end = loop {
        if let Some(at) = input.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if input.len() > HEAD || stream.read_buf(input).await? == 0 {
            return Ok(None);
        }
    };
    let text = String::from_utf8_lossy(&input[..end]).into_owned();
    input.drain(..end + 4);
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    let target = text.split(' ').nth(1).unwrap_or_default();
    let mark = |name| number_of(target, name);
    let answer = usize::try_from(mark("a=").unwrap_or(0)).expect("a length");
    Ok(Some(Head { number: mark("n=").unwrap_or(0), answer, length: length.unwrap_or(0) }))
}

/// Reads the body; a message has its number there, at the front.
async fn read_body(
    stream: &mut Stream,
    input: &mut Vec<u8>,
    head: &mut Head,
    shared: &Shared,
) -> io::Result<()> {
    let mut counted = false;
    loop {
        if head.number == 0 && input.len() >= head.length.min(64) {
            let front = String::from_utf8_lossy(&input[..input.len().min(64)]).into_owned();
            head.number = number_of(&front, "n=").unwrap_or(0);
            head.answer = usize::try_from(number_of(&front, "a=").unwrap_or(0)).expect("a length");
        }
        if head.number != 0 {
            let mut requests = shared.requests.lock().expect("no task failed");
            let came = requests.entry(head.number).or_default();
            came.begun += u32::from(!std::mem::replace(&mut counted, true));
            came.bytes = input.len().min(head.length);
            if input.len() >= head.length {
                came.whole += 1;
                break;
            }
        } else if input.len() >= head.length {
            break;
        }
        if stream.read_buf(input).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    input.drain(..head.length);
    Ok(())
}

fn number_of(text: &str, name: &str) -> Option<u64> {
    let (_, rest) = text.split_once(name)?;
    let digits = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

/// Answers; whether the connection goes on.
async fn answer(stream: &mut Stream, manner: Manner, head: &Head) -> io::Result<bool> {
    let body = super::device::answer_body(head.number, head.answer);
    let begin = |length: usize| {
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\r\n")
    };
    let good = begin(body.len());
    match manner {
        Manner::Good | Manner::Stale | Manner::Slow(_) => {
            stream.write_all(good.as_bytes()).await?;
            for piece in body.chunks(PIECE) {
                stream.write_all(piece).await?;
            }
            Ok(true)
        }
        Manner::Never | Manner::ReadsNothing => std::future::pending().await,
        Manner::TakeAndClose => Ok(false),
        Manner::NotHttp => {
            stream.write_all(b"220 mail.example.org ready\r\n\0\x01\x02\xff\xfe").await?;
            Ok(false)
        }
        Manner::HalfHead => {
            stream.write_all(&good.as_bytes()[..good.len() / 2]).await?;
            Ok(false)
        }
        Manner::EndlessHead => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n").await?;
            let mut number = 0_u32;
            loop {
                stream.write_all(format!("x-{number}: {}\r\n", "y".repeat(1000)).as_bytes()).await?;
                number += 1;
            }
        }
        Manner::TooShort => {
            stream.write_all(begin(body.len() + 1000).as_bytes()).await?;
            stream.write_all(&body).await?;
            Ok(false)
        }
        Manner::TooLong => {
            stream.write_all(begin(body.len()).as_bytes()).await?;
            stream.write_all(&body).await?;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nother").await?;
            Ok(true)
        }
        Manner::Switches => {
            stream
                .write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nx")
                .await?;
            Ok(false)
        }
        Manner::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n").await?;
            stream.write_all(&body).await?;
            let piece = vec![b'z'; PIECE];
            loop {
                stream.write_all(&piece).await?;
            }
        }
        Manner::CutReply => {
            stream.write_all(begin(body.len() + 100_000).as_bytes()).await?;
            stream.write_all(&body).await?;
            stream.flush().await?;
            Ok(false)
        }
    }
}
