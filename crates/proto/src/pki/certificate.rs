//! What path building needs to know of a certificate, read once and owned.

use rustls_pki_types::CertificateDer;
use x509_parser::extensions::{GeneralName, ParsedExtension, X509Extension};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::key::{PublicKey, Signed, signature_weakness};
use super::name;
use crate::id::Thumbprint;
use crate::limits;
use crate::pki::{IssuerId, Serial, SerialError};
use crate::time::Timestamp;

/// A certificate, read.
#[derive(Debug, Clone)]
pub(super) struct Certificate {
    der: CertificateDer<'static>,
    subject: Vec<u8>,
    issuer: Vec<u8>,
    key: Vec<u8>,
    pub(super) serial: Result<Serial, SerialError>,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    /// Only version 3 has extensions, and only by extensions is an authority known.
    pub(super) is_v3: bool,
    pub(super) facts: Facts,
}

/// What the extensions say.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    /// `cA` of the basic constraints.
    pub(super) authority: bool,
    /// How many authorities may stand between it and the leaf; those issued by themselves don't count.
    pub(super) path_length: Option<u32>,
    pub(super) key_usage: Option<KeyUsage>,
    pub(super) usages: Option<Usages>,
    pub(super) subject_key: Option<Vec<u8>>,
    pub(super) authority_key: Option<Vec<u8>>,
    pub(super) name_constraints: bool,
    /// The first thing that RFC 5280 forbids in any certificate.
    pub(super) fault: Option<String>,
    /// Alternative names that are not marked critical.
    pub(super) plain_alternative_names: bool,
}

/// Bits of the key usage extension that matter here.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyUsage {
    pub(super) digital_signature: bool,
    pub(super) certificate_sign: bool,
    pub(super) crl_sign: bool,
}

/// Extended usages that matter here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usages {
    pub(super) client: bool,
    pub(super) server: bool,
    pub(super) any: bool,
}

/// Not a certificate that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unreadable;

impl Certificate {
    /// Reads DER; nothing may follow it.
    pub(super) fn read(der: &[u8]) -> Result<Self, Unreadable> {
        let (rest, read) = X509Certificate::from_der(der).map_err(|_| Unreadable)?;
        // One form for both readers, so that what we look at is what was signed.
        if !rest.is_empty() || Signed::read(der).is_none() {
            return Err(Unreadable);
        }
        let moment = |time: x509_parser::time::ASN1Time| Timestamp::from_seconds(time.timestamp());
        Ok(Self {
            der: CertificateDer::from(der.to_vec()),
            subject: read.subject().as_raw().to_vec(),
            issuer: read.issuer().as_raw().to_vec(),
            key: read.public_key().raw.to_vec(),
            serial: Serial::from_der_integer(read.raw_serial()),
            not_before: moment(read.validity().not_before),
            not_after: moment(read.validity().not_after),
            is_v3: read.version() == x509_parser::x509::X509Version::V3,
            facts: Facts::read(read.extensions()),
        })
    }

    pub(super) fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// DER of the subject.
    pub(super) fn subject(&self) -> &[u8] {
        &self.subject
    }

    /// DER of the issuer's name.
    pub(super) fn issuer(&self) -> &[u8] {
        &self.issuer
    }

    /// DER of the public key info.
    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    /// The subject for people.
    pub(super) fn name(&self) -> String {
        name::text(&self.subject)
    }

    /// The issuer's name for people.
    pub(super) fn issuer_name(&self) -> String {
        name::text(&self.issuer)
    }

    pub(super) fn thumbprint(&self) -> Thumbprint {
        Thumbprint::of(&self.der)
    }

    /// Names it as an issuer.
    pub(super) fn issuer_id(&self) -> IssuerId {
        IssuerId::new(&self.subject, &self.key)
    }

    /// Whether issuer and subject are one name.
    pub(super) fn is_self_issued(&self) -> bool {
        self.subject == self.issuer
    }

    /// An empty sequence: no name at all.
    pub(super) fn has_subject(&self) -> bool {
        self.subject.len() > 2
    }

    /// What is wrong with its key (R3).
    pub(super) fn key_weakness(&self) -> Option<String> {
        match PublicKey::read(&self.key) {
            Some(key) => key.weakness(),
            None => Some("its key cannot be read".to_owned()),
        }
    }

    /// What is wrong with the way in which it was signed (R3).
    pub(super) fn signature_weakness(&self) -> Option<String> {
        signature_weakness(Signed::read(&self.der)?.algorithm)
    }

    /// Whether the key of `issuer` signed it.
    pub(super) fn is_signed_by(&self, issuer: &Self) -> bool {
        let (Some(signed), Some(key)) = (Signed::read(&self.der), PublicKey::read(&issuer.key)) else {
            return false;
        };
        key.verify_named(signed.algorithm, signed.message, signed.signature).is_ok()
    }

