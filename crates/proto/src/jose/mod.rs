//! Tokens of identity providers: JSON Web Signatures with a key of a published key set (RFC 7515,
//! 7517, 7518), read as strictly as R10 and R14 ask.
//!
//! The algorithm is that of the key, never that of the token; members that would name another key
//! are not read; everything malformed is refused before a signature is computed.

mod algorithm;
mod compact;
mod json;
mod jwk;
mod jws;
mod key_set;

pub use algorithm::{Algorithm, VerifyingKey};
pub(crate) use compact::shown;
pub use compact::{Compact, JwsError};
pub use json::{DEPTH, Json, JsonError, parse_json};
pub use jwk::{Jwk, Unusable};
pub use jws::Jws;
pub use key_set::{JwkError, JwkSet};
