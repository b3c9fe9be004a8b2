//! A TLS client that trusts certain roots and shows a certificate, or none.

use std::net::SocketAddr;
use std::sync::Arc;

use runtime::Clock;
use runtime::tls::{ClientTls, OwnCertificate, roots_from_der};
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::pki::Leaf;

#[derive(Clone)]
pub(crate) struct TlsClient {
    config: Arc<ClientConfig>,
}

impl TlsClient {
    /// Trusts servers under this root alone.
    pub(crate) fn new(clock: &Clock, root: &[u8], shows: Option<&Leaf>) -> Self {
        let roots = roots_from_der([CertificateDer::from(root)]).unwrap();
        let mut tls = ClientTls::with_roots(clock.clone(), roots).alpn(["http/1.1"]);
        if let Some(leaf) = shows {
            let chain = leaf.chain.iter().cloned().map(CertificateDer::from).collect();
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf.pkcs8.clone()));
            tls = tls.certificate(&OwnCertificate::from_der(chain, key).unwrap());
        }
        Self { config: tls.build().unwrap() }
    }

    pub(crate) async fn connect(&self, address: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::clone(&self.config)).connect(name, stream).await
    }

    /// The certificate that the server shows.
    pub(crate) async fn server_certificate(&self, address: SocketAddr) -> std::io::Result<Vec<u8>> {
        let stream = self.connect(address).await?;
        let chain = stream.get_ref().1.peer_certificates().unwrap();
        Ok(chain[0].to_vec())
    }

    /// The configuration, for other clients.
    pub(crate) fn config(&self) -> &ClientConfig {
        &self.config
    }
}
