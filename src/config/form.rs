//! How scalar values and lists are written.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde_json::{Value, json};

use super::context::Context;
use super::declare::{Form, reference_schema};
use super::tree::{Data, Node};
use super::units;

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
        let help = "check the variable, the file, or the value here";
        if text.is_empty() {
            return cx.error(node.at, "empty_value", "the value is empty", help);
        }
        if text.chars().any(char::is_control) || text.trim() != text {
            let message = "the value has blanks at its ends or control characters in it";
            return cx.error(node.at, "outer_blanks", message, help);
        }
        Some(SecretString::from(text))
    }

    fn schema() -> Value {
        json!({ "type": "string", "minLength": 1 })
    }
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

/// A whole number between bounds, both included.
pub(super) struct Count<const MIN: u64, const MAX: u64>;

impl<const MIN: u64, const MAX: u64, T: TryFrom<u64>> Form<T> for Count<MIN, MAX> {
    fn decode(node: &Node, cx: &mut Context<'_>) -> Option<T> {
        let scalar = cx.scalar(node, false)?;
        let number = match scalar.data {
            Data::Integer(number) => u64::try_from(number).ok(),
            Data::Text(text) if scalar.referenced => match text.parse() {
                Ok(number) => Some(number),
                Err(_) => return cx.wrong_type(node, "a whole number", ""),
            },
            _ => return cx.wrong_type(node, "a whole number", ""),
        };
        match number.filter(|n| (MIN..=MAX).contains(n)).and_then(|n| T::try_from(n).ok()) {
            Some(value) => Some(value),
            None => out_of_range(node, cx, &MIN.to_string(), &MAX.to_string()),
        }
    }

    fn schema() -> Value {
        json!({ "anyOf": [
            { "type": "integer", "minimum": MIN, "maximum": MAX }, reference_schema(),
        ] })
    }
}

/// A size such as `512 MiB`, or bytes, between bounds in bytes.
pub(super) struct Size<const MIN: u64, const MAX: u64>;

impl<const MIN: u64, const MAX: u64, T: TryFrom<u64>> Form<T> for Size<MIN, MAX> {
    fn decode(node: &Node, cx: &mut Context<'_>) -> Option<T> {
        const UNITS: &str =
            "write bytes, or a whole number with kB, MB, GB, KiB, MiB, GiB, or TiB: 512 MiB";
        let bytes = match cx.scalar(node, false)?.data {
            Data::Integer(number) => u64::try_from(number).ok(),
            Data::Text(text) => match units::size(&text) {
                Some(bytes) => Some(bytes),
                None => return cx.error(node.at, "bad_unit", "this is not a size", UNITS),
            },
            _ => return cx.wrong_type(node, "a size", UNITS),
        };
        match bytes.filter(|n| (MIN..=MAX).contains(n)).and_then(|n| T::try_from(n).ok()) {
            Some(value) => Some(value),
            None => out_of_range(node, cx, &units::show_size(MIN), &units::show_size(MAX)),
        }
    }

    fn schema() -> Value {
        json!({ "anyOf": [
            { "type": "integer", "minimum": MIN, "maximum": MAX },
            { "type": "string", "pattern": "^[0-9_]+ *(B|kB|KB|MB|GB|KiB|MiB|GiB|TiB)?$" },
            reference_schema(),
        ] })
    }
}

/// A duration such as `30s`, between bounds in milliseconds.
pub(super) struct Period<const MIN: u64, const MAX: u64>;

impl<const MIN: u64, const MAX: u64> Form<Duration> for Period<MIN, MAX> {
    fn decode(node: &Node, cx: &mut Context<'_>) -> Option<Duration> {
        const UNITS: &str = "write a whole number with ms, s, m, h, or d: 30s";
        let read = match cx.scalar(node, false)?.data {
            Data::Integer(0) => Some(Duration::ZERO),
            Data::Text(text) => units::period(&text),
            Data::Integer(_) | Data::Float(_) => None,
            _ => return cx.wrong_type(node, "a duration", UNITS),
        };
        let Some(period) = read else {
            return cx.error(node.at, "bad_unit", "this is not a duration with its unit", UNITS);
        };
        if (u128::from(MIN)..=u128::from(MAX)).contains(&period.as_millis()) {
            return Some(period);
        }
        out_of_range(node, cx, &units::show_period(MIN), &units::show_period(MAX))
    }

