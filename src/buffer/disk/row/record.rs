//! One event within a row.
//!
//! ```text
//! record     seconds i64 │ nanoseconds u32 │ letter │ source │ operations │ original │ ids
//! letter     0 │ or: 1 │ u128
//! operations number │ each: effect u8 │ number of keys │ keys u64 │ body
//! original   raw │ number of assigned members │ each: place of its name in NAMES u8
//!            │ 0, text │ or: 1, JSON
//! ids        message_id │ type │ name │ user_id │ anonymous_id │ ms
//! ```

use bytes::Bytes;
use chrono::DateTime;
use smallvec::SmallVec;
use vrl::value::Value;

use super::wire::{Wire, put_bytes, put_number};
use super::{Damage, Sources};
use crate::buffer::{LetterId, Stored};
use crate::event::identity::IdInput;
use crate::event::{Assigned, Original};
use crate::operation::{ConflictKeys, Effect, Operation, Operations};

/// Names of members that we assign. Their places are stored: names are only ever added at the end.
const NAMES: [&str; 12] = [
    "type",
    "messageId",
    "rudderId",
    "request_ip",
    "receivedAt",
    "originalTimestamp",
    "sentAt",
    "timestamp",
    "userId",
    "anonymousId",
    "channel",
    "context",
];

const TEXT: u8 = 0;
const JSON: u8 = 1;

const EFFECTS: [Effect; 3] = [Effect::Ordinary, Effect::Merge, Effect::Barrier];

fn effect_code(effect: Effect) -> u8 {
    match effect {
        Effect::Ordinary => 0,
        Effect::Merge => 1,
        Effect::Barrier => 2,
    }
}

/// Appends an event.
pub(super) fn write(out: &mut Vec<u8>, event: &Stored) {
    out.extend_from_slice(&event.received_at.timestamp().to_le_bytes());
    out.extend_from_slice(&event.received_at.timestamp_subsec_nanos().to_le_bytes());
    match event.letter {
        None => out.push(0),
        Some(LetterId(letter)) => {
            out.push(1);
            out.extend_from_slice(&letter.to_le_bytes());
        }
    }
    put_bytes(out, event.source.as_bytes());
    put_number(out, event.operations.len() as u64);
    for operation in &event.operations {
        out.push(effect_code(operation.effect));
        put_number(out, operation.keys.0.len() as u64);
        for key in &operation.keys.0 {
            out.extend_from_slice(&key.to_le_bytes());
        }
        put_bytes(out, &operation.body);
    }
    let start = out.len();
    if !write_original(out, &event.original) {
        // A name or value without a code of its own: the members become part of the bytes.
        out.truncate(start);
        put_bytes(out, &event.original.to_json());
        put_number(out, 0);
    }
    let ids = &event.id_input;
    for text in [&ids.message_id, &ids.type_name, &ids.name, &ids.user_id, &ids.anonymous_id] {
        put_bytes(out, text.as_bytes());
    }
    put_number(out, ids.ms);
}

/// Appends the original as it is, or tells that it cannot be done.
fn write_original(out: &mut Vec<u8>, original: &Original) -> bool {
    put_bytes(out, &original.raw);
    put_number(out, original.assigned.len() as u64);
    original.assigned.iter().all(|(name, value)| {
        let place = NAMES.iter().position(|known| known == name).and_then(|n| u8::try_from(n).ok());
        let Some(place) = place else { return false };
        out.push(place);
        match value {
            Value::Bytes(text) => {
                out.push(TEXT);
                put_bytes(out, text);
                true
            }
            value => match serde_json::to_vec(value) {
                Ok(json) => {
                    out.push(JSON);
                    put_bytes(out, &json);
                    true
                }
                Err(_) => false,
            },
        }
    })
}

/// Reads an event; what it holds shares one copy of the record.
pub(super) fn read(record: &[u8], sources: &mut Sources) -> Result<Stored, Damage> {
    let shared = Bytes::copy_from_slice(record);
    let mut wire = Wire::new(&shared);
    let (seconds, nanoseconds) = (wire.u64()?.cast_signed(), wire.u32()?);
    let received_at = DateTime::from_timestamp(seconds, nanoseconds).ok_or(Damage::Shape)?;
    let letter = match wire.u8()? {
        0 => None,
        1 => Some(LetterId(wire.u128()?)),
        _ => return Err(Damage::Shape),
    };
    let source = sources.label(wire.text()?);
    let operations = read_operations(&mut wire, &shared)?;
    let raw = shared.slice_ref(wire.bytes()?);
    let assigned = read_assigned(&mut wire)?;
    let mut text = || wire.text().map(Box::<str>::from);
    let (message_id, type_name, name) = (text()?, text()?, text()?);
    let (user_id, anonymous_id) = (text()?, text()?);
    let ms = wire.number()?;
    if !wire.is_empty() {
        return Err(Damage::Shape);
    }
    Ok(Stored {
        operations,
        original: Original { raw, assigned },
        id_input: IdInput { message_id, type_name, name, user_id, anonymous_id, ms },
        received_at,
        source,
        letter,
    })
}

fn read_operations(wire: &mut Wire<'_>, shared: &Bytes) -> Result<Operations, Damage> {
    let mut operations = Operations::new();
    for _ in 0..wire.number()? {
        let effect = EFFECTS.get(usize::from(wire.u8()?)).copied().ok_or(Damage::Shape)?;
        let mut keys = SmallVec::new();
        for _ in 0..wire.number()? {
            keys.push(wire.u64()?);
        }
        let body = shared.slice_ref(wire.bytes()?);
        operations.push(Operation { keys: ConflictKeys(keys), effect, body });
    }
    if operations.is_empty() {
        return Err(Damage::Shape);
    }
    Ok(operations)
}

fn read_assigned(wire: &mut Wire<'_>) -> Result<Assigned, Damage> {
    let mut assigned = Assigned::new();
    for _ in 0..wire.number()? {
        let name = NAMES.get(usize::from(wire.u8()?)).copied().ok_or(Damage::Shape)?;
        let value = match wire.u8()? {
            TEXT => Value::Bytes(Bytes::copy_from_slice(wire.bytes()?)),
            JSON => serde_json::from_slice(wire.bytes()?).map_err(|_| Damage::Shape)?,
            _ => return Err(Damage::Shape),
        };
        assigned.push((name, value));
    }
    Ok(assigned)
}
