//! How scalar values and lists are written.

mod amount;
mod event_path;
mod network;

use std::path::PathBuf;

use secrecy::SecretString;
use serde_json::{Value, json};

use super::context::Context;
use super::declare::{Form, reference_schema};
use super::tree::{Data, Node};

pub(super) use amount::{Count, Period, Size};
pub(super) use event_path::EventPath;
#[cfg(feature = "cli")]
pub(crate) use event_path::{BadPath, event_path};
pub(super) use network::{Address, BaseUrl, Network};

/// Text as it stands.
pub(super) struct Text;

impl Form<String> for Text {
    fn decode(node: &Node, cx: &mut Context<'_>) -> Option<String> {
        match cx.scalar(node, false)?.data {
            Data::Text(text) => Some(text),
            _ => cx.wrong_type(node, "text", quotes(node)),
        }
    }

    fn schema() -> Value {
        json!({ "type": "string" })
    }
}

/// Text with at least one character that is not a blank.
pub(super) struct Word;

impl Form<String> for Word {
    fn decode(node: &Node, cx: &mut Context<'_>) -> Option<String> {
        let text = Text::decode(node, cx)?;
        if text.trim().is_empty() {
            return cx.error(node.at, "empty_value", "the text is empty", "");
        }
        Some(text)
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": r"\S" })
    }
}

/// Text that is compared exactly with what events carry, so that outer blanks are a slip.
pub(super) struct Id;

impl Form<String> for Id {
    fn decode(node: &Node, cx: &mut Context<'_>) -> Option<String> {
        let text = Word::decode(node, cx)?;
        if text.trim() != text {
            return cx.error(
                node.at,
                "outer_blanks",
                "the text begins or ends with a blank, and is compared exactly",
                "take the blank away",
            );
        }
        Some(text)
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": r"^\S(.*\S)?$" })
    }
}

/// A value that is never shown. Only the `Full` load reads references of this form.
pub(super) struct Secret;

impl Form<SecretString> for Secret {
    fn decode(node: &Node, cx: &mut Context<'_>) -> Option<SecretString> {
        let errors = cx.errors();
        let text = match cx.scalar(node, true) {
            Some(scalar) => match scalar.data {
                Data::Text(text) => text,
                _ => return cx.wrong_type(node, "text", quotes(node)),
            },
            None if cx.errors() == errors => return Some(SecretString::from("")),
            None => return None,
        };
        match secret_fault(&text) {
            Some((code, message)) => {
                cx.error(node.at, code, message, "check the variable, the file, or the value here")
            }
            None => Some(SecretString::from(text)),
        }
    }

    fn schema() -> Value {
        json!({ "type": "string", "minLength": 1 })
    }
}

/// Tells by code and message why a text is no secret.
pub(super) fn secret_fault(text: &str) -> Option<(&'static str, &'static str)> {
    if text.is_empty() {
        return Some(("empty_value", "the value is empty"));
    }
    if text.chars().any(char::is_control) || text.trim() != text {
        let message = "the value has blanks at its ends or control characters in it";
        return Some(("outer_blanks", message));
    }
    None
}

/// `true` or `false`.
pub(super) struct Flag;

impl Form<bool> for Flag {
    fn decode(node: &Node, cx: &mut Context<'_>) -> Option<bool> {
        let scalar = cx.scalar(node, false)?;
        match scalar.data {
            Data::Bool(value) => Some(value),
            Data::Text(text) if scalar.referenced && text == "true" => Some(true),
            Data::Text(text) if scalar.referenced && text == "false" => Some(false),
            _ => cx.wrong_type(node, "true or false", ""),
        }
    }

    fn schema() -> Value {
        json!({ "anyOf": [ { "type": "boolean" }, reference_schema() ] })
    }
}

/// A path as the operating system takes it.
pub(super) struct FilePath;

impl Form<PathBuf> for FilePath {
    fn decode(node: &Node, cx: &mut Context<'_>) -> Option<PathBuf> {
        Word::decode(node, cx).map(PathBuf::from)
    }

    fn schema() -> Value {
        <Word as Form<String>>::schema()
    }
}

/// A list; the second parameter is the least number of elements.
pub(super) struct List<F, const MIN: usize = 0>(std::marker::PhantomData<F>);

impl<T, F: Form<T>, const MIN: usize> Form<Vec<T>> for List<F, MIN> {
    fn decode(node: &Node, cx: &mut Context<'_>) -> Option<Vec<T>> {
        let Data::List(elements) = &node.data else {
            let help = match node.data {
                Data::Null => "write [] for an empty list",
                Data::Map(_) => "begin each element with a dash",
                _ => "write [ … ] around it",
            };
            return cx.wrong_type(node, "a list", help);
        };
        if elements.len() < MIN {
            return cx.error(node.at, "empty_list", "the list is empty", "name at least one");
        }
        // Every element is looked at, also after a bad one.
        let decoded: Vec<Option<T>> = elements
            .iter()
            .enumerate()
            .map(|(i, element)| cx.below_index(i, |cx| F::decode(element, cx)))
            .collect();
        decoded.into_iter().collect()
    }

    fn schema() -> Value {
        json!({ "type": "array", "items": F::schema(), "minItems": MIN })
    }
}

/// A value or null.
pub(super) struct Nullable<F>(std::marker::PhantomData<F>);

impl<T, F: Form<T>> Form<Option<T>> for Nullable<F> {
    fn decode(node: &Node, cx: &mut Context<'_>) -> Option<Option<T>> {
        match node.data {
            Data::Null => Some(None),
            _ => F::decode(node, cx).map(Some),
        }
    }

    fn schema() -> Value {
        json!({ "anyOf": [ F::schema(), { "type": "null" } ] })
    }
}

/// Help for a value that YAML did not read as text.
fn quotes(node: &Node) -> &'static str {
    match node.data {
        Data::Bool(_) | Data::Integer(_) | Data::Float(_) => "put the value in quotes",
        _ => "",
    }
}
