//! What the gateway knows of its site at one moment: never changed, only exchanged.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use proto::entra::TenantSet;
use proto::id::Guid;
use proto::limits;
use proto::snapshot::{Snapshot, TokenCertificate};
use proto::token::{KeySet, KeySetError, Token, TokenError, token_hash};
use quick_cache::sync::Cache;
use runtime::metrics::Counter;

use crate::admit::{Bearer, NotAccepted};
use crate::tenants::Tenants;
use crate::trust::Trust;

/// Verified tokens that are remembered. Beyond it the least used are verified anew, which costs some
/// 20 µs each; a remembered one takes some 300 bytes.
const VERIFIED_TOKENS: usize = 65_536;

/// One version of what the site published, ready for use.
#[derive(Debug)]
pub struct GatewayState {
    /// The snapshot with all deltas up to its version.
    pub snapshot: Snapshot,
    tokens: Arc<Tokens>,
    tenants: Arc<Tenants>,
    trust: Arc<Trust>,
    lookups: Arc<Lookups>,
}

/// How often a bearer token was known already, since the start.
#[derive(Debug, Default)]
pub(crate) struct Lookups {
    pub(crate) hits: Counter,
    pub(crate) misses: Counter,
}

/// The site's token that a connection brought last, from its second request on. To compare it costs a thirtieth
/// of what its hash costs.
#[derive(Debug, Default)]
pub(crate) struct LastToken(Mutex<Seen>);

#[derive(Debug, Default)]
enum Seen {
    #[default]
    Nothing,
    Something,
    Token {
        text: Box<str>,
        /// By which keys it was verified; it ends with them. Held weakly, so that they can go.
        by: Weak<Tokens>,
        token: Arc<Token>,
    },
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
    /// Prepares a snapshot. What `previous` has verified and judged stays known where nothing that it rests
    /// on has changed.
    pub fn new(snapshot: Snapshot, previous: Option<&Self>) -> Result<Self, KeySetError> {
        let same_keys = previous.map(|state| &state.tokens).filter(|tokens| {
            tokens.hierarchy == snapshot.hierarchy && tokens.certificates == snapshot.token_certificates
        });
        let tokens = match same_keys {
            Some(tokens) => Arc::clone(tokens),
            None => Arc::new(Tokens::new(&snapshot)?),
        };
        let tenants = Tenants::of(&snapshot.tenants, previous.map(|state| &state.tenants));
        let trust = Trust::of(&snapshot, previous.map(|state| &state.trust));
        let lookups = previous.map(|state| Arc::clone(&state.lookups)).unwrap_or_default();
        Ok(Self { snapshot, tokens, tenants, trust, lookups })
    }

    /// How often a bearer token was known already.
    pub(crate) fn lookups(&self) -> &Lookups {
        &self.lookups
    }

    /// Whose client certificates are trusted.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Whether this bearer token was verified before, so that looking at it again costs no signature.
    pub(crate) fn knows_bearer(&self, text: &str) -> bool {
        if text.len() > limits::TOKEN_BYTES {
            return false;
        }
        let name = token_hash(text);
        self.tokens.verified.peek(&name).is_some() || self.tenants.find(&name).is_some()
    }

    /// [`verify_bearer`](Self::verify_bearer) for a connection, which usually brings the token that it brought last.
    pub(crate) fn verify_bearer_of(&self, last: &LastToken, text: &str) -> Result<Bearer, NotAccepted> {
        let mut last = last.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Seen::Token { text: known, by, token } = &*last
            && **known == *text
            && by.as_ptr() == Arc::as_ptr(&self.tokens)
        {
            self.lookups.hits.count();
            return Ok(Bearer::Site(Arc::clone(token)));
        }
        let bearer = self.verify_bearer(text)?;
        *last = match &bearer {
            // Most connections carry one request; they need not keep a kilobyte for a second one.
            Bearer::Site(token) if !matches!(*last, Seen::Nothing) => {
                Seen::Token { text: text.into(), by: Arc::downgrade(&self.tokens), token: Arc::clone(token) }
            }
            Bearer::Site(_) | Bearer::Tenant(_) => Seen::Something,
        };
        Ok(bearer)
    }

    /// Form, signature and origin of whatever came as a bearer token; what was verified once is remembered.
    /// Time, key and blocks are judged on each request.
    pub fn verify_bearer(&self, text: &str) -> Result<Bearer, NotAccepted> {
        if text.len() > limits::TOKEN_BYTES {
            return Err(TokenError::TooLong.into());
        }
        // What is known needs no look inside.
        let name = token_hash(text);
        if let Some(token) = self.tokens.verified.get(&name) {
            self.lookups.hits.count();
            return Ok(Bearer::Site(token));
        }
        if let Some(token) = self.tenants.find(&name) {
            self.lookups.hits.count();
            return Ok(Bearer::Tenant(token));
        }
        self.lookups.misses.count();
        if TenantSet::looks_like(text) {
            return Ok(Bearer::Tenant(self.tenants.verify(name, text)?));
        }
        Ok(Bearer::Site(self.tokens.verify(name, text)?))
    }
}

impl Tokens {
    fn new(snapshot: &Snapshot) -> Result<Self, KeySetError> {
        let certificates = snapshot.token_certificates.clone();
        let keys = KeySet::new(snapshot.hierarchy, certificates.iter().map(|c| c.der.as_slice()))?;
        let verified = Cache::new(VERIFIED_TOKENS);
        Ok(Self { hierarchy: snapshot.hierarchy, certificates, keys, verified })
    }

    /// Verifies a token whose text has this hash, and remembers it.
    fn verify(&self, name: [u8; 32], text: &str) -> Result<Arc<Token>, TokenError> {
        let token = Arc::new(self.keys.verify(text)?);
        self.verified.insert(name, Arc::clone(&token));
        Ok(token)
    }
}
