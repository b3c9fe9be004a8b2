//! Signatures of the client protocol: RSA, SHA-256, bytes reversed, upper-case hex.
//!
//! Two paddings are in use by correct clients (section 4.2 of the reference). The one
//! without hash name is taken for HTTP header signatures only, and both are compared in
//! full: a signature that merely *ends* with the hash can be made without any key.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rsa::{KeyPair, PublicKeyComponents};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256};
use num_bigint::BigUint;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey;

use crate::limits;
use crate::text::hex;

/// DER in front of a SHA-256 hash inside the usual padding (RFC 8017, 9.2).
const SHA256_DIGEST_INFO: [u8; 19] = [
    0x30, 0x31, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00,
    0x04, 0x20,
];

/// Why a signature does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not hex, or longer than any key we take makes.
    #[error("a signature that is not hex of a signature's length")]
    Malformed,
    /// The message names no signature where one is needed.
    #[error("no {0}")]
    Missing(&'static str),
    /// A hash other than SHA-256, or none.
    #[error("hash algorithm {0:?} is not accepted")]
    HashAlgorithm(String),
    /// It is not this key's signature over these bytes.
    #[error("the signature does not verify")]
    Invalid,
}

/// Why a public key is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not one DER certificate, or larger than [`limits::CERTIFICATE_BYTES`].
    #[error("not an X.509 certificate")]
    Certificate,
    /// A key of another kind than RSA.
    #[error("the key is not RSA")]
    NotRsa,
    /// Outside 2048 to 4096 bits, an even modulus, or an exponent that is even, below 3 or
    /// above 32 bits (R3).
    #[error("a weak RSA key: {bits} bits")]
    WeakKey {
        /// Length of the modulus.
        bits: u64,
    },
    /// A private key that does not parse.
    #[error("not an RSA private key in PKCS#8")]
    PrivateKey,
}

/// How the hash was padded before the private key was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// `00 01 FF… 00 DigestInfo hash`: everywhere [observed].
    Normal,
    /// `00 01 FF… 00 hash`: the vendor's SDK in HTTP headers [observed: `sdk/06`].
    BareHash,
}

/// A signature, kept in the order in which RSA makes it (big-endian).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature(Vec<u8>);

impl Signature {
    /// The signature with these bytes, most significant first, as RSA makes them.
    pub fn from_bytes(big_endian: Vec<u8>) -> Self {
        Self(big_endian)
    }

    /// Reads hex of the reversed bytes [observed]. Either case is taken.
    pub fn from_hex(text: &str) -> Result<Self, SignatureError> {
        let mut bytes =
            hex::decode(text.trim(), limits::SIGNATURE_BYTES).map_err(|_| SignatureError::Malformed)?;
        if bytes.is_empty() {
            return Err(SignatureError::Malformed);
        }
        bytes.reverse();
        Ok(Self(bytes))
    }

    /// Upper-case hex of the reversed bytes [observed].
    pub fn to_hex(&self) -> String {
        let mut bytes = self.0.clone();
        bytes.reverse();
        hex::encode(&bytes)
    }

    /// The bytes, most significant first.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Names of SHA-256 that a message may give for its signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashAlgorithm {
    /// `1.2.840.113549.1.1.11`, SHA-256 with RSA: what clients write [observed].
    Sha256WithRsa,
    /// `2.16.840.1.101.3.4.2.1`, SHA-256: taken as the same [ours].
    Sha256,
}

impl HashAlgorithm {
    /// The object identifier in dots.
    pub const fn oid(self) -> &'static str {
        match self {
            Self::Sha256WithRsa => "1.2.840.113549.1.1.11",
            Self::Sha256 => "2.16.840.1.101.3.4.2.1",
        }
    }
}

impl std::str::FromStr for HashAlgorithm {
    type Err = SignatureError;

    /// Anything but the two names of SHA-256 is refused, SHA-1 above all.
    fn from_str(text: &str) -> Result<Self, SignatureError> {
        [Self::Sha256WithRsa, Self::Sha256]
            .into_iter()
            .find(|algorithm| algorithm.oid() == text)
            .ok_or_else(|| SignatureError::HashAlgorithm(text.chars().take(80).collect()))
    }
}

