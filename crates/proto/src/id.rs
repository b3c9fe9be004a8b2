//! Names of things, each a type that cannot hold a malformed one.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A text that is not the name it was taken for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {what}: {text:?}")]
pub struct IdError {
    what: &'static str,
    text: String,
}

impl IdError {
    fn new(what: &'static str, text: &str) -> Self {
        Self { what, text: text.chars().take(80).collect() }
    }
}

/// Serde by way of `Display` and `FromStr`, so that JSON, TOML and logs show one spelling.
macro_rules! serde_as_text {
    ($name:ty) => {
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

/// A GUID. Read with or without braces and in either case; written in lower case, bare.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Guid(Uuid);

impl Guid {
    /// The GUID with these sixteen bytes, in the order in which they are printed.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// A version 4 GUID made of sixteen random bytes that the caller drew.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }

    /// Its text, written into room that the caller has.
    pub fn text(self, room: &mut [u8; 36]) -> &str {
        self.0.hyphenated().encode_lower(room)
    }

    /// The sixteen bytes in the order in which they are printed.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// `{UPPER-CASE}`, the form of message ids on the wire [observed].
    pub fn braced(&self) -> String {
        format!("{{{}}}", self.upper())
    }

    /// Upper case without braces, the form of `TenantId` in a token [docs].
    pub fn upper(&self) -> String {
        self.0.hyphenated().to_string().to_ascii_uppercase()
    }

    /// The all-zero GUID: the `CorrelationID` of every request [observed].
    pub const fn nil() -> Self {
        Self(Uuid::nil())
    }
}

impl From<Uuid> for Guid {
    fn from(value: Uuid) -> Self {
        Self(value)
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for Guid {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bare = match text.strip_prefix('{') {
            Some(rest) => rest.strip_suffix('}').ok_or_else(|| IdError::new("GUID", text))?,
            None => text,
        };
        // Uuid itself takes several spellings; the wire has one.
        if bare.len() != 36 {
            return Err(IdError::new("GUID", text));
        }
        Uuid::try_parse(bare).map(Self).map_err(|_| IdError::new("GUID", text))
    }
}
serde_as_text!(Guid);

/// A client id (SMSID): `GUID:` and 36 characters, written in upper case [observed].
///
/// The site makes it; a client's own proposal is never more than a wish.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(Guid);

impl ClientId {
    /// The client id that carries this GUID.
    pub const fn new(guid: Guid) -> Self {
        Self(guid)
    }

    /// The GUID inside.
    pub const fn guid(&self) -> Guid {
        self.0
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GUID:{}", self.0.upper())
    }
}

impl FromStr for ClientId {
    type Err = IdError;

    /// Takes `GUID:` in any case. One public client writes `{GUID}` in its header token
    /// [clients]; that dialect is read where it occurs, not here.
    fn from_str(text: &str) -> Result<Self, IdError> {
        let error = || IdError::new("client id", text);
        let (prefix, guid) = text.split_at_checked(5).ok_or_else(error)?;
        if !prefix.eq_ignore_ascii_case("GUID:") || guid.starts_with('{') {
            return Err(error());
        }
        guid.parse().map(Self).map_err(|_| error())
    }
}
serde_as_text!(ClientId);

/// Number of a published role, the third part of an external path. Real ones are
/// 2^56 plus a small number; any 64-bit number is taken.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoleId(u64);

impl RoleId {
    /// The first role of a site: 2^56 + 1, as in published samples.
    pub const FIRST: Self = Self((1 << 56) + 1);

    /// The role with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number itself.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for RoleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RoleId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        // `u64::from_str` would take a sign, and a second spelling is a second path.
        let canonical =
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
        if !canonical {
            return Err(IdError::new("role id", text));
        }
        text.parse().map(Self).map_err(|_| IdError::new("role id", text))
    }
}
serde_as_text!(RoleId);

/// A site code: three letters or digits, kept in upper case.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SiteCode([u8; 3]);

impl fmt::Display for SiteCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| fmt::Write::write_char(f, char::from(*byte)))
    }
}