    /// An authority whose key usage, where it has one, names certificates.
    pub(super) fn may_sign_certificates(&self) -> bool {
        self.is_v3 && self.facts.authority && self.facts.key_usage.is_none_or(|usage| usage.certificate_sign)
    }

    /// An authority whose key usage, where it has one, names lists.
    pub(super) fn may_sign_lists(&self) -> bool {
        self.is_v3 && self.facts.authority && self.facts.key_usage.is_none_or(|usage| usage.crl_sign)
    }
}

impl Facts {
    fn read(extensions: &[X509Extension<'_>]) -> Self {
        let mut facts = Self::default();
        if extensions.len() > limits::CERTIFICATE_EXTENSIONS {
            facts.fault = Some(format!("it has {} extensions", extensions.len()));
            return facts;
        }
        for (place, extension) in extensions.iter().enumerate() {
            facts.note(extension);
            let twice = extensions.iter().take(place).any(|other| other.oid == extension.oid);
            let fault = if twice {
                Some(format!("it has the extension {} twice", extension.oid))
            } else {
                fault(extension)
            };
            facts.fault = facts.fault.take().or(fault);
        }
        facts
    }

    fn note(&mut self, extension: &X509Extension<'_>) {
        match extension.parsed_extension() {
            ParsedExtension::BasicConstraints(constraints) => {
                self.authority = constraints.ca;
                self.path_length = constraints.path_len_constraint;
            }
            ParsedExtension::KeyUsage(usage) => {
                self.key_usage = Some(KeyUsage {
                    digital_signature: usage.digital_signature(),
                    certificate_sign: usage.key_cert_sign(),
                    crl_sign: usage.crl_sign(),
                });
            }
            ParsedExtension::ExtendedKeyUsage(usage) => {
                self.usages =
                    Some(Usages { client: usage.client_auth, server: usage.server_auth, any: usage.any });
            }
            ParsedExtension::SubjectKeyIdentifier(id) => self.subject_key = Some(id.0.to_vec()),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                self.authority_key = id.key_identifier.as_ref().map(|id| id.0.to_vec());
            }
            ParsedExtension::NameConstraints(_) => self.name_constraints = true,
            ParsedExtension::SubjectAlternativeName(_) => self.plain_alternative_names = !extension.critical,
            _ => {}
        }
    }
}

/// What RFC 5280 forbids of this extension wherever it stands. The numbers in brackets are its sections.
fn fault(extension: &X509Extension<'_>) -> Option<String> {
    let oid = &extension.oid;
    let critical = extension.critical;
    match extension.parsed_extension() {
        ParsedExtension::ParseError { .. } => Some(format!("its extension {oid} cannot be read")),
        // [4.2.1.1], [4.2.1.2], [4.2.2.1], [4.2.2.2]: never critical.
        ParsedExtension::AuthorityKeyIdentifier(_)
        | ParsedExtension::SubjectKeyIdentifier(_)
        | ParsedExtension::AuthorityInfoAccess(_)
        | ParsedExtension::SubjectInfoAccess(_)
            if critical =>
        {
            Some(format!("its extension {oid} is marked critical, which it may not be"))
        }
        // [4.2.1.11], [4.2.1.14]: always critical; and then webpki, which has no policies, refuses it.
        ParsedExtension::PolicyConstraints(_) | ParsedExtension::InhibitAnyPolicy(_) if !critical => {
            Some(format!("its extension {oid} is not marked critical, which it must be"))
        }
        // [4.2.1.10]: never empty.
        ParsedExtension::NameConstraints(constraints) => {
            let none = |trees: Option<usize>| trees.is_none_or(|count| count == 0);
            let permitted = constraints.permitted_subtrees.as_ref().map(Vec::len);
            let excluded = constraints.excluded_subtrees.as_ref().map(Vec::len);
            (none(permitted) && none(excluded)).then(|| "its name constraints are empty".to_owned())
        }
        ParsedExtension::SubjectAlternativeName(names) => names
            .general_names
            .iter()
            .any(|name| matches!(name, GeneralName::Invalid(..)))
            .then(|| "one of its alternative names cannot be read".to_owned()),
        // What webpki understands too; it has the last word on what these mean.
        ParsedExtension::BasicConstraints(_)
        | ParsedExtension::KeyUsage(_)
        | ParsedExtension::ExtendedKeyUsage(_)
        | ParsedExtension::CRLDistributionPoints(_) => None,
        _ if critical => Some(format!("its critical extension {oid} is not understood")),
        _ => None,
    }
}
