//! An RSA key pair with everything that one can do wrong with it.

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PSS_SHA256, RsaEncoding};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

pub(crate) struct Key(KeyPair);

impl Key {
    pub(crate) fn generate() -> Self {
        Self(KeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    pub(crate) fn pair(&self) -> &KeyPair {
        &self.0
    }

    fn sign(&self, encoding: &'static dyn RsaEncoding, message: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.0.public_modulus_len()];
        self.0.sign(encoding, &SystemRandom::new(), message, &mut signature).unwrap();
        signature
    }

    pub(crate) fn rs256(&self, message: &[u8]) -> Vec<u8> {
        self.sign(&RSA_PKCS1_SHA256, message)
    }

    pub(crate) fn rs384(&self, message: &[u8]) -> Vec<u8> {
        self.sign(&RSA_PKCS1_SHA384, message)
    }

    pub(crate) fn ps256(&self, message: &[u8]) -> Vec<u8> {
        self.sign(&RSA_PSS_SHA256, message)
    }

    /// The public key as published: a key set's entry.
    pub(crate) fn jwk(&self, kid: &str, algorithm: &str) -> Value {
        let public = self.0.public_key();
        let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let n = number(public.modulus().big_endian_without_leading_zero());
        let e = number(public.exponent().big_endian_without_leading_zero());
        json!({"kty": "RSA", "use": "sig", "alg": algorithm, "kid": kid, "n": n, "e": e})
    }

    /// The public key in the forms in which a confused verifier might hand it to HMAC.
    pub(crate) fn public_forms(&self) -> Vec<(&'static str, Vec<u8>)> {
        let spki: PublicKeyX509Der<'_> = self.0.public_key().as_der().unwrap();
        let spki = spki.as_ref().to_vec();
        let pkcs1 = self.0.public_key().as_ref().to_vec();
        let pem = |label: &str, der: &[u8]| {
            let lines: Vec<String> = STANDARD
                .encode(der)
                .as_bytes()
                .chunks(64)
                .map(|line| String::from_utf8(line.to_vec()).unwrap())
                .collect();
            format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n")).into_bytes()
        };
        let modulus = self.0.public_key().modulus().big_endian_without_leading_zero().to_vec();
        vec![
            ("SPKI PEM", pem("PUBLIC KEY", &spki)),
            ("PKCS#1 PEM", pem("RSA PUBLIC KEY", &pkcs1)),
            ("SPKI", spki),
            ("PKCS#1", pkcs1),
            ("modulus", modulus),
            ("nothing", Vec::new()),
        ]
    }
}

/// A message authentication code under any bytes as the key.
pub(crate) fn mac(algorithm: &str, key: &[u8], message: &[u8]) -> Vec<u8> {
    let algorithm = match algorithm {
        "HS384" => hmac::HMAC_SHA384,
        "HS512" => hmac::HMAC_SHA512,
        _ => hmac::HMAC_SHA256,
    };
    hmac::sign(&hmac::Key::new(algorithm, key), message).as_ref().to_vec()
}
