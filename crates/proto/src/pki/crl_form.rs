//! The form of a certificate revocation list (RFC 5280, section 5), read in one pass over its bytes:
//! an entry is looked at, kept as 24 bytes and forgotten, so that a million of them cost little.

use der::asn1::{AnyRef, ObjectIdentifier, OctetStringRef};
use der::{Decode as _, Reader as _, SliceReader, Tag, TagNumber, Tagged as _};
use x509_cert::ext::pkix::crl::dp::IssuingDistributionPoint;
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};
use x509_cert::time::Time;

use super::key::{Signed, sequence, whole};
use super::name;
use crate::limits;
use crate::pki::{CrlError, Revoked, Serial};
use crate::text::hex;
use crate::time::Timestamp;

const CRL_NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.20");
const REASON_CODE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.21");
const DELTA_INDICATOR: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.27");
const ISSUING_DISTRIBUTION_POINT: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.28");
const CERTIFICATE_ISSUER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.29");
const AUTHORITY_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.35");

/// Bytes of the longest CRL number (RFC 5280, section 5.2.3).
const NUMBER_BYTES: usize = 20;

/// What a list says, its signature aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Form {
    /// DER of the issuer's name.
    pub(super) issuer: Vec<u8>,
    pub(super) this_update: Timestamp,
    /// A list without it is read, so that the refusal can name its issuer.
    pub(super) next_update: Option<Timestamp>,
    /// Upper-case hex without leading zero bytes; empty without one.
    pub(super) number: String,
    /// Distribution point names to which it is limited.
    pub(super) points: Vec<String>,
    pub(super) revoked: Revoked,
}

/// A part of an issuer's certificates to which a list is limited (RFC 5280, section 5.2.5). One that
/// is limited would leave the others unchecked in the place of a whole one, so it is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrlScope {
    /// `onlyContainsUserCerts`.
    UserCertificates,
    /// `onlyContainsCACerts`.
    AuthorityCertificates,
    /// `onlyContainsAttributeCerts`.
    AttributeCertificates,
    /// `onlySomeReasons`.
    SomeReasons,
    /// A distribution point that is not named by URIs.
    UnnamedPoint,
}

impl std::fmt::Display for CrlScope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::UserCertificates => "certificates of users and devices",
            Self::AuthorityCertificates => "certificates of authorities",
            Self::AttributeCertificates => "attribute certificates",
            Self::SomeReasons => "some reasons of revocation",
            Self::UnnamedPoint => "a distribution point without a URI",
        })
    }
}

const BROKEN: CrlError = CrlError::Malformed("its form is not that of a list");

/// Any error of the reader. Where exactly it stumbled helps nobody.
fn broken<E>(_: E) -> CrlError {
    BROKEN
}

impl Form {
    /// Reads the part that was signed. Scope, kind and critical extensions are judged here: they need
    /// no knowledge of the issuer.
    pub(super) fn read(signed: &Signed<'_>) -> Result<Self, CrlError> {
        let tbs = AnyRef::from_der(signed.message).map_err(broken)?;
        let mut reader = sequence(tbs).ok_or(BROKEN)?;
        let is_v2 = read_version(&mut reader)?;
        let algorithm = AnyRef::decode(&mut reader).map_err(broken)?;
        if algorithm.tag() != Tag::Sequence || algorithm.value() != signed.algorithm {
            return Err(CrlError::Malformed("it names two signature algorithms"));
        }
        let issuer = AnyRef::decode(&mut reader).map_err(broken)?;
        if issuer.tag() != Tag::Sequence {
            return Err(BROKEN);
        }
        let this_update = read_time(&mut reader)?;
        let next_update = match peek(&reader) {
            Some(Tag::UtcTime | Tag::GeneralizedTime) => Some(read_time(&mut reader)?),
            _ => None,
        };
        let revoked = match peek(&reader) {
            Some(Tag::Sequence) => read_entries(AnyRef::decode(&mut reader).map_err(broken)?, is_v2)?,
            _ => Revoked::default(),
        };
        let extensions = match peek(&reader) {
            Some(Tag::ContextSpecific { constructed: true, number: TagNumber(0) }) if is_v2 => {
                let tagged = AnyRef::decode(&mut reader).map_err(broken)?;
                Extensions::read(AnyRef::from_der(tagged.value()).map_err(broken)?)?
            }
            _ => Extensions::default(),
        };
        reader.finish().map_err(broken)?;
        Ok(Self {
            issuer: whole(issuer).ok_or(BROKEN)?,
            this_update,
            next_update,
            number: extensions.number,
            points: extensions.points,
            revoked,
        })
    }

    /// The issuer's name for people.
    pub(super) fn issuer_name(&self) -> String {
        name::text(&self.issuer)
    }
}

fn peek(reader: &SliceReader<'_>) -> Option<Tag> {
    Tag::peek(reader).ok()
}

