//! How options are written.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use clap::builder::PossibleValuesParser;

use crate::outcome::OutcomeKind;

/// Accepts the reasons that dead letters can have.
pub fn reasons() -> PossibleValuesParser {
    let of = |kind: OutcomeKind| kind.reasons().iter().map(|code| code.as_str());
    of(OutcomeKind::Failed).chain(of(OutcomeKind::Rejected)).collect::<Vec<_>>().into()
}

/// Reads a date (midnight UTC), a time with its zone, or a period before now.
pub fn since(text: &str) -> Result<DateTime<Utc>, String> {
    let midnight = |date: NaiveDate| date.and_hms_opt(0, 0, 0).map(|at| at.and_utc());
    DateTime::parse_from_rfc3339(text)
        .map(Into::into)
        .ok()
        .or_else(|| text.parse().ok().and_then(midnight))
        .or_else(|| Utc::now().checked_sub_signed(period(text)?))
        .ok_or_else(|| "write 2026-01-31, 2026-01-31T12:00:00Z, or a period like 7d".to_owned())
}

fn period(text: &str) -> Option<TimeDelta> {
    let unit = text.chars().last()?;
    let number: i64 = text.strip_suffix(unit)?.parse().ok().filter(|n| *n >= 0)?;
    match unit {
        's' => TimeDelta::try_seconds(number),
        'm' => TimeDelta::try_minutes(number),
        'h' => TimeDelta::try_hours(number),
        'd' => TimeDelta::try_days(number),
        _ => None,
    }
}

/// Reads events per second: `50/s` or `50`.
pub fn rate(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix("/s").unwrap_or(text).trim_end();
    number.parse().ok().filter(|n| *n > 0).ok_or_else(|| "write events per second: 50/s".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_date_a_time_or_a_period() {
        let at = |text: &str| since(text).map(|at| at.to_rfc3339());
        assert_eq!(at("2026-01-31").unwrap(), "2026-01-31T00:00:00+00:00");
        assert_eq!(at("2026-01-31T01:00:00+01:00").unwrap(), "2026-01-31T00:00:00+00:00");
        let since_then = since("7d").unwrap();
        let week = Utc::now() - since_then;
        assert_eq!(week.num_days(), 7);
        for wrong in ["", "d", "7", "-7d", "7é", "99999999999999999d", "yesterday", "2026-13-01"] {
            assert!(since(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_rate_is_at_least_one_event_per_second() {
        assert_eq!((rate("50/s"), rate("7")), (Ok(50), Ok(7)));
        assert!(["0", "0/s", "/s", "1.5/s", "5/m"].into_iter().all(|text| rate(text).is_err()));
    }
}
