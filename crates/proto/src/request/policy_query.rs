//! Names of policies, and the query of `.sms_pol` that asks for one.

use std::fmt;
use std::str::FromStr;

use crate::id::{Guid, Thumbprint};

/// Longest policy name in characters.
const NAME_CHARS: usize = 128;

/// A policy's id: a GUID in braces, or a name such as `SRC10000` [docs].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PolicyId {
    /// `{…}`, compared without case.
    Guid(Guid),
    /// Letters, digits, `-` and `_`.
    Name(String),
}

/// A query or id that names no policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PolicyQueryError {
    /// A percent sign without two hex digits, or not ASCII behind them.
    #[error("malformed percent-encoding")]
    Encoding,
    /// Not an id.
    #[error("not a policy id")]
    Id,
    /// Neither a hash nor a version behind the id.
    #[error("neither hash nor version of a policy")]
    Version,
}

impl fmt::Display for PolicyId {
    /// GUIDs in lower case with braces, as observed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Guid(guid) => write!(f, "{{{guid}}}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl FromStr for PolicyId {
    type Err = PolicyQueryError;

    fn from_str(text: &str) -> Result<Self, PolicyQueryError> {
        if text.starts_with('{') {
            return text.parse().map(Self::Guid).map_err(|_| PolicyQueryError::Id);
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if text.is_empty() || text.len() > NAME_CHARS || !text.chars().all(fits) {
            return Err(PolicyQueryError::Id);
        }
        Ok(Self::Name(text.to_owned()))
    }
}

/// Which state of a policy is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PolicyEdition {
    /// The one whose body has this SHA-256 (newer form) [observed].
    Sha256([u8; 32]),
    /// The one of this version, such as `5.00` (older form) [docs].
    Version(String),
}

/// What stands behind `.sms_pol?`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PolicyQuery {
    /// The policy.
    pub id: PolicyId,
    /// Its edition.
    pub edition: PolicyEdition,
}

impl PolicyQuery {
    /// Reads a query as it stands in the URL: braces arrive percent-encoded from most
    /// clients and plain from others [observed].
    pub fn parse(query: &str) -> Result<Self, PolicyQueryError> {
        let decoded = percent_decode(query)?;
        // Ids of names have no dot, so the first one ends the id.
        let (id, edition) = decoded.split_once('.').ok_or(PolicyQueryError::Version)?;
        let id = id.parse()?;
        let edition = match edition.split_once(':') {
            Some((name, hash)) if name.eq_ignore_ascii_case("SHA256") => {
                let hash: Thumbprint = hash.parse().map_err(|_| PolicyQueryError::Version)?;
                PolicyEdition::Sha256(*hash.as_bytes())
            }
            Some(_) => return Err(PolicyQueryError::Version),
            None => PolicyEdition::Version(version(edition)?),
        };
        Ok(Self { id, edition })
    }
}

impl fmt::Display for PolicyQuery {
    /// As a policy location has it, braces plain; percent-encode them for a URL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.edition {
            PolicyEdition::Sha256(hash) => write!(f, "{}.SHA256:{}", self.id, Thumbprint::from_bytes(*hash)),
            PolicyEdition::Version(version) => write!(f, "{}.{}", self.id, version.replace('.', "_")),
        }
    }
}

/// `5_00` for 5.00: the version's own dot travels as an underscore [docs].
fn version(text: &str) -> Result<String, PolicyQueryError> {
    let fits = |c: char| c.is_ascii_digit() || matches!(c, '_' | '.');
    if text.is_empty()
        || text.len() > 32
        || !text.starts_with(|c: char| c.is_ascii_digit())
        || !text.chars().all(fits)
    {
        return Err(PolicyQueryError::Version);
    }
    Ok(text.replace('_', "."))
}

/// Undoes percent-encoding, once. Nothing that we look for has a character beyond ASCII.
pub(crate) fn percent_decode(text: &str) -> Result<String, PolicyQueryError> {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        decoded.push_str(before);
        let (digits, after) = after.split_at_checked(2).ok_or(PolicyQueryError::Encoding)?;
        let byte = crate::text::hex::decode(digits, 1).ok().and_then(|bytes| bytes.first().copied());
        let byte =
            byte.filter(|byte| byte.is_ascii_graphic() || *byte == b' ').ok_or(PolicyQueryError::Encoding)?;
        decoded.push(char::from(byte));
        rest = after;
    }
    decoded.push_str(rest);
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "F4345B6248F0630EB7689099C2A10DB538D6DC4AA4AB9AFA74B512ED59640344";

    #[test]
    fn queries_are_read_encoded_or_not_and_written_as_locations_have_them() {
        let guid = "{6d8e2a10-1b2c-4d3e-8f90-a1b2c3d4e5f6}";
        for (query, written) in [
            (
                format!("%7B6d8e2a10-1b2c-4d3e-8f90-a1b2c3d4e5f6%7D.SHA256:{HASH}"),
                format!("{guid}.SHA256:{HASH}"),
            ),
            (
                format!("%7b6D8E2A10-1B2C-4D3E-8F90-A1B2C3D4E5F6%7d.sha256%3A{HASH}"),
                format!("{guid}.SHA256:{HASH}"),
            ),
            (format!("{guid}.5_00"), format!("{guid}.5_00")),
            (format!("SRC10000.SHA256:{HASH}"), format!("SRC10000.SHA256:{HASH}")),
            ("C0020004-C0000005-6F42AC19.1.00".to_owned(), "C0020004-C0000005-6F42AC19.1_00".to_owned()),
        ] {
            let read = PolicyQuery::parse(&query).unwrap();
            assert_eq!(read.to_string(), written);
            assert_eq!(PolicyQuery::parse(&written), Ok(read));
        }
    }

    #[test]
    fn what_names_no_policy_is_refused() {
        for (query, error) in [
            ("", PolicyQueryError::Version),
            ("SRC10000", PolicyQueryError::Version),
            ("SRC10000.", PolicyQueryError::Version),
            ("SRC10000.new", PolicyQueryError::Version),
            ("SRC10000.SHA256:00", PolicyQueryError::Version),
            ("SRC10000.MD5:00", PolicyQueryError::Version),
            (".1_00", PolicyQueryError::Id),
            ("../x.1_00", PolicyQueryError::Id),
            ("{6d8e2a10}.1_00", PolicyQueryError::Id),
            ("a'b.1_00", PolicyQueryError::Id),
            ("SRC%2F10000.1_00", PolicyQueryError::Id),
            ("%", PolicyQueryError::Encoding),
            ("%7", PolicyQueryError::Encoding),
            ("%zz", PolicyQueryError::Encoding),
            ("%00.1_00", PolicyQueryError::Encoding),
            ("%C3%A9.1_00", PolicyQueryError::Encoding),
            ("%é", PolicyQueryError::Encoding),
        ] {
            assert_eq!(PolicyQuery::parse(query), Err(error), "{query}");
        }
    }
}
