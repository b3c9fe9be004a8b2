//! Identity in HTTP headers, on the GET of a policy body (section 6.4). Three dialects.

use crate::id::{ClientId, Guid};
use crate::message::signature::{Padding, RsaPublicKey, Signature, SignatureError, SigningKey, sign};
use crate::text;
use crate::time::Timestamp;

/// Header names, as clients write them. HTTP compares them without case.
pub mod names {
    /// Client id of the SDK's dialect.
    pub const CLIENT_ID: &str = "CCMClientID";
    /// Its signature.
    pub const CLIENT_ID_SIGNATURE: &str = "CCMClientIDSignature";
    /// Time of the SDK's dialect.
    pub const TIMESTAMP: &str = "CCMClientTimestamp";
    /// Its signature, as clients write it [observed].
    pub const TIMESTAMP_SIGNATURE: &str = "CCMClientTimestampSignature";
    /// Its signature, as the documentation spells it [docs].
    pub const TIMESTAMP_SIGNATURE_DOCUMENTED: &str = "CCMClientTimestampsSignature";
    /// Id and time in one, of the public clients' dialect.
    pub const CLIENT_TOKEN: &str = "ClientToken";
    /// Its signature.
    pub const CLIENT_TOKEN_SIGNATURE: &str = "ClientTokenSignature";
}

/// Longest token or id read, in bytes; `GUID:…;time;2` has 64.
const MAX_VALUE_BYTES: usize = 160;

/// Headers that claim an identity and cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderIdentityError {
    /// One of a pair is there without the other.
    #[error("no {0} header")]
    Missing(&'static str),
    /// A value of another form.
    #[error("malformed {0} header")]
    Malformed(&'static str),
    /// A signature of another form.
    #[error("malformed signature in {name}")]
    Signature {
        /// The header.
        name: &'static str,
        /// What is wrong with it.
        source: SignatureError,
    },
    /// Both dialects at once: it would be open which one counts.
    #[error("two identities in one request")]
    TwoIdentities,
}

/// Which dialect it was, with the values as they were signed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Dialect {
    /// Id and time, signed one by one. The id's signature is a constant that anyone can
    /// repeat; the time's is what limits it.
    Separate { id: String, id_signature: Signature, time: String, time_signature: Signature },
    /// `GUID:…;time;2` or `{GUID};time`, signed as one.
    Token { token: String, signature: Signature },
}

/// An identity claimed by headers. Nothing is proved until [`HeaderIdentity::verify`] said
/// so, and the time in it lies within the site's window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderIdentity {
    /// Who it says it is.
    pub client_id: ClientId,
    /// When it says it asked.
    pub time: Timestamp,
    dialect: Dialect,
}