/// Whether it is version 2. Version 1, which openssl writes unless told otherwise, has no extensions.
fn read_version(reader: &mut SliceReader<'_>) -> Result<bool, CrlError> {
    if peek(reader) != Some(Tag::Integer) {
        return Ok(false);
    }
    match AnyRef::decode(reader).map_err(broken)?.value() {
        [1] => Ok(true),
        _ => Err(CrlError::Malformed("its version is unknown")),
    }
}

fn read_time(reader: &mut SliceReader<'_>) -> Result<Timestamp, CrlError> {
    let time = Time::decode(reader).map_err(|_| CrlError::Malformed("a date in it is not valid"))?;
    Ok(Timestamp::from_seconds(i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX)))
}

fn read_entries(list: AnyRef<'_>, is_v2: bool) -> Result<Revoked, CrlError> {
    let mut reader = sequence(list).ok_or(BROKEN)?;
    let mut failed = None;
    let entries = std::iter::from_fn(|| {
        while !reader.is_finished() {
            match read_entry(&mut reader, is_v2) {
                Ok(Some(entry)) => return Some(entry),
                Ok(None) => {}
                Err(error) => {
                    failed = Some(error);
                    return None;
                }
            }
        }
        None
    });
    let revoked: Revoked = entries.collect();
    failed.map_or(Ok(revoked), Err)
}

/// One revoked certificate; `None` for a serial that no certificate may have: whoever bears it is
/// refused for that.
fn read_entry(reader: &mut SliceReader<'_>, is_v2: bool) -> Result<Option<(Serial, Timestamp)>, CrlError> {
    let mut entry = sequence(AnyRef::decode(reader).map_err(broken)?).ok_or(BROKEN)?;
    let serial = AnyRef::decode(&mut entry).map_err(broken)?;
    if serial.tag() != Tag::Integer {
        return Err(BROKEN);
    }
    let at = read_time(&mut entry)?;
    if is_v2 && !entry.is_finished() {
        let extensions = AnyRef::decode(&mut entry).map_err(broken)?;
        for_each_extension(extensions, |oid, critical, _| match oid {
            CERTIFICATE_ISSUER => Err(CrlError::Indirect),
            // Whatever the reason, it counts as revoked: on hold too.
            REASON_CODE => Ok(()),
            other if critical => Err(CrlError::CriticalExtension { oid: other.to_string() }),
            _ => Ok(()),
        })?;
    }
    entry.finish().map_err(broken)?;
    Ok(Serial::from_der_integer(serial.value()).ok().map(|serial| (serial, at)))
}

/// What the extensions of a whole list say.
#[derive(Default)]
struct Extensions {
    number: String,
    points: Vec<String>,
}

impl Extensions {
    fn read(list: AnyRef<'_>) -> Result<Self, CrlError> {
        let mut read = Self::default();
        let mut seen = Vec::new();
        for_each_extension(list, |oid, critical, value| {
            if seen.contains(&oid) || seen.len() == limits::CERTIFICATE_EXTENSIONS {
                return Err(CrlError::Malformed("it says the same thing twice"));
            }
            seen.push(oid);
            match oid {
                CRL_NUMBER => read.number = read_number(value)?,
                ISSUING_DISTRIBUTION_POINT => read.points = read_scope(value)?,
                DELTA_INDICATOR => return Err(CrlError::Delta),
                // Which key signed is found by trying it.
                AUTHORITY_KEY => {}
                other if critical => return Err(CrlError::CriticalExtension { oid: other.to_string() }),
                _ => {}
            }
            Ok(())
        })?;
        Ok(read)
    }
}

fn for_each_extension(
    list: AnyRef<'_>,
    mut look: impl FnMut(ObjectIdentifier, bool, &[u8]) -> Result<(), CrlError>,
) -> Result<(), CrlError> {
    let mut list = sequence(list).ok_or(BROKEN)?;
    while !list.is_finished() {
        let mut extension = sequence(AnyRef::decode(&mut list).map_err(broken)?).ok_or(BROKEN)?;
        let oid = ObjectIdentifier::decode(&mut extension).map_err(broken)?;
        let critical = match peek(&extension) {
            Some(Tag::Boolean) => bool::decode(&mut extension).map_err(broken)?,
            _ => false,
        };
        let value = <&OctetStringRef>::decode(&mut extension).map_err(broken)?;
        extension.finish().map_err(broken)?;
        look(oid, critical, value.as_bytes())?;
    }
    Ok(())
}

fn read_number(value: &[u8]) -> Result<String, CrlError> {
    const WRONG: CrlError = CrlError::Malformed("its number is not valid");
    let number = AnyRef::from_der(value).map_err(|_| WRONG)?;
    let digits = match number.value() {
        [] | [0x80..=0xFF, ..] => return Err(WRONG),
        // Zero itself keeps its digit.
        [0] => &[0],
        digits => digits.strip_prefix(&[0]).unwrap_or(digits),
    };
    if number.tag() != Tag::Integer || digits.len() > NUMBER_BYTES {
        return Err(WRONG);
    }
    Ok(hex::encode(digits))
}

