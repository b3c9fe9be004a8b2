//! The key ring: the keys that sign tokens, one after the other.
//!
//! `next` is published before it signs anything, so gateways know it when it becomes `current`;
//! `retired` verifies until the last token that it signed has expired, so rotation breaks no
//! token (R25); `dropped` verifies nothing, at once.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use proto::id::Guid;
use proto::time::Timestamp;
use proto::token::{self, CCM_LIFETIME, CLOCK_SKEW, Token};
use serde::Serialize;

/// Where a token signing key stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyState {
    /// Published, signs nothing yet.
    Next,
    /// Signs every new token.
    Current,
    /// Signs nothing more; verifies until its last token has expired.
    Retired,
    /// Verifies nothing: an operator took it for compromised.
    Dropped,
}

impl KeyState {
    /// The word in the database and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Current => "current",
            Self::Retired => "retired",
            Self::Dropped => "dropped",
        }
    }

    /// Reads the word back.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Next, Self::Current, Self::Retired, Self::Dropped]
            .into_iter()
            .find(|state| state.as_str() == word)
    }
}

/// One key of the ring, without its private half.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RingEntry {
    /// Names the key.
    pub id: Guid,
    /// The `x5t` in the header of its tokens.
    pub x5t: String,
    /// Its certificate, DER.
    pub certificate: Vec<u8>,
    /// Where it stands.
    pub state: KeyState,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its state changed last.
    pub changed_at: Timestamp,
    /// When the last long-lived token that it signed expires. CCM tokens are not noted: their
    /// eight hours are added when the key retires.
    pub last_expiry: Timestamp,
}

impl RingEntry {
    /// Until when it verifies; `None`: no end is set.
    pub fn verifies_until(&self) -> Option<Timestamp> {
        match self.state {
            KeyState::Next | KeyState::Current => None,
            KeyState::Retired => {
                Some(self.last_expiry.max(self.changed_at.plus(CCM_LIFETIME)).plus(CLOCK_SKEW * 2))
            }
            KeyState::Dropped => Some(self.changed_at),
        }
    }

    /// Whether tokens that it signed count at this moment.
    pub fn verifies(&self, now: Timestamp) -> bool {
        self.verifies_until().is_none_or(|end| now < end)
    }
}

/// A token could not be signed, or the ring cannot be moved so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// The key does not parse, or is not RSA.
    #[error("token signing key {0} is not usable")]
    Key(Guid),
    /// The library refused to sign.
    #[error("token not signed")]
    Sign,
    /// There is no current key.
    #[error("the ring has no current key")]
    Empty,
}

/// A private key of the ring, parsed once: parsing costs more than signing.
pub(crate) struct SigningKey {
    pub(crate) id: Guid,
    x5t: String,
    pair: RsaKeyPair,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.x5t)
    }
}

impl SigningKey {
    pub(crate) fn new(id: Guid, certificate: &[u8], pkcs8: &[u8]) -> Result<Self, RingError> {
        let pair = RsaKeyPair::from_pkcs8(pkcs8).map_err(|_| RingError::Key(id))?;
        Ok(Self { id, x5t: token::x5t(certificate), pair })
    }

    /// The token's text.
    pub(crate) fn mint(&self, token: &Token) -> Result<String, RingError> {
        token.mint(&self.x5t, |signed| self.sign(signed))
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, RingError> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
            .map_err(|_| RingError::Sign)?;
        Ok(signature)
    }
}

/// All keys that tokens were or will be signed with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ring {
    pub(crate) entries: Vec<RingEntry>,
}

impl Ring {
    pub(crate) fn find(&self, id: Guid) -> Option<&RingEntry> {
        self.entries.iter().find(|entry| entry.id == id)
    }

    /// Certificates of the keys whose tokens count at this moment, the next one included.
    pub(crate) fn verifying(&self, now: Timestamp) -> Vec<Vec<u8>> {
        self.entries
            .iter()
            .filter(|entry| entry.verifies(now))
            .map(|entry| entry.certificate.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(state: KeyState, changed_at: i64, last_expiry: i64) -> RingEntry {
        RingEntry {
            id: Guid::nil(),
            x5t: String::new(),
            certificate: vec![1],
            state,
            created_at: Timestamp::from_seconds(0),
            changed_at: Timestamp::from_seconds(changed_at),
            last_expiry: Timestamp::from_seconds(last_expiry),
        }
    }

    #[test]
    fn a_retired_key_verifies_until_its_last_token_has_expired_and_a_dropped_one_not_at_all() {
        let day = 86_400;
        let long = entry(KeyState::Retired, day, 50 * day);
        assert!(long.verifies(Timestamp::from_seconds(50 * day + 119)), "with the grace of a token");
        assert!(!long.verifies(Timestamp::from_seconds(50 * day + 120)));
        let short = entry(KeyState::Retired, day, 0);
        assert!(short.verifies(Timestamp::from_seconds(day + 8 * 3600)), "its CCM tokens live on");
        assert!(!short.verifies(Timestamp::from_seconds(day + 8 * 3600 + 120)));
        assert!(!entry(KeyState::Dropped, day, 50 * day).verifies(Timestamp::from_seconds(day)));
        let ring = Ring { entries: vec![long, short, entry(KeyState::Current, 0, 0)] };
        assert_eq!(ring.verifying(Timestamp::from_seconds(40 * day)).len(), 2);
    }
}
