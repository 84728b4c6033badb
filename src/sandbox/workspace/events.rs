//! Events, page views, and screen views: whose they are, and whether they were seen before.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{ActivityKind, Received, Workspace};
use crate::sandbox::clock::Seconds;
use crate::sandbox::operation::{EventData, EventKind, Identifier};

/// Older events trigger no campaign, in seconds.
const FRESH: f64 = 72.0 * 3600.0;

/// An event as the workspace keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StoredEvent {
    /// Counts all stored events of the workspace from 1, in the order in which they were applied.
    /// It stays with the event when a merge, or a visitor who is identified, moves it.
    pub sequence: u64,
    /// What it is.
    pub kind: EventKind,
    /// Its name; Customer.io keeps none for pages.
    pub name: Option<String>,
    /// The ULID of de-duplication.
    pub id: Option<String>,
    /// When it happened.
    pub timestamp: Seconds,
    /// When it was received.
    pub received_at: Seconds,
    /// The data as sent.
    pub data: Data,
    /// Whether it was older than 72 hours.
    pub late: bool,
    /// The visitor, if it was sent for one.
    pub anonymous_id: Option<String>,
    /// The request that brought it.
    pub request: u64,
}

/// The data of a stored event, as compact JSON: a workspace may hold a million of them, and a tree
/// takes ten times the room.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Data(Box<RawValue>);

impl Data {
    /// Returns it as JSON text.
    #[must_use]
    pub fn json(&self) -> &str {
        self.0.get()
    }

    fn of(data: &Map<String, Value>) -> Self {
        let raw = serde_json::value::to_raw_value(data);
        Self(raw.unwrap_or_else(|_| RawValue::NULL.to_owned()))
    }
}

impl PartialEq for Data {
    fn eq(&self, other: &Self) -> bool {
        self.json() == other.json()
    }
}

impl Workspace {
    pub(super) fn event(&mut self, received: Received, who: Option<Identifier>, event: EventData) {
        let person = match &who {
            None | Some(Identifier::Anonymous(_)) => None,
            Some(known) => Some(known.key()),
        };
        let unknown = person.is_some()
            && who.as_ref().is_some_and(|who| self.state.people.find(who).is_none());
        if unknown && matches!(who, Some(Identifier::CioId(_))) {
            let detail = "no person has this cio_id";
            self.log(received, ActivityKind::UnknownCioId, person, detail);
            return;
        }
        if unknown && !self.options.events_create_people {
            let detail = "nobody matches, and events create no people here";
            self.log(received, ActivityKind::UpdateOnlyNoMatch, person, detail);
            return;
        }
        if let Some(id) = event.id
            && !self.state.seen.insert(id)
        {
            if received.dedupe {
                let detail = format!("event id {} was seen before", ulid_text(id));
                self.log(received, ActivityKind::DuplicateEvent, person, detail);
                return;
            }
            self.state.duplicates_stored += 1;
        }
        // Customer.io calls an event with a recipient and nobody behind it an invite.
        let invites = event.attributes.contains_key("recipient");
        let stored = self.stored(received, event);
        if stored.late {
            let detail = "older than 72 hours: cannot trigger campaigns";
            self.log(received, ActivityKind::LateEvent, person, detail);
        }
        match who {
            Some(Identifier::Anonymous(visitor)) => {
                let stored = StoredEvent { anonymous_id: Some(visitor.clone()), ..stored };
                match self.joined_to(&visitor, received.at) {
                    Some(cio_id) => self.add_event(&cio_id, stored),
                    None => self.keep_unattached(&visitor, stored, received.at),
                }
            }
            Some(known) => {
                if let Some(cio_id) = self.find_or_create(received, &known) {
                    self.add_event(&cio_id, stored);
                }
            }
            None if invites => self.state.invites.push(stored),
            None => self.keep_unattached("", stored, received.at),
        }
    }

    fn add_event(&mut self, cio_id: &str, event: StoredEvent) {
        if let Some(person) = self.state.people.get_mut(cio_id) {
            person.events.push(event);
        }
    }

    fn stored(&mut self, received: Received, event: EventData) -> StoredEvent {
        self.state.events_stored += 1;
        let timestamp = event.timestamp.unwrap_or(received.at);
        StoredEvent {
            sequence: self.state.events_stored,
            kind: event.kind,
            name: (event.kind != EventKind::Page).then_some(event.name),
            id: event.id.map(ulid_text),
            timestamp,
            received_at: received.at,
            data: Data::of(&event.attributes),
            late: received.at.since(timestamp) > FRESH,
            anonymous_id: None,
            request: received.request,
        }
    }
}

fn ulid_text(id: u128) -> String {
    ulid::Ulid(id).to_string()
}

/// The seen ids in a snapshot: a sorted list of ULIDs.
pub(super) mod seen_ids {
    use std::collections::HashSet;

    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::sandbox::validate::parse_ulid;

    pub(in crate::sandbox::workspace) fn serialize<S: Serializer>(
        seen: &HashSet<u128>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut ids: Vec<String> = seen.iter().map(|id| super::ulid_text(*id)).collect();
        ids.sort_unstable();
        ids.serialize(serializer)
    }

    pub(in crate::sandbox::workspace) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<HashSet<u128>, D::Error> {
        Vec::<String>::deserialize(deserializer)?
            .iter()
            .map(|text| parse_ulid(text).ok_or_else(|| D::Error::custom("not a ULID")))
            .collect()
    }
}
