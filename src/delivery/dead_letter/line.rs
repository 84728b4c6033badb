//! One dead letter as a line of JSON.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::DeadLetter;
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
    event: Json<'a>,
    id_input: &'a IdInput,
    operations: Vec<Json<'a>>,
    received_at: String,
    source: &'a str,
}

/// Appends a letter and its line feed.
pub fn write(out: &mut Vec<u8>, letter: &DeadLetter, now: DateTime<Utc>) {
    let start = out.len();
    let event = letter.original.to_json();
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
        event: Json(&event),
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
