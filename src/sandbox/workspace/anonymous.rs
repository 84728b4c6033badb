//! Anonymous visitors: their events are kept 30 days, and join the person that an identify names,
//! together with those that arrive up to five minutes later.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Received, StoredEvent, Workspace};
use crate::sandbox::clock::Seconds;
use crate::sandbox::operation::Identifier;

/// How long anonymous events are kept, in seconds.
const KEPT: f64 = 30.0 * 86_400.0;
/// How long after an identify further events join, in seconds.
const JOINING: f64 = 300.0;

/// What is known of an `anonymous_id`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Visitor {
    /// Events that belong to nobody yet.
    pub events: Vec<StoredEvent>,
    /// The person, by `cio_id`.
    pub owner: Option<String>,
    /// Until when events join the owner.
    pub joins_until: Option<Seconds>,
}

impl Workspace {
    /// Attaches a visitor to a person: stored events and relations become the person's.
    pub(super) fn attach_visitor(&mut self, received: Received, cio_id: &str, visitor: &str) {
        let known = self.state.visitors.entry(visitor.to_owned()).or_default();
        if known.owner.as_ref().is_some_and(|owner| owner != cio_id) {
            let who = Identifier::CioId(cio_id.to_owned());
            let detail = format!("anonymous_id `{visitor}` belongs to another person");
            self.failed(received, &who, &detail);
            return;
        }
        known.owner = Some(cio_id.to_owned());
        known.joins_until = Some(Seconds(received.at.0 + JOINING));
        let mut events = std::mem::take(&mut known.events);
        events.retain(|event| is_kept(event, received.at));
        let Some(person) = self.state.people.get_mut(cio_id) else { return };
        person.anonymous_ids.insert(visitor.to_owned());
        person.events.append(&mut events);

        for (cio_object_id, object) in &mut self.state.objects {
            if let Some(attributes) = object.visitors.remove(visitor) {
                object.people.entry(cio_id.to_owned()).or_default().extend(attributes);
                person.objects.insert(cio_object_id.clone());
            }
        }
    }

    /// Returns the person whom a visitor's activity of this moment joins.
    pub(super) fn joined_to(&self, visitor: &str, at: Seconds) -> Option<String> {
        let known = self.state.visitors.get(visitor)?;
        let open = known.joins_until.is_some_and(|until| at <= until);
        known.owner.clone().filter(|_| open)
    }

    /// Takes a visitor from its person; what belongs to nobody is kept.
    pub(super) fn free_visitor(&mut self, visitor: &str) {
        if let Some(known) = self.state.visitors.get_mut(visitor) {
            known.owner = None;
            known.joins_until = None;
        }
    }

    pub(super) fn keep_unattached(&mut self, visitor: &str, event: StoredEvent, at: Seconds) {
        let known = self.state.visitors.entry(visitor.to_owned()).or_default();
        known.events.retain(|event| is_kept(event, at));
        known.events.push(event);
    }

    /// Returns the visitors' unattached events that are still kept.
    #[must_use]
    pub fn unattached(&self, now: Seconds) -> BTreeMap<String, Vec<StoredEvent>> {
        let kept = |visitor: &Visitor| -> Vec<StoredEvent> {
            visitor.events.iter().filter(|event| is_kept(event, now)).cloned().collect()
        };
        let all = self.state.visitors.iter().map(|(id, visitor)| (id.clone(), kept(visitor)));
        all.filter(|(_, events)| !events.is_empty()).collect()
    }

    /// Iterates over the visitors' unattached events that are still kept.
    pub(super) fn unattached_events(&self, now: Seconds) -> impl Iterator<Item = &StoredEvent> {
        let events = self.state.visitors.values().flat_map(|visitor| &visitor.events);
        events.filter(move |event| is_kept(event, now))
    }
}

fn is_kept(event: &StoredEvent, now: Seconds) -> bool {
    now.since(event.timestamp) <= KEPT
}
