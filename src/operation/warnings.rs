//! What Customer.io might refuse in an operation, counted and sent all the same.
//!
//! The limits are those of Customer.io's Track API documents. They can be raised for a workspace,
//! so the server is the judge. One metric, labelled by a code of a closed set.

use vrl::value::{ObjectMap, Value};

use super::grammar::{Action, Form, Type};

/// Longest `id`, `object_id`, `anonymous_id`, and attribute name, in bytes.
const MAX_ID_BYTES: usize = 150;
/// Longest name of an event, page, or screen, in bytes after trimming.
const MAX_NAME_BYTES: usize = 100;
/// Longest text of an attribute, in bytes.
const MAX_VALUE_BYTES: usize = 1000;
/// Most attributes of one identify.
const MAX_ATTRIBUTES: usize = 300;

/// Members that the Track API documents for some action.
const MEMBERS: [&str; 12] = [
    "action",
    "anonymous_id",
    "attributes",
    "cio_relationships",
    "device",
    "id",
    "identifiers",
    "name",
    "primary",
    "secondary",
    "timestamp",
    "type",
];

/// Every code.
pub const CODES: [&str; 22] = [
    "blank_id",
    "blank_name",
    "device_without_platform",
    "empty_attribute_name",
    "long_attribute_name",
    "long_event_value",
    "long_id",
    "long_name",
    "long_value",
    "many_attributes",
    "odd_attributes",
    "odd_cio_id",
    "odd_created_at",
    "odd_delivery_event",
    "odd_email",
    "odd_object_type_id",
    "odd_platform",
    "odd_relationships",
    "odd_subscription_preferences",
    "odd_timestamp",
    "unknown_identifier",
    "unknown_member",
];

