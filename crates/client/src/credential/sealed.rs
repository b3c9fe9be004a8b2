//! Secrets at rest: AES-256-GCM under a key that is derived from the device's own private key.
//!
//! Whoever reads the state file alone (a backup, a support bundle) learns nothing from it. It does
//! not protect from whoever can read the private key beside it.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// What the key is for, so that another use of the same private key gets another key.
const PURPOSE: &[u8] = b"roamgate-client/secrets/1";
/// Largest secret in bytes: a token and a refresh token are smaller.
const SECRET_BYTES: usize = 64 * 1024;

/// A sealed secret, as it stands in the state file: base64 of nonce and ciphertext.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(String);

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed(…)")
    }
}

/// The text was sealed under another key, or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a secret in the state cannot be opened with this device's key")]
pub struct OpenError;

/// Seals and opens the secrets of one device.
pub struct Vault(RandomizedNonceKey);

struct KeyLength;

impl KeyType for KeyLength {
    fn len(&self) -> usize {
        AES_256_GCM.key_len()
    }
}

impl Vault {
    /// The vault of the device with this private key (PKCS#8).
    pub fn new(private_key: &[u8]) -> Self {
        let mut key = Zeroizing::new([0_u8; 32]);
        Salt::new(HKDF_SHA256, PURPOSE)
            .extract(private_key)
            .expand(&[PURPOSE], KeyLength)
            .and_then(|okm| okm.fill(&mut *key))
            .expect("32 bytes are within what HKDF gives");
        Self(RandomizedNonceKey::new(&AES_256_GCM, &*key).expect("the key has the length of the algorithm"))
    }

    /// Seals a secret.
    pub fn seal(&self, secret: &str) -> Sealed {
        let mut bytes = secret.as_bytes().to_vec();
        let nonce = self
            .0
            .seal_in_place_append_tag(Aad::from(PURPOSE), &mut bytes)
            .expect("a secret is far below the limit of the algorithm");
        Sealed(STANDARD.encode([&nonce.as_ref()[..], &bytes].concat()))
    }

    /// Opens what [`Vault::seal`] made.
    pub fn open(&self, sealed: &Sealed) -> Result<SecretString, OpenError> {
        if sealed.0.len() > SECRET_BYTES * 2 {
            return Err(OpenError);
        }
        let bytes = STANDARD.decode(&sealed.0).map_err(|_| OpenError)?;
        let (nonce, rest) = bytes.split_at_checked(NONCE_LEN).ok_or(OpenError)?;
        let nonce = <[u8; NONCE_LEN]>::try_from(nonce).map_err(|_| OpenError)?;
        let nonce = Nonce::from(&nonce);
        let mut rest = Zeroizing::new(rest.to_vec());
        let plain = self.0.open_in_place(nonce, Aad::from(PURPOSE), &mut rest).map_err(|_| OpenError)?;
        let text = std::str::from_utf8(plain).map_err(|_| OpenError)?;
        Ok(SecretString::from(text.to_owned()))
    }

    /// Opens a secret as text, if it opens at all.
    pub fn text(&self, sealed: &Sealed) -> Option<String> {
        self.open(sealed).ok().map(|secret| secret.expose_secret().to_owned())
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_opens_with_the_devices_key_only_and_not_when_changed() {
        let (mine, other) = (Vault::new(b"my key"), Vault::new(b"another key"));
        let sealed = mine.seal("refresh");
        assert_eq!(mine.open(&sealed).unwrap().expose_secret(), "refresh");
        assert_eq!(other.open(&sealed).map(|_| ()), Err(OpenError));
        assert_ne!(sealed, mine.seal("refresh"), "another nonce each time");
        let json = serde_json::to_string(&sealed).unwrap();
        assert!(!json.contains("refresh") && !format!("{sealed:?}").contains("refresh"));
        for wrong in ["", "AAAA", "not base64", &"A".repeat(40)] {
            assert!(mine.open(&Sealed(wrong.to_owned())).is_err(), "{wrong}");
        }
        let mut changed = sealed.0.clone().into_bytes();
        let last = changed.len() - 5;
        changed[last] = if changed[last] == b'A' { b'B' } else { b'A' };
        assert!(mine.open(&Sealed(String::from_utf8(changed).unwrap())).is_err());
    }
}
