//! The device's own key and the certificate that carries it to the site.

use std::fmt;

use proto::id::Thumbprint;
use proto::message::signature::{RsaSigningKey, SigningKey as _};
use proto::time::Timestamp;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyUsagePurpose};
use runtime::tls::OwnCertificate;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

/// Years that a self-signed certificate is good for. What counts is the key that was
/// registered, so its end would only be a trap.
const CERTIFICATE_YEARS: i32 = 30;

/// Usage "encryption" of a client's certificate: `1.3.6.1.4.1.311.101.2` [observed].
const USAGE_ENCRYPTION: &[u64] = &[1, 3, 6, 1, 4, 1, 311, 101, 2];
/// Usage "signing" of a client's certificate: `1.3.6.1.4.1.311.101` [observed].
const USAGE_SIGNING: &[u64] = &[1, 3, 6, 1, 4, 1, 311, 101];

/// Why there is no usable key.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The library could not make a key.
    #[error("no RSA key could be made")]
    Generate,
    /// The certificate could not be made.
    #[error("no certificate could be made for the key")]
    Certificate(#[source] rcgen::Error),
    /// The private key is not RSA in PKCS#8.
    #[error("the device's private key cannot be used")]
    Key(#[source] proto::message::signature::KeyError),
    /// Key and certificate do not belong together, or TLS cannot use them.
    #[error("the device's key and certificate cannot be used for TLS")]
    Pair(#[source] runtime::tls::MaterialError),
}

/// A private key and its certificate, as bytes that a state folder or a pool of keys holds.
#[derive(Clone)]
pub struct KeyMaterial {
    /// The private key, PKCS#8 DER. Wiped from memory when dropped.
    pub pkcs8: Zeroizing<Vec<u8>>,
    /// The self-signed certificate, DER.
    pub certificate: Vec<u8>,
}

impl KeyMaterial {
    /// A fresh RSA key of 2048 bits with its certificate. Takes up to a second.
    pub fn generate(now: Timestamp) -> Result<Self, IdentityError> {
        use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
        use aws_lc_rs::rsa::{KeyPair, KeySize};
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| IdentityError::Generate)?;
        let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| IdentityError::Generate)?;
        Self::for_key(Zeroizing::new(der.as_ref().to_vec()), now)
    }

    /// The certificate for a key that exists already: subject and issuer `ConfigMgr Client`,
    /// both usages, signed with SHA-256 [observed].
    pub fn for_key(pkcs8: Zeroizing<Vec<u8>>, now: Timestamp) -> Result<Self, IdentityError> {
        let certificate = self_signed(&pkcs8, now).map_err(IdentityError::Certificate)?;
        Ok(Self { pkcs8, certificate })
    }
}

impl fmt::Debug for KeyMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyMaterial({})", Thumbprint::of(&self.certificate))
    }
}

fn self_signed(pkcs8: &[u8], now: Timestamp) -> Result<Vec<u8>, rcgen::Error> {
    let key = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(
        &PrivatePkcs8KeyDer::from(pkcs8),
        &rcgen::PKCS_RSA_SHA256,
    )?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "ConfigMgr Client");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::DataEncipherment];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::Other(USAGE_ENCRYPTION.to_vec()),
        ExtendedKeyUsagePurpose::Other(USAGE_SIGNING.to_vec()),
    ];
    // From the first of January of last year: no clock of a device is right to the minute.
    let year = year_of(now);
    params.not_before = rcgen::date_time_ymd(year - 1, 1, 1);
    params.not_after = rcgen::date_time_ymd(year + CERTIFICATE_YEARS, 1, 1);
    let certificate = params.self_signed(&key)?;
    Ok(certificate.der().to_vec())
}

fn year_of(now: Timestamp) -> i32 {
    let text = now.iso8601();
    text.get(..4).and_then(|year| year.parse().ok()).unwrap_or(1970)
}

/// The device's identity, ready for use.
pub struct Identity {
    material: KeyMaterial,
    key: RsaSigningKey,
    thumbprint: Thumbprint,
    tls: OwnCertificate,
}

impl Identity {
    /// Checks that key and certificate belong together and makes them ready.
    pub fn new(material: KeyMaterial) -> Result<Self, IdentityError> {
        let key = RsaSigningKey::from_pkcs8(&material.pkcs8).map_err(IdentityError::Key)?;
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(material.pkcs8.to_vec()));
        let chain = vec![CertificateDer::from(material.certificate.clone())];
        let tls = OwnCertificate::from_der(chain, private).map_err(IdentityError::Pair)?;
        let thumbprint = Thumbprint::of(&material.certificate);
        Ok(Self { material, key, thumbprint, tls })
    }

    /// The certificate, DER. One certificate serves signing and encryption, as public clients do.
    pub fn certificate(&self) -> &[u8] {
        &self.material.certificate
    }

    /// Its SHA-256: what tokens are bound to.
    pub fn thumbprint(&self) -> Thumbprint {
        self.thumbprint
    }

    /// The key for messages.
    pub fn key(&self) -> &RsaSigningKey {
        &self.key
    }

    /// The private key, PKCS#8 DER, for opening what the site encrypted to it.
    pub(crate) fn pkcs8(&self) -> &[u8] {
        &self.material.pkcs8
    }

    /// The certificate as it is shown in TLS handshakes.
    pub fn tls(&self) -> &OwnCertificate {
        &self.tls
    }

    /// RSASSA-PKCS1-v1_5 with SHA-256, bytes in the usual order.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.key.sign_pkcs1_sha256(message)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.thumbprint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::message::signature::RsaPublicKey;
    use x509_parser::prelude::{FromDer as _, X509Certificate};

    #[test]
    fn the_certificate_is_the_one_of_the_reference() {
        let now = Timestamp::from_seconds(1_790_000_000);
        let material = KeyMaterial::generate(now).unwrap();
        let (_, certificate) = X509Certificate::from_der(&material.certificate).unwrap();
        assert_eq!(certificate.subject().to_string(), "CN=ConfigMgr Client");
        assert_eq!(certificate.issuer(), certificate.subject());
        let usage = certificate.key_usage().unwrap().unwrap().value;
        assert!(usage.digital_signature() && usage.data_encipherment());
        let extended = &certificate.extended_key_usage().unwrap().unwrap().value.other;
        let names: Vec<_> = extended.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["1.3.6.1.4.1.311.101.2", "1.3.6.1.4.1.311.101"]);
        assert_eq!(certificate.signature_algorithm.algorithm.to_string(), "1.2.840.113549.1.1.11");
        assert!(
            certificate
                .validity()
                .is_valid_at(x509_parser::time::ASN1Time::from_timestamp(1_790_000_000).unwrap())
        );
        let key = RsaPublicKey::from_certificate(&material.certificate).unwrap();
        assert_eq!(key.modulus().len(), 256);
    }

    #[test]
    fn a_key_with_anothers_certificate_is_no_identity() {
        let now = Timestamp::from_seconds(1_790_000_000);
        let (one, two) = (KeyMaterial::generate(now).unwrap(), KeyMaterial::generate(now).unwrap());
        let mixed = KeyMaterial { pkcs8: one.pkcs8.clone(), certificate: two.certificate };
        assert!(matches!(Identity::new(mixed), Err(IdentityError::Pair(_))));
        let identity = Identity::new(one).unwrap();
        assert!(!format!("{identity:?}").contains("pkcs8"));
        let signature = identity.sign(b"message");
        assert_eq!(proto::trust::verify_rsa(identity.certificate(), b"message", &signature), Ok(()));
    }
}
