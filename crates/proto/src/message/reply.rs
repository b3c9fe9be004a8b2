//! A reply: made by the management point, read by the client.

use crate::id::Guid;
use crate::limits;
use crate::message::MessageError;
use crate::message::body::{BodyTextError, PlainMessage};
use crate::message::envelope::Envelope;
use crate::message::header::{Header, ReplyCompression};
use crate::message::request::RequestMessage;
use crate::text;
use crate::text::write::XmlWriter;
use crate::time::Timestamp;
use crate::zlib;

/// What a reply says of its making.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyStamp<'s> {
    /// The reply's own id: random, drawn by the caller.
    pub message_id: Guid,
    /// When it is made.
    pub now: Timestamp,
    /// The management point's name.
    pub source_host: &'s str,
}

/// Why bytes are no reply that the client reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// Not a message.
    #[error("the reply is no message")]
    Message(#[source] MessageError),
    /// Its body is no text.
    #[error("the reply's body cannot be read")]
    Body(#[source] BodyTextError),
}

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyMessage {
    /// Its header.
    pub header: Header,
    /// Its body's XML.
    pub body: String,
}

impl ReplyMessage {
    /// Writes the reply to a request: to whom the request says, with its id as correlation,
    /// compressed as it asks.
    ///
    /// The payload ends with exactly one NUL character and nothing behind it: of the endings
    /// tried, the only one that all clients take (section 2.2).
    pub fn write(request: &Header, stamp: &ReplyStamp<'_>, body: &str) -> Vec<u8> {
        let plain = text::encode_with_nul(body);
        let compressed = request.reply_compression == Some(ReplyCompression::Zlib);
        let header = header_xml(request, stamp, plain.len() - 2, compressed);
        let payload = if compressed { zlib::deflate(&plain) } else { plain };
        Envelope::write(&header, Some(&payload))
    }

    /// Reads a reply. The whole payload is the body, whatever its header says [observed: the SDK].
    pub fn parse(content_type: &str, bytes: &[u8]) -> Result<Self, ReplyError> {
        let message = RequestMessage::parse(content_type, bytes).map_err(ReplyError::Message)?;
        let PlainMessage { header, payload } =
            message.inflate(limits::INFLATED_BYTES).map_err(ReplyError::Message)?;
        let body =
            text::decode_trimmed(&payload).map_err(|error| ReplyError::Body(BodyTextError::Text(error)))?;
        if body.is_empty() {
            return Err(ReplyError::Body(BodyTextError::Empty));
        }
        Ok(Self { header, body })
    }
}

/// The header, elements in the order that the SDK and the public clients accepted (section 3.2).
fn header_xml(request: &Header, stamp: &ReplyStamp<'_>, length: usize, compressed: bool) -> String {
    let endpoint = reply_endpoint(&request.reply_to);
    let mut xml = XmlWriter::new();
    xml.start("Msg")
        .attribute("SchemaVersion", "1.1")
        .leaf("ID", stamp.message_id.braced())
        .leaf("SourceHost", stamp.source_host)
        .leaf("TargetAddress", &request.reply_to)
        .leaf("ReplyTo", format_args!("MP:{}", request.target_endpoint))
        .leaf("CorrelationID", request.id.unwrap_or(Guid::nil()).braced())
        .leaf("Priority", 0)
        .leaf("Timeout", 60_000)
        .leaf("SentTime", stamp.now.iso8601())
        .leaf("Protocol", "http")
        .start("Body")
        .attribute("Type", "ByteRange")
        .attribute("Offset", 0)
        .attribute("Length", length)
        .end()
        .start("Hooks");
    if compressed {
        xml.start("Hook3").attribute("Name", "zlib-compress").end();
    }
    xml.end()
        .start("Payload")
        .attribute("Type", "inline")
        .end()
        .leaf("TargetEndpoint", endpoint)
        .leaf("ReplyMode", "Sync");
    xml.finish()
}

/// The last part of `direct:<host>:<endpoint>`.
fn reply_endpoint(reply_to: &str) -> &str {
    reply_to.rsplit(':').next().filter(|name| !name.is_empty()).unwrap_or("SccmMessaging")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::envelope::CONTENT_TYPE;

    const STAMP: ReplyStamp<'_> = ReplyStamp {
        message_id: Guid::from_bytes([1; 16]),
        now: Timestamp::from_seconds(0),
        source_host: "MP1",
    };

    fn request(compression: Option<ReplyCompression>) -> Header {
        Header {
            reply_compression: compression,
            id: Some(Guid::from_bytes([2; 16])),
            reply_to: "direct:PC1:SccmMessaging".to_owned(),
            target_endpoint: "MP_PolicyManager".to_owned(),
            ..Header::default()
        }
    }

    #[test]
    fn a_reply_ends_with_one_nul_and_is_compressed_only_when_asked() {
        for (compression, compressed) in
            [(None, false), (Some(ReplyCompression::None), false), (Some(ReplyCompression::Zlib), true)]
        {
            let bytes = ReplyMessage::write(&request(compression), &STAMP, "<A/>");
            let envelope = Envelope::parse(CONTENT_TYPE, &bytes).unwrap();
            let stored = envelope.payload.unwrap();
            let plain = if compressed { zlib::inflate(stored, 100).unwrap() } else { stored.to_vec() };
            assert_eq!(plain, b"<\0A\0/\0>\0\0\0");
            let reply = ReplyMessage::parse(CONTENT_TYPE, &bytes).unwrap();
            assert_eq!((reply.body.as_str(), reply.header.is_compressed()), ("<A/>", compressed));
            assert_eq!(reply.header.correlation_id, Some(Guid::from_bytes([2; 16])));
            assert_eq!(reply.header.target_endpoint, "SccmMessaging");
            assert_eq!(reply.header.body.unwrap().length, 8);
        }
    }

    #[test]
    fn a_reply_without_a_body_is_no_reply() {
        let bytes = ReplyMessage::write(&request(None), &STAMP, "");
        assert_eq!(ReplyMessage::parse(CONTENT_TYPE, &bytes), Err(ReplyError::Body(BodyTextError::Empty)));
        assert!(matches!(ReplyMessage::parse(CONTENT_TYPE, b""), Err(ReplyError::Message(_))));
    }
}
