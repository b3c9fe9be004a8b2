//! A site's end of the site link.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use proto::bundle::LinkIdentity;
use proto::link::{Down, Up};
use runtime::Clock;
use runtime::tls::{ClientCertificates, ServerCertificate, ServerTls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::pki::own;

/// Says `first` on each new link, then whatever is told; collects what comes up.
pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    pub(crate) up: mpsc::UnboundedReceiver<Up>,
    down: broadcast::Sender<Down>,
    task: JoinHandle<()>,
}

impl Site {
    pub(crate) async fn start(address: SocketAddr, identity: &LinkIdentity, first: Vec<Down>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let tls = ServerTls::new(Clock::system(), Arc::new(ServerCertificate::new(own(identity))))
            .client_certificates(ClientCertificates::ProveKeyOnly)
            .build()
            .unwrap();
        let (sender, up) = mpsc::unbounded_channel();
        let (down, _) = broadcast::channel(64);
        let acceptor = TlsAcceptor::from(tls);
        let says = down.clone();
        let task = tokio::spawn(async move {
            // Links end with this task, as they do with a process.
            let mut links = tokio::task::JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, sender, first, says) =
                    (acceptor.clone(), sender.clone(), first.clone(), says.subscribe());
                links.spawn(async move {
                    if let Ok(tls) = acceptor.accept(tcp).await {
                        link(tls, sender, first, says).await;
                    }
                });
            }
        });
        Self { address, up, down, task }
    }

    pub(crate) fn say(&self, message: Down) {
        self.down.send(message).unwrap();
    }

    /// Takes what comes up until `wanted` finds what it looks for.
    pub(crate) async fn hear<T>(&mut self, what: &str, mut wanted: impl FnMut(&Up) -> Option<T>) -> T {
        let look = async {
            loop {
                let message = self.up.recv().await.expect("the site runs");
                if let Some(found) = wanted(&message) {
                    return found;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), look)
            .await
            .unwrap_or_else(|_| panic!("{what} did not come within 10 s"))
    }

    /// Ends at once, with all links.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

async fn link(
    mut tls: tokio_rustls::server::TlsStream<tokio::net::TcpStream>,
    up: mpsc::UnboundedSender<Up>,
    first: Vec<Down>,
    mut says: broadcast::Receiver<Down>,
) {
    assert!(tls.get_ref().1.peer_certificates().is_some(), "the connection point shows its certificate");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = tls.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    assert!(
        head.starts_with("get /link http/1.1\r\n") && head.contains("upgrade: roamgate-link/1"),
        "{head}"
    );
    let answer =
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: roamgate-link/1\r\n\r\n";
    tls.write_all(answer.as_bytes()).await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(tls);
    let read = async {
        loop {
            let Ok(length) = reader.read_u32().await else { return };
            let mut message = vec![0; length.try_into().unwrap()];
            if reader.read_exact(&mut message).await.is_err() {
                return;
            }
            if !message.is_empty() {
                let _ = up.send(serde_json::from_slice(&message).unwrap());
            }
        }
    };
    let write = async {
        for message in first {
            write(&mut writer, &message).await;
        }
        while let Ok(message) = says.recv().await {
            write(&mut writer, &message).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = read => {}
        () = write => {}
    }
}

async fn write(writer: &mut (impl AsyncWriteExt + Unpin), message: &Down) {
    let bytes = serde_json::to_vec(message).unwrap();
    let _ = writer.write_u32(bytes.len().try_into().unwrap()).await;
    let _ = writer.write_all(&bytes).await;
    let _ = writer.flush().await;
}
