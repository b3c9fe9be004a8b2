//! The judgement of a chain.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use serde::{Deserialize, Serialize};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, anchor_from_trusted_cert};

use super::certificate::Certificate;
use super::distribution_point;
use super::path::{Field, Path, Search};
use super::soundness::{
    Place, Stage, check_dates, check_form, check_path_length, check_strength, check_usage,
};
use crate::id::Thumbprint;
use crate::limits;
use crate::pki::{Distrust, IssuerId, Revocations, TrustList};
use crate::time::Timestamp;

/// What a certificate is shown for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Usage {
    /// A device, or a connection point, as TLS client.
    Client,
    /// A gateway or management point as TLS server. The name is judged elsewhere.
    Server,
}

/// What happens to the clients of an issuer whose list is missing or past its `nextUpdate` (R7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CrlPolicy {
    /// They are refused, after the grace. The default.
    #[default]
    Hard,
    /// They go on by the last list, or without one. An alarm.
    Soft,
}

/// Site settings about revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevocationSettings {
    /// Whether revocation of client certificates is checked at all. Off is an alarm.
    pub check: bool,
    /// What a stale or missing list means.
    pub policy: CrlPolicy,
    /// How long after `nextUpdate` a list still counts under [`CrlPolicy::Hard`], in seconds; at
    /// most 24 hours; more counts as 24 hours.
    pub grace_seconds: u32,
}

impl Default for RevocationSettings {
    fn default() -> Self {
        Self { check: true, policy: CrlPolicy::Hard, grace_seconds: 0 }
    }
}

impl RevocationSettings {
    /// The longest grace (R7).
    pub const MOST_GRACE: Duration = Duration::from_hours(24);

    /// The grace.
    pub fn grace(&self) -> Duration {
        Duration::from_secs(u64::from(self.grace_seconds)).min(Self::MOST_GRACE)
    }
}

/// A chain that is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trusted {
    /// SHA-256 of the leaf.
    pub thumbprint: Thumbprint,
    /// Subject of the leaf in RFC 4514 form.
    pub subject: String,
    /// The earliest end of any certificate of the path and of any revocation list that was read
    /// (with its grace; under [`CrlPolicy::Soft`] lists do not end): until then the verdict may be
    /// kept.
    pub until: Timestamp,
    /// Authorities of the path, the issuer of the leaf first, the root last: SHA-256 each.
    pub path: Vec<Thumbprint>,
}

/// A trust list that cannot be used: the authority, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the authority {0} cannot be used as such: {1}")]
pub struct TrustStoreError(pub Thumbprint, pub String);

/// The trust list made ready for judging. Immutable: a change makes a new one.
#[derive(Debug)]
pub struct TrustStore {
    roots: Vec<Certificate>,
    intermediates: Vec<Certificate>,
    revocations: BTreeMap<IssuerId, Arc<Revocations>>,
    settings: RevocationSettings,
    longest: usize,
}

impl Default for TrustStore {
    /// Trusts nobody.
    fn default() -> Self {
        Self {
            roots: Vec::new(),
            intermediates: Vec::new(),
            revocations: BTreeMap::new(),
            settings: RevocationSettings::default(),
            longest: limits::PATH_CERTIFICATES,
        }
    }
}

impl TrustStore {
    /// Makes it ready. Fails at the first certificate that is no authority's: one that cannot be
    /// read, is not allowed to sign certificates, or has too weak a key. Dates are judged when they
    /// matter.
    pub fn new(
        list: &TrustList,
        revocations: &BTreeMap<IssuerId, Arc<Revocations>>,
        settings: RevocationSettings,
    ) -> Result<Self, TrustStoreError> {
        let mut store = Self { revocations: revocations.clone(), settings, ..Self::default() };
        for authority in &list.authorities {
            let certificate =
                read_authority(&authority.der).map_err(|detail| TrustStoreError(authority.id(), detail))?;
            if authority.root {
                store.roots.push(certificate);
            } else {
                store.intermediates.push(certificate);
            }
        }
        Ok(store)
    }

    /// The same with a shorter longest path, leaf and root counted; never a longer one.
    #[must_use]
    pub fn with_longest_path(mut self, certificates: usize) -> Self {
        self.longest = certificates.min(self.longest);
        self
    }

