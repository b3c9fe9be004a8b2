//! Tokens whose signature held before. A device comes with one token for hours, and a roll-out with one
//! for thousands of devices: verifying costs an RSA operation, recognising a hash.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use proto::id::Thumbprint;
use proto::limits;
use proto::token::{KeySet, Token, TokenError};

/// Tokens in each of the two generations. One has some 300 bytes.
const KEPT: usize = 8192;

/// Remembers what verified under the keys in force. Time, key and blocks of a token are no part of that:
/// they are judged on every request.
#[derive(Debug, Default)]
pub(crate) struct Verified(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// The keys under which these tokens verified: any others empty the table.
    keys: Arc<KeySet>,
    young: HashMap<Thumbprint, Token>,
    /// Those before; whoever is asked for comes back to the young.
    old: HashMap<Thumbprint, Token>,
}

impl Verified {
    /// The token in this text. Checks form, signature and origin, as [`KeySet::verify`] does.
    pub(crate) fn verify(&self, keys: &Arc<KeySet>, text: &str) -> Result<Token, TokenError> {
        if text.len() > limits::TOKEN_BYTES {
            return Err(TokenError::TooLong);
        }
        let hash = Thumbprint::of(text.as_bytes());
        if let Some(token) = self.with(|kept| kept.find(keys, hash)) {
            return Ok(token);
        }
        let token = keys.verify(text)?;
        self.with(|kept| kept.keep(keys, hash, token.clone()));
        Ok(token)
    }

    fn with<T>(&self, work: impl FnOnce(&mut Kept) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Kept {
    fn find(&mut self, keys: &Arc<KeySet>, hash: Thumbprint) -> Option<Token> {
        if !Arc::ptr_eq(&self.keys, keys) {
            *self = Self { keys: Arc::clone(keys), ..Self::default() };
            return None;
        }
        if let Some(token) = self.young.get(&hash) {
            return Some(token.clone());
        }
        let token = self.old.remove(&hash)?;
        self.keep(keys, hash, token.clone());
        Some(token)
    }

    fn keep(&mut self, keys: &Arc<KeySet>, hash: Thumbprint, token: Token) {
        // Verified under keys that were replaced meanwhile: it counts for this request, and no other.
        if !Arc::ptr_eq(&self.keys, keys) {
            return;
        }
        if self.young.len() >= KEPT {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(hash, token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::id::Guid;
    use proto::time::Timestamp;
    use proto::token::TokenClass;

    fn token(number: u64) -> Token {
        let unique_id = Guid::from_bytes((u128::from(number) << 64).to_be_bytes());
        Token {
            class: TokenClass::Bulk,
            unique_id,
            hierarchy: Guid::nil(),
            device: None,
            user: None,
            bulk: None,
            entra: None,
            confirmation: None,
            not_before: Timestamp::from_seconds(0),
            expires: Timestamp::from_seconds(1),
        }
    }

    fn hash(number: u64) -> Thumbprint {
        Thumbprint::of(&number.to_be_bytes())
    }

    #[test]
    fn other_keys_forget_everything_that_verified_under_those_before() {
        let (before, after) = (Arc::<KeySet>::default(), Arc::<KeySet>::default());
        let mut kept = Kept::default();
        assert!(kept.find(&before, hash(1)).is_none());
        kept.keep(&before, hash(1), token(1));
        assert_eq!(kept.find(&before, hash(1)), Some(token(1)));
        assert!(kept.find(&after, hash(1)).is_none());
        kept.keep(&before, hash(2), token(2));
        assert!(kept.find(&after, hash(2)).is_none(), "what verified under old keys is not kept");
        assert!(kept.young.is_empty());
    }

    #[test]
    fn what_is_used_stays_and_the_table_is_bounded() {
        let keys = Arc::<KeySet>::default();
        let mut kept = Kept::default();
        assert!(kept.find(&keys, hash(0)).is_none());
        let many = u64::try_from(KEPT).unwrap() * 4;
        for number in 0..many {
            kept.keep(&keys, hash(number), token(number));
            assert_eq!(kept.find(&keys, hash(0)), Some(token(0)));
            assert!(kept.young.len() <= KEPT && kept.old.len() <= KEPT);
        }
        assert!(kept.find(&keys, hash(1)).is_none(), "what is not used goes");
    }

    #[test]
    fn nothing_is_taken_that_the_keys_do_not_verify() {
        let verified = Verified::default();
        let keys = Arc::<KeySet>::default();
        assert!(verified.verify(&keys, "a.b.c").is_err());
        assert_eq!(verified.verify(&keys, &"a".repeat(limits::TOKEN_BYTES + 1)), Err(TokenError::TooLong));
    }
}
