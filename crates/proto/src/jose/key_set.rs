//! The key set of a provider.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::jose::compact::shown;
use crate::jose::{Json, JsonError, Jwk, Unusable, parse_json};
use crate::limits;

/// A key set as published.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JwkSet {
    /// Keys that can be used, each under a name of its own; others in the document are passed over.
    pub keys: Vec<Jwk>,
}

/// A document that holds no usable key set. Whoever fetched it keeps the keys known before (R13).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwkError {
    /// Longer than [`limits::KEY_SET_BYTES`].
    #[error("the key set is longer than {} bytes", limits::KEY_SET_BYTES)]
    TooLong,
    /// Not strict JSON.
    #[error("the key set: {0}")]
    Json(JsonError),
    /// Not an object with a list `keys`.
    #[error("this is no key set")]
    Malformed,
    /// More than [`limits::KEY_SET_KEYS`] keys.
    #[error("the key set has more than {} keys", limits::KEY_SET_KEYS)]
    TooMany,
    /// Two usable keys have one name. Which of them is meant nobody knows, so none counts.
    #[error("two keys of the set have the name {0:?}")]
    Duplicate(String),
    /// No key in it at all.
    #[error("the key set is empty")]
    Empty,
    /// No key in it verifies signatures in a way that we accept; this is what the first lacks.
    #[error("the key set holds no usable key: {0}")]
    Unusable(Unusable),
}

impl JwkSet {
    /// Reads the document of a provider's `jwks_uri`.
    ///
    /// Keys that we have no use for are passed over ([`Unusable`] says which), and so is a nameless
    /// key unless it is the only one in the document.
    pub fn parse(document: &[u8]) -> Result<Self, JwkError> {
        if document.len() > limits::KEY_SET_BYTES {
            return Err(JwkError::TooLong);
        }
        let document = parse_json(document).map_err(JwkError::Json)?;
        let Some(Json::Array(published)) = document.get("keys") else { return Err(JwkError::Malformed) };
        if published.len() > limits::KEY_SET_KEYS {
            return Err(JwkError::TooMany);
        }
        let mut keys = Vec::new();
        let mut names = HashSet::new();
        let mut passed_over = None;
        for key in published {
            match Jwk::from_json(key) {
                Ok(key) if key.kid.is_empty() && published.len() > 1 => {
                    passed_over.get_or_insert(Unusable::Nameless);
                }
                Ok(key) if !names.insert(key.kid.clone()) => {
                    return Err(JwkError::Duplicate(shown(&key.kid)));
                }
                Ok(key) => keys.push(key),
                Err(why) => {
                    passed_over.get_or_insert(why);
                }
            }
        }
        match passed_over {
            _ if !keys.is_empty() => Ok(Self { keys }),
            Some(why) => Err(JwkError::Unusable(why)),
            None => Err(JwkError::Empty),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A point on P-256, of a public test key.
    const X: &str = "04N0xi21hshyvBp7I167sbE_bXqyqkAPfefdklMO7wY";
    const Y: &str = "UI8exy-C06a7DUnjIdENkxeFtHM4-l_41LqEw9nVgmw";

    fn ec(kid: &str) -> Json {
        json!({"kty": "EC", "crv": "P-256", "x": X, "y": Y, "kid": kid, "use": "sig"})
    }

    fn rsa(bytes: usize, exponent: &str) -> Json {
        use base64::Engine as _;
        use base64::engine::general_purpose::URL_SAFE_NO_PAD;
        // An odd number of this length with its first bit set: enough of a modulus to be read.
        json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode(vec![0xA7; bytes]), "e": exponent, "kid": "rsa"})
    }

    fn set(keys: &Json) -> Result<JwkSet, JwkError> {
        JwkSet::parse(json!({ "keys": keys, "more": "ignored" }).to_string().as_bytes())
    }

    fn with(mut key: Json, name: &str, value: Json) -> Json {
        key[name] = value;
        key
    }

