//! A certificate whose key we hold: read, checked, ready to be shown.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::peer::{PeerCertificate, UnreadableCertificate};
use super::{CHAIN_LIMIT, provider};
use crate::config::private_file::{self, PrivateFileError};

/// Where a certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM: the certificate first, then those that lead to its root ("fullchain").
    pub certificate: PathBuf,
    /// PEM, not encrypted, mode 0600 or narrower: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

/// A chain of certificates whose first one belongs to a private key that we hold.
///
/// `Debug` shows no key: rustls prints the kind of key only.
#[derive(Clone, Debug)]
pub struct OwnCertificate {
    certified: Arc<CertifiedKey>,
    leaf: PeerCertificate,
}

/// Why certificate and key files could not be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The certificate's file could not be read.
    #[error("certificate file {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The key's file could not be read, or is open to others.
    #[error("the certificate's private key is not available")]
    Key(#[source] PrivateFileError),
    /// The files could be read, but not used.
    #[error("certificate file {} and key file {} cannot be used", certificate.display(), key.display())]
    Material {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong with them.
        source: MaterialError,
    },
}

/// What is wrong with a certificate or its key, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    /// No certificate was found.
    #[error("there is no certificate in it; it must be PEM (for DER: openssl x509 -inform der -in FILE)")]
    NoCertificate,
    /// A private key stands where the certificate belongs.
    #[error("a private key is where the certificate should be; are the two files swapped?")]
    KeyForCertificate,
    /// More certificates than any chain has.
    #[error("there are more than {CHAIN_LIMIT} certificates; give the server's own chain only")]
    ChainTooLong,
    /// One of the certificates is not X.509.
    #[error("certificate number {number} of the chain is damaged")]
    DamagedCertificate {
        /// Which one, from 1.
        number: usize,
        /// Where reading stopped.
        source: UnreadableCertificate,
    },
    /// No private key was found.
    #[error("there is no private key in it; it must be PEM with a PKCS#8, PKCS#1 or SEC1 key")]
    NoKey,
    /// A certificate stands where the private key belongs.
    #[error("a certificate is where the private key should be; are the two files swapped?")]
    CertificateForKey,
    /// The key needs a passphrase.
    #[error("the private key is encrypted; store it without (openssl pkey -in FILE -out NEW), mode 0600")]
    EncryptedKey,
    /// The text is not good PEM.
    #[error("the PEM text is damaged")]
    DamagedPem(#[source] pem::Error),
    /// The kind or size of key is not supported.
    #[error("the private key cannot be used; use ECDSA P-256 or P-384, Ed25519, or RSA of 2048 bits or more")]
    UnsupportedKey(#[source] rustls::Error),
    /// The key belongs to another certificate.
    #[error("the private key belongs to another certificate; they must have been made together")]
    Mismatch,
    /// The key belongs to a later certificate of the file.
    #[error("the key's certificate is number {number} in the file; it must be the first one")]
    LeafNotFirst {
        /// Which one, from 1.
        number: usize,
    },
}

impl CertificateFiles {
    /// Reads and checks both files.
    pub fn load(&self) -> Result<OwnCertificate, LoadError> {
        let chain = fs::read(&self.certificate)
            .map_err(|source| LoadError::Read { path: self.certificate.clone(), source })?;
        let key = private_file::read(&self.key).map_err(LoadError::Key)?;
        OwnCertificate::from_pem(&chain, &key).map_err(|source| LoadError::Material {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            source,
        })
    }
}

impl OwnCertificate {
    /// From the PEM texts of a chain, its own certificate first, and of a key.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, MaterialError> {
        Self::from_der(read_chain(chain)?, read_key(key)?)
    }

    /// From the same in DER.
    pub fn from_der(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, MaterialError> {
        if chain.len() > CHAIN_LIMIT {
            return Err(MaterialError::ChainTooLong);
        }
        let mut parsed = Vec::with_capacity(chain.len());
        for (index, der) in chain.iter().enumerate() {
            let certificate = PeerCertificate::parse(der)
                .map_err(|source| MaterialError::DamagedCertificate { number: index + 1, source })?;
            parsed.push(certificate);
        }
        let leaf = parsed.into_iter().next().ok_or(MaterialError::NoCertificate)?;
        let key = provider().key_provider.load_private_key(key).map_err(MaterialError::UnsupportedKey)?;
        let certified = CertifiedKey::new(chain, key);
        check_pair(&certified)?;
        Ok(Self { certified: Arc::new(certified), leaf })
    }

    /// The form that rustls takes.
    pub fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    /// The chain in DER, its own certificate first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// What the certificate says: names, thumbprint, and until when it is good.
    pub fn leaf(&self) -> &PeerCertificate {
        &self.leaf
    }
}

fn read_chain(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, MaterialError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(text)
        .take(CHAIN_LIMIT + 1)
        .collect::<Result<_, _>>()
        .map_err(MaterialError::DamagedPem)?;
    match chain.len() {
        0 if contains(text, b"PRIVATE KEY-----") => Err(MaterialError::KeyForCertificate),
        0 => Err(MaterialError::NoCertificate),
        _ => Ok(chain),
    }
}

fn read_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, MaterialError> {
    // PKCS#8's own sort of encryption, and the older one in headers of the PEM text.
    if contains(text, b"ENCRYPTED PRIVATE KEY-----") || contains(text, b"Proc-Type: 4,ENCRYPTED") {
        return Err(MaterialError::EncryptedKey);
    }
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        pem::Error::NoItemsFound if contains(text, b"BEGIN CERTIFICATE-----") => {
            MaterialError::CertificateForKey
        }
        pem::Error::NoItemsFound => MaterialError::NoKey,
        error => MaterialError::DamagedPem(error),
    })
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn check_pair(certified: &CertifiedKey) -> Result<(), MaterialError> {
    if certified.keys_match().is_ok() {
        return Ok(());
    }
    let later = certified.cert.iter().position(|certificate| {
        CertifiedKey::new(vec![certificate.clone()], Arc::clone(&certified.key)).keys_match().is_ok()
    });
    Err(later.map_or(MaterialError::Mismatch, |index| MaterialError::LeafNotFirst { number: index + 1 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const P256: &rcgen::SignatureAlgorithm = &rcgen::PKCS_ECDSA_P256_SHA256;

    struct Pair {
        certificate: String,
        key: String,
    }

    fn pair(name: &str) -> Pair {
        let key = rcgen::KeyPair::generate_for(P256).unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        Pair { certificate: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
    }

    fn mistake(chain: &str, key: &str) -> MaterialError {
        OwnCertificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap_err()
    }

    #[test]
    fn a_certificate_with_its_key_loads_and_tells_its_names() {
        let Pair { certificate, key } = pair("gateway.example");
        let own = OwnCertificate::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(own.leaf().dns_names(), ["gateway.example"]);
        assert_eq!(own.chain().len(), 1);
        assert!(!format!("{own:?}").contains(key.lines().nth(1).unwrap()));
    }

    #[test]
    fn each_mistake_is_told_apart() {
        use MaterialError as E;
        let (a, b) = (pair("a.example"), pair("b.example"));
        let encrypted = a.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        let old_encrypted = a.key.replacen('\n', "\nProc-Type: 4,ENCRYPTED\n\n", 1);
        let crowd = a.certificate.repeat(CHAIN_LIMIT + 1);
        let broken = a.certificate.replacen("\nMII", "\n!!!", 1);
        let shortened = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";

        assert!(matches!(mistake("", &a.key), E::NoCertificate));
        assert!(matches!(mistake(&a.key, &a.key), E::KeyForCertificate));
        assert!(matches!(mistake(&a.certificate, &a.certificate), E::CertificateForKey));
        assert!(matches!(mistake(&a.certificate, ""), E::NoKey));
        assert!(matches!(mistake(&a.certificate, &encrypted), E::EncryptedKey));
        assert!(matches!(mistake(&a.certificate, &old_encrypted), E::EncryptedKey));
        assert!(matches!(mistake(&a.certificate, &b.key), E::Mismatch));
        assert!(matches!(mistake(&crowd, &a.key), E::ChainTooLong));
        assert!(matches!(mistake(&broken, &a.key), E::DamagedPem(_)));
        assert!(matches!(mistake(shortened, &a.key), E::DamagedCertificate { number: 1, .. }));
        let reversed = format!("{}{}", b.certificate, a.certificate);
        assert!(matches!(mistake(&reversed, &a.key), E::LeafNotFirst { number: 2 }));
    }

    #[test]
    fn the_files_concerned_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let files =
            CertificateFiles { certificate: folder.path().join("c.pem"), key: folder.path().join("k.pem") };
        assert!(files.load().unwrap_err().to_string().ends_with("c.pem cannot be read"));
        fs::write(&files.certificate, pair("a.example").certificate).unwrap();
        assert!(matches!(files.load(), Err(LoadError::Key(PrivateFileError::Io { .. }))));
        private_file::write(&files.key, pair("b.example").key).unwrap();
        let error = files.load().unwrap_err().to_string();
        assert!(error.contains("c.pem") && error.contains("k.pem"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let files =
            CertificateFiles { certificate: folder.path().join("c.pem"), key: folder.path().join("k.pem") };
        let Pair { certificate, key } = pair("a.example");
        fs::write(&files.certificate, certificate).unwrap();
        private_file::write(&files.key, key).unwrap();
        files.load().unwrap();
        fs::set_permissions(&files.key, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(files.load(), Err(LoadError::Key(PrivateFileError::TooOpen { .. }))));
    }

    #[test]
    fn rsa_keys_in_their_old_form_load_as_well() {
        let key =
            rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
        let params = rcgen::CertificateParams::new(vec!["rsa.example".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        // PKCS#8 wraps PKCS#1 behind a header of 26 bytes for keys of this size.
        let pkcs1 = PrivateKeyDer::Pkcs1(key.serialized_der()[26..].to_vec().into());
        OwnCertificate::from_der(vec![certificate.der().clone()], pkcs1).unwrap();
    }
}
