//! Declarations of sections: one list of keys from which everything else comes.
//!
//! [`section!`] makes the checked struct, its decoder with all defaults, its comparison, and its part
//! of the JSON Schema out of one list, so they cannot drift; [`choice!`] does so for enums. A default is written
//! as in a file and goes through the same decoder.

#[cfg(feature = "pipeline")]
mod compare;
mod description;
mod keys;
mod macros;

use serde_json::{Value, json};

use super::context::Context;
use super::load_mode::LoadMode;
use super::tree::{Data, Node};
use super::yaml;

#[cfg(feature = "pipeline")]
pub(super) use compare::{Compare, Differences, plain};
pub(super) use description::{Description, reference_schema};
pub(super) use keys::Keys;
pub(super) use macros::{choice, section};

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

/// Decodes a default. Declarations are constant; a test decodes each of them.
pub(super) fn from_default<T, F: Form<T>>(text: &str) -> Option<T> {
    let node = yaml::parse(text, "default").ok()?;
    F::decode(&node, &mut Context::new("default", LoadMode::WithoutSecrets, &|_| None))
}

/// Reads a section whose text is constant.
#[expect(clippy::expect_used, reason = "declared defaults are constant, and a test reads them")]
pub(super) fn constant<T: Section>(text: &'static str) -> T {
    from_default::<T, Sect>(text).expect("declared defaults are valid")
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

/// The key in a file: the field's name without Rust's mark for keywords.
pub(super) fn wire_name(field: &'static str) -> &'static str {
    field.strip_prefix("r#").unwrap_or(field)
}
