//! The grammar of a Customer.io Track API v2 operation, as far as breaking it is an error.
//!
//! A script's result is refused only for what can never be an operation: an unknown `type` or
//! `action`, identifiers without exactly one non-empty text, and a missing member without which the
//! action means nothing. Everything else that Customer.io might refuse is a counted warning (see
//! [`super::warnings`]): the server is the judge.

use vrl::value::{ObjectMap, Value};

/// What an operation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A person.
    Person,
    /// An object, such as a company.
    Object,
    /// A message that Customer.io sent.
    Delivery,
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Identify,
    IdentifyAnonymous,
    Delete,
    Event,
    Page,
    Screen,
    AddRelationships,
    DeleteRelationships,
    AddDevice,
    DeleteDevice,
    Merge,
    Suppress,
    Unsuppress,
}

/// Type and action of a checked operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// What it is about.
    pub type_: Type,
    /// What it does.
    pub action: Action,
}

/// A broken rule: the member, as a path in the operation, and what it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Path such as `identifiers.id`.
    pub member: String,
    /// What is asked of it, such as `must be a non-empty text`.
    pub rule: &'static str,
}

const TYPES: &str = "must be one of person, object, delivery";
const PERSON_ACTIONS: &str = "must be an action of type person: identify, delete, event, page, \
    screen, add_relationships, delete_relationships, add_device, delete_device, merge, suppress, \
    unsuppress";
const OBJECT_ACTIONS: &str = "must be an action of type object: identify, identify_anonymous, \
    delete, add_relationships, delete_relationships";
const DELIVERY_ACTIONS: &str = "must be the action of type delivery: event";
const TEXT: &str = "must be a non-empty text";
const ONE: &str = "must have exactly one member, a non-empty text";
const OBJECT: &str = "must have exactly the members object_type_id and object_id, or cio_object_id";

/// Checks the whole result of a script: one operation or an array of them.
///
/// # Errors
///
/// A text that names `script` and the member that is wrong.
pub fn check_root(root: &Value, script: &str) -> Result<(), String> {
    match root {
        Value::Object(operation) => check(operation).map(drop).map_err(|f| f.tell(script, None)),
        Value::Array(items) => items.iter().enumerate().try_for_each(|(i, item)| match item {
            Value::Object(operation) => {
                check(operation).map(drop).map_err(|f| f.tell(script, Some(i)))
            }
            _ => Err(not_an_object(script, i)),
        }),
        _ => Err(not_a_result(script)),
    }
}

pub(super) fn not_a_result(script: &str) -> String {
    format!("{script}: the result must be an operation (an object) or an array of operations")
}

pub(super) fn not_an_object(script: &str, index: usize) -> String {
    format!("{script}: operations[{index}] must be an object")
}

impl Fault {
    fn new(member: impl Into<String>, rule: &'static str) -> Self {
        Self { member: member.into(), rule }
    }

    fn within(mut self, outer: &str) -> Self {
        self.member = format!("{outer}.{}", self.member);
        self
    }

    /// Says it in one line; `index` is the operation's place if the script returned an array.
    #[must_use]
    pub fn tell(&self, script: &str, index: Option<usize>) -> String {
        let Self { member, rule } = self;
        match index {
            Some(i) => format!("{script}: operations[{i}].{member} {rule}"),
            None => format!("{script}: {member} {rule}"),
        }
    }
}

/// Checks one operation.
///
/// # Errors
///
/// The first rule that is broken.
pub fn check(operation: &ObjectMap) -> Result<Form, Fault> {
    let form = form(operation)?;
    let Form { type_, action } = form;
    match (type_, action) {
        (Type::Person, Action::Merge) => {
            for side in ["primary", "secondary"] {
                one(operation.get(side), side)?;
            }
            return Ok(form);
        }
        (Type::Object, _) => object(operation.get("identifiers"), "identifiers")?,
        _ => one(operation.get("identifiers"), "identifiers")?,
    }
    match action {
        Action::Event | Action::Page | Action::Screen => text(operation.get("name"), "name")?,
        Action::AddDevice | Action::DeleteDevice => {
            let device = operation.get("device").and_then(Value::as_object);
            text(device.and_then(|d| d.get("token")), "device.token")?;
        }
        _ => {}
    }
    relationships(operation, form)?;
    Ok(form)
}

