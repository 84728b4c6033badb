//! `Retry-After`: seconds, also with decimals, or an HTTP date.

use std::time::{Duration, SystemTime};

use http::HeaderValue;

/// Longest wait that is believed; the same bound as in Customer.io's own client for Node.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// Reads a `Retry-After` header; `None` if it is neither a number nor a date. A date in the past
/// is zero.
#[must_use]
pub fn retry_after(value: &HeaderValue, now: SystemTime) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        // `NaN`, `inf`, and negative numbers parse, but say nothing.
        if !seconds.is_finite() || seconds < 0.0 {
            return None;
        }
        return Some(Duration::from_secs_f64(seconds.min(MAX_RETRY_AFTER.as_secs_f64())));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO).min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Duration> {
        // Sun, 06 Nov 1994 08:49:37 GMT.
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        retry_after(&HeaderValue::from_str(text).unwrap(), now)
    }

    #[test]
    fn seconds_decimals_and_dates_are_read() {
        assert_eq!(read("2"), Some(Duration::from_secs(2)));
        assert_eq!(read(" 0.25 "), Some(Duration::from_millis(250)));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:47 GMT"), Some(Duration::from_secs(10)));
    }

    #[test]
    fn a_past_date_is_now_and_a_huge_wait_is_capped() {
        assert_eq!(read("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(read("1000000000"), Some(MAX_RETRY_AFTER));
        assert_eq!(read("1e300"), Some(MAX_RETRY_AFTER));
        assert_eq!(read("Sat, 06 Nov 2094 08:49:37 GMT"), Some(MAX_RETRY_AFTER));
    }

    #[test]
    fn nonsense_says_nothing() {
        for text in ["", "soon", "-1", "NaN", "inf", "2 s"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
