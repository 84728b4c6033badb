//! Dates in events: the gateway's lenient reading and its one form of writing.
//!
//! Two readings exist on purpose. [`parse`] takes what RudderStack's server takes for
//! `originalTimestamp`, `sentAt`, and `timestamp`. [`iso::unix_ms`] is the narrow ISO grammar that
//! event ids are made from; it must never change, since a changed id doubles events.

pub mod iso;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};

const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// A point in time with the offset in which it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Nanoseconds since the Unix epoch.
    pub unix_nanos: i128,
    /// Minutes east of UTC.
    pub offset_minutes: i32,
}

impl Moment {
    /// Makes a moment in UTC.
    #[must_use]
    pub fn utc(time: DateTime<Utc>) -> Self {
        let nanos = i128::from(time.timestamp()) * NANOS_PER_SECOND
            + i128::from(time.timestamp_subsec_nanos());
        Self { unix_nanos: nanos, offset_minutes: 0 }
    }

    /// Returns `self − (sent − original)` in the offset of `self`: the time at which something
    /// happened, by a clock that is right, when the client's clock is only equal to itself.
    #[must_use]
    pub fn corrected(self, original: Self, sent: Self) -> Self {
        Self { unix_nanos: self.unix_nanos - (sent.unix_nanos - original.unix_nanos), ..self }
    }

    /// Writes RFC 3339 with exactly three decimals, cut, and the own offset (`Z` for UTC).
    #[must_use]
    pub fn to_text(self) -> String {
        let local = self.unix_nanos + i128::from(self.offset_minutes) * 60 * NANOS_PER_SECOND;
        let ms = i64::try_from(local.div_euclid(1_000_000)).unwrap_or(0);
        let (days, ms) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
        let (year, month, day) = civil(days);
        let mut text = String::with_capacity(29);
        let digits = if (0..10_000).contains(&year) { 4 } else { 5 };
        if year < 0 {
            text.push('-');
        }
        push(&mut text, year.abs(), digits);
        for (mark, number, digits) in [
            ('-', month, 2),
            ('-', day, 2),
            ('T', ms / 3_600_000, 2),
            (':', ms / 60_000 % 60, 2),
            (':', ms / 1000 % 60, 2),
            ('.', ms % 1000, 3),
        ] {
            text.push(mark);
            push(&mut text, number, digits);
        }
        if self.offset_minutes == 0 {
            text.push('Z');
        } else {
            let offset = i64::from(self.offset_minutes.abs());
            text.push(if self.offset_minutes < 0 { '-' } else { '+' });
            push(&mut text, offset / 60, 2);
            text.push(':');
            push(&mut text, offset % 60, 2);
        }
        text
    }
}

/// Reads a text as RudderStack's server reads times: RFC 3339 and its relatives, RFC 1123, dates
/// with names of months, and Unix seconds, milliseconds, microseconds, or nanoseconds as digits.
///
/// A date without a zone is UTC. Dates that do not exist are refused.
#[must_use]
pub fn parse(text: &str) -> Option<Moment> {
    let text = text.trim();
    iso_like(text.as_bytes()).or_else(|| digits(text)).or_else(|| named(text))
}

/// Tells whether a text that [`parse`] took is what [`Moment::to_text`] would write, for the form
/// that SDKs use, `2026-11-20T10:00:00.000Z`; `false` says nothing.
#[must_use]
pub fn is_usual(text: &str) -> bool {
    let bytes = text.as_bytes();
    let at = |place: usize| bytes.get(place).copied();
    bytes.len() == 24
        && at(4) == Some(b'-')
        && at(10) == Some(b'T')
        && at(19) == Some(b'.')
        && at(22).is_some_and(|byte| byte.is_ascii_digit())
        && at(23) == Some(b'Z')
}

/// Appends the last `digits` digits of a number that is not negative.
fn push(text: &mut String, number: i64, digits: u32) {
    for place in (0..digits).rev() {
        let digit = number / 10_i64.pow(place) % 10;
        text.push(char::from(b'0' + u8::try_from(digit).unwrap_or(0)));
    }
}