/// Something that signs with a device's or the site's RSA key. The key itself may lie in a
/// file, a store or a chip.
pub trait SigningKey: Send + Sync {
    /// RSASSA-PKCS1-v1_5 with SHA-256 over `message`, most significant byte first.
    fn sign_pkcs1_sha256(&self, message: &[u8]) -> Vec<u8>;
}

/// Signs, and puts the result into the form that goes on the wire.
pub fn sign(key: &dyn SigningKey, message: &[u8]) -> Signature {
    Signature(key.sign_pkcs1_sha256(message))
}

/// An RSA private key held in memory.
pub struct RsaSigningKey(KeyPair);

impl RsaSigningKey {
    /// Reads PKCS#8 DER.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        KeyPair::from_pkcs8(der).map(Self).map_err(|_| KeyError::PrivateKey)
    }

    /// The public half, checked as every other public key.
    pub fn public_key(&self) -> Result<RsaPublicKey, KeyError> {
        let key = self.0.public_key();
        let (_, parsed) =
            x509_parser::public_key::RSAPublicKey::from_der(key.as_ref()).map_err(|_| KeyError::NotRsa)?;
        RsaPublicKey::new(parsed.modulus, parsed.exponent)
    }
}

impl std::fmt::Debug for RsaSigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RsaSigningKey(…)")
    }
}

impl SigningKey for RsaSigningKey {
    fn sign_pkcs1_sha256(&self, message: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.0.public_modulus_len()];
        let random = aws_lc_rs::rand::SystemRandom::new();
        self.0
            .sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
            .expect("an RSA key that was read signs any message of any length");
        signature
    }
}

/// An RSA public key of acceptable strength.
#[derive(Clone, PartialEq, Eq)]
pub struct RsaPublicKey {
    modulus: Vec<u8>,
    exponent: Vec<u8>,
}

impl RsaPublicKey {
    /// A key from its two numbers, most significant byte first; leading zeros are dropped.
    pub fn new(modulus: &[u8], exponent: &[u8]) -> Result<Self, KeyError> {
        let (n, e) = (strip_zeros(modulus), strip_zeros(exponent));
        let leading = n.first().map_or(0, |byte| u64::from(byte.leading_zeros()));
        let bits = (n.len() as u64 * 8).saturating_sub(leading);
        let odd = |number: &[u8]| number.last().is_some_and(|byte| byte & 1 == 1);
        let exponent_fits = e.len() <= 4 && odd(e) && e != [1];
        if !(2048..=4096).contains(&bits) || !odd(n) || !exponent_fits {
            return Err(KeyError::WeakKey { bits });
        }
        Ok(Self { modulus: n.to_vec(), exponent: e.to_vec() })
    }

