//! The recorded messages in `fixtures/wire`, split into HTTP head and body.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use proto::id::ClientId;
use proto::message::{ReplyMessage, RequestMessage, RsaPublicKey};
use proto::request::registration::{
    ClientRegistrationRequest, ClientRegistrationResponse, RegistrationKind, RegistrationType,
};

/// One recorded request or reply.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    /// Folder and file name, such as `sdk/01-registration.request.http`.
    pub(crate) name: String,
    /// The first line.
    pub(crate) start_line: String,
    /// Header names in lower case.
    headers: BTreeMap<String, String>,
    /// What follows the head.
    pub(crate) body: Vec<u8>,
}

impl Recorded {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(&name.to_ascii_lowercase()).map(String::as_str)
    }

    /// The Content-Type, or nothing.
    pub(crate) fn content_type(&self) -> &str {
        self.header("content-type").unwrap_or_default()
    }

    /// Whether the body is an envelope.
    pub(crate) fn is_message(&self) -> bool {
        self.content_type().starts_with("multipart/mixed")
    }

    /// `sdk` of `sdk/01-….request.http`.
    pub(crate) fn folder(&self) -> &str {
        self.name.split('/').next().unwrap()
    }

    /// The request, read.
    pub(crate) fn request(&self) -> RequestMessage {
        RequestMessage::parse(self.content_type(), &self.body)
            .unwrap_or_else(|e| panic!("{}: {e:?}", self.name))
    }

    /// The reply, read.
    pub(crate) fn reply(&self) -> ReplyMessage {
        ReplyMessage::parse(self.content_type(), &self.body)
            .unwrap_or_else(|e| panic!("{}: {e:?}", self.name))
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/wire")
}

/// All recordings whose file name ends so, in order.
pub(crate) fn all(ending: &str) -> Vec<Recorded> {
    let mut files = Vec::new();
    for folder in
        fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir())
    {
        files.extend(fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    }
    files.retain(|path| path.to_str().unwrap().ends_with(ending));
    files.sort();
    files.iter().map(|path| split(path)).collect()
}

/// One recording.
pub(crate) fn one(name: &str) -> Recorded {
    split(&root().join(name))
}

fn split(path: &Path) -> Recorded {
    let bytes = fs::read(path).unwrap();
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let start_line = lines.next().unwrap().to_owned();
    let headers = lines.map(|line| line.split_once(':').unwrap());
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
    let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
    Recorded { name, start_line, headers, body: bytes[end + 4..].to_vec() }
}

/// The one object in a PEM file of `keys/`.
pub(crate) fn pem(name: &str) -> Vec<u8> {
    let text = fs::read_to_string(root().join("keys").join(name)).unwrap();
    let base64: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    base64::engine::general_purpose::STANDARD.decode(base64).unwrap()
}

/// The registration in a recorded request.
pub(crate) fn registration(recorded: &Recorded) -> Option<ClientRegistrationRequest> {
    let message = recorded.request();
    if message.header().target_endpoint != "MP_ClientRegistration" {
        return None;
    }
    let text = message.inflate(usize::MAX).unwrap().body_text().unwrap();
    Some(ClientRegistrationRequest::parse(&text).unwrap())
}

/// The signing keys that the recordings register, by folder and the id that the reply gave.
pub(crate) fn registered_keys() -> BTreeMap<(String, ClientId), RsaPublicKey> {
    let mut keys = BTreeMap::new();
    for request in
        all(".request.http").iter().filter(|r| r.is_message() && !r.name.contains("upload-request"))
    {
        let Some(registration) = registration(request) else { continue };
        let RegistrationKind::Registration(details) = &registration.data.kind else { continue };
        let reply = one(&request.name.replace(".request.", ".reply.")).reply();
        let response = ClientRegistrationResponse::parse(&reply.body).unwrap();
        assert_eq!(response.response_type, RegistrationType::Registration);
        let key = RsaPublicKey::from_certificate(&details.signing.der).unwrap();
        keys.insert((request.folder().to_owned(), response.client_id), key);
    }
    keys
}
