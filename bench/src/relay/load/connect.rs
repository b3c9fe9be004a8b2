//! Connections as a device makes them.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, NamedGroup, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{LoadError, TlsJob};

/// How long a server may take to say something after a handshake, before the handshake counts as done.
const TICKET_PATIENCE: Duration = Duration::from_millis(200);

/// Makes connections.
#[derive(Clone)]
pub(super) struct Connector {
    address: SocketAddr,
    tls: Option<TlsConnector>,
}

/// A connection with or without TLS.
pub(super) enum Connection {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connector {
    pub(super) fn new(address: SocketAddr, tls: Option<&TlsJob>, resume: bool) -> Result<Self, LoadError> {
        let tls = tls.map(|job| config(job, resume)).transpose()?;
        Ok(Self { address, tls: tls.map(|config| TlsConnector::from(Arc::new(config))) })
    }

    pub(super) async fn connect(&self) -> Result<Connection, LoadError> {
        // A source port in use is tried again by the kernel itself.
        let socket = TcpSocket::new_v4().map_err(|error| LoadError::Io("socket", error))?;
        let tcp = socket.connect(self.address).await.map_err(|error| LoadError::Io("connect", error))?;
        tcp.set_nodelay(true).map_err(|error| LoadError::Io("nodelay", error))?;
        let Some(tls) = &self.tls else { return Ok(Connection::Plain(tcp)) };
        let name = ServerName::try_from("localhost").map_err(|error| LoadError::Job(error.to_string()))?;
        let stream = tls.connect(name, tcp).await.map_err(|error| LoadError::Io("handshake", error))?;
        Ok(Connection::Tls(Box::new(stream)))
    }
}

impl Connection {
    /// Whether its handshake resumed a session.
    pub(super) fn is_resumed(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }

    /// Waits for the server's first bytes after the handshake and takes them in: its tickets, by which it
    /// shows that it has read our last flight. Without tickets a short time must do.
    pub(super) async fn wait_for_server(&mut self) {
        if let Self::Tls(stream) = self {
            let _ = tokio::time::timeout(TICKET_PATIENCE, stream.get_ref().0.readable()).await;
            let mut nothing = [0; 16];
            let mut nothing = ReadBuf::new(&mut nothing);
            // Tickets are no data for us: the read takes them in and then has to wait, for which nobody stays.
            poll_fn(|cx| {
                let _ = Pin::new(&mut *stream).poll_read(cx, &mut nothing);
                Poll::Ready(())
            })
            .await;
        }
    }
}

fn config(job: &TlsJob, resume: bool) -> Result<ClientConfig, LoadError> {
    let unusable = |error: &dyn std::fmt::Display| LoadError::Job(error.to_string());
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(&job.ca_file).map_err(|error| unusable(&error))? {
        let root = root.map_err(|error| unusable(&error))?;
        roots.add(root).map_err(|error| unusable(&error))?;
    }
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    // One group and one suite, so that no server chooses a dearer one than another.
    provider.kx_groups.retain(|group| group.name() == NamedGroup::X25519);
    provider.cipher_suites.retain(|suite| suite.suite() == rustls::CipherSuite::TLS13_AES_256_GCM_SHA384);
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unusable(&error))?
        .with_root_certificates(roots);
    let mut config = match &job.own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let read = |path| std::fs::read(path).map_err(|error| LoadError::Io("own certificate", error));
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(read(key)?));
            let chain = vec![CertificateDer::from(read(certificate)?)];
            builder.with_client_auth_cert(chain, key).map_err(|error| unusable(&error))?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption =
        if resume { Resumption::store(Arc::new(Tickets::default())) } else { Resumption::disabled() };
    Ok(config)
}

/// Keeps the newest tickets, whichever shard of a server gave them, and uses the oldest of them first: so one
/// shard's ticket is mostly shown to another.
#[derive(Debug, Default)]
struct Tickets(Mutex<VecDeque<Tls13ClientSessionValue>>);

/// Tickets that are kept: some from each shard of a server.
const TICKETS_LIMIT: usize = 16;

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        let mut tickets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tickets.len() == TICKETS_LIMIT {
            tickets.pop_front();
        }
        tickets.push_back(value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
