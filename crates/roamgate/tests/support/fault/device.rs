//! A device on the wire: its own TLS and HTTP, written by hand, so that a test sees exactly what came when.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

/// How long a device waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(45);

/// Bytes of an answer without a stated length after which a device has had enough.
const ENOUGH: usize = 4 * 1024 * 1024;

/// What a device is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ask {
    /// Number of the request; the inner server counts by it.
    pub(crate) number: u64,
    /// Bytes of a message, or 0 for a GET.
    pub(crate) body: usize,
    /// Bytes of the answer.
    pub(crate) answer: usize,
}

impl Ask {
    /// The next request of this process.
    pub(crate) fn new(body: usize, answer: usize) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self { number: NEXT.fetch_add(1, Ordering::Relaxed), body, answer }
    }

    /// Whether the way through may send it again: its body is held whole.
    pub(crate) fn may_be_repeated(self) -> bool {
        self.body <= 64 * 1024
    }
}

/// The body of the good answer to a request.
pub(crate) fn answer_body(number: u64, length: usize) -> Vec<u8> {
    let mut body = format!("{number} taken\n").into_bytes();
    body.resize(body.len().max(length), b'.');
    body
}

/// What a device saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    /// The inner server's own answer to this very request.
    Good,
    /// A refusal.
    Refused { status: u16, reason: Option<String>, retry_after: Option<u64> },
    /// An answer that began and broke off.
    CutOff,
    /// An answer that goes on and on: the device has had enough of it.
    Endless,
    /// The connection ended without a byte of an answer.
    Closed,
    /// No connection was to be had.
    NoConnection,
    /// Nothing within a device's patience.
    Silence,
    /// An answer that is none to this request.
    Wrong(String),
}

impl Seen {
    /// In a few words, alike for what is alike.
    pub(crate) fn label(&self) -> String {
        match self {
            Self::Good => "200".to_owned(),
            Self::Refused { status, reason: Some(reason), .. } => format!("{status} {reason}"),
            Self::Refused { status, reason: None, .. } => status.to_string(),
            Self::CutOff => "answer cut off".to_owned(),
            Self::Endless => "200 without end, until the device closes".to_owned(),
            Self::Closed => "connection closed".to_owned(),
            Self::NoConnection => "no connection".to_owned(),
            Self::Silence => "silence".to_owned(),
            Self::Wrong(what) => format!("WRONG: {what}"),
        }
    }
}

/// One request and what came of it.
#[derive(Debug, Clone)]
pub(crate) struct Note {
    pub(crate) ask: Ask,
    pub(crate) began: Instant,
    pub(crate) elapsed: Duration,
    pub(crate) seen: Seen,
}

impl Note {
    pub(crate) fn is_good(&self) -> bool {
        self.seen == Seen::Good
    }

    pub(crate) fn ended(&self) -> Instant {
        self.began + self.elapsed
    }
}

/// An enrolled device, and which role it talks to.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    pub(crate) tls: Arc<rustls::ClientConfig>,
    pub(crate) token: String,
    pub(crate) gateway: SocketAddr,
    /// `/CCM_Proxy_ServerAuth/<role id>`.
    pub(crate) base: String,
}

/// One connection of it.
pub(crate) type Connection = TlsStream<TcpStream>;

