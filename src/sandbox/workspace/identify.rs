//! Identify: whose profile it is, and which of its attributes change.
//!
//! Who is meant follows Customer.io's "How to identify people": the primary identifier decides, then
//! an identifier among the attributes; a set identifier changes only by `cio_id`; an id-only and an
//! e-mail-only person that one call names are merged.

use serde_json::{Map, Value};

use super::people::Attribute;
use super::{ActivityKind, Received, Workspace};
use crate::sandbox::clock::Seconds;
use crate::sandbox::operation::Identifier;
use crate::sandbox::validate::{looks_like_email, seconds};

/// Attributes per person.
const MAX_ATTRIBUTES: usize = 300;
const PREFERENCES: &str = "cio_subscription_preferences";
/// Attributes that Customer.io sets itself.
const READ_ONLY: [&str; 5] = [
    "cio_id",
    "_created_in_customerio_at",
    "_last_emailed",
    "_cio_subscription_preferences_computed",
    "timezone_valid",
];

impl Workspace {
    /// Applies an identify and returns the person's `cio_id`.
    pub(super) fn identify(
        &mut self,
        received: Received,
        who: &Identifier,
        mut attributes: Map<String, Value>,
        timestamp: Option<Seconds>,
    ) -> Option<String> {
        let update_only = attributes.remove("_update").is_some_and(|value| is_true(&value));
        let own_time = attributes.remove("_timestamp").and_then(|value| seconds(&value));
        let at = timestamp.or(own_time).unwrap_or(received.at);
        let visitor = attributes.remove("anonymous_id").as_ref().and_then(as_text);
        let named = self.named_identifiers(received, who, &mut attributes);

        let mut cio_id = self.resolve(received, who, &named, update_only)?;
        for identifier in &named {
            cio_id = self.set_named(received, who, cio_id, identifier);
        }
        if let Some(visitor) = visitor {
            self.attach_visitor(received, &cio_id, &visitor);
        }
        for (name, value) in attributes {
            self.set_attribute(received, &cio_id, name, value, at);
        }
        Some(cio_id)
    }

    /// Takes `id`, `email`, and `phone` out of the attributes. Empty ones are ignored, suppressed
    /// ones are left out and logged.
    fn named_identifiers(
        &mut self,
        received: Received,
        who: &Identifier,
        attributes: &mut Map<String, Value>,
    ) -> Vec<Identifier> {
        let id = attributes.remove("id").as_ref().and_then(as_text).map(Identifier::Id);
        let email = attributes.remove("email").as_ref().and_then(as_text);
        let email = email.filter(|email| looks_like_email(email)).map(Identifier::Email);
        let phone = if self.options.phone {
            attributes.remove("phone").as_ref().and_then(as_text).map(Identifier::Phone)
        } else {
            None
        };
        let mut named: Vec<_> = [id, email, phone].into_iter().flatten().collect();
        named.retain(|identifier| {
            let blocked = self.is_suppressed(identifier);
            if blocked {
                self.failed(received, who, &format!("{} is suppressed", identifier.key()));
            }
            !blocked
        });
        named
    }

    fn resolve(
        &mut self,
        received: Received,
        who: &Identifier,
        named: &[Identifier],
        update_only: bool,
    ) -> Option<String> {
        if let Some(cio_id) = self.state.people.find(who) {
            return Some(cio_id);
        }
        if !matches!(who, Identifier::CioId(_)) {
            let by_attribute = named.iter().find_map(|other| self.state.people.find(other));
            if let Some(cio_id) = by_attribute {
                self.state.people.set_identifier(&cio_id, who);
                return Some(cio_id);
            }
            if update_only {
                let detail = "`_update` is set and nobody matches";
                self.log(received, ActivityKind::UpdateOnlyNoMatch, Some(who.key()), detail);
                return None;
            }
        }
        self.find_or_create(received, who)
    }

