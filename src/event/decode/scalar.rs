//! Reads one member's value straight from its place in the event's bytes.

use std::borrow::Cow;

use bytes::Bytes;
use bytestring::ByteString;

use super::reader::Reader;
use crate::event::Span;

/// A value as far as identity and enrichment look into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// There is no such member.
    Missing,
    /// `null`.
    Null,
    /// A text, without its escapes.
    Text(ByteString),
    /// The text of a number.
    Number(ByteString),
    /// The JSON text of anything else: a boolean, an object, or an array.
    Other(ByteString),
}

/// Reads the value at `span` of a text that was checked before.
#[must_use]
pub fn scalar(raw: &Bytes, span: Option<Span>) -> Scalar {
    let Some(source) = span.and_then(|span| ByteString::try_from(span.of(raw)).ok()) else {
        return Scalar::Missing;
    };
    match source.as_bytes().first() {
        None => Scalar::Missing,
        Some(b'"') => Reader::new(&source).string().map_or(Scalar::Missing, Scalar::Text),
        Some(b'-' | b'0'..=b'9') => Scalar::Number(source),
        Some(b'n') => Scalar::Null,
        Some(_) => Scalar::Other(source),
    }
}

/// Reads the text at `span`, or nothing if the value there is not a text.
#[must_use]
pub fn text_of(raw: &Bytes, span: Option<Span>) -> Option<ByteString> {
    match scalar(raw, span) {
        Scalar::Text(text) => Some(text),
        _ => None,
    }
}

/// Returns a number's shortest decimal text.
#[must_use]
pub fn number_text(json: &str) -> Cow<'_, str> {
    if json.len() < 19 && json != "-0" && json.parse::<i64>().is_ok() {
        return Cow::Borrowed(json);
    }
    if let Ok(number) = json.parse::<i64>() {
        return Cow::Owned(number.to_string());
    }
    // Adding zero turns a negative zero into a plain one.
    json.parse::<f64>().map_or(Cow::Borrowed(json), |number| Cow::Owned((number + 0.0).to_string()))
}