    /// Whether nobody is trusted: no certificate can pass.
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// Judges a chain: leaf first, then whatever else was shown, DER, in any order. At most
    /// [`limits::CHAIN_CERTIFICATES`] are looked at. What can't be read among the others is passed
    /// over; intermediates of the trust list help. Costs one or two signatures for each certificate
    /// below the root, and at most [`limits::PATH_SIGNATURES`] and a few whoever shows what.
    pub fn judge(&self, chain: &[Vec<u8>], usage: Usage, now: Timestamp) -> Result<Trusted, Distrust> {
        let (leaf, others) = chain.split_first().ok_or(Distrust::Missing)?;
        let leaf = read_shown(leaf).ok_or(Distrust::Unreadable)?;
        let mut shown = Vec::new();
        for other in others.iter().take(limits::CHAIN_CERTIFICATES - 1) {
            // Again what is there already would only make more paths of the same certificates.
            let known = |certificate: &Certificate| certificate.der().as_ref() == other.as_slice();
            if known(&leaf) || self.roots.iter().chain(&self.intermediates).chain(&shown).any(known) {
                continue;
            }
            shown.extend(read_shown(other));
        }
        let field = Field {
            roots: &self.roots,
            intermediates: &self.intermediates,
            shown: &shown,
            longest: self.longest,
        };
        Search::new(field, |path| self.judge_path(path, usage, now)).run(&leaf)
    }

    /// Judges one complete path. A refusal says in which stage it came: of several paths the one that
    /// came furthest is the one that was meant.
    fn judge_path(
        &self,
        path: &Path<'_>,
        usage: Usage,
        now: Timestamp,
    ) -> Result<Trusted, (Stage, Distrust)> {
        let (Some(leaf), Some((root, below))) = (path.first(), path.split_last()) else {
            return Err((Stage::Dates, Distrust::Missing));
        };
        let at = |stage| move |distrust| (stage, distrust);
        for stage in Stage::OF_EACH {
            for (place, certificate) in places(path) {
                match stage {
                    Stage::Dates => check_dates(certificate, now),
                    Stage::Strength => check_strength(certificate, place),
                    Stage::Usage => check_usage(certificate, place, usage),
                    Stage::Form => check_form(certificate, place, leaf),
                    Stage::Path | Stage::Revocation => Ok(()),
                }
                .map_err(at(stage))?;
            }
        }
        check_path_length(path).and_then(|()| verify(below, root, now)).map_err(at(Stage::Path))?;
        let lists_end = self.check_revocation(path, now).map_err(at(Stage::Revocation))?;
        let ends = path.iter().map(|certificate| certificate.not_after).chain(lists_end);
        Ok(Trusted {
            thumbprint: leaf.thumbprint(),
            subject: leaf.name(),
            until: ends.min().unwrap_or(now),
            path: path.iter().skip(1).map(|certificate| certificate.thumbprint()).collect(),
        })
    }

    /// Every certificate below the root by its issuer's list (R4); gives until when the lists count.
    /// That one is revoked is said rather than that of another nothing is known.
    fn check_revocation(&self, path: &Path<'_>, now: Timestamp) -> Result<Option<Timestamp>, Distrust> {
        if !self.settings.check {
            return Ok(None);
        }
        let mut unknown = None;
        let mut end: Option<Timestamp> = None;
        // From the root down: an authority that was revoked says nothing about what it issued.
        for (certificate, issuer) in path.iter().zip(path.iter().skip(1)).rev() {
            match self.standing(certificate, issuer, now) {
                Standing::Good(until) => end = end.into_iter().chain(until).min(),
                Standing::Unknown(distrust) => unknown = unknown.or(Some(distrust)),
                Standing::Revoked(distrust) => return Err(distrust),
            }
        }
        unknown.map_or(Ok(end), Err)
    }

    fn standing(&self, certificate: &Certificate, issuer: &Certificate, now: Timestamp) -> Standing {
        let missing = || match self.settings.policy {
            CrlPolicy::Hard => Standing::Unknown(Distrust::NoCrl { issuer: issuer.name() }),
            CrlPolicy::Soft => Standing::Good(None),
        };
        // A serial that no certificate may have was refused before: no list could name it.
        let (Some(list), Ok(serial)) = (self.revocations.get(&issuer.issuer_id()), certificate.serial) else {
            return missing();
        };
        // A list counts against a certificate whatever its scope and age.
        if let Some(at) = list.revoked.get(serial) {
            return Standing::Revoked(Distrust::Revoked {
                subject: certificate.name(),
                serial: serial.to_string(),
                at,
                issuer: issuer.name(),
                number: list.number_text().to_owned(),
            });
        }
        if !list.points.is_empty()
            && !distribution_point::names(certificate.der()).iter().any(|name| list.points.contains(name))
        {
            return missing();
        }
        let end = list.next_update.plus(self.settings.grace());
        match self.settings.policy {
            CrlPolicy::Soft => Standing::Good(None),
            CrlPolicy::Hard if end < now => {
                Standing::Unknown(Distrust::StaleCrl { issuer: issuer.name(), since: list.next_update })
            }
            CrlPolicy::Hard => Standing::Good(Some(end)),
        }
    }
}

