//! Sizes as people write them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A number of bytes in a configuration file: `65536`, `64 KiB`, `250 kB`, `1 GiB`. `K` is 1,000 and `Ki`
/// 1,024 of the next smaller one, as the standards have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

/// Why a text is not a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseSizeError {
    /// There is no number.
    #[error("a number is missing in \"{0}\"; write a size like 65536 or \"64 KiB\"")]
    NumberMissing(String),
    /// No such unit.
    #[error("\"{0}\" is no unit of size; use B, kB, MB, GB, KiB, MiB or GiB")]
    UnknownUnit(String),
    /// More than can be counted.
    #[error("the size is too large")]
    TooLarge,
}

const UNITS: [(&str, u64); 9] = [
    ("b", 1),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
];

impl ByteSize {
    /// That many bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = ParseSizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(end);
        if digits.is_empty() {
            return Err(ParseSizeError::NumberMissing(text.to_owned()));
        }
        let number: u64 = digits.parse().map_err(|_| ParseSizeError::TooLarge)?;
        let unit = unit.trim();
        let factor = if unit.is_empty() {
            1
        } else {
            let known = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
            known.ok_or_else(|| ParseSizeError::UnknownUnit(unit.to_owned()))?.1
        };
        number.checked_mul(factor).map(Self).ok_or(ParseSizeError::TooLarge)
    }
}

/// Written so that it reads back as the same value: in the largest binary unit that leaves no rest.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        match units.iter().find(|(_, length)| self.0 != 0 && self.0.is_multiple_of(*length)) {
            Some((name, length)) => write!(f, "{} {name}", self.0 / length),
            None => write!(f, "{} B", self.0),
        }
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = ByteSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size in bytes, or with its unit, like \"64 KiB\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<Self::Value, E> {
                Ok(ByteSize(bytes))
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Self::Value, E> {
                u64::try_from(bytes).map(ByteSize).map_err(|_| E::custom("a size cannot be negative"))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_ways_of_writing_are_understood() {
        for (text, bytes) in [
            ("65536", 65_536),
            ("64 KiB", 65_536),
            ("250kB", 250_000),
            ("1 GiB", 1 << 30),
            (" 7 b ", 7),
            ("0", 0),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize::new(bytes)), "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused_with_what_is_wrong() {
        use ParseSizeError as E;
        for (text, error) in [
            ("", E::NumberMissing(String::new())),
            ("KiB", E::NumberMissing("KiB".into())),
            ("-1", E::NumberMissing("-1".into())),
            ("1 KiBi", E::UnknownUnit("KiBi".into())),
            ("99999999999999999999", E::TooLarge),
            ("99999999999 TiB", E::TooLarge),
        ] {
            assert_eq!(text.parse::<ByteSize>(), Err(error), "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back_as_the_same() {
        for (bytes, text) in [(0, "0 B"), (250_000, "250000 B"), (65_536, "64 KiB"), (3 << 30, "3 GiB")] {
            assert_eq!(ByteSize::new(bytes).to_string(), text);
            assert_eq!(text.parse(), Ok(ByteSize::new(bytes)));
        }
    }

    #[derive(Deserialize)]
    struct Row {
        size: ByteSize,
    }

    #[test]
    fn a_file_may_hold_a_number_or_a_text_but_nothing_negative() {
        let parse = |text| toml::from_str::<Row>(text).map(|row| row.size.bytes());
        assert_eq!(parse("size = 10000").unwrap(), 10_000);
        assert_eq!(parse("size = \"10 kB\"").unwrap(), 10_000);
        assert!(parse("size = -1").unwrap_err().message().contains("cannot be negative"));
    }
}
