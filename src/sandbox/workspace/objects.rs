//! Objects and their relationships to people and visitors.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::identify::removes;
use super::{ActivityKind, Received, Workspace};
use crate::sandbox::operation::{Identifier, ObjectIdentifier, ObjectRelation, PersonRelation};

/// An object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Object {
    /// Customer.io's id.
    pub cio_object_id: String,
    /// The type's id, digits.
    pub type_id: String,
    /// The id within the type.
    pub object_id: String,
    /// The attributes as sent.
    pub attributes: Map<String, Value>,
    /// Related people by `cio_id`, with the relationship's attributes.
    pub people: BTreeMap<String, Map<String, Value>>,
    /// Related visitors by `anonymous_id`, with the relationship's attributes.
    pub visitors: BTreeMap<String, Map<String, Value>>,
}

impl Workspace {
    pub(super) fn find_object(&self, object: &ObjectIdentifier) -> Option<String> {
        match object {
            ObjectIdentifier::CioObjectId(id) => {
                self.state.objects.get(id).map(|object| object.cio_object_id.clone())
            }
            ObjectIdentifier::Pair { type_id, object_id } => {
                self.object_index.get(&(type_id.clone(), object_id.clone())).cloned()
            }
        }
    }

    fn find_or_create_object(&mut self, object: &ObjectIdentifier) -> Option<String> {
        if let Some(found) = self.find_object(object) {
            return Some(found);
        }
        let ObjectIdentifier::Pair { type_id, object_id } = object else { return None };
        self.state.objects_made += 1;
        let cio_object_id = format!("ob{:010x}", self.state.objects_made);
        let made = Object {
            cio_object_id: cio_object_id.clone(),
            type_id: type_id.clone(),
            object_id: object_id.clone(),
            ..Object::default()
        };
        self.object_index.insert((type_id.clone(), object_id.clone()), cio_object_id.clone());
        self.state.objects.insert(cio_object_id.clone(), made);
        Some(cio_object_id)
    }

    /// Builds the index anew, after a snapshot was read.
    pub(super) fn index_objects(&mut self) {
        let pair = |object: &Object| (object.type_id.clone(), object.object_id.clone());
        let objects = self.state.objects.values();
        self.object_index =
            objects.map(|object| (pair(object), object.cio_object_id.clone())).collect();
    }

    pub(super) fn identify_object(
        &mut self,
        received: Received,
        object: &ObjectIdentifier,
        attributes: Map<String, Value>,
        relations: Vec<PersonRelation>,
    ) {
        let Some(cio_object_id) = self.find_or_create_object(object) else { return };
        if let Some(object) = self.state.objects.get_mut(&cio_object_id) {
            update(&mut object.attributes, attributes);
        }
        self.add_people(received, &cio_object_id, relations);
    }

    pub(super) fn delete_object(&mut self, object: &ObjectIdentifier) {
        let Some(cio_object_id) = self.find_object(object) else { return };
        let Some(gone) = self.state.objects.remove(&cio_object_id) else { return };
        self.object_index.remove(&(gone.type_id, gone.object_id));
        for cio_id in gone.people.keys() {
            if let Some(person) = self.state.people.get_mut(cio_id) {
                person.objects.remove(&cio_object_id);
            }
        }
    }

    pub(super) fn relate_object(
        &mut self,
        received: Received,
        object: &ObjectIdentifier,
        relations: Vec<PersonRelation>,
        remove: bool,
    ) {
        if !remove {
            if let Some(cio_object_id) = self.find_or_create_object(object) {
                self.add_people(received, &cio_object_id, relations);
            }
            return;
        }
        let Some(cio_object_id) = self.find_object(object) else { return };
        for relation in relations {
            if let Some(cio_id) = self.state.people.find(&relation.person) {
                self.unlink(&cio_id, &cio_object_id);
            }
        }
    }

    /// Adds or removes relationships seen from a person; unknown objects are made.
    pub(super) fn relate(&mut self, cio_id: &str, relations: Vec<ObjectRelation>, remove: bool) {
        for relation in relations {
            if remove {
                if let Some(cio_object_id) = self.find_object(&relation.object) {
                    self.unlink(cio_id, &cio_object_id);
                }
            } else if let Some(cio_object_id) = self.find_or_create_object(&relation.object) {
                self.link(cio_id, &cio_object_id, relation.attributes);
            }
        }
    }

    fn add_people(
        &mut self,
        received: Received,
        cio_object_id: &str,
        relations: Vec<PersonRelation>,
    ) {
        for relation in relations {
            if self.is_suppressed(&relation.person) {
                let detail = "related person is suppressed";
                let person = Some(relation.person.key());
                self.log(received, ActivityKind::Suppressed, person, detail);
                continue;
            }
            let cio_id = match &relation.person {
                Identifier::Anonymous(visitor) => self.joined_to(visitor, received.at),
                known => self.find_or_create(received, known),
            };
            match (cio_id, relation.person) {
                (Some(cio_id), _) => self.link(&cio_id, cio_object_id, relation.attributes),
                (None, Identifier::Anonymous(visitor)) => {
                    if let Some(object) = self.state.objects.get_mut(cio_object_id) {
                        update(object.visitors.entry(visitor).or_default(), relation.attributes);
                    }
                }
                (None, _) => {}
            }
        }
    }

    fn link(&mut self, cio_id: &str, cio_object_id: &str, attributes: Map<String, Value>) {
        if let Some(object) = self.state.objects.get_mut(cio_object_id)
            && let Some(person) = self.state.people.get_mut(cio_id)
        {
            update(object.people.entry(cio_id.to_owned()).or_default(), attributes);
            person.objects.insert(cio_object_id.to_owned());
        }
    }

    fn unlink(&mut self, cio_id: &str, cio_object_id: &str) {
        if let Some(object) = self.state.objects.get_mut(cio_object_id) {
            object.people.remove(cio_id);
        }
        if let Some(person) = self.state.people.get_mut(cio_id) {
            person.objects.remove(cio_object_id);
        }
    }
}

fn update(known: &mut Map<String, Value>, given: Map<String, Value>) {
    for (name, value) in given {
        if removes(&value) {
            known.remove(&name);
        } else {
            known.insert(name, value);
        }
    }
}
