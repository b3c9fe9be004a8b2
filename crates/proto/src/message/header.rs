//! The header of a message: `<Msg>`. Nothing in it is signed (section 4.4), so nothing in
//! it is believed without the payload's agreement.

use std::fmt;
use std::str::FromStr;

use crate::id::{ClientId, Guid};
use crate::limits;
use crate::message::endpoint::{MessageEndpoint, UnknownEndpoint};
use crate::message::hook::Hook;
use crate::text::field::{FieldError, Fields as _, at_most};
use crate::text::write::XmlWriter;
use crate::text::xml::{Element, XmlError};
use crate::time::Timestamp;

/// Why a text is no message header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Not XML that we read.
    #[error("the header is not acceptable XML")]
    Xml(#[source] XmlError),
    /// Another document.
    #[error("the header's root element is {0:?}, not Msg")]
    NotAMessage(String),
    /// `<UploadRequest>`: the question where to upload to by BITS. Not supported [ours].
    #[error("large uploads are not supported")]
    UploadRequest,
    /// A value that is missing or wrong.
    #[error("a value in the header is not acceptable")]
    Field(#[source] FieldError),
    /// Two hooks of a kind: it would be open which one counts.
    #[error("more than one {0} hook")]
    RepeatedHook(&'static str),
}

impl From<FieldError> for HeaderError {
    fn from(error: FieldError) -> Self {
        Self::Field(error)
    }
}

/// How the sender wants its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReplyCompression {
    /// As it is. Also what an absent attribute means [ours].
    #[default]
    None,
    /// As a zlib stream. The SDK fails when it does not get what it asked for [observed].
    Zlib,
}

impl ReplyCompression {
    const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Zlib => "zlib",
        }
    }
}

impl FromStr for ReplyCompression {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text.to_ascii_lowercase().as_str() {
            "zlib" => Ok(Self::Zlib),
            "none" | "empty" => Ok(Self::None),
            _ => Err(()),
        }
    }
}

/// Whether and how the sender waits. Compared without case: `ASync` occurs [observed].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReplyMode {
    /// Waits for a reply.
    #[default]
    Sync,
    /// Wants only to know that the message arrived: 200 and nothing.
    Async,
    /// The message is itself a reply [sdk-meta].
    Reply,
    /// Unseen [sdk-meta].
    DirectSync,
    /// Unseen [sdk-meta].
    DirectAsync,
}

impl ReplyMode {
    const ALL: [Self; 5] = [Self::Sync, Self::Async, Self::Reply, Self::DirectSync, Self::DirectAsync];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Sync => "Sync",
            Self::Async => "Async",
            Self::Reply => "Reply",
            Self::DirectSync => "DirectSync",
            Self::DirectAsync => "DirectAsync",
        }
    }
}

impl FromStr for ReplyMode {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|mode| mode.as_str().eq_ignore_ascii_case(text)).ok_or(())
    }
}

/// A place in the *inflated* payload, in bytes. A hint: clients get it wrong by a few [observed].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ByteRange {
    /// Bytes before it.
    pub offset: usize,
    /// Bytes in it.
    pub length: usize,
}

impl ByteRange {
    /// The part of the range that the payload really has.
    pub fn clip<'p>(&self, payload: &'p [u8]) -> &'p [u8] {
        let start = self.offset.min(payload.len());
        let end = self.offset.saturating_add(self.length).min(payload.len());
        payload.get(start..end).unwrap_or_default()
    }
}

/// A further place in the payload (section 8.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Where.
    pub range: ByteRange,
    /// Whether `Type="ByteRange"` stood there; of a pair, only one has it [observed: `sdk/08`].
    pub typed: bool,
    /// A GUID without braces [observed]; some have none [observed: `public-c/02`].
    pub name: Option<String>,
}

/// A name and a value, of a header or a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
}