    /// The key of a DER certificate. Nothing else about the certificate is judged here:
    /// clients sign their own, and what counts is which key was registered.
    pub fn from_certificate(der: &[u8]) -> Result<Self, KeyError> {
        if der.len() > limits::CERTIFICATE_BYTES {
            return Err(KeyError::Certificate);
        }
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| KeyError::Certificate)?;
        if !rest.is_empty() {
            return Err(KeyError::Certificate);
        }
        match certificate.public_key().parsed() {
            Ok(PublicKey::RSA(key)) => Self::new(key.modulus, key.exponent),
            Ok(_) => Err(KeyError::NotRsa),
            Err(_) => Err(KeyError::Certificate),
        }
    }

    /// The modulus, most significant byte first, without leading zeros.
    pub fn modulus(&self) -> &[u8] {
        &self.modulus
    }

    /// The exponent, most significant byte first, without leading zeros; at most four bytes.
    pub fn exponent(&self) -> &[u8] {
        &self.exponent
    }

    /// Verifies a signature with the normal padding: message, registration and hook signatures.
    pub fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), SignatureError> {
        PublicKeyComponents { n: &self.modulus, e: &self.exponent }
            .verify(&RSA_PKCS1_2048_8192_SHA256, message, &signature.0)
            .map_err(|_| SignatureError::Invalid)
    }

    /// Verifies an HTTP header's signature, which may have either padding, over any one of
    /// a few readings of what was signed. Says which padding it was.
    pub(crate) fn verify_either_padding(
        &self,
        readings: &[Vec<u8>],
        signature: &Signature,
    ) -> Result<Padding, SignatureError> {
        let recovered = self.recover(signature).ok_or(SignatureError::Invalid)?;
        for padding in [Padding::Normal, Padding::BareHash] {
            if readings.iter().any(|message| self.encode(padding, message) == recovered) {
                return Ok(padding);
            }
        }
        Err(SignatureError::Invalid)
    }

    /// Applies the public key: what the signer's private key was applied to.
    fn recover(&self, signature: &Signature) -> Option<Vec<u8>> {
        let modulus = BigUint::from_bytes_be(&self.modulus);
        let number = BigUint::from_bytes_be(&signature.0);
        if signature.0.len() != self.modulus.len() || number >= modulus {
            return None;
        }
        let opened = number.modpow(&BigUint::from_bytes_be(&self.exponent), &modulus).to_bytes_be();
        let mut padded = vec![0; self.modulus.len().checked_sub(opened.len())?];
        padded.extend_from_slice(&opened);
        Some(padded)
    }

    /// The full block that a right signature opens to.
    fn encode(&self, padding: Padding, message: &[u8]) -> Vec<u8> {
        let prefix: &[u8] = match padding {
            Padding::Normal => &SHA256_DIGEST_INFO,
            Padding::BareHash => &[],
        };
        let hash = digest(&SHA256, message);
        // At 2048 bits and more there is always room for far more than eight bytes of FF.
        let filler = self.modulus.len().saturating_sub(3 + prefix.len() + hash.as_ref().len());
        let mut block = vec![0x00, 0x01];
        block.resize(2 + filler, 0xFF);
        block.push(0x00);
        block.extend_from_slice(prefix);
        block.extend_from_slice(hash.as_ref());
        block
    }
}

impl std::fmt::Debug for RsaPublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "RsaPublicKey({} bits, {})",
            self.modulus.len() * 8,
            crate::id::Thumbprint::of(&self.modulus)
        )
    }
}