impl Device {
    pub(crate) async fn connect(&self) -> io::Result<Connection> {
        let connect = async {
            let tcp = TcpStream::connect(self.gateway).await?;
            tcp.set_nodelay(true)?;
            let name = ServerName::try_from("localhost").expect("a name");
            tokio_rustls::TlsConnector::from(Arc::clone(&self.tls)).connect(name, tcp).await
        };
        timeout(PATIENCE, connect).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// The head of a request.
    pub(crate) fn head(&self, ask: Ask) -> String {
        let Self { base, token, .. } = self;
        let Ask { number, body, answer } = ask;
        let rest = format!("host: localhost\r\nauthorization: Bearer {token}\r\n");
        if body == 0 {
            format!("GET {base}/SMS_MP/.sms_aut?MPLIST&n={number}&a={answer} HTTP/1.1\r\n{rest}\r\n")
        } else {
            format!(
                "CCM_POST {base}/ccm_system_tokenauth/request HTTP/1.1\r\n{rest}content-type: text/plain\r\n\
                 content-length: {body}\r\n\r\n"
            )
        }
    }

    /// The body of a request.
    pub(crate) fn body(ask: Ask) -> Vec<u8> {
        let mut body = if ask.body == 0 {
            Vec::new()
        } else {
            format!("n={}&a={}&", ask.number, ask.answer).into_bytes()
        };
        body.resize(ask.body, b'x');
        body
    }

    /// One request on the connection that there is, or a new one; it stays when it can be used again.
    pub(crate) async fn ask(&self, connection: &mut Option<Connection>, ask: Ask) -> Note {
        self.ask_for(connection, ask, PATIENCE).await
    }

    /// The same, for so long at most.
    pub(crate) async fn ask_for(
        &self,
        connection: &mut Option<Connection>,
        ask: Ask,
        patience: Duration,
    ) -> Note {
        let began = Instant::now();
        let seen = self.exchange(connection, ask, patience).await;
        Note { ask, began, elapsed: began.elapsed(), seen }
    }

    async fn exchange(&self, place: &mut Option<Connection>, ask: Ask, patience: Duration) -> Seen {
        let mut connection = match place.take() {
            Some(connection) => connection,
            None => match self.connect().await {
                Ok(connection) => connection,
                Err(_) => return Seen::NoConnection,
            },
        };
        let message = [self.head(ask).into_bytes(), Self::body(ask)].concat();
        let both = async {
            let (mut reader, mut writer) = tokio::io::split(&mut connection);
            // An answer may come before the request is through.
            let write = async {
                if writer.write_all(&message).await.is_ok() {
                    let _ = writer.flush().await;
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                answer = read_answer(&mut reader, ask) => answer,
                () = write => unreachable!("it never ends"),
            }
        };
        let Ok((seen, stays)) = timeout(patience, both).await else { return Seen::Silence };
        if stays {
            *place = Some(connection);
        }
        seen
    }
}

/// Reads an answer; what it was, and whether the connection can be used again.
pub(crate) async fn read_answer(stream: &mut (impl AsyncRead + Unpin), ask: Ask) -> (Seen, bool) {
    let mut input = Vec::new();
    let end = loop {
        if let Some(at) = input.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        match stream.read_buf(&mut input).await {
            Ok(0) | Err(_) if input.is_empty() => return (Seen::Closed, false),
            Ok(0) | Err(_) => return (Seen::CutOff, false),
            Ok(_) => {}
        }
    };
    let head = String::from_utf8_lossy(&input[..end]).into_owned();
    let mut body = input.split_off(end + 4);
    let status = head.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
    let Some(status) = status else { return (Seen::Wrong(head), false) };
    let headers: BTreeMap<String, String> = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let whole = if let Some(length) = headers.get("content-length").and_then(|text| text.parse().ok()) {
        read_exactly(stream, &mut body, length).await
    } else if headers.contains_key("transfer-encoding") {
        read_chunks(stream, &mut body).await
    } else {
        Some(())
    };
    if whole.is_none() {
        return (if body.len() > ENOUGH { Seen::Endless } else { Seen::CutOff }, false);
    }
    let stays = headers.get("connection").is_none_or(|text| !text.eq_ignore_ascii_case("close"));
    if status != 200 {
        let retry_after = headers.get("retry-after").and_then(|text| text.parse().ok());
        let reason = headers.get("roamgate-reason").cloned();
        return (Seen::Refused { status, reason, retry_after }, stays);
    }
    if body == answer_body(ask.number, ask.answer) {
        return (Seen::Good, stays);
    }
    let front = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
    (Seen::Wrong(format!("{} bytes, {front:?} to request {}", body.len(), ask.number)), false)
}

async fn read_exactly(
    stream: &mut (impl AsyncRead + Unpin),
    body: &mut Vec<u8>,
    length: usize,
) -> Option<()> {
    while body.len() < length {
        if !matches!(stream.read_buf(body).await, Ok(1..)) {
            return None;
        }
    }
    Some(())
}

/// Reads chunks to their end; `body` holds the content then.
async fn read_chunks(stream: &mut (impl AsyncRead + Unpin), body: &mut Vec<u8>) -> Option<()> {
    let mut raw = std::mem::take(body);
    loop {
        let line = loop {
            if let Some(at) = raw.windows(2).position(|two| two == b"\r\n") {
                break at;
            }
            if !matches!(stream.read_buf(&mut raw).await, Ok(1..)) {
                return None;
            }
        };
        let length = usize::from_str_radix(str::from_utf8(&raw[..line]).ok()?.trim(), 16).ok()?;
        raw.drain(..line + 2);
        read_exactly(stream, &mut raw, length + 2).await?;
        let rest = raw.split_off(length + 2);
        body.extend_from_slice(&raw[..length]);
        raw = rest;
        if length == 0 {
            return Some(());
        }
        if body.len() > ENOUGH {
            return None;
        }
    }
}
