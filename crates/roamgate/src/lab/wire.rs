//! Wires of the lab: a TCP port at a device, joined through a Unix socket to a port here.
//!
//! A device in a network namespace of its own reaches nothing but the wires that the lab gives
//! it. Where namespaces are denied the same wires run on loopback. Unplugging a device is
//! dropping its wire.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

/// The lab's end of a wire. Dropping it cuts the wire and every connection on it.
#[derive(Debug)]
pub(crate) struct Wire {
    cut: CancellationToken,
    /// The address at which the device's end listens.
    pub(crate) at_device: SocketAddr,
    /// The Unix socket in between, when the device lives in a namespace.
    socket: Option<PathBuf>,
}

impl Wire {
    /// Joins `at_device` to `target`, through this Unix socket: for a device in a namespace, where
    /// `roamgate lab-wire` holds the other end.
    pub(crate) fn through_socket(
        socket: PathBuf,
        at_device: SocketAddr,
        target: SocketAddr,
    ) -> std::io::Result<Self> {
        let listener = UnixListener::bind(&socket)?;
        let cut = CancellationToken::new();
        let token = cut.clone();
        tokio::spawn(async move {
            while let Some(Ok((near, _))) = token.run_until_cancelled(listener.accept()).await {
                let token = token.clone();
                tokio::spawn(token.run_until_cancelled_owned(join(near, target)));
            }
        });
        Ok(Self { cut, at_device, socket: Some(socket) })
    }

    /// Joins a loopback port to `target`, where there are no namespaces.
    pub(crate) async fn on_loopback(at_device: SocketAddr, target: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(at_device).await?;
        let at_device = listener.local_addr()?;
        let cut = CancellationToken::new();
        let token = cut.clone();
        tokio::spawn(async move {
            while let Some(Ok((near, _))) = token.run_until_cancelled(listener.accept()).await {
                let token = token.clone();
                tokio::spawn(token.run_until_cancelled_owned(join(near, target)));
            }
        });
        Ok(Self { cut, at_device, socket: None })
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.cut.cancel();
        if let Some(socket) = &self.socket {
            // Gone already is as good as removed.
            let _ = std::fs::remove_file(socket);
        }
    }
}

async fn join<S>(mut near: S, target: SocketAddr)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    // Either end going away ends the pair; that is all a wire has to do.
    if let Ok(mut far) = TcpStream::connect(target).await {
        let _ = copy_bidirectional(&mut near, &mut far).await;
    }
}

/// The device's end: listens inside the namespace and carries every connection to the socket.
pub(crate) async fn serve_device_end(at_device: SocketAddr, socket: PathBuf) -> std::io::Result<()> {
    let listener = TcpListener::bind(at_device).await?;
    let socket: Arc<Path> = socket.into();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let socket = Arc::clone(&socket);
            tokio::spawn(async move {
                if let Ok(mut far) = UnixStream::connect(&socket).await {
                    let _ = copy_bidirectional(&mut near, &mut far).await;
                }
            });
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        address
    }

    #[tokio::test]
    async fn a_cut_wire_carries_nothing_and_ends_what_it_carried() {
        let wire = Wire::on_loopback("127.0.0.1:0".parse().unwrap(), echo().await).await.unwrap();
        let address = wire.at_device;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut byte = [0];
        stream.write_all(b"x").await.unwrap();
        stream.read_exact(&mut byte).await.unwrap();
        drop(wire);
        assert_eq!(stream.read(&mut byte).await.unwrap_or(0), 0, "the open connection ends");
    }

    #[tokio::test]
    async fn a_wire_through_a_socket_reaches_its_target() {
        let folder = tempfile::tempdir().unwrap();
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let socket = folder.path().join("w.sock");
        let _wire = Wire::through_socket(socket.clone(), free, echo().await).unwrap();
        serve_device_end(free, socket).await.unwrap();
        let mut stream = TcpStream::connect(free).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        let mut text = [0; 5];
        stream.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"hello");
    }
}