    fn schema() -> Value {
        json!({ "anyOf": [
            { "type": "string", "pattern": "^([0-9_]+ *(ms|s|m|h|d)|0)$" },
            { "const": 0 },
            reference_schema(),
        ] })
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

/// An IP address and a port.
pub(super) struct Address;

impl Form<SocketAddr> for Address {
    fn decode(node: &Node, cx: &mut Context<'_>) -> Option<SocketAddr> {
        const HELP: &str =
            "write an IP address and a port: 127.0.0.1:8080, 0.0.0.0:8080, [::]:8080";
        match cx.scalar(node, false)?.data {
            Data::Text(text) => match text.parse() {
                Ok(address) => Some(address),
                Err(_) => {
                    cx.error(node.at, "bad_address", "this is not an IP address and a port", HELP)
                }
            },
            _ => cx.wrong_type(node, "an IP address and a port", HELP),
        }
    }

    fn schema() -> Value {
        json!({ "type": "string" })
    }
}

/// The base of `http://` or `https://` URLs.
pub(super) struct BaseUrl;

impl Form<http::Uri> for BaseUrl {
    fn decode(node: &Node, cx: &mut Context<'_>) -> Option<http::Uri> {
        const HELP: &str = "write scheme, host, and if needed port and path: http://127.0.0.1:8090";
        let text = Word::decode(node, cx)?;
        let uri = text.trim_end_matches('/').parse::<http::Uri>().ok().filter(|uri| {
            let plain = uri.authority().is_some_and(|a| !a.as_str().contains('@'));
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some_and(|host| !host.is_empty())
                && plain
                && uri.query().is_none()
                && !text.contains('#')
        });
        match uri {
            Some(uri) => Some(uri),
            None => {
                let message = "this is not an http:// or https:// base URL without user and query";
                cx.error(node.at, "bad_url", message, HELP)
            }
        }
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": r"^(https?://[^/?#@\s]+[^?#@\s]*|\$\{.+\})$" })
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

/// An address in CIDR notation, or a single one.
pub(super) struct Network;

impl Form<super::IpNetwork> for Network {
    fn decode(node: &Node, cx: &mut Context<'_>) -> Option<super::IpNetwork> {
        let text = Word::decode(node, cx)?;
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text.as_str(), None),
        };
        let network = address.parse::<IpAddr>().ok().and_then(|address| {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            let prefix = match prefix {
                Some(prefix) => prefix.parse::<u8>().ok().filter(|p| *p <= bits)?,
                None => bits,
            };
            Some(super::IpNetwork { address, prefix })
        });
        match network {
            Some(network) => Some(network),
            None => cx.error(
                node.at,
                "bad_address",
                "this is not an IP network",
                "write an address with or without the length of its prefix: 10.0.0.0/8, ::1",
            ),
        }
    }

    fn schema() -> Value {
        json!({ "type": "string" })
    }
}

/// A place inside an event, such as `.message` or `.a."b.c"`, as its segments.
pub(super) struct EventPath;

impl Form<Vec<String>> for EventPath {
    fn decode(node: &Node, cx: &mut Context<'_>) -> Option<Vec<String>> {
        let text = Word::decode(node, cx)?;
        match segments(&text) {
            Some(segments) => Some(segments),
            None => cx.error(
                node.at,
                "bad_path",
                "this is not a path",
                "begin with a dot, and write other than letters, digits, and _ in quotes: .a.\"b-c\"",
            ),
        }
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": r"^(\.|\$\{)" })
    }
}

/// Splits `.a."b.c"`; `None` if it is no path or names the root.
fn segments(text: &str) -> Option<Vec<String>> {
    let mut rest = text;
    let mut segments = Vec::new();
    while !rest.is_empty() {
        rest = rest.strip_prefix('.')?;
        let (segment, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => {
                let end = rest.find(['.', '"']).unwrap_or(rest.len());
                let (segment, after) = rest.split_at_checked(end)?;
                let bare = |c: char| c.is_alphanumeric() || matches!(c, '_' | '@');
                if !segment.chars().all(bare) {
                    return None;
                }
                (segment, after)
            }
        };
        if segment.is_empty() {
            return None;
        }
        segments.push(segment.to_owned());
        rest = after;
    }
    Some(segments)
}

/// `null` alone: a key of a later version, which must not be ignored when it says something.
pub(super) struct NotYet;

impl Form<()> for NotYet {
    fn decode(node: &Node, cx: &mut Context<'_>) -> Option<()> {
        match node.data {
            Data::Null => Some(()),
            _ => cx.not_yet(node.at, "this key", "leave it out, or write null"),
        }
    }

    fn schema() -> Value {
        json!({ "type": "null" })
    }
}

fn out_of_range<T>(node: &Node, cx: &mut Context<'_>, min: &str, max: &str) -> Option<T> {
    let message = format!("the value must be between {min} and {max}");
    cx.error(node.at, "out_of_range", message, "")
}

/// Help for a value that YAML did not read as text.
fn quotes(node: &Node) -> &'static str {
    match node.data {
        Data::Bool(_) | Data::Integer(_) | Data::Float(_) => "put the value in quotes",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::segments;

    #[test]
    fn paths_are_split_at_dots_outside_of_quotes() {
        let path = |text| segments(text).map(|s| s.join("|"));
        assert_eq!(path(".message").as_deref(), Some("message"));
        assert_eq!(path(".a.\"b.c\".d").as_deref(), Some("a|b.c|d"));
        for bad in ["message", ".", "..a", ".a.", ".a b", ".\"a", ".a\"b\""] {
            assert_eq!(path(bad), None, "{bad}");
        }
    }
}
