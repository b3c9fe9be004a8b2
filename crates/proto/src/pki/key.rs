//! Public keys of certificates: which kinds count, how strong they must be, and what they signed.

use der::asn1::{AnyRef, BitStringRef};
use der::{Decode as _, Encode as _, Reader as _, SliceReader};
use rustls_pki_types::{AlgorithmIdentifier, SignatureVerificationAlgorithm, alg_id};

/// Smallest modulus in bits (R3).
const RSA_BITS: usize = 2048;
/// Largest modulus in bits: verification by a larger key takes too long, and no library does it.
const RSA_MOST_BITS: usize = 8192;

/// A public key info taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PublicKey<'a> {
    /// Content of the algorithm identifier.
    algorithm: &'a [u8],
    /// The bit string: a point, or an `RSAPublicKey`.
    bits: &'a [u8],
}

/// The signature is not by this key, or not by an algorithm that goes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not fit")]
pub(crate) struct SignatureMismatch;

/// Kinds of key that count, by their algorithm identifiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyKind {
    /// Modulus of so many bits.
    Rsa(usize),
    P256,
    P384,
    P521,
    Ed25519,
    /// An elliptic curve that does not count.
    OtherCurve,
    /// Anything else.
    Other,
}

impl<'a> PublicKey<'a> {
    /// Reads a public key info (DER).
    pub(crate) fn read(info: &'a [u8]) -> Option<Self> {
        let info = AnyRef::from_der(info).ok()?;
        let mut reader = sequence(info)?;
        let algorithm = AnyRef::decode(&mut reader).ok()?;
        sequence(algorithm)?;
        let bits = BitStringRef::decode(&mut reader).ok()?;
        reader.finish().ok()?;
        Some(Self { algorithm: algorithm.value(), bits: bits.as_bytes()? })
    }

    /// Which kind it is.
    pub(crate) fn kind(&self) -> KeyKind {
        let is = |id: AlgorithmIdentifier| self.algorithm == id.as_ref();
        if is(alg_id::RSA_ENCRYPTION) {
            return self.modulus_bits().map_or(KeyKind::Other, KeyKind::Rsa);
        }
        let known = [
            (alg_id::ECDSA_P256, KeyKind::P256),
            (alg_id::ECDSA_P384, KeyKind::P384),
            (alg_id::ECDSA_P521, KeyKind::P521),
            (alg_id::ED25519, KeyKind::Ed25519),
        ];
        if let Some((_, kind)) = known.into_iter().find(|(id, _)| is(*id)) {
            return kind;
        }
        if self.algorithm.starts_with(EC_PUBLIC_KEY) { KeyKind::OtherCurve } else { KeyKind::Other }
    }

    /// What is wrong with it where RSA of 2048 bits and P-256 are the least (R3).
    pub(crate) fn weakness(&self) -> Option<String> {
        match self.kind() {
            KeyKind::Rsa(bits) if bits < RSA_BITS => Some(format!("RSA with {bits} bits")),
            KeyKind::Rsa(bits) if bits > RSA_MOST_BITS => {
                Some(format!("RSA with {bits} bits, more than is verified"))
            }
            KeyKind::Rsa(bits) if bits % 8 != 0 => {
                Some(format!("RSA with {bits} bits, which is no whole number of bytes"))
            }
            KeyKind::Rsa(_) | KeyKind::P256 | KeyKind::P384 | KeyKind::P521 | KeyKind::Ed25519 => None,
            KeyKind::OtherCurve => Some("an elliptic curve other than P-256, P-384 and P-521".to_owned()),
            KeyKind::Other => Some("a kind of key that is not used any more, or not yet".to_owned()),
        }
    }

    /// Verifies by one algorithm, if it goes with this key.
    pub(crate) fn verify(
        &self,
        by: &dyn SignatureVerificationAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), SignatureMismatch> {
        if self.algorithm != by.public_key_alg_id().as_ref() {
            return Err(SignatureMismatch);
        }
        by.verify_signature(self.bits, message, signature).map_err(|_| SignatureMismatch)
    }

