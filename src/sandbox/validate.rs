//! Which operations of the Track API v2 are valid, and the first error of those that are not.
//!
//! Shape and limits are Customer.io's documentation; the texts, where none are published, are ours.

mod attributes;
mod delivery;
mod device;
mod identifiers;
mod relations;
mod scalars;

pub(super) use identifiers::looks_like_email;
pub(super) use scalars::{parse_ulid, seconds};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::operation::{EventData, EventKind, Identifier, Operation};
use super::options::Options;
use identifiers::Allowed;

/// Largest operation, in bytes as received.
pub const MAX_ENTITY_BYTES: usize = 32_768;
/// Largest `POST /api/v2/batch`, in bytes.
pub const MAX_BATCH_BYTES: usize = 500_000;
/// Largest v1 request, in bytes.
pub const MAX_V1_BYTES: usize = 131_072;

/// Why an operation is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemError {
    /// `required` or `invalid`.
    #[serde(default = "invalid")]
    pub reason: String,
    /// Path of the member, empty for the whole.
    #[serde(default)]
    pub field: String,
    /// What is wrong.
    #[serde(default = "injected")]
    pub message: String,
}

fn invalid() -> String {
    "invalid".to_owned()
}

fn injected() -> String {
    "injected".to_owned()
}

impl Default for ItemError {
    fn default() -> Self {
        Self::invalid("", "injected")
    }
}

impl ItemError {
    /// A member is missing.
    pub(super) fn required(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { reason: "required".to_owned(), field: field.into(), message: message.into() }
    }

    /// A member is wrong.
    pub(super) fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { reason: "invalid".to_owned(), field: field.into(), message: message.into() }
    }
}

type Members = Map<String, Value>;
type Checked<T> = Result<T, ItemError>;

/// Checks one v2 operation that took `bytes` bytes in the request.
///
/// # Errors
///
/// The first error, in the order of Customer.io's members: size, type, action, identifiers, name,
/// id, timestamp, attributes, device, relationships, merge.
pub fn operation(item: Value, bytes: usize, options: &Options) -> Checked<Operation> {
    let Value::Object(mut members) = item else {
        return Err(ItemError::invalid("", "must be an object"));
    };
    if bytes > MAX_ENTITY_BYTES {
        let message = format!("entity cannot be larger than {MAX_ENTITY_BYTES} bytes");
        return Err(ItemError::invalid("", message));
    }
    let kind = word(&mut members, "type")?;
    if !matches!(kind.as_deref(), Some("person" | "object" | "delivery")) {
        return Err(ItemError::invalid("type", "type must be one of person, object, delivery"));
    }
    let kind = kind.unwrap_or_default();
    let action = word(&mut members, "action")?.unwrap_or_default();
    let checked = match kind.as_str() {
        "person" => person(&action, members, options)?,
        "object" => object(&action, members, options)?,
        _ => delivery::operation(&action, members, options)?,
    };
    checked.ok_or_else(|| {
        ItemError::invalid("action", format!("action is not supported for type {kind}"))
    })
}

/// Takes a member that must be there; `None` if it is no text.
fn word(members: &mut Members, name: &str) -> Checked<Option<String>> {
    match members.remove(name) {
        None | Some(Value::Null) => Err(ItemError::required(name, format!("{name} is required"))),
        Some(Value::String(text)) if text.trim().is_empty() => {
            Err(ItemError::required(name, format!("{name} is required")))
        }
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Ok(None),
    }
}

fn person(action: &str, mut members: Members, options: &Options) -> Checked<Option<Operation>> {
    let event = match action {
        "event" => Some(EventKind::Event),
        "page" => Some(EventKind::Page),
        "screen" => Some(EventKind::Screen),
        _ => None,
    };
    let members = &mut members;
    if let Some(kind) = event {
        let person = identifiers::person(
            members.remove("identifiers"),
            "identifiers",
            Allowed::person(options).or_anonymous(),
            options,
        )?;
        return Ok(Some(Operation::Event(Some(person), event_data(kind, members, options)?)));
    }
    if action == "merge" {
        let primary = identifiers::merge_side(members.remove("primary"), "primary", options)?;
        let secondary = identifiers::merge_side(members.remove("secondary"), "secondary", options)?;
        return Ok(Some(Operation::Merge { primary, secondary }));
    }
    if !matches!(
        action,
        "identify"
            | "delete"
            | "suppress"
            | "unsuppress"
            | "add_relationships"
            | "delete_relationships"
            | "add_device"
            | "delete_device"
    ) {
        return Ok(None);
    }
    let person = identifiers::person(
        members.remove("identifiers"),
        "identifiers",
        Allowed::person(options),
        options,
    )?;
    let operation = match action {
        "identify" => identify(person, members, options)?,
        "delete" => Operation::Delete(person),
        "suppress" => Operation::Suppress(person),
        "unsuppress" => Operation::Unsuppress(person),
        "add_device" => {
            let (token, device) = device::added(members.remove("device"))?;
            Operation::AddDevice { person, token, device }
        }
        "delete_device" => {
            let token = device::removed(members.remove("device"))?;
            Operation::DeleteDevice { person, token }
        }
        _ => Operation::Relate {
            person,
            relations: relations::of_person(members.remove("cio_relationships"), true, options)?,
            remove: action == "delete_relationships",
        },
    };
    Ok(Some(operation))
}