/// Days since 1970-01-01 of a day in the proleptic Gregorian calendar.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    // Years that begin in March have their leap day at the end.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Inverse of [`days_from_civil`].
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// A walk over the bytes of a date.
#[derive(Clone, Copy)]
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    /// Takes exactly `n` digits.
    fn digits(&mut self, n: usize) -> Option<i64> {
        let (digits, rest) = self.0.split_at_checked(n)?;
        let mut number = 0;
        for digit in digits {
            if !digit.is_ascii_digit() {
                return None;
            }
            number = number * 10 + i64::from(digit - b'0');
        }
        self.0 = rest;
        Some(number)
    }

    /// Takes the next byte if it is one of `bytes`.
    fn take(&mut self, bytes: &[u8]) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        if bytes.contains(&first) {
            self.0 = rest;
            return Some(first);
        }
        None
    }

    /// Takes a text, without regard to ASCII case.
    fn word(&mut self, word: &str) -> Option<()> {
        let (head, rest) = self.0.split_at_checked(word.len())?;
        if !head.eq_ignore_ascii_case(word.as_bytes()) {
            return None;
        }
        self.0 = rest;
        Some(())
    }

    /// Takes at least one digit of a fraction of a second; returns nanoseconds, cut.
    fn fraction(&mut self) -> Option<i64> {
        let digits = self.0.iter().take_while(|b| b.is_ascii_digit()).count();
        let mut nanos = 0;
        let (head, rest) = self.0.split_at_checked(digits)?;
        for at in 0..9 {
            nanos = nanos * 10 + head.get(at).map_or(0, |b| i64::from(b - b'0'));
        }
        self.0 = rest;
        (digits > 0).then_some(nanos)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// `YYYY-MM-DD[(T| )HH:MM[:SS[.f]][ ][Z|UTC|GMT|±HH[:MM]]]`, also with slashes.
fn iso_like(text: &[u8]) -> Option<Moment> {
    let mut at = Cursor(text);
    let year = at.digits(4)?;
    let separator = at.take(b"-/")?;
    let month = at.digits(2)?;
    at.take(&[separator])?;
    let day = at.digits(2)?;
    let (mut seconds, mut nanos, mut offset_minutes) = (0, 0, 0);
    if !at.is_empty() {
        at.take(b"Tt ")?;
        let hour = at.digits(2)?;
        at.take(b":")?;
        let minute = at.digits(2)?;
        let mut second = 0;
        if at.take(b":").is_some() {
            second = at.digits(2)?;
            if at.take(b".,").is_some() {
                nanos = at.fraction()?;
            }
        }
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        seconds = hour * 3600 + minute * 60 + second;
        offset_minutes = zone(&mut at)?;
    }
    if !at.is_empty() || !(1..=12).contains(&month) || !(1..=days_in(year, month)).contains(&day) {
        return None;
    }
    let seconds = days_from_civil(year, month, day) * 86_400 + seconds;
    let local = i128::from(seconds) * NANOS_PER_SECOND + i128::from(nanos);
    let unix_nanos = local - i128::from(offset_minutes) * 60 * NANOS_PER_SECOND;
    Some(Moment { unix_nanos, offset_minutes })
}

/// Takes a zone, or the end; returns minutes east of UTC.
fn zone(at: &mut Cursor<'_>) -> Option<i32> {
    if at.is_empty() {
        return Some(0);
    }
    let blank = at.take(b" ").is_some();
    let mut offset = 0;
    if let Some(sign) = at.take(b"+-") {
        let hours = at.digits(2)?;
        let colon = at.take(b":").is_some();
        let more = colon || at.0.first().is_some_and(u8::is_ascii_digit);
        let minutes = if more { at.digits(2)? } else { 0 };
        if hours > 23 || minutes > 59 {
            return None;
        }
        offset = i32::try_from(hours * 60 + minutes).ok()?;
        if sign == b'-' {
            offset = -offset;
        }
    } else if at.take(b"Zz").is_none() {
        if !blank {
            return None;
        }
        at.word("UTC").or_else(|| at.word("GMT"))?;
    }
    // What Go prints: `2026-11-20 10:00:00 +0000 UTC`.
    if blank && !at.is_empty() {
        at.word(" UTC").or_else(|| at.word(" GMT"))?;
    }
    Some(offset)
}

/// Only digits: the number of them tells what they are.
fn digits(text: &str) -> Option<Moment> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: i128 = text.parse().ok()?;
    let unix_nanos = match text.len() {
        10 => number * NANOS_PER_SECOND,
        13 => number * 1_000_000,
        16 => number * 1000,
        19 => number,
        4 => return iso_like(format!("{text}-01-01").as_bytes()),
        8 => return naive(NaiveDate::parse_from_str(text, "%Y%m%d").ok()?.into()),
        14 => return naive(NaiveDateTime::parse_from_str(text, "%Y%m%d%H%M%S").ok()?),
        _ => return None,
    };
    Some(Moment { unix_nanos, offset_minutes: 0 })
}

