//! The JSON reader of the hot path: bytes to [`Event`] in one pass.
//!
//! The text is checked whole, but only what the type's script can read is built. Whether an event
//! is malformed therefore never depends on the [`Plan`]. What is wrong is reported in this order,
//! wherever it stands in the text:
//!
//! 1. `invalid_json`: not UTF-8, not one JSON text (RFC 8259), or a number beyond an `f64`;
//! 2. `not_an_event`: the text is no object;
//! 3. `too_deep`: nested deeper than [`MAX_DEPTH`];
//! 4. `invalid_type`: `type` is missing or not a text.
//!
//! With duplicate keys the last counts. Integers that fit are [`Value::Integer`], every other
//! number is [`Value::Float`]. An unpaired surrogate escape becomes U+FFFD.

mod reader;
mod scalar;

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use vrl::value::{ObjectMap, Value};

use super::{Assigned, Event, Need, Plan, Spans, TypeIndex};
use crate::outcome::{Reason, ReasonCode};

pub use reader::MAX_DEPTH;
pub(crate) use reader::{Fault, Reader};
pub use scalar::{Scalar, number_text, scalar, text_of};

/// Reads one event.
///
/// # Errors
///
/// A [`Reason`] for a malformed event; its detail names the place, never content.
pub fn decode(raw: &Bytes, plan: &Plan) -> Result<Event, Reason> {
    decode_as(raw, plan, None)
}

/// Reads one event whose `type` is `set_type`, whatever the text says (the gateway's single-event
/// endpoints). `None` reads it from the text.
///
/// # Errors
///
/// As for [`decode`]; with a given type there is no `invalid_type`.
pub fn decode_as(raw: &Bytes, plan: &Plan, set_type: Option<&str>) -> Result<Event, Reason> {
    let source = utf8(raw)?;
    if u32::try_from(source.len()).is_err() {
        return Err(ReasonCode::TooLarge.into());
    }
    let given = set_type.map(|text| Kind::of(text, plan));
    let mut envelope = Envelope::read(&source, plan, given.clone())?;
    if envelope.again {
        // A later duplicate of `type` named another type than the one the pass narrowed to.
        envelope = Envelope::read(&source, plan, envelope.kind)?;
    }
    let Envelope { kind, spans, mut body, need, .. } = envelope;
    let Some(Kind { index, name }) = kind else {
        return Err(Reason::new(ReasonCode::InvalidType, "`type` is missing or not a text"));
    };
    let mut assigned = Assigned::new();
    if set_type.is_some() {
        let value = Value::from(&*name);
        if need.member("type").is_some() {
            body.insert("type".into(), value.clone());
        }
        assigned.push(("type", value));
    }
    let raw = source.into_bytes();
    Ok(Event { raw, spans, index, type_name: name, body: Value::Object(body), assigned })
}

/// Reads any JSON text as a whole value.
///
/// # Errors
///
/// `invalid_json` or `too_deep`, as for [`decode`].
pub fn value(raw: &Bytes) -> Result<Value, Reason> {
    let source = utf8(raw)?;
    let mut reader = Reader::new(&source);
    reader.blank();
    let value = reader.build(&Need::All, 0).map_err(invalid)?;
    finish(&mut reader)?;
    if reader.too_deep { Err(too_deep()) } else { Ok(value) }
}

/// An event's type and its place in the plan.
#[derive(Clone, Debug)]
struct Kind {
    index: Option<TypeIndex>,
    name: Arc<str>,
}

impl Kind {
    fn of(text: &str, plan: &Plan) -> Self {
        let index = plan.find(text);
        let name = index.map_or_else(|| Arc::from(text.to_lowercase()), |index| plan.name(index));
        Self { index, name }
    }
}

/// One pass over an event's members.
struct Envelope<'p> {
    plan: &'p Plan,
    /// `None` while `type` is missing or not a text.
    kind: Option<Kind>,
    /// The type does not depend on what is read.
    fixed: bool,
    /// What is built from here on.
    need: &'p Need,
    /// The type whose need has held since its `type` was read.
    narrowed: Option<Option<TypeIndex>>,
    /// Another type's need was in force for a part of the text.
    again: bool,
    spans: Spans,
    body: ObjectMap,
}

