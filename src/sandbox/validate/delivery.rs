//! Events of messages that were sent.

use serde_json::{Map, Value};

use super::{Checked, ItemError, Members, attributes, identifiers, scalars, word};
use crate::sandbox::operation::Operation;
use crate::sandbox::options::Options;

/// Checks an operation of type `delivery`; `None`: there is no such action.
pub(super) fn operation(
    action: &str,
    mut members: Members,
    options: &Options,
) -> Checked<Option<Operation>> {
    if action != "event" {
        return Ok(None);
    }
    let id = identifiers::delivery(members.remove("identifiers"), options)?;
    let name = word(&mut members, "name")?;
    let Some(name) =
        name.filter(|name| matches!(name.as_str(), "opened" | "converted" | "delivered"))
    else {
        let message = "name must be one of opened, converted, delivered";
        return Err(ItemError::invalid("name", message));
    };
    let timestamp = scalars::optional_seconds(members.remove("timestamp"), "timestamp")?;
    let attributes = attributes::of_event(members.remove("attributes"), options)?;
    let token = attributes.get("device_token").and_then(Value::as_str).unwrap_or_default();
    if token.trim().is_empty() {
        let field = "attributes.device_token";
        return Err(ItemError::required(field, "device_token is required"));
    }
    let mut record = Map::new();
    record.insert("delivery_id".to_owned(), id.into());
    record.insert("metric".to_owned(), name.into());
    record.insert("device_token".to_owned(), token.into());
    if let Some(at) = timestamp {
        record.insert("timestamp".to_owned(), at.0.into());
    }
    Ok(Some(Operation::Delivery(record)))
}
