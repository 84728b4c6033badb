//! The JSON Schema of a configuration file, out of the declarations.

use serde_json::{Value, json};

use super::Config;
use super::declare::Section;

/// Returns the JSON Schema (draft 2020-12) of a configuration file, for editors.
///
/// It knows keys, types, ranges of plain numbers, and defaults; what concerns several keys only
/// [`Config::load`] checks.
#[must_use]
pub fn schema() -> Value {
    let mut schema = Config::describe();
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["title"] = "rudder-customerio".into();
    schema["$defs"] = json!({
        "reference": {
            "description": "The value of an environment variable or the content of a file.",
            "type": "string",
            "pattern": r"^\$\{(env:[A-Za-z_][A-Za-z0-9_]*|file:[^{}]+)\}$",
        },
    });
    schema
}

#[cfg(test)]
mod tests {
    use super::schema;

    #[test]
    fn the_written_schema_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/schema.json");
        let written: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap_or_default())
                .unwrap_or_default();
        assert!(written == schema(), "run: cargo run -- schema > config/schema.json");
    }

    #[test]
    fn every_key_has_a_description_and_a_default_or_is_required() {
        fn visit(schema: &serde_json::Value, path: &str) {
            if let Some(properties) = schema["properties"].as_object() {
                for (key, value) in properties {
                    let path = format!("{path}.{key}");
                    if value.get("const").is_none() || value.get("description").is_some() {
                        assert!(
                            value["description"].as_str().is_some_and(|d| !d.is_empty()),
                            "{path}"
                        );
                        let required =
                            schema["required"].to_string().contains(&format!("\"{key}\""));
                        assert!(required || value.get("default").is_some(), "{path}");
                    }
                    visit(value, &path);
                }
            }
            for members in ["anyOf", "oneOf"] {
                for option in schema[members].as_array().into_iter().flatten() {
                    visit(option, path);
                }
            }
            if let Some(items) = schema.get("items") {
                visit(items, path);
            }
        }
        visit(&schema(), "");
    }
}