fn form(operation: &ObjectMap) -> Result<Form, Fault> {
    let word = |member: &str| operation.get(member).and_then(Value::to_str).unwrap_or_default();
    let (type_, actions) = match word("type") {
        "person" => (Type::Person, PERSON_ACTIONS),
        "object" => (Type::Object, OBJECT_ACTIONS),
        "delivery" => (Type::Delivery, DELIVERY_ACTIONS),
        _ => return Err(Fault::new("type", TYPES)),
    };
    let action = match (type_, word("action")) {
        (Type::Person | Type::Object, "identify") => Action::Identify,
        (Type::Object, "identify_anonymous") => Action::IdentifyAnonymous,
        (Type::Person | Type::Object, "delete") => Action::Delete,
        (Type::Person | Type::Delivery, "event") => Action::Event,
        (Type::Person, "page") => Action::Page,
        (Type::Person, "screen") => Action::Screen,
        (Type::Person | Type::Object, "add_relationships") => Action::AddRelationships,
        (Type::Person | Type::Object, "delete_relationships") => Action::DeleteRelationships,
        (Type::Person, "add_device") => Action::AddDevice,
        (Type::Person, "delete_device") => Action::DeleteDevice,
        (Type::Person, "merge") => Action::Merge,
        (Type::Person, "suppress") => Action::Suppress,
        (Type::Person, "unsuppress") => Action::Unsuppress,
        _ => return Err(Fault::new("action", actions)),
    };
    Ok(Form { type_, action })
}

/// The relationship actions need their list; elsewhere it may be absent or (a warning) no list.
fn relationships(operation: &ObjectMap, form: Form) -> Result<(), Fault> {
    let needed = matches!(form.action, Action::AddRelationships | Action::DeleteRelationships);
    let Some(items) = operation.get("cio_relationships").and_then(Value::as_array) else {
        let fault = || Fault::new("cio_relationships", "must be an array");
        return if needed { Err(fault()) } else { Ok(()) };
    };
    for (i, item) in items.iter().enumerate() {
        let identifiers = item.as_object().and_then(|item| item.get("identifiers"));
        let checked = match form.type_ {
            Type::Person => object(identifiers, "identifiers"),
            _ => one(identifiers, "identifiers"),
        };
        checked.map_err(|fault| fault.within(&format!("cio_relationships[{i}]")))?;
    }
    Ok(())
}

fn one(identifiers: Option<&Value>, member: &str) -> Result<(), Fault> {
    let identifiers = identifiers.and_then(Value::as_object);
    let Some(identifiers) = identifiers.filter(|ids| ids.len() == 1) else {
        return Err(Fault::new(member, ONE));
    };
    for (name, value) in identifiers {
        text(Some(value), name).map_err(|fault| fault.within(member))?;
    }
    Ok(())
}

fn object(identifiers: Option<&Value>, member: &str) -> Result<(), Fault> {
    let identifiers = identifiers.and_then(Value::as_object);
    let known = |ids: &&ObjectMap| match ids.len() {
        1 => ids.contains_key("cio_object_id"),
        2 => ids.contains_key("object_type_id") && ids.contains_key("object_id"),
        _ => false,
    };
    let identifiers = identifiers.filter(known).ok_or_else(|| Fault::new(member, OBJECT))?;
    for (name, value) in identifiers {
        text(Some(value), name).map_err(|fault| fault.within(member))?;
    }
    Ok(())
}