    #[test]
    fn the_algorithm_is_the_keys_own_or_the_usual_one_of_its_kind() {
        let algorithm = |key: Json| set(&json!([key])).map(|set| set.keys[0].alg.clone());
        assert_eq!(algorithm(ec("k")).as_deref(), Ok("ES256"));
        assert_eq!(algorithm(rsa(256, "AQAB")).as_deref(), Ok("RS256"));
        for name in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"] {
            assert_eq!(algorithm(with(rsa(256, "AQAB"), "alg", json!(name))).as_deref(), Ok(name));
        }
        for (key, name) in [
            (ec("k"), "ES384"),
            (ec("k"), "RS256"),
            (ec("k"), "HS256"),
            (rsa(256, "AQAB"), "ES256"),
            (rsa(256, "AQAB"), "RSA-OAEP"),
            (rsa(256, "AQAB"), "none"),
        ] {
            let refused = algorithm(with(key, "alg", json!(name)));
            assert_eq!(refused, Err(JwkError::Unusable(Unusable::Algorithm)), "{name}");
        }
    }

    #[test]
    fn keys_that_cannot_serve_are_passed_over_and_the_others_stay() {
        for (key, why) in [
            (json!(1), Unusable::Malformed),
            (json!({}), Unusable::Malformed),
            (json!({"kty": "OKP", "crv": "Ed25519", "x": X}), Unusable::Kind),
            (json!({"kty": "oct", "k": "AAAA"}), Unusable::Secret),
            (with(ec("k"), "d", json!("AAAA")), Unusable::Secret),
            (with(rsa(256, "AQAB"), "p", json!("AAAA")), Unusable::Secret),
            (with(ec("k"), "use", json!("enc")), Unusable::Purpose),
            (with(ec("k"), "key_ops", json!(["sign"])), Unusable::Purpose),
            (with(ec("k"), "key_ops", json!("verify")), Unusable::Malformed),
            (with(ec("k"), "crv", json!("P-521")), Unusable::Curve),
            (with(ec("k"), "crv", json!("P-384")), Unusable::Malformed),
            (with(ec("k"), "y", json!(X)), Unusable::Malformed),
            (with(ec("k"), "y", json!(format!("{Y}="))), Unusable::Malformed),
            (with(ec("k"), "kid", json!(1)), Unusable::Malformed),
            (with(ec("k"), "kid", json!("")), Unusable::Nameless),
            (rsa(128, "AQAB"), Unusable::Weak { bits: 1024 }),
            (rsa(255, "AQAB"), Unusable::Weak { bits: 2040 }),
            (rsa(1025, "AQAB"), Unusable::Weak { bits: 8200 }),
            (rsa(256, "AQ"), Unusable::Weak { bits: 2048 }),
            (rsa(256, "Ag"), Unusable::Weak { bits: 2048 }),
            (rsa(256, "AQAAAAE"), Unusable::Weak { bits: 2048 }),
            (with(rsa(256, "AQAB"), "n", json!("+/+/")), Unusable::Malformed),
        ] {
            // Two of them: a single key may go without a name.
            assert_eq!(set(&json!([key, key])), Err(JwkError::Unusable(why)), "{key}");
            assert_eq!(set(&json!([key, ec("good")])).map(|set| set.keys.len()), Ok(1), "{key}");
        }
    }

    #[test]
    fn a_zero_in_front_of_a_modulus_changes_nothing() {
        use base64::Engine as _;
        use base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let padded = URL_SAFE_NO_PAD.encode([vec![0], vec![0xA7; 256]].concat());
        let (plain, padded) = (rsa(256, "AQAB"), with(rsa(256, "AQAB"), "n", json!(padded)));
        assert_eq!(set(&json!([plain])), set(&json!([padded])));
    }

    #[test]
    fn a_single_key_needs_no_name() {
        let mut nameless = ec("");
        nameless.as_object_mut().unwrap().remove("kid");
        assert_eq!(set(&json!([nameless])).unwrap().keys[0].kid, "");
        assert_eq!(set(&json!([nameless, {"kty": "oct"}])), Err(JwkError::Unusable(Unusable::Nameless)));
    }

    #[test]
    fn two_keys_of_one_name_spoil_the_set_and_two_of_which_one_is_no_use_do_not() {
        assert_eq!(set(&json!([ec("k"), rsa(256, "AQAB"), ec("k")])), Err(JwkError::Duplicate("k".into())));
        let for_encryption = with(ec("k"), "use", json!("enc"));
        assert_eq!(set(&json!([for_encryption, ec("k")])).map(|set| set.keys.len()), Ok(1));
    }

    #[test]
    fn a_document_that_is_no_key_set_is_refused_within_bounds() {
        for (document, error) in [
            ("", JwkError::Json(JsonError::Malformed)),
            ("<html></html>", JwkError::Json(JsonError::Malformed)),
            (r#"{"keys":[],"keys":[]}"#, JwkError::Json(JsonError::Duplicate)),
            ("[]", JwkError::Malformed),
            (r#"{"keys":{}}"#, JwkError::Malformed),
            (r#"{"keys":[]}"#, JwkError::Empty),
        ] {
            assert_eq!(JwkSet::parse(document.as_bytes()), Err(error), "{document}");
        }
        let most = |count: usize| set(&(0..count).map(|n| ec(&n.to_string())).collect());
        assert_eq!(most(limits::KEY_SET_KEYS).map(|set| set.keys.len()), Ok(limits::KEY_SET_KEYS));
        assert_eq!(most(limits::KEY_SET_KEYS + 1), Err(JwkError::TooMany));
        let long = format!("{}{}", r#"{"keys":[]}"#, " ".repeat(limits::KEY_SET_BYTES));
        assert_eq!(JwkSet::parse(long.as_bytes()), Err(JwkError::TooLong));
    }

    #[test]
    fn a_set_travels_in_a_snapshot_as_it_is() {
        let set = set(&json!([ec("k"), rsa(256, "AQAB")])).unwrap();
        let text = serde_json::to_string(&set).unwrap();
        assert_eq!(serde_json::from_str::<JwkSet>(&text).unwrap(), set);
        assert!(set.keys.iter().all(|key| key.prepare().is_ok()));
    }
}
