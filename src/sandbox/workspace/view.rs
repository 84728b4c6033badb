//! What can be read of a workspace: people, objects, visitors, activity, and the snapshot.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Activity, ActivityKind, Attribute, Object, Person, State, StoredEvent, Workspace};
use crate::sandbox::clock::Seconds;
use crate::sandbox::operation::{Device, Identifier, ObjectIdentifier};

/// A person as shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PersonView {
    /// Customer.io's id.
    pub cio_id: String,
    /// The sender's id.
    pub id: Option<String>,
    /// The e-mail address.
    pub email: Option<String>,
    /// The phone number.
    pub phone: Option<String>,
    /// When the person was made here.
    pub made_at: Seconds,
    /// Visitors that turned out to be this person.
    pub anonymous_ids: Vec<String>,
    /// Attributes other than identifiers.
    pub attributes: BTreeMap<String, Attribute>,
    /// Devices by token.
    pub devices: BTreeMap<String, Device>,
    /// Related objects.
    pub relationships: Vec<RelationView>,
    /// Events in order of their own timestamps.
    pub events: Vec<StoredEvent>,
}

impl PersonView {
    /// Returns the value of an attribute.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&Value> {
        self.attributes.get(name).map(|attribute| &attribute.value)
    }

    /// Returns what the sender said, without what depends on the run: no `cio_id`, request numbers,
    /// or receive times. Two runs that stored the same are equal in it.
    #[must_use]
    pub fn content(&self) -> Value {
        let values =
            self.attributes.iter().map(|(name, known)| (name.clone(), known.value.clone()));
        let relation = |relation: &RelationView| {
            json!([relation.object_type_id, relation.object_id, relation.attributes])
        };
        let event = |event: &StoredEvent| {
            let given = (event.timestamp != event.received_at).then_some(event.timestamp);
            json!([event.kind, event.name, event.id, given, event.data])
        };
        // Their own order is that in which the objects were made.
        let mut by_object: Vec<_> = self.relationships.iter().collect();
        by_object.sort_by_key(|r| (&r.object_type_id, &r.object_id));
        json!({
            "ids": {"id": self.id, "email": self.email, "phone": self.phone},
            "anonymous_ids": self.anonymous_ids,
            "attributes": values.collect::<Map<_, _>>(),
            "devices": self.devices,
            "relations": by_object.into_iter().map(relation).collect::<Vec<_>>(),
            "events": self.events.iter().map(event).collect::<Vec<_>>(),
        })
    }
}

/// A relationship as shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RelationView {
    /// The object's type.
    pub object_type_id: String,
    /// The object's id.
    pub object_id: String,
    /// Customer.io's id of the object.
    pub cio_object_id: String,
    /// Attributes of the relationship.
    pub attributes: Map<String, Value>,
}

/// An event with whose it is.
#[derive(Clone, Debug, Serialize)]
pub struct EventView<'a> {
    /// The event's number in the order of application.
    pub sequence: u64,
    /// Customer.io's id of the person; none if the event belongs to nobody.
    pub cio_id: Option<&'a str>,
    /// The person's other identifiers, as they are now.
    pub person: Option<Owner<'a>>,
    /// The event.
    pub event: &'a StoredEvent,
}

/// The identifiers of the person whose event is shown.
#[derive(Clone, Debug, Serialize)]
pub struct Owner<'a> {
    /// The sender's id.
    pub id: Option<&'a str>,
    /// The e-mail address.
    pub email: Option<&'a str>,
    /// The phone number.
    pub phone: Option<&'a str>,
    /// Visitors that turned out to be this person.
    pub anonymous_ids: &'a BTreeSet<String>,
}

impl<'a> Owner<'a> {
    fn of(person: &'a Person) -> Self {
        Self {
            id: person.id.as_deref(),
            email: person.email.as_deref(),
            phone: person.phone.as_deref(),
            anonymous_ids: &person.anonymous_ids,
        }
    }
}

/// Counts of a workspace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Counts {
    /// People.
    pub people: usize,
    /// Objects.
    pub objects: usize,
    /// Events that were stored, wherever they are now.
    pub events: u64,
    /// Events that were ignored because their `id` was seen before.
    pub duplicates_ignored: u64,
    /// Events that were stored although their `id` was seen before: de-duplication was off.
    pub duplicates_stored: u64,
    /// Operations that were applied.
    pub operations: u64,
    /// Entries of the activity log by kind.
    pub activity: BTreeMap<String, u64>,
}

impl Workspace {
    /// Returns everybody, in order of creation.
    #[must_use]
    pub fn people(&self) -> Vec<PersonView> {
        self.state.people.iter().map(|person| self.view(person)).collect()
    }

    /// Returns those whose identifiers contain `text` and whose `cio_id` is behind `after`, in
    /// order of creation, at most `limit`.
    #[must_use]
    pub fn search(&self, text: &str, after: &str, limit: usize) -> Vec<PersonView> {
        let text = text.to_lowercase();
        let matches = |person: &&Person| {
            let identifiers = person.identifiers();
            let mut values = identifiers.iter().map(Identifier::value);
            text.is_empty()
                || values.any(|value| value.to_lowercase().contains(&text))
                || person.anonymous_ids.iter().any(|id| id.to_lowercase().contains(&text))
        };
        let found = self.state.people.after(after).filter(matches).take(limit);
        found.map(|person| self.view(person)).collect()
    }