    /// Sets an identifier that stood among the attributes; returns the person, who may have become
    /// another one by a merge.
    fn set_named(
        &mut self,
        received: Received,
        who: &Identifier,
        cio_id: String,
        identifier: &Identifier,
    ) -> String {
        let Some(person) = self.state.people.get(&cio_id) else { return cio_id };
        let present = person.same_kind(identifier);
        if present.as_ref().is_some_and(|present| present.key() == identifier.key()) {
            return cio_id;
        }
        match self.state.people.find(identifier) {
            Some(other) => {
                if self.may_merge(who, &cio_id, identifier, &other) {
                    let (primary, secondary) = self.older_first(cio_id, other);
                    self.merge(&primary, &secondary);
                    self.state.people.set_identifier(&primary, identifier);
                    self.state.people.set_identifier(&primary, who);
                    return primary;
                }
                let detail = format!("{} belongs to another person", identifier.key());
                self.failed(received, who, &detail);
            }
            None if present.is_none() || matches!(who, Identifier::CioId(_)) => {
                self.state.people.set_identifier(&cio_id, identifier);
            }
            None => {
                let detail = format!("{} can be changed by cio_id only", identifier.key());
                self.failed(received, who, &detail);
            }
        }
        cio_id
    }

    fn may_merge(&self, who: &Identifier, one: &str, named: &Identifier, other: &str) -> bool {
        let (Some(one), Some(other)) = (self.state.people.get(one), self.state.people.get(other))
        else {
            return false;
        };
        let complementary = match (who, named) {
            (Identifier::Id(_), Identifier::Email(_)) => one.email.is_none() && other.id.is_none(),
            (Identifier::Email(_), Identifier::Id(_)) => one.id.is_none() && other.email.is_none(),
            _ => false,
        };
        self.options.auto_merge && complementary
    }

    /// `cio_id`s count up, so the smaller one is the older.
    fn older_first(&self, one: String, other: String) -> (String, String) {
        if one <= other { (one, other) } else { (other, one) }
    }

    fn set_attribute(
        &mut self,
        received: Received,
        cio_id: &str,
        name: String,
        value: Value,
        at: Seconds,
    ) {
        if READ_ONLY.contains(&name.as_str()) {
            let who = Identifier::CioId(cio_id.to_owned());
            self.failed(received, &who, &format!("attribute `{name}` is read-only"));
            return;
        }
        let Some(person) = self.state.people.get_mut(cio_id) else { return };
        let (name, path) = match name.strip_prefix(PREFERENCES).and_then(|n| n.strip_prefix('.')) {
            Some(path) => (PREFERENCES.to_owned(), Some(path)),
            None => (name.clone(), None),
        };
        let present = person.attributes.get(&name);
        if present.is_some_and(|present| at < present.at) {
            return;
        }
        let value = match path {
            Some(path) => {
                let mut whole = present.map_or(Value::Null, |present| present.value.clone());
                set_inside(&mut whole, path, value);
                whole
            }
            None if removes(&value) => Value::Null,
            None => value,
        };
        let is_new = present.is_none_or(|present| present.value.is_null());
        let shown = || person.attributes.values().filter(|known| !known.value.is_null()).count();
        if is_new
            && !value.is_null()
            && person.attributes.len() >= MAX_ATTRIBUTES
            && shown() >= MAX_ATTRIBUTES
        {
            let who = Identifier::CioId(cio_id.to_owned());
            self.failed(received, &who, &format!("attribute `{name}` would be the 301st"));
            return;
        }
        person.attributes.insert(name, Attribute { value, at, request: received.request });
    }

    pub(super) fn failed(&mut self, received: Received, who: &Identifier, detail: &str) {
        self.log(received, ActivityKind::FailedAttributeChange, Some(who.key()), detail);
    }
}

/// `null` and the empty text remove an attribute.
pub(super) fn removes(value: &Value) -> bool {
    value.is_null() || value.as_str() == Some("")
}

fn is_true(value: &Value) -> bool {
    match value {
        Value::Bool(flag) => *flag,
        Value::String(text) => text.eq_ignore_ascii_case("true"),
        _ => false,
    }
}

/// Reads an identifier among the attributes; empty ones are as if absent.
fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn set_inside(whole: &mut Value, path: &str, value: Value) {
    if !whole.is_object() {
        *whole = Value::Object(Map::new());
    }
    let Some(members) = whole.as_object_mut() else { return };
    match path.split_once('.') {
        Some((first, rest)) => {
            set_inside(members.entry(first).or_insert(Value::Null), rest, value);
        }
        None if removes(&value) => {
            members.remove(path);
        }
        None => {
            members.insert(path.to_owned(), value);
        }
    }
}
