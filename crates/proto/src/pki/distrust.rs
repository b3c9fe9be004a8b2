//! Why a certificate is not trusted: the true cause, for the operator and (its key being proved) for
//! the device.

use crate::reason::Reason;
use crate::time::Timestamp;

/// The true cause. Names are subjects in RFC 4514 form, at most 200 characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// Nothing was shown.
    #[error("no certificate was shown")]
    Missing,
    /// Not a certificate that can be read.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// The chain leads to nobody that the site trusts.
    #[error("{subject} was issued by {issuer}, which leads to no authority that the site trusts")]
    UnknownIssuer {
        /// The certificate at which the path ends.
        subject: String,
        /// Whose issuer is missing.
        issuer: String,
    },
    /// Past its end.
    #[error("{subject} expired at {since}")]
    Expired {
        /// Which certificate of the chain.
        subject: String,
        /// Since when.
        since: Timestamp,
    },
    /// Before its beginning.
    #[error("{subject} is valid from {from}")]
    NotYetValid {
        /// Which certificate of the chain.
        subject: String,
        /// From when.
        from: Timestamp,
    },
    /// Taken back by its issuer.
    #[error("{subject} (serial {serial}) was revoked at {at}, by the list {number} of {issuer}")]
    Revoked {
        /// Which certificate of the chain.
        subject: String,
        /// Its serial in hex.
        serial: String,
        /// When.
        at: Timestamp,
        /// Whose list says so.
        issuer: String,
        /// The list's number in hex.
        number: String,
    },
    /// There is no list of this issuer, so nothing is known of revocation.
    #[error("there is no revocation list of {issuer}")]
    NoCrl {
        /// The issuer.
        issuer: String,
    },
    /// The list is too old.
    #[error("the revocation list of {issuer} has been stale since {since}")]
    StaleCrl {
        /// The issuer.
        issuer: String,
        /// When the next list was due.
        since: Timestamp,
    },
    /// Not made for this: no client (or server) authentication among its usages, or an authority's.
    #[error("{subject} may not be used for this: {detail}")]
    WrongUsage {
        /// The certificate.
        subject: String,
        /// What is wrong about its usage.
        detail: String,
    },
    /// Too weak a key or signature.
    #[error("{subject} is too weak: {detail}")]
    Weak {
        /// The certificate.
        subject: String,
        /// Such as "RSA with 1024 bits", "signed with SHA-1".
        detail: String,
    },
    /// Anything else that RFC 5280 forbids.
    #[error("the chain of {subject} is not valid: {detail}")]
    Invalid {
        /// The leaf.
        subject: String,
        /// What is wrong.
        detail: String,
    },
}

impl Distrust {
    /// The code at the gateway's door.
    pub const fn gateway_reason(&self) -> Reason {
        match self {
            Self::Missing => Reason::NoClientCertificate,
            Self::UnknownIssuer { .. } => Reason::CertificateUnknownIssuer,
            Self::Expired { .. } => Reason::CertificateExpired,
            Self::NotYetValid { .. } => Reason::CertificateNotYetValid,
            Self::Revoked { .. } => Reason::CertificateRevoked,
            Self::NoCrl { .. } | Self::StaleCrl { .. } => Reason::RevocationUnknown,
            Self::WrongUsage { .. } => Reason::CertificateUsage,
            Self::Weak { .. } => Reason::CertificateWeak,
            Self::Unreadable | Self::Invalid { .. } => Reason::CertificateInvalid,
        }
    }

    /// The code at a management point.
    pub const fn management_point_reason(&self) -> Reason {
        match self {
            Self::Missing => Reason::InsideCertificateRequired,
            Self::UnknownIssuer { .. } => Reason::InsideCertificateUnknownIssuer,
            Self::Expired { .. } => Reason::InsideCertificateExpired,
            Self::NotYetValid { .. } => Reason::InsideCertificateNotYetValid,
            Self::Revoked { .. } => Reason::InsideCertificateRevoked,
            Self::NoCrl { .. } | Self::StaleCrl { .. } => Reason::InsideRevocationUnknown,
            Self::WrongUsage { .. } => Reason::InsideCertificateUsage,
            Self::Weak { .. } => Reason::InsideCertificateWeak,
            Self::Unreadable | Self::Invalid { .. } => Reason::InsideCertificateInvalid,
        }
    }
}
