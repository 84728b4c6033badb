//! Devices of people.

use serde_json::{Map, Value};

use super::{Checked, ItemError, Members, scalars};
use crate::sandbox::operation::Device;

fn device_members(device: Option<Value>) -> Checked<Members> {
    match device {
        None | Some(Value::Null) => Err(ItemError::required("device", "device is required")),
        Some(Value::Object(members)) => Ok(members),
        Some(_) => Err(ItemError::invalid("device", "must be an object")),
    }
}

fn token(device: &mut Members) -> Checked<String> {
    match device.remove("token") {
        None | Some(Value::Null) => Err(ItemError::required("device.token", "token is required")),
        Some(Value::String(text)) if text.trim().is_empty() => {
            Err(ItemError::required("device.token", "token is required"))
        }
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(ItemError::invalid("device.token", "token must be a string")),
    }
}

/// Checks a device that is added.
pub(super) fn added(device: Option<Value>) -> Checked<(String, Device)> {
    let mut members = device_members(device)?;
    let token = token(&mut members)?;
    let platform = match members.remove("platform") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) if text.trim().is_empty() => None,
        Some(value) => Some(value),
    };
    let platform = match platform {
        None => return Err(ItemError::required("device.platform", "platform is required")),
        Some(Value::String(text)) if text == "ios" || text == "android" => text,
        Some(_) => {
            let message = "platform must be one of ios, android";
            return Err(ItemError::invalid("device.platform", message));
        }
    };
    let last_used = scalars::optional_seconds(members.remove("last_used"), "device.last_used")?;
    let attributes = match members.remove("attributes") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(attributes)) => attributes,
        Some(_) => return Err(ItemError::invalid("device.attributes", "must be an object")),
    };
    Ok((token, Device { platform, last_used, attributes }))
}

/// Checks a device that is removed.
pub(super) fn removed(device: Option<Value>) -> Checked<String> {
    token(&mut device_members(device)?)
}
