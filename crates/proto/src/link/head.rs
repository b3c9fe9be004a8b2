//! Heads of requests and answers inside a tunnel, and their form in bytes.
//!
//! They pass with every request, so they are not JSON like the rest of what is said between the parts: writing
//! copies each text once, and reading copies none. Numbers are big-endian. A *text* is its length and so many
//! bytes of UTF-8.
//!
//! | request | bytes | | answer | bytes |
//! |---|---|---|---|---|
//! | form, 1 | 1 | | form, 1 | 1 |
//! | flags: 1 certificate, 2 length | 1 | | flags: 1 phrase, 2 length | 1 |
//! | request id | 16 | | status | 2 |
//! | role | 8 | | length of the body, if flagged | 8 |
//! | certificate, if flagged | 32 | | phrase, if flagged | text, length in 1 byte |
//! | length of the body, if flagged | 8 | | headers | as beside |
//! | method | text, length in 1 byte | | | |
//! | target, external address | texts, lengths in 2 bytes | | | |
//! | headers: how many | 1 | | | |
//! | each: number of its name in [`NAMES`], or 255 and the name as a text with its length in 1 byte | | | | |
//! | … and its value | text, length in 2 bytes | | | |

use std::borrow::Cow;
use std::sync::LazyLock;

use crate::header::Index;
use crate::id::{Guid, RequestId, RoleId, Thumbprint};
use crate::{client_certificate, http_signature, reason};

/// Most headers of one head.
pub const HEADERS_MAX: usize = 64;

const FORM: u8 = 1;
/// In place of a number: the name follows.
const NAMED: u8 = u8::MAX;
const HAS_LENGTH: u8 = 2;
const HAS_CERTIFICATE: u8 = 1;
const HAS_PHRASE: u8 = 1;

/// Names that travel as their place in this list. It only ever grows, at its end: both sides of a tunnel must
/// read it alike, whatever their versions.
const NAMES: &[&str] = &[
    "authorization",
    "content-type",
    "user-agent",
    "accept",
    "range",
    "ccmclientid",
    "ccmclientidsignature",
    "ccmclienttimestamp",
    "ccmclienttimestampsignature",
    "ccmclienttimestampssignature",
    "clienttoken",
    "clienttokensignature",
    "depth",
    "translate",
    http_signature::PATH,
    http_signature::CLIENT_ID,
    http_signature::MESSAGE_ID,
    http_signature::TOKEN_DIGEST,
    http_signature::CLIENT_CERTIFICATE_DIGEST,
    http_signature::CERTIFICATE,
    http_signature::WANT,
    http_signature::ANSWERS,
    "content-digest",
    "signature-input",
    http_signature::SIGNATURE,
    client_certificate::CHAIN,
    client_certificate::PROOF,
    "etag",
    "last-modified",
    "retry-after",
    "www-authenticate",
    reason::HEADER,
    reason::REQUEST_ID_HEADER,
];

/// Headers of a head, in their order: name and value.
pub type Headers<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// The head of a request inside a tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHead<'a> {
    /// Names the request through all hops.
    pub request: RequestId,
    /// The method; at most 255 bytes.
    pub method: Cow<'a, str>,
    /// The role.
    pub role: RoleId,
    /// Path and query at the role, in the table's spelling; at most 65,535 bytes.
    pub target: Cow<'a, str>,
    /// The external address as the device wrote it, for the field's log line; at most 65,535 bytes.
    pub external: Cow<'a, str>,
    /// The client certificate that opened the MutualAuth door. A hint that may only ever make a
    /// management point refuse (R39): a message of another device's than this certificate's.
    pub certificate: Option<Thumbprint>,
    /// Headers that may pass; at most [`HEADERS_MAX`], each value at most 65,535 bytes.
    pub headers: Headers<'a>,
    /// Length of the body, when the device stated it.
    pub body_length: Option<u64>,
}

/// The head of an answer inside a tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerHead<'a> {
    /// HTTP status.
    pub status: u16,
    /// HTTP/1.1 reason phrase, when it is not the standard one; at most 255 bytes.
    pub phrase: Option<Cow<'a, str>>,
    /// Headers that may pass; as in [`RequestHead::headers`].
    pub headers: Headers<'a>,
    /// Length of the body, when the role stated it.
    pub body_length: Option<u64>,
}

