//! Names, event ids, and times.

use serde_json::Value;

use super::{Checked, ItemError};
use crate::sandbox::clock::Seconds;
use crate::sandbox::options::{Options, UlidRule};

/// Longest event name, in bytes after trimming.
const MAX_EVENT_NAME_BYTES: usize = 100;
/// From here on a time is taken for milliseconds.
const TIME_LIMIT: f64 = 100_000_000_000.0;

pub(super) fn event_name(name: Option<Value>) -> Checked<String> {
    let text = match name {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text,
        Some(_) => return Err(ItemError::invalid("name", "name must be a string")),
    };
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Err(ItemError::required("name", "name is required"));
    }
    if trimmed.len() > MAX_EVENT_NAME_BYTES {
        let message = format!("event name cannot be longer than {MAX_EVENT_NAME_BYTES} bytes");
        return Err(ItemError::invalid("name", message));
    }
    Ok(if trimmed.len() == text.len() { text } else { trimmed.to_owned() })
}

pub(super) fn event_id(id: Option<Value>, options: &Options) -> Checked<Option<u128>> {
    let id = match id {
        None | Some(Value::Null) => return Ok(None),
        Some(id) => id,
    };
    match id.as_str().and_then(parse_ulid) {
        Some(id) => Ok(Some(id)),
        None if options.ulid == UlidRule::Ignore => Ok(None),
        None => Err(ItemError::invalid("id", "id must be a valid ULID")),
    }
}

/// Reads 26 characters of Crockford's base 32, in any case, the first at most `7`.
pub(in crate::sandbox) fn parse_ulid(text: &str) -> Option<u128> {
    const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    if text.len() != 26 || text.bytes().next()? > b'7' {
        return None;
    }
    text.bytes().try_fold(0u128, |value, byte| {
        let digit = ALPHABET.iter().position(|&c| c == byte.to_ascii_uppercase())?;
        Some(value << 5 | u128::try_from(digit).ok()?)
    })
}

/// Reads a Unix time in seconds: a number, or a text of digits, below 100,000,000,000.
pub(in crate::sandbox) fn seconds(value: &Value) -> Option<Seconds> {
    let seconds = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
            text.parse().ok()?
        }
        _ => return None,
    };
    (0.0..TIME_LIMIT).contains(&seconds).then_some(Seconds(seconds))
}

pub(super) fn optional_seconds(value: Option<Value>, field: &str) -> Checked<Option<Seconds>> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value) => seconds(&value).map(Some).ok_or_else(|| not_seconds(field)),
    }
}

/// `created_at` and `_timestamp` among the attributes; `null` and empty text remove.
pub(super) fn check_created_at(value: &Value, field: &str) -> Checked<()> {
    let removes = value.is_null() || value.as_str() == Some("");
    if removes || seconds(value).is_some() { Ok(()) } else { Err(not_seconds(field)) }
}

fn not_seconds(field: &str) -> ItemError {
    let name = field.rsplit('.').next().unwrap_or(field);
    ItemError::invalid(field, format!("{name} must be a unix timestamp in seconds"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ulids_are_26_crockford_characters_of_128_bits() {
        assert!(parse_ulid("01HQX05C4NJXDYF2MRBF6GKJE6").is_some());
        assert_eq!(
            parse_ulid("01hqx05c4njxdyf2mrbf6gkje6"),
            parse_ulid("01HQX05C4NJXDYF2MRBF6GKJE6")
        );
        for wrong in ["", "msg-1", "81HQX05C4NJXDYF2MRBF6GKJE6", "01HQX05C4NJXDYF2MRBF6GKJEU"] {
            assert_eq!(parse_ulid(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn times_are_seconds() {
        for right in [json!(0), json!(1_709_296_496), json!(1.5), json!("1709296496")] {
            assert!(seconds(&right).is_some(), "{right}");
        }
        for wrong in [json!(-1), json!(100_000_000_000_u64), json!("1.5"), json!(""), json!(true)] {
            assert!(seconds(&wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn event_names_are_trimmed_and_then_measured() {
        assert_eq!(event_name(Some(json!("  Now "))).unwrap(), "Now");
        assert!(event_name(Some(json!(format!(" {} ", "n".repeat(100))))).is_ok());
        assert!(event_name(Some(json!("n".repeat(101)))).is_err());
        assert_eq!(event_name(Some(json!("  "))).unwrap_err().reason, "required");
        assert_eq!(event_name(Some(json!(1))).unwrap_err().message, "name must be a string");
    }
}
