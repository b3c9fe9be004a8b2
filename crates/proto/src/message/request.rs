//! A request: read by the management point, made by the client.

use aws_lc_rs::digest::{SHA256, digest};

use crate::id::{ClientId, Guid};
use crate::limits;
use crate::message::MessageError;
use crate::message::body::PlainMessage;
use crate::message::endpoint::MessageEndpoint;
use crate::message::envelope::Envelope;
use crate::message::header::{ByteRange, Header, Property, ReplyCompression, ReplyMode};
use crate::message::hook::{ClientAuth, Hook, SigningIdentity};
use crate::message::signature::{RsaPublicKey, SignatureError};
use crate::text;
use crate::time::Timestamp;
use crate::zlib;

/// A request as received: header read, payload untouched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestMessage {
    header: Header,
    payload: Vec<u8>,
}

impl RequestMessage {
    /// Reads a request. The payload is neither verified nor inflated yet.
    pub fn parse(content_type: &str, body: &[u8]) -> Result<Self, MessageError> {
        let envelope = Envelope::parse(content_type, body).map_err(MessageError::Envelope)?;
        let header = Header::parse(&envelope.header).map_err(MessageError::Header)?;
        if !header.payload_type.is_empty() && !header.payload_type.eq_ignore_ascii_case("inline") {
            return Err(MessageError::UnsupportedPayload(header.payload_type));
        }
        Ok(Self { header, payload: envelope.payload.unwrap_or_default().to_vec() })
    }

    /// The header: unsigned, so a claim.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The payload as stored: what the signature covers.
    pub fn stored_payload(&self) -> &[u8] {
        &self.payload
    }

    /// SHA-256 of the payload as stored: with client and endpoint it names a delivery, so
    /// that a repeated one has one effect.
    pub fn payload_hash(&self) -> [u8; 32] {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, &self.payload).as_ref());
        hash
    }

    /// Checks `PayloadSignature` with the key registered for `SourceID`. This, and not the
    /// key in the message, is the proof of who sent the payload.
    pub fn verify_payload(&self, registered: &RsaPublicKey) -> Result<(), SignatureError> {
        let auth = self.header.client_auth().ok_or(SignatureError::Missing("clientauth hook"))?;
        auth.hash_algorithm()?;
        registered.verify(&self.payload, &auth.payload_signature()?)
    }

    /// Checks `ClientIDSignature`. For the log: correct clients exist that get it wrong
    /// (section 4.3).
    pub fn check_client_id_signature(&self, registered: &RsaPublicKey) -> Result<(), SignatureError> {
        let auth = self.header.client_auth().ok_or(SignatureError::Missing("clientauth hook"))?;
        let id = self.header.source_id.ok_or(SignatureError::Missing("SourceID"))?;
        registered.verify(&text::encode_with_nul(&id.to_string()), &auth.client_id_signature()?)
    }

    /// Undoes what the hooks name; never makes more than `limit` bytes. Verify first.
    pub fn inflate(self, limit: usize) -> Result<PlainMessage, MessageError> {
        if let Some(name) = self.header.hooks.iter().find_map(|hook| match hook {
            Hook::Unknown(name) => Some(name),
            Hook::ClientAuth(_) | Hook::ZlibCompress => None,
        }) {
            return Err(MessageError::UnsupportedHook(name.clone()));
        }
        let payload = if self.header.is_compressed() {
            zlib::inflate(&self.payload, limit.min(limits::INFLATED_BYTES)).map_err(MessageError::Inflate)?
        } else {
            self.payload
        };
        Ok(PlainMessage { header: self.header, payload })
    }
}

/// A request to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingRequest<'r> {
    /// The message's id: random, drawn by the caller.
    pub message_id: Guid,
    /// When it is made.
    pub now: Timestamp,
    /// The sender's name.
    pub source_host: &'r str,
    /// The id that the site gave; none before registration.
    pub source_id: Option<ClientId>,
    /// Whom it is for.
    pub endpoint: MessageEndpoint,
    /// The host it is sent to, as the client was told.
    pub target_host: &'r str,
    /// The body, without XML declaration or with one.
    pub body: &'r str,
    /// Whether to send the payload as a zlib stream.
    pub compress: bool,
    /// How the reply shall come.
    pub reply_compression: ReplyCompression,
    /// Header properties, such as `FileType` = `SMX` of a state message [observed].
    pub properties: Vec<Property>,
}

impl OutgoingRequest<'_> {
    /// Writes the request without a signature in its header: registration, locations, state messages.
    pub fn write(&self) -> Vec<u8> {
        let payload = self.payload();
        Envelope::write(&self.header(Vec::new()).to_xml(), Some(&payload))
    }

    /// Writes the request signed. `SourceID` is the signer's id.
    pub fn write_signed(&self, identity: &SigningIdentity<'_>) -> Vec<u8> {
        let payload = self.payload();
        let mut header = self.header(vec![Hook::ClientAuth(ClientAuth::sign(identity, &payload))]);
        header.source_id = Some(identity.client_id);
        Envelope::write(&header.to_xml(), Some(&payload))
    }

    /// Body, NUL, and two raw bytes, as every known client writes it [observed].
    fn payload(&self) -> Vec<u8> {
        let mut plain = text::encode_with_nul(self.body);
        plain.extend_from_slice(b"\r\n");
        if self.compress { zlib::deflate(&plain) } else { plain }
    }

    fn header(&self, mut hooks: Vec<Hook>) -> Header {
        if self.compress {
            hooks.push(Hook::ZlibCompress);
        }
        let length = self.body.encode_utf16().count() * 2 + 2;
        let endpoint = self.endpoint.name();
        Header {
            reply_compression: Some(self.reply_compression),
            schema_version: "1.1".to_owned(),
            body: Some(ByteRange { offset: 0, length }),
            attachments: Vec::new(),
            correlation_id: Some(Guid::nil()),
            hooks,
            id: Some(self.message_id),
            payload_type: "inline".to_owned(),
            priority: Some(0),
            properties: self.properties.clone(),
            protocol: "http".to_owned(),
            reply_mode: if self.endpoint.is_synchronous() { ReplyMode::Sync } else { ReplyMode::Async },
            reply_to: format!("direct:{}:SccmMessaging", self.source_host),
            sent_time: self.now.iso8601(),
            source_id: self.source_id,
            source_host: self.source_host.to_owned(),
            source_type: String::new(),
            allow_registration_reset: false,
            target_address: format!("mp:{endpoint}"),
            target_endpoint: endpoint.to_owned(),
            target_host: self.target_host.to_owned(),
            timeout: Some(60_000),
        }
    }
}
