//! Text as it travels: UTF-16LE, hex, and XML that cannot hurt.
//!
//! | for | module |
//! |---|---|
//! | UTF-16LE to `String` and back | here |
//! | typed values out of XML | [`field`] |
//! | hex of certificates, keys and signatures | [`hex`] |
//! | reading XML from strangers | [`xml`] |
//! | writing XML | [`write`] |

pub mod field;
pub mod hex;
pub mod write;
pub mod xml;

use encoding_rs::UTF_16LE;

pub use xml::check_xml;

/// The byte order mark in front of a message header and of a policy body [observed].
pub const BOM: [u8; 2] = [0xFF, 0xFE];

/// Bytes that are not the UTF-16LE text they were taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Utf16Error {
    /// The text does not begin with `FF FE`.
    #[error("no UTF-16 byte order mark")]
    MissingBom,
    /// Half a character at the end.
    #[error("an odd number of bytes ({0}) is no UTF-16")]
    OddLength(usize),
    /// A surrogate without its partner.
    #[error("unpaired surrogate")]
    UnpairedSurrogate,
}

/// Reads UTF-16LE without a BOM. A BOM in front is kept as the character it is.
pub fn decode_utf16le(bytes: &[u8]) -> Result<String, Utf16Error> {
    if !bytes.len().is_multiple_of(2) {
        return Err(Utf16Error::OddLength(bytes.len()));
    }
    UTF_16LE
        .decode_without_bom_handling_and_without_replacement(bytes)
        .map(std::borrow::Cow::into_owned)
        .ok_or(Utf16Error::UnpairedSurrogate)
}

/// Reads UTF-16LE that must begin with a BOM, as message headers and policy bodies do [observed].
pub fn decode_with_bom(bytes: &[u8]) -> Result<String, Utf16Error> {
    decode_utf16le(bytes.strip_prefix(&BOM).ok_or(Utf16Error::MissingBom)?)
}

/// Reads UTF-16LE and takes off what clients put around a body: BOM, NUL, CR, LF [observed].
///
/// The two bytes `0D 0A` behind a body are raw bytes, so a range that is too long by two
/// reads them as U+0A0D. That code point is not assigned; it is taken off as well.
pub fn decode_trimmed(bytes: &[u8]) -> Result<String, Utf16Error> {
    let text = decode_utf16le(bytes)?;
    Ok(trim_body(&text).to_owned())
}

fn trim_body(text: &str) -> &str {
    text.trim_matches(['\u{FEFF}', '\0', '\r', '\n', '\u{A0D}'])
}

/// Writes UTF-16LE without BOM or terminator.
pub fn encode_utf16le(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() * 2 + 4);
    append_utf16le(&mut bytes, text);
    bytes
}

/// Writes a BOM and UTF-16LE.
pub fn encode_with_bom(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() * 2 + 2);
    bytes.extend_from_slice(&BOM);
    append_utf16le(&mut bytes, text);
    bytes
}

/// Writes UTF-16LE and one NUL character: message bodies, and what header signatures cover [observed].
pub fn encode_with_nul(text: &str) -> Vec<u8> {
    let mut bytes = encode_utf16le(text);
    bytes.extend_from_slice(&[0, 0]);
    bytes
}

fn append_utf16le(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_comes_back_as_written() {
        let text = "Größe 𝄞 <a/>";
        assert_eq!(decode_utf16le(&encode_utf16le(text)).as_deref(), Ok(text));
        assert_eq!(decode_with_bom(&encode_with_bom(text)).as_deref(), Ok(text));
        assert_eq!(decode_trimmed(&encode_with_nul(text)).as_deref(), Ok(text));
    }

    #[test]
    fn faults_of_utf_16_are_told_apart() {
        assert_eq!(decode_utf16le(b"a"), Err(Utf16Error::OddLength(1)));
        assert_eq!(decode_utf16le(&[0x00, 0xD8, b'a', 0]), Err(Utf16Error::UnpairedSurrogate));
        assert_eq!(decode_utf16le(&[0x00, 0xDC]), Err(Utf16Error::UnpairedSurrogate));
        assert_eq!(decode_utf16le(&[0x00, 0xD8]), Err(Utf16Error::UnpairedSurrogate));
        assert_eq!(decode_with_bom(b"a\0"), Err(Utf16Error::MissingBom));
        assert_eq!(decode_with_bom(&[0xFE, 0xFF, 0, b'a']), Err(Utf16Error::MissingBom));
    }

    #[test]
    fn a_body_loses_what_clients_put_around_it_and_nothing_else() {
        let mut bytes = encode_with_bom("<a> \u{FEFF} </a>\r\n");
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(b"\r\n");
        assert_eq!(decode_trimmed(&bytes).as_deref(), Ok("<a> \u{FEFF} </a>"));
    }
}
