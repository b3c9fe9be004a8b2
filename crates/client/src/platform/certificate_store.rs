//! A certificate store that is a folder: PEM and DER certificates, PEM keys, PKCS#12 files.
//!
//! Read anew each time, so that a certificate that was renewed or put there is noticed. Files that
//! hold a private key must be for their owner only; one that is open to others is named and not used.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use p12_keystore::{KeyStore, KeyStoreEntry, Pkcs12ImportPolicy};
use runtime::config::private_file;
use runtime::tls::OwnCertificate;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

use crate::credential::pki::{StoredCertificate, StoredKey};

/// Most files of a store that are read, in the order of their names.
const FILES: usize = 200;
/// Largest file that is read, in bytes.
const FILE_BYTES: u64 = 256 * 1024;
/// Most certificates that are looked at.
const CERTIFICATES: usize = 500;
/// Longest chain, in certificates.
const CHAIN: usize = 8;

/// Why a store cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CertificateStoreError {
    /// The folder cannot be listed.
    #[error("the certificate store {} cannot be read", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file with the passphrase.
    #[error("the passphrase of the certificate store cannot be read")]
    Password(#[source] private_file::PrivateFileError),
}

/// What was found before keys and certificates are brought together.
#[derive(Default)]
struct Found {
    /// Leaf and whatever stands behind it in its file, with the file's name.
    certificates: Vec<(String, Vec<Vec<u8>>)>,
    keys: Vec<PrivateKeyDer<'static>>,
    /// Files whose key could not be read, by their name without ending, and why.
    unreadable: Vec<(String, String)>,
    /// Pairs that a PKCS#12 file holds together.
    pairs: Vec<(String, Vec<Vec<u8>>, PrivateKeyDer<'static>)>,
}

/// Reads the folder.
pub(super) fn read(
    folder: &Path,
    password_file: Option<&Path>,
) -> Result<Vec<StoredCertificate>, CertificateStoreError> {
    let failed = |source| CertificateStoreError::Folder { path: folder.to_owned(), source };
    let password = match password_file {
        Some(path) => {
            let bytes = private_file::read(path).map_err(CertificateStoreError::Password)?;
            Zeroizing::new(String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned())
        }
        None => Zeroizing::new(String::new()),
    };
    let mut paths: Vec<_> = fs::read_dir(folder)
        .map_err(failed)?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.is_file() && is_ours(path))
        .collect();
    paths.sort();
    paths.truncate(FILES);
    let mut found = Found::default();
    for path in &paths {
        read_file(path, &password, &mut found);
    }
    Ok(bring_together(found))
}

fn is_ours(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    ["pem", "crt", "cer", "der", "key", "pfx", "p12"].iter().any(|known| ending.eq_ignore_ascii_case(known))
}