impl HeaderIdentity {
    /// Reads the identity headers, given a way to look a header up without case.
    /// `None` when there are none: then the request is simply anonymous.
    pub fn from_headers<'h>(
        header: impl Fn(&str) -> Option<&'h str>,
    ) -> Result<Option<Self>, HeaderIdentityError> {
        let id = header(names::CLIENT_ID);
        let token = header(names::CLIENT_TOKEN);
        match (id, token) {
            (Some(_), Some(_)) => Err(HeaderIdentityError::TwoIdentities),
            (Some(id), None) => Self::from_separate(id, &header).map(Some),
            (None, Some(token)) => Self::from_token(token, &header).map(Some),
            (None, None) => {
                match [names::CLIENT_ID_SIGNATURE, names::TIMESTAMP, names::CLIENT_TOKEN_SIGNATURE]
                    .into_iter()
                    .find(|name| header(name).is_some())
                {
                    Some(names::CLIENT_TOKEN_SIGNATURE) => {
                        Err(HeaderIdentityError::Missing(names::CLIENT_TOKEN))
                    }
                    Some(_) => Err(HeaderIdentityError::Missing(names::CLIENT_ID)),
                    None => Ok(None),
                }
            }
        }
    }

    fn from_separate<'h>(
        id: &str,
        header: &impl Fn(&str) -> Option<&'h str>,
    ) -> Result<Self, HeaderIdentityError> {
        let required = |name| header(name).ok_or(HeaderIdentityError::Missing(name));
        let time = required(names::TIMESTAMP)?;
        let time_signature = match header(names::TIMESTAMP_SIGNATURE_DOCUMENTED) {
            Some(value) if header(names::TIMESTAMP_SIGNATURE).is_none() => value,
            _ => required(names::TIMESTAMP_SIGNATURE)?,
        };
        Ok(Self {
            client_id: parse_id(id).ok_or(HeaderIdentityError::Malformed(names::CLIENT_ID))?,
            time: Timestamp::parse_iso8601(time)
                .map_err(|_| HeaderIdentityError::Malformed(names::TIMESTAMP))?,
            dialect: Dialect::Separate {
                id: id.to_owned(),
                id_signature: signature(names::CLIENT_ID_SIGNATURE, required(names::CLIENT_ID_SIGNATURE)?)?,
                time: time.to_owned(),
                time_signature: signature(names::TIMESTAMP_SIGNATURE, time_signature)?,
            },
        })
    }

    fn from_token<'h>(
        token: &str,
        header: &impl Fn(&str) -> Option<&'h str>,
    ) -> Result<Self, HeaderIdentityError> {
        const NAME: &str = names::CLIENT_TOKEN_SIGNATURE;
        let malformed = || HeaderIdentityError::Malformed(names::CLIENT_TOKEN);
        let mut fields = token.split(';');
        let client_id = fields.next().and_then(parse_id).ok_or_else(malformed)?;
        let time =
            fields.next().and_then(|time| Timestamp::parse_iso8601(time).ok()).ok_or_else(malformed)?;
        // The third field is "2" [observed]; its meaning is unknown, so its value is not judged.
        let third = fields.next();
        if fields.next().is_some() || third.is_some_and(|field| field.len() > 8) {
            return Err(malformed());
        }
        let signature = signature(NAME, header(NAME).ok_or(HeaderIdentityError::Missing(NAME))?)?;
        Ok(Self { client_id, time, dialect: Dialect::Token { token: token.to_owned(), signature } })
    }

    /// Checks the signatures with the signing key registered for [`HeaderIdentity::client_id`].
    /// Either padding counts here (section 4.2). The caller checks the time.
    pub fn verify(&self, key: &RsaPublicKey) -> Result<(), SignatureError> {
        match &self.dialect {
            Dialect::Separate { id, id_signature, time, time_signature } => {
                key.verify_either_padding(&[text::encode_with_nul(id)], id_signature)?;
                key.verify_either_padding(&[text::encode_with_nul(time)], time_signature)?;
            }
            Dialect::Token { token, signature } => {
                let _: Padding = key.verify_either_padding(&token_readings(token), signature)?;
            }
        }
        Ok(())
    }
}

/// What clients sign of a token: all of it and a NUL [observed], or only id and time, with
/// or without the NUL [clients]. Each reading holds both id and time.
fn token_readings(token: &str) -> Vec<Vec<u8>> {
    let mut readings = vec![text::encode_with_nul(token)];
    let short = token.match_indices(';').nth(1).and_then(|(at, _)| token.get(..at)).unwrap_or(token);
    if short != token {
        readings.push(text::encode_with_nul(short));
    }
    readings.push(text::encode_utf16le(short));
    readings
}

/// `GUID:…` [observed] or `{…}` [clients].
fn parse_id(text: &str) -> Option<ClientId> {
    if text.len() > MAX_VALUE_BYTES {
        return None;
    }
    if text.starts_with('{') { text.parse::<Guid>().ok().map(ClientId::new) } else { text.parse().ok() }
}

fn signature(name: &'static str, value: &str) -> Result<Signature, HeaderIdentityError> {
    Signature::from_hex(value).map_err(|source| HeaderIdentityError::Signature { name, source })
}

