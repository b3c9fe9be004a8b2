//! One public key as a provider publishes it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use der::asn1::UintRef;
use der::{Encode as _, Sequence};
use num_bigint::BigUint;
use serde::{Deserialize, Serialize};
use serde_json::Map;

use crate::jose::{Algorithm, Json, VerifyingKey};

/// Bits of an RSA key, least and most (R3; above that a verification costs too much).
const RSA_BITS: std::ops::RangeInclusive<u64> = 2048..=8192;
/// Most bits of an RSA key's exponent. 65537 has 17.
const EXPONENT_BITS: u64 = 32;
/// Members that only a secret or private key has.
const SECRET_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
/// Primes by which keys of a broken generator show (CVE-2017-15361).
const ROCA_PRIMES: [u32; 38] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103,
    107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];

/// One public key that verifies tokens. Kept as the members that matter, so that it travels in
/// snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jwk {
    /// Names the key in a token's header. Empty where a provider with one key gave it no name; a
    /// token without a name is then verified by it.
    pub kid: String,
    /// The only algorithm that it verifies: a name of [`Algorithm`].
    pub alg: String,
    /// `RSAPublicKey` (RSA, DER) or the uncompressed point (EC).
    #[serde(with = "crate::snapshot::base64_bytes")]
    pub key: Vec<u8>,
}

/// Why a key of a key set is passed over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Not an object with members of the right types and a readable public key.
    #[error("the key is malformed")]
    Malformed,
    /// A private or symmetric key: whoever publishes that has lost it.
    #[error("the key is a secret one")]
    Secret,
    /// For something else than signatures.
    #[error("the key is not for signatures")]
    Purpose,
    /// A key type that we do not know.
    #[error("keys of this type are not known")]
    Kind,
    /// A curve that we do not take.
    #[error("only the curves P-256 and P-384 are accepted")]
    Curve,
    /// An algorithm that we do not know, or that does not go with the key.
    #[error("the key's algorithm is not accepted")]
    Algorithm,
    /// An RSA key that is too short or too long, even, with a bad exponent, or of a broken generator.
    #[error("the RSA key is not fit for use: {bits} bits")]
    Weak {
        /// Length of its modulus.
        bits: u64,
    },
    /// One of several keys, and without a name.
    #[error("the key has no name")]
    Nameless,
}

impl Jwk {
    /// Reads one key of a set (RFC 7517). A missing `kid` is read as the empty one.
    ///
    /// `alg` may be missing: then it is RS256, ES256 or ES384 by the kind of key.
    pub fn from_json(json: &Json) -> Result<Self, Unusable> {
        let members = json.as_object().ok_or(Unusable::Malformed)?;
        let kind = text(members, "kty")?.ok_or(Unusable::Malformed)?;
        if kind == "oct" || SECRET_MEMBERS.iter().any(|name| members.contains_key(*name)) {
            return Err(Unusable::Secret);
        }
        if text(members, "use")?.is_some_and(|purpose| purpose != "sig") || !may_verify(members)? {
            return Err(Unusable::Purpose);
        }
        let (usual, key) = match kind {
            "RSA" => (Algorithm::Rs256, rsa_key(members)?),
            "EC" => ec_key(members)?,
            _ => return Err(Unusable::Kind),
        };
        let algorithm = match text(members, "alg")? {
            None => usual,
            Some(name) => Algorithm::from_name(name).ok_or(Unusable::Algorithm)?,
        };
        // A curve goes with one algorithm only; an RSA key with any of RSA's.
        if algorithm != usual && !(algorithm.is_rsa() && usual.is_rsa()) {
            return Err(Unusable::Algorithm);
        }
        let kid = text(members, "kid")?.unwrap_or_default().to_owned();
        let jwk = Self { kid, alg: algorithm.name().to_owned(), key };
        // A point off its curve shows only here.
        jwk.prepare()?;
        Ok(jwk)
    }

    /// Parses the key for use. Fails only when it came from elsewhere than [`Jwk::from_json`].
    pub fn prepare(&self) -> Result<VerifyingKey, Unusable> {
        let algorithm = Algorithm::from_name(&self.alg).ok_or(Unusable::Algorithm)?;
        VerifyingKey::new(algorithm, &self.key)
    }
}

fn text<'m>(members: &'m Map<String, Json>, name: &str) -> Result<Option<&'m str>, Unusable> {
    match members.get(name) {
        None => Ok(None),
        Some(Json::String(text)) => Ok(Some(text)),
        Some(_) => Err(Unusable::Malformed),
    }
}

fn may_verify(members: &Map<String, Json>) -> Result<bool, Unusable> {
    match members.get("key_ops") {
        None => Ok(true),
        Some(Json::Array(operations)) => Ok(operations.iter().any(|operation| operation == "verify")),
        Some(_) => Err(Unusable::Malformed),
    }
}

fn bytes(members: &Map<String, Json>, name: &str) -> Result<Vec<u8>, Unusable> {
    let text = text(members, name)?.ok_or(Unusable::Malformed)?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| Unusable::Malformed)
}

/// `RSAPublicKey` of RFC 8017, A.1.1.
#[derive(Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

fn rsa_key(members: &Map<String, Json>) -> Result<Vec<u8>, Unusable> {
    let (modulus, exponent) = (bytes(members, "n")?, bytes(members, "e")?);
    let (n, e) = (BigUint::from_bytes_be(&modulus), BigUint::from_bytes_be(&exponent));
    let is_sound = RSA_BITS.contains(&n.bits())
        && n.bit(0)
        && e.bit(0)
        && (2..=EXPONENT_BITS).contains(&e.bits())
        && !is_roca(&n);
    if !is_sound {
        return Err(Unusable::Weak { bits: n.bits() });
    }
    let number = |bytes| UintRef::new(bytes).map_err(|_| Unusable::Malformed);
    RsaPublicKey { modulus: number(&modulus)?, exponent: number(&exponent)? }
        .to_der()
        .map_err(|_| Unusable::Malformed)
}

/// Whether a modulus was made by the generator whose primes are powers of 65537 modulo small primes.
/// Such a key can be factored; any other has this form once in 2¹⁵⁰.
fn is_roca(modulus: &BigUint) -> bool {
    ROCA_PRIMES.iter().all(|prime| {
        let rest = modulus % *prime;
        std::iter::successors(Some(1), |power| Some(power * 65_537 % *prime))
            .take(usize::try_from(*prime).unwrap_or(usize::MAX))
            .any(|power: u32| rest == BigUint::from(power))
    })
}

fn ec_key(members: &Map<String, Json>) -> Result<(Algorithm, Vec<u8>), Unusable> {
    let (algorithm, length) = match text(members, "crv")? {
        Some("P-256") => (Algorithm::Es256, 32),
        Some("P-384") => (Algorithm::Es384, 48),
        _ => return Err(Unusable::Curve),
    };
    let (x, y) = (bytes(members, "x")?, bytes(members, "y")?);
    if x.len() != length || y.len() != length {
        return Err(Unusable::Malformed);
    }
    Ok((algorithm, [&[0x04], x.as_slice(), y.as_slice()].concat()))
}
