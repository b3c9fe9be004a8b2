//! A device: a key of its own, a connection, requests on it.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use proto::id::{ClientId, Guid, Thumbprint};
use proto::reason;
use proto::token::TokenClass;
use runtime::tls::{ClientTls, OwnCertificate};
use rustls::pki_types::ServerName;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::connector::AnyServer;
use crate::site::{ROLE, self_signed};
use crate::{Running, clock, within};

/// A device with its key.
pub(crate) struct Device {
    pub(crate) id: ClientId,
    certificate: OwnCertificate,
}

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: u16,
    /// The reason phrase, where it is not the standard one.
    pub(crate) phrase: Option<String>,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

/// An open connection to the gateway.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// The certificate that the gateway showed.
    pub(crate) shown: Vec<u8>,
}

impl Device {
    pub(crate) fn new(number: u8) -> Self {
        Self { id: ClientId::new(Guid::from_bytes([number; 16])), certificate: self_signed() }
    }

    pub(crate) fn thumbprint(&self) -> Thumbprint {
        Thumbprint::from_bytes(self.certificate.leaf().thumbprint_sha256())
    }

    pub(crate) fn token(&self, gateway: &Running) -> String {
        gateway.site.token(TokenClass::Device, Some((self.id, self.thumbprint())))
    }

    pub(crate) async fn tls(&self, gateway: &Running) -> TlsStream<TcpStream> {
        tls(gateway, Some(&self.certificate)).await
    }

    /// Fails where the gateway does not let it in.
    pub(crate) async fn try_tls(&self, gateway: &Running) -> io::Result<TlsStream<TcpStream>> {
        try_tls(gateway, [127, 0, 0, 1], Some(&self.certificate)).await
    }

    pub(crate) async fn connect(&self, gateway: &Running) -> Connection {
        Connection::open(gateway, Some(&self.certificate)).await
    }
}

/// A TLS connection as a device makes it.
pub(crate) async fn tls(gateway: &Running, certificate: Option<&OwnCertificate>) -> TlsStream<TcpStream> {
    try_tls(gateway, [127, 0, 0, 1], certificate).await.unwrap()
}

/// The same from this address of the loopback; fails where the gateway does not let it in.
pub(crate) async fn try_tls(
    gateway: &Running,
    from: [u8; 4],
    certificate: Option<&OwnCertificate>,
) -> io::Result<TlsStream<TcpStream>> {
    let mut tls = ClientTls::with_verifier(clock(), AnyServer::new()).alpn(["http/1.1"]);
    if let Some(certificate) = certificate {
        tls = tls.certificate(certificate);
    }
    let stream = connect_from(gateway, from).await?;
    let name = ServerName::try_from("localhost").unwrap();
    within(TlsConnector::from(tls.build().unwrap()).connect(name, stream)).await
}

/// A connection from this address of the loopback.
pub(crate) async fn connect_from(gateway: &Running, from: [u8; 4]) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((from, 0)))?;
    socket.connect(gateway.address).await
}

impl Connection {
    pub(crate) async fn open(gateway: &Running, certificate: Option<&OwnCertificate>) -> Self {
        Self::over(tls(gateway, certificate).await).await
    }

    /// Over a TLS connection that was made already.
    pub(crate) async fn over(stream: TlsStream<TcpStream>) -> Self {
        let shown = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self { sender, shown }
    }

    /// Sends a request and returns at once what will become of it.
    pub(crate) fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> impl Future<Output = hyper::Result<Got>> + use<> {
        let answer = self.sender.send_request(request);
        async move { Got::read(answer.await?).await }
    }

    pub(crate) async fn ask(&mut self, request: Request<Full<Bytes>>) -> Got {
        within(self.send(request)).await.unwrap()
    }
}

impl Got {
    /// All that a caller can tell answers by, but what names the request and the moment.
    pub(crate) fn face(&self) -> (u16, Option<String>, Vec<(String, String)>, Bytes) {
        let mut headers: Vec<_> = self
            .headers
            .iter()
            .filter(|(name, _)| !["date", reason::REQUEST_ID_HEADER].contains(&name.as_str()))
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        headers.sort();
        (self.status, self.phrase.clone(), headers, self.body.clone())
    }

    async fn read(answer: Response<hyper::body::Incoming>) -> hyper::Result<Self> {
        let phrase = runtime::http::reason(&answer).map(str::to_owned);
        let (head, body) = answer.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Self { status: head.status.as_u16(), phrase, headers: head.headers, body })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Status and code of a refusal. Every answer, refused or not, names its request.
    pub(crate) fn refusal(&self) -> (u16, Option<&str>) {
        assert!(self.header(reason::REQUEST_ID_HEADER).is_some_and(|id| id.len() == 36), "{self:?}");
        (self.status, self.header(reason::HEADER))
    }
}

/// A request at a door of the published role.
pub(crate) fn request(method: &str, door: &str, path: &str, token: Option<&str>) -> http::request::Builder {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("/CCM_Proxy_{door}/{ROLE}{path}"))
        .header("host", "gw.example");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    request
}

/// A GET at a door, which needs no body.
pub(crate) fn get(door: &str, path: &str, token: Option<&str>) -> Request<Full<Bytes>> {
    request("GET", door, path, token).body(Full::default()).unwrap()
}

/// A GET of site facts, which any CCM token opens.
pub(crate) fn facts(token: &str) -> Request<Full<Bytes>> {
    request("GET", "ServerAuth", "/SMS_MP_TokenAuth/.sms_aut?MPLIST", Some(token))
        .body(Full::default())
        .unwrap()
}

/// A message of the client protocol.
pub(crate) fn message(token: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let request = request("CCM_POST", "ServerAuth", "/ccm_system_tokenauth/request", Some(token));
    request.header("content-type", "multipart/mixed").body(Full::new(body.into())).unwrap()
}
