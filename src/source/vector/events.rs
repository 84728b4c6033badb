//! The events of one request: from the wire to the JSON text that the pipeline takes.
//!
//! Messages and fields, as far as they are read (a number stands for the field's):
//!
//! | message | fields |
//! | --- | --- |
//! | `PushEventsRequest` | 1: events |
//! | `EventWrapper` | 1 log · 2 metric · 3 trace |
//! | `Log` | 1 members of the root, unless 2 is there · 2 the root · 4 metadata |
//! | metadata | 7 id that the source gave the event, 16 bytes |
//!
//! Nothing else of the metadata is looked at: secrets stand there.
//!
//! Damage inside of an event ends that event alone. What a path does not lead to is not checked.

use std::ops::Range;

use bytes::Bytes;
use bytestring::ByteString;
use uuid::Uuid;

use super::json::{self, Kind, separate, write_member, write_text};
use super::wire::{Broken, Fields};
use crate::event::at_path::shown;
use crate::event::decode::Reader;
use crate::event::ids;
use crate::outcome::{Reason, ReasonCode};
use crate::source::Incoming;

/// What an event costs in memory besides its JSON text: its place in the lists, or its reason.
const EVENT_OVERHEAD: usize = 128;

/// A walk over the events of one request.
#[derive(Debug)]
pub struct Events<'m> {
    wrappers: Fields<'m>,
    path: Option<&'m [String]>,
    /// The texts of all events, one behind the other.
    json: Vec<u8>,
    found: Vec<Result<Range<usize>, Reason>>,
}

impl<'m> Events<'m> {
    /// Starts at the first event of a request. `path` tells where in each log the event is.
    pub fn of(request: &'m [u8], path: Option<&'m [String]>) -> Self {
        // As text events take about as much as on the wire, where a path leads to less.
        let json = Vec::with_capacity(if path.is_none() { request.len() } else { 0 });
        Self { wrappers: Fields::of(request), path, json, found: Vec::new() }
    }

