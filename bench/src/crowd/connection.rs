//! One connection of a played device to a gateway: TLS with the device's own certificate, requests with its
//! token. Lighter than the client's own transport, so that tens of thousands fit.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use client::schedule::Setback;
use http::header::{AUTHORIZATION, HOST, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use proto::http_signature::RequestToSign;
use proto::id::{ClientId, Guid, Thumbprint};
use proto::message::signature::{RsaSigningKey, SigningKey as _};
use proto::time::Timestamp;
use runtime::Clock;
use runtime::tls::{ClientTls, OwnCertificate, provider, roots_from_pem};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Time for a connection, TLS included: the client's own.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for a whole request: the client's own.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);
/// Longest wait that an answer may ask for: the client's own.
const LONGEST_WAIT: Duration = Duration::from_mins(5);
/// Largest answer that is read, in bytes.
const ANSWER_BYTES: usize = 1024 * 1024;
/// First of the loopback addresses from which devices come.
const FIRST_SOURCE: u32 = 0x7f01_0001;
/// Addresses that may follow it, so that all lie in 127.0.0.0/8.
const SOURCES: u32 = 0x00f0_0000;

/// What a request asks for: the site's list of management points, which every device may have.
pub(crate) const TARGET: &str = "/SMS_MP/.sms_aut?MPLIST";
/// The same by the door for tokens, which wants the device's signature at the management point, too.
pub(crate) const SIGNED_TARGET: &str = "/SMS_MP_TokenAuth/.sms_aut?MPLIST";

/// A registered device, as it is handed to another process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Credentials {
    /// PKCS#8, base64.
    pub(crate) pkcs8: String,
    /// Its certificate, base64.
    pub(crate) certificate: String,
    /// Its id.
    pub(crate) client_id: String,
    /// A CCM token of the class Device.
    pub(crate) token: String,
}

