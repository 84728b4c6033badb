//! Bytes to events: the JSON reader of the hot path, the envelope, and what the gateway fills in.
//!
//! An event is kept as the bytes that were received. What a script can read is built as a
//! [`vrl::value::Value`]; what the pipeline itself reads is noted as a [`Span`] of those bytes.

#[cfg(feature = "pipeline")]
pub mod at_path;
pub mod decode;
pub mod enrich;
pub mod identity;
pub mod ids;
pub mod original;
#[cfg(feature = "pipeline")]
pub mod split;
pub mod times;

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;
use vrl::value::Value;

pub use original::Original;

/// The place of one member's value in the event's bytes, quotes and brackets included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Offset behind the last byte.
    pub end: u32,
}

impl Span {
    /// Returns the bytes that the span covers, or nothing if it lies outside `raw`.
    #[must_use]
    pub fn of(self, raw: &Bytes) -> Bytes {
        let (start, end) = (self.start as usize, self.end as usize);
        if start <= end && end <= raw.len() { raw.slice(start..end) } else { Bytes::new() }
    }
}

/// Where the members that the pipeline itself reads stand. With duplicate keys the last counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spans {
    /// `type`.
    pub type_: Option<Span>,
    /// `messageId`.
    pub message_id: Option<Span>,
    /// `event`.
    pub event: Option<Span>,
    /// `name`.
    pub name: Option<Span>,
    /// `userId`.
    pub user_id: Option<Span>,
    /// `anonymousId`.
    pub anonymous_id: Option<Span>,
    /// `originalTimestamp`.
    pub original_timestamp: Option<Span>,
    /// `timestamp`.
    pub timestamp: Option<Span>,
    /// `sentAt`.
    pub sent_at: Option<Span>,
    /// `receivedAt`.
    pub received_at: Option<Span>,
    /// `request_ip`.
    pub request_ip: Option<Span>,
    /// `integrations`.
    pub integrations: Option<Span>,
    /// `context.consentManagement`, if `context` is an object.
    pub consent: Option<Span>,
}

/// What of an event must be built as a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// Everything below this point.
    All,
    /// Only the named members, each as far as its own need says.
    Some(Vec<(Box<str>, Need)>),
}

impl Need {
    /// Returns the need of the member `key`, or `None` if nobody reads it.
    #[must_use]
    pub fn member(&self, key: &str) -> Option<&Need> {
        match self {
            Self::All => Some(&Self::All),
            Self::Some(members) => members.iter().find(|(k, _)| &**k == key).map(|(_, n)| n),
        }
    }

    /// Returns the need of everybody who needs `self` or `other`.
    #[must_use]
    pub fn union(self, other: &Need) -> Self {
        match (self, other) {
            (Self::All, _) | (_, Self::All) => Self::All,
            (Self::Some(mut members), Self::Some(others)) => {
                for (key, need) in others {
                    match members.iter_mut().find(|(k, _)| k == key) {
                        Some((_, mine)) => {
                            *mine = std::mem::replace(mine, Self::All).union(need);
                        }
                        None => members.push((key.clone(), need.clone())),
                    }
                }
                Self::Some(members)
            }
        }
    }
}

/// The event types that a mapping knows, and what each one's script can read.
///
/// Made by the mapping, used by the decoder. Types are lower-case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    types: Vec<(Arc<str>, Need)>,
    /// The union of all needs: what must be built before the type is known.
    any: Need,
}

/// Position of an event type in its [`Plan`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TypeIndex(pub u16);

impl Plan {
    /// Makes a plan of lower-case type names and their needs.
    #[must_use]
    pub fn new(types: Vec<(Arc<str>, Need)>) -> Self {
        let any = types.iter().fold(Need::Some(Vec::new()), |any, (_, need)| any.union(need));
        Self { types, any }
    }

    /// Makes a plan that builds every event whole.
    #[must_use]
    pub fn everything(types: &[&str]) -> Self {
        Self::new(types.iter().map(|t| (Arc::from(*t), Need::All)).collect())
    }

    /// Finds the type, without regard to case and without trimming (decision D1).
    #[must_use]
    pub fn find(&self, text: &str) -> Option<TypeIndex> {
        let at = |t: &str| self.types.iter().position(|(name, _)| &**name == t);
        let position = at(text).or_else(|| at(&text.to_lowercase()))?;
        u16::try_from(position).ok().map(TypeIndex)
    }

    /// Returns what the script of the type can read.
    #[must_use]
    pub fn need(&self, index: TypeIndex) -> &Need {
        self.types.get(usize::from(index.0)).map_or(&Need::All, |(_, need)| need)
    }

    /// Returns what the script of a type can read; nothing for a type without mapping.
    #[must_use]
    pub fn need_of(&self, index: Option<TypeIndex>) -> &Need {
        const NOTHING: &Need = &Need::Some(Vec::new());
        index.map_or(NOTHING, |index| self.need(index))
    }

    /// Returns what any of the scripts can read.
    #[must_use]
    pub fn any(&self) -> &Need {
        &self.any
    }

    /// Returns the type's lower-case name.
    #[must_use]
    pub fn name(&self, index: TypeIndex) -> Arc<str> {
        self.types.get(usize::from(index.0)).map_or_else(|| Arc::from(""), |(n, _)| Arc::clone(n))
    }

    /// Returns all types in the mapping's order.
    pub fn types(&self) -> impl Iterator<Item = (&str, &Need)> {
        self.types.iter().map(|(n, need)| (&**n, need))
    }
}

/// Members that we assign to an event: name and value, in the order in which they were assigned.
///
/// They replace members of the same name in the received bytes.
pub type Assigned = SmallVec<[(&'static str, Value); 6]>;

/// A decoded event.
#[derive(Clone, Debug)]
pub struct Event {
    /// The event as received: one JSON object.
    pub raw: Bytes,
    /// Where the envelope's members stand in `raw`.
    pub spans: Spans,
    /// The type's place in the plan; `None` for a type without mapping.
    pub index: Option<TypeIndex>,
    /// The type in lower case.
    pub type_name: Arc<str>,
    /// What the type's script can read, an object.
    pub body: Value,
    /// What we assigned; already part of `body` as far as the script can read it.
    pub assigned: Assigned,
}

impl Event {
    /// Returns the value that we assigned to a member.
    #[must_use]
    pub fn assigned(&self, name: &str) -> Option<&Value> {
        self.assigned.iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// Returns the event as it is kept for dead letters and replay.
    #[must_use]
    #[cfg(test)]
    pub fn original(&self) -> Original {
        Original { raw: self.raw.clone(), assigned: self.assigned.clone() }
    }
}
