//! A device's end of a connection to a gateway: TLS with the device's own key, and HTTP/1.1 read by hand, so
//! that an answer that comes before the request's end is seen as it came.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::hosts::Hosts;
use crate::support::client;

/// Longest head of an answer.
const HEAD_BYTES: usize = 64 * 1024;
/// Bytes in one piece of a body, and the pause behind it: so that a large body takes a while.
const PIECE: usize = 16 * 1024;
const PIECE_PAUSE: Duration = Duration::from_millis(10);

/// What a device shows: its key in the handshake, and its token.
#[derive(Clone)]
pub(crate) struct Credentials {
    tls: Arc<ClientConfig>,
    pub(crate) token: String,
}

impl Credentials {
    /// Those of the device whose state is in this folder; with a memory of TLS sessions of its own.
    pub(crate) fn of(hosts: &Hosts, state: &std::path::Path) -> Self {
        let output = client(state, &["token"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let token = String::from_utf8(output.stdout).expect("a token").trim().to_owned();
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(&hosts.authority).expect("a certificate"))
            .expect("an authority");
        let certificate = std::fs::read(state.join("certificate.der")).expect("a certificate").into();
        let key = std::fs::read(state.join("key.der")).expect("a key");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate], key)
            .expect("a key that fits");
        tls.resumption = Resumption::in_memory_sessions(64);
        Self { tls: Arc::new(tls), token }
    }
}

/// A request.
pub(crate) struct Ask<'a> {
    /// `GET` or `CCM_POST`.
    pub(crate) method: &'a str,
    /// `host:port` and external base of the role.
    pub(crate) base: &'a str,
    /// Path and query at the role.
    pub(crate) target: String,
    /// Bytes of its body.
    pub(crate) body: usize,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) status: u16,
    pub(crate) reason: Option<String>,
    pub(crate) body: String,
    /// Whether the connection goes on.
    pub(crate) stays: bool,
}

/// A connection.
pub(crate) struct Door {
    reader: ReadHalf<TlsStream<TcpStream>>,
    writer: WriteHalf<TlsStream<TcpStream>>,
    handshake: HandshakeKind,
    token: String,
}

impl Door {
    /// Connects to the gateway at this port.
    pub(crate) async fn open(port: u16, credentials: &Credentials) -> std::io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost").expect("a name");
        let stream = TlsConnector::from(Arc::clone(&credentials.tls)).connect(name, stream).await?;
        let handshake = stream.get_ref().1.handshake_kind().expect("the handshake is made");
        let (reader, writer) = tokio::io::split(stream);
        Ok(Self { reader, writer, handshake, token: credentials.token.clone() })
    }

    /// Whether its handshake resumed a session of before.
    pub(crate) fn is_resumed(&self) -> bool {
        self.handshake == HandshakeKind::Resumed
    }

    /// Sends a request and reads its answer, which may come before all of the request is sent.
    pub(crate) async fn ask(&mut self, ask: &Ask<'_>) -> std::io::Result<Said> {
        let (host, path) = ask.base.split_once('/').expect("a base");
        let mut head = format!(
            "{} /{path}{} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {}\r\n",
            ask.method, ask.target, self.token
        );
        if ask.body > 0 {
            let length = ask.body;
            let _ = write!(head, "content-type: multipart/mixed; boundary=x\r\ncontent-length: {length}\r\n");
        }
        head.push_str("\r\n");
        let writer = &mut self.writer;
        let write = async {
            writer.write_all(head.as_bytes()).await?;
            let mut left = ask.body;
            while left > 0 {
                let piece = left.min(PIECE);
                writer.write_all(&vec![b'x'; piece]).await?;
                writer.flush().await?;
                left -= piece;
                if left > 0 {
                    tokio::time::sleep(PIECE_PAUSE).await;
                }
            }
            writer.flush().await
        };
        let (mut write, mut read) = (std::pin::pin!(write), std::pin::pin!(read_answer(&mut self.reader)));
        let (mut over, mut whole) = (false, false);
        let mut said = loop {
            tokio::select! {
                said = &mut read => break said?,
                // A gateway that takes no more has answered, or is gone: reading tells which.
                outcome = &mut write, if !over => (over, whole) = (true, outcome.is_ok()),
            }
        };
        said.stays &= whole;
        Ok(said)
    }
}

async fn read_answer(reader: &mut ReadHalf<TlsStream<TcpStream>>) -> std::io::Result<Said> {
    let broken = |what: &str| std::io::Error::other(what.to_owned());
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if bytes.len() > HEAD_BYTES {
            return Err(broken("too long a head"));
        }
        if reader.read_buf(&mut bytes).await? == 0 {
            return Err(broken("closed without an answer"));
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut body = bytes.split_off(end + 4);
    let status =
        head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(|| broken("no status"))?;
    let header = |name: &str| {
        let mut lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
    };
    let length: usize =
        header("content-length").and_then(|length| length.parse().ok()).ok_or_else(|| broken("no length"))?;
    while body.len() < length {
        if reader.read_buf(&mut body).await? == 0 {
            return Err(broken("closed in the middle of an answer"));
        }
    }
    let stays = header("connection").is_none_or(|value| !value.eq_ignore_ascii_case("close"));
    let reason = header("roamgate-reason")
        .map(|reason| reason.split([' ', ';']).next().unwrap_or_default().to_owned());
    Ok(Said { status, reason, body: String::from_utf8_lossy(&body).into_owned(), stays })
}
