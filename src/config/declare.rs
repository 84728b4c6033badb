//! Declarations of sections: one list of keys from which everything else comes.
//!
//! [`section!`] makes the checked struct, its decoder with all defaults, and its part of the JSON
//! Schema out of one list, so they cannot drift; [`choice!`] does so for enums. A default is written
//! as in a file and goes through the same decoder.

use serde_json::{Map, Value, json};

use super::context::Context;
use super::load::LoadMode;
use super::tree::{Data, Node};
use super::yaml;

/// How a value is written: reads `T` out of a node, and describes itself.
pub(super) trait Form<T> {
    /// Reads the value; `None` means that an error was noted, or a reference left alone.
    fn decode(node: &Node, cx: &mut Context<'_>) -> Option<T>;

    /// Its JSON Schema.
    fn schema() -> Value;
}

/// A mapping with a fixed list of keys, declared with [`section!`].
pub(super) trait Section: Sized {
    /// Reads the section out of its keys.
    fn from_keys(keys: &mut Keys<'_>, cx: &mut Context<'_>) -> Option<Self>;

    /// Its JSON Schema.
    fn describe() -> Value;
}

/// A closed set of words, declared with [`choice!`].
pub(super) trait Choices: Copy + 'static {
    /// Word, value, and meaning.
    const ALL: &'static [(&'static str, Self, &'static str)];
}

/// The keys of a section while it is read.
pub(super) struct Keys<'a> {
    node: &'a Node,
    known: Vec<&'static str>,
}

impl<'a> Keys<'a> {
    pub(super) fn new(node: &'a Node) -> Self {
        Self { node, known: Vec::new() }
    }

    /// The section's node.
    pub(super) fn node(&self) -> &'a Node {
        self.node
    }

    /// Marks a key as known that is read elsewhere.
    pub(super) fn skip(&mut self, key: &'static str) {
        self.known.push(key);
    }

    /// Reads one key, or its default (`None`: the key is required).
    pub(super) fn take<T, F: Form<T>>(
        &mut self,
        key: &'static str,
        default: Option<&'static str>,
        cx: &mut Context<'_>,
    ) -> Option<T> {
        self.known.push(key);
        if let Some(value) = self.node.get(key) {
            let before = cx.errors();
            let decoded = cx.below_key(key, |cx| F::decode(value, cx));
            if decoded.is_some() || cx.errors() > before {
                return decoded;
            }
        }
        match default {
            Some(text) => from_default::<T, F>(text),
            None => {
                let at = self.node.at;
                cx.below_key(key, |cx| {
                    cx.error(at, "missing_key", format!("the key `{key}` is required here"), "")
                })
            }
        }
    }

    /// Notes every key that was not taken.
    pub(super) fn finish(&self, refused: &[(&str, &str)], cx: &mut Context<'_>) {
        for entry in self.node.entries() {
            if self.known.contains(&entry.key.as_str()) {
                continue;
            }
            match refused.iter().find(|(key, _)| *key == entry.key) {
                Some((key, help)) => {
                    let what = format!("`{key}` here");
                    cx.below_key(key, |cx| cx.not_yet::<()>(entry.key_at, &what, help));
                }
                None => cx.unknown_key(&entry.key, entry.key_at, &self.known),
            }
        }
    }
}

/// Decodes a default. Declarations are constant; a test decodes each of them.
pub(super) fn from_default<T, F: Form<T>>(text: &str) -> Option<T> {
    let node = yaml::parse(text, "default").ok()?;
    F::decode(&node, &mut Context::new("default", LoadMode::WithoutSecrets, &|_| None))
}

/// A value that is a [`Section`]; nothing at all stands for all defaults.
pub(super) struct Sect;

impl<T: Section> Form<T> for Sect {
    fn decode(node: &Node, cx: &mut Context<'_>) -> Option<T> {
        let empty = Node { data: Data::Map(Vec::new()), at: node.at };
        let node = match node.data {
            Data::Map(_) => node,
            Data::Null => &empty,
            _ => return cx.wrong_type(node, "a mapping of keys", ""),
        };
        T::from_keys(&mut Keys::new(node), cx)
    }

    fn schema() -> Value {
        T::describe()
    }
}

/// A value that is one of [`Choices`].
pub(super) struct Choice;

impl<T: Choices> Form<T> for Choice {
    fn decode(node: &Node, cx: &mut Context<'_>) -> Option<T> {
        let words = || T::ALL.iter().map(|(word, _, _)| *word);
        let list = words().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        let scalar = cx.scalar(node, false)?;
        let Data::Text(text) = &scalar.data else {
            return cx.wrong_type(node, &format!("one of {list}"), "");
        };
        match T::ALL.iter().find(|(word, _, _)| word == text) {
            Some((_, value, _)) => Some(*value),
            None => {
                let help = super::suggest::nearest(text, words())
                    .map(|word| format!("did you mean `{word}`?"))
                    .unwrap_or_default();
                cx.error(node.at, "unknown_value", format!("expected one of {list}"), &help)
            }
        }
    }