/// A device's credentials or a gateway's name cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    /// The authorities are no certificates.
    #[error("the gateway's authorities cannot be used")]
    Roots(#[source] runtime::tls::RootsError),
    /// rustls refused.
    #[error("TLS cannot be set up")]
    Tls(#[source] runtime::tls::TlsSetupError),
    /// rustls cannot judge by these authorities.
    #[error("the gateway's authorities cannot be used for TLS")]
    Verifier(#[source] rustls::client::VerifierBuilderError),
    /// The name is none.
    #[error("{0} is no host name")]
    Name(String),
    /// The credentials are damaged.
    #[error("a device's {0} is damaged")]
    Credentials(&'static str),
    /// Its key and certificate do not fit.
    #[error("a device's key and certificate cannot be used")]
    Pair(#[source] runtime::tls::MaterialError),
}

/// A gateway, as connections need it.
pub(crate) struct Gateway {
    /// `host[:port]`, as in `Host`.
    authority: String,
    name: ServerName<'static>,
    address: SocketAddr,
    /// Door and role before each target.
    prefix: String,
    verifier: Arc<dyn ServerCertVerifier>,
    /// Connections that share a source address; 0: the system chooses.
    per_source: u32,
}

/// The same in words, to be handed to another process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct GatewayFacts {
    pub(crate) authority: String,
    pub(crate) address: SocketAddr,
    pub(crate) role: String,
    pub(crate) ca: String,
    pub(crate) per_source: u32,
}

impl Gateway {
    /// Makes it ready.
    pub(crate) fn new(facts: &GatewayFacts) -> Result<Self, SetupError> {
        let host = facts.authority.rsplit_once(':').map_or(facts.authority.as_str(), |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host.clone()).map_err(|_| SetupError::Name(host))?;
        let roots = roots_from_pem(facts.ca.as_bytes()).map_err(SetupError::Roots)?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(SetupError::Verifier)?;
        Ok(Self {
            authority: facts.authority.clone(),
            name,
            address: facts.address,
            prefix: format!("/CCM_Proxy_ServerAuth/{}", facts.role),
            verifier,
            per_source: facts.per_source,
        })
    }

    /// The path of a target of the role.
    pub(crate) fn path(&self, target: &str) -> String {
        format!("{}{target}", self.prefix)
    }

    /// `host[:port]`.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// Connects as the connection with this number: neighbours share a source address.
    pub(crate) async fn connect(&self, number: u32) -> std::io::Result<TcpStream> {
        let IpAddr::V4(_) = self.address.ip() else { return TcpStream::connect(self.address).await };
        let socket = TcpSocket::new_v4()?;
        if let Some(source) = number.checked_div(self.per_source) {
            socket.bind((source_address(source), 0).into())?;
        }
        let stream = socket.connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Connects and shows the device's certificate.
    pub(crate) async fn handshake(
        &self,
        holder: &Holder,
        number: u32,
    ) -> Result<TlsStream<TcpStream>, Failure> {
        let steps = async {
            let stream = self.connect(number).await.map_err(|error| Failure::Connect(error.kind()))?;
            holder.tls.connect(self.name.clone(), stream).await.map_err(|error| Failure::of_tls(&error))
        };
        tokio::time::timeout(CONNECT_TIMEOUT, steps).await.unwrap_or(Err(Failure::ConnectTimeout))
    }

    /// The same, ready for requests.
    pub(crate) async fn open(&self, holder: &Holder, number: u32) -> Result<Open, Failure> {
        let stream = self.handshake(holder, number).await?;
        let opened = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = opened.map_err(|_| Failure::Broken)?;
        Ok(Open { sender, connection: tokio::spawn(async move { drop(connection.await) }) })
    }
}

/// A loopback address for this number.
fn source_address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(FIRST_SOURCE + number % SOURCES)
}

/// A registered device, ready to connect any number of times.
pub(crate) struct Holder {
    tls: TlsConnector,
    bearer: HeaderValue,
    token: String,
    client: ClientId,
    thumbprint: Thumbprint,
    key: RsaSigningKey,
    clock: Clock,
}

impl Holder {
    /// Makes it ready. `resumes`: whether it takes up TLS sessions again.
    pub(crate) fn new(
        gateway: &Gateway,
        credentials: &Credentials,
        resumes: bool,
    ) -> Result<Self, SetupError> {
        let bytes = |text: &str, what| STANDARD.decode(text).map_err(|_| SetupError::Credentials(what));
        let (pkcs8, certificate) =
            (bytes(&credentials.pkcs8, "key")?, bytes(&credentials.certificate, "certificate")?);
        let key = RsaSigningKey::from_pkcs8(&pkcs8).map_err(|_| SetupError::Credentials("key"))?;
        let thumbprint = Thumbprint::of(&certificate);
        let chain = vec![CertificateDer::from(certificate)];
        let own = OwnCertificate::from_der(chain, PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8)))
            .map_err(SetupError::Pair)?;
        let tls = ClientTls::with_verifier(Clock::system(), Arc::clone(&gateway.verifier)).certificate(&own);
        let tls = if resumes { tls } else { tls.without_resumption() };
        let token = &credentials.token;
        Ok(Self {
            tls: tls.build().map_err(SetupError::Tls)?.into(),
            bearer: format!("Bearer {token}").parse().map_err(|_| SetupError::Credentials("token"))?,
            token: token.clone(),
            client: credentials.client_id.parse().map_err(|_| SetupError::Credentials("id"))?,
            thumbprint,
            key,
            clock: Clock::system(),
        })
    }

    /// The header that shows its token.
    pub(crate) fn bearer(&self) -> &HeaderValue {
        &self.bearer
    }

    /// A request for the list, with the token and without a signature, as third-party clients ask.
    pub(crate) fn plain(&self, gateway: &Gateway) -> Request<Full<Bytes>> {
        let request = Request::get(gateway.path(TARGET))
            .header(HOST, gateway.authority())
            .header(AUTHORIZATION, self.bearer.clone());
        request.body(Full::default()).expect("its parts were checked when the device was made")
    }

    /// The same by the door for tokens, signed by the device's key as our client does.
    pub(crate) fn signed(&self, gateway: &Gateway) -> Request<Full<Bytes>> {
        let mut bytes = [0; 16];
        runtime::id::fill(&mut bytes);
        let to_sign = RequestToSign {
            method: "GET",
            target: SIGNED_TARGET,
            client: Some(self.client),
            message_id: Guid::from_random(bytes),
            token: Some(&self.token),
            client_certificate: &[],
            body: &[],
        };
        let now = Timestamp::from_micros(self.clock.now());
        let sign = |bytes: &[u8]| Ok::<_, std::convert::Infallible>(self.key.sign_pkcs1_sha256(bytes));
        let Ok(headers) = to_sign.headers(now, self.thumbprint, sign);
        let mut request = Request::get(gateway.path(SIGNED_TARGET))
            .header(HOST, gateway.authority())
            .header(AUTHORIZATION, self.bearer.clone());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        request.body(Full::default()).expect("its parts were checked when the device was made")
    }
}

/// A connection that is open.
pub(crate) struct Open {
    sender: http1::SendRequest<Full<Bytes>>,
    connection: tokio::task::JoinHandle<()>,
}

impl Open {
    /// Sends a request; the time until the whole answer is there, if it is a good one.
    pub(crate) async fn ask(&mut self, request: Request<Full<Bytes>>) -> Result<Duration, Failure> {
        let began = Instant::now();
        let steps = async {
            self.sender.ready().await.map_err(|_| Failure::Closed)?;
            let answer =
                self.sender.send_request(request).await.map_err(|error| Failure::of_request(&error))?;
            let (head, body) = answer.into_parts();
            // What does not fit or breaks off is no good answer.
            Limited::new(body, ANSWER_BYTES).collect().await.map_err(|_| Failure::Broken)?;
            let reason = head.headers.get(proto::reason::HEADER).and_then(|reason| reason.to_str().ok());
            if head.status.is_success() && reason.is_none() {
                return Ok(began.elapsed());
            }
            Err(Failure::Refused {
                status: head.status.as_u16(),
                reason: reason.unwrap_or_default().to_owned(),
                retry_after: retry_after(&head.headers),
            })
        };
        tokio::time::timeout(REQUEST_TIMEOUT, steps).await.unwrap_or(Err(Failure::AnswerTimeout))
    }

    /// Resolves when the other end closes the connection.
    pub(crate) async fn closed(&mut self) {
        // It ends in no other way; a panic in it would be the end of it as well.
        let _ = (&mut self.connection).await;
    }

    /// Whether the other end has closed it, as far as is known.
    pub(crate) fn is_closed(&self) -> bool {
        self.connection.is_finished() || self.sender.is_closed()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}

/// Why a connection or a request came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No TCP connection.
    Connect(std::io::ErrorKind),
    /// TCP or TLS took too long.
    ConnectTimeout,
    /// The handshake failed: cut off, or by rustls's word.
    Handshake(String),
    /// The connection was closed before the request.
    Closed,
    /// It broke in the middle of a request.
    Broken,
    /// No answer in time.
    AnswerTimeout,
    /// A refusal.
    Refused {
        /// HTTP status.
        status: u16,
        /// The reason code; empty: none was given.
        reason: String,
        /// How long to wait, where the answer says so.
        retry_after: Option<Duration>,
    },
}

impl Failure {
    fn of_tls(error: &std::io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        Self::Handshake(tls.map_or_else(|| error.kind().to_string(), ToString::to_string))
    }

    fn of_request(error: &hyper::Error) -> Self {
        if error.is_canceled() || error.is_closed() { Self::Closed } else { Self::Broken }
    }

    /// As figures name it.
    pub(crate) fn label(&self) -> String {
        match self {
            Self::Connect(kind) => format!("connect: {kind}"),
            Self::ConnectTimeout => "connect: not in time".to_owned(),
            Self::Handshake(what) => format!("handshake: {what}"),
            Self::Closed => "connection closed".to_owned(),
            Self::Broken => "connection broken".to_owned(),
            Self::AnswerTimeout => "no answer in time".to_owned(),
            Self::Refused { status, reason, .. } => format!("{status} {reason}").trim_end().to_owned(),
        }
    }

    /// How the client takes it: only a connection that breaks under a request is tried again at once. Nobody waits
    /// for one that was closed while it idled, so that whoever misses it comes back as after an outage.
    pub(crate) fn setback(&self) -> Setback {
        match self {
            Self::Broken => Setback::Broken,
            Self::Refused { retry_after, .. } => Setback::Outage { asked: *retry_after },
            _ => Setback::Outage { asked: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_loopback_addresses_and_neighbours_differ() {
        assert_eq!(source_address(0).to_string(), "127.1.0.1");
        assert_eq!(source_address(1).to_string(), "127.1.0.2");
        for number in [255, 65_536, SOURCES - 1, SOURCES, u32::MAX] {
            assert!(source_address(number).is_loopback(), "{number}");
        }
    }

    #[test]
    fn failures_have_names_that_can_be_counted() {
        let refused = Failure::Refused {
            status: 503,
            reason: "RG-1105".to_owned(),
            retry_after: Some(Duration::from_secs(3)),
        };
        assert_eq!(refused.label(), "503 RG-1105");
        assert_eq!(refused.setback(), Setback::Outage { asked: Some(Duration::from_secs(3)) });
        assert_eq!(
            Failure::Connect(std::io::ErrorKind::ConnectionRefused).label(),
            "connect: connection refused"
        );
        let inner = rustls::Error::General("x".to_owned());
        assert_eq!(Failure::of_tls(&std::io::Error::other(inner)).label(), "handshake: unexpected error: x");
        assert_eq!(Failure::Closed.setback(), Setback::Outage { asked: None });
        assert_eq!(Failure::Broken.setback(), Setback::Broken);
    }
}
