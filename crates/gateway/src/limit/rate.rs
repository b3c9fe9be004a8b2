//! How often something may happen, as people write it: `200/s burst 10000`, `30/min burst 60`, `off`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

/// Longest time that a used-up burst may take to come back. A longer one would be a quota, and quotas are
/// the site's business.
const REFILL_MAX: Duration = Duration::from_hours(24);

/// A rate in the long run, and how much of it may come at once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Time that one costs, in nanoseconds; at least 1.
    interval: u64,
    /// How many may come at once after a pause; at least 1.
    burst: u32,
}

/// Why a text is no rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseRateError {
    /// Another form.
    #[error("a rate is written like \"200/s burst 1000\", with s, min or h, or \"off\"")]
    Form,
    /// Nothing would ever pass.
    #[error("a rate of nothing would refuse everybody; \"off\" switches the limit off")]
    Zero,
    /// More than one a nanosecond.
    #[error("the rate is higher than can be counted")]
    TooFast,
    /// The burst is a quota.
    #[error("a burst that takes more than a day to come back is no burst")]
    TooLongBurst,
}

impl Rate {
    /// `count` in each `window`, and at most `burst` at once.
    pub fn new(count: u32, window: Duration, burst: u32) -> Result<Self, ParseRateError> {
        let window = u64::try_from(window.as_nanos()).map_err(|_| ParseRateError::TooLongBurst)?;
        let interval = window.checked_div(u64::from(count)).ok_or(ParseRateError::Zero)?;
        if interval == 0 {
            return Err(ParseRateError::TooFast);
        }
        if burst == 0 {
            return Err(ParseRateError::Zero);
        }
        let refill = u128::from(interval) * u128::from(burst);
        if refill > REFILL_MAX.as_nanos() {
            return Err(ParseRateError::TooLongBurst);
        }
        Ok(Self { interval, burst })
    }

    /// `times` as often, and as many at once.
    pub(super) fn times(self, times: u32) -> Self {
        let interval = (self.interval / u64::from(times.max(1))).max(1);
        Self { interval, burst: self.burst.saturating_mul(times.max(1)) }
    }

    /// The same in the long run, with a quarter of the burst left to others who take from the same bucket.
    pub(super) fn but_a_quarter(self) -> Self {
        Self { burst: (self.burst - self.burst / 4).max(1), ..self }
    }

    /// Nanoseconds that one costs.
    pub(super) fn interval(self) -> u64 {
        self.interval
    }

    /// Nanoseconds that a burst costs: at most a day, so that sums of it fit.
    pub(super) fn tolerance(self) -> u64 {
        self.interval.saturating_mul(u64::from(self.burst))
    }
}

impl FromStr for Rate {
    type Err = ParseRateError;

    fn from_str(text: &str) -> Result<Self, ParseRateError> {
        let (rate, burst) = text.trim().split_once(" burst ").ok_or(ParseRateError::Form)?;
        let (count, unit) = rate.split_once('/').ok_or(ParseRateError::Form)?;
        let window = match unit.trim() {
            "s" => Duration::from_secs(1),
            "min" => Duration::from_mins(1),
            "h" => Duration::from_hours(1),
            _ => return Err(ParseRateError::Form),
        };
        let number = |text: &str| text.trim().parse().map_err(|_| ParseRateError::Form);
        Self::new(number(count)?, window, number(burst)?)
    }
}

impl fmt::Debug for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1/{:?} burst {}", Duration::from_nanos(self.interval), self.burst)
    }
}

/// A rate, or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit(pub(super) Option<Rate>);

impl Limit {
    /// No limit.
    pub const OFF: Self = Self(None);
}

impl From<Rate> for Limit {
    fn from(rate: Rate) -> Self {
        Self(Some(rate))
    }
}

impl FromStr for Limit {
    type Err = ParseRateError;

    fn from_str(text: &str) -> Result<Self, ParseRateError> {
        if text.trim() == "off" { Ok(Self::OFF) } else { Ok(Self(Some(text.parse()?))) }
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_with_their_unit_and_burst() {
        let second = Rate::new(200, Duration::from_secs(1), 1000).unwrap();
        assert_eq!("200/s burst 1000".parse(), Ok(Limit::from(second)));
        assert_eq!((second.interval(), second.tolerance()), (5_000_000, 5_000_000_000));
        let minute: Rate = " 30/min burst 60 ".parse().unwrap();
        assert_eq!((minute.interval(), minute.tolerance()), (2_000_000_000, 120_000_000_000));
        assert_eq!("off".parse(), Ok(Limit::OFF));
    }

    #[test]
    fn a_rate_can_be_given_several_times_or_but_for_a_quarter_of_its_burst() {
        let rate: Rate = "200/s burst 1000".parse().unwrap();
        assert_eq!(rate.times(4), "800/s burst 4000".parse().unwrap());
        assert_eq!(rate.but_a_quarter(), "200/s burst 750".parse().unwrap());
        let least: Rate = "1/h burst 1".parse().unwrap();
        assert_eq!(least.but_a_quarter(), least, "it never becomes nothing");
    }

    #[test]
    fn what_cannot_work_says_why() {
        use ParseRateError as E;
        for (text, error) in [
            ("", E::Form),
            ("200", E::Form),
            ("200/s", E::Form),
            ("200/day burst 5", E::Form),
            ("-1/s burst 5", E::Form),
            ("1.5/s burst 5", E::Form),
            ("1/s burst", E::Form),
            ("99999999999/s burst 5", E::Form),
            ("0/s burst 5", E::Zero),
            ("5/s burst 0", E::Zero),
            ("2000000000/s burst 1", E::TooFast),
            ("1/h burst 25", E::TooLongBurst),
            ("Off", E::Form),
        ] {
            assert_eq!(text.parse::<Limit>(), Err(error), "{text}");
        }
    }
}