    fn schema() -> Value {
        let options = T::ALL
            .iter()
            .map(|(word, _, meaning)| json!({ "const": word, "description": meaning }))
            .chain([reference_schema()]);
        json!({ "anyOf": options.collect::<Vec<_>>() })
    }
}

/// The schema of a reference, which may stand for every scalar that is no plain text.
pub(super) fn reference_schema() -> Value {
    json!({ "$ref": "#/$defs/reference" })
}

/// Collects the schema of a section.
pub(super) struct Description {
    properties: Map<String, Value>,
    required: Vec<&'static str>,
}

impl Description {
    pub(super) fn new() -> Self {
        Self { properties: Map::new(), required: Vec::new() }
    }

    pub(super) fn key(
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
        members.insert("description".to_owned(), text.trim().into());
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

    pub(super) fn finish(self, text: &str) -> Value {
        let mut schema = json!({
            "type": ["object", "null"],
            "description": text.trim(),
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

/// Declares a section: its struct, decoder, and schema.
///
/// `field: Type as Form = "default as written in a file"`, or `= required`. `besides` lists keys that
/// are read but are no field, `derived` fields that come from those, `refused` keys that exist
/// elsewhere or later, with a help, `skipped` keys that the caller reads. `checked by` names a function
/// that looks at several keys together.
macro_rules! section {
    (
        $(#[doc = $doc:literal])*
        $(#[derive($($derive:ident),* $(,)?)])?
        $vis:vis struct $name:ident {
            $(
                $(#[doc = $field_doc:literal])*
                $field:ident : $type:ty as $form:ty = $default:tt
            ),* $(,)?
        }
        $(besides {
            $(
                $(#[doc = $other_doc:literal])*
                $other:ident : $other_type:ty as $other_form:ty = $other_default:tt
            ),* $(,)?
        })?
        $(derived {
            $(
                $(#[doc = $derived_doc:literal])*
                $derived:ident : $derived_type:ty = $value:expr
            ),* $(,)?
        })?
        $(refused { $($refused:literal => $why:literal),* $(,)? })?
        $(skipped { $($skipped:literal),* $(,)? })?
        $(checked by $check:path)?
    ) => {
        $(#[doc = $doc])*
        $(#[derive($($derive),*)])?
        $vis struct $name {
            $( $(#[doc = $field_doc])* pub $field: $type, )*
            $($( $(#[doc = $derived_doc])* pub $derived: $derived_type, )*)?
        }

        impl $crate::config::declare::Section for $name {
            fn from_keys(
                keys: &mut $crate::config::declare::Keys<'_>,
                cx: &mut $crate::config::context::Context<'_>,
            ) -> Option<Self> {
                $($( keys.skip($skipped); )*)?
                $(
                    let $field = keys.take::<$type, $form>(
                        $crate::config::declare::wire_name(stringify!($field)),
                        section!(@default $default),
                        cx,
                    );
                )*
                $($(
                    let $other = keys.take::<$other_type, $other_form>(
                        $crate::config::declare::wire_name(stringify!($other)),
                        section!(@default $other_default),
                        cx,
                    );
                )*)?
                let refused: &[(&str, &str)] = &[$($(($refused, $why)),*)?];
                keys.finish(refused, cx);
                $($(
                    let $other = $other?;
                    let _ = &$other;
                )*)?
                let section = Self {
                    $( $field: $field?, )*
                    $($( $derived: $value, )*)?
                };
                $( $check(&section, keys.node(), cx); )?
                Some(section)
            }

            fn describe() -> serde_json::Value {
                use $crate::config::declare::{Description, Form, wire_name};
                let mut description = Description::new();
                $(
                    description.key(
                        wire_name(stringify!($field)),
                        concat!($($field_doc, "\n"),*),
                        <$form as Form<$type>>::schema(),
                        section!(@default $default),
                    );
                )*
                $($(
                    description.key(
                        wire_name(stringify!($other)),
                        concat!($($other_doc, "\n"),*),
                        <$other_form as Form<$other_type>>::schema(),
                        section!(@default $other_default),
                    );
                )*)?
                description.finish(concat!($($doc, "\n"),*))
            }
        }
    };
    (@default required) => { None };
    (@default $text:literal) => { Some($text) };
}

/// Declares a closed set of words: its enum, decoder, and schema.
macro_rules! choice {
    (
        $(#[doc = $doc:literal])*
        $vis:vis enum $name:ident {
            $( $(#[doc = $variant_doc:literal])* $variant:ident = $word:literal ),* $(,)?
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $vis enum $name {
            $( $(#[doc = $variant_doc])* $variant, )*
        }

        impl $crate::config::declare::Choices for $name {
            const ALL: &'static [(&'static str, Self, &'static str)] = &[
                $( ($word, Self::$variant, concat!($($variant_doc),*).trim_ascii()) ),*
            ];
        }
    };
}

/// The key in a file: the field's name without Rust's mark for keywords.
pub(super) fn wire_name(field: &'static str) -> &'static str {
    field.strip_prefix("r#").unwrap_or(field)
}

pub(super) use {choice, section};
