//! The envelope of a signed token: three parts of base64url, whatever the middle one holds.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::jose::{Algorithm, Json, JsonError, VerifyingKey, parse_json};
use crate::limits;

/// Most characters of a value that an error repeats.
const SHOWN_CHARS: usize = 80;

/// A signed text in compact serialisation (RFC 7515, 7.1), taken apart. Its signature was not
/// verified yet.
///
/// Of the header only `alg`, `kid`, `typ` and `x5t` are read. `jwk`, `jku`, `x5u` and `x5c` would
/// name a key of the sender's choice: they are not even looked at (R10).
#[derive(Debug)]
pub struct Compact<'t> {
    signed: &'t str,
    payload: Vec<u8>,
    signature: Vec<u8>,
    algorithm: Algorithm,
    kid: Option<String>,
    typ: Option<String>,
    x5t: Option<String>,
}

/// Why a signed text is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwsError {
    /// Longer than [`limits::TOKEN_BYTES`].
    #[error("the token is longer than {} bytes", limits::TOKEN_BYTES)]
    TooLong,
    /// Not three parts.
    #[error("the token has not three parts")]
    Parts,
    /// A part is not base64url as there is one spelling of it: without padding, white space and
    /// stray bits.
    #[error("the token's {0} is not canonical base64url")]
    Encoding(&'static str),
    /// A part is not strict JSON.
    #[error("the token's {part}: {fault}")]
    Json {
        /// Header or claims.
        part: &'static str,
        /// What is wrong with it.
        fault: JsonError,
    },
    /// A part is JSON and no object.
    #[error("the token's {0} is no JSON object")]
    NotAnObject(&'static str),
    /// A member of the header is missing, or of another type than it must be.
    #[error("{0:?} in the token's header is missing or not a text")]
    Header(&'static str),
    /// The header lists extensions that must be understood; we understand none.
    #[error("the token's header names critical extensions")]
    Critical,
    /// The payload is said to be unencoded (RFC 7797).
    #[error("the token's header says that its payload is not encoded")]
    Unencoded,
    /// An algorithm that we do not verify, `none` among them.
    #[error("the token names the algorithm {0:?}, which is not accepted")]
    Algorithm(String),
    /// Another algorithm than the key's.
    #[error("the token names the algorithm {token}, and its key is for {key}")]
    OtherAlgorithm {
        /// The token's.
        token: Algorithm,
        /// The key's.
        key: Algorithm,
    },
    /// The key cannot be used.
    #[error("the key that the token names cannot be used")]
    Key,
    /// The signature does not fit.
    #[error("the token's signature does not fit")]
    Signature,
}

impl<'t> Compact<'t> {
    /// Takes the text apart: bounds, encoding, header. No signature is computed.
    pub fn parse(text: &'t str) -> Result<Self, JwsError> {
        if text.len() > limits::TOKEN_BYTES {
            return Err(JwsError::TooLong);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(JwsError::Parts)?;
        let (header, payload) = signed.split_once('.').ok_or(JwsError::Parts)?;
        if payload.contains('.') {
            return Err(JwsError::Parts);
        }
        let header = object("header", &decode("header", header)?)?;
        let payload = decode("payload", payload)?;
        let signature = decode("signature", signature)?;
        if header.contains_key("crit") {
            return Err(JwsError::Critical);
        }
        if header.get("b64").is_some_and(|encoded| *encoded != Json::Bool(true)) {
            return Err(JwsError::Unencoded);
        }
        let text_of = |name: &'static str| match header.get(name) {
            None => Ok(None),
            Some(Json::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(JwsError::Header(name)),
        };
        let algorithm = text_of("alg")?.ok_or(JwsError::Header("alg"))?;
        let algorithm =
            Algorithm::from_name(&algorithm).ok_or_else(|| JwsError::Algorithm(shown(&algorithm)))?;
        let (kid, typ, x5t) = (text_of("kid")?, text_of("typ")?, text_of("x5t")?);
        Ok(Self { signed, payload, signature, algorithm, kid, typ, x5t })
    }

    /// Which key it names.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// What it says to be: `JWT` usually.
    pub fn typ(&self) -> Option<&str> {
        self.typ.as_deref()
    }

    /// SHA-1 thumbprint of a certificate with the signer's key, as it says.
    pub fn x5t(&self) -> Option<&str> {
        self.x5t.as_deref()
    }

    /// The algorithm that it says to be signed with.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// What was signed; nobody knows yet by whom.
    pub fn unverified_payload(&self) -> &[u8] {
        &self.payload
    }

    /// Verifies with this key, by the key's own algorithm, which the token must name; gives what
    /// was signed.
    pub fn verify(&self, key: &VerifyingKey) -> Result<&[u8], JwsError> {
        if self.algorithm != key.algorithm() {
            return Err(JwsError::OtherAlgorithm { token: self.algorithm, key: key.algorithm() });
        }
        if key.is_signature(self.signed.as_bytes(), &self.signature) {
            Ok(&self.payload)
        } else {
            Err(JwsError::Signature)
        }
    }
}

/// Reads a part as a JSON object.
pub(super) fn object(part: &'static str, bytes: &[u8]) -> Result<serde_json::Map<String, Json>, JwsError> {
    match parse_json(bytes).map_err(|fault| JwsError::Json { part, fault })? {
        Json::Object(members) => Ok(members),
        _ => Err(JwsError::NotAnObject(part)),
    }
}

/// The first characters of a value, for an error.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS).collect()
}

fn decode(part: &'static str, text: &str) -> Result<Vec<u8>, JwsError> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| JwsError::Encoding(part))
}
