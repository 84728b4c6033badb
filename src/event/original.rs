//! The event as it is kept for dead letters and replay.

use std::collections::HashMap;

use bytes::Bytes;
use bytestring::ByteString;
use memchr::memchr;

use super::decode::Reader;
use super::{Assigned, Span};

/// The bytes of an event and what we assigned to it.
#[derive(Clone, Debug)]
pub struct Original {
    /// The bytes as received.
    pub raw: Bytes,
    /// What we assigned.
    pub assigned: Assigned,
}

impl Original {
    /// Returns the event as JSON text on one line: the received members byte for byte, without
    /// those that we assigned, then the assigned ones.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.raw.len() + 64 * self.assigned.len());
        self.write_json(&mut out);
        out
    }

    /// Appends what [`Original::to_json`] returns.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.push(b'{');
        let mut between = false;
        let mut separate = |out: &mut Vec<u8>| {
            if std::mem::replace(&mut between, true) {
                out.push(b',');
            }
        };
        for span in self.kept() {
            separate(out);
            out.extend_from_slice(&span.of(&self.raw));
        }
        for (name, value) in &self.assigned {
            separate(out);
            let member = serde_json::to_writer(&mut *out, name).and_then(|()| {
                out.push(b':');
                serde_json::to_writer(&mut *out, value)
            });
            debug_assert!(member.is_ok(), "texts and values are always writable");
        }
        out.push(b'}');
        let Some(json) = out.get_mut(start..) else { return };
        // Outside of strings a line break is white space, and in strings it cannot stand.
        for byte in json.iter_mut() {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
        pair_surrogates(json);
    }

    /// Finds the received members that are kept, names included. Of repeated ones the last counts,
    /// as it did when the event was read.
    fn kept(&self) -> Vec<Span> {
        let Ok(source) = ByteString::try_from(self.raw.clone()) else { return Vec::new() };
        let mut reader = Reader::new(&source);
        reader.blank();
        if reader.peek() != Some(b'{') {
            return Vec::new();
        }
        let mut kept: Vec<Option<Span>> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        let walked = reader.members(|reader, key, start| {
            reader.skip(1)?;
            if !self.assigned.iter().any(|(name, _)| *name == key) {
                let earlier = places.insert(key.into_owned(), kept.len());
                if let Some(earlier) = earlier.and_then(|place| kept.get_mut(place)) {
                    *earlier = None;
                }
                kept.push(Some(reader.span_from(start)));
            }
            Ok(())
        });
        debug_assert!(walked.is_ok(), "the text was checked when it was decoded");
        kept.into_iter().flatten().collect()
    }
}

/// Writes `\ufffd` in place of unpaired surrogate escapes, as which they are read: most other
/// readers of JSON refuse them.
fn pair_surrogates(json: &mut [u8]) {
    let mut at = 0;
    while let Some(next) = json.get(at..).and_then(|rest| memchr(b'\\', rest)) {
        at += next;
        let code = |json: &[u8], at: usize| match json.get(at..at + 6) {
            Some([b'\\', b'u', digits @ ..]) => {
                u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
            }
            _ => None,
        };
        match code(json, at) {
            None => at += 2,
            Some(0xD800..0xDC00) if matches!(code(json, at + 6), Some(0xDC00..0xE000)) => {
                at += 12;
            }
            Some(code) => {
                if (0xD800..0xE000).contains(&code)
                    && let Some(digits) = json.get_mut(at + 2..at + 6)
                {
                    digits.copy_from_slice(b"fffd");
                }
                at += 6;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use vrl::value::Value;

    use super::*;
    use crate::event::decode;
    use crate::outcome::Reason;

    impl Original {
        /// Returns the event with the assigned members in place of received ones of the same name.
        pub(crate) fn to_value(&self) -> Result<Value, Reason> {
            let mut value = decode::value(&self.raw)?;
            if let Some(object) = value.as_object_mut() {
                for (name, assigned) in &self.assigned {
                    object.insert((*name).into(), assigned.clone());
                }
            }
            Ok(value)
        }
    }

    fn original(raw: &'static str, assigned: &[(&'static str, Value)]) -> Original {
        Original { raw: Bytes::from(raw), assigned: assigned.iter().cloned().collect() }
    }

    #[test]
    fn assigned_members_replace_received_ones() {
        let original = original(
            "{ \"a\" : [1,\r\n 1.50],\n\"type\":\"x\", \"b\":\"\\n\",\"ty\\u0070e\":2 }",
            &[("type", Value::from("track")), ("messageId", Value::from("m\"1"))],
        );
        assert_eq!(
            String::from_utf8(original.to_json()).unwrap(),
            r#"{"a" : [1,   1.50],"b":"\n","type":"track","messageId":"m\"1"}"#
        );
        let again = decode::value(&Bytes::from(original.to_json())).unwrap();
        assert_eq!(again, original.to_value().unwrap());
    }

    #[test]
    fn of_repeated_members_the_last_is_written() {
        let original = original(r#"{"a":1,"b":2,"\u0061":3}"#, &[("c", Value::from(4))]);
        assert_eq!(original.to_json(), br#"{"b":2,"\u0061":3,"c":4}"#);
    }

    #[test]
    fn empty_events_and_nothing_assigned_are_written_too() {
        assert_eq!(original(" {} ", &[]).to_json(), b"{}");
        assert_eq!(original("{}", &[("a", Value::Null)]).to_json(), br#"{"a":null}"#);
        assert_eq!(original("{\"a\":1}", &[]).to_json(), br#"{"a":1}"#);
    }

    #[test]
    fn unpaired_surrogates_are_written_as_they_are_read() {
        let original = original(
            r#"{"a":"\ud800","b":"\\ud800\ud83d\ude00","c":"\uDE00\ud83dx\u00e9\"","\udfff":1}"#,
            &[],
        );
        let written = original.to_json();
        let read: serde_json::Value = serde_json::from_slice(&written).unwrap();
        let expected = serde_json::json!({
            "a": "\u{fffd}", "b": "\\ud800😀", "c": "\u{fffd}\u{fffd}xé\"", "\u{fffd}": 1,
        });
        assert_eq!(read, expected);
        let value = decode::value(&Bytes::from(written)).unwrap();
        assert_eq!(value, original.to_value().unwrap());
    }
}
