//! The site's keys as a running site holds them: opened and parsed once.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use proto::id::Guid;
use proto::time::Timestamp;
use proto::token;
use proto::trust::Purpose;
use zeroize::Zeroizing;

use super::{
    Authority, CertificateError, IssuedCertificate, KeyFile, KeyPurpose, KeyState, Profile, Ring, RingEntry,
    RingError, SealError, ServerNames, SigningKey, issue, issue_crl, issue_root,
};

/// One row of the key table: certificate in the clear, private key sealed.
#[derive(Debug, Clone)]
pub(crate) struct KeyRecord {
    pub(crate) id: Guid,
    pub(crate) purpose: KeyPurpose,
    pub(crate) state: KeyState,
    pub(crate) certificate: Vec<u8>,
    pub(crate) sealed: Vec<u8>,
    pub(crate) created_at: Timestamp,
    pub(crate) changed_at: Timestamp,
    pub(crate) last_expiry: Timestamp,
}

/// A key and certificate just made, on their way to becoming a [`KeyRecord`].
pub(crate) struct NewKey {
    id: Guid,
    purpose: KeyPurpose,
    state: KeyState,
    issued: IssuedCertificate,
}

impl NewKey {
    /// Makes all keys of a new site: authorities, signing keys, and a ring of two.
    pub(crate) fn make_all(now: Timestamp) -> Result<Vec<Self>, CertificateError> {
        let none = ServerNames::default();
        let root = issue_root(now)?;
        let by_root = Authority { chain: &[], certificate: &root.chain[0], key: &root.key };
        let link = issue(Profile::Intermediate("SMS Link Issuing"), &none, &by_root, now)?;
        let role = issue(Profile::Intermediate("SMS Role Issuing"), &none, &by_root, now)?;
        let by_role = Authority { chain: &role.chain, certificate: &role.chain[0], key: &role.key };
        let signing = issue(Profile::Leaf(Purpose::SiteSigning), &none, &by_role, now)?;
        let message = issue(Profile::Leaf(Purpose::Message), &none, &by_role, now)?;
        let current = issue(Profile::TokenSigning, &none, &by_root, now)?;
        let next = issue(Profile::TokenSigning, &none, &by_root, now)?;
        let key = |purpose, state, issued| Self { id: crate::random_guid(), purpose, state, issued };
        Ok(vec![
            key(KeyPurpose::Root, KeyState::Current, root),
            key(KeyPurpose::LinkAuthority, KeyState::Current, link),
            key(KeyPurpose::RoleAuthority, KeyState::Current, role),
            key(KeyPurpose::SiteSigning, KeyState::Current, signing),
            key(KeyPurpose::Message, KeyState::Current, message),
            key(KeyPurpose::TokenSigning, KeyState::Current, current),
            key(KeyPurpose::TokenSigning, KeyState::Next, next),
        ])
    }

    /// Makes the next key of the ring.
    pub(crate) fn make_next(root: &Authority<'_>, now: Timestamp) -> Result<Self, CertificateError> {
        let issued = issue(Profile::TokenSigning, &ServerNames::default(), root, now)?;
        Ok(Self {
            id: crate::random_guid(),
            purpose: KeyPurpose::TokenSigning,
            state: KeyState::Next,
            issued,
        })
    }

    /// The row, its private key sealed to it.
    pub(crate) fn seal(&self, file: &KeyFile, now: Timestamp) -> Result<KeyRecord, SealError> {
        Ok(KeyRecord {
            id: self.id,
            purpose: self.purpose,
            state: self.state,
            certificate: self.issued.chain.first().cloned().unwrap_or_default(),
            sealed: file.seal(self.id.as_bytes(), self.purpose.as_str(), &self.issued.key)?,
            created_at: now,
            changed_at: now,
            last_expiry: Timestamp::default(),
        })
    }
}

/// The key table is not what a site needs.
#[derive(Debug, thiserror::Error)]
pub enum KeyLoadError {
    /// A row does not open.
    #[error("{purpose} key does not open")]
    Seal {
        /// What the key is for.
        purpose: &'static str,
        /// Why.
        #[source]
        source: SealError,
    },
    /// A private key does not parse.
    #[error("{purpose} key is not usable")]
    Key {
        /// What the key is for.
        purpose: &'static str,
    },
    /// A row is missing.
    #[error("the site has no {purpose} key")]
    Missing {
        /// What the key is for.
        purpose: &'static str,
    },
    /// The ring cannot sign.
    #[error("the key ring is not usable")]
    Ring(#[from] RingError),
}

/// The library refused to sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("signature not made")]
pub struct SignError;

struct AuthorityKey {
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
}

/// The opened keys of a running site.
pub(crate) struct SiteKeys {
    root: AuthorityKey,
    link: AuthorityKey,
    role: AuthorityKey,
    site_signing: (Vec<u8>, RsaKeyPair),
    message: (Vec<u8>, EcdsaKeyPair),
    pub(crate) ring: Ring,
    pub(crate) current: SigningKey,
}

impl std::fmt::Debug for SiteKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SiteKeys({} in the ring)", self.ring.entries.len())
    }
}

