//! What a Customer.io workspace stores, and how valid operations change it. No HTTP, no time of its
//! own: the caller says when an operation was received.
//!
//! Customer.io answers 200 to much that it then does not do; each such case is written to the
//! activity log instead.

pub mod activity;
mod anonymous;
mod events;
mod identify;
mod merge;
mod objects;
mod pending;
mod people;
mod suppression;
pub mod view;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use activity::{Activity, ActivityKind};
pub use anonymous::Visitor;
pub use events::{Data, StoredEvent};
pub use objects::Object;
pub use people::{Attribute, Person};

use super::clock::Seconds;
use super::operation::{Identifier, Operation};
use super::options::{BatchOrder, Options};
use super::validate::{self, ItemError};
use activity::ActivityLog;
use people::People;

/// Where an operation comes from, and when it was received.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// When the request was received.
    pub at: Seconds,
    /// Number of the request in the request log.
    pub request: u64,
    /// Position within the batch.
    pub item: Option<usize>,
    /// Whether events with an `id` that was seen before are ignored.
    pub dedupe: bool,
}

impl Received {
    /// An operation outside of any request, with de-duplication.
    #[must_use]
    #[cfg(feature = "cli")]
    pub fn at(at: Seconds) -> Self {
        Self { at, request: 0, item: None, dedupe: true }
    }
}

/// Everything that the workspace holds; its JSON form is the snapshot file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct State {
    people: People,
    objects: BTreeMap<String, Object>,
    objects_made: u64,
    visitors: BTreeMap<String, Visitor>,
    invites: Vec<StoredEvent>,
    deliveries: Vec<Map<String, Value>>,
    segments: BTreeMap<String, BTreeSet<String>>,
    /// Blocked identifier → number of the suppression that blocked it.
    suppressed: BTreeMap<String, u64>,
    suppressions_made: u64,
    #[serde(with = "events::seen_ids")]
    seen: HashSet<u128>,
    events_stored: u64,
    duplicates_stored: u64,
    operations_applied: u64,
    activity: ActivityLog,
}

/// A workspace.
#[derive(Clone, Debug, Default)]
pub struct Workspace {
    options: Options,
    state: State,
    pending: pending::Pending,
    object_index: HashMap<(String, String), String>,
    seed: u64,
    shuffles: u64,
}

impl Workspace {
    /// Makes an empty workspace. `seed` decides everything that is left to chance.
    #[must_use]
    pub fn new(options: Options, seed: u64) -> Self {
        Self { options, seed, ..Self::default() }
    }

    /// Returns the switches.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Forgets everything but the switches.
    pub fn clear(&mut self) {
        *self = Self::new(self.options.clone(), self.seed);
    }

    /// Checks one v2 operation that took `bytes` bytes in the request.
    ///
    /// # Errors
    ///
    /// The first error, as Customer.io would name it.
    pub fn validate(&self, item: Value, bytes: usize) -> Result<Operation, ItemError> {
        validate::operation(item, bytes, &self.options)
    }

    /// Checks a v2 operation and applies it at once, as a sequential model would.
    ///
    /// # Errors
    ///
    /// As [`Workspace::validate`]; nothing has changed then.
    #[cfg(feature = "cli")]
    pub fn accept(&mut self, received: Received, item: Value) -> Result<(), ItemError> {
        let bytes = item.to_string().len();
        let operation = self.validate(item, bytes)?;
        self.apply(received, operation);
        Ok(())
    }

    /// Takes the valid operations of one request, in order of their positions.
    ///
    /// They are applied at once, or after `apply_delay` by a later [`Workspace::settle`].
    pub fn take(&mut self, mut operations: Vec<(Received, Operation)>) {
        if self.options.batch_order == BatchOrder::Shuffle {
            self.shuffles += 1;
            let mut random = fastrand::Rng::with_seed(self.seed ^ self.shuffles.rotate_left(32));
            random.shuffle(&mut operations);
        }
        let delayed = self.options.apply_delay.0 + self.options.apply_jitter.0;
        for (received, operation) in operations {
            // A merge looks at what is there now: sent right after the identify of its primary it
            // finds nobody, as with the real service.
            if delayed.is_zero() || matches!(operation, Operation::Merge { .. }) {
                self.apply(received, operation);
            } else {
                self.pending.push(received, operation, &self.options, self.seed);
            }
        }
    }