/// A head has a part that is too long for its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the {0} has no room in the head of a message")]
pub struct HeadTooLong(&'static str);

/// Bytes that are no head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// It ends too early.
    #[error("the head breaks off")]
    Cut,
    /// It is of another form.
    #[error("the head has form {0}, expected is 1")]
    Form(u8),
    /// A flag that the form does not have.
    #[error("the head has unknown flags {0:#04x}")]
    Flags(u8),
    /// More headers than one head may have.
    #[error("the head has {0} headers, at most 64 may be")]
    Headers(u8),
    /// A text is not UTF-8.
    #[error("the head has a text that is not UTF-8")]
    Text,
    /// Something follows.
    #[error("the head has bytes after its end")]
    Surplus,
}

impl<'a> RequestHead<'a> {
    /// Its bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, HeadTooLong> {
        let texts = self.method.len() + self.target.len() + self.external.len();
        let mut out = Writer::new(96 + texts, &self.headers);
        out.byte(FORM);
        out.byte(
            flag(HAS_CERTIFICATE, self.certificate.is_some()) | flag(HAS_LENGTH, self.body_length.is_some()),
        );
        out.bytes(self.request.guid().as_bytes());
        out.bytes(&self.role.get().to_be_bytes());
        if let Some(certificate) = &self.certificate {
            out.bytes(certificate.as_bytes());
        }
        out.length(self.body_length);
        out.short_text("method", &self.method)?;
        out.text("target", &self.target)?;
        out.text("external address", &self.external)?;
        out.headers(&self.headers)?;
        Ok(out.0)
    }

    /// Reads it; nothing is copied.
    pub fn from_bytes(bytes: &'a [u8]) -> Result<Self, HeadError> {
        let mut from = Reader(bytes);
        let flags = from.form(HAS_CERTIFICATE | HAS_LENGTH)?;
        let request = RequestId::new(Guid::from_bytes(from.array()?));
        let role = RoleId::new(u64::from_be_bytes(from.array()?));
        let certificate = match flags & HAS_CERTIFICATE {
            0 => None,
            _ => Some(Thumbprint::from_bytes(from.array()?)),
        };
        let body_length = from.length(flags)?;
        let method = from.short_text()?;
        let (target, external) = (from.text()?, from.text()?);
        let headers = from.headers()?;
        from.end()?;
        Ok(Self { request, method, role, target, external, certificate, headers, body_length })
    }
}

impl<'a> AnswerHead<'a> {
    /// Its bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, HeadTooLong> {
        let mut out = Writer::new(32 + self.phrase.as_ref().map_or(0, |phrase| phrase.len()), &self.headers);
        out.byte(FORM);
        out.byte(flag(HAS_PHRASE, self.phrase.is_some()) | flag(HAS_LENGTH, self.body_length.is_some()));
        out.bytes(&self.status.to_be_bytes());
        out.length(self.body_length);
        if let Some(phrase) = &self.phrase {
            out.short_text("phrase", phrase)?;
        }
        out.headers(&self.headers)?;
        Ok(out.0)
    }

    /// Reads it; nothing is copied.
    pub fn from_bytes(bytes: &'a [u8]) -> Result<Self, HeadError> {
        let mut from = Reader(bytes);
        let flags = from.form(HAS_PHRASE | HAS_LENGTH)?;
        let status = u16::from_be_bytes(from.array()?);
        let body_length = from.length(flags)?;
        let phrase = match flags & HAS_PHRASE {
            0 => None,
            _ => Some(from.short_text()?),
        };
        let headers = from.headers()?;
        from.end()?;
        Ok(Self { status, phrase, headers, body_length })
    }

    /// The same, standing for itself.
    pub fn into_owned(self) -> AnswerHead<'static> {
        AnswerHead {
            status: self.status,
            phrase: self.phrase.map(|phrase| Cow::Owned(phrase.into_owned())),
            headers: owned(self.headers),
            body_length: self.body_length,
        }
    }
}

impl RequestHead<'_> {
    /// The same, standing for itself.
    pub fn into_owned(self) -> RequestHead<'static> {
        let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        RequestHead {
            request: self.request,
            method: own(self.method),
            role: self.role,
            target: own(self.target),
            external: own(self.external),
            certificate: self.certificate,
            headers: owned(self.headers),
            body_length: self.body_length,
        }
    }
}

