//! One dead letter as a line of JSON.

use std::borrow::Cow;
use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::DeadLetter;
use crate::event::Original;
use crate::event::identity::IdInput;
use crate::outcome::{OutcomeKind, ReasonCode};

/// The members, in the order in which they are written.
#[derive(Serialize)]
struct Line<'a> {
    at: String,
    outcome: OutcomeKind,
    reason: Option<ReasonCode>,
    detail: Option<&'a str>,
    field: Option<&'a str>,
    message: Option<&'a str>,
    status: Option<u16>,
    attempts: u32,
    unknown: bool,
    event: Event<'a>,
    id_input: &'a IdInput,
    operations: Vec<Json<'a>>,
    received_at: String,
    source: &'a str,
}

/// Appends a letter and its line feed.
pub fn write(out: &mut Vec<u8>, letter: &DeadLetter, now: DateTime<Utc>) {
    let start = out.len();
    let reason = letter.outcome.reason();
    let line = Line {
        at: instant(now),
        outcome: letter.outcome.kind(),
        reason: reason.map(|r| r.code),
        detail: reason.and_then(|r| r.detail.as_deref()).or(letter.refusal.reason.as_deref()),
        field: letter.refusal.field.as_deref(),
        message: letter.refusal.message.as_deref(),
        status: letter.refusal.status,
        attempts: letter.attempts,
        unknown: letter.unknown,
        event: Event(&letter.original),
        id_input: &letter.id_input,
        operations: letter.operations.iter().map(|o| Json(&o.body)).collect(),
        received_at: instant(letter.received_at),
        source: &letter.source,
    };
    if let Err(error) = serde_json::to_writer(&mut *out, &line) {
        // Writing into memory cannot fail, and every member has a form in JSON.
        tracing::error!(%error, "A dead letter could not be written as JSON.");
        out.truncate(start);
        return;
    }
    out.push(b'\n');
}

fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// JSON that is copied, or, if it is none, its text.
struct Json<'a>(&'a [u8]);

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serde_json::from_slice::<&RawValue>(self.0) {
            Ok(raw) if !self.0.contains(&b'\n') => raw.serialize(serializer),
            // Line feeds between tokens would tear the line.
            Ok(raw) => match serde_json::from_str::<serde_json::Value>(raw.get()) {
                Ok(value) => value.serialize(serializer),
                Err(_) => raw.get().serialize(serializer),
            },
            Err(_) => String::from_utf8_lossy(self.0).serialize(serializer),
        }
    }
}

/// The source event with what was assigned to it. Of repeated members the last counts, as it did
/// when the event was read; numbers keep their digits.
struct Event<'a>(&'a Original);

impl Serialize for Event<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = String::from_utf8_lossy(&self.0.raw);
        let Ok(Members(members)) = serde_json::from_str::<Members<'_>>(&text) else {
            return Json(&self.0.raw).serialize(serializer);
        };
        let assigned = |name: &str| self.0.assigned.iter().any(|(n, _)| *n == name);
        let mut map = serializer.serialize_map(None)?;
        for (at, (name, value)) in members.iter().enumerate() {
            let repeated = members.iter().skip(at + 1).any(|(later, _)| later == name);
            if !repeated && !assigned(name) {
                map.serialize_entry(name.as_ref(), &Json(value.get().as_bytes()))?;
            }
        }
        for (name, value) in &self.0.assigned {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// The members of a JSON object, as they stand there.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(Name(name)) = map.next_key()? {
                    members.push((name, map.next_value()?));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// A member's name, borrowed where it holds no escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}
