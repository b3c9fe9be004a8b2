//! The socket of a connection to a role.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// With or without TLS.
#[derive(Debug)]
pub(super) enum RoleIo {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Counts what is read, so that a caller can tell "no answer" from "a part of one".
#[derive(Debug)]
pub(super) struct Metered {
    io: RoleIo,
    read: Arc<AtomicU64>,
}

impl Metered {
    pub(super) fn new(io: RoleIo, read: Arc<AtomicU64>) -> Self {
        Self { io, read }
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = match &mut self.io {
            RoleIo::Plain(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            RoleIo::Tls(tls) => Pin::new(tls).poll_read(cx, buffer),
        };
        self.read.fetch_add((buffer.filled().len() - before) as u64, Ordering::AcqRel);
        outcome
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.io {
            RoleIo::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            RoleIo::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            RoleIo::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            RoleIo::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            RoleIo::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            RoleIo::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.io {
            RoleIo::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, pieces),
            RoleIo::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            RoleIo::Plain(tcp) => tcp.is_write_vectored(),
            RoleIo::Tls(tls) => tls.is_write_vectored(),
        }
    }
}
