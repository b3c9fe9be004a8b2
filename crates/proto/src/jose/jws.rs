//! A signed token whose payload is a set of claims (JWT, RFC 7519).

use crate::jose::compact::object;
use crate::jose::{Algorithm, Compact, Json, Jwk, JwsError, VerifyingKey};

/// A token whose form was read and whose signature was not verified yet.
#[derive(Debug)]
pub struct Jws<'t> {
    envelope: Compact<'t>,
    claims: Json,
}

impl<'t> Jws<'t> {
    /// Takes the text apart: bounds, encoding, header, claims. No signature is computed, so that
    /// everything malformed is refused for next to nothing (R14).
    pub fn parse(text: &'t str) -> Result<Self, JwsError> {
        let envelope = Compact::parse(text)?;
        let claims = Json::Object(object("claims", envelope.unverified_payload())?);
        Ok(Self { envelope, claims })
    }

    /// Which key it names.
    pub fn kid(&self) -> Option<&str> {
        self.envelope.kid()
    }

    /// What it says to be: `JWT` usually.
    pub fn typ(&self) -> Option<&str> {
        self.envelope.typ()
    }

    /// SHA-1 thumbprint of a certificate with the signer's key, as it says.
    pub fn x5t(&self) -> Option<&str> {
        self.envelope.x5t()
    }

    /// The algorithm that it says to be signed with.
    pub const fn algorithm(&self) -> Algorithm {
        self.envelope.algorithm()
    }

    /// A text claim before the signature was verified: only to find the keys to verify it with.
    pub fn unverified_claim(&self, name: &str) -> Option<&str> {
        self.claims.get(name)?.as_str()
    }

    /// Verifies with this key, by the key's own algorithm; gives the claims, an object.
    pub fn verify(&self, key: &Jwk) -> Result<Json, JwsError> {
        let key = key.prepare().map_err(|_| JwsError::Key)?;
        self.verify_with(&key).cloned()
    }

    /// Verifies with a key that was parsed before.
    pub fn verify_with(&self, key: &VerifyingKey) -> Result<&Json, JwsError> {
        self.envelope.verify(key)?;
        Ok(&self.claims)
    }
}
