//! Tokens of identity providers: JSON Web Signatures with a key of a published key set (RFC 7515,
//! 7517, 7518), read as strictly as R10 and R14 ask.
//!
//! The algorithm is that of the key, never that of the token; members that would name another key
//! are not read; everything malformed is refused before a signature is computed.

mod json;
mod jwk;
mod jws;

pub use json::{Json, JsonError};
pub use jwk::{Jwk, JwkError, JwkSet};
pub use jws::{Jws, JwsError};
