//! The site's keys: what each is for, how it rests, and the certificates that name it.

mod certificate;
mod held;
mod key_file;
mod ring;

pub(crate) use certificate::{Authority, Profile, issue, issue_crl, issue_root};
pub use certificate::{CertificateError, IssuedCertificate, ServerNames};
pub use held::{KeyLoadError, SignError};
pub(crate) use held::{KeyRecord, NewKey, SiteKeys, verifying_certificates};
pub(crate) use key_file::write_private;
pub use key_file::{KeyFile, KeyFileError, SealError};
pub use ring::{KeyState, RingEntry, RingError};
pub(crate) use ring::{Ring, SigningKey};

/// What a key of the site is for. The purpose is sealed into its record, so that a row moved to
/// another purpose does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyPurpose {
    /// "SMS Issuing", the trusted root key: signs intermediates and token signing certificates.
    Root,
    /// Intermediate for the links between site, gateways and connection points.
    LinkAuthority,
    /// Intermediate for roles: their TLS certificates, site signing, message signing.
    RoleAuthority,
    /// A key of the ring that signs tokens and nothing else.
    TokenSigning,
    /// Signs snapshots and policy: what `SITESIGNCERT` returns.
    SiteSigning,
    /// Signs the answers of management points.
    Message,
}

impl KeyPurpose {
    /// Every purpose.
    pub const ALL: [Self; 6] = [
        Self::Root,
        Self::LinkAuthority,
        Self::RoleAuthority,
        Self::TokenSigning,
        Self::SiteSigning,
        Self::Message,
    ];

    /// The word in the database, in audit records and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::LinkAuthority => "link-authority",
            Self::RoleAuthority => "role-authority",
            Self::TokenSigning => "token-signing",
            Self::SiteSigning => "site-signing",
            Self::Message => "message",
        }
    }

    /// Reads the word back.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.as_str() == word)
    }
}