/// What is known of one certificate's revocation.
enum Standing {
    /// Nothing against it, until then.
    Good(Option<Timestamp>),
    /// Nothing certain.
    Unknown(Distrust),
    Revoked(Distrust),
}

/// An authority's certificate, or what keeps it from being one.
fn read_authority(der: &[u8]) -> Result<Certificate, String> {
    let certificate = Certificate::read(der).map_err(|_| "it cannot be read".to_owned())?;
    if !certificate.may_sign_certificates() {
        return Err("it may not sign certificates".to_owned());
    }
    if let Some(weakness) = certificate.key_weakness() {
        return Err(format!("it is too weak: {weakness}"));
    }
    anchor_from_trusted_cert(certificate.der()).map_err(|error| error.to_string())?;
    Ok(certificate)
}

/// A certificate of a stranger, if it is short enough to be looked at.
fn read_shown(der: &[u8]) -> Option<Certificate> {
    if der.len() > limits::CHAIN_CERTIFICATE_BYTES {
        return None;
    }
    Certificate::read(der).ok()
}

fn places<'p>(path: &'p Path<'p>) -> impl Iterator<Item = (Place, &'p Certificate)> {
    let last = path.len().saturating_sub(1);
    path.iter().enumerate().map(move |(index, certificate)| match index {
        0 => (Place::Leaf, *certificate),
        index if index == last => (Place::Root, *certificate),
        _ => (Place::Intermediate, *certificate),
    })
}

/// RFC 5280 by webpki, on this path alone: it is given no other certificates to choose from.
fn verify(below: &Path<'_>, root: &Certificate, now: Timestamp) -> Result<(), Distrust> {
    let Some((leaf, intermediates)) = below.split_first() else { return Err(Distrust::Missing) };
    let self_issued = intermediates.iter().any(|certificate| certificate.is_self_issued());
    let refused = |error: &webpki::Error| explain(error, leaf, self_issued);
    let anchor: TrustAnchor<'_> = anchor_from_trusted_cert(root.der()).map_err(|error| refused(&error))?;
    let intermediates: Vec<CertificateDer<'_>> =
        intermediates.iter().map(|certificate| CertificateDer::from(certificate.der().as_ref())).collect();
    let seconds = u64::try_from(now.seconds()).unwrap_or(0);
    EndEntityCert::try_from(leaf.der())
        .and_then(|read| {
            read.verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &[anchor],
                &intermediates,
                UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
                JudgedElsewhere,
                None,
                None,
            )
            .map(|_| ())
        })
        .map_err(|error| refused(&error))
}

/// Usages: see [`check_usage`], which tells a leaf from an authority.
struct JudgedElsewhere;

impl ExtendedKeyUsageValidator for JudgedElsewhere {
    fn validate(&self, mut usages: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        usages.try_for_each(|usage| usage.map(|_| ()))
    }
}

/// What is left to webpki once our own checks have passed.
fn explain(error: &webpki::Error, leaf: &Certificate, self_issued: bool) -> Distrust {
    use webpki::Error;
    let detail = match error {
        // It counts such certificates like others, and then tries the authorities in another order.
        Error::PathLenConstraintViolated
        | Error::InvalidSignatureForPublicKey
        | Error::NameConstraintViolation
            if self_issued =>
        {
            "an authority that issued a certificate to itself stands in its path, and length or names of the \
             path are limited"
                .to_owned()
        }
        Error::NameConstraintViolation => {
            "a name in it lies outside of what one of its authorities may name".to_owned()
        }
        Error::PathLenConstraintViolated => {
            "one of its authorities stands further from the leaf than its path length allows".to_owned()
        }
        Error::InvalidSignatureForPublicKey => "a signature does not fit".to_owned(),
        Error::SignatureAlgorithmMismatch => "a certificate names two signature algorithms".to_owned(),
        Error::UnsupportedCriticalExtension => "a critical extension is not understood".to_owned(),
        Error::EmptyEkuExtension => "an extended key usage is empty".to_owned(),
        other => format!("{other:?}").chars().take(200).collect(),
    };
    Distrust::Invalid { subject: leaf.name(), detail }
}
