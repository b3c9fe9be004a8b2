//! Signing keys of a tenant: the next one is published before it signs, an old one after.

use std::collections::VecDeque;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, DnType, date_time_ymd};
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::{Value, json};

/// Retired keys that stay published. Entra keeps a handful.
const RETIRED: usize = 3;

/// A key could not be made.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The system gave no key.
    #[error("signing key not made")]
    Make(#[from] aws_lc_rs::error::Unspecified),
    /// Its certificate was not made.
    #[error("certificate of a signing key not made")]
    Certificate(#[from] rcgen::Error),
}

/// RSA of 2048 bits, as Entra has.
pub(crate) struct SigningKey {
    pub(crate) kid: String,
    pair: RsaKeyPair,
    /// Base64 of a self-signed certificate: key sets of this kind carry one.
    certificate: String,
}

impl SigningKey {
    fn make() -> Result<Self, KeyError> {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048)?;
        let pkcs8 = pair.as_der()?;
        let signer = rcgen::KeyPair::try_from(&PrivatePkcs8KeyDer::from(pkcs8.as_ref()))?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "accounts.stand-in.example");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2100, 1, 1);
        let certificate = params.self_signed(&signer)?;
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate.der());
        let kid = URL_SAFE_NO_PAD.encode(&digest.as_ref()[..20]);
        Ok(Self { kid, pair, certificate: STANDARD.encode(certificate.der()) })
    }

    fn jwk(&self, issuer: &str) -> Value {
        let public = self.pair.public_key();
        let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({
            "kty": "RSA",
            "use": "sig",
            "kid": self.kid,
            "x5t": self.kid,
            "n": number(public.modulus().big_endian_without_leading_zero()),
            "e": number(public.exponent().big_endian_without_leading_zero()),
            "x5c": [self.certificate],
            "cloud_instance_name": "localhost",
            "issuer": issuer,
        })
    }

    /// Signs claims as they are, under any further header members.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        let header = json!({ "typ": "JWT", "alg": "RS256", "x5t": self.kid, "kid": self.kid });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let mut text = format!("{}.{}", part(&header), part(claims));
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)
            .expect("the buffer has the length of the modulus, and nothing else makes signing fail");
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut text);
        text
    }
}

/// The keys of one tenant.
pub(crate) struct KeyRing {
    current: SigningKey,
    next: SigningKey,
    retired: VecDeque<SigningKey>,
}

impl KeyRing {
    pub(crate) fn make() -> Result<Self, KeyError> {
        Ok(Self { current: SigningKey::make()?, next: SigningKey::make()?, retired: VecDeque::new() })
    }

    pub(crate) fn current(&self) -> &SigningKey {
        &self.current
    }

    /// The next key signs from now on; the old one stays published until it is dropped.
    pub(crate) fn rotate(&mut self) -> Result<(), KeyError> {
        let next = SigningKey::make()?;
        let current = std::mem::replace(&mut self.next, next);
        self.retired.push_front(std::mem::replace(&mut self.current, current));
        self.retired.truncate(RETIRED);
        Ok(())
    }

    /// Replaces all keys at once by such as nobody has seen: an emergency at the provider.
    pub(crate) fn replace(&mut self) -> Result<(), KeyError> {
        *self = Self::make()?;
        Ok(())
    }

    /// Retired keys are not published any more.
    pub(crate) fn drop_retired(&mut self) {
        self.retired.clear();
    }

    /// Kids as published: current, next, retired.
    pub(crate) fn kids(&self) -> Vec<String> {
        self.published().map(|key| key.kid.clone()).collect()
    }

    pub(crate) fn jwks(&self, issuer: &str) -> Value {
        json!({ "keys": self.published().map(|key| key.jwk(issuer)).collect::<Vec<_>>() })
    }

    fn published(&self) -> impl Iterator<Item = &SigningKey> {
        [&self.current, &self.next].into_iter().chain(&self.retired)
    }
}