/// Makes the headers that our client sends: the public clients' dialect, id and time under
/// one signature.
pub fn client_token_headers(
    client_id: ClientId,
    now: Timestamp,
    key: &dyn SigningKey,
) -> [(&'static str, String); 2] {
    let token = format!("{client_id};{};2", now.iso8601());
    let signature = sign(key, &text::encode_with_nul(&token)).to_hex();
    [(names::CLIENT_TOKEN, token), (names::CLIENT_TOKEN_SIGNATURE, signature)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::signature::RsaSigningKey;
    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};

    const ID: &str = "GUID:C806EBF9-8740-441E-AE7B-8B360ADCAECB";
    const TIME: &str = "2026-11-21T11:16:00Z";

    fn key() -> RsaSigningKey {
        let pair = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
        RsaSigningKey::from_pkcs8(AsDer::<Pkcs8V1Der<'static>>::as_der(&pair).unwrap().as_ref()).unwrap()
    }

    fn read(headers: &[(&str, String)]) -> Result<Option<HeaderIdentity>, HeaderIdentityError> {
        HeaderIdentity::from_headers(|name| {
            headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
        })
    }

    #[test]
    fn what_our_client_sends_verifies_for_its_key_only() {
        let (key, other) = (key(), key());
        let now = Timestamp::parse_iso8601(TIME).unwrap();
        let headers = client_token_headers(ID.parse().unwrap(), now, &key);
        let identity = read(&headers).unwrap().unwrap();
        assert_eq!((identity.client_id.to_string().as_str(), identity.time), (ID, now));
        assert_eq!(identity.verify(&key.public_key().unwrap()), Ok(()));
        assert_eq!(identity.verify(&other.public_key().unwrap()), Err(SignatureError::Invalid));
    }

    #[test]
    fn the_token_of_other_clients_is_read_with_and_without_its_nul() {
        let key = key();
        let public = key.public_key().unwrap();
        let short = format!("{{{}}};{TIME}", &ID[5..]);
        for token in [short.clone(), format!("{short};2")] {
            for signed in [text::encode_with_nul(&short), text::encode_utf16le(&short)] {
                let headers =
                    [("clienttoken", token.clone()), ("CLIENTTOKENSIGNATURE", sign(&key, &signed).to_hex())];
                let identity = read(&headers).unwrap().unwrap();
                assert_eq!(identity.client_id.to_string(), ID);
                assert_eq!(identity.verify(&public), Ok(()));
            }
            let of_id_alone = sign(&key, &text::encode_with_nul(&format!("{{{}}}", &ID[5..]))).to_hex();
            let identity =
                read(&[("ClientToken", token), ("ClientTokenSignature", of_id_alone)]).unwrap().unwrap();
            assert_eq!(identity.verify(&public), Err(SignatureError::Invalid));
        }
    }

    #[test]
    fn both_signatures_of_the_separate_dialect_must_hold() {
        let key = key();
        let good = |text: &str| sign(&key, &text::encode_with_nul(text)).to_hex();
        for (id_signature, time_signature, holds) in
            [(good(ID), good(TIME), true), (good(ID), good(ID), false), (good(TIME), good(TIME), false)]
        {
            for time_name in [names::TIMESTAMP_SIGNATURE, names::TIMESTAMP_SIGNATURE_DOCUMENTED] {
                let identity = read(&[
                    (names::CLIENT_ID, ID.to_owned()),
                    (names::CLIENT_ID_SIGNATURE, id_signature.clone()),
                    (names::TIMESTAMP, TIME.to_owned()),
                    (time_name, time_signature.clone()),
                ]);
                assert_eq!(identity.unwrap().unwrap().verify(&key.public_key().unwrap()).is_ok(), holds);
            }
        }
    }

    #[test]
    fn half_an_identity_is_an_error_and_none_is_none() {
        let signature = "00".repeat(256);
        let token = |value: &str| {
            read(&[("ClientToken", value.to_owned()), ("ClientTokenSignature", signature.clone())])
        };
        assert_eq!(read(&[]), Ok(None));
        assert!(token(&format!("{ID};{TIME};2")).is_ok());
        for wrong in [
            "",
            ID,
            &format!("{ID};"),
            &format!("{ID};now;2"),
            &format!("{ID};{TIME};2;3"),
            &format!("PC1;{TIME};2"),
        ] {
            assert_eq!(token(wrong), Err(HeaderIdentityError::Malformed("ClientToken")), "{wrong}");
        }
        for (headers, error) in [
            (
                vec![("ClientToken", format!("{ID};{TIME};2"))],
                HeaderIdentityError::Missing("ClientTokenSignature"),
            ),
            (vec![("ClientTokenSignature", signature.clone())], HeaderIdentityError::Missing("ClientToken")),
            (vec![("CCMClientTimestamp", TIME.to_owned())], HeaderIdentityError::Missing("CCMClientID")),
            (vec![("CCMClientID", ID.to_owned())], HeaderIdentityError::Missing("CCMClientTimestamp")),
            (
                vec![("CCMClientID", ID.to_owned()), ("ClientToken", ID.to_owned())],
                HeaderIdentityError::TwoIdentities,
            ),
        ] {
            assert_eq!(read(&headers), Err(error));
        }
    }
}
