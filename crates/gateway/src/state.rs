//! What the gateway knows of its site at one moment: never changed, only exchanged.

use std::sync::Arc;

use proto::id::Guid;
use proto::limits;
use proto::snapshot::{Snapshot, TokenCertificate};
use proto::token::{KeySet, KeySetError, Token, TokenError, token_hash};
use quick_cache::sync::Cache;

/// Verified tokens that are remembered. Beyond it the least used are verified anew, which costs some
/// 20 µs each; a remembered one takes some 300 bytes.
const VERIFIED_TOKENS: usize = 65_536;

/// One version of what the site published, ready for use.
#[derive(Debug)]
pub struct GatewayState {
    /// The snapshot with all deltas up to its version.
    pub snapshot: Snapshot,
    tokens: Arc<Tokens>,
}

/// Keys and what they verified. They are one thing, so that a token cannot outlive its key.
struct Tokens {
    hierarchy: Guid,
    certificates: Vec<TokenCertificate>,
    keys: KeySet,
    verified: Cache<[u8; 32], Arc<Token>>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens")
            .field("keys", &self.keys)
            .field("verified", &self.verified.len())
            .finish_non_exhaustive()
    }
}

impl GatewayState {
    /// Prepares a snapshot. Verified tokens of `previous` stay known if the keys are the same.
    pub fn new(snapshot: Snapshot, previous: Option<&Self>) -> Result<Self, KeySetError> {
        let same_keys = previous.map(|state| &state.tokens).filter(|tokens| {
            tokens.hierarchy == snapshot.hierarchy && tokens.certificates == snapshot.token_certificates
        });
        let tokens = match same_keys {
            Some(tokens) => Arc::clone(tokens),
            None => Arc::new(Tokens::new(&snapshot)?),
        };
        Ok(Self { snapshot, tokens })
    }

    /// Form, signature and origin of a token; what was verified once is remembered. Time, key and blocks
    /// are for [`proto::identity::judge_token`] to judge, on each request.
    pub fn verify_token(&self, text: &str) -> Result<Arc<Token>, TokenError> {
        if text.len() > limits::TOKEN_BYTES {
            return Err(TokenError::TooLong);
        }
        let name = token_hash(text);
        if let Some(token) = self.tokens.verified.get(&name) {
            return Ok(token);
        }
        let token = Arc::new(self.tokens.keys.verify(text)?);
        self.tokens.verified.insert(name, Arc::clone(&token));
        Ok(token)
    }
}

impl Tokens {
    fn new(snapshot: &Snapshot) -> Result<Self, KeySetError> {
        let certificates = snapshot.token_certificates.clone();
        let keys = KeySet::new(snapshot.hierarchy, certificates.iter().map(|c| c.der.as_slice()))?;
        let verified = Cache::new(VERIFIED_TOKENS);
        Ok(Self { hierarchy: snapshot.hierarchy, certificates, keys, verified })
    }
}