    /// Takes the next event; `false` behind the last.
    ///
    /// # Errors
    ///
    /// When the request itself is broken; then no event of it can be trusted.
    pub fn next(&mut self) -> Result<bool, Broken> {
        while let Some((number, field)) = self.wrappers.next()? {
            if number == 1 {
                let wrapper = field.bytes()?;
                let start = self.json.len();
                let written = wrapped(wrapper, self.path, &mut self.json);
                if written.is_err() {
                    self.json.truncate(start);
                }
                self.found.push(written.map(|()| start..self.json.len()));
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns how many bytes of memory the events hold so far.
    pub fn bytes(&self) -> usize {
        self.json.len() + self.found.len().saturating_mul(EVENT_OVERHEAD)
    }

    /// Returns the events that were taken.
    pub fn into_elements(mut self) -> Vec<Incoming> {
        if self.json.len() < self.json.capacity() / 2 {
            self.json.shrink_to_fit();
        }
        let json = Bytes::from(self.json);
        let elements = self.found.into_iter().zip(0..);
        elements.map(|(found, at)| Incoming::new(found.map(|text| json.slice(text)), at)).collect()
    }
}

/// Appends the JSON text of the event in a wrapper.
fn wrapped(wrapper: &[u8], path: Option<&[String]>, out: &mut Vec<u8>) -> Result<(), Reason> {
    let (mut fields, mut event) = (Fields::of(wrapper), None);
    while let Some((number, field)) = fields.next().map_err(json::Flaw::from)? {
        if (1..=3).contains(&number) {
            event = Some((number, field.bytes().map_err(json::Flaw::from)?));
        }
    }
    match event {
        Some((1, log)) => self::log(log, path, out),
        Some((2, _)) => Err(not_an_event("a metric of Vector: only log events are taken")),
        Some((3, _)) => Err(not_an_event("a trace of Vector: only log events are taken")),
        _ => Err(not_an_event("nothing is in the event's wrapper")),
    }
}

fn log(log: &[u8], path: Option<&[String]>, out: &mut Vec<u8>) -> Result<(), Reason> {
    let (root, id) = root_and_id(log).map_err(json::Flaw::from)?;
    match path {
        Some(path) => at_path(root, path, id, out),
        None => match root {
            Kind::Map(members) => at_root(members, id, out),
            other => {
                let what = other.name();
                let detail = format!("the root of the log event is {what}, not an object");
                Err(not_an_event(detail))
            }
        },
    }
}

/// Finds the root of a log, and the id that its source gave it.
fn root_and_id(log: &[u8]) -> Result<(Kind<'_>, Option<Uuid>), Broken> {
    let (mut fields, mut root, mut id) = (Fields::of(log), None, None);
    while let Some((number, field)) = fields.next()? {
        match number {
            2 => root = Some(Kind::of(field.bytes()?)?),
            4 => id = source_event_id(field.bytes()?)?,
            _ => {}
        }
    }
    // A root that is an object is written as the members 1 of the log itself; beside any other root
    // these hold a dummy.
    Ok((root.unwrap_or(Kind::Map(log)), id))
}

fn source_event_id(metadata: &[u8]) -> Result<Option<Uuid>, Broken> {
    let (mut fields, mut id) = (Fields::of(metadata), None);
    while let Some((number, field)) = fields.next()? {
        if number == 7 {
            // One and the same id for all events would make them one.
            id = Uuid::from_slice(field.bytes()?).ok().filter(|id| !id.is_nil());
        }
    }
    Ok(id)
}

/// Appends the root of a log as the event.
fn at_root(members: &[u8], id: Option<Uuid>, out: &mut Vec<u8>) -> Result<(), Reason> {
    let seen = object(members, id, Root::Log, out)?;
    let elsewhere = match seen {
        Seen { type_: true, .. } => return Ok(()),
        Seen { message: true, .. } => {
            "a text in `.message`: if the event stands there, set `event_path: .message`"
        }
        Seen { batch: true, .. } => {
            "an array in `.batch`: take the events out in Vector, with `. = array!(.batch)`"
        }
        Seen { .. } => return Ok(()),
    };
    let detail = format!("the log event has no `type`, but {elsewhere}");
    Err(Reason::new(ReasonCode::InvalidType, detail))
}

/// Whose members an object holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Root {
    /// The log's own: a `timestamp` of Vector's own kind is the time at which it read the event.
    Log,
    /// Of a value somewhere in the log.
    Below,
}

/// What an object was found to have.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    type_: bool,
    /// A text.
    message: bool,
    /// An array, as in the body of an SDK's request.
    batch: bool,
}

/// Appends an object, with `id` as its `messageId` if it has none that counts.
fn object(
    members: &[u8],
    id: Option<Uuid>,
    root: Root,
    out: &mut Vec<u8>,
) -> Result<Seen, json::Flaw> {
    let (mut fields, mut seen, mut has_id) = (Fields::of(members), Seen::default(), false);
    out.push(b'{');
    let start = out.len();
    while let Some((number, field)) = fields.next()? {
        if number != 1 {
            continue;
        }
        let (key, value) = json::entry(field.bytes()?)?;
        let kind = Kind::of(value)?;
        match (key, kind) {
            (b"timestamp", Kind::Timestamp(_)) if root == Root::Log => continue,
            (b"messageId", kind) => {
                has_id =
                    matches!(kind, Kind::Bytes(text) if counts(&String::from_utf8_lossy(text)));
            }
            (b"type", _) => seen.type_ = true,
            (b"message", kind) => seen.message = matches!(kind, Kind::Bytes(_)),
            (b"batch", kind) => seen.batch = matches!(kind, Kind::Array(_)),
            _ => {}
        }
        separate(start, out);
        write_member(key, kind, 0, out)?;
    }
    if let Some(id) = id.filter(|_| !has_id) {
        separate(start, out);
        write_id(id, out);
    }
    out.push(b'}');
    Ok(seen)
}

/// Appends the event at `path`: an object, or JSON text.
fn at_path(
    root: Kind<'_>,
    path: &[String],
    id: Option<Uuid>,
    out: &mut Vec<u8>,
) -> Result<(), Reason> {
    let found = find(root, path).map_err(json::Flaw::from)?;
    match found {
        Some(Kind::Map(members)) => object(members, id, Root::Below, out).map(drop)?,
        Some(Kind::Bytes(text)) => text_with_id(text, id, out),
        other => {
            let what = other.map_or("nothing", Kind::name);
            let path = shown(path);
            let detail = format!("{what} at `{path}`, where an object or JSON text is looked for");
            return Err(Reason::new(ReasonCode::NoEventAtPath, detail));
        }
    }
    Ok(())
}

/// Walks down; with duplicate keys the last counts.
fn find<'a>(root: Kind<'a>, path: &[String]) -> Result<Option<Kind<'a>>, Broken> {
    let mut found = root;
    for segment in path {
        let Kind::Map(members) = found else { return Ok(None) };
        let (mut fields, mut member) = (Fields::of(members), None);
        while let Some((number, field)) = fields.next()? {
            if number == 1 {
                let (key, value) = json::entry(field.bytes()?)?;
                if key == segment.as_bytes() {
                    member = Some(value);
                }
            }
        }
        let Some(value) = member else { return Ok(None) };
        found = Kind::of(value)?;
    }
    Ok(Some(found))
}

/// Appends JSON text as it is, with `id` as the `messageId` of an object that has none that counts.
fn text_with_id(text: &[u8], id: Option<Uuid>, out: &mut Vec<u8>) {
    let (start, text) = (out.len(), text.trim_ascii());
    out.extend_from_slice(text);
    let Some(id) = id.filter(|_| lacks_id(text)) else { return };
    if text.ends_with(b"}") {
        out.pop();
        let is_empty = out.get(start + 1..).is_none_or(|inside| inside.trim_ascii().is_empty());
        if !is_empty {
            out.push(b',');
        }
        write_id(id, out);
        out.push(b'}');
    }
}

/// Tells whether a text is an object without a `messageId` that counts. What is not JSON has its
/// fault told later.
fn lacks_id(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let text = ByteString::from(text);
    let mut reader = Reader::new(&text);
    if reader.peek() != Some(b'{') {
        return false;
    }
    let mut has_id = false;
    let walked = reader.members(|reader, key, _| {
        if key == "messageId" {
            has_id = match reader.peek() {
                Some(b'"') => counts(&reader.text()?),
                _ => reader.skip(1).map(|()| false)?,
            };
            return Ok(());
        }
        reader.skip(1)
    });
    walked.and_then(|()| reader.end()).is_ok() && !has_id
}

/// Tells whether a `messageId` is one, and not something that is replaced.
fn counts(message_id: &str) -> bool {
    !ids::clean(message_id).is_empty()
}

fn write_id(id: Uuid, out: &mut Vec<u8>) {
    let mut buffer = Uuid::encode_buffer();
    write_text(b"messageId", out);
    out.push(b':');
    write_text(id.hyphenated().encode_lower(&mut buffer).as_bytes(), out);
}

fn not_an_event(detail: impl Into<String>) -> Reason {
    Reason::new(ReasonCode::NotAnEvent, detail.into())
}