    /// Applies the delayed operations that are due.
    pub fn settle(&mut self, now: Seconds) {
        while let Some((received, operation)) = self.pending.pop(now) {
            self.apply(received, operation);
        }
    }

    /// Applies one valid operation now.
    pub fn apply(&mut self, received: Received, operation: Operation) {
        let acts_for_blocked = !matches!(operation, Operation::Unsuppress(_))
            && operation.people().iter().any(|person| self.is_suppressed(person));
        if acts_for_blocked {
            let named = operation.people().first().map(|person| person.key());
            self.log(received, ActivityKind::Suppressed, named, "identifier is suppressed");
            return;
        }
        self.state.operations_applied += 1;
        match operation {
            Operation::Identify { person, attributes, timestamp, relations, unrelate } => {
                if let Some(cio_id) = self.identify(received, &person, attributes, timestamp) {
                    self.relate(&cio_id, relations, unrelate);
                }
            }
            Operation::Event(person, event) => self.event(received, person, event),
            Operation::Delete(person) => {
                if let Some(cio_id) = self.state.people.find(&person) {
                    self.delete_person(&cio_id);
                }
            }
            Operation::Suppress(person) => self.suppress(&person),
            Operation::Unsuppress(person) => self.unsuppress(&person),
            Operation::Relate { person, relations, remove } => {
                let found = if remove {
                    self.state.people.find(&person)
                } else {
                    self.find_or_create(received, &person)
                };
                if let Some(cio_id) = found {
                    self.relate(&cio_id, relations, remove);
                }
            }
            Operation::AddDevice { person, token, device } => {
                if let Some(cio_id) = self.find_or_create(received, &person) {
                    self.state.people.move_device(&cio_id, token, device);
                }
            }
            Operation::DeleteDevice { person, token } => {
                let cio_id = self.state.people.find(&person);
                if let Some(person) = cio_id.and_then(|id| self.state.people.get_mut(&id)) {
                    person.devices.remove(&token);
                }
            }
            Operation::Merge { primary, secondary } => {
                self.merge_named(received, &primary, &secondary);
            }
            Operation::IdentifyObject { object, attributes, relations } => {
                self.identify_object(received, &object, attributes, relations);
            }
            Operation::DeleteObject(object) => self.delete_object(&object),
            Operation::RelateObject { object, relations, remove } => {
                self.relate_object(received, &object, relations, remove);
            }
            Operation::Delivery(record) => self.state.deliveries.push(record),
            Operation::Segment { segment, people, remove } => {
                let found: Vec<_> =
                    people.iter().filter_map(|person| self.state.people.find(person)).collect();
                let members = self.state.segments.entry(segment).or_default();
                for cio_id in found {
                    if remove {
                        members.remove(&cio_id);
                    } else {
                        members.insert(cio_id);
                    }
                }
            }
        }
    }

    /// Finds a person, or makes a bare one; an unknown `cio_id` is logged.
    fn find_or_create(&mut self, received: Received, who: &Identifier) -> Option<String> {
        if let Some(cio_id) = self.state.people.find(who) {
            return Some(cio_id);
        }
        if matches!(who, Identifier::CioId(_)) {
            let detail = "no person has this cio_id";
            self.log(received, ActivityKind::UnknownCioId, Some(who.key()), detail);
            return None;
        }
        let cio_id = self.state.people.create(received.at);
        self.state.people.set_identifier(&cio_id, who);
        Some(cio_id)
    }

    fn delete_person(&mut self, cio_id: &str) {
        let Some(person) = self.state.people.remove(cio_id) else { return };
        for object in &person.objects {
            if let Some(object) = self.state.objects.get_mut(object) {
                object.people.remove(cio_id);
            }
        }
        for visitor in &person.anonymous_ids {
            self.free_visitor(visitor);
        }
        for members in self.state.segments.values_mut() {
            members.remove(cio_id);
        }
    }

    fn log(
        &mut self,
        received: Received,
        kind: ActivityKind,
        person: Option<String>,
        detail: impl Into<String>,
    ) {
        self.state.activity.push(received, kind, person, detail.into());
    }
}

#[cfg(test)]
mod tests;
