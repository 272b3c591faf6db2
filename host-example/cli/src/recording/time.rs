//! When something was: read from what recordings say, and written for people.

use std::fmt;
use time::format_description::well_known::Rfc3339;
use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time};

/// A moment, to the millisecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment {
    /// Since 1970 began, by UTC.
    milliseconds: i64,
}

impl Moment {
    /// So many milliseconds after 1970 began, by UTC.
    #[must_use]
    pub fn from_milliseconds(milliseconds: i64) -> Self {
        Self { milliseconds }
    }

    /// In milliseconds since 1970 began, by UTC.
    #[must_use]
    pub fn milliseconds(self) -> i64 {
        self.milliseconds
    }

    /// A date, a date and a time, or those with an offset from UTC, which is UTC unless said, as in
    /// `2026-11-25T20:30:25.413Z`; none for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let moment = match OffsetDateTime::parse(text, &Rfc3339) {
            Ok(moment) => moment,
            Err(_) => {
                let (date, time) = text.trim().split_at_checked(10)?;
                let time = time.trim_start_matches(['T', ' ']).trim_end_matches('Z');
                let time = time.strip_suffix("+00:00").unwrap_or(time);
                PrimitiveDateTime::new(parse_date(date)?, parse_time(time)?).assume_utc()
            }
        };
        i64::try_from(moment.unix_timestamp_nanos() / 1_000_000).ok().map(Self::from_milliseconds)
    }
}

impl fmt::Display for Moment {
    /// To the second, by UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(moment) = OffsetDateTime::from_unix_timestamp(self.milliseconds.div_euclid(1_000)) else {
            return write!(f, "{} ms", self.milliseconds);
        };
        let (date, time) = (moment.date(), moment.time());
        let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
        write!(
            f,
            "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}",
            time.hour(),
            time.minute(),
            time.second()
        )
    }
}

fn parse_date(text: &str) -> Option<Date> {
    let mut parts = text.split('-');
    let year = parts.next().filter(|year| year.len() == 4)?.parse().ok()?;
    let month = Month::try_from(parts.next()?.parse::<u8>().ok()?).ok()?;
    Date::from_calendar_date(year, month, parts.next()?.parse().ok()?).ok().filter(|_| parts.next().is_none())
}

fn parse_time(text: &str) -> Option<Time> {
    if text.is_empty() {
        return Some(Time::MIDNIGHT);
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = whole.split(':').map(|part| part.parse::<u8>().ok());
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next().unwrap_or(Some(0))?);
    if parts.next().is_some() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let millisecond = format!("{fraction:0<3.3}").parse().ok()?;
    Time::from_hms_milli(hour, minute, second, millisecond).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_they_are_written() {
        for (text, milliseconds) in [
            ("1970-01-01", Some(0)),
            ("1970-01-01T00:00:01Z", Some(1_000)),
            ("1970-01-01 00:00:01.5", Some(1_500)),
            ("1970-01-01 00:00:01.9799600", Some(1_979)),
            ("1970-01-01T01:00:00+01:00", Some(0)),
            ("1970-01-01 00:01+00:00", Some(60_000)),
            ("1969-12-31T23:59:59.999Z", Some(-1)),
            ("2026-11-25T20:30:25.413Z", Some(1_795_638_625_413)),
            ("1970-01-32", None),
            ("1970-1-1", None),
            ("1970-01-01 24:00", None),
            ("1970-01-01 00:00:00.x", None),
            ("é970-01-01", None),
            ("now", None),
            ("", None),
        ] {
            assert_eq!(Moment::parse(text).map(Moment::milliseconds), milliseconds, "{text}");
        }
        assert_eq!(Moment::from_milliseconds(1_795_638_625_413).to_string(), "2026-11-25 20:30:25");
        assert_eq!(Moment::from_milliseconds(-1).to_string(), "1969-12-31 23:59:59");
        assert_eq!(Moment::from_milliseconds(i64::MAX).to_string(), "9223372036854775807 ms");
    }
}