/// Calls `warn` with a code for each doubtful thing; the same code may come more than once.
pub fn look(operation: &ObjectMap, form: Form, warn: &mut impl FnMut(&'static str)) {
    for (name, value) in operation {
        match name.as_str() {
            "identifiers" | "primary" | "secondary" => identifiers(value, form, warn),
            "name" => self::name(value, form, warn),
            "timestamp" if !is_time(value) => warn("odd_timestamp"),
            "attributes" => attributes(value, form, warn),
            "cio_relationships" => relationships(value, form, warn),
            "device" => device(value, form, warn),
            name if !MEMBERS.contains(&name) => warn("unknown_member"),
            _ => {}
        }
    }
}

fn identifiers(value: &Value, form: Form, warn: &mut impl FnMut(&'static str)) {
    for (name, value) in value.as_object().into_iter().flatten() {
        let text = value.to_str().unwrap_or_default();
        let anonymous_fits = matches!(
            form.action,
            Action::Event | Action::Page | Action::Screen | Action::IdentifyAnonymous
        );
        match name.as_str() {
            "anonymous_id" if !anonymous_fits => warn("unknown_identifier"),
            "id" | "object_id" | "anonymous_id" if text.len() > MAX_ID_BYTES => warn("long_id"),
            "id" | "object_id" | "anonymous_id" if text.trim().is_empty() => warn("blank_id"),
            "email" if !is_email(text) => warn("odd_email"),
            "cio_id" if !text.bytes().all(|b| b.is_ascii_alphanumeric()) => warn("odd_cio_id"),
            "object_type_id" if !is_digits(text) => warn("odd_object_type_id"),
            "id" | "object_id" | "anonymous_id" | "email" | "cio_id" | "object_type_id"
            | "cio_object_id" | "phone" => {}
            _ => warn("unknown_identifier"),
        }
    }
}

fn name(value: &Value, form: Form, warn: &mut impl FnMut(&'static str)) {
    let name = value.to_str().unwrap_or_default().trim();
    if name.is_empty() {
        warn("blank_name");
    } else if form.type_ == Type::Delivery && !matches!(name, "opened" | "converted" | "delivered")
    {
        warn("odd_delivery_event");
    } else if name.len() > MAX_NAME_BYTES {
        warn("long_name");
    }
}

fn attributes(value: &Value, form: Form, warn: &mut impl FnMut(&'static str)) {
    let Value::Object(attributes) = value else { return warn("odd_attributes") };
    let is_identify = matches!(form.action, Action::Identify | Action::IdentifyAnonymous);
    if is_identify && attributes.len() > MAX_ATTRIBUTES {
        warn("many_attributes");
    }
    sizes(attributes, if is_identify { "long_value" } else { "long_event_value" }, warn);
    if !is_identify || form.type_ != Type::Person {
        return;
    }
    match attributes.get("email") {
        None | Some(Value::Null) => {}
        Some(email) if email.to_str().is_some_and(|e| e.is_empty() || is_email(e)) => {}
        Some(_) => warn("odd_email"),
    }
    if attributes.get("created_at").is_some_and(|v| !v.is_null() && !is_time(v)) {
        warn("odd_created_at");
    }
    if attributes.get("cio_subscription_preferences").is_some_and(|v| !v.is_object()) {
        warn("odd_subscription_preferences");
    }
}

fn sizes(attributes: &ObjectMap, long_value: &'static str, warn: &mut impl FnMut(&'static str)) {
    for (name, value) in attributes {
        if name.is_empty() {
            warn("empty_attribute_name");
        } else if name.len() > MAX_ID_BYTES {
            warn("long_attribute_name");
        }
        let bytes = match value {
            Value::String(text) => text.len(),
            Value::Bytes(text) => text.len(),
            _ => 0,
        };
        if bytes > MAX_VALUE_BYTES {
            warn(long_value);
        }
    }
}

fn relationships(value: &Value, form: Form, warn: &mut impl FnMut(&'static str)) {
    let Value::Array(items) = value else { return warn("odd_relationships") };
    for item in items.iter().filter_map(Value::as_object) {
        if let Some(value) = item.get("identifiers") {
            identifiers(value, form, warn);
        }
        match item.get("relationship_attributes") {
            Some(Value::Object(attributes)) => sizes(attributes, "long_value", warn),
            Some(_) => warn("odd_relationships"),
            None => {}
        }
    }
}

fn device(value: &Value, form: Form, warn: &mut impl FnMut(&'static str)) {
    let Value::Object(device) = value else { return };
    if form.action == Action::AddDevice {
        match device.get("platform") {
            None | Some(Value::Null) => warn("device_without_platform"),
            Some(platform) if matches!(platform.to_str(), Some("ios" | "android")) => {}
            Some(_) => warn("odd_platform"),
        }
    }
    if device.get("last_used").is_some_and(|v| !is_time(v)) {
        warn("odd_timestamp");
    }
    if device.get("attributes").is_some_and(|v| !v.is_object()) {
        warn("odd_attributes");
    }
}

/// Tells whether a value is a Unix time in seconds, as a number or as digits.
fn is_time(value: &Value) -> bool {
    const END: i64 = 100_000_000_000;
    match value {
        Value::Integer(seconds) => (0..END).contains(seconds),
        #[expect(clippy::cast_precision_loss, reason = "the bound is exact as a float")]
        Value::Float(seconds) => (0.0..END as f64).contains(&seconds.into_inner()),
        value => value.to_str().is_some_and(|text| text.len() <= 11 && is_digits(text)),
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Tells whether a text has the shape that every e-mail address has.
fn is_email(text: &str) -> bool {
    let Some((user, domain)) = text.split_once('@') else { return false };
    let inner = domain.trim_matches('.');
    text.len() <= 254
        && !user.is_empty()
        && !domain.contains('@')
        && inner.contains('.')
        && inner.len() == domain.len()
        && !text.chars().any(|c| c.is_whitespace() || c.is_control())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::grammar;
    use super::*;

    #[test]
    fn every_code_is_listed() {
        let source = include_str!("warnings.rs").split("#[cfg(test)]").next().unwrap();
        let said = source.split("warn(\"").skip(1).filter_map(|rest| rest.split('"').next());
        for code in said.chain(["long_value", "long_event_value"]) {
            assert!(CODES.contains(&code), "{code}");
        }
    }

    fn codes(json: serde_json::Value) -> Vec<&'static str> {
        let value: Value = serde_json::from_value(json).unwrap();
        let operation = value.as_object().unwrap();
        let form = grammar::check(operation).unwrap();
        let mut codes = Vec::new();
        look(operation, form, &mut |code| codes.push(code));
        codes
    }

    fn person(action: &str, members: serde_json::Value) -> Vec<&'static str> {
        let mut operation = members;
        operation["type"] = json!("person");
        operation["action"] = json!(action);
        if operation.get("identifiers").is_none() {
            operation["identifiers"] = json!({ "id": "u" });
        }
        codes(operation)
    }

    #[test]
    fn each_doubtful_thing_has_its_code() {
        let long = "x".repeat(1001);
        let many: serde_json::Map<_, _> = (0..301).map(|i| (format!("a{i}"), json!(i))).collect();
        for (action, members, code) in [
            ("identify", json!({ "more": 1 }), "unknown_member"),
            ("identify", json!({ "identifiers": { "shoe": "43" } }), "unknown_identifier"),
            ("identify", json!({ "identifiers": { "anonymous_id": "a" } }), "unknown_identifier"),
            ("identify", json!({ "identifiers": { "id": "x".repeat(151) } }), "long_id"),
            ("identify", json!({ "identifiers": { "id": " " } }), "blank_id"),
            ("identify", json!({ "identifiers": { "email": "a@b" } }), "odd_email"),
            ("identify", json!({ "identifiers": { "cio_id": "cio_1" } }), "odd_cio_id"),
            ("identify", json!({ "attributes": [] }), "odd_attributes"),
            ("identify", json!({ "attributes": { "x": long } }), "long_value"),
            ("identify", json!({ "attributes": { "": 1 } }), "empty_attribute_name"),
            ("identify", json!({ "attributes": { "x".repeat(151): 1 } }), "long_attribute_name"),
            ("identify", json!({ "attributes": many }), "many_attributes"),
            ("identify", json!({ "attributes": { "email": 5 } }), "odd_email"),
            (
                "identify",
                json!({ "attributes": { "created_at": "2024" , "cio_subscription_preferences": {} } }),
                "",
            ),
            ("identify", json!({ "attributes": { "created_at": "2024-01-01" } }), "odd_created_at"),
            (
                "identify",
                json!({ "attributes": { "cio_subscription_preferences": 1 } }),
                "odd_subscription_preferences",
            ),
            ("identify", json!({ "timestamp": 1_700_000_000_000_i64 }), "odd_timestamp"),
            ("identify", json!({ "timestamp": -1 }), "odd_timestamp"),
            ("identify", json!({ "timestamp": null }), "odd_timestamp"),
            ("identify", json!({ "cio_relationships": {} }), "odd_relationships"),
            ("event", json!({ "name": " " }), "blank_name"),
            ("event", json!({ "name": "é".repeat(51) }), "long_name"),
            ("event", json!({ "name": "e", "attributes": { "x": long } }), "long_event_value"),
            ("add_device", json!({ "device": { "token": "t" } }), "device_without_platform"),
            (
                "add_device",
                json!({ "device": { "token": "t", "platform": "web" } }),
                "odd_platform",
            ),
            ("delete_device", json!({ "device": { "token": "t" } }), ""),
        ] {
            let expected: Vec<_> = Some(code).filter(|c| !c.is_empty()).into_iter().collect();
            assert_eq!(person(action, members.clone()), expected, "{action} {members}");
        }
        let object = json!({ "type": "object", "action": "identify",
            "identifiers": { "object_type_id": "one", "object_id": "a" },
            "cio_relationships": [{ "identifiers": { "email": "x" }, "relationship_attributes": 1 }] });
        assert_eq!(codes(object), ["odd_email", "odd_relationships", "odd_object_type_id"]);
        let delivery = json!({ "type": "delivery", "action": "event",
            "identifiers": { "id": "d" }, "name": "eaten" });
        assert_eq!(codes(delivery), ["odd_delivery_event"]);
    }

    #[test]
    fn ordinary_operations_are_silent() {
        let identify = json!({ "identifiers": { "email": "a+b@x.example.org" }, "timestamp": 1.5,
            "attributes": { "email": null, "created_at": 0, "x": "x".repeat(1000), "y": { "": "z" } } });
        assert_eq!(person("identify", identify), Vec::<&str>::new());
        let event = json!({ "identifiers": { "anonymous_id": "a" }, "name": "e", "timestamp": "1700000000" });
        assert_eq!(person("event", event), Vec::<&str>::new());
    }

    #[test]
    fn email_shapes() {
        for good in ["a@b.c", "é+x@d-e.example", "\"a\"@b.c"] {
            assert!(is_email(good), "{good}");
        }
        for bad in ["", "a", "@b.c", "a@", "a@b", "a@.b", "a@b.", "a@b@c.d", "a b@c.d", "a@c.d\n"] {
            assert!(!is_email(bad), "{bad}");
        }
        assert!(!is_email(&format!("{}@b.cc", "a".repeat(250))));
    }
}