impl SiteKeys {
    /// Opens every row that a running site needs.
    pub(crate) fn open(records: &[KeyRecord], file: &KeyFile) -> Result<Self, KeyLoadError> {
        let find = |purpose: KeyPurpose| {
            let current =
                |record: &&KeyRecord| record.purpose == purpose && record.state == KeyState::Current;
            let record =
                records.iter().find(current).ok_or(KeyLoadError::Missing { purpose: purpose.as_str() })?;
            let key = file
                .open(record.id.as_bytes(), purpose.as_str(), &record.sealed)
                .map_err(|source| KeyLoadError::Seal { purpose: purpose.as_str(), source })?;
            Ok::<_, KeyLoadError>((record, key))
        };
        let authority = |purpose| {
            find(purpose).map(|(record, key)| AuthorityKey { certificate: record.certificate.clone(), key })
        };
        let unusable = |purpose: KeyPurpose| KeyLoadError::Key { purpose: purpose.as_str() };

        let (site_record, site_key) = find(KeyPurpose::SiteSigning)?;
        let (message_record, message_key) = find(KeyPurpose::Message)?;
        let (current_record, current_key) = find(KeyPurpose::TokenSigning)?;
        let site_pair = RsaKeyPair::from_pkcs8(&site_key).map_err(|_| unusable(KeyPurpose::SiteSigning))?;
        let message_pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &message_key)
            .map_err(|_| unusable(KeyPurpose::Message))?;
        Ok(Self {
            root: authority(KeyPurpose::Root)?,
            link: authority(KeyPurpose::LinkAuthority)?,
            role: authority(KeyPurpose::RoleAuthority)?,
            site_signing: (site_record.certificate.clone(), site_pair),
            message: (message_record.certificate.clone(), message_pair),
            ring: ring(records),
            current: SigningKey::new(current_record.id, &current_record.certificate, &current_key)?,
        })
    }

    /// The trusted root key: the certificate that devices pin.
    pub(crate) fn root_certificate(&self) -> &[u8] {
        &self.root.certificate
    }

    pub(crate) fn root_authority(&self) -> Authority<'_> {
        Authority { chain: &[], certificate: &self.root.certificate, key: &self.root.key }
    }

    /// The site's own authorities: never to be trusted for anything else (R8).
    pub(crate) fn authority_certificates(&self) -> [Vec<u8>; 3] {
        [&self.root, &self.link, &self.role].map(|authority| authority.certificate.clone())
    }

    /// The revocation list of link certificates.
    pub(crate) fn link_crl(
        &self,
        revoked: &[(Vec<u8>, Timestamp)],
        now: Timestamp,
    ) -> Result<Vec<u8>, CertificateError> {
        let chain = [self.link.certificate.clone()];
        let issuer = Authority { chain: &chain, certificate: &self.link.certificate, key: &self.link.key };
        issue_crl(&issuer, revoked, now)
    }

    /// Site signing certificate first, then its intermediate.
    pub(crate) fn site_signing_chain(&self) -> Vec<Vec<u8>> {
        vec![self.site_signing.0.clone(), self.role.certificate.clone()]
    }

    /// Message certificate first, then its intermediate.
    pub(crate) fn message_chain(&self) -> Vec<Vec<u8>> {
        vec![self.message.0.clone(), self.role.certificate.clone()]
    }

    /// RSASSA-PKCS1-v1_5 with SHA-256 by the site signing key, big-endian.
    pub(crate) fn sign_for_site(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let pair = &self.site_signing.1;
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).map_err(|_| SignError)?;
        Ok(signature)
    }

    /// ES256 (`r` and `s`, 64 bytes) by the message key.
    pub(crate) fn sign_answer(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let signature = self.message.1.sign(&SystemRandom::new(), message).map_err(|_| SignError)?;
        Ok(signature.as_ref().to_vec())
    }

    /// A certificate below the intermediate that its purpose belongs to.
    pub(crate) fn issue_leaf(
        &self,
        purpose: Purpose,
        names: &ServerNames,
        now: Timestamp,
    ) -> Result<IssuedCertificate, CertificateError> {
        let issuer = match purpose {
            Purpose::LinkGateway | Purpose::LinkConnector | Purpose::LinkSite => &self.link,
            Purpose::SiteSigning | Purpose::Message | Purpose::RoleTls => &self.role,
        };
        let chain = [issuer.certificate.clone()];
        let authority = Authority { chain: &chain, certificate: &issuer.certificate, key: &issuer.key };
        issue(Profile::Leaf(purpose), names, &authority, now)
    }
}

fn ring(records: &[KeyRecord]) -> Ring {
    let of_ring = records.iter().filter(|record| record.purpose == KeyPurpose::TokenSigning);
    Ring { entries: of_ring.map(ring_entry).collect() }
}

/// Certificates of the token keys that verify at this moment, by what the rows say.
pub(crate) fn verifying_certificates(records: &[KeyRecord], now: Timestamp) -> Vec<Vec<u8>> {
    ring(records).verifying(now)
}

fn ring_entry(record: &KeyRecord) -> RingEntry {
    RingEntry {
        id: record.id,
        x5t: token::x5t(&record.certificate),
        certificate: record.certificate.clone(),
        state: record.state,
        created_at: record.created_at,
        changed_at: record.changed_at,
        last_expiry: record.last_expiry,
    }
}
