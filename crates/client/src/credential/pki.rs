//! Which certificate of the organisation's PKI the device shows: the field's rules of selection.
//!
//! In this order [docs]: leads to an issuer of the list, is valid, its private key can be used, may be
//! used by clients, names this computer. What is left must be one certificate; of several,
//! `CCMFIRSTCERT=1` takes the one that lasts longest, and without it none is taken. Certificates of
//! one subject from one issuer are one certificate and its renewals: of those the one that lasts
//! longest counts, or a device would lose its identity whenever it renews before the end.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use proto::client_certificate::Scheme;
use proto::id::Thumbprint;
use proto::time::Timestamp;
use runtime::tls::OwnCertificate;
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate, X509Name};

/// Reasons that a failed choice lists. A store has a handful of certificates.
const REJECTED: usize = 4;
/// Names of a certificate that are looked at.
const NAMES: usize = 100;

/// Whether the private key of a certificate can be used.
#[derive(Debug, Clone)]
pub enum StoredKey {
    /// It can; the pair is ready for TLS and for signing.
    Usable(Arc<OwnCertificate>),
    /// The store has none for it.
    Missing,
    /// There is one that cannot be used; why.
    Unusable(String),
}

/// A certificate of the store.
#[derive(Debug, Clone)]
pub struct StoredCertificate {
    /// Where it was found, for messages.
    pub source: String,
    /// The chain, its own certificate first, DER.
    pub chain: Vec<Vec<u8>>,
    /// Its key.
    pub key: StoredKey,
}

/// `CCMCERTSEL` [docs].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Select {
    /// `Subject:` the whole name, in the subject or among the alternative names.
    Subject(String),
    /// `SubjectStr:` a part of it.
    SubjectPart(String),
    /// `SubjectAttr:` one attribute of the subject.
    Attribute {
        /// Its object identifier.
        attribute: String,
        /// Its value.
        value: String,
    },
}

/// A text that is no `CCMCERTSEL` or `CCMCERTISSUERS`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// None of the three forms.
    #[error("CCMCERTSEL is Subject:NAME, SubjectStr:PART or SubjectAttr:ATTRIBUTE=VALUE")]
    Form,
    /// An attribute that nobody knows.
    #[error("{0:?} is no attribute of a name; use CN, OU, O, L, S, C, DC, E or an object identifier")]
    Attribute(String),
    /// Not a list of names.
    #[error("CCMCERTISSUERS is a list such as CN=Contoso Root CA; O=Contoso | CN=Other Root")]
    Issuers,
}

impl FromStr for Select {
    type Err = SelectError;

    fn from_str(text: &str) -> Result<Self, SelectError> {
        let (kind, value) = text.split_once(':').ok_or(SelectError::Form)?;
        let value = value.trim();
        if value.is_empty() {
            return Err(SelectError::Form);
        }
        match kind.trim().to_ascii_lowercase().as_str() {
            "subject" => Ok(Self::Subject(value.to_owned())),
            "subjectstr" => Ok(Self::SubjectPart(value.to_owned())),
            "subjectattr" => {
                let (attribute, value) = value.split_once('=').ok_or(SelectError::Form)?;
                let attribute = oid_of(attribute.trim())?;
                Ok(Self::Attribute { attribute, value: value.trim().to_owned() })
            }
            _ => Err(SelectError::Form),
        }
    }
}

/// A distinguished name, to be compared without regard to order and case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IssuerName(Vec<(String, String)>);

impl IssuerName {
    fn of(name: &X509Name<'_>) -> Self {
        let mut attributes: Vec<_> = attributes(name);
        for (_, value) in &mut attributes {
            *value = value.to_lowercase();
        }
        attributes.sort();
        Self(attributes)
    }

