//! The full reader behind the fast paths: small pieces of an event, built as values.

use bytes::Bytes;
use vrl::value::Value;

use super::scan;
use crate::event::decode;

/// Reads a piece of JSON that the decoder has checked.
pub(super) fn value(raw: &Bytes) -> Option<Value> {
    decode::value(raw).ok()
}

/// Calls `f` with the text that `raw` says, or returns `None` if `raw` is no JSON text.
pub(super) fn with_text<T>(raw: &Bytes, f: impl FnOnce(&str) -> T) -> Option<T> {
    if let Some(text) = std::str::from_utf8(raw).ok().and_then(scan::text_of) {
        return Some(f(text));
    }
    value(raw)?.to_str().map(f)
}