fn text(value: Option<&Value>, member: &str) -> Result<(), Fault> {
    match value.and_then(Value::to_str) {
        Some(text) if !text.is_empty() => Ok(()),
        _ => Err(Fault::new(member, TEXT)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fault(json: serde_json::Value) -> Option<String> {
        let root: Value = serde_json::from_value(json).unwrap();
        check_root(&root, "x.vrl").err()
    }

    fn with(base: serde_json::Value, members: serde_json::Value) -> serde_json::Value {
        let mut base = base;
        for (name, value) in members.as_object().unwrap() {
            base[name] = value.clone();
        }
        base
    }

    #[test]
    fn every_documented_action_passes_with_what_it_needs() {
        let object = json!({ "identifiers": { "object_type_id": "1", "object_id": "acme" } });
        for (type_, action, members) in [
            ("person", "identify", json!({ "identifiers": { "id": "u" } })),
            ("person", "delete", json!({ "identifiers": { "email": "a" } })),
            ("person", "suppress", json!({ "identifiers": { "cio_id": "a" } })),
            ("person", "unsuppress", json!({ "identifiers": { "phone": "+1" } })),
            ("person", "event", json!({ "identifiers": { "anonymous_id": "a" }, "name": "x" })),
            ("person", "page", json!({ "identifiers": { "id": "a" }, "name": "x" })),
            ("person", "screen", json!({ "identifiers": { "id": "a" }, "name": "x" })),
            (
                "person",
                "add_relationships",
                json!({ "identifiers": { "id": "a" }, "cio_relationships": [object] }),
            ),
            (
                "person",
                "delete_relationships",
                json!({ "identifiers": { "id": "a" }, "cio_relationships": [] }),
            ),
            (
                "person",
                "add_device",
                json!({ "identifiers": { "id": "a" }, "device": { "token": "t" } }),
            ),
            (
                "person",
                "delete_device",
                json!({ "identifiers": { "id": "a" }, "device": { "token": "t" } }),
            ),
            ("person", "merge", json!({ "primary": { "id": "a" }, "secondary": { "email": "b" } })),
            ("object", "identify", object.clone()),
            (
                "object",
                "identify_anonymous",
                with(
                    object.clone(),
                    json!({ "cio_relationships": [{ "identifiers": { "anonymous_id": "a" } }] }),
                ),
            ),
            ("object", "delete", json!({ "identifiers": { "cio_object_id": "ob7" } })),
            (
                "object",
                "add_relationships",
                with(
                    object.clone(),
                    json!({ "cio_relationships": [{ "identifiers": { "id": "a" } }] }),
                ),
            ),
            (
                "object",
                "delete_relationships",
                with(object.clone(), json!({ "cio_relationships": [] })),
            ),
            ("delivery", "event", json!({ "identifiers": { "id": "d" }, "name": "opened" })),
        ] {
            let operation = with(members, json!({ "type": type_, "action": action }));
            assert_eq!(fault(operation.clone()), None, "{operation}");
            assert_eq!(fault(json!([operation, operation])), None, "{operation}");
        }
        assert_eq!(fault(json!([])), None);
    }

    #[test]
    fn each_error_names_script_and_member() {
        let person = |action: &str, members| {
            with(
                json!({ "type": "person", "action": action, "identifiers": { "id": "u" } }),
                members,
            )
        };
        for (operation, message) in [
            (json!({}), "x.vrl: type must be one of"),
            (person("identify", json!({ "type": "people" })), "x.vrl: type must be one of"),
            (person("identify", json!({ "type": null })), "x.vrl: type must be one of"),
            (person("viewed_content", json!({})), "x.vrl: action must be an action of type person"),
            (
                person("identify_anonymous", json!({})),
                "x.vrl: action must be an action of type person",
            ),
            (person("Identify", json!({})), "x.vrl: action must be an action of type person"),
            (
                json!({ "type": "object", "action": "event" }),
                "x.vrl: action must be an action of type object",
            ),
            (json!({ "type": "delivery" }), "x.vrl: action must be the action of type delivery"),
            (
                person("identify", json!({ "identifiers": null })),
                "x.vrl: identifiers must have exactly one member",
            ),
            (
                person("identify", json!({ "identifiers": "u" })),
                "x.vrl: identifiers must have exactly one member",
            ),
            (
                person("identify", json!({ "identifiers": {} })),
                "x.vrl: identifiers must have exactly one member",
            ),
            (
                person("identify", json!({ "identifiers": { "id": "a", "email": "b" } })),
                "x.vrl: identifiers must have exactly one member",
            ),
            (
                person("identify", json!({ "identifiers": { "id": 7 } })),
                "x.vrl: identifiers.id must be a non-empty text",
            ),
            (
                person("identify", json!({ "identifiers": { "email": "" } })),
                "x.vrl: identifiers.email must be a non-empty text",
            ),
            (person("event", json!({})), "x.vrl: name must be a non-empty text"),
            (person("page", json!({ "name": "" })), "x.vrl: name must be a non-empty text"),
            (person("screen", json!({ "name": 5 })), "x.vrl: name must be a non-empty text"),
            (person("add_device", json!({})), "x.vrl: device.token must be a non-empty text"),
            (
                person("delete_device", json!({ "device": { "token": null } })),
                "x.vrl: device.token must be",
            ),
            (person("add_relationships", json!({})), "x.vrl: cio_relationships must be an array"),
            (
                person(
                    "add_relationships",
                    json!({ "cio_relationships": [{ "identifiers": { "id": "x" } }] }),
                ),
                "x.vrl: cio_relationships[0].identifiers must have exactly the members object_type_id",
            ),
            (
                json!({ "type": "person", "action": "merge", "primary": { "id": "a" } }),
                "x.vrl: secondary must have exactly one member",
            ),
            (
                json!({ "type": "person", "action": "merge", "secondary": { "id": "a" } }),
                "x.vrl: primary must have exactly one member",
            ),
            (
                json!({ "type": "person", "action": "merge", "primary": { "id": "" }, "secondary": { "id": "a" } }),
                "x.vrl: primary.id must be a non-empty text",
            ),
            (
                json!({ "type": "object", "action": "delete", "identifiers": { "object_id": "a" } }),
                "x.vrl: identifiers must have exactly the members",
            ),
            (
                json!({ "type": "object", "action": "delete", "identifiers": { "object_id": "a", "object_type_id": 1 } }),
                "x.vrl: identifiers.object_type_id must be a non-empty text",
            ),
            (
                json!({ "type": "object", "action": "delete", "identifiers": { "object_id": "a", "object_type_id": "1", "cio_object_id": "x" } }),
                "x.vrl: identifiers must have exactly the members",
            ),
            (
                json!({ "type": "object", "action": "identify", "identifiers": { "cio_object_id": "x" }, "cio_relationships": [{ "identifiers": { "id": "a" } }, 5] }),
                "x.vrl: cio_relationships[1].identifiers must have exactly one",
            ),
            (
                json!([person("identify", json!({})), person("event", json!({}))]),
                "x.vrl: operations[1].name must be a non-empty text",
            ),
            (json!([7]), "x.vrl: operations[0] must be an object"),
            (json!("text"), "x.vrl: the result must be an operation"),
            (json!(null), "x.vrl: the result must be an operation"),
        ] {
            let told = fault(operation.clone()).unwrap_or_default();
            assert!(
                told.starts_with(message),
                "{told:?} does not begin with {message:?}: {operation}"
            );
        }
    }

    #[test]
    fn what_the_server_may_judge_is_no_error() {
        for operation in [
            json!({ "type": "person", "action": "identify", "identifiers": { "email": "not a mail" }, "attributes": 5 }),
            json!({ "type": "person", "action": "identify", "identifiers": { "shoe_size": "43" } }),
            json!({ "type": "person", "action": "event", "identifiers": { "id": "u" }, "name": "  ", "timestamp": "soon" }),
            json!({ "type": "person", "action": "identify", "identifiers": { "id": "u" }, "cio_relationships": "x", "more": 1 }),
        ] {
            assert_eq!(fault(operation), None);
        }
    }
}