    /// Reads `CCMCERTISSUERS`: names separated by `|`, their attributes by `;` or `,` [docs].
    pub fn read_list(text: &str) -> Result<Vec<Self>, SelectError> {
        let mut names = Vec::new();
        for name in text.split('|').map(str::trim).filter(|name| !name.is_empty()) {
            // A comma stands inside values ("Contoso, Ltd"): it separates only where no semicolon does.
            let separator = if name.contains(';') { ';' } else { ',' };
            let mut attributes = Vec::new();
            for part in name.split(separator).map(str::trim).filter(|part| !part.is_empty()) {
                let (attribute, value) = part.split_once('=').ok_or(SelectError::Issuers)?;
                attributes.push((oid_of(attribute.trim())?, value.trim().to_lowercase()));
            }
            if attributes.is_empty() {
                return Err(SelectError::Issuers);
            }
            attributes.sort();
            names.push(Self(attributes));
        }
        if names.is_empty() { Err(SelectError::Issuers) } else { Ok(names) }
    }
}

/// How the certificate is chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Selection {
    /// `CCMCERTSEL`. In place of the computer's name.
    pub select: Option<Select>,
    /// `CCMCERTISSUERS`: one of these must be in the chain; empty: anybody.
    pub issuers: Vec<IssuerName>,
    /// `CCMFIRSTCERT=1`: of several, the one that lasts longest.
    pub first: bool,
    /// `CCMCERTNAMECHECK=0`: the computer's name need not be in it.
    pub any_name: bool,
}

/// The certificate that the device shows.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// Certificate, chain and key.
    pub own: Arc<OwnCertificate>,
    /// SHA-256 of the certificate.
    pub thumbprint: Thumbprint,
    /// Its subject.
    pub subject: String,
    /// Its issuer.
    pub issuer: String,
    /// Its end.
    pub not_after: Timestamp,
    /// Where it was found.
    pub source: String,
}

/// Why no certificate is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoCertificate {
    /// The store is empty.
    Empty,
    /// None of them will do; the first few with the reason.
    NoneFits {
        /// How many there are.
        count: usize,
        /// Subject and reason.
        rejected: Vec<(String, String)>,
    },
    /// More than one will do, and nothing says which.
    Several(Vec<String>),
}

impl fmt::Display for NoCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the certificate store holds no certificate"),
            Self::NoneFits { count, rejected } => {
                write!(f, "none of the {count} certificates in the store can be used")?;
                for (subject, why) in rejected {
                    write!(f, "; {subject}: {why}")?;
                }
                Ok(())
            }
            Self::Several(subjects) => write!(
                f,
                "{} certificates match and CCMFIRSTCERT=1 is not set, so none is taken: {}",
                subjects.len(),
                subjects.join("; ")
            ),
        }
    }
}

/// What a choice looks at.
struct Facts<'s> {
    stored: &'s StoredCertificate,
    thumbprint: Thumbprint,
    subject: String,
    subject_attributes: Vec<(String, String)>,
    issuer: String,
    /// Every issuer of the chain, the last one's own issuer (mostly a root that is not in it) included.
    issuers: Vec<IssuerName>,
    /// Common names and DNS names.
    names: Vec<String>,
    not_before: Timestamp,
    not_after: Timestamp,
    for_clients: bool,
    is_authority: bool,
}

impl<'s> Facts<'s> {
    fn read(stored: &'s StoredCertificate) -> Option<Self> {
        let leaf = stored.chain.first()?;
        let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
        let issuers = stored
            .chain
            .iter()
            .filter_map(|der| X509Certificate::from_der(der).ok())
            .map(|(_, certificate)| IssuerName::of(certificate.issuer()))
            .collect();
        let mut names: Vec<String> = certificate
            .subject()
            .iter_common_name()
            .filter_map(|name| name.as_str().ok())
            .map(str::to_owned)
            .collect();
        if let Ok(Some(alternative)) = certificate.subject_alternative_name() {
            names.extend(alternative.value.general_names.iter().filter_map(|name| match name {
                GeneralName::DNSName(name) => Some((*name).to_owned()),
                _ => None,
            }));
        }
        names.truncate(NAMES);
        let usage = certificate.extended_key_usage().ok()?;
        let for_clients = usage.is_some_and(|usage| usage.value.client_auth || usage.value.any);
        let may_sign = certificate.key_usage().ok()?.is_none_or(|usage| usage.value.digital_signature());
        let is_authority = certificate.basic_constraints().ok()?.is_some_and(|basic| basic.value.ca);
        let validity = certificate.validity();
        Some(Self {
            stored,
            thumbprint: Thumbprint::of(leaf),
            subject: certificate.subject().to_string(),
            subject_attributes: attributes(certificate.subject()),
            issuer: certificate.issuer().to_string(),
            issuers,
            names,
            not_before: Timestamp::from_seconds(validity.not_before.timestamp()),
            not_after: Timestamp::from_seconds(validity.not_after.timestamp()),
            for_clients: for_clients && may_sign,
            is_authority,
        })
    }