fn strip_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Applies the raw private key to a block: makes signatures that no library makes.
    fn raw_private(block: &[u8], modulus: &BigUint, private_exponent: &BigUint) -> Signature {
        let mut bytes = BigUint::from_bytes_be(block).modpow(private_exponent, modulus).to_bytes_be();
        let length = modulus.to_bytes_be().len();
        bytes.splice(0..0, std::iter::repeat_n(0, length - bytes.len()));
        Signature(bytes)
    }

    fn key() -> (RsaSigningKey, RsaPublicKey, BigUint, BigUint) {
        let pair = KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
        let pkcs8 =
            aws_lc_rs::encoding::AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'static>>::as_der(&pair).unwrap();
        let signing = RsaSigningKey::from_pkcs8(pkcs8.as_ref()).unwrap();
        let public = signing.public_key().unwrap();
        let modulus = BigUint::from_bytes_be(public.modulus());
        (signing, public, modulus, private_exponent(pkcs8.as_ref()))
    }

    /// Contents of the DER value at the front, and what follows it.
    fn value(der: &[u8]) -> (&[u8], &[u8]) {
        let (length, header) = match der[1] {
            short @ 0..=0x7F => (usize::from(short), 2),
            0x81 => (usize::from(der[2]), 3),
            _ => (usize::from(der[2]) << 8 | usize::from(der[3]), 4),
        };
        (&der[header..header + length], &der[header + length..])
    }

    /// PKCS#8 { version, algorithm, { { version, n, e, d, … } } }.
    fn private_exponent(pkcs8: &[u8]) -> BigUint {
        let after = |der, count: usize| (0..count).fold(der, |rest, _| value(rest).1);
        let rsa_key = value(value(after(value(pkcs8).0, 2)).0).0;
        BigUint::from_bytes_be(value(after(rsa_key, 3)).0)
    }

    #[test]
    fn both_paddings_verify_in_headers_and_only_the_normal_one_elsewhere() {
        let (signing, public, n, d) = key();
        let message = b"GUID:...;time".to_vec();
        let normal = sign(&signing, &message);
        assert_eq!(public.verify(&message, &normal), Ok(()));
        assert_eq!(
            public.verify_either_padding(std::slice::from_ref(&message), &normal),
            Ok(Padding::Normal)
        );

        let bare = raw_private(&public.encode(Padding::BareHash, &message), &n, &d);
        assert_eq!(
            public.verify_either_padding(&[b"other".to_vec(), message.clone()], &bare),
            Ok(Padding::BareHash)
        );
        assert_eq!(public.verify(&message, &bare), Err(SignatureError::Invalid));
    }

    #[test]
    fn a_block_that_only_ends_with_the_hash_is_refused() {
        let (_, public, n, d) = key();
        let message = b"message".to_vec();
        let good = public.encode(Padding::BareHash, &message);
        let mut blocks = vec![good.clone(); 4];
        blocks[0][1] = 2; // the type byte says "encryption"
        blocks[1][10] = 0; // padding ends early, rubbish follows
        blocks[2][100] = 0xFE; // one byte of padding differs
        blocks[3] = good.iter().enumerate().map(|(i, b)| if i < 224 { 0 } else { *b }).collect(); // hash alone
        for block in blocks {
            let forged = raw_private(&block, &n, &d);
            assert_eq!(
                public.verify_either_padding(std::slice::from_ref(&message), &forged),
                Err(SignatureError::Invalid)
            );
        }
        let genuine = raw_private(&good, &n, &d);
        assert_eq!(
            public.verify_either_padding(std::slice::from_ref(&message), &genuine),
            Ok(Padding::BareHash)
        );
    }

    #[test]
    fn a_number_beyond_the_modulus_is_no_second_signature() {
        let (signing, public, n, _) = key();
        let message = b"message".to_vec();
        let number = BigUint::from_bytes_be(signing.sign_pkcs1_sha256(&message).as_slice()) + n;
        let twin = Signature(number.to_bytes_be());
        assert_eq!(
            public.verify_either_padding(std::slice::from_ref(&message), &twin),
            Err(SignatureError::Invalid)
        );
        assert_eq!(public.verify(&message, &twin), Err(SignatureError::Invalid));
    }

    #[test]
    fn hex_is_reversed_and_bounded() {
        let signature = Signature::from_hex("0102ff").unwrap();
        assert_eq!(signature.as_bytes(), [0xFF, 2, 1]);
        assert_eq!(signature.to_hex(), "0102FF");
        for wrong in ["", "0", "0x01", &"00".repeat(513)] {
            assert_eq!(Signature::from_hex(wrong), Err(SignatureError::Malformed));
        }
    }

    #[test]
    fn weak_keys_and_other_hashes_are_refused() {
        let modulus = |bits: usize| {
            let mut n = vec![0xFF; bits / 8];
            n.insert(0, 0);
            n
        };
        for (bits, exponent, good) in [
            (2048, &[1, 0, 1][..], true),
            (4096, &[3], true),
            (1024, &[1, 0, 1], false),
            (4104, &[1, 0, 1], false),
            (2048, &[1], false),
            (2048, &[2], false),
            (2048, &[], false),
            (2048, &[1, 0, 0, 0, 1], false),
        ] {
            assert_eq!(RsaPublicKey::new(&modulus(bits), exponent).is_ok(), good, "{bits} {exponent:?}");
        }
        assert!("1.2.840.113549.1.1.11".parse::<HashAlgorithm>().is_ok());
        assert!("2.16.840.1.101.3.4.2.1".parse::<HashAlgorithm>().is_ok());
        for wrong in ["1.2.840.113549.1.1.5", "1.3.14.3.2.26", "", "sha256"] {
            assert!(matches!(wrong.parse::<HashAlgorithm>(), Err(SignatureError::HashAlgorithm(_))));
        }
    }
}
