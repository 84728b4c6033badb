//! What a valid request asks the workspace to do, whichever API version said it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::clock::Seconds;

/// Names a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identifier {
    /// The sender's own id, case-sensitive.
    Id(String),
    /// An e-mail address, compared without case.
    Email(String),
    /// A phone number in E.164 form.
    Phone(String),
    /// Customer.io's own id, without `cio_` in front.
    CioId(String),
    /// An anonymous visitor; only events and anonymous relations may use it.
    Anonymous(String),
}

impl Identifier {
    /// Returns the value as it was given.
    #[must_use]
    pub fn value(&self) -> &str {
        match self {
            Self::Id(value)
            | Self::Email(value)
            | Self::Phone(value)
            | Self::CioId(value)
            | Self::Anonymous(value) => value,
        }
    }

    /// Returns kind and value in the form in which two spellings of one identifier are equal.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Id(value) => format!("id:{value}"),
            Self::Email(value) => format!("email:{}", value.to_lowercase()),
            Self::Phone(value) => format!("phone:{value}"),
            Self::CioId(value) => format!("cio_id:{value}"),
            Self::Anonymous(value) => format!("anonymous_id:{value}"),
        }
    }
}

/// Names an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectIdentifier {
    /// Type and id within the type.
    Pair {
        /// The type's id, digits.
        type_id: String,
        /// The object's id.
        object_id: String,
    },
    /// Customer.io's own id.
    CioObjectId(String),
}

/// A relationship seen from a person.
#[derive(Clone, Debug)]
pub struct ObjectRelation {
    /// The object.
    pub object: ObjectIdentifier,
    /// Attributes of the relationship.
    pub attributes: Map<String, Value>,
}

/// A relationship seen from an object.
#[derive(Clone, Debug)]
pub struct PersonRelation {
    /// The person or anonymous visitor.
    pub person: Identifier,
    /// Attributes of the relationship.
    pub attributes: Map<String, Value>,
}

/// The three kinds of activity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// `event`.
    Event,
    /// `page`.
    Page,
    /// `screen`.
    Screen,
}

impl EventKind {
    /// Returns the name in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Page => "page",
            Self::Screen => "screen",
        }
    }
}

/// An event, page view, or screen view.
#[derive(Clone, Debug)]
pub struct EventData {
    /// What it is.
    pub kind: EventKind,
    /// Trimmed name.
    pub name: String,
    /// The ULID that is the key of de-duplication.
    pub id: Option<u128>,
    /// When it happened, if the sender said so.
    pub timestamp: Option<Seconds>,
    /// The data.
    pub attributes: Map<String, Value>,
}

/// A device of a person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Device {
    /// `ios` or `android`.
    pub platform: String,
    /// When it was last used.
    pub last_used: Option<Seconds>,
    /// Its attributes.
    pub attributes: Map<String, Value>,
}

/// One change that a valid request asks for.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Add or update a person.
    Identify {
        /// The primary identifier.
        person: Identifier,
        /// Attributes, with the reserved ones.
        attributes: Map<String, Value>,
        /// When the values were true; the receive time if absent.
        timestamp: Option<Seconds>,
        /// Relationships to add (or remove).
        relations: Vec<ObjectRelation>,
        /// Whether the relationships are removed.
        unrelate: bool,
    },
    /// Record something a person or visitor did. `None`: nobody is named (v1 only).
    Event(Option<Identifier>, EventData),
    /// Delete a person.
    Delete(Identifier),
    /// Delete a person and block its identifiers.
    Suppress(Identifier),
    /// Free the identifiers that were blocked together.
    Unsuppress(Identifier),
    /// Add or remove relationships of a person.
    Relate {
        /// The person.
        person: Identifier,
        /// The relationships.
        relations: Vec<ObjectRelation>,
        /// Whether they are removed.
        remove: bool,
    },
    /// Add or update a device.
    AddDevice {
        /// The person.
        person: Identifier,
        /// The token.
        token: String,
        /// What is known of it.
        device: Device,
    },
    /// Remove a device.
    DeleteDevice {
        /// The person.
        person: Identifier,
        /// The token.
        token: String,
    },
    /// Merge `secondary` into `primary`.
    Merge {
        /// The person that stays.
        primary: Identifier,
        /// The person that goes.
        secondary: Identifier,
    },
    /// Add or update an object.
    IdentifyObject {
        /// The object.
        object: ObjectIdentifier,
        /// Its attributes.
        attributes: Map<String, Value>,
        /// Relationships to add.
        relations: Vec<PersonRelation>,
    },
    /// Delete an object with its relationships.
    DeleteObject(ObjectIdentifier),
    /// Add or remove relationships of an object.
    RelateObject {
        /// The object.
        object: ObjectIdentifier,
        /// The relationships.
        relations: Vec<PersonRelation>,
        /// Whether they are removed.
        remove: bool,
    },
    /// Record something about a message that was sent.
    Delivery(Map<String, Value>),
    /// Add people to a manual segment, or remove them.
    Segment {
        /// The segment's number.
        segment: String,
        /// The people; unknown ones are ignored.
        people: Vec<Identifier>,
        /// Whether they are removed.
        remove: bool,
    },
}

impl Operation {
    /// Returns the identifiers that the operation acts for; relations are not among them.
    #[must_use]
    pub fn people(&self) -> Vec<&Identifier> {
        match self {
            Self::Identify { person, .. }
            | Self::Event(Some(person), _)
            | Self::Delete(person)
            | Self::Suppress(person)
            | Self::Unsuppress(person)
            | Self::Relate { person, .. }
            | Self::AddDevice { person, .. }
            | Self::DeleteDevice { person, .. } => vec![person],
            Self::Merge { primary, secondary } => vec![primary, secondary],
            _ => Vec::new(),
        }
    }
}