/// Names of the one distribution point to which a list may be limited; any other limit is refused.
fn read_scope(value: &[u8]) -> Result<Vec<String>, CrlError> {
    let scope = IssuingDistributionPoint::from_der(value)
        .map_err(|_| CrlError::Malformed("its issuing distribution point cannot be read"))?;
    let restrictions = [
        (scope.only_contains_user_certs, CrlScope::UserCertificates),
        (scope.only_contains_ca_certs, CrlScope::AuthorityCertificates),
        (scope.only_contains_attribute_certs, CrlScope::AttributeCertificates),
        (scope.only_some_reasons.is_some(), CrlScope::SomeReasons),
    ];
    if scope.indirect_crl {
        return Err(CrlError::Indirect);
    }
    if let Some((_, limit)) = restrictions.into_iter().find(|(limited, _)| *limited) {
        return Err(CrlError::Scope(limit));
    }
    let Some(point) = scope.distribution_point else { return Ok(Vec::new()) };
    let names = match point {
        DistributionPointName::FullName(names) => names,
        DistributionPointName::NameRelativeToCRLIssuer(_) => Vec::new(),
    };
    let points: Vec<String> = names
        .into_iter()
        .filter_map(|name| match name {
            GeneralName::UniformResourceIdentifier(uri) => Some(uri.as_str().to_owned()),
            _ => None,
        })
        .filter(|uri| uri.len() <= limits::DISTRIBUTION_POINT_CHARS)
        .take(limits::DISTRIBUTION_POINTS)
        .collect();
    if points.is_empty() { Err(CrlError::Scope(CrlScope::UnnamedPoint)) } else { Ok(points) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::Crl;

    fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        let header = match content.len() {
            0..=127 => vec![tag, length[1]],
            128..=255 => vec![tag, 0x81, length[1]],
            _ => vec![tag, 0x82, length[0], length[1]],
        };
        [header, content].concat()
    }

    fn extension(oid: ObjectIdentifier, critical: bool) -> Vec<u8> {
        let oid = element(6, &[oid.as_bytes()]);
        let critical: &[u8] = if critical { &[1, 1, 0xFF] } else { &[] };
        element(0x30, &[&oid, critical, &element(4, &[&[5, 0]])])
    }

    /// A list, not signed by anybody, with one entry of this serial and these extensions.
    fn list(version: &[u8], serial: &[u8], extensions: &[Vec<u8>]) -> Vec<u8> {
        let algorithm = element(0x30, &[&element(6, &[&[0x2A, 0x86, 0x48, 0xCE, 0x3D, 4, 3, 2]])]);
        let date = element(0x17, &[b"260101000000Z"]);
        let extensions = match extensions {
            [] => Vec::new(),
            some => element(0x30, &[&some.concat()]),
        };
        let entry = element(0x30, &[&element(2, &[serial]), &date, &extensions]);
        let entries = element(0x30, &[&entry]);
        let tbs = element(0x30, &[version, &algorithm, &element(0x30, &[]), &date, &date, &entries]);
        element(0x30, &[&tbs, &algorithm, &element(3, &[&[0, 1]])])
    }

    const V2: &[u8] = &[2, 1, 1];

    #[test]
    fn an_entry_of_another_issuer_makes_the_whole_list_indirect() {
        let entry = list(V2, &[5], &[extension(REASON_CODE, false), extension(CERTIFICATE_ISSUER, true)]);
        assert_eq!(Crl::parse(&entry), Err(CrlError::Indirect));
    }

    #[test]
    fn a_critical_word_about_an_entry_must_be_understood() {
        let unknown = ObjectIdentifier::new_unwrap("1.2.3.4");
        let parse = |critical| Crl::parse(&list(V2, &[5], &[extension(unknown, critical)]));
        assert_eq!(parse(true), Err(CrlError::CriticalExtension { oid: "1.2.3.4".into() }));
        assert_eq!(parse(false).map(|crl| crl.entries()), Ok(1));
        let reason = Crl::parse(&list(V2, &[5], &[extension(REASON_CODE, true)]));
        assert_eq!(reason.map(|crl| crl.entries()), Ok(1), "the reason is understood: it does not matter");
        let v1 = Crl::parse(&list(&[], &[5], &[extension(unknown, false)]));
        assert_eq!(v1, Err(BROKEN), "version 1 has no extensions");
        assert!(matches!(Crl::parse(&list(&[2, 1, 2], &[5], &[])), Err(CrlError::Malformed(_))));
    }

    #[test]
    fn a_serial_that_no_certificate_may_have_is_passed_over() {
        for serial in [&[0x81][..], &[1; 21], &[]] {
            assert_eq!(Crl::parse(&list(V2, serial, &[])).map(|crl| crl.entries()), Ok(0), "{serial:?}");
        }
    }

    #[test]
    fn a_number_is_positive_and_has_at_most_twenty_bytes() {
        let read = |content: &[u8]| read_number(&element(2, &[content]));
        assert_eq!(read(&[0]), Ok("00".into()));
        assert_eq!(read(&[0, 0xFF]), Ok("FF".into()));
        assert_eq!(read(&[1; 20]).map(|number| number.len()), Ok(40));
        for wrong in [&[0x80][..], &[1; 21], &[]] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }
}
