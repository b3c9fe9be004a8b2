//! Hooks: named transformations that the sender applied, and the signatures it made.

use crate::message::header::{Property, properties};
use crate::message::signature::{HashAlgorithm, Signature, SignatureError, SigningKey, sign};
use crate::public_key_blob;
use crate::text;
use crate::text::field::{FieldError, Fields as _};
use crate::text::write::XmlWriter;
use crate::text::xml::Element;

const CLIENT_AUTH: &str = "clientauth";
const ZLIB_COMPRESS: &str = "zlib-compress";

/// One hook. Its name decides, whatever the element is called; names have no case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hook {
    /// The sender's signatures.
    ClientAuth(ClientAuth),
    /// The payload is one zlib stream.
    ZlibCompress,
    /// Something else was done to the payload; it cannot be read.
    Unknown(String),
}

impl Hook {
    pub(crate) fn parse(element: &Element<'_>) -> Result<Self, FieldError> {
        let name = element.required_attribute("Name")?;
        Ok(if name.eq_ignore_ascii_case(CLIENT_AUTH) {
            Self::ClientAuth(ClientAuth { properties: properties(element)? })
        } else if name.eq_ignore_ascii_case(ZLIB_COMPRESS) {
            Self::ZlibCompress
        } else {
            Self::Unknown(name.to_owned())
        })
    }

    pub(crate) fn write(&self, xml: &mut XmlWriter) {
        match self {
            Self::ClientAuth(auth) => {
                xml.start("Hook2").attribute("Name", CLIENT_AUTH);
                for property in &auth.properties {
                    xml.start("Property").attribute("Name", &property.name).text(&property.value).end();
                }
                xml.end();
            }
            Self::ZlibCompress => {
                xml.start("Hook3").attribute("Name", ZLIB_COMPRESS).end();
            }
            Self::Unknown(name) => {
                xml.start("Hook").attribute("Name", name).end();
            }
        }
    }

    /// The name of a hook that may occur once.
    pub(crate) fn known_kind(&self) -> Option<&'static str> {
        match self {
            Self::ClientAuth(_) => Some(CLIENT_AUTH),
            Self::ZlibCompress => Some(ZLIB_COMPRESS),
            Self::Unknown(_) => None,
        }
    }
}

/// The `clientauth` hook: `AuthSenderMachine`, `PublicKey`, `ClientIDSignature`,
/// `PayloadSignature`, `ClientCapabilities`, `HashAlgorithm` [observed].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientAuth {
    /// All properties as they stand there.
    pub properties: Vec<Property>,
}

impl ClientAuth {
    /// Makes the hook for a message: signs the payload as stored and the client id.
    pub(crate) fn sign(identity: &SigningIdentity<'_>, payload: &[u8]) -> Self {
        let id = identity.client_id.to_string();
        let property = |name: &str, value: String| Property { name: name.to_owned(), value };
        let signed = |message: &[u8]| sign(identity.key, message).to_hex();
        let capabilities = if identity.shows_certificate { "SSL" } else { "NonSSL" };
        Self {
            properties: vec![
                property("AuthSenderMachine", identity.host.to_owned()),
                property("PublicKey", public_key_blob::build_hex(identity.public_key)),
                property("ClientIDSignature", signed(&text::encode_with_nul(&id))),
                property("PayloadSignature", signed(payload)),
                property("ClientCapabilities", capabilities.to_owned()),
                property("HashAlgorithm", HashAlgorithm::Sha256WithRsa.oid().to_owned()),
            ],
        }
    }

    /// A property's value. Names have no case.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|p| p.name.eq_ignore_ascii_case(name)).map(|p| p.value.as_str())
    }

    /// The hash that the signatures name; a hook without one is refused (it would mean SHA-1).
    pub fn hash_algorithm(&self) -> Result<HashAlgorithm, SignatureError> {
        self.property("HashAlgorithm").ok_or(SignatureError::Missing("HashAlgorithm"))?.parse()
    }

    /// The signature over the payload as stored.
    pub fn payload_signature(&self) -> Result<Signature, SignatureError> {
        self.signature("PayloadSignature")
    }

    /// The signature over the client id. A constant that anyone may repeat who saw it.
    pub fn client_id_signature(&self) -> Result<Signature, SignatureError> {
        self.signature("ClientIDSignature")
    }

    fn signature(&self, name: &'static str) -> Result<Signature, SignatureError> {
        Signature::from_hex(self.property(name).ok_or(SignatureError::Missing(name))?)
    }
}

/// Who signs a message, and with what.
#[derive(Clone, Copy)]
pub struct SigningIdentity<'k> {
    /// The id that the site gave.
    pub client_id: crate::id::ClientId,
    /// The sender's name.
    pub host: &'k str,
    /// The registered signing key.
    pub key: &'k dyn SigningKey,
    /// Its public half.
    pub public_key: &'k crate::message::signature::RsaPublicKey,
    /// Whether the TLS connection shows a client certificate: `SSL` instead of `NonSSL` [observed].
    pub shows_certificate: bool,
}
