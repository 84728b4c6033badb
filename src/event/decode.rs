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

mod envelope;
mod reader;
mod scalar;

use bytes::Bytes;
use bytestring::ByteString;
use vrl::value::Value;

use self::envelope::{Envelope, Kind};
use super::{Assigned, Event, Need, Plan};
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