fn read_file(path: &Path, password: &str, found: &mut Found) {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let small = fs::metadata(path).is_ok_and(|metadata| metadata.len() <= FILE_BYTES);
    let Some(bytes) = small.then(|| fs::read(path).ok()).flatten().map(Zeroizing::new) else {
        found.unreadable.push((stem, "its file cannot be read, or is too large".to_owned()));
        return;
    };
    let is_pem = bytes.windows(10).any(|window| window == b"-----BEGIN");
    let has_key = !is_pem && !is_certificate(&bytes) || contains(&bytes, b"PRIVATE KEY-----");
    if has_key && let Err(error) = private_file::read(path) {
        found.unreadable.push((stem, error.to_string()));
        // A certificate beside its key can be read all the same, so that the reason is told with it.
    } else if is_pem {
        if contains(&bytes, b"ENCRYPTED PRIVATE KEY-----") {
            found.unreadable.push((stem, "it is encrypted; store it without, mode 0600".to_owned()));
        } else {
            found.keys.extend(PrivateKeyDer::pem_slice_iter(&bytes).filter_map(Result::ok).take(8));
        }
    } else if has_key {
        read_pkcs12(&bytes, &name, stem, password, found);
    }
    let chain: Vec<_> = if is_pem {
        CertificateDer::pem_slice_iter(&bytes)
            .filter_map(Result::ok)
            .take(CERTIFICATES)
            .map(|der| der.to_vec())
            .collect()
    } else if is_certificate(&bytes) {
        vec![bytes.to_vec()]
    } else {
        Vec::new()
    };
    if !chain.is_empty() && found.certificates.len() < CERTIFICATES {
        found.certificates.push((name, chain));
    }
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

fn is_certificate(bytes: &[u8]) -> bool {
    X509Certificate::from_der(bytes).is_ok_and(|(rest, _)| rest.is_empty())
}

fn read_pkcs12(bytes: &[u8], name: &str, stem: String, password: &str, found: &mut Found) {
    let Ok(store) = KeyStore::from_pkcs12(bytes, password, Pkcs12ImportPolicy::Strict) else {
        let why = "the PKCS#12 file does not open; is --certificate-password-file right?".to_owned();
        found.unreadable.push((stem, why));
        return;
    };
    for (_, entry) in store.entries() {
        let KeyStoreEntry::PrivateKeyChain(chain) = entry else { continue };
        let certificates: Vec<_> =
            chain.certs().iter().map(|certificate| certificate.as_der().to_vec()).collect();
        if let Ok(key) = PrivateKeyDer::try_from(chain.key().as_der().to_vec()) {
            found.pairs.push((name.to_owned(), certificates, key));
        }
    }
}

fn bring_together(found: Found) -> Vec<StoredCertificate> {
    let Found { certificates, keys, unreadable, pairs } = found;
    // Authorities of the whole store help to complete a chain that was stored without them.
    let authorities: Vec<Vec<u8>> = certificates
        .iter()
        .flat_map(|(_, chain)| chain)
        .chain(pairs.iter().flat_map(|(_, chain, _)| chain))
        .filter(|der| is_authority(der))
        .cloned()
        .collect();
    let mut store: Vec<StoredCertificate> = Vec::new();
    for (source, chain, key) in pairs {
        let chain = complete(chain, &authorities);
        let key = pair(&chain, [key].iter()).unwrap_or(StoredKey::Missing);
        store.push(StoredCertificate { source, chain, key });
    }
    for (source, chain) in certificates {
        let Some(leaf) = chain.first() else { continue };
        if is_authority(leaf) || store.iter().any(|known| known.chain.first() == Some(leaf)) {
            continue;
        }
        let chain = complete(chain, &authorities);
        let stem = Path::new(&source).file_stem().unwrap_or_default().to_string_lossy();
        let why = unreadable.iter().find(|(name, _)| *name == stem).map(|(_, why)| why.clone());
        let key =
            pair(&chain, keys.iter()).unwrap_or_else(|| why.map_or(StoredKey::Missing, StoredKey::Unusable));
        store.push(StoredCertificate { source, chain, key });
    }
    store
}

/// The key among these that belongs to the chain's own certificate.
fn pair<'k>(chain: &[Vec<u8>], keys: impl Iterator<Item = &'k PrivateKeyDer<'static>>) -> Option<StoredKey> {
    let certificates: Vec<_> = chain.iter().cloned().map(CertificateDer::from).collect();
    for key in keys {
        if let Ok(own) = OwnCertificate::from_der(certificates.clone(), key.clone_key()) {
            return Some(StoredKey::Usable(Arc::new(own)));
        }
    }
    None
}

fn is_authority(der: &[u8]) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return false };
    matches!(certificate.basic_constraints(), Ok(Some(basic)) if basic.value.ca)
}

