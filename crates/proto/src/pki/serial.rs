//! Serial numbers of certificates.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text::hex;

/// Bytes of the longest serial number (RFC 5280, section 4.1.2.2).
pub(super) const SERIAL_BYTES: usize = 20;

/// A certificate's serial number: not negative, at most 20 bytes. Ordered as a number; written as
/// upper-case hex without leading zeros.
///
/// Fixed in size, because lists hold a million of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial([u8; SERIAL_BYTES]);

/// Not a serial number that a certificate may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SerialError {
    /// Below zero, or no number at all.
    #[error("a serial number is not negative")]
    Negative,
    /// More than 20 bytes.
    #[error("a serial number has at most 20 bytes")]
    TooLong,
    /// The text is no hex.
    #[error("a serial number is written in hex")]
    NotHex,
}

impl Serial {
    /// The serial number that stands so in DER: the content bytes of an INTEGER.
    pub fn from_der_integer(content: &[u8]) -> Result<Self, SerialError> {
        match content.first() {
            None | Some(0x80..) => Err(SerialError::Negative),
            Some(_) => Self::from_magnitude(content),
        }
    }

    /// The serial number of these bytes, the most significant first.
    pub fn from_magnitude(bytes: &[u8]) -> Result<Self, SerialError> {
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let digits = bytes.get(zeros..).unwrap_or_default();
        let mut serial = [0; SERIAL_BYTES];
        let start = SERIAL_BYTES.checked_sub(digits.len()).ok_or(SerialError::TooLong)?;
        if let Some(place) = serial.get_mut(start..) {
            place.copy_from_slice(digits);
        }
        Ok(Self(serial))
    }

    /// Without leading zeros, the most significant byte first; empty for zero.
    pub fn magnitude(&self) -> &[u8] {
        let zeros = self.0.iter().take_while(|byte| **byte == 0).count();
        self.0.get(zeros..).unwrap_or_default()
    }

    /// Whether it is zero, which no certificate may have (RFC 5280, section 4.1.2.2).
    pub fn is_zero(&self) -> bool {
        self.0 == [0; SERIAL_BYTES]
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return f.write_str("00");
        }
        f.write_str(&hex::encode(self.magnitude()))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Serial {
    type Err = SerialError;

    fn from_str(text: &str) -> Result<Self, SerialError> {
        let bytes = hex::decode(text, SERIAL_BYTES).map_err(|error| match error {
            hex::HexError::TooLong { .. } => SerialError::TooLong,
            hex::HexError::OddLength | hex::HexError::NotHex(_) => SerialError::NotHex,
        })?;
        Self::from_magnitude(&bytes)
    }
}

impl Serialize for Serial {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Serial {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_equal_however_many_zeros_lead_them() {
        let one = Serial::from_der_integer(&[0, 0x81]).unwrap();
        assert_eq!(one, Serial::from_magnitude(&[0, 0, 0x81]).unwrap());
        assert_eq!(one.to_string(), "81");
        assert_eq!("0081".parse(), Ok(one));
        assert!(one < Serial::from_magnitude(&[1, 0]).unwrap());
        assert_eq!(Serial::from_magnitude(&[]).unwrap().to_string(), "00");
    }

    #[test]
    fn what_no_certificate_may_have_is_refused() {
        assert_eq!(Serial::from_der_integer(&[]), Err(SerialError::Negative));
        assert_eq!(Serial::from_der_integer(&[0x81]), Err(SerialError::Negative));
        assert_eq!(Serial::from_magnitude(&[1; 21]), Err(SerialError::TooLong));
        assert!(Serial::from_magnitude(&[0xFF; 20]).is_ok());
        assert_eq!("0g".parse::<Serial>(), Err(SerialError::NotHex));
    }
}
