//! Durations as people write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A length of time in a configuration file or on the command line: `90 days`, `4320 min`, `1h30m`, `250ms`.
/// A number without a unit is refused, because readers would guess it differently.
///
/// It has whole milliseconds and at most some 584 million years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HumanDuration(Duration);

/// Why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseDurationError {
    /// There is nothing.
    #[error("a duration is missing; write it like \"90 days\" or \"1h30m\"")]
    Empty,
    /// A unit stands without a number before it.
    #[error("a number is missing before \"{0}\"; write a duration like \"90 days\" or \"1h30m\"")]
    NumberMissing(String),
    /// A number stands without a unit after it.
    #[error("a unit is missing after {0}; write a duration like \"90 days\" or \"1h30m\"")]
    UnitMissing(String),
    /// No such unit.
    #[error("\"{0}\" is no unit of time; use ms, s, min, h, days or weeks")]
    UnknownUnit(String),
    /// More than can be counted.
    #[error("the duration is too long")]
    TooLong,
}

/// Unit names with their milliseconds. The first of each length is what [`fmt::Display`] writes.
const UNITS: [(&[&str], u64); 6] = [
    (&["ms", "millisecond", "milliseconds"], 1),
    (&["s", "sec", "secs", "second", "seconds"], 1_000),
    (&["m", "min", "mins", "minute", "minutes"], 60_000),
    (&["h", "hr", "hrs", "hour", "hours"], 3_600_000),
    (&["d", "day", "days"], 86_400_000),
    (&["w", "week", "weeks"], 604_800_000),
];

impl HumanDuration {
    /// Wraps `duration`, without what is below a millisecond.
    pub fn new(duration: Duration) -> Self {
        Self(Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The duration itself.
    pub fn get(self) -> Duration {
        self.0
    }
}

impl From<HumanDuration> for Duration {
    fn from(duration: HumanDuration) -> Self {
        duration.0
    }
}

impl FromStr for HumanDuration {
    type Err = ParseDurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(ParseDurationError::Empty);
        }
        let mut total = 0_u64;
        while !rest.is_empty() {
            let (digits, after) = split(rest, |c| c.is_ascii_digit());
            let (unit, after) = split(after.trim_start(), char::is_alphabetic);
            if digits.is_empty() {
                let word = if unit.is_empty() { rest } else { unit };
                return Err(ParseDurationError::NumberMissing(word.to_owned()));
            }
            if unit.is_empty() {
                return Err(ParseDurationError::UnitMissing(digits.to_owned()));
            }
            let number: u64 = digits.parse().map_err(|_| ParseDurationError::TooLong)?;
            total = number
                .checked_mul(milliseconds_of(unit)?)
                .and_then(|part| total.checked_add(part))
                .ok_or(ParseDurationError::TooLong)?;
            rest = after.trim_start();
        }
        Ok(Self(Duration::from_millis(total)))
    }
}

/// The largest prefix of characters that `belongs` takes, and the rest.
fn split(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c| !belongs(c)).unwrap_or(text.len());
    text.split_at(end)
}

fn milliseconds_of(unit: &str) -> Result<u64, ParseDurationError> {
    let known = UNITS.iter().find(|(names, _)| names.iter().any(|name| name.eq_ignore_ascii_case(unit)));
    known.map(|&(_, length)| length).ok_or_else(|| ParseDurationError::UnknownUnit(unit.to_owned()))
}

/// Written so that it reads back as the same value: `90d`, `1h 30m`.
impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if left == 0 {
            return f.write_str("0s");
        }
        let mut gap = "";
        // Weeks are read but not written: people count long terms in days.
        for (names, length) in UNITS.iter().rev().skip(1) {
            let (count, name) = (left / length, names.first().copied().unwrap_or_default());
            left %= length;
            if count > 0 {
                write!(f, "{gap}{count}{name}")?;
                gap = " ";
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = HumanDuration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration with its unit, like \"90 days\" or \"1h30m\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Duration, ParseDurationError> {
        text.parse().map(HumanDuration::get)
    }

    #[test]
    fn the_usual_ways_of_writing_are_understood() {
        for (text, seconds) in [
            ("90 days", 90 * 86_400),
            ("4320 min", 4_320 * 60),
            ("1h30m", 5_400),
            ("1h 30 Minutes", 5_400),
            (" 3 weeks ", 21 * 86_400),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(parse("250ms"), Ok(Duration::from_millis(250)));
    }

    #[test]
    fn everything_else_is_refused_with_what_is_wrong() {
        use ParseDurationError as E;
        for (text, error) in [
            ("", E::Empty),
            ("90", E::UnitMissing("90".into())),
            ("1h30", E::UnitMissing("30".into())),
            ("days", E::NumberMissing("days".into())),
            ("-1 day", E::NumberMissing("-1 day".into())),
            ("3 moons", E::UnknownUnit("moons".into())),
            ("99999999999999999999 s", E::TooLong),
            ("18446744073709551615 s", E::TooLong),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
        assert!(parse("1.5 h").is_err(), "fractions would need rounding");
    }

    #[test]
    fn what_is_written_reads_back_as_the_same() {
        for (seconds, text) in [(0, "0s"), (5_400, "1h 30m"), (90 * 86_400, "90d"), (90_061, "1d 1h 1m 1s")] {
            let duration = HumanDuration::new(Duration::from_secs(seconds));
            assert_eq!(duration.to_string(), text);
            assert_eq!(text.parse(), Ok(duration));
        }
    }
}
