//! The JSON Schema of a section while it is put together.

use serde_json::{Map, Value, json};

use crate::config::yaml;

/// The schema of a reference, which may stand for every scalar that is no plain text.
pub(in crate::config) fn reference_schema() -> Value {
    json!({ "$ref": "#/$defs/reference" })
}

/// Collects the schema of a section.
pub(in crate::config) struct Description {
    properties: Map<String, Value>,
    required: Vec<&'static str>,
}

impl Description {
    pub(in crate::config) fn new() -> Self {
        Self { properties: Map::new(), required: Vec::new() }
    }

    pub(in crate::config) fn key(
        &mut self,
        key: &'static str,
        text: &str,
        schema: Value,
        default: Option<&'static str>,
    ) {
        let mut members = match schema {
            Value::Object(members) => members,
            other => Map::from_iter([("allOf".to_owned(), json!([other]))]),
        };
        members.insert("description".to_owned(), prose(text).into());
        match default {
            Some(text) => {
                if let Ok(node) = yaml::parse(text, "default") {
                    members.insert("default".to_owned(), node.to_json());
                }
            }
            None => self.required.push(key),
        }
        self.properties.insert(key.to_owned(), Value::Object(members));
    }

    pub(in crate::config) fn finish(self, text: &str) -> Value {
        let mut schema = json!({
            "type": ["object", "null"],
            "description": prose(text),
            "additionalProperties": false,
            "properties": self.properties,
        });
        if !self.required.is_empty() {
            schema["type"] = "object".into();
            schema["required"] = json!(self.required);
        }
        schema
    }
}

/// Joins the lines of a doc comment.
fn prose(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