fn identify(person: Identifier, members: &mut Members, options: &Options) -> Checked<Operation> {
    let timestamp = scalars::optional_seconds(members.remove("timestamp"), "timestamp")?;
    let attributes = attributes::of_profile(members.remove("attributes"), "attributes", options)?;
    attributes::check_reserved_of_person(&attributes)?;
    let relations = relations::of_person(members.remove("cio_relationships"), false, options)?;
    Ok(Operation::Identify { person, attributes, timestamp, relations, unrelate: false })
}

fn event_data(kind: EventKind, members: &mut Members, options: &Options) -> Checked<EventData> {
    let name = scalars::event_name(members.remove("name"))?;
    let id = scalars::event_id(members.remove("id"), options)?;
    let timestamp = scalars::optional_seconds(members.remove("timestamp"), "timestamp")?;
    let attributes = attributes::of_event(members.remove("attributes"), options)?;
    Ok(EventData { kind, name, id, timestamp, attributes })
}

fn object(action: &str, mut members: Members, options: &Options) -> Checked<Option<Operation>> {
    if !matches!(
        action,
        "identify" | "identify_anonymous" | "delete" | "add_relationships" | "delete_relationships"
    ) {
        return Ok(None);
    }
    let object = identifiers::object(members.remove("identifiers"), "identifiers", options)?;
    let anonymous = action == "identify_anonymous";
    let operation = match action {
        "delete" => Operation::DeleteObject(object),
        "identify" | "identify_anonymous" => {
            let given = members.remove("attributes");
            let attributes = attributes::of_profile(given, "attributes", options)?;
            if let Some(created_at) = attributes.get("created_at") {
                scalars::check_created_at(created_at, "attributes.created_at")?;
            }
            let given = members.remove("cio_relationships");
            let mut relations = relations::of_object(given, false, anonymous, options)?;
            // The documentation's short example names the visitor at the top level instead.
            if anonymous && let Some(visitor) = members.remove("anonymous_id") {
                relations.push(relations::of_visitor(visitor, options)?);
            }
            Operation::IdentifyObject { object, attributes, relations }
        }
        _ => {
            let given = members.remove("cio_relationships");
            let relations = relations::of_object(given, true, false, options)?;
            let remove = action == "delete_relationships";
            Operation::RelateObject { object, relations, remove }
        }
    };
    Ok(Some(operation))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(item: Value) -> (String, String, String) {
        let error = operation(item, 10, &Options::default()).unwrap_err();
        (error.reason, error.field, error.message)
    }

    fn expect(item: Value, reason: &str, field: &str, message: &str) {
        let expected = (reason.to_owned(), field.to_owned(), message.to_owned());
        assert_eq!(refused(item.clone()), expected, "{item}");
    }

    #[test]
    fn the_first_failing_check_gives_the_error() {
        expect(json!(7), "invalid", "", "must be an object");
        expect(json!({}), "required", "type", "type is required");
        let message = "type must be one of person, object, delivery";
        expect(json!({"type": "robot", "action": ""}), "invalid", "type", message);
        expect(json!({"type": "person"}), "required", "action", "action is required");
        let message = "action is not supported for type object";
        expect(json!({"type": "object", "action": "event"}), "invalid", "action", message);
        let item = json!({"type": "person", "action": "event", "identifiers": {"id": " "}});
        expect(item, "invalid", "identifiers.id", "id must be a non-empty string");
    }

    #[test]
    fn an_item_over_32_kb_is_refused_by_its_bytes_as_received() {
        let item = json!({"type": "person", "action": "delete", "identifiers": {"id": "u"}});
        let options = Options::default();
        assert!(operation(item.clone(), MAX_ENTITY_BYTES, &options).is_ok());
        let error = operation(item, MAX_ENTITY_BYTES + 1, &options).unwrap_err();
        assert_eq!(error.message, "entity cannot be larger than 32768 bytes");
    }

    #[test]
    fn devices_are_checked_member_by_member() {
        let with = |device: Value| json!({"type": "person", "action": "add_device", "identifiers": {"id": "u"}, "device": device});
        expect(with(Value::Null), "required", "device", "device is required");
        expect(with(json!("t")), "invalid", "device", "must be an object");
        expect(with(json!({"token": ""})), "required", "device.token", "token is required");
        let field = "device.platform";
        expect(with(json!({"token": "t"})), "required", field, "platform is required");
        let message = "platform must be one of ios, android";
        expect(with(json!({"token": "t", "platform": "web"})), "invalid", field, message);
    }

    #[test]
    fn merges_name_one_identifier_on_each_side() {
        let with = |primary: Value| json!({"type": "person", "action": "merge", "primary": primary, "secondary": {"id": "b"}});
        expect(with(Value::Null), "required", "primary", "primary is required");
        let message = "must have exactly one identifier";
        expect(with(json!({"id": "a", "email": "a@b.c"})), "invalid", "primary", message);
        expect(with(json!({})), "invalid", "primary", message);
        assert!(operation(with(json!({"id": "a"})), 10, &Options::default()).is_ok());
    }

    #[test]
    fn deliveries_need_a_known_name_and_a_token() {
        let with = |name: &str, attributes: Value| json!({"type": "delivery", "action": "event", "identifiers": {"id": "d"}, "name": name, "attributes": attributes});
        let message = "name must be one of opened, converted, delivered";
        expect(with("bounced", json!({})), "invalid", "name", message);
        let field = "attributes.device_token";
        expect(with("opened", json!({})), "required", field, "device_token is required");
    }
}
