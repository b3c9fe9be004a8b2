//! One TLS handshake of a peer that may not be let on.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::LazyConfigAcceptor;

use super::turns::Turns;
use super::{Admission, ConnectionCounts, TlsConnection, Welcome};
use crate::read_ahead::ReadAhead;

/// How long a handshake may take, from the moment that the connection was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HandshakeTime {
    /// Until the ClientHello is there.
    pub(super) hello: Duration,
    /// Until the end.
    pub(super) whole: Duration,
}

/// A handshake that was made.
pub(super) struct Made {
    pub(super) stream: TlsConnection,
    pub(super) took: Duration,
}

/// Why one was not.
#[derive(Debug)]
pub(super) enum Failed {
    Late,
    NotAdmitted,
    Tls(io::Error),
}

/// Makes a handshake. Until the ClientHello is there the peer costs a buffer and a timer; then `admission` is asked
/// whether it is worth a signature, which is made when its turn has come.
pub(super) async fn make<A: Admission>(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    time: HandshakeTime,
    turns: &Turns,
    admission: &A,
    pass: &mut A::Pass,
) -> Result<Made, Failed> {
    let began = Instant::now();
    let hello = LazyConfigAcceptor::new(Acceptor::default(), ReadAhead::new(stream));
    let start = timeout_at(began + time.hello, hello).await.map_err(|_| Failed::Late)?;
    let start = start.map_err(Failed::Tls)?;
    let welcome = admission.greeted(pass, &start.client_hello());
    if welcome == Welcome::Refused {
        return Err(Failed::NotAdmitted);
    }
    let rest = turns.take(welcome == Welcome::First, || start.into_stream(config));
    let stream = timeout_at(began + time.whole, rest).await;
    let stream = stream.map_err(|_| Failed::Late)?.map_err(Failed::Tls)?;
    if !admission.shook_hands(pass, stream.get_ref().1) {
        return Err(Failed::NotAdmitted);
    }
    Ok(Made { stream: Box::new(stream), took: began.elapsed() })
}

impl Failed {
    pub(super) fn count(&self, counts: &ConnectionCounts) {
        match self {
            Self::Late => counts.handshakes_late.count(),
            Self::NotAdmitted => counts.not_admitted.count(),
            Self::Tls(_) => counts.handshakes_failed.count(),
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late => f.write_str("not finished in time"),
            Self::NotAdmitted => f.write_str("not admitted"),
            Self::Tls(error) => error.fmt(f),
        }
    }
}
