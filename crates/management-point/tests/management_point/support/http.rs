//! Requests as bytes, answers as bytes: nothing between the tests and the wire.

use std::net::SocketAddr;

use proto::client_certificate;
use proto::http_signature::{self, Answered, RequestToSign, verify_answer};
use proto::id::{ClientId, Guid};
use proto::message::SigningKey as _;
use proto::reason::Reason;
use proto::time::Timestamp;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::device::{TestDevice, fresh_id};
use super::tls::TlsClient;

/// A request to be sent.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The message id, once signed.
    pub(crate) message_id: Option<Guid>,
}

impl Ask {
    pub(crate) fn new(method: &str, target: &str) -> Self {
        let (method, target) = (method.to_owned(), target.to_owned());
        Self { method, target, headers: Vec::new(), body: Vec::new(), message_id: None }
    }

    pub(crate) fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// A message to this path.
    pub(crate) fn message(path: &str, body: Vec<u8>) -> Self {
        let content_type = proto::message::envelope::CONTENT_TYPE;
        Self { body, ..Self::new("CCM_POST", path) }.header("Content-Type", content_type)
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn bearer(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    /// Signs what is there so far, as our client does. Nothing may be changed afterwards.
    pub(crate) fn signed(self, device: &TestDevice, client: Option<ClientId>, created: Timestamp) -> Self {
        self.signed_as(device, client, created, fresh_id())
    }

    pub(crate) fn signed_as(
        mut self,
        device: &TestDevice,
        client: Option<ClientId>,
        created: Timestamp,
        message_id: Guid,
    ) -> Self {
        let authorization = self.headers.iter().find(|(name, _)| name == "Authorization");
        let token = authorization.and_then(|(_, value)| value.strip_prefix("Bearer "));
        let proofs = client_certificate::HEADERS.iter().filter_map(|name| {
            let (_, value) = self.headers.iter().find(|(known, _)| known == name)?;
            Some((*name, value.clone()))
        });
        let proofs: Vec<_> = proofs.collect();
        let to_sign = RequestToSign {
            method: &self.method,
            target: &self.target,
            client,
            message_id,
            token,
            client_certificate: &proofs,
            body: &self.body,
        };
        let headers = to_sign
            .headers(created, device.thumbprint(), |base| {
                Ok::<_, std::convert::Infallible>(device.key.sign_pkcs1_sha256(base))
            })
            .unwrap();
        self.headers.extend(headers.into_iter().map(|(name, value)| (name.to_owned(), value)));
        let certificate = http_signature::write_certificates([device.certificate.as_slice()]);
        self.message_id = Some(message_id);
        self.header(http_signature::CERTIFICATE, &certificate)
    }

    /// What a signed answer to it is tied to.
    pub(crate) fn asked(&self) -> Asked {
        let signature = self.headers.iter().find(|(name, _)| name == http_signature::SIGNATURE);
        Asked {
            message_id: self.message_id.expect("a signed request"),
            signature: signature.map(|(_, value)| value.clone()).expect("a signed request"),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes =
            format!("{} {} HTTP/1.1\r\nHost: mp\r\nConnection: close\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            bytes.extend([name, ": ", value, "\r\n"]);
        }
        bytes.extend(["Content-Length: ", &self.body.len().to_string(), "\r\n\r\n"]);
        let mut bytes = bytes.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }

    pub(crate) async fn send(&self, address: SocketAddr) -> Answer {
        send_raw(address, &self.bytes()).await
    }

    /// Over TLS; an error is one of the handshake, or that the answer did not come.
    pub(crate) async fn send_tls(&self, address: SocketAddr, client: &TlsClient) -> std::io::Result<Answer> {
        exchange(client.connect(address).await?, &self.bytes()).await
    }
}

/// Id and signature of a request.
pub(crate) struct Asked {
    message_id: Guid,
    signature: String,
}

impl Asked {
    pub(crate) fn answered(&self) -> Answered<'_> {
        Answered { message_id: self.message_id, signature: &self.signature }
    }
}

/// An answer, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) phrase: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The reason of a refusal.
    pub(crate) fn reason(&self) -> Option<Reason> {
        self.header(proto::reason::HEADER).map(|code| code.parse().unwrap())
    }

    /// Whether the site signed this answer to that request.
    pub(crate) fn is_signed_by(&self, site: &site::Site, asked: &Asked) -> bool {
        let chain = site.message_chain();
        verify_answer(&chain[0], self.status, asked.answered(), |name| self.header(name), &self.body).is_ok()
    }

    /// The XML of a reply message.
    pub(crate) fn reply(&self) -> String {
        let content_type = self.header("Content-Type").unwrap_or_default();
        match proto::message::ReplyMessage::parse(content_type, &self.body) {
            Ok(reply) => reply.body,
            Err(error) => panic!("no reply ({error}): {self:?}"),
        }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

/// Sends a HEAD request, whose answer has no body whatever it announces.
pub(crate) async fn send_head(stream: &mut TcpStream, ask: &Ask) -> Answer {
    stream.write_all(&ask.bytes()).await.unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).await.unwrap();
    let end = received.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    assert_eq!(received.len(), end + 4, "no body");
    let head = String::from_utf8(received).unwrap();
    let without = head.lines().filter(|line| !line.to_ascii_lowercase().starts_with("content-length"));
    let head: String = without.flat_map(|line| [line, "\r\n"]).collect();
    take_apart(head.as_bytes()).unwrap()
}

/// Sends these bytes on a connection of their own and reads one answer.
pub(crate) async fn send_raw(address: SocketAddr, bytes: &[u8]) -> Answer {
    exchange(TcpStream::connect(address).await.unwrap(), bytes).await.unwrap()
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) -> std::io::Result<Answer> {
    // A refusal may come, and the connection close, before all of a request is written.
    let _ = stream.write_all(bytes).await;
    let mut received = Vec::new();
    loop {
        if let Some(answer) = take_apart(&received) {
            return Ok(answer);
        }
        let mut piece = vec![0; 16 * 1024];
        match stream.read(&mut piece).await? {
            0 => panic!("no whole answer: {:?}", String::from_utf8_lossy(&received)),
            length => received.extend_from_slice(&piece[..length]),
        }
    }
}

fn take_apart(received: &[u8]) -> Option<Answer> {
    let end = received.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&received[..end]).unwrap();
    if head.starts_with("HTTP/1.1 100 ") {
        return take_apart(&received[end + 4..]);
    }
    let mut lines = head.split("\r\n");
    let mut status_line = lines.next().unwrap().splitn(3, ' ');
    assert_eq!(status_line.next(), Some("HTTP/1.1"));
    let status = status_line.next().unwrap().parse().unwrap();
    let phrase = status_line.next().unwrap_or_default().to_owned();
    let headers: Vec<_> = lines
        .map(|line| line.split_once(':').unwrap())
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length: usize = length.map_or(0, |(_, value)| value.parse().unwrap());
    let body = received[end + 4..].get(..length)?.to_vec();
    Some(Answer { status, phrase, headers, body })
}
