//! Reads one member's value straight from its place in the event's bytes.

use std::borrow::Cow;

use bytestring::ByteString;
use memchr::memchr;

use super::reader::Reader;
use crate::event::Span;

/// A value as far as identity and enrichment look into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scalar<'a> {
    /// There is no such member.
    Missing,
    /// `null`.
    Null,
    /// A text, without its escapes.
    Text(Cow<'a, str>),
    /// The text of a number.
    Number(&'a str),
    /// The JSON text of anything else: a boolean, an object, or an array.
    Other(&'a str),
}

/// Reads the value at `span` of a text that was checked before.
#[must_use]
pub fn scalar(raw: &[u8], span: Option<Span>) -> Scalar<'_> {
    let json = span.and_then(|span| raw.get(span.start as usize..span.end as usize));
    let Some(json) = json.and_then(|json| std::str::from_utf8(json).ok()) else {
        return Scalar::Missing;
    };
    match json.as_bytes().first() {
        None => Scalar::Missing,
        Some(b'"') => unquoted(json).map_or(Scalar::Missing, Scalar::Text),
        Some(b'-' | b'0'..=b'9') => Scalar::Number(json),
        Some(b'n') => Scalar::Null,
        Some(_) => Scalar::Other(json),
    }
}

/// Reads the text at `span`, or nothing if the value there is not a text.
#[must_use]
pub fn text_of(raw: &[u8], span: Option<Span>) -> Option<Cow<'_, str>> {
    match scalar(raw, span) {
        Scalar::Text(text) => Some(text),
        _ => None,
    }
}

fn unquoted(json: &str) -> Option<Cow<'_, str>> {
    if memchr(b'\\', json.as_bytes()).is_none() {
        return json.get(1..json.len() - 1).map(Cow::Borrowed);
    }
    let source = ByteString::from(json);
    let text = Reader::new(&source).text().ok()?.into_owned();
    Some(Cow::Owned(text))
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
