//! A certificate revocation list as somebody gave it: checked against its issuer before anything in
//! it counts (R6).

use std::cmp::Ordering;
use std::time::Duration;

use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::pem::PemObject as _;

use super::certificate::Certificate;
use super::crl_form::{CrlScope, Form};
use super::distribution_point;
use super::key::{PublicKey, Signed, signature_weakness};
use crate::limits;
use crate::pki::Revocations;
use crate::time::Timestamp;

/// How far ahead of ours the clock of an authority may be.
const CLOCK_SKEW: Duration = Duration::from_mins(5);

/// A CRL whose form was read; nothing in it counts until [`Crl::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crl {
    der: Vec<u8>,
    form: Form,
}

/// Why a CRL is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CrlError {
    /// Larger than [`limits::CRL_BYTES`].
    #[error("the list has {bytes} bytes, more than are read")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Not a CRL at all, or a broken one; says what is wrong.
    #[error("this is no certificate revocation list: {0}")]
    Malformed(&'static str),
    /// It, or an entry of it, says something critical that is not understood.
    #[error("the list has a critical extension {oid} that is not understood")]
    CriticalExtension {
        /// Which, in numbers and dots.
        oid: String,
    },
    /// Only the changes since another list.
    #[error("the list is a delta; a whole list is needed")]
    Delta,
    /// It speaks for certificates of other issuers.
    #[error("the list is indirect: it speaks for other issuers")]
    Indirect,
    /// It is limited to a part of the issuer's certificates.
    #[error("the list covers {0} only; one for all certificates of the issuer is needed")]
    Scope(CrlScope),
    /// Without a date for the next one nobody can tell when it is stale.
    #[error("the list of {issuer} does not say when the next one is due")]
    NoNextUpdate {
        /// Whose it says it is.
        issuer: String,
    },
    /// The authority's certificate cannot be read.
    #[error("the certificate of the authority cannot be read")]
    Authority,
    /// It says that it is another issuer's.
    #[error("the list is of {issuer}, not of {authority}")]
    Foreign {
        /// Whose it says it is.
        issuer: String,
        /// By whom it was checked.
        authority: String,
    },
    /// The authority's certificate does not allow it to sign lists.
    #[error("{authority} may not sign revocation lists")]
    NotASigner {
        /// The authority.
        authority: String,
    },
    /// Signed in a way that does not count, such as with SHA-1, or by too small a key.
    #[error("the list of {issuer} is too weak: {detail}")]
    Weak {
        /// Whose it is.
        issuer: String,
        /// What is weak.
        detail: String,
    },
    /// Not signed by this authority's key.
    #[error("the list was not signed by the key of {authority}")]
    Signature {
        /// By whom it was checked.
        authority: String,
    },
    /// From the future.
    #[error("the list of {issuer} is valid from {from}")]
    NotYetValid {
        /// Whose it is.
        issuer: String,
        /// From when.
        from: Timestamp,
    },
    /// The next one is overdue.
    #[error("the list of {issuer} has been stale since {since}")]
    Expired {
        /// Whose it is.
        issuer: String,
        /// When the next one was due.
        since: Timestamp,
    },
    /// Older than the one in force.
    #[error("the list of {issuer} is older than the one in force: {offered}, not after {have}")]
    RolledBack {
        /// Whose it is.
        issuer: String,
        /// Number and date of the one in force.
        have: String,
        /// Number and date of this one.
        offered: String,
    },
    /// Another content under the number (or, without numbers, the date) of the one in force.
    #[error("the list of {issuer} has the number of the one in force, {number}, and says something else")]
    SameNumber {
        /// Whose it is.
        issuer: String,
        /// The number, in hex.
        number: String,
    },
}

impl Crl {
    /// Reads DER or PEM (one list). Bounds: [`limits::CRL_BYTES`].
    pub fn parse(bytes: &[u8]) -> Result<Self, CrlError> {
        let der = to_der(bytes)?;
        let form = match Signed::read(&der) {
            Some(signed) => Form::read(&signed).map_err(|error| match error {
                CrlError::Malformed(_) if Certificate::read(&der).is_ok() => {
                    CrlError::Malformed("it is a certificate")
                }
                error => error,
            })?,
            None => return Err(CrlError::Malformed(guess(&der))),
        };
        Ok(Self { der, form })
    }

    /// The URLs of distribution points (`http:` and `https:` only) in a certificate, DER. At most
    /// [`limits::DISTRIBUTION_POINTS`]; none of a certificate that cannot be read. They are of
    /// whoever issued it: only those of certificates that are trusted are ever asked for.
    pub fn distribution_points(certificate: &[u8]) -> Vec<String> {
        distribution_point::urls(certificate)
    }

    /// The name of the issuer, as the list says.
    pub fn issuer_name(&self) -> String {
        self.form.issuer_name()
    }

    /// Whether the list says that it is of an authority of this name (certificate, DER). Among
    /// several of one name only one has the key.
    pub fn is_named_after(&self, authority: &[u8]) -> bool {
        Certificate::read(authority).is_ok_and(|authority| authority.subject() == self.form.issuer)
    }

    /// Serials on it.
    pub fn entries(&self) -> usize {
        self.form.revoked.len()
    }

