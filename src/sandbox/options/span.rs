//! Lengths of time as people write them.

use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// The longest that makes sense, in seconds: a hundred years.
const LONGEST: f64 = 100.0 * 365.0 * 86_400.0;

/// A length of time: `200ms`, `3s`, `5m`, `1h`, or a number of milliseconds; exact to the
/// microsecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// Whole milliseconds.
    #[must_use]
    pub fn as_millis(self) -> i64 {
        i64::try_from(self.0.as_millis()).unwrap_or(i64::MAX)
    }
}

impl std::str::FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no length of time, expected such as `200ms` or `3s`");
        let text_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at_checked(text_end).ok_or_else(wrong)?;
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let seconds = match unit.trim() {
            "ms" | "" => number / 1000.0,
            "s" => number,
            "m" => number * 60.0,
            "h" => number * 3600.0,
            _ => return Err(wrong()),
        };
        if seconds > LONGEST {
            return Err(format!("`{text}` is longer than a hundred years"));
        }
        let exact = Duration::try_from_secs_f64(seconds).map_err(|_| wrong())?;
        let micros = (exact.as_nanos() + 500) / 1000;
        Ok(Self(Duration::from_micros(u64::try_from(micros).map_err(|_| wrong())?)))
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let micros = self.0.as_micros();
        match micros % 1000 {
            0 => write!(f, "{}ms", micros / 1000),
            part => write!(f, "{}.{part:03}ms", micros / 1000),
        }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => text.parse().map_err(D::Error::custom),
            Value::Number(number) => number.to_string().parse().map_err(D::Error::custom),
            _ => Err(D::Error::custom("expected a length of time such as `200ms` or `3s`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_have_units() {
        for (text, millis) in [("200ms", 200), ("3s", 3000), ("1.5m", 90_000), ("40", 40)] {
            assert_eq!(text.parse::<Span>().unwrap().as_millis(), millis, "{text}");
        }
        assert_eq!("0.0015s".parse::<Span>().unwrap().to_string(), "1.500ms");
        assert!("3 days".parse::<Span>().is_err());
        assert!("9999999999999999999s".parse::<Span>().is_err());
        assert!("-1s".parse::<Span>().is_err());
    }
}