impl<'p> Envelope<'p> {
    fn read(source: &ByteString, plan: &'p Plan, kind: Option<Kind>) -> Result<Self, Reason> {
        let mut envelope = Self {
            plan,
            fixed: kind.is_some(),
            need: kind.as_ref().map_or(plan.any(), |kind| plan.need_of(kind.index)),
            kind,
            narrowed: None,
            again: false,
            spans: Spans::default(),
            body: ObjectMap::new(),
        };
        let mut reader = Reader::new(source);
        reader.blank();
        let is_object = reader.peek() == Some(b'{');
        let walked = if is_object {
            reader.members(|reader, key, _| envelope.member(reader, key))
        } else {
            reader.skip(0)
        };
        walked.map_err(invalid)?;
        finish(&mut reader)?;
        if !is_object {
            return Err(Reason::new(ReasonCode::NotAnEvent, "an event is a JSON object"));
        }
        if reader.too_deep {
            return Err(too_deep());
        }
        if let Some(narrowed) = envelope.narrowed {
            envelope.again = envelope.kind.as_ref().is_some_and(|kind| kind.index != narrowed);
        }
        Ok(envelope)
    }

    fn member<'t>(&mut self, reader: &mut Reader<'t>, key: Cow<'t, str>) -> Result<(), Fault> {
        let start = reader.position();
        let spans = &mut self.spans;
        let slot = match &*key {
            "type" => return self.type_member(reader, key),
            "context" => return self.context_member(reader, key),
            "messageId" => &mut spans.message_id,
            "event" => &mut spans.event,
            "name" => &mut spans.name,
            "userId" => &mut spans.user_id,
            "anonymousId" => &mut spans.anonymous_id,
            "originalTimestamp" => &mut spans.original_timestamp,
            "timestamp" => &mut spans.timestamp,
            "sentAt" => &mut spans.sent_at,
            "receivedAt" => &mut spans.received_at,
            "request_ip" => &mut spans.request_ip,
            "integrations" => &mut spans.integrations,
            _ => {
                return reader.member(self.need.member(&key), key, &mut self.body, 1);
            }
        };
        reader.member(self.need.member(&key), key, &mut self.body, 1)?;
        *slot = Some(reader.span_from(start));
        Ok(())
    }

    fn type_member<'t>(&mut self, reader: &mut Reader<'t>, key: Cow<'t, str>) -> Result<(), Fault> {
        let start = reader.position();
        if reader.peek() == Some(b'"') {
            let text = reader.string()?;
            if !self.fixed {
                let kind = Kind::of(&text, self.plan);
                if self.narrowed.is_none() {
                    self.narrowed = Some(kind.index);
                    self.need = self.plan.need_of(kind.index);
                }
                self.kind = Some(kind);
            }
            if self.need.member(&key).is_some() {
                self.body.insert("type".into(), Value::String(text));
            }
        } else {
            if !self.fixed {
                self.kind = None;
            }
            reader.member(self.need.member(&key), key, &mut self.body, 1)?;
        }
        self.spans.type_ = Some(reader.span_from(start));
        Ok(())
    }

    fn context_member<'t>(
        &mut self,
        reader: &mut Reader<'t>,
        key: Cow<'t, str>,
    ) -> Result<(), Fault> {
        const NOTHING: &Need = &Need::Some(Vec::new());
        self.spans.consent = None;
        let need = self.need.member(&key);
        if reader.peek() != Some(b'{') {
            return reader.member(need, key, &mut self.body, 1);
        }
        let mut context = ObjectMap::new();
        let inner = need.unwrap_or(NOTHING);
        reader.members(|reader, key, _| {
            let start = reader.position();
            let is_consent = key == "consentManagement";
            reader.member(inner.member(&key), key, &mut context, 2)?;
            if is_consent {
                self.spans.consent = Some(reader.span_from(start));
            }
            Ok(())
        })?;
        if need.is_some() {
            self.body.insert("context".into(), Value::Object(context));
        }
        Ok(())
    }
}

fn utf8(raw: &Bytes) -> Result<ByteString, Reason> {
    ByteString::try_from(raw.clone())
        .map_err(|error| invalid(Fault { at: error.valid_up_to(), what: "not UTF-8" }))
}

/// Checks what stands behind the value, and the numbers in it.
fn finish(reader: &mut Reader<'_>) -> Result<(), Reason> {
    reader.end().map_err(invalid)?;
    match reader.out_of_range {
        Some(at) => Err(invalid(Fault { at, what: "number out of range" })),
        None => Ok(()),
    }
}

pub(crate) fn invalid(fault: Fault) -> Reason {
    Reason::new(ReasonCode::InvalidJson, format!("{} at byte {}", fault.what, fault.at))
}

fn too_deep() -> Reason {
    Reason::new(ReasonCode::TooDeep, format!("nested deeper than {MAX_DEPTH} levels"))
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
