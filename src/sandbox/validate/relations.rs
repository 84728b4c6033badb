//! Relationships: lists of objects seen from a person, or of people seen from an object.

use serde_json::{Map, Value};

use super::identifiers::{self, Allowed};
use super::{Checked, ItemError, attributes};
use crate::sandbox::operation::{ObjectRelation, PersonRelation};
use crate::sandbox::options::Options;

const FIELD: &str = "cio_relationships";

/// Checks the relationships of a person.
pub(super) fn of_person(
    value: Option<Value>,
    required: bool,
    options: &Options,
) -> Checked<Vec<ObjectRelation>> {
    each(value, required, |mut members, field| {
        let identifiers = members.remove("identifiers");
        let object = identifiers::object(identifiers, &format!("{field}.identifiers"), options)?;
        let attributes = relation_attributes(members, field, options)?;
        Ok(ObjectRelation { object, attributes })
    })
}

/// Checks the relationships of an object; with `anonymous` they name visitors.
pub(super) fn of_object(
    value: Option<Value>,
    required: bool,
    anonymous: bool,
    options: &Options,
) -> Checked<Vec<PersonRelation>> {
    let allowed = if anonymous { Allowed::anonymous() } else { Allowed::person(options) };
    each(value, required, |mut members, field| {
        let identifiers = members.remove("identifiers");
        let field_of_identifiers = format!("{field}.identifiers");
        let person = identifiers::person(identifiers, &field_of_identifiers, allowed, options)?;
        let attributes = relation_attributes(members, field, options)?;
        Ok(PersonRelation { person, attributes })
    })
}

/// The visitor that `identify_anonymous` may name at the top level.
pub(super) fn of_visitor(anonymous_id: Value, options: &Options) -> Checked<PersonRelation> {
    let identifiers = Value::Object(Map::from_iter([("anonymous_id".to_owned(), anonymous_id)]));
    let person = identifiers::person(Some(identifiers), "", Allowed::anonymous(), options)
        .map_err(|error| ItemError { field: "anonymous_id".to_owned(), ..error })?;
    Ok(PersonRelation { person, attributes: Map::new() })
}

fn each<T>(
    value: Option<Value>,
    required: bool,
    mut check: impl FnMut(Map<String, Value>, &str) -> Checked<T>,
) -> Checked<Vec<T>> {
    let items = match value {
        None | Some(Value::Null) if required => {
            return Err(ItemError::required(FIELD, "cio_relationships is required"));
        }
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(items)) => items,
        Some(_) => return Err(ItemError::invalid(FIELD, "must be an array")),
    };
    let one = |(index, item)| {
        let field = format!("{FIELD}[{index}]");
        match item {
            Value::Object(members) => check(members, &field),
            _ => Err(ItemError::invalid(field, "must be an object")),
        }
    };
    items.into_iter().enumerate().map(one).collect()
}

fn relation_attributes(
    mut members: Map<String, Value>,
    field: &str,
    options: &Options,
) -> Checked<Map<String, Value>> {
    let given = members.remove("relationship_attributes");
    attributes::of_profile(given, &format!("{field}.relationship_attributes"), options)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn errors_name_the_place_in_the_list() {
        let good = json!({"identifiers": {"object_type_id": "1", "object_id": "acme"}});
        let check = |value: Value| of_person(Some(value), true, &Options::default()).unwrap_err();
        let error = check(json!([good, {"identifiers": {"object_id": "x"}}]));
        assert_eq!(error.field, "cio_relationships[1].identifiers");
        assert_eq!(check(json!([good, 7])).field, "cio_relationships[1]");
        assert_eq!(check(json!({})).message, "must be an array");
        let error = check(json!([{"identifiers": {"object_type_id": 1, "object_id": "x"}}]));
        assert_eq!(error.field, "cio_relationships[0].identifiers.object_type_id");
    }

    #[test]
    fn a_missing_list_is_an_error_only_where_it_is_required() {
        let options = Options::default();
        assert_eq!(of_person(None, true, &options).unwrap_err().reason, "required");
        assert!(of_person(None, false, &options).unwrap().is_empty());
        assert!(of_person(Some(json!([])), true, &options).unwrap().is_empty());
    }

    #[test]
    fn visitors_are_named_only_in_anonymous_relations() {
        let options = Options::default();
        let value = || Some(json!([{"identifiers": {"anonymous_id": "a"}}]));
        assert!(of_object(value(), true, true, &options).is_ok());
        assert!(of_object(value(), true, false, &options).is_err());
    }
}
