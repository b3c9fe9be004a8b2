//! Proof of a PKI certificate by a device whose registered key is another: the certificate's chain
//! and a signature by its key over the device's own key, in headers of a registration or a
//! confirmation ([ours]).
//!
//! The registered key stays the device's identity for life; a certificate is a credential that it
//! gains, renews and loses. So a device changes its method without a new record, and a gateway,
//! which has seen the certificate's key in the handshake, need not be believed (R39).
//!
//! ```text
//! roamgate-client-certificate: <base64 DER of the leaf>,<of its issuer>,…
//! roamgate-client-certificate-proof: <created, seconds>.<base64 signature>
//! ```
//!
//! Here possession is proved, nothing else: whether the certificate is trusted is the business of
//! [`crate::pki::TrustStore::judge`]. The proof ties the certificate's key to a device key and a
//! message; that the device's own key signed that message is for the caller to see to.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::SignatureVerificationAlgorithm;
use webpki::aws_lc_rs::{ECDSA_P256_SHA256, ECDSA_P384_SHA384, RSA_PSS_2048_8192_SHA256_LEGACY_KEY};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::http_signature::Header;
use crate::id::{Guid, Thumbprint};
use crate::limits;
use crate::pki::{KeyKind, PublicKey};
use crate::time::Timestamp;
use crate::trust::BadSignature;

/// The chain (leaf first, base64 DER, separated by commas).
pub const CHAIN: &str = "roamgate-client-certificate";
/// `<created, seconds>.<base64 signature>`.
pub const PROOF: &str = "roamgate-client-certificate-proof";
/// Both headers: what a gateway and a connection point must let through.
pub const HEADERS: &[&str] = &[CHAIN, PROOF];

/// How far from now, before or after, a proof may have been made.
pub const WINDOW: Duration = Duration::from_mins(5);

/// First line of what is signed, so that a signature made for anything else is none for this.
const LABEL: &str = "roamgate-client-certificate-proof/1";

/// What is signed. The signature is that of TLS 1.3 for the certificate's key: RSASSA-PSS with
/// SHA-256, or ECDSA with the curve's own hash.
#[derive(Debug, Clone, Copy)]
pub struct ProofOf {
    /// The hierarchy, so that a proof for one site says nothing at another.
    pub hierarchy: Guid,
    /// SHA-256 of the device's registered (or to be registered) signing certificate.
    pub device_key: Thumbprint,
    /// The id of the message that carries it: taken once.
    pub message_id: Guid,
    /// When it was made; counts for five minutes.
    pub created: Timestamp,
}

/// How a certificate's key signs: one way for each kind of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// RSASSA-PSS, SHA-256, MGF1 with SHA-256, salt of 32 bytes; RSA of 2048 to 8192 bits.
    RsaPssSha256,
    /// ECDSA on P-256 with SHA-256, the signature in ASN.1.
    EcdsaP256Sha256,
    /// ECDSA on P-384 with SHA-384, the signature in ASN.1.
    EcdsaP384Sha384,
}

/// A proof could not be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofWriteError<E: std::error::Error + 'static> {
    /// The certificate cannot be read, or its key is of no kind that signs here.
    #[error("the certificate has no key that can prove it")]
    Key,
    /// The leaf alone is longer than the header may be.
    #[error("the certificate is too long for a header")]
    TooLong,
    /// The key did not sign.
    #[error("the key of the certificate did not sign")]
    Sign(#[source] E),
}

/// Why a proof does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Neither header is there: nothing was claimed.
    #[error("no client certificate was named")]
    Missing,
    /// A header is missing, too long or malformed.
    #[error("the header {0} is missing or malformed")]
    Header(&'static str),
    /// The leaf cannot be read, or its key is of no kind that signs here.
    #[error("the certificate has no key that can prove it")]
    Key,
    /// Made too long ago, or by a clock that is ahead.
    #[error("the proof was made at {created}, more than five minutes from now")]
    Time {
        /// When it says it was made.
        created: Timestamp,
    },
    /// Not by the key of the leaf, or for another device, message, certificate or site.
    #[error("the proof is not by the key of the certificate, or for something else")]
    Signature,
}

impl ProofOf {
    /// The text that is signed: the label, then one `name: value` in each line, ended by a line feed.
    /// `certificate` is the leaf (DER), whose own digest stands in it too: a key may have several.
    pub fn bytes(&self, certificate: &[u8]) -> Vec<u8> {
        let Self { hierarchy, device_key, message_id, created } = self;
        let certificate = Thumbprint::of(certificate);
        let created = created.seconds();
        format!(
            "{LABEL}\nhierarchy: {hierarchy}\ndevice-key: {device_key}\nmessage: {message_id}\n\
             created: {created}\ncertificate: {certificate}\n"
        )
        .into_bytes()
    }

