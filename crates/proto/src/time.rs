//! Moments, and the four spellings that the protocol has for them.

use std::fmt;
use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// A moment: microseconds since 1970-01-01T00:00:00Z.
///
/// Microseconds because the database keeps them so; whole seconds because tokens do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

/// A text that is no time in the spelling asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a time in the form {expected}: {text:?}")]
pub struct TimeError {
    expected: &'static str,
    text: String,
}

impl Timestamp {
    /// The moment this many microseconds after the epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// The moment this many seconds after the epoch.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// Microseconds since the epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// This moment and a while.
    #[must_use]
    pub fn plus(self, while_: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(while_.as_micros()).unwrap_or(i64::MAX)))
    }

    /// This moment less a while.
    #[must_use]
    pub fn minus(self, while_: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(while_.as_micros()).unwrap_or(i64::MAX)))
    }

    /// How long ago `earlier` was; zero when it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The distance between two moments, whichever came first.
    pub fn distance(self, other: Self) -> Duration {
        Duration::from_micros(self.0.abs_diff(other.0))
    }

    fn civil(self) -> DateTime {
        // Outside years -9999..=9999 nothing we print makes sense: clamp rather than fail.
        jiff::Timestamp::from_microsecond(self.0)
            .unwrap_or(if self.0 < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX })
            .to_zoned(TimeZone::UTC)
            .datetime()
    }

    /// `2026-01-31T10:45:59Z`: `SentTime`, `TimeStamp`, header times [observed].
    pub fn iso8601(self) -> String {
        self.civil().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    /// `2026-01-31 11:16:00.526`: the `ServerCookie` of policy [observed].
    pub fn cookie(self) -> String {
        self.civil().strftime("%Y-%m-%d %H:%M:%S.%3f").to_string()
    }

    /// `20260131104559.664000+000`: CIM date and time of reports [observed].
    pub fn cim(self) -> String {
        self.civil().strftime("%Y%m%d%H%M%S.%6f+000").to_string()
    }

    /// `01/31/2026 10:45:59`: local-time style of several log lines [docs].
    pub fn us(self) -> String {
        self.civil().strftime("%m/%d/%Y %H:%M:%S").to_string()
    }

    /// Reads `2026-01-31T10:45:59Z`, with or without a fraction. Anything but `Z` is refused.
    pub fn parse_iso8601(text: &str) -> Result<Self, TimeError> {
        let error = || TimeError { expected: "2026-01-31T10:45:59Z", text: text.chars().take(40).collect() };
        if !text.ends_with('Z') || text.len() > 32 {
            return Err(error());
        }
        text.parse::<jiff::Timestamp>().map(|t| Self(t.as_microsecond())).map_err(|_| error())
    }

    /// Reads the `ServerCookie` form back.
    pub fn parse_cookie(text: &str) -> Result<Self, TimeError> {
        let error =
            || TimeError { expected: "2026-01-31 11:16:00.526", text: text.chars().take(40).collect() };
        let civil = DateTime::strptime("%Y-%m-%d %H:%M:%S%.f", text).map_err(|_| error())?;
        let zoned = civil.to_zoned(TimeZone::UTC).map_err(|_| error())?;
        Ok(Self(zoned.timestamp().as_microsecond()))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.iso8601())
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spellings_show_one_moment() {
        let t = Timestamp::from_micros(1_769_858_160_526_000);
        assert_eq!(t.iso8601(), "2026-01-31T11:16:00Z");
        assert_eq!(t.cookie(), "2026-01-31 11:16:00.526");
        assert_eq!(t.cim(), "20260131111600.526000+000");
        assert_eq!(t.us(), "01/31/2026 11:16:00");
        assert_eq!(Timestamp::parse_cookie(&t.cookie()), Ok(t));
        assert_eq!(Timestamp::parse_iso8601(&t.iso8601()).unwrap().seconds(), t.seconds());
    }

    #[test]
    fn local_times_are_not_taken_for_utc() {
        for wrong in ["2026-01-31T11:16:00+01:00", "2026-01-31T11:16:00", "20260131111600.526000+000", ""] {
            assert!(Timestamp::parse_iso8601(wrong).is_err(), "{wrong}");
        }
    }
}
