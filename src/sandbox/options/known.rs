//! What exists in the workspace beforehand: object types, segments.

use std::collections::BTreeSet;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// The ids that exist beforehand in the workspace: `any`, or a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Known {
    /// Every id exists.
    #[default]
    Any,
    /// Only these exist.
    Only(BTreeSet<String>),
}

impl Known {
    /// Tells whether the id exists.
    #[must_use]
    pub fn has(&self, id: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(ids) => ids.contains(id),
        }
    }
}

impl Serialize for Known {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Any => serializer.serialize_str("any"),
            Self::Only(ids) => ids.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Known {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ids: Vec<String> = match Value::deserialize(deserializer)? {
            Value::String(text) if text == "any" => return Ok(Self::Any),
            Value::String(text) => text.split(',').map(|id| id.trim().to_owned()).collect(),
            Value::Number(number) => vec![number.to_string()],
            Value::Array(items) => items
                .iter()
                .map(|item| match item {
                    Value::String(text) => Ok(text.clone()),
                    Value::Number(number) => Ok(number.to_string()),
                    _ => Err(D::Error::custom("ids must be texts")),
                })
                .collect::<Result<_, _>>()?,
            _ => return Err(D::Error::custom("expected `any` or a list of ids")),
        };
        Ok(Self::Only(ids.into_iter().collect()))
    }
}