    /// The headers that prove the first certificate of `chain` (leaf first, DER). `sign` signs
    /// [`ProofOf::bytes`] with its key in the scheme it is told. Intermediates for which the header
    /// has no room are left out: whoever judges has those of the trust list.
    pub fn headers<E: std::error::Error + 'static>(
        &self,
        chain: &[Vec<u8>],
        sign: impl FnOnce(Scheme, &[u8]) -> Result<Vec<u8>, E>,
    ) -> Result<Vec<Header>, ProofWriteError<E>> {
        let leaf = chain.first().ok_or(ProofWriteError::Key)?;
        let scheme = Scheme::of(leaf).ok_or(ProofWriteError::Key)?;
        let mut value = STANDARD.encode(leaf);
        if value.len() > limits::CERTIFICATE_HEADER_BYTES {
            return Err(ProofWriteError::TooLong);
        }
        for other in chain.iter().take(limits::PATH_CERTIFICATES).skip(1) {
            let other = STANDARD.encode(other);
            if value.len() + 1 + other.len() > limits::CERTIFICATE_HEADER_BYTES {
                break;
            }
            value.push(',');
            value.push_str(&other);
        }
        let signature = sign(scheme, &self.bytes(leaf)).map_err(ProofWriteError::Sign)?;
        let proof = format!("{}.{}", self.created.seconds(), STANDARD.encode(signature));
        Ok(vec![(CHAIN, value), (PROOF, proof)])
    }
}

impl Scheme {
    /// How the key of this certificate (DER) signs; `None` when it cannot be read, is weaker than
    /// RSA-2048 or P-256, or of another kind.
    pub fn of(certificate: &[u8]) -> Option<Self> {
        let (rest, certificate) = X509Certificate::from_der(certificate).ok()?;
        let key = PublicKey::read(certificate.public_key().raw)?;
        if !rest.is_empty() || key.weakness().is_some() {
            return None;
        }
        match key.kind() {
            KeyKind::Rsa(_) => Some(Self::RsaPssSha256),
            KeyKind::P256 => Some(Self::EcdsaP256Sha256),
            KeyKind::P384 => Some(Self::EcdsaP384Sha384),
            KeyKind::P521 | KeyKind::Ed25519 | KeyKind::OtherCurve | KeyKind::Other => None,
        }
    }

    /// Verifies a signature by the key of this certificate (DER).
    pub fn verify(self, certificate: &[u8], message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        if Self::of(certificate) != Some(self) {
            return Err(BadSignature);
        }
        let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| BadSignature)?;
        let key = PublicKey::read(certificate.public_key().raw).ok_or(BadSignature)?;
        key.verify(self.algorithm(), message, signature).map_err(|_| BadSignature)
    }

    fn algorithm(self) -> &'static dyn SignatureVerificationAlgorithm {
        match self {
            Self::RsaPssSha256 => RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
            Self::EcdsaP256Sha256 => ECDSA_P256_SHA256,
            Self::EcdsaP384Sha384 => ECDSA_P384_SHA384,
        }
    }
}

/// The chain that was proved, leaf first: somebody has the key of its first certificate and used it
/// for this device key, in this message, at this site, within [`WINDOW`] of `now`. Whether the chain
/// is trusted, and the message id new, is for the caller to judge.
pub fn verify<'a>(
    header: impl Fn(&str) -> Option<&'a str>,
    hierarchy: Guid,
    device_key: Thumbprint,
    message_id: Guid,
    now: Timestamp,
) -> Result<Vec<Vec<u8>>, ProofError> {
    let (chain, proof) = match (header(CHAIN), header(PROOF)) {
        (None, None) => return Err(ProofError::Missing),
        (None, Some(_)) => return Err(ProofError::Header(CHAIN)),
        (Some(_), None) => return Err(ProofError::Header(PROOF)),
        (Some(chain), Some(proof)) => (read_chain(chain)?, proof),
    };
    let (created, signature) = read_proof(proof).ok_or(ProofError::Header(PROOF))?;
    if now.distance(created) > WINDOW {
        return Err(ProofError::Time { created });
    }
    let leaf = chain.first().ok_or(ProofError::Header(CHAIN))?;
    let scheme = Scheme::of(leaf).ok_or(ProofError::Key)?;
    let message = ProofOf { hierarchy, device_key, message_id, created }.bytes(leaf);
    scheme.verify(leaf, &message, &signature).map_err(|_| ProofError::Signature)?;
    Ok(chain)
}

