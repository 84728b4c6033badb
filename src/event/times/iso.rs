//! The ISO 8601 grammar of event ids.
//!
//! ```text
//! YYYY[-MM[-DD]][THH:MM[:SS[.f…]][Z|±HH:MM|±HHMM]]          the year also as ±YYYYYY
//! YYYY-MM-DD HH:MM[:SS[.f…]][[ ]Z|[ ]±HH:MM|[ ]±HHMM| UTC| GMT]     from the year 0100 on
//! ```
//!
//! It is what `Date.parse` of JavaScript takes, without that function's older forms: `24:00` is the
//! next day, days that a month does not have roll over, digits behind the third decimal are
//! dropped, no zone means UTC. Ids are made from the result: changing it doubles events at
//! Customer.io.

use super::{Cursor, days_from_civil};

const MAX_MS: i64 = 8_640_000_000_000_000;

/// Reads a text as Unix milliseconds.
#[must_use]
pub fn unix_ms(text: &str) -> Option<i64> {
    let mut at = Cursor(text.as_bytes());
    let sign = at.take(b"+-");
    let year = match sign {
        Some(sign) => at.digits(6)? * if sign == b'-' { -1 } else { 1 },
        None => at.digits(4)?,
    };
    let (mut month, mut day, mut whole) = (1, 1, false);
    if at.take(b"-").is_some() {
        month = at.digits(2)?;
        if at.take(b"-").is_some() {
            day = at.digits(2)?;
            whole = true;
        }
    }
    let mut ms = 0;
    if !at.is_empty() {
        if sign == Some(b'-') && year == 0 {
            return None;
        }
        let blank = match at.take(b"Tt ")? {
            b' ' if !whole || sign.is_some() || year < 100 => return None,
            separator => separator == b' ',
        };
        ms = time(&mut at)? - offset(&mut at, blank)?;
    }
    if !at.is_empty() || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let ms = (days_from_civil(year, month, 1) + day - 1) * 86_400_000 + ms;
    (-MAX_MS..=MAX_MS).contains(&ms).then_some(ms)
}

/// Takes the time of day; returns milliseconds.
fn time(at: &mut Cursor<'_>) -> Option<i64> {
    let hour = at.digits(2)?;
    at.take(b":")?;
    let minute = at.digits(2)?;
    let (mut second, mut nanos) = (0, 0);
    if at.take(b":").is_some() {
        second = at.digits(2)?;
        if at.take(b".").is_some() {
            let digits = at.0;
            nanos = at.fraction()?;
            let taken = digits.len() - at.0.len();
            // `24:00:00.0000000001` is not the next day.
            let zeros = digits.iter().take(taken).all(|digit| *digit == b'0');
            if hour == 24 && !zeros {
                return None;
            }
        }
    }
    let midnight = hour == 24 && minute == 0 && second == 0;
    if !midnight && hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    Some(((hour * 60 + minute) * 60 + second) * 1000 + nanos / 1_000_000)
}

/// Takes a zone, or the end; returns milliseconds east of UTC.
fn offset(at: &mut Cursor<'_>, blank_form: bool) -> Option<i64> {
    if at.is_empty() {
        return Some(0);
    }
    let blank = blank_form && at.take(b" ").is_some();
    if at.take(b"Zz").is_some() {
        return Some(0);
    }
    if blank && at.word("UTC").or_else(|| at.word("GMT")).is_some() {
        return Some(0);
    }
    let sign = if at.take(b"+-")? == b'-' { -1 } else { 1 };
    let hours = at.digits(2)?;
    at.take(b":");
    let minutes = at.digits(2)?;
    let most = if blank_form { 24 } else { 23 };
    (hours <= most && minutes <= 59).then_some(sign * (hours * 60 + minutes) * 60_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iso_dates_are_read() {
        for (text, ms) in [
            ("2024-03-01T12:34:56.789Z", 1_709_296_496_789),
            ("2024-03-01T12:34:56.789999Z", 1_709_296_496_789),
            ("2024-03-01t12:34:56.7z", 1_709_296_496_700),
            ("2024-03-01T12:34", 1_709_296_440_000),
            ("2024-03-01T14:34:56+02:00", 1_709_296_496_000),
            ("2024-03-01T12:34:56-0030", 1_709_298_296_000),
            ("2024-03-01", 1_709_251_200_000),
            ("2024-03", 1_709_251_200_000),
            ("2024", 1_704_067_200_000),
            ("2024T12:00", 1_704_110_400_000),
            ("+002024-03-01T00:00:00Z", 1_709_251_200_000),
            ("-000001-01-01T00:00:00Z", -62_198_755_200_000),
            ("2024-02-30", 1_709_251_200_000),
            ("2023-02-29T00:00Z", 1_677_628_800_000),
            ("2024-02-29T24:00", 1_709_251_200_000),
            ("2024-02-29T24:00:00.000Z", 1_709_251_200_000),
            ("1969-12-31T23:59:59.500Z", -500),
            ("+275760-09-13T00:00:00.000Z", 8_640_000_000_000_000),
        ] {
            assert_eq!(unix_ms(text), Some(ms), "{text}");
        }
    }

    #[test]
    fn the_form_with_a_blank_is_read() {
        for text in [
            "2024-03-01 12:34:56",
            "2024-03-01 12:34:56.000",
            "2024-03-01 12:34:56Z",
            "2024-03-01 12:34:56 Z",
            "2024-03-01 12:34:56 UTC",
            "2024-03-01 12:34:56 GMT",
            "2024-03-01 13:34:56+01:00",
            "2024-03-01 13:34:56 +0100",
            "2024-03-02 12:34:56+24:00",
        ] {
            assert_eq!(unix_ms(text), Some(1_709_296_496_000), "{text}");
        }
    }

    #[test]
    fn anything_else_is_no_date() {
        for text in [
            "",
            " ",
            "soon",
            "20240301",
            "1704164645",
            "1704164645000",
            "2024-3-1",
            "2024-13-01",
            "2024-00-01",
            "2024-01-32",
            "2024-01-00",
            "2024-03-01T03",
            "2024-03-01T03:04:05.Z",
            "2024-03-01T03:04:05,5Z",
            "2024-03-01T03:04:05+05",
            "2024-03-01T03:04:05Z ",
            "2024-03-01T03:04:05 Z",
            "2024-03-01T24:01",
            "2024-03-01T24:00:00.001",
            "2024-03-01T23:60",
            "2024-03-01T23:59:60Z",
            "2024-03-01T00:00+24:00",
            "2024-03-01T00:00+01:60",
            "-000000-01-01T00:00:00Z",
            "+275760-09-13T00:00:00.001Z",
            "0099-01-01 00:00",
            "2024 12:00",
            "2024-03 12:00",
            "+002024-03-01 00:00",
            "2024-03-01 00:00UTC",
            "2024-03-01  00:00",
            "2024/03/01",
            "Jan 2, 2024",
            "٢٠٢٤",
        ] {
            assert_eq!(unix_ms(text), None, "{text}");
        }
    }
}
