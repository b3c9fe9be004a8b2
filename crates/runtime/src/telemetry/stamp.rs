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

/// Appends `MM-dd-yyyy`.
pub(super) fn write_date(out: &mut String, date_time: DateTime) {
    let _ = write!(out, "{:02}-{:02}-{:04}", date_time.month(), date_time.day(), date_time.year());
}

/// Appends `HH:mm:ss.fff`.
pub(super) fn write_time(out: &mut String, date_time: DateTime) {
    let (h, m, s) = (date_time.hour(), date_time.minute(), date_time.second());
    let _ = write!(out, "{h:02}:{m:02}:{s:02}.{:03}", date_time.subsec_nanosecond() / 1_000_000);
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

    #[test]
    fn an_instant_beyond_all_calendars_is_still_written() {
        let mut out = String::new();
        write_date(&mut out, date_time(i64::MAX));
        assert_eq!(out, "01-01-1970");
    }
}