    /// Whether this authority (certificate, DER) signed it, and whether it may be used at `now`; it
    /// must not be older than `last`, the list that is in force.
    pub fn verify(
        &self,
        issuer: &[u8],
        last: Option<&Revocations>,
        now: Timestamp,
    ) -> Result<Revocations, CrlError> {
        let authority = Certificate::read(issuer).map_err(|_| CrlError::Authority)?;
        self.check_signature(&authority)?;
        let next_update = self.check_dates(now)?;
        let form = &self.form;
        let read = Revocations {
            issuer: authority.issuer_id(),
            issuer_name: authority.name(),
            number: form.number.clone(),
            this_update: form.this_update,
            next_update,
            points: form.points.clone(),
            revoked: form.revoked.clone(),
        };
        match last {
            Some(last) if last.issuer == read.issuer => check_order(last, &read)?,
            _ => {}
        }
        Ok(read)
    }

    fn check_signature(&self, authority: &Certificate) -> Result<(), CrlError> {
        if authority.subject() != self.form.issuer {
            return Err(CrlError::Foreign { issuer: self.issuer_name(), authority: authority.name() });
        }
        if !authority.may_sign_lists() {
            return Err(CrlError::NotASigner { authority: authority.name() });
        }
        let signature = || CrlError::Signature { authority: authority.name() };
        let signed = Signed::read(&self.der).ok_or_else(signature)?;
        let key = PublicKey::read(authority.key()).ok_or_else(signature)?;
        if let Some(detail) = signature_weakness(signed.algorithm).or_else(|| key.weakness()) {
            return Err(CrlError::Weak { issuer: self.issuer_name(), detail });
        }
        key.verify_named(signed.algorithm, signed.message, signed.signature).map_err(|_| signature())
    }

    /// The date until which it counts.
    fn check_dates(&self, now: Timestamp) -> Result<Timestamp, CrlError> {
        let issuer = || self.issuer_name();
        let this_update = self.form.this_update;
        let Some(next_update) = self.form.next_update else {
            return Err(CrlError::NoNextUpdate { issuer: issuer() });
        };
        if next_update < this_update {
            return Err(CrlError::Malformed("the next one is due before this one was made"));
        }
        if this_update > now.plus(CLOCK_SKEW) {
            return Err(CrlError::NotYetValid { issuer: issuer(), from: this_update });
        }
        if next_update < now {
            return Err(CrlError::Expired { issuer: issuer(), since: next_update });
        }
        Ok(next_update)
    }
}

/// A list of an issuer may follow another of its own, or be the same one again.
fn check_order(last: &Revocations, new: &Revocations) -> Result<(), CrlError> {
    let issuer = || new.issuer_name.clone();
    let told = |list: &Revocations| format!("{} of {}", list.number_text(), list.this_update);
    let rolled_back = || CrlError::RolledBack { issuer: issuer(), have: told(last), offered: told(new) };
    // Hex without leading zeros: the longer number is the higher one. "No number" comes before all.
    let numbers = (new.number.len(), &new.number).cmp(&(last.number.len(), &last.number));
    let order = match numbers {
        // Lists without numbers follow each other by date alone.
        Ordering::Equal if new.number.is_empty() => new.this_update.cmp(&last.this_update),
        order => order,
    };
    match order {
        Ordering::Less => Err(rolled_back()),
        Ordering::Equal if new == last => Ok(()),
        Ordering::Equal => {
            Err(CrlError::SameNumber { issuer: issuer(), number: new.number_text().to_owned() })
        }
        Ordering::Greater if new.this_update < last.this_update => Err(rolled_back()),
        Ordering::Greater => Ok(()),
    }
}

fn to_der(bytes: &[u8]) -> Result<Vec<u8>, CrlError> {
    let too_large = CrlError::TooLarge { bytes: bytes.len() };
    if !bytes.trim_ascii_start().starts_with(b"-----BEGIN") {
        return if bytes.len() > limits::CRL_BYTES { Err(too_large) } else { Ok(bytes.to_vec()) };
    }
    // Base64 in lines takes four characters and a bit for three bytes.
    if bytes.len() > limits::CRL_BYTES / 2 * 3 {
        return Err(too_large);
    }
    let mut lists = CertificateRevocationListDer::pem_slice_iter(bytes);
    let first = lists.next().ok_or(CrlError::Malformed("there is none in this PEM file"))?;
    let der = first.map_err(|_| CrlError::Malformed("it is broken PEM"))?;
    if lists.next().is_some() {
        return Err(CrlError::Malformed("there is more than one in this PEM file"));
    }
    if der.len() > limits::CRL_BYTES { Err(too_large) } else { Ok(der.to_vec()) }
}

/// What somebody gave us in the place of a list.
fn guess(bytes: &[u8]) -> &'static str {
    let start = bytes.trim_ascii_start();
    match start {
        [] => return "it is empty",
        [b'<', ..] => return "it is a web page or other markup",
        [b'{' | b'[', ..] => return "it is JSON",
        [0x30, ..] => {}
        _ => return "it is something else altogether",
    }
    match outer_length(bytes) {
        Some(length) if length > bytes.len() => "its end is missing",
        Some(length) if length < bytes.len() => "something follows after its end",
        _ => "its form is not that of a list",
    }
}

/// Bytes that the outermost element says it has, its header included.
fn outer_length(bytes: &[u8]) -> Option<usize> {
    let (first, rest) = bytes.get(1..)?.split_first()?;
    let digits = match first {
        0..=0x7F => return Some(2 + usize::from(*first)),
        0x81..=0x84 => rest.get(..usize::from(first - 0x80))?,
        _ => return None,
    };
    let length = digits.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    Some(2 + digits.len() + length)
}