/// Forms with names of months or days, and the American form with slashes.
fn named(text: &str) -> Option<Moment> {
    const ZONED: [&str; 4] = [
        "%A, %d-%b-%y %H:%M:%S %z",
        "%a %b %e %H:%M:%S %z %Y",
        "%a %b %d %Y %H:%M:%S GMT%z",
        "%d %b %Y %H:%M:%S %z",
    ];
    const LOCAL: [&str; 8] = [
        "%a %b %e %H:%M:%S %Y",
        "%B %d, %Y %H:%M:%S",
        "%B %d, %Y, %H:%M:%S",
        "%d %B %Y %H:%M:%S",
        "%m/%d/%Y %H:%M:%S",
        "%m/%d/%Y %H:%M",
        "%m/%d/%Y %I:%M:%S %p",
        "%m/%d/%Y, %I:%M:%S %p",
    ];
    const DATES: [&str; 4] = ["%B %d, %Y", "%d %B %Y", "%m/%d/%Y", "%B %d %Y"];
    // JavaScript's Date writes the zone's name behind: `… GMT+0100 (CET)`.
    let text = text.split_once(" (").map_or(text, |(head, _)| head);
    if text.len() < 8 || !text.is_ascii() {
        return None;
    }
    let text = &text.replace(" UTC", " +0000").replace(" GMT ", " +0000 ");
    let text =
        text.strip_suffix(" GMT").map_or_else(|| text.clone(), |head| format!("{head} +0000"));
    let zoned = DateTime::parse_from_rfc2822(&text)
        .ok()
        .or_else(|| ZONED.iter().find_map(|form| DateTime::parse_from_str(&text, form).ok()));
    if let Some(time) = zoned {
        let offset_minutes = time.offset().local_minus_utc() / 60;
        return Some(Moment { offset_minutes, ..Moment::utc(time.to_utc()) });
    }
    let local = LOCAL.iter().find_map(|form| NaiveDateTime::parse_from_str(&text, form).ok());
    let date = || DATES.iter().find_map(|form| NaiveDate::parse_from_str(&text, form).ok());
    naive(local.or_else(|| date().map(|date| date.and_time(NaiveTime::MIN)))?)
}

