//! A gateway's face towards devices that answers whatever a test says.

use std::net::SocketAddr;
use std::sync::Arc;

use runtime::Clock;
use runtime::tls::{ClientCertificates, OwnCertificate, ServerCertificate, ServerTls};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

/// Header names in lower case, with their values.
pub(crate) type Headers = Vec<(String, String)>;

/// A request's headers, and the way back for its answer as bytes.
type Asked = (Headers, oneshot::Sender<Vec<u8>>);

/// The listener: each request is handed to the test, which says what comes back.
pub(crate) struct Face {
    pub(crate) address: SocketAddr,
    pub(crate) certificate_pem: String,
    pub(crate) requests: mpsc::UnboundedReceiver<Asked>,
}

impl Face {
    pub(crate) async fn start(clock: Clock) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        let own =
            OwnCertificate::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap();
        let tls = ServerTls::new(clock, Arc::new(ServerCertificate::new(own)))
            .client_certificates(ClientCertificates::ProveKeyOnly)
            .build()
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, requests) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let acceptor = tokio_rustls::TlsAcceptor::from(tls);
            while let Ok((tcp, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(tcp).await else { continue };
                let mut received = Vec::new();
                while !received.ends_with(b"\r\n\r\n") {
                    received.push(stream.read_u8().await.unwrap());
                }
                let (reply, answer) = oneshot::channel::<Vec<u8>>();
                sender.send((headers_of(&received), reply)).unwrap();
                stream.write_all(&answer.await.unwrap()).await.unwrap();
                stream.shutdown().await.unwrap();
            }
        });
        Self { address, certificate_pem: certificate.pem(), requests }
    }
}

fn headers_of(head: &[u8]) -> Headers {
    let text = String::from_utf8(head.to_vec()).unwrap();
    let lines = text.lines().filter_map(|line| line.split_once(": "));
    lines.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect()
}

/// The value of a header.
pub(crate) fn value<'h>(headers: &'h [(String, String)], name: &str) -> Option<&'h str> {
    headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// A 200 as bytes.
pub(crate) fn ok<'h>(headers: impl IntoIterator<Item = (&'h str, &'h str)>, body: &[u8]) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        answer.extend([name, ": ", value, "\r\n"]);
    }
    [answer.as_bytes(), b"\r\n", body].concat()
}
