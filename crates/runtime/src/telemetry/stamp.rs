//! Dates and times of log lines. We write UTC; the field writes local time with its bias.

use std::fmt::Write;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;

/// Largest bias that a line may claim, in minutes.
const BIAS_LIMIT: i64 = 24 * 60;

/// The date and time of `now` (microseconds since the Unix epoch) in UTC; what jiff cannot hold becomes 1970.
pub(super) fn date_time(now: i64) -> DateTime {
    TimeZone::UTC.to_datetime(Timestamp::from_microsecond(now).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// Writes dates and times; most lines share their second with the one before.
#[derive(Debug, Default)]
pub(super) struct Stamps {
    /// Seconds since the Unix epoch that the texts tell.
    second: Option<i64>,
    date: String,
    clock: String,
}

/// Date and time of one line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp<'a> {
    /// `MM-dd-yyyy`.
    pub(super) date: &'a str,
    clock: &'a str,
    millisecond: i64,
}

impl Stamps {
    /// Those of `now`, in microseconds since the Unix epoch.
    pub(super) fn at(&mut self, now: i64) -> Stamp<'_> {
        let second = now.div_euclid(1_000_000);
        if self.second != Some(second) {
            self.second = Some(second);
            let at = date_time(now);
            self.date.clear();
            self.clock.clear();
            // Writing to a `String` cannot fail.
            let _ = write!(self.date, "{:02}-{:02}-{:04}", at.month(), at.day(), at.year());
            let _ = write!(self.clock, "{:02}:{:02}:{:02}", at.hour(), at.minute(), at.second());
        }
        Stamp { date: &self.date, clock: &self.clock, millisecond: now.rem_euclid(1_000_000) / 1000 }
    }
}

impl Stamp<'_> {
    /// Appends `HH:mm:ss.fff`.
    pub(super) fn write_time(&self, out: &mut String) {
        out.push_str(self.clock);
        out.push('.');
        for place in [100, 10, 1] {
            let digit = u32::try_from(self.millisecond / place % 10).unwrap_or_default();
            out.push(char::from_digit(digit, 10).unwrap_or('0'));
        }
    }
}

/// Microseconds since the Unix epoch of `MM-dd-yyyy` and `HH:mm:ss.fff±bias`, the bias in minutes being UTC
/// less local time.
pub(super) fn read(date: &str, time: &str) -> Option<i64> {
    let sign = time.rfind(['+', '-'])?;
    let (clock, bias) = (time.get(..sign)?, time.get(sign..)?);
    let bias: i64 = bias.parse().ok().filter(|bias: &i64| bias.abs() <= BIAS_LIMIT)?;
    let local = TimeZone::UTC.to_timestamp(read_date(date)?.to_datetime(read_time(clock)?)).ok()?;
    local.as_microsecond().checked_add(bias * 60_000_000)
}

fn read_date(text: &str) -> Option<Date> {
    let mut parts = text.splitn(3, '-');
    let (month, day, year) = (number(parts.next()?)?, number(parts.next()?)?, number(parts.next()?)?);
    Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()
}

fn read_time(text: &str) -> Option<Time> {
    let (text, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let mut parts = text.splitn(3, ':').map(|part| i8::try_from(number(part)?).ok());
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    if fraction.is_empty() || fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanoseconds = format!("{fraction:0<9}").parse().ok()?;
    Time::new(hour, minute, second, nanoseconds).ok()
}

fn number(text: &str) -> Option<i16> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bias_is_added_to_local_time() {
        let utc = read("03-23-2026", "14:30:00.000+000").unwrap();
        assert_eq!(utc, 1_774_276_200_000_000);
        assert_eq!(read("03-23-2026", "15:30:00.000-60"), Some(utc), "Central Europe in winter");
        assert_eq!(read("03-23-2026", "06:30:00.000+480"), Some(utc), "US Pacific in winter");
    }

    #[test]
    fn fractions_of_any_length_are_read_and_nonsense_is_not() {
        let read_time = |time| read("06-24-2020", time);
        assert_eq!(read_time("15:31:46.3760000+00"), read_time("15:31:46.376+0"));
        for time in
            ["", "15:31:46.376", "25:00:00.000+0", "15:31:46.x+0", "15:31+0", "1:2:3.4+9999", "a:b:c+0"]
        {
            assert_eq!(read_time(time), None, "{time}");
        }
        for date in ["", "24-06-2020", "06-24", "06-24-99999", "+6-24-2020"] {
            assert_eq!(read(date, "15:31:46.376+0"), None, "{date}");
        }
    }

    fn written(stamps: &mut Stamps, now: i64) -> String {
        let stamp = stamps.at(now);
        let mut out = format!("{} ", stamp.date);
        stamp.write_time(&mut out);
        out
    }

    #[test]
    fn an_instant_beyond_all_calendars_is_still_written() {
        assert!(written(&mut Stamps::default(), i64::MAX).starts_with("01-01-1970 00:00:00."));
    }

    #[test]
    fn the_next_second_has_a_stamp_of_its_own_and_so_has_the_one_before() {
        let mut stamps = Stamps::default();
        for (now, text) in [
            (1_774_276_200_123_456, "03-23-2026 14:30:00.123"),
            (1_774_276_200_999_999, "03-23-2026 14:30:00.999"),
            (1_774_276_201_005_000, "03-23-2026 14:30:01.005"),
            (1_774_276_200_000_000, "03-23-2026 14:30:00.000"),
            (-1, "12-31-1969 23:59:59.999"),
        ] {
            assert_eq!(written(&mut stamps, now), text);
        }
    }
}
