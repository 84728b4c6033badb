//! Attributes: how many, how long their names and values may be, and the reserved ones.

use serde_json::{Map, Value};

use super::identifiers::looks_like_email;
use super::{Checked, ItemError, scalars};
use crate::sandbox::options::{EventValues, NestedValues, Options};

const MAX_ATTRIBUTES: usize = 300;
const MAX_NAME_BYTES: usize = 150;
const MAX_VALUE_BYTES: usize = 1000;

/// Checks the attributes of a person, object, or relationship.
pub(super) fn of_profile(
    value: Option<Value>,
    field: &str,
    options: &Options,
) -> Checked<Map<String, Value>> {
    let attributes = members(value, field)?;
    if attributes.len() > MAX_ATTRIBUTES {
        let message = format!("cannot have more than {MAX_ATTRIBUTES} attributes");
        return Err(ItemError::invalid(field, message));
    }
    for (name, value) in &attributes {
        check_name(name, field)?;
        check_value(name, value, field, options)?;
    }
    Ok(attributes)
}

/// Checks the data of an event.
pub(super) fn of_event(value: Option<Value>, options: &Options) -> Checked<Map<String, Value>> {
    let attributes = members(value, "attributes")?;
    for (name, value) in &attributes {
        check_name(name, "attributes")?;
        if options.event_values == EventValues::Limited {
            check_value(name, value, "attributes", options)?;
        }
    }
    Ok(attributes)
}

/// Checks the attributes of a person that have a meaning of their own.
pub(super) fn check_reserved_of_person(attributes: &Map<String, Value>) -> Checked<()> {
    match attributes.get("email") {
        None | Some(Value::Null) => {}
        Some(Value::String(email)) if email.is_empty() || looks_like_email(email) => {}
        Some(_) => return Err(ItemError::invalid("attributes.email", "email is not valid")),
    }
    for name in ["created_at", "_timestamp"] {
        if let Some(value) = attributes.get(name) {
            scalars::check_created_at(value, &format!("attributes.{name}"))?;
        }
    }
    match attributes.get("cio_subscription_preferences") {
        None | Some(Value::Null | Value::Object(_)) => Ok(()),
        Some(_) => {
            let field = "attributes.cio_subscription_preferences";
            Err(ItemError::invalid(field, "must be an object"))
        }
    }
}

fn members(value: Option<Value>, field: &str) -> Checked<Map<String, Value>> {
    match value {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(members)) => Ok(members),
        Some(_) => {
            let name = field.rsplit('.').next().unwrap_or(field);
            Err(ItemError::invalid(field, format!("{name} must be an object")))
        }
    }
}

fn check_name(name: &str, field: &str) -> Checked<()> {
    let refuse = |message: String| Err(ItemError::invalid(format!("{field}.{name}"), message));
    if name.is_empty() {
        return refuse("attribute name cannot be empty".to_owned());
    }
    if name.len() > MAX_NAME_BYTES {
        return refuse(format!("attribute name cannot be longer than {MAX_NAME_BYTES} bytes"));
    }
    Ok(())
}

fn check_value(name: &str, value: &Value, field: &str, options: &Options) -> Checked<()> {
    let bytes = match value {
        Value::String(text) => text.len(),
        Value::Object(_) | Value::Array(_) if options.nested_values == NestedValues::Encoded => {
            value.to_string().len()
        }
        _ => 0,
    };
    if bytes > MAX_VALUE_BYTES {
        let message = format!("property value cannot be longer than {MAX_VALUE_BYTES} bytes");
        return Err(ItemError::invalid(format!("{field}.{name}"), message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(value: Value, options: &Options) -> String {
        of_profile(Some(value), "attributes", options).unwrap_err().message
    }

    #[test]
    fn names_and_values_are_measured_in_bytes() {
        let options = Options::default();
        let name = "å".repeat(76);
        assert_eq!(
            message(json!({ name: 1 }), &options),
            "attribute name cannot be longer than 150 bytes"
        );
        let value = "å".repeat(501);
        assert_eq!(
            message(json!({ "a": value }), &options),
            "property value cannot be longer than 1000 bytes"
        );
        assert_eq!(message(json!({"": 1}), &options), "attribute name cannot be empty");
    }

    #[test]
    fn no_more_than_300_members() {
        let many: Map<_, _> = (0..301).map(|n| (format!("a{n}"), json!(n))).collect();
        let options = Options::default();
        assert_eq!(message(Value::Object(many), &options), "cannot have more than 300 attributes");
    }

    #[test]
    fn nested_values_count_by_switch() {
        let value = json!({"a": ["x".repeat(1000)]});
        assert!(of_profile(Some(value.clone()), "attributes", &Options::default()).is_ok());
        let options = Options { nested_values: NestedValues::Encoded, ..Options::default() };
        assert!(message(value, &options).contains("1000 bytes"));
    }

    #[test]
    fn event_values_are_limited_by_switch() {
        let value = json!({"a": "x".repeat(1001)});
        assert!(of_event(Some(value.clone()), &Options::default()).is_ok());
        let options = Options { event_values: EventValues::Limited, ..Options::default() };
        assert!(of_event(Some(value), &options).is_err());
    }

    #[test]
    fn reserved_attributes_have_their_own_shape() {
        let check = |value: Value| check_reserved_of_person(value.as_object().unwrap());
        assert!(check(json!({"email": null, "created_at": "", "_timestamp": 5})).is_ok());
        assert!(check(json!({"email": "ada"})).is_err());
        assert!(check(json!({"created_at": 1_709_296_496_789_u64})).is_err());
        assert!(check(json!({"cio_subscription_preferences": []})).is_err());
    }
}