impl FromStr for SiteCode {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bytes: [u8; 3] = text.as_bytes().try_into().map_err(|_| IdError::new("site code", text))?;
        if bytes.iter().all(u8::is_ascii_alphanumeric) {
            Ok(Self(bytes.map(|b| b.to_ascii_uppercase())))
        } else {
            Err(IdError::new("site code", text))
        }
    }
}
serde_as_text!(SiteCode);

/// SHA-256 of a certificate's DER: what a token's `cnf` names and what a block list holds.
/// Written as 64 upper-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Thumbprint([u8; 32]);

impl Thumbprint {
    /// The thumbprint with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The thumbprint of a certificate.
    pub fn of(der: &[u8]) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Base64url without padding: the form inside a token (`x5t#S256` of RFC 8705).
    pub fn base64url(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// Reads the base64url form.
    pub fn from_base64url(text: &str) -> Result<Self, IdError> {
        let error = || IdError::new("thumbprint", text);
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| error())?;
        bytes.try_into().map(Self).map_err(|_| error())
    }
}

impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

impl FromStr for Thumbprint {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let error = || IdError::new("thumbprint", text);
        if text.len() != 64 || !text.is_ascii() {
            return Err(error());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| error())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| error())?;
        }
        Ok(Self(bytes))
    }
}
serde_as_text!(Thumbprint);

/// Names one request through all hops. Made where the request first meets us: at the
/// gateway, or at the management point for a client inside.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(Guid);

impl RequestId {
    /// The request id that carries this GUID.
    pub const fn new(guid: Guid) -> Self {
        Self(guid)
    }

    /// The GUID inside: the `MessageID` of the connection point's log lines.
    pub const fn guid(&self) -> Guid {
        self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RequestId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        text.parse().map(Self).map_err(|_| IdError::new("request id", text))
    }
}
serde_as_text!(RequestId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_id_is_read_in_any_case_and_written_in_upper_case() {
        let id: ClientId = "guid:c806ebf9-8740-441e-ae7b-8b360adcaecb".parse().unwrap();
        assert_eq!(id.to_string(), "GUID:C806EBF9-8740-441E-AE7B-8B360ADCAECB");
        for wrong in [
            "",
            "GUID:",
            "GUID:{C806EBF9-8740-441E-AE7B-8B360ADCAECB}",
            "C806EBF9-8740-441E-AE7B-8B360ADCAECB",
        ] {
            assert!(wrong.parse::<ClientId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_guid_is_read_with_or_without_braces_and_in_no_other_spelling() {
        let bare: Guid = "3C283CD4-88D1-4D24-8AC7-8735BD09A9C3".parse().unwrap();
        assert_eq!("{3c283cd4-88d1-4d24-8ac7-8735bd09a9c3}".parse(), Ok(bare));
        assert_eq!(bare.braced(), "{3C283CD4-88D1-4D24-8AC7-8735BD09A9C3}");
        for wrong in
            ["3C283CD488D14D248AC78735BD09A9C3", "{3c283cd4-88d1-4d24-8ac7-8735bd09a9c3", "urn:uuid:x"]
        {
            assert!(wrong.parse::<Guid>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_role_id_has_one_spelling() {
        assert_eq!("72057594037927937".parse(), Ok(RoleId::FIRST));
        for wrong in ["", "+1", "-1", "01", "0", "1 ", "18446744073709551616", "1a"] {
            assert!(wrong.parse::<RoleId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn site_codes_and_thumbprints_come_back_as_written() {
        assert_eq!("rg1".parse::<SiteCode>().unwrap().to_string(), "RG1");
        assert!("RG".parse::<SiteCode>().is_err() && "RG!".parse::<SiteCode>().is_err());
        let print = Thumbprint::of(b"certificate");
        assert_eq!(print.to_string().parse(), Ok(print));
        assert_eq!(Thumbprint::from_base64url(&print.base64url()), Ok(print));
        assert!("zz".repeat(32).parse::<Thumbprint>().is_err());
    }
}