    /// Why it cannot be used; `None`: it can.
    fn rejection(&self, selection: &Selection, computer: &str, now: Timestamp) -> Option<String> {
        if !selection.issuers.is_empty() && !self.issuers.iter().any(|name| selection.issuers.contains(name))
        {
            return Some(format!("issued by {}, which is not among CCMCERTISSUERS", self.issuer));
        }
        if now >= self.not_after {
            return Some(format!("expired at {}", self.not_after));
        }
        if now < self.not_before {
            return Some(format!("valid only from {}", self.not_before));
        }
        match &self.stored.key {
            StoredKey::Usable(_) => {}
            StoredKey::Missing => return Some("its private key is not in the store".to_owned()),
            StoredKey::Unusable(why) => return Some(format!("its private key cannot be used: {why}")),
        }
        if self.stored.chain.first().is_none_or(|leaf| Scheme::of(leaf).is_none()) {
            return Some("its key is neither RSA of 2048 bits or more nor P-256 nor P-384".to_owned());
        }
        if !self.for_clients {
            return Some("not meant for client authentication".to_owned());
        }
        match &selection.select {
            Some(select) if !self.matches(select) => Some("not what CCMCERTSEL asks for".to_owned()),
            None if !selection.any_name && !self.names_computer(computer) => {
                Some(format!("does not name this computer ({computer})"))
            }
            _ => None,
        }
    }

    fn matches(&self, select: &Select) -> bool {
        match select {
            Select::Subject(name) => {
                self.names.iter().any(|found| found.eq_ignore_ascii_case(name))
                    || self.subject.eq_ignore_ascii_case(name)
            }
            Select::SubjectPart(part) => {
                let part = part.to_lowercase();
                self.names.iter().chain([&self.subject]).any(|found| found.to_lowercase().contains(&part))
            }
            Select::Attribute { attribute, value } => self
                .subject_attributes
                .iter()
                .any(|(found, content)| found == attribute && content.eq_ignore_ascii_case(value)),
        }
    }

    /// The name itself, or a whole name whose first label it is: `pc1` is in `pc1.contoso.com`, and
    /// not in `pc10`.
    fn names_computer(&self, computer: &str) -> bool {
        self.names.iter().any(|name| {
            let label = name.split('.').next().unwrap_or_default();
            name.eq_ignore_ascii_case(computer) || label.eq_ignore_ascii_case(computer)
        })
    }

    fn chosen(&self) -> Option<Chosen> {
        let StoredKey::Usable(own) = &self.stored.key else { return None };
        Some(Chosen {
            own: Arc::clone(own),
            thumbprint: self.thumbprint,
            subject: self.subject.clone(),
            issuer: self.issuer.clone(),
            not_after: self.not_after,
            source: self.stored.source.clone(),
        })
    }
}

