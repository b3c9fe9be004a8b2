//! The line between connection point and gateway: a TCP proxy that can be slow, go silent and break.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Bytes that are taken at once.
const PIECE: usize = 16 * 1024;
/// Pieces under way in one direction.
const PIECES: usize = 256;

/// How the line behaves now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Manner {
    /// Connections with a lower number carry nothing; their ends hear nothing of it.
    silent_below: u64,
    /// Time that each piece is under way, each direction.
    delay: Duration,
    /// Bytes in a second and direction.
    rate: Option<u32>,
}

/// The proxy.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    manner: watch::Sender<Manner>,
    next: AtomicU64,
    /// Each token tears its connection.
    connections: Mutex<HashMap<u64, CancellationToken>>,
    end: CancellationToken,
}

impl Line {
    /// Listens on a free port and leads to `target`.
    pub(crate) async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("a port").port();
        let shared = Arc::new(Shared {
            target,
            manner: watch::Sender::new(Manner::default()),
            next: AtomicU64::new(1),
            connections: Mutex::default(),
            end: CancellationToken::new(),
        });
        let accept = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Some(Ok((near, _))) = accept.end.run_until_cancelled(listener.accept()).await {
                tokio::spawn(Arc::clone(&accept).carry(near));
            }
        });
        Self { port, shared }
    }

    /// All connections that there are go silent and stay open; new ones are carried.
    pub(crate) fn silence(&self) {
        let below = self.shared.next.load(Ordering::SeqCst);
        self.shared.manner.send_modify(|manner| manner.silent_below = below);
    }

    /// All connections, new ones too, go silent until the line is good again.
    pub(crate) fn silence_everything(&self) {
        self.shared.manner.send_modify(|manner| manner.silent_below = u64::MAX);
    }

    /// Everything is carried as it comes.
    pub(crate) fn be_good(&self) {
        self.shared.manner.send_replace(Manner::default());
    }

    /// Each piece takes so long, each way.
    pub(crate) fn delay(&self, delay: Duration) {
        self.shared.manner.send_modify(|manner| manner.delay = delay);
    }

    /// So many bytes in a second, each way and connection.
    pub(crate) fn limit(&self, rate: u32) {
        self.shared.manner.send_modify(|manner| manner.rate = Some(rate));
    }

    /// Resets (RST) every connection, at both ends.
    pub(crate) fn reset(&self) {
        let connections = std::mem::take(&mut *self.shared.connections.lock().expect("no task failed"));
        for (_, tear) in connections {
            tear.cancel();
        }
    }

    /// Connections now.
    pub(crate) fn count(&self) -> usize {
        self.shared.connections.lock().expect("no task failed").len()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.shared.end.cancel();
    }
}

impl Shared {
    async fn carry(self: Arc<Self>, near: TcpStream) {
        let id = self.next.fetch_add(1, Ordering::SeqCst);
        let tear = self.end.child_token();
        self.connections.lock().expect("no task failed").insert(id, tear.clone());
        if let Ok(far) = TcpStream::connect(self.target).await {
            let _ = near.set_nodelay(true);
            let _ = far.set_nodelay(true);
            let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
            let inward = self.direction(id, near_read, far_write, &tear);
            let outward = self.direction(id, far_read, near_write, &tear);
            let _ = tokio::join!(inward, outward);
        }
        self.connections.lock().expect("no task failed").remove(&id);
    }

    async fn direction(
        &self,
        id: u64,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        tear: &CancellationToken,
    ) {
        let (sender, mut pieces) = mpsc::channel::<(Instant, Bytes)>(PIECES);
        let read = async {
            loop {
                let mut piece = BytesMut::with_capacity(PIECE);
                if from.read_buf(&mut piece).await? == 0 {
                    drop(sender);
                    return Ok::<_, io::Error>(());
                }
                self.hearing(id).await;
                let due = Instant::now() + self.manner.borrow().delay;
                if sender.send((due, piece.freeze())).await.is_err() {
                    return Ok(());
                }
            }
        };
        let write = async {
            while let Some((due, piece)) = pieces.recv().await {
                sleep_until(due).await;
                self.hearing(id).await;
                to.write_all(&piece).await?;
                let rate = self.manner.borrow().rate;
                if let Some(rate) = rate {
                    let length = u32::try_from(piece.len()).expect("a piece is small");
                    sleep_until(
                        Instant::now() + Duration::from_secs_f64(f64::from(length) / f64::from(rate)),
                    )
                    .await;
                }
            }
            to.shutdown().await
        };
        let both = async {
            // Either side's failure ends the whole connection.
            tokio::try_join!(read, write)
        };
        let whole = matches!(tear.run_until_cancelled(both).await, Some(Ok(_)));
        if !whole {
            tear.cancel();
            let _ = from.as_ref().set_zero_linger();
            let _ = to.as_ref().set_zero_linger();
            // Dropped, it would say goodbye first.
            to.forget();
        }
    }

    /// Waits while this connection is silent.
    async fn hearing(&self, id: u64) {
        let mut manner = self.manner.subscribe();
        // The sender lives in this very object.
        let _ = manner.wait_for(|manner| id >= manner.silent_below).await;
    }
}