    /// Returns one person.
    #[must_use]
    pub fn person(&self, who: &Identifier) -> Option<PersonView> {
        let cio_id = self.state.people.find(who)?;
        self.state.people.get(&cio_id).map(|person| self.view(person))
    }

    fn view(&self, person: &Person) -> PersonView {
        let mut events = person.events.clone();
        events.sort_by(|a, b| {
            a.timestamp.0.total_cmp(&b.timestamp.0).then(a.sequence.cmp(&b.sequence))
        });
        let shown = |(name, attribute): (&String, &Attribute)| {
            (!attribute.value.is_null()).then(|| (name.clone(), attribute.clone()))
        };
        PersonView {
            cio_id: person.cio_id.clone(),
            id: person.id.clone(),
            email: person.email.clone(),
            phone: person.phone.clone(),
            made_at: person.made_at,
            anonymous_ids: person.anonymous_ids.iter().cloned().collect(),
            attributes: person.attributes.iter().filter_map(shown).collect(),
            devices: person.devices.clone(),
            relationships: self.relationships(person),
            events,
        }
    }

    fn relationships(&self, person: &Person) -> Vec<RelationView> {
        let related = person.objects.iter().filter_map(|id| self.state.objects.get(id));
        related
            .map(|object| RelationView {
                object_type_id: object.type_id.clone(),
                object_id: object.object_id.clone(),
                cio_object_id: object.cio_object_id.clone(),
                attributes: object.people.get(&person.cio_id).cloned().unwrap_or_default(),
            })
            .collect()
    }

    /// Returns all objects, in order of creation.
    #[must_use]
    pub fn objects(&self) -> Vec<Object> {
        self.state.objects.values().cloned().collect()
    }

    /// Returns one object.
    #[must_use]
    pub fn object(&self, object: &ObjectIdentifier) -> Option<&Object> {
        self.state.objects.get(&self.find_object(object)?)
    }

    /// Returns the stored events of everybody with a sequence above `since`, in the order in which
    /// they were applied, at most `limit`.
    #[must_use]
    pub fn events_since<'a>(
        &'a self,
        since: u64,
        limit: usize,
        now: Seconds,
    ) -> Vec<EventView<'a>> {
        let of_people = self
            .state
            .people
            .iter()
            .flat_map(|person| person.events.iter().map(move |event| (Some(person), event)));
        let unattached = self.unattached_events(now).map(|event| (None, event));
        let invites = self.state.invites.iter().map(|event| (None, event));
        let mut all: Vec<(Option<&Person>, &StoredEvent)> = of_people
            .chain(unattached)
            .chain(invites)
            .filter(|(_, event)| event.sequence > since)
            .collect();
        if limit < all.len() {
            // A page must not cost the sorting of everything behind it.
            all.select_nth_unstable_by_key(limit, |(_, event)| event.sequence);
            all.truncate(limit);
        }
        all.sort_unstable_by_key(|(_, event)| event.sequence);
        let view = |(person, event): (Option<&'a Person>, &'a StoredEvent)| EventView {
            sequence: event.sequence,
            cio_id: person.map(|person| person.cio_id.as_str()),
            person: person.map(Owner::of),
            event,
        };
        all.into_iter().map(view).collect()
    }

    /// Returns the kept entries of the activity log.
    #[must_use]
    pub fn activity(&self) -> Vec<Activity> {
        self.state.activity.entries.iter().cloned().collect()
    }

    /// Returns invites: events with a recipient and nobody behind them.
    #[must_use]
    pub fn invites(&self) -> &[StoredEvent] {
        &self.state.invites
    }

    /// Returns what was reported about messages.
    #[must_use]
    pub fn deliveries(&self) -> &[Map<String, Value>] {
        &self.state.deliveries
    }

    /// Returns the members of the manual segments by `cio_id`.
    #[must_use]
    pub fn segments(&self) -> &BTreeMap<String, BTreeSet<String>> {
        &self.state.segments
    }

    /// Returns the blocked identifiers as `kind:value`, with the number of their suppression.
    #[must_use]
    pub fn suppressed(&self) -> &BTreeMap<String, u64> {
        &self.state.suppressed
    }

    /// Returns the counts.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let activity = self.state.activity.counts.iter();
        let ignored = self.state.activity.counts.get(&ActivityKind::DuplicateEvent);
        Counts {
            duplicates_ignored: ignored.copied().unwrap_or_default(),
            duplicates_stored: self.state.duplicates_stored,
            people: self.state.people.len(),
            objects: self.state.objects.len(),
            events: self.state.events_stored,
            operations: self.state.operations_applied,
            activity: activity.map(|(kind, count)| (kind.name().to_owned(), *count)).collect(),
        }
    }

    /// Returns everything, as [`Workspace::restore`] takes it.
    pub(in crate::sandbox) fn snapshot(&self) -> &State {
        &self.state
    }

    /// Replaces everything by a snapshot. Operations that wait to be applied are dropped.
    pub(in crate::sandbox) fn restore(&mut self, state: State) {
        self.clear();
        self.state = state;
        self.index_objects();
    }
}