/// Chooses the certificate for a computer of this name.
pub fn choose(
    store: &[StoredCertificate],
    selection: &Selection,
    computer: &str,
    now: Timestamp,
) -> Result<Chosen, NoCertificate> {
    let all: Vec<_> = store.iter().filter_map(Facts::read).filter(|facts| !facts.is_authority).collect();
    if all.is_empty() {
        return Err(NoCertificate::Empty);
    }
    let (mut left, mut rejected) = (Vec::new(), Vec::new());
    for facts in &all {
        match facts.rejection(selection, computer, now) {
            None => left.push(facts),
            Some(why) => rejected.push((facts.subject.clone(), why)),
        }
    }
    // The one that lasts longest first; renewals of one certificate are one.
    left.sort_by_key(|facts| std::cmp::Reverse((facts.not_after, facts.not_before)));
    let mut distinct: Vec<&Facts<'_>> = Vec::new();
    for facts in left {
        if !distinct.iter().any(|other| (&other.subject, &other.issuer) == (&facts.subject, &facts.issuer)) {
            distinct.push(facts);
        }
    }
    match distinct.as_slice() {
        [] => {
            rejected.truncate(REJECTED);
            Err(NoCertificate::NoneFits { count: all.len(), rejected })
        }
        [first, rest @ ..] if rest.is_empty() || selection.first => {
            first.chosen().ok_or(NoCertificate::Empty)
        }
        several => Err(NoCertificate::Several(
            several.iter().take(REJECTED).map(|facts| facts.subject.clone()).collect(),
        )),
    }
}

/// Attributes that people name by their letters.
const ATTRIBUTES: &[(&str, &str)] = &[
    ("CN", "2.5.4.3"),
    ("OU", "2.5.4.11"),
    ("O", "2.5.4.10"),
    ("L", "2.5.4.7"),
    ("S", "2.5.4.8"),
    ("ST", "2.5.4.8"),
    ("STREET", "2.5.4.9"),
    ("C", "2.5.4.6"),
    ("T", "2.5.4.12"),
    ("SERIALNUMBER", "2.5.4.5"),
    ("DC", "0.9.2342.19200300.100.1.25"),
    ("UID", "0.9.2342.19200300.100.1.1"),
    ("E", "1.2.840.113549.1.9.1"),
    ("EMAIL", "1.2.840.113549.1.9.1"),
];

fn oid_of(attribute: &str) -> Result<String, SelectError> {
    if let Some((_, oid)) = ATTRIBUTES.iter().find(|(name, _)| name.eq_ignore_ascii_case(attribute)) {
        return Ok((*oid).to_owned());
    }
    let is_oid = attribute.contains('.') && attribute.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if is_oid && attribute.len() <= 64 {
        return Ok(attribute.to_owned());
    }
    Err(SelectError::Attribute(attribute.chars().take(40).collect()))
}

