//! The operation as JSON.

use serde::ser::{Error, Serialize, Serializer};
use vrl::value::Value;

/// Serialises a script's value: as `Value` itself does, but a number that JSON cannot write is an
/// error instead of `null`.
///
/// A timestamp becomes an RFC 3339 text, a regular expression its pattern, and bytes a text in
/// which whatever is not UTF-8 is replaced.
pub(super) struct Wire<'a>(pub &'a Value);

/// The text of the error for a number that JSON cannot write.
pub(super) const NOT_FINITE: &str = "the result holds a number that is not finite";

impl Serialize for Wire<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(object) => {
                serializer.collect_map(object.iter().map(|(k, v)| (k.as_str(), Wire(v))))
            }
            Value::Array(items) => serializer.collect_seq(items.iter().map(Wire)),
            Value::Float(number) if !number.is_finite() => Err(S::Error::custom(NOT_FINITE)),
            other => other.serialize(serializer),
        }
    }
}
