//! The people and the indexes by which they are found.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::StoredEvent;
use crate::sandbox::clock::Seconds;
use crate::sandbox::operation::{Device, Identifier};

/// A value and when it was set.
///
/// A removed attribute stays as `null`, so that an older update that arrives later cannot bring it
/// back; no view shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Attribute {
    /// The value as sent.
    pub value: Value,
    /// When it was true.
    pub at: Seconds,
    /// The request that set it.
    pub request: u64,
}

/// A person.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Person {
    /// Customer.io's id.
    pub cio_id: String,
    /// The sender's id.
    pub id: Option<String>,
    /// The e-mail address as first spelt.
    pub email: Option<String>,
    /// The phone number.
    pub phone: Option<String>,
    /// Visitors that turned out to be this person.
    pub anonymous_ids: BTreeSet<String>,
    /// Attributes other than identifiers.
    pub attributes: BTreeMap<String, Attribute>,
    /// Devices by token.
    pub devices: BTreeMap<String, Device>,
    /// Related objects, by `cio_object_id`; the attributes are with the object.
    pub objects: BTreeSet<String>,
    /// Events in order of arrival.
    pub events: Vec<StoredEvent>,
    /// When the person was made here.
    pub made_at: Seconds,
}

/// All people. Iteration is in order of `cio_id`, which is the order of creation.
#[derive(Clone, Debug, Default)]
pub(super) struct People {
    people: BTreeMap<String, Person>,
    made: u64,
    by_id: HashMap<String, String>,
    by_email: HashMap<String, String>,
    by_phone: HashMap<String, String>,
    by_device: HashMap<String, String>,
}

#[derive(Deserialize)]
struct Stored {
    made: u64,
    people: Vec<Person>,
}

#[derive(Serialize)]
struct Kept<'a> {
    made: u64,
    people: Vec<&'a Person>,
}

impl Serialize for People {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Kept { made: self.made, people: self.people.values().collect() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for People {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = Stored::deserialize(deserializer)?;
        let mut all = Self { made: stored.made, ..Self::default() };
        for person in stored.people {
            for identifier in person.identifiers() {
                all.index(&identifier, &person.cio_id);
            }
            for token in person.devices.keys() {
                all.by_device.insert(token.clone(), person.cio_id.clone());
            }
            all.people.insert(person.cio_id.clone(), person);
        }
        Ok(all)
    }
}

impl Person {
    /// Returns the identifiers that are set, with `cio_id`.
    #[must_use]
    pub fn identifiers(&self) -> Vec<Identifier> {
        [
            self.id.clone().map(Identifier::Id),
            self.email.clone().map(Identifier::Email),
            self.phone.clone().map(Identifier::Phone),
            Some(Identifier::CioId(self.cio_id.clone())),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Returns the identifier of the same kind as `like`.
    pub(super) fn same_kind(&self, like: &Identifier) -> Option<Identifier> {
        match like {
            Identifier::Id(_) => self.id.clone().map(Identifier::Id),
            Identifier::Email(_) => self.email.clone().map(Identifier::Email),
            Identifier::Phone(_) => self.phone.clone().map(Identifier::Phone),
            Identifier::CioId(_) => Some(Identifier::CioId(self.cio_id.clone())),
            Identifier::Anonymous(_) => None,
        }
    }
}

impl People {
    pub(super) fn find(&self, who: &Identifier) -> Option<String> {
        match who {
            Identifier::Id(id) => self.by_id.get(id).cloned(),
            Identifier::Email(email) => self.by_email.get(&email.to_lowercase()).cloned(),
            Identifier::Phone(phone) => self.by_phone.get(phone).cloned(),
            Identifier::CioId(id) => self.people.get(id).map(|person| person.cio_id.clone()),
            Identifier::Anonymous(_) => None,
        }
    }

    pub(super) fn get(&self, cio_id: &str) -> Option<&Person> {
        self.people.get(cio_id)
    }

    pub(super) fn get_mut(&mut self, cio_id: &str) -> Option<&mut Person> {
        self.people.get_mut(cio_id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Person> {
        self.people.values()
    }

    /// Iterates behind a `cio_id`.
    pub(super) fn after<'a>(&'a self, cio_id: &str) -> impl Iterator<Item = &'a Person> + use<'a> {
        let bounds = (Bound::Excluded(cio_id), Bound::Unbounded);
        self.people.range::<str, _>(bounds).map(|(_, person)| person)
    }

    pub(super) fn len(&self) -> usize {
        self.people.len()
    }

    /// Makes a bare person and returns its `cio_id`: 12 hexadecimal digits from a counter.
    pub(super) fn create(&mut self, at: Seconds) -> String {
        self.made += 1;
        let cio_id = format!("{:012x}", self.made);
        let person = Person { cio_id: cio_id.clone(), made_at: at, ..Person::default() };
        self.people.insert(cio_id.clone(), person);
        cio_id
    }

    /// Gives a person an identifier instead of the one of that kind it had.
    pub(super) fn set_identifier(&mut self, cio_id: &str, identifier: &Identifier) {
        let Some(person) = self.people.get_mut(cio_id) else { return };
        let before = person.same_kind(identifier);
        match identifier {
            Identifier::Id(id) => person.id = Some(id.clone()),
            Identifier::Email(email) => person.email = Some(email.clone()),
            Identifier::Phone(phone) => person.phone = Some(phone.clone()),
            Identifier::CioId(_) | Identifier::Anonymous(_) => return,
        }
        if let Some(before) = before {
            self.unindex(&before);
        }
        self.index(identifier, cio_id);
    }

    pub(super) fn remove(&mut self, cio_id: &str) -> Option<Person> {
        let person = self.people.remove(cio_id)?;
        for identifier in person.identifiers() {
            self.unindex(&identifier);
        }
        for token in person.devices.keys() {
            self.by_device.remove(token);
        }
        Some(person)
    }

    /// Gives a device to a person; a token belongs to one person only.
    pub(super) fn move_device(&mut self, cio_id: &str, token: String, device: Device) {
        let owner = self.by_device.insert(token.clone(), cio_id.to_owned());
        if let Some(owner) = owner.filter(|owner| owner != cio_id)
            && let Some(owner) = self.people.get_mut(&owner)
        {
            owner.devices.remove(&token);
        }
        if let Some(person) = self.people.get_mut(cio_id) {
            person.devices.insert(token, device);
        }
    }

    fn index(&mut self, identifier: &Identifier, cio_id: &str) {
        match identifier {
            Identifier::Id(id) => self.by_id.insert(id.clone(), cio_id.to_owned()),
            Identifier::Email(email) => {
                self.by_email.insert(email.to_lowercase(), cio_id.to_owned())
            }
            Identifier::Phone(phone) => self.by_phone.insert(phone.clone(), cio_id.to_owned()),
            Identifier::CioId(_) | Identifier::Anonymous(_) => None,
        };
    }

    fn unindex(&mut self, identifier: &Identifier) {
        match identifier {
            Identifier::Id(id) => self.by_id.remove(id),
            Identifier::Email(email) => self.by_email.remove(&email.to_lowercase()),
            Identifier::Phone(phone) => self.by_phone.remove(phone),
            Identifier::CioId(_) | Identifier::Anonymous(_) => None,
        };
    }
}