fn attributes(name: &X509Name<'_>) -> Vec<(String, String)> {
    name.iter_attributes()
        .take(NAMES)
        .filter_map(|attribute| {
            let value = attribute.as_str().ok()?;
            Some((attribute.attr_type().to_id_string(), value.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pki::{Leaf, Pki};

    const NOW: Timestamp = Timestamp::from_seconds(1_790_000_000);

    fn chosen(store: &[StoredCertificate], selection: &Selection) -> Result<String, NoCertificate> {
        choose(store, selection, "PC1", NOW).map(|chosen| chosen.subject)
    }

    #[test]
    fn one_certificate_that_names_the_computer_is_taken() {
        let pki = Pki::new("Contoso Root");
        let store = [
            pki.stored(&Leaf::client("pc1.contoso.com")),
            pki.stored(&Leaf::client("pc10.contoso.com")),
            pki.stored(&Leaf { for_clients: false, ..Leaf::client("pc1.contoso.com") }),
        ];
        let found = choose(&store, &Selection::default(), "PC1", NOW).unwrap();
        assert_eq!(found.subject, "CN=pc1.contoso.com");
        assert!(found.issuer.contains("Contoso Root") && found.not_after > NOW);
        assert_eq!(chosen(&[], &Selection::default()), Err(NoCertificate::Empty));
    }

    #[test]
    fn every_reason_against_a_certificate_is_told() {
        let pki = Pki::new("Contoso Root");
        let good = || Leaf::client("pc1");
        let mut without_key = pki.stored(&good());
        without_key.key = StoredKey::Missing;
        let mut unusable = pki.stored(&good());
        unusable.key = StoredKey::Unusable("it is encrypted".into());
        for (stored, expected) in [
            (pki.stored(&Leaf { years: (2020, 2021), ..good() }), "expired at 2021-01-01"),
            (pki.stored(&Leaf { years: (2030, 2031), ..good() }), "valid only from 2030-01-01"),
            (pki.stored(&Leaf { for_clients: false, ..good() }), "client authentication"),
            (pki.stored(&Leaf::client("other")), "does not name this computer (PC1)"),
            (without_key, "not in the store"),
            (unusable, "cannot be used: it is encrypted"),
        ] {
            let error = chosen(&[stored], &Selection::default()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let only_others =
            Selection { issuers: IssuerName::read_list("CN=Litware Root").unwrap(), ..Selection::default() };
        let error = chosen(&[pki.stored(&good())], &only_others).unwrap_err().to_string();
        assert!(error.contains("not among CCMCERTISSUERS"), "{error}");
    }

    #[test]
    fn of_several_none_is_taken_unless_the_first_was_asked_for() {
        let (one, two) = (Pki::new("One"), Pki::new("Two"));
        let store = [
            one.stored(&Leaf { years: (2026, 2028), ..Leaf::client("pc1") }),
            two.stored(&Leaf { years: (2026, 2030), ..Leaf::client("pc1") }),
        ];
        let error = chosen(&store, &Selection::default()).unwrap_err();
        assert!(matches!(&error, NoCertificate::Several(found) if found.len() == 2), "{error}");
        let first = Selection { first: true, ..Selection::default() };
        let found = choose(&store, &first, "pc1", NOW).unwrap();
        assert!(found.issuer.contains("Two"), "the one that lasts longest");
        let listed = Selection { issuers: IssuerName::read_list("CN=one").unwrap(), ..Selection::default() };
        assert!(choose(&store, &listed, "pc1", NOW).unwrap().issuer.contains("One"));
    }

    #[test]
    fn a_renewal_takes_the_place_of_the_certificate_that_it_renews() {
        let pki = Pki::new("Contoso Root");
        let store = [
            pki.stored(&Leaf { years: (2026, 2027), ..Leaf::client("pc1") }),
            pki.stored(&Leaf { years: (2026, 2029), ..Leaf::client("pc1") }),
        ];
        let found = choose(&store, &Selection::default(), "pc1", NOW).unwrap();
        assert_eq!(found.not_after.iso8601(), "2029-01-01T00:00:00Z");
    }

    #[test]
    fn the_field_s_selections_are_followed() {
        let pki = Pki::new("Contoso Root");
        let store = [
            pki.stored(&Leaf::client("a.contoso.com")),
            pki.stored(&Leaf { unit: Some("Computers"), ..Leaf::client("b.litware.com") }),
        ];
        let by = |text: &str| {
            let selection = Selection { select: Some(text.parse().unwrap()), ..Selection::default() };
            chosen(&store, &selection)
        };
        assert_eq!(by("Subject:A.contoso.com").unwrap(), "CN=a.contoso.com");
        assert!(by("SubjectStr:LITWARE").unwrap().contains("CN=b.litware.com"));
        for text in ["SubjectAttr:OU = Computers", "subjectattr:2.5.4.11=computers"] {
            assert!(by(text).unwrap().contains("CN=b.litware.com"), "{text}");
        }
        assert!(by("Subject:contoso.com").is_err() && by("SubjectStr:.com").is_err());
        for wrong in ["", "Subject:", "Name:x", "SubjectAttr:OU", "SubjectAttr:XX=1"] {
            assert!(wrong.parse::<Select>().is_err(), "{wrong}");
        }
        let any = Selection { any_name: true, ..Selection::default() };
        assert!(matches!(chosen(&store, &any), Err(NoCertificate::Several(_))));
    }

    #[test]
    fn issuers_are_compared_without_order_and_case() {
        let a = IssuerName::read_list("CN=Contoso Root CA; OU=Servers; O=Contoso, Ltd; C=US | CN=Litware")
            .unwrap();
        let b = IssuerName::read_list("C=us;O=contoso, ltd;OU=SERVERS;CN=contoso root ca").unwrap();
        assert_eq!((a.len(), &a[0]), (2, &b[0]));
        assert!(IssuerName::read_list(" | ").is_err() && IssuerName::read_list("nothing").is_err());
    }
}
