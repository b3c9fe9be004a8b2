//! PUBLICKEYBLOB: an RSA public key as Windows CryptoAPI writes it. It stands in the
//! `PublicKey` property of a signed message and in the trusted root key [observed].
//!
//! Nobody is authenticated by it: the key that counts is the registered one.

use crate::message::signature::{KeyError, RsaPublicKey};
use crate::text::hex;

/// Type PUBLICKEYBLOB, version 2, reserved, CALG_RSA_KEYX.
const BLOB_HEADER: [u8; 8] = [0x06, 0x02, 0x00, 0x00, 0x00, 0xA4, 0x00, 0x00];
const MAGIC: [u8; 4] = *b"RSA1";
/// Bytes of the largest blob: header, magic, bits, exponent, 4096 bits of modulus.
const MAX_BYTES: usize = 20 + 512;

/// Why bytes are no public key blob.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// Not hex.
    #[error("a public key blob that is not hex")]
    NotHex(#[source] hex::HexError),
    /// Another header, or a length that does not fit.
    #[error("not a public key blob")]
    Malformed,
    /// A key that is too weak.
    #[error("a public key blob with an unacceptable key")]
    Key(#[source] KeyError),
}

/// Builds the blob: 276 bytes for a 2048-bit key, numbers little-endian [observed].
pub fn build(key: &RsaPublicKey) -> Vec<u8> {
    let bits = u32::try_from(key.modulus().len() * 8).unwrap_or(u32::MAX);
    let mut exponent: Vec<u8> = key.exponent().iter().rev().copied().collect();
    exponent.resize(4, 0);
    let mut blob = Vec::with_capacity(MAX_BYTES);
    blob.extend_from_slice(&BLOB_HEADER);
    blob.extend_from_slice(&MAGIC);
    blob.extend_from_slice(&bits.to_le_bytes());
    blob.extend_from_slice(&exponent);
    blob.extend(key.modulus().iter().rev());
    blob
}

/// Builds the blob as upper-case hex, the form on the wire.
pub fn build_hex(key: &RsaPublicKey) -> String {
    hex::encode(&build(key))
}

/// Reads a blob. Nothing may follow the modulus.
pub fn parse(blob: &[u8]) -> Result<RsaPublicKey, BlobError> {
    let rest = blob
        .strip_prefix(&BLOB_HEADER)
        .and_then(|rest| rest.strip_prefix(&MAGIC))
        .ok_or(BlobError::Malformed)?;
    let (bits, rest) = rest.split_first_chunk::<4>().ok_or(BlobError::Malformed)?;
    let (exponent, modulus) = rest.split_first_chunk::<4>().ok_or(BlobError::Malformed)?;
    if usize::try_from(u32::from_le_bytes(*bits)) != Ok(modulus.len() * 8) || blob.len() > MAX_BYTES {
        return Err(BlobError::Malformed);
    }
    let modulus: Vec<u8> = modulus.iter().rev().copied().collect();
    let exponent = u32::from_le_bytes(*exponent).to_be_bytes();
    RsaPublicKey::new(&modulus, &exponent).map_err(BlobError::Key)
}

/// Reads a blob written in hex.
pub fn parse_hex(text: &str) -> Result<RsaPublicKey, BlobError> {
    parse(&hex::decode(text.trim(), MAX_BYTES).map_err(BlobError::NotHex)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> RsaPublicKey {
        let mut modulus: Vec<u8> = (0..=255).collect();
        modulus[0] = 0x80;
        RsaPublicKey::new(&modulus, &[1, 0, 1]).unwrap()
    }

    #[test]
    fn a_blob_begins_as_observed_and_comes_back() {
        let text = build_hex(&key());
        assert!(text.starts_with("0602000000A40000525341310008000001000100FFFEFD"), "{text:.60}");
        assert_eq!(text.len(), 552);
        assert_eq!(parse_hex(&text), Ok(key()));
    }

    #[test]
    fn every_damage_to_the_frame_is_refused() {
        let blob = build(&key());
        for length in 0..blob.len() {
            assert!(parse(&blob[..length]).is_err(), "{length}");
        }
        for index in 0..16 {
            let mut damaged = blob.clone();
            damaged[index] ^= 1;
            assert_eq!(parse(&damaged), Err(BlobError::Malformed), "{index}");
        }
        let mut longer = blob;
        longer.push(0);
        assert_eq!(parse(&longer), Err(BlobError::Malformed));
        assert!(matches!(parse_hex("xx"), Err(BlobError::NotHex(_))));
        assert!(matches!(parse_hex(&"00".repeat(600)), Err(BlobError::NotHex(_))));
    }
}