    /// Verifies by the algorithm that a certificate or list names: the content of its identifier.
    pub(super) fn verify_named(
        &self,
        algorithm: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), SignatureMismatch> {
        webpki::ALL_VERIFICATION_ALGS
            .iter()
            .filter(|by| by.signature_alg_id().as_ref() == algorithm)
            .find(|by| by.public_key_alg_id().as_ref() == self.algorithm)
            .ok_or(SignatureMismatch)
            .and_then(|by| self.verify(*by, message, signature))
    }

    fn modulus_bits(&self) -> Option<usize> {
        let key = AnyRef::from_der(self.bits).ok()?;
        let modulus = AnyRef::decode(&mut sequence(key)?).ok()?;
        let digits = modulus.value();
        let digits = digits.strip_prefix(&[0]).unwrap_or(digits);
        let zeros = digits.first()?.leading_zeros();
        Some(digits.len() * 8 - usize::try_from(zeros).ok()?)
    }
}

/// id-ecPublicKey as the first element of an algorithm identifier.
const EC_PUBLIC_KEY: &[u8] = &[0x06, 0x07, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01];

/// What is wrong with a signature algorithm (content of its identifier); `None`: it counts.
pub(super) fn signature_weakness(algorithm: &[u8]) -> Option<String> {
    if webpki::ALL_VERIFICATION_ALGS.iter().any(|by| by.signature_alg_id().as_ref() == algorithm) {
        return None;
    }
    let oid = SliceReader::new(algorithm)
        .and_then(|mut reader| <der::asn1::ObjectIdentifier>::decode(&mut reader))
        .map_or_else(|_| "(unreadable)".to_owned(), |oid| oid.to_string());
    // RFC 3279, RFC 4055, RFC 5758.
    Some(match oid.as_str() {
        "1.2.840.113549.1.1.2" => "signed with MD2".to_owned(),
        "1.2.840.113549.1.1.4" => "signed with MD5".to_owned(),
        "1.2.840.113549.1.1.5" | "1.2.840.10045.4.1" | "1.2.840.10040.4.3" | "1.3.14.3.2.29" => {
            "signed with SHA-1".to_owned()
        }
        "1.2.840.113549.1.1.14" | "1.2.840.10045.4.3.1" => "signed with SHA-224".to_owned(),
        "1.2.840.113549.1.1.10" => "signed with RSASSA-PSS in parameters that are not used".to_owned(),
        _ => format!("signed with an algorithm that is not used ({oid})"),
    })
}

/// Tbs part, signature algorithm and signature of a certificate or revocation list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Signed<'a> {
    /// What was signed, DER.
    pub(super) message: &'a [u8],
    /// Content of the algorithm identifier.
    pub(super) algorithm: &'a [u8],
    pub(super) signature: &'a [u8],
}

impl<'a> Signed<'a> {
    /// Reads the outermost sequence; nothing may follow it.
    pub(super) fn read(der: &'a [u8]) -> Option<Self> {
        let mut reader = sequence(AnyRef::from_der(der).ok()?)?;
        let message = reader.tlv_bytes().ok()?;
        let algorithm = AnyRef::decode(&mut reader).ok()?;
        sequence(algorithm)?;
        let signature = BitStringRef::decode(&mut reader).ok()?;
        reader.finish().ok()?;
        Some(Self { message, algorithm: algorithm.value(), signature: signature.as_bytes()? })
    }
}

/// The inside of a sequence.
pub(super) fn sequence(any: AnyRef<'_>) -> Option<SliceReader<'_>> {
    if der::Tagged::tag(&any) != der::Tag::Sequence {
        return None;
    }
    SliceReader::new(any.value()).ok()
}

/// DER of an element again.
pub(super) fn whole(any: AnyRef<'_>) -> Option<Vec<u8>> {
    any.to_der().ok()
}