/// The certificate, then each one's issuer as far as it is known, the root left out: whoever judges
/// has his own.
fn complete(chain: Vec<Vec<u8>>, authorities: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut complete: Vec<Vec<u8>> = Vec::new();
    let Some(leaf) = chain.first() else { return chain };
    complete.push(leaf.clone());
    while complete.len() < CHAIN {
        let Some((_, last)) = complete.last().and_then(|der| X509Certificate::from_der(der).ok()) else {
            break;
        };
        let issuer = last.issuer().as_raw();
        let next = chain.iter().skip(1).chain(authorities).find(|der| {
            X509Certificate::from_der(der).is_ok_and(|(_, candidate)| {
                candidate.subject().as_raw() == issuer
                    && candidate.subject().as_raw() != candidate.issuer().as_raw()
            })
        });
        match next {
            Some(next) if !complete.contains(next) => complete.push(next.clone()),
            _ => break,
        }
    }
    complete
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::pki::{Selection, choose};
    use crate::testing::pki::{Leaf, Pki};
    use proto::time::Timestamp;

    const NOW: Timestamp = Timestamp::from_seconds(1_790_000_000);

    fn chosen(folder: &Path, password: Option<&Path>) -> Result<crate::credential::pki::Chosen, String> {
        let store = read(folder, password).unwrap();
        choose(&store, &Selection::default(), "pc1", NOW).map_err(|error| error.to_string())
    }

    #[test]
    fn certificate_and_key_are_found_in_one_file_in_two_and_with_their_chain() {
        let pki = Pki::with_intermediate("Root", "Issuing");
        let issued = pki.issue(&Leaf::client("pc1"));
        let together = tempfile::tempdir().unwrap();
        private_file::write(together.path().join("pc1.pem"), format!("{}{}", issued.pem, issued.key_pem))
            .unwrap();
        fs::write(together.path().join("issuing.crt"), pki.intermediate_pem().unwrap()).unwrap();
        fs::write(together.path().join("readme.txt"), "no certificate").unwrap();
        fs::write(together.path().join("broken.pem"), "-----BEGIN CERTIFICATE-----\nAA\n").unwrap();
        let found = chosen(together.path(), None).unwrap();
        assert_eq!((found.own.chain().len(), found.source.as_str()), (2, "pc1.pem"), "with its issuer");

        let apart = tempfile::tempdir().unwrap();
        fs::write(apart.path().join("machine.cer"), &issued.der).unwrap();
        private_file::write(apart.path().join("other.key"), &issued.key_pem).unwrap();
        assert_eq!(chosen(apart.path(), None).unwrap().thumbprint, found.thumbprint);
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_can_read_is_named_and_not_used() {
        use std::os::unix::fs::PermissionsExt as _;
        let issued = Pki::new("Root").issue(&Leaf::client("pc1"));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pc1.key");
        fs::write(folder.path().join("pc1.crt"), &issued.pem).unwrap();
        private_file::write(&path, &issued.key_pem).unwrap();
        assert!(chosen(folder.path(), None).is_ok());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = chosen(folder.path(), None).unwrap_err();
        assert!(error.contains("open to others") && error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_pkcs12_file_opens_with_its_passphrase_only() {
        use p12_keystore::{Certificate, PrivateKey, PrivateKeyChain};
        let issued = Pki::new("Root").issue(&Leaf::client("pc1"));
        let mut store = KeyStore::new();
        let key = PrivateKey::from_der(&issued.key_der).unwrap();
        let certificate = Certificate::from_der(&issued.der).unwrap();
        store.add_entry(
            "pc1",
            KeyStoreEntry::PrivateKeyChain(PrivateKeyChain::new(&[1_u8][..], key, [certificate])),
        );
        let folder = tempfile::tempdir().unwrap();
        let bytes = store.writer("pass word").encryption_iterations(10).mac_iterations(10).write().unwrap();
        private_file::write(folder.path().join("pc1.pfx"), &bytes).unwrap();
        let password = folder.path().join("passphrase");
        private_file::write(&password, "pass word\n").unwrap();
        assert_eq!(chosen(folder.path(), Some(&password)).unwrap().subject, "CN=pc1");
        assert_eq!(chosen(folder.path(), None).unwrap_err(), "the certificate store holds no certificate");
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = read(Path::new("/no/such/store"), None).unwrap_err();
        assert!(error.to_string().contains("/no/such/store"), "{error}");
    }
}
