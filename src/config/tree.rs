//! A document as a tree in which every value knows its place.
//!
//! YAML and TOML both become this tree. Its `Debug` shows kinds and places only, because values may
//! be secrets.

use std::fmt;

/// Line and column (in characters) of a key or value, both from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1; 0 when the whole file is meant.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// A value and its place.
#[derive(Clone, PartialEq)]
pub struct Node {
    /// The value.
    pub data: Data,
    /// Where it begins.
    pub at: Position,
}

/// A value of the JSON model.
#[derive(Clone, PartialEq)]
pub enum Data {
    /// `null`, `~`, or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// Text, and every plain scalar that is nothing else.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A mapping in the order of the file; its keys are unique.
    Map(Vec<Entry>),
}

/// One member of a mapping.
#[derive(Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key begins.
    pub key_at: Position,
    /// The value.
    pub value: Node,
}

impl Node {
    /// Returns the member `key` of a mapping.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// Returns the members of a mapping; nothing for any other value.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        match &self.data {
            Data::Map(entries) => entries,
            _ => &[],
        }
    }

    /// Returns the elements of a list; nothing for any other value.
    #[must_use]
    pub fn elements(&self) -> &[Node] {
        match &self.data {
            Data::List(elements) => elements,
            _ => &[],
        }
    }

    /// Returns the text of a text value.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match &self.data {
            Data::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Names the kind of the value for messages, with an article.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match &self.data {
            Data::Null => "nothing",
            Data::Bool(_) => "true or false",
            Data::Integer(_) | Data::Float(_) => "a number",
            Data::Text(_) => "text",
            Data::List(_) => "a list",
            Data::Map(_) => "a mapping",
        }
    }

    /// Returns where the value under a key path such as `sources[0].listen` begins, or the place of
    /// the last part of the path that the document has.
    #[must_use]
    pub fn position_of(&self, path: &str) -> Position {
        let mut node = self;
        for step in path.split(['.', '[']) {
            let next = match step.strip_suffix(']').and_then(|index| index.parse::<usize>().ok()) {
                Some(index) => node.elements().get(index),
                None => node.get(step),
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node.at
    }

    /// Returns the value as JSON. A number that JSON does not have (`.inf`, `.nan`) becomes null.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value;
        match &self.data {
            Data::Null => Value::Null,
            Data::Bool(value) => Value::from(*value),
            Data::Integer(value) => Value::from(*value),
            Data::Float(value) => Value::from(*value),
            Data::Text(value) => Value::from(value.as_str()),
            Data::List(elements) => elements.iter().map(Self::to_json).collect(),
            Data::Map(entries) => entries
                .iter()
                .map(|entry| (entry.key.clone(), entry.value.to_json()))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} ", self.at.line, self.at.column)?;
        match &self.data {
            Data::List(elements) => f.debug_list().entries(elements).finish(),
            Data::Map(entries) => f.debug_list().entries(entries.iter().map(|e| &e.value)).finish(),
            _ => f.write_str(self.kind()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::yaml;

    #[test]
    fn debug_shows_kinds_and_places_but_no_value_and_no_key() {
        let node = yaml::parse("a: s3cret\nk3y: [ 17, true ]\n", "x.yaml").unwrap();
        assert_eq!(format!("{node:?}"), "1:1 [1:4 text, 2:6 [2:8 a number, 2:12 true or false]]");
    }

    #[test]
    fn a_path_leads_to_its_value_or_to_the_nearest_one_above() {
        let node = yaml::parse("a:\n  - b: 1\n  - b: 2\n", "x.yaml").unwrap();
        assert_eq!(node.position_of("a[1].b").line, 3);
        assert_eq!(node.position_of("a[1].c").line, 3);
        assert_eq!(node.position_of("z").line, 1);
    }
}