fn read_chain(value: &str) -> Result<Vec<Vec<u8>>, ProofError> {
    let malformed = || ProofError::Header(CHAIN);
    if value.len() > limits::CERTIFICATE_HEADER_BYTES {
        return Err(malformed());
    }
    let chain: Result<Vec<_>, _> = value
        .split(',')
        .take(limits::PATH_CERTIFICATES + 1)
        .map(|part| STANDARD.decode(part.trim()))
        .collect();
    let chain = chain.map_err(|_| malformed())?;
    if chain.len() > limits::PATH_CERTIFICATES { Err(malformed()) } else { Ok(chain) }
}

fn read_proof(value: &str) -> Option<(Timestamp, Vec<u8>)> {
    if value.len() > limits::OWN_HEADER_BYTES {
        return None;
    }
    let (created, signature) = value.split_once('.')?;
    // One spelling: what was signed is written from the number.
    if created.len() > 12 || !created.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some((Timestamp::from_seconds(created.parse().ok()?), STANDARD.decode(signature).ok()?))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
    use aws_lc_rs::error::Unspecified;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::{KeyPair, KeySize};
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, RSA_PSS_SHA256,
    };
    use rcgen::{CertificateParams, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

    use super::*;

    enum Key {
        Rsa(KeyPair),
        Ecdsa(EcdsaKeyPair),
    }

    impl Key {
        fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, Unspecified> {
            let random = SystemRandom::new();
            match self {
                Self::Rsa(pair) => {
                    let mut signature = vec![0; pair.public_modulus_len()];
                    pair.sign(&RSA_PSS_SHA256, &random, bytes, &mut signature)?;
                    Ok(signature)
                }
                Self::Ecdsa(pair) => Ok(pair.sign(&random, bytes)?.as_ref().to_vec()),
            }
        }
    }

    fn self_signed(key: &rcgen::KeyPair) -> Vec<u8> {
        CertificateParams::default().self_signed(key).unwrap().der().to_vec()
    }

    fn rsa() -> (Scheme, Key, Vec<u8>) {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let certificate = self_signed(&rcgen::KeyPair::try_from(der.as_ref()).unwrap());
        (Scheme::RsaPssSha256, Key::Rsa(pair), certificate)
    }

    fn p256() -> (Scheme, Key, Vec<u8>) {
        let key = rcgen::KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &key.serialize_der()).unwrap();
        (Scheme::EcdsaP256Sha256, Key::Ecdsa(pair), self_signed(&key))
    }

    fn p384() -> (Scheme, Key, Vec<u8>) {
        let key = rcgen::KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, &key.serialize_der()).unwrap();
        (Scheme::EcdsaP384Sha384, Key::Ecdsa(pair), self_signed(&key))
    }

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn proof() -> ProofOf {
        ProofOf {
            hierarchy: Guid::from_bytes([1; 16]),
            device_key: Thumbprint::of(b"device"),
            message_id: Guid::from_bytes([2; 16]),
            created: NOW,
        }
    }

    fn check(of: &ProofOf, headers: &[Header], now: Timestamp) -> Result<Vec<Vec<u8>>, ProofError> {
        let header = |name: &str| headers.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_str());
        verify(header, of.hierarchy, of.device_key, of.message_id, now)
    }

    fn proved(key: &Key, chain: &[Vec<u8>]) -> Vec<Header> {
        proof().headers(chain, |_, bytes| key.sign(bytes)).unwrap()
    }

    #[test]
    fn each_kind_of_key_proves_its_certificate_in_its_own_scheme() {
        for (scheme, key, leaf) in [rsa(), p256(), p384()] {
            let chain = [leaf.clone(), b"an issuer".to_vec()];
            let headers = proof()
                .headers(&chain, |told, bytes| {
                    assert_eq!(told, scheme);
                    key.sign(bytes)
                })
                .unwrap();
            assert_eq!(check(&proof(), &headers, NOW), Ok(chain.to_vec()), "{scheme:?}");
            assert_eq!(Scheme::of(&leaf), Some(scheme));
        }
        let ed25519 = self_signed(&rcgen::KeyPair::generate_for(&PKCS_ED25519).unwrap());
        assert_eq!(Scheme::of(&ed25519), None);
        assert_eq!(Scheme::of(b"no certificate"), None);
    }

    #[test]
    fn a_proof_counts_for_one_site_device_message_and_certificate() {
        let (_, key, leaf) = p256();
        let headers = proved(&key, std::slice::from_ref(&leaf));
        for other in [
            ProofOf { hierarchy: Guid::nil(), ..proof() },
            ProofOf { device_key: Thumbprint::of(b"another"), ..proof() },
            ProofOf { message_id: Guid::nil(), ..proof() },
        ] {
            assert_eq!(check(&other, &headers, NOW), Err(ProofError::Signature), "{other:?}");
        }
        // Another certificate of the same kind, in the place of the one that was proved.
        let (_, _, stranger) = p256();
        let mut swapped = headers.clone();
        swapped[0].1 = STANDARD.encode(&stranger);
        assert_eq!(check(&proof(), &swapped, NOW), Err(ProofError::Signature));
        let mut other_time = headers;
        other_time[1].1 = other_time[1].1.replacen("1800000000", "1800000001", 1);
        assert_eq!(check(&proof(), &other_time, NOW), Err(ProofError::Signature));
    }

    #[test]
    fn a_proof_counts_for_five_minutes_before_and_after() {
        let (_, key, leaf) = p256();
        let headers = proved(&key, &[leaf]);
        let second = Duration::from_secs(1);
        for (now, good) in [
            (NOW.plus(WINDOW), true),
            (NOW.minus(WINDOW), true),
            (NOW.plus(WINDOW + second), false),
            (NOW.minus(WINDOW + second), false),
        ] {
            assert_eq!(check(&proof(), &headers, now).is_ok(), good, "{now}");
        }
        assert_eq!(
            check(&proof(), &headers, NOW.plus(WINDOW + second)),
            Err(ProofError::Time { created: NOW })
        );
    }

    #[test]
    fn every_cut_or_changed_header_is_refused() {
        let (_, key, leaf) = p256();
        let headers = proved(&key, &[leaf]);
        assert_eq!(check(&proof(), &[], NOW), Err(ProofError::Missing));
        assert_eq!(check(&proof(), &headers[..1], NOW), Err(ProofError::Header(PROOF)));
        assert_eq!(check(&proof(), &headers[1..], NOW), Err(ProofError::Header(CHAIN)));
        for at in 0..2 {
            let whole = headers[at].1.clone();
            let mut changed = headers.clone();
            for end in 0..whole.len() {
                changed[at].1 = whole[..end].to_owned();
                assert!(check(&proof(), &changed, NOW).is_err(), "{} cut at {end}", changed[at].0);
                let mut bytes = whole.clone().into_bytes();
                bytes[end] = if bytes[end] == b'A' { b'B' } else { b'A' };
                changed[at].1 = String::from_utf8(bytes).unwrap();
                assert!(check(&proof(), &changed, NOW).is_err(), "{} changed at {end}", changed[at].0);
            }
        }
        let mut other = headers.clone();
        for wrong in ["+1800000000.AA==", "-1.AA==", "18e8.AA==", "9999999999999999999.AA==", "1800000000"] {
            other[1].1 = wrong.to_owned();
            assert_eq!(check(&proof(), &other, NOW), Err(ProofError::Header(PROOF)), "{wrong}");
        }
    }

    #[test]
    fn what_is_too_long_is_neither_written_nor_read() {
        let (_, key, leaf) = p256();
        let mut chain = vec![leaf.clone()];
        chain.extend(std::iter::repeat_n(vec![7; 3000], 9));
        let headers = proved(&key, &chain);
        assert!(headers[0].1.len() <= limits::CERTIFICATE_HEADER_BYTES);
        let read = check(&proof(), &headers, NOW).unwrap();
        assert_eq!(read.len(), 4, "three of the others fit");
        chain.iter_mut().skip(1).for_each(|other| other.truncate(10));
        let read = check(&proof(), &proved(&key, &chain), NOW).unwrap();
        assert_eq!(read.len(), limits::PATH_CERTIFICATES);

        let mut many = headers.clone();
        many[0].1 = [STANDARD.encode(&leaf), "AA==,".repeat(limits::PATH_CERTIFICATES)].join(",");
        assert_eq!(check(&proof(), &many, NOW), Err(ProofError::Header(CHAIN)));
        let mut long = headers;
        long[0].1 = "A".repeat(limits::CERTIFICATE_HEADER_BYTES + 4);
        assert_eq!(check(&proof(), &long, NOW), Err(ProofError::Header(CHAIN)));
        let unsigned = proof().headers(&[vec![0; 20_000]], |_, _| Ok::<_, Unspecified>(Vec::new()));
        assert_eq!(unsigned, Err(ProofWriteError::Key));
    }
}
