//! How much somebody may hold at once, as people write it: `32`, `25 %`, `off`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};

/// So many at once, or no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AtOnce(Option<u32>);

/// A part of a whole, in percent, or no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Portion(Option<u8>);

/// Why a text is no amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseAmountError {
    /// Another form.
    #[error("how many at once is written like 32, or \"off\"")]
    AtOnce,
    /// Another form, or out of bounds.
    #[error("a part is written like \"25 %\", from 1 to 100, or \"off\"")]
    Portion,
    /// Nothing would ever pass.
    #[error("none at once would refuse everybody; \"off\" switches the limit off")]
    Zero,
}

impl AtOnce {
    /// No bound.
    pub const OFF: Self = Self(None);

    /// At most `most`, and at least one.
    pub(super) const fn new(most: u32) -> Self {
        Self(Some(if most == 0 { 1 } else { most }))
    }

    pub(super) fn most(self) -> Option<u32> {
        self.0
    }
}

impl Portion {
    /// No bound.
    pub const OFF: Self = Self(None);

    /// So many percent, from 1 to 100.
    pub(super) const fn percent(percent: u8) -> Self {
        Self(Some(percent))
    }

    /// How many that is of `whole`; at least one.
    pub(super) fn of(self, whole: u32) -> Option<u32> {
        let part = u64::from(self.0?) * u64::from(whole) / 100;
        Some(u32::try_from(part).unwrap_or(u32::MAX).max(1))
    }
}

impl FromStr for AtOnce {
    type Err = ParseAmountError;

    fn from_str(text: &str) -> Result<Self, ParseAmountError> {
        match text.trim() {
            "off" => Ok(Self::OFF),
            text => match text.parse() {
                Ok(0) => Err(ParseAmountError::Zero),
                Ok(most) => Ok(Self::new(most)),
                Err(_) => Err(ParseAmountError::AtOnce),
            },
        }
    }
}

impl FromStr for Portion {
    type Err = ParseAmountError;

    fn from_str(text: &str) -> Result<Self, ParseAmountError> {
        let text = text.trim();
        if text == "off" {
            return Ok(Self::OFF);
        }
        let percent = text.strip_suffix('%').and_then(|number| number.trim_end().parse().ok());
        percent
            .filter(|percent| (1..=100).contains(percent))
            .map(Self::percent)
            .ok_or(ParseAmountError::Portion)
    }
}

impl<'de> Deserialize<'de> for AtOnce {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// A number, or a text as people write it.
        struct Form;

        impl de::Visitor<'_> for Form {
            type Value = AtOnce;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", ParseAmountError::AtOnce)
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<AtOnce, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<AtOnce, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Form)
    }
}

impl<'de> Deserialize<'de> for Portion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_numbers_parts_and_off() {
        #[derive(Deserialize)]
        struct Read {
            one: AtOnce,
            other: AtOnce,
            part: Portion,
        }
        let read: Read = toml::from_str("one = 32\nother = \"off\"\npart = \"25 %\"").unwrap();
        assert_eq!((read.one, read.other), (AtOnce::new(32), AtOnce::OFF));
        assert_eq!(read.part.of(20_000), Some(5000));
        assert_eq!("25%".parse::<Portion>().unwrap().of(2), Some(1), "never nothing");
        assert_eq!("off".parse::<Portion>().unwrap().of(20_000), None);
        assert_eq!("100 %".parse::<Portion>().unwrap().of(u32::MAX), Some(u32::MAX));
    }

    #[test]
    fn what_cannot_work_says_why() {
        for (text, error) in [
            ("0", ParseAmountError::Zero),
            ("-1", ParseAmountError::AtOnce),
            ("many", ParseAmountError::AtOnce),
        ] {
            assert_eq!(text.parse::<AtOnce>(), Err(error), "{text}");
        }
        for text in ["0 %", "101 %", "25", "%", "-1 %", "a quarter"] {
            assert_eq!(text.parse::<Portion>(), Err(ParseAmountError::Portion), "{text}");
        }
    }
}