fn owned(headers: Headers<'_>) -> Headers<'static> {
    let own = |(name, value): (Cow<'_, str>, Cow<'_, str>)| {
        (Cow::Owned(name.into_owned()), Cow::Owned(value.into_owned()))
    };
    headers.into_iter().map(own).collect()
}

const fn flag(bit: u8, is_set: bool) -> u8 {
    if is_set { bit } else { 0 }
}

struct Writer(Vec<u8>);

impl Writer {
    fn new(room: usize, headers: &Headers<'_>) -> Self {
        let headers: usize = headers.iter().map(|(name, value)| 4 + name.len() + value.len()).sum();
        Self(Vec::with_capacity(room + headers))
    }

    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn length(&mut self, length: Option<u64>) {
        if let Some(length) = length {
            self.bytes(&length.to_be_bytes());
        }
    }

    fn short_text(&mut self, what: &'static str, text: &str) -> Result<(), HeadTooLong> {
        self.byte(u8::try_from(text.len()).map_err(|_| HeadTooLong(what))?);
        self.bytes(text.as_bytes());
        Ok(())
    }

    fn text(&mut self, what: &'static str, text: &str) -> Result<(), HeadTooLong> {
        self.bytes(&u16::try_from(text.len()).map_err(|_| HeadTooLong(what))?.to_be_bytes());
        self.bytes(text.as_bytes());
        Ok(())
    }

    fn headers(&mut self, headers: &Headers<'_>) -> Result<(), HeadTooLong> {
        let count = u8::try_from(headers.len()).ok().filter(|count| usize::from(*count) <= HEADERS_MAX);
        self.byte(count.ok_or(HeadTooLong("list of headers"))?);
        for (name, value) in headers {
            if let Some(number) = number_of(name) {
                self.byte(number);
            } else {
                self.byte(NAMED);
                self.short_text("name of a header", name)?;
            }
            self.text("value of a header", value)?;
        }
        Ok(())
    }
}

/// The number of a name in exactly this spelling.
fn number_of(name: &str) -> Option<u8> {
    static NUMBERS: LazyLock<Index> = LazyLock::new(|| Index::new(NAMES.iter().copied()));
    NUMBERS.find(name).filter(|(_, known)| *known == name).map(|(place, _)| place)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn form(&mut self, known: u8) -> Result<u8, HeadError> {
        let [form, flags] = self.array()?;
        if form != FORM {
            return Err(HeadError::Form(form));
        }
        if flags & !known != 0 {
            return Err(HeadError::Flags(flags));
        }
        Ok(flags)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], HeadError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(HeadError::Cut)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], HeadError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(HeadError::Cut)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn length(&mut self, flags: u8) -> Result<Option<u64>, HeadError> {
        match flags & HAS_LENGTH {
            0 => Ok(None),
            _ => Ok(Some(u64::from_be_bytes(self.array()?))),
        }
    }

    fn short_text(&mut self) -> Result<Cow<'a, str>, HeadError> {
        let [length] = self.array()?;
        self.text_of(length.into())
    }

    fn text(&mut self) -> Result<Cow<'a, str>, HeadError> {
        let length = u16::from_be_bytes(self.array()?);
        self.text_of(length.into())
    }

    fn text_of(&mut self, length: usize) -> Result<Cow<'a, str>, HeadError> {
        let text = str::from_utf8(self.take(length)?).map_err(|_| HeadError::Text)?;
        Ok(Cow::Borrowed(text))
    }

    fn headers(&mut self) -> Result<Headers<'a>, HeadError> {
        let [count] = self.array()?;
        if usize::from(count) > HEADERS_MAX {
            return Err(HeadError::Headers(count));
        }
        let mut headers = Vec::with_capacity(count.into());
        for _ in 0..count {
            let [number] = self.array()?;
            let name = match number {
                NAMED => Some(self.short_text()?),
                number => NAMES.get(usize::from(number)).map(|name| Cow::Borrowed(*name)),
            };
            let value = self.text()?;
            // One that a later version knows may pass there; here it does not.
            if let Some(name) = name {
                headers.push((name, value));
            }
        }
        Ok(headers)
    }

    fn end(&self) -> Result<(), HeadError> {
        if self.0.is_empty() { Ok(()) } else { Err(HeadError::Surplus) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::header;

    fn request() -> RequestHead<'static> {
        RequestHead {
            request: RequestId::new(Guid::from_bytes([7; 16])),
            method: "CCM_POST".into(),
            role: RoleId::FIRST,
            target: "/ccm_system_tokenauth/request".into(),
            external: "https://gw.example/CCM_Proxy_ServerAuth/1/x".into(),
            certificate: Some(Thumbprint::of(b"leaf")),
            headers: vec![("content-type".into(), "text/plain".into()), ("x-other".into(), "é".into())],
            body_length: Some(513),
        }
    }

    fn answer() -> AnswerHead<'static> {
        AnswerHead {
            status: 403,
            phrase: Some("CMGConnector_Forbidden".into()),
            headers: vec![("roamgate-reason".into(), "RG-4005".into())],
            body_length: None,
        }
    }

    #[test]
    fn every_header_that_may_pass_travels_as_a_number() {
        for name in header::inward().chain(header::outward()) {
            assert!(number_of(name).is_some(), "{name}");
        }
        assert!(NAMES.len() < usize::from(NAMED));
    }

    #[test]
    fn the_numbers_of_names_never_change() {
        for (number, name) in
            [(0, "authorization"), (14, "roamgate-path"), (27, "etag"), (32, "roamgate-request-id")]
        {
            assert_eq!(NAMES[number], name);
        }
    }

    #[test]
    fn heads_come_back_as_they_went_and_no_part_of_one_is_taken_for_a_whole() {
        let bytes = request().to_bytes().unwrap();
        assert_eq!(RequestHead::from_bytes(&bytes), Ok(request()));
        for length in 0..bytes.len() {
            assert_eq!(RequestHead::from_bytes(&bytes[..length]), Err(HeadError::Cut), "{length}");
        }
        let bytes = answer().to_bytes().unwrap();
        assert_eq!(AnswerHead::from_bytes(&bytes), Ok(answer()));
        for length in 0..bytes.len() {
            assert_eq!(AnswerHead::from_bytes(&bytes[..length]), Err(HeadError::Cut), "{length}");
        }
    }

    #[test]
    fn the_bytes_of_an_answers_head_are_those_that_the_wire_page_shows() {
        let head = AnswerHead {
            status: 200,
            phrase: None,
            headers: vec![("content-type".into(), "text/plain".into())],
            body_length: Some(5),
        };
        let bytes: Vec<_> = head.to_bytes().unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
        let page = include_str!("../../../../docs/wire.md").split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(page.contains(&bytes.join(" ")), "{}", bytes.join(" "));
    }

    #[test]
    fn what_is_no_head_is_named() {
        let good = answer().to_bytes().unwrap();
        let with = |place: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[place] = byte;
            AnswerHead::from_bytes(&bytes).unwrap_err()
        };
        assert_eq!(with(0, 2), HeadError::Form(2));
        assert_eq!(with(1, 0x81), HeadError::Flags(0x81));
        assert_eq!(with(5, 0xff), HeadError::Text);
        assert_eq!(with(4 + 1 + 22, 65), HeadError::Headers(65));
        let surplus = [good.as_slice(), b"x"].concat();
        assert_eq!(AnswerHead::from_bytes(&surplus), Err(HeadError::Surplus));
    }

    #[test]
    fn a_name_that_a_later_version_numbers_is_left_out() {
        let mut bytes = answer().to_bytes().unwrap();
        let place = bytes.len() - "RG-4005".len() - 3;
        bytes[place] = 200;
        assert_eq!(AnswerHead::from_bytes(&bytes).unwrap().headers, []);
    }

    #[test]
    fn what_has_no_room_is_named_before_it_is_sent() {
        let long = |length: usize| "x".repeat(length);
        let head = RequestHead { method: long(256).into(), ..request() };
        assert_eq!(head.to_bytes(), Err(HeadTooLong("method")));
        let head = RequestHead { target: long(65_536).into(), ..request() };
        assert_eq!(head.to_bytes(), Err(HeadTooLong("target")));
        let head = AnswerHead { headers: vec![("a".into(), "b".into()); 65], ..answer() };
        assert_eq!(head.to_bytes(), Err(HeadTooLong("list of headers")));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_and_what_was_read_is_written_alike(bytes: Vec<u8>) {
            if let Ok(head) = RequestHead::from_bytes(&bytes) {
                let again = head.to_bytes().unwrap();
                prop_assert_eq!(RequestHead::from_bytes(&again), Ok(head));
            }
            if let Ok(head) = AnswerHead::from_bytes(&bytes) {
                let again = head.to_bytes().unwrap();
                prop_assert_eq!(AnswerHead::from_bytes(&again), Ok(head));
            }
        }
    }
}