/// A message header. Fields that only describe the sender are kept as they were written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Header {
    /// How to compress the reply. Requests only.
    pub reply_compression: Option<ReplyCompression>,
    /// `1.1` [observed].
    pub schema_version: String,
    /// Where the body lies.
    pub body: Option<ByteRange>,
    /// Further places.
    pub attachments: Vec<Attachment>,
    /// All zero in a request; the request's id in a reply [ours].
    pub correlation_id: Option<Guid>,
    /// In order of application by the sender.
    pub hooks: Vec<Hook>,
    /// The message's id. Public clients reuse one for all, and it may be empty [clients]: no replay key.
    pub id: Option<Guid>,
    /// `inline` [observed].
    pub payload_type: String,
    /// 0 [observed].
    pub priority: Option<i32>,
    /// Such as `FileType` = `SMX` on state messages [observed].
    pub properties: Vec<Property>,
    /// `http` [observed].
    pub protocol: String,
    /// Whether the sender waits.
    pub reply_mode: ReplyMode,
    /// `direct:<host>:SccmMessaging` [observed].
    pub reply_to: String,
    /// As written: one public client puts another kind of time here [observed]. See [`Header::sent_at`].
    pub sent_time: String,
    /// Who says to send it. Absent before registration [observed].
    pub source_id: Option<ClientId>,
    /// The sender's name.
    pub source_host: String,
    /// Optional [sdk-meta].
    pub source_type: String,
    /// Whether the sender could be told to register anew [sdk-meta].
    pub allow_registration_reset: bool,
    /// `mp:<endpoint>` or `mp:[http]<endpoint>` [observed, clients].
    pub target_address: String,
    /// Selects the handler. See [`Header::endpoint`].
    pub target_endpoint: String,
    /// As the sender was told; may carry a scheme or port [observed].
    pub target_host: String,
    /// Milliseconds.
    pub timeout: Option<u32>,
}

impl Header {
    /// Reads a header. Elements may stand in any order; unknown ones are passed over.
    pub fn parse(xml: &str) -> Result<Self, HeaderError> {
        let root = Element::parse(xml).map_err(HeaderError::Xml)?;
        match root.name() {
            "Msg" => {}
            "UploadRequest" => return Err(HeaderError::UploadRequest),
            other => return Err(HeaderError::NotAMessage(other.chars().take(80).collect())),
        }
        Ok(Self {
            reply_compression: keyword("ReplyCompression", root.given_attribute("ReplyCompression")?)?,
            schema_version: root.attribute_or_empty("SchemaVersion")?,
            body: root.child("Body").map(byte_range).transpose()?,
            attachments: attachments(&root)?,
            correlation_id: root.parsed_given_text("CorrelationID")?,
            hooks: hooks(&root)?,
            id: root.parsed_given_text("ID")?,
            payload_type: root
                .child("Payload")
                .map_or(Ok(String::new()), |p| p.attribute_or_empty("Type"))?,
            priority: root.parsed_given_text("Priority")?,
            properties: properties(&root)?,
            protocol: root.text_or_empty("Protocol")?,
            reply_mode: keyword("ReplyMode", root.given_text("ReplyMode")?)?.unwrap_or_default(),
            reply_to: root.text_or_empty("ReplyTo")?,
            sent_time: root.text_or_empty("SentTime")?,
            source_id: root.parsed_given_text("SourceID")?,
            source_host: root.text_or_empty("SourceHost")?,
            source_type: root.text_or_empty("SourceType")?,
            allow_registration_reset: root
                .descendant(&["ReplyCapabilities", "AllowRegistrationReset"])
                .is_some(),
            target_address: root.text_or_empty("TargetAddress")?,
            target_endpoint: root.text_or_empty("TargetEndpoint")?,
            target_host: root.text_or_empty("TargetHost")?,
            timeout: root.parsed_given_text("Timeout")?,
        })
    }

    /// Writes the header, elements in the order of a client's request [observed].
    pub fn to_xml(&self) -> String {
        let mut xml = XmlWriter::new();
        xml.start("Msg")
            .optional_attribute("ReplyCompression", self.reply_compression.map(ReplyCompression::as_str))
            .attribute("SchemaVersion", &self.schema_version);
        for attachment in &self.attachments {
            xml.start("Attachment")
                .optional_attribute("Type", attachment.typed.then_some("ByteRange"))
                .attribute("Length", attachment.range.length)
                .optional_attribute("Name", attachment.name.as_ref())
                .attribute("Offset", attachment.range.offset)
                .end();
        }
        if let Some(body) = &self.body {
            xml.start("Body")
                .attribute("Type", "ByteRange")
                .attribute("Length", body.length)
                .attribute("Offset", body.offset)
                .end();
        }
        xml.optional_leaf("CorrelationID", self.correlation_id.map(|id| id.braced())).start("Hooks");
        for hook in &self.hooks {
            hook.write(&mut xml);
        }
        xml.end()
            .optional_leaf("ID", self.id.map(|id| id.braced()))
            .start("Payload")
            .attribute("Type", &self.payload_type)
            .end()
            .optional_leaf("Priority", self.priority);
        for property in &self.properties {
            xml.start("Property").attribute("Name", &property.name).attribute("Value", &property.value).end();
        }
        xml.leaf("Protocol", &self.protocol);
        if self.allow_registration_reset {
            xml.start("ReplyCapabilities").empty("AllowRegistrationReset").end();
        }
        xml.leaf("ReplyMode", self.reply_mode.as_str())
            .optional_leaf("ReplyTo", given(&self.reply_to))
            .optional_leaf("SentTime", given(&self.sent_time))
            .optional_leaf("SourceID", self.source_id)
            .optional_leaf("SourceHost", given(&self.source_host));
        if let Some(kind) = given(&self.source_type) {
            xml.start("SourceType").attribute("Type", kind).text(kind).end();
        }
        xml.optional_leaf("TargetAddress", given(&self.target_address))
            .optional_leaf("TargetEndpoint", given(&self.target_endpoint))
            .optional_leaf("TargetHost", given(&self.target_host))
            .optional_leaf("Timeout", self.timeout);
        xml.finish()
    }

