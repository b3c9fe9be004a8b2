//! The key file: the one secret of a site host that is not in the database.
//!
//! Everything secret in the database is sealed under it, so a copy of the database alone yields
//! nothing, and the audit chain is keyed by it, so nobody can rewrite that with the database
//! alone. A passphrase or a PKCS#11 token may take its place later behind [`KeyFile::seal`] and
//! [`KeyFile::open`].

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// First word of the file, so that another secret is not taken for it.
const MAGIC: &str = "roamgate-key-file-1";
/// Largest file read: the real one has 65 bytes.
const MAX_FILE: u64 = 256;

/// Why a key file was not made or not taken.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The system refused.
    #[error("key file {path}")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Others than the owner may read or write it.
    #[error(
        "key file {path} has mode {mode:o}: others can read it; run chmod 600 and consider its keys known"
    )]
    Mode {
        /// The file.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// Not a key file of ours.
    #[error("{path} is not a Roamgate key file")]
    Form {
        /// The file.
        path: String,
    },
    /// The system gave no random bytes.
    #[error("no randomness from the system")]
    Random,
}

/// A sealed secret did not open: another key file, another key's record, or a changed byte. One
/// error for all, on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the secret does not open with this key file")]
pub struct SealError;

/// The keys derived from the file. The file's own bytes are not kept.
pub struct KeyFile {
    at_rest: LessSafeKey,
    audit: hmac::Key,
}

impl std::fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyFile(..)")
    }
}

impl KeyFile {
    /// Makes a new file of mode 0600 and never replaces one: that would lock its database for ever.
    pub fn create(path: &Path) -> Result<Self, KeyFileError> {
        let secret: Zeroizing<[u8; 32]> = Zeroizing::new(
            rand::generate(&rand::SystemRandom::new()).map_err(|_| KeyFileError::Random)?.expose(),
        );
        let text = Zeroizing::new(format!("{MAGIC} {}\n", STANDARD.encode(secret.as_slice())));
        write_private(path, text.as_bytes()).map_err(|source| io_error(path, source))?;
        Self::derive(&secret).ok_or(KeyFileError::Random)
    }

    /// Reads the file, if only its owner can.
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        let file = File::open(path).map_err(|source| io_error(path, source))?;
        // Asked of the open file, so that nothing can be swapped in between.
        let mode = file.metadata().map_err(|source| io_error(path, source))?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyFileError::Mode { path: path.display().to_string(), mode });
        }
        let mut text = Zeroizing::new(String::new());
        file.take(MAX_FILE).read_to_string(&mut text).map_err(|source| io_error(path, source))?;
        parse(&text)
            .and_then(|secret| Self::derive(&secret))
            .ok_or_else(|| KeyFileError::Form { path: path.display().to_string() })
    }

    fn derive(secret: &[u8; 32]) -> Option<Self> {
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, MAGIC.as_bytes()).extract(secret);
        let expand = |purpose: &'static str| {
            let mut key = Zeroizing::new([0_u8; 32]);
            prk.expand(&[purpose.as_bytes()], hkdf::HKDF_SHA256)
                .and_then(|okm| okm.fill(key.as_mut_slice()))
                .ok()?;
            Some(key)
        };
        let at_rest = UnboundKey::new(&AES_256_GCM, expand("keys at rest")?.as_slice()).ok()?;
        let audit = hmac::Key::new(hmac::HMAC_SHA256, expand("audit chain")?.as_slice());
        Some(Self { at_rest: LessSafeKey::new(at_rest), audit })
    }

    /// Seals a secret for one record: nonce, ciphertext, tag. The record's name and purpose are
    /// bound to it, so a sealed secret moved to another row does not open.
    pub(crate) fn seal(&self, record: &[u8], purpose: &str, secret: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(|_| SealError)?;
        let mut sealed = Zeroizing::new(secret.to_vec());
        let tag = self
            .at_rest
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(bound(record, purpose)),
                &mut sealed,
            )
            .map_err(|_| SealError)?;
        Ok([&nonce, sealed.as_slice(), tag.as_ref()].concat())
    }

    /// Opens what [`Self::seal`] made for the same record.
    pub(crate) fn open(
        &self,
        record: &[u8],
        purpose: &str,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(SealError)?;
        let mut secret = Zeroizing::new(rest.to_vec());
        let length = self
            .at_rest
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(bound(record, purpose)),
                &mut secret,
            )
            .map_err(|_| SealError)?
            .len();
        secret.truncate(length);
        Ok(secret)
    }

    /// The key of the audit chain.
    pub(crate) fn audit_key(&self) -> hmac::Key {
        self.audit.clone()
    }
}

/// Writes a new file that only its owner can read, down to the disk.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Purpose, then record, with the purpose's length in front: no two pairs read alike.
fn bound(record: &[u8], purpose: &str) -> Vec<u8> {
    [&(purpose.len() as u64).to_be_bytes(), purpose.as_bytes(), record].concat()
}

fn parse(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let encoded = text.trim_end().strip_prefix(MAGIC)?.strip_prefix(' ')?;
    let bytes = Zeroizing::new(STANDARD.decode(encoded).ok()?);
    bytes.as_slice().try_into().ok().map(Zeroizing::new)
}

fn io_error(path: &Path, source: io::Error) -> KeyFileError {
    KeyFileError::Io { path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("site.key");
        KeyFile::create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(KeyFile::load(&path).is_ok());
        for mode in [0o640, 0o604, 0o660, 0o610, 0o666] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(KeyFile::load(&path), Err(KeyFileError::Mode { .. })), "{mode:o}");
        }
    }

    #[test]
    fn a_file_is_never_replaced_and_another_file_is_not_taken_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("site.key");
        KeyFile::create(&path).unwrap();
        assert!(matches!(KeyFile::create(&path), Err(KeyFileError::Io { .. })));
        let other = dir.path().join("other");
        write_private(&other, b"roamgate-key-file-1 c2hvcnQ=\n").unwrap();
        assert!(matches!(KeyFile::load(&other), Err(KeyFileError::Form { .. })));
    }

    #[test]
    fn a_secret_opens_only_in_its_own_record_with_its_own_file() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("a"), dir.path().join("b"));
        let file = KeyFile::create(&path).unwrap();
        let sealed = file.seal(b"1", "token", b"private").unwrap();
        assert!(!sealed.windows(7).any(|window| window == b"private"));

        let again = KeyFile::load(&path).unwrap();
        assert_eq!(again.open(b"1", "token", &sealed).unwrap().as_slice(), b"private");
        assert!(again.open(b"1", "site", &sealed).is_err());
        assert!(again.open(b"2", "token", &sealed).is_err());
        assert!(KeyFile::create(&other).unwrap().open(b"1", "token", &sealed).is_err());
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            assert!(again.open(b"1", "token", &changed).is_err(), "byte {index}");
        }
        assert!(again.open(b"1", "token", &sealed[..5]).is_err());
    }
}
