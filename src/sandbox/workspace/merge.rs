//! Merge: the secondary person goes, the primary keeps its own values and gets the others.

use super::{ActivityKind, Received, Workspace};
use crate::sandbox::operation::Identifier;

impl Workspace {
    /// Merges two named people, if there are two.
    pub(super) fn merge_named(
        &mut self,
        received: Received,
        primary: &Identifier,
        secondary: &Identifier,
    ) {
        let why = match (self.state.people.find(primary), self.state.people.find(secondary)) {
            (Some(one), Some(other)) if one != other => {
                self.merge(&one, &other);
                return;
            }
            (Some(_), Some(_)) => "both name the same person",
            (None, _) => "the primary does not exist",
            (_, None) => "the secondary does not exist",
        };
        self.log(received, ActivityKind::MergeIgnored, Some(primary.key()), why);
    }

    /// Moves everything that the primary lacks, and deletes the secondary.
    pub(super) fn merge(&mut self, primary: &str, secondary: &str) {
        let Some(gone) = self.state.people.remove(secondary) else { return };
        for identifier in gone.identifiers() {
            let lacks = |known: &super::Person| known.same_kind(&identifier).is_none();
            if self.state.people.get(primary).is_some_and(lacks) {
                self.state.people.set_identifier(primary, &identifier);
            }
        }
        for (token, device) in gone.devices {
            self.state.people.move_device(primary, token, device);
        }
        let Some(kept) = self.state.people.get_mut(primary) else { return };
        for (name, attribute) in gone.attributes {
            let empty = kept.attributes.get(&name).is_none_or(|known| known.value.is_null());
            if empty && !attribute.value.is_null() {
                kept.attributes.insert(name, attribute);
            }
        }
        kept.events.extend(gone.events);
        for visitor in &gone.anonymous_ids {
            if let Some(known) = self.state.visitors.get_mut(visitor) {
                known.owner = Some(primary.to_owned());
            }
        }
        kept.anonymous_ids.extend(gone.anonymous_ids);
        for cio_object_id in gone.objects {
            if let Some(object) = self.state.objects.get_mut(&cio_object_id) {
                let attributes = object.people.remove(secondary).unwrap_or_default();
                object.people.entry(primary.to_owned()).or_insert(attributes);
                kept.objects.insert(cio_object_id);
            }
        }
        for members in self.state.segments.values_mut() {
            if members.remove(secondary) {
                members.insert(primary.to_owned());
            }
        }
    }
}