    /// The endpoint that this message is for.
    pub fn endpoint(&self) -> Result<MessageEndpoint, UnknownEndpoint> {
        self.target_endpoint.parse()
    }

    /// When the sender says to have sent it, where that can be read.
    pub fn sent_at(&self) -> Option<Timestamp> {
        Timestamp::parse_iso8601(&self.sent_time).ok()
    }

    /// The hook with the sender's signatures.
    pub fn client_auth(&self) -> Option<&crate::message::hook::ClientAuth> {
        self.hooks.iter().find_map(|hook| match hook {
            Hook::ClientAuth(auth) => Some(auth),
            _ => None,
        })
    }

    /// Whether the payload is a zlib stream.
    pub fn is_compressed(&self) -> bool {
        self.hooks.contains(&Hook::ZlibCompress)
    }

    /// What a property of the header says. Names are compared without case.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|p| p.name.eq_ignore_ascii_case(name)).map(|p| p.value.as_str())
    }
}

fn given(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// A word out of a fixed list, where it is given.
fn keyword<T: FromStr>(what: &'static str, value: Option<&str>) -> Result<Option<T>, FieldError> {
    value.map(|value| value.parse().map_err(|_| FieldError::invalid(what, value))).transpose()
}

fn byte_range(element: &Element<'_>) -> Result<ByteRange, FieldError> {
    Ok(ByteRange { offset: element.parsed_attribute("Offset")?, length: element.parsed_attribute("Length")? })
}

fn attachments(root: &Element<'_>) -> Result<Vec<Attachment>, FieldError> {
    let mut list = Vec::new();
    for element in root.children_named("Attachment").take(limits::MESSAGE_ATTACHMENTS + 1) {
        list.push(Attachment {
            range: byte_range(element)?,
            typed: element.attribute("Type").is_some(),
            name: element.given_attribute("Name")?.map(str::to_owned),
        });
    }
    at_most("attachments", limits::MESSAGE_ATTACHMENTS, list)
}

fn hooks(root: &Element<'_>) -> Result<Vec<Hook>, HeaderError> {
    let Some(element) = root.child("Hooks") else { return Ok(Vec::new()) };
    let mut list: Vec<Hook> = Vec::new();
    for child in element.children().iter().take(limits::MESSAGE_HOOKS + 1) {
        let hook = Hook::parse(child)?;
        if let Some(kind) = hook.known_kind()
            && list.iter().any(|other| other.known_kind() == Some(kind))
        {
            return Err(HeaderError::RepeatedHook(kind));
        }
        list.push(hook);
    }
    Ok(at_most("hooks", limits::MESSAGE_HOOKS, list)?)
}

/// Properties directly in an element. The value is an attribute in headers and text in
/// hooks [observed]; either is read in both places. A name may occur once.
pub(crate) fn properties(element: &Element<'_>) -> Result<Vec<Property>, FieldError> {
    let mut list: Vec<Property> = Vec::new();
    for child in element.children_named("Property").take(limits::MESSAGE_PROPERTIES + 1) {
        let name = child.required_attribute("Name")?.to_owned();
        if list.iter().any(|other| other.name.eq_ignore_ascii_case(&name)) {
            return Err(FieldError::invalid("repeated Property", &name));
        }
        let value = match child.given_attribute("Value")? {
            Some(value) => value.to_owned(),
            None => crate::text::field::short("Property", child.text().trim())?.to_owned(),
        };
        list.push(Property { name, value });
    }
    at_most("properties", limits::MESSAGE_PROPERTIES, list)
}

impl fmt::Display for ReplyMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_header_is_enough_and_unknown_elements_are_passed_over() {
        let header =
            Header::parse("<Msg><X><Y/></X><TargetEndpoint>mp_DDRendpoint</TargetEndpoint><ID/></Msg>")
                .unwrap();
        assert_eq!(header.endpoint(), Ok(MessageEndpoint::Discovery));
        assert_eq!((header.id, header.reply_compression, header.reply_mode), (None, None, ReplyMode::Sync));
        assert_eq!(Header::parse(&header.to_xml()), Ok(header));
    }

    #[test]
    fn everything_that_can_stand_in_a_header_comes_back() {
        let guid = Guid::from_bytes([7; 16]);
        let header = Header {
            reply_compression: Some(ReplyCompression::Zlib),
            schema_version: "1.1".to_owned(),
            body: Some(ByteRange { offset: 3, length: 7 }),
            attachments: vec![
                Attachment {
                    range: ByteRange { offset: 0, length: 9 },
                    typed: true,
                    name: Some("a".to_owned()),
                },
                Attachment { range: ByteRange::default(), typed: false, name: None },
            ],
            correlation_id: Some(Guid::nil()),
            hooks: vec![Hook::ZlibCompress, Hook::Unknown("encrypt".to_owned())],
            id: Some(guid),
            payload_type: "inline".to_owned(),
            priority: Some(-1),
            properties: vec![Property { name: "FileType".to_owned(), value: "SMX".to_owned() }],
            protocol: "http".to_owned(),
            reply_mode: ReplyMode::Async,
            reply_to: "direct:PC1:SccmMessaging".to_owned(),
            sent_time: "20260131104559.846000+000".to_owned(),
            source_id: Some(ClientId::new(guid)),
            source_host: "<PC&1>".to_owned(),
            source_type: "2".to_owned(),
            allow_registration_reset: true,
            target_address: "mp:MP_DdrEndpoint".to_owned(),
            target_endpoint: "MP_DdrEndpoint".to_owned(),
            target_host: "http://mp1.example.org:80".to_owned(),
            timeout: Some(60_000),
        };
        assert_eq!(Header::parse(&header.to_xml()), Ok(header.clone()));
        assert_eq!(header.sent_at(), None);
        assert_eq!(header.property("filetype"), Some("SMX"));
    }

    #[test]
    fn what_cannot_be_obeyed_is_refused() {
        for xml in [
            "<Msg ReplyCompression='gzip'/>",
            "<Msg><ReplyMode>Maybe</ReplyMode></Msg>",
            "<Msg><SourceID>PC1</SourceID></Msg>",
            "<Msg><ID>7</ID></Msg>",
            "<Msg><Body Length='-1' Offset='0'/></Msg>",
            "<Msg><Body Length='1'/></Msg>",
            "<Msg><Property Name='a' Value='1'/><Property Name='A' Value='2'/></Msg>",
            "<Msg><Hooks><Hook3/></Hooks></Msg>",
            "<Msg><Priority>high</Priority></Msg>",
        ] {
            assert!(matches!(Header::parse(xml), Err(HeaderError::Field(_))), "{xml}");
        }
        let twice = "<Msg><Hooks><Hook3 Name='zlib-compress'/><Hook Name='ZLIB-compress'/></Hooks></Msg>";
        assert_eq!(Header::parse(twice), Err(HeaderError::RepeatedHook("zlib-compress")));
        let many = |n: usize| format!("<Msg><Hooks>{}</Hooks></Msg>", "<Hook Name='x'/>".repeat(n));
        assert!(Header::parse(&many(limits::MESSAGE_HOOKS)).is_ok());
        assert!(Header::parse(&many(limits::MESSAGE_HOOKS + 1)).is_err());
        let many = |n: usize| format!("<Msg>{}</Msg>", "<Attachment Length='1' Offset='1'/>".repeat(n));
        assert!(Header::parse(&many(limits::MESSAGE_ATTACHMENTS)).is_ok());
        assert!(Header::parse(&many(limits::MESSAGE_ATTACHMENTS + 1)).is_err());
        assert_eq!(Header::parse("<msg/>"), Err(HeaderError::NotAMessage("msg".to_owned())));
        assert_eq!(Header::parse("<UploadRequest/>"), Err(HeaderError::UploadRequest));
    }

    #[test]
    fn ranges_are_clipped_to_what_is_there() {
        let range = |offset, length| ByteRange { offset, length };
        assert_eq!(range(1, 2).clip(b"abcd"), b"bc");
        assert_eq!(range(2, 9).clip(b"abcd"), b"cd");
        assert_eq!(range(9, 9).clip(b"abcd"), b"");
        assert_eq!(range(1, usize::MAX).clip(b"abcd"), b"bcd");
    }
}