fn naive(time: NaiveDateTime) -> Option<Moment> {
    Some(Moment::utc(time.and_utc()))
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone as _;

    use super::*;

    fn text(input: &str) -> Option<String> {
        parse(input).map(Moment::to_text)
    }

    #[test]
    fn rfc_3339_is_rewritten_with_three_decimals_and_its_offset() {
        for (input, output) in [
            ("2026-11-20T10:00:00.000Z", "2026-11-20T10:00:00.000Z"),
            ("2026-11-20T10:00:00Z", "2026-11-20T10:00:00.000Z"),
            ("2026-11-20t10:00:00.1z", "2026-11-20T10:00:00.100Z"),
            ("2026-11-20T10:00:00.123999999Z", "2026-11-20T10:00:00.123Z"),
            ("2026-11-20T14:30:00+02:00", "2026-11-20T14:30:00.000+02:00"),
            ("2026-11-20T14:30:00.5-0330", "2026-11-20T14:30:00.500-03:30"),
            ("2026-11-20T14:30:00+00:00", "2026-11-20T14:30:00.000Z"),
            ("1969-12-31T23:59:59.999Z", "1969-12-31T23:59:59.999Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000Z"),
            ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00.000Z"),
        ] {
            assert_eq!(text(input).as_deref(), Some(output), "{input}");
        }
    }

    #[test]
    fn the_usual_form_is_the_written_one() {
        for input in [
            "2026-11-20T10:00:00.000Z",
            "2026-11-20t10:00:00.000Z",
            "2026-11-20T10:00:00.000z",
            "2026/11/20T10:00:00.000Z",
            "2026-11-20T10:00:00,000Z",
            "2026-11-20T10:00:00+01:00",
            "2026-11-20T10:00:00.00 Z",
            "2026-11-20 10:00:00.000Z",
            "2026-11-20T10:00:00.0000Z",
        ] {
            let unchanged = text(input).as_deref() == Some(input);
            assert_eq!(parse(input).is_some() && is_usual(input), unchanged, "{input}");
        }
    }

    #[test]
    fn relatives_are_read_as_the_gateway_reads_them() {
        for (input, output) in [
            ("2006-01-02 15:04:05", "2006-01-02T15:04:05.000Z"),
            (" 2006-01-02 15:04 ", "2006-01-02T15:04:00.000Z"),
            ("2006-01-02 15:04:05.25 +0100", "2006-01-02T15:04:05.250+01:00"),
            ("2006-01-02 15:04:05 +0000 UTC", "2006-01-02T15:04:05.000Z"),
            ("2006-01-02 15:04:05 UTC", "2006-01-02T15:04:05.000Z"),
            ("2006-01-02", "2006-01-02T00:00:00.000Z"),
            ("2006/01/02 15:04:05", "2006-01-02T15:04:05.000Z"),
            ("2006", "2006-01-01T00:00:00.000Z"),
            ("20060102", "2006-01-02T00:00:00.000Z"),
            ("20060102150405", "2006-01-02T15:04:05.000Z"),
            ("1136214245", "2006-01-02T15:04:05.000Z"),
            ("1136214245123", "2006-01-02T15:04:05.123Z"),
            ("1136214245123456", "2006-01-02T15:04:05.123Z"),
            ("1136214245123456789", "2006-01-02T15:04:05.123Z"),
            ("Mon, 02 Jan 2006 15:04:05 GMT", "2006-01-02T15:04:05.000Z"),
            ("Mon, 02 Jan 2006 15:04:05 UTC", "2006-01-02T15:04:05.000Z"),
            ("Mon, 02 Jan 2006 15:04:05 -0700", "2006-01-02T15:04:05.000-07:00"),
            ("Monday, 02-Jan-06 15:04:05 GMT", "2006-01-02T15:04:05.000Z"),
            ("Mon Jan  2 15:04:05 2006", "2006-01-02T15:04:05.000Z"),
            ("Mon Jan 02 2006 15:04:05 GMT+0100 (CET)", "2006-01-02T15:04:05.000+01:00"),
            ("January 2, 2006", "2006-01-02T00:00:00.000Z"),
            ("Jan 2, 2006 15:04:05", "2006-01-02T15:04:05.000Z"),
            ("2 Jan 2006", "2006-01-02T00:00:00.000Z"),
            ("01/02/2006", "2006-01-02T00:00:00.000Z"),
            ("01/02/2006, 03:04:05 PM", "2006-01-02T15:04:05.000Z"),
        ] {
            assert_eq!(text(input).as_deref(), Some(output), "{input}");
        }
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for input in [
            "",
            " ",
            "soon",
            "12",
            "5",
            "2026-13-01",
            "2026-02-30",
            "2025-02-29T00:00:00Z",
            "2026-11-20T24:00:00Z",
            "2026-11-20T10:60:00Z",
            "2026-11-20T10:00:00.Z",
            "2026-11-20T10:00:00Zx",
            "2026-11-20T",
            "2026-11/20",
            "٢٠٢٦-11-20",
            "é",
        ] {
            assert_eq!(text(input), None, "{input}");
        }
    }

    #[test]
    fn the_calendar_is_the_one_of_chrono() {
        for days in (-719_162..800_000).step_by(37) {
            let (year, month, day) = civil(days);
            assert_eq!(days_from_civil(year, month, day), days);
            let time = Utc.timestamp_opt(days * 86_400, 0).unwrap();
            assert_eq!(time.format("%Y %-m %-d").to_string(), format!("{year:04} {month} {day}"));
        }
    }
}
