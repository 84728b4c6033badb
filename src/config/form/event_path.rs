//! Where in what is received an event stands.

use std::fmt;

use serde_json::{Value, json};

use super::Word;
use crate::config::context::Context;
use crate::config::declare::Form;
use crate::config::tree::Node;

/// A place inside an event, such as `.message` or `.a."b.c"`, as its segments.
pub(in crate::config) struct EventPath;

impl Form<Vec<String>> for EventPath {
    fn decode(node: &Node, cx: &mut Context<'_>) -> Option<Vec<String>> {
        let text = Word::decode(node, cx)?;
        match event_path(&text) {
            Ok(segments) => Some(segments),
            Err(BadPath) => cx.error(node.at, "bad_path", BadPath::MESSAGE, BadPath::HELP),
        }
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": r"^(\.|\$\{)" })
    }
}

/// What was written is no path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadPath;

impl BadPath {
    const MESSAGE: &str = "this is not a path";
    const HELP: &str = "begin with a dot, and write keys of other than letters, digits, and _ in quotes: \
                        .a.\"b-c\"; an element of a list, as in .a[0], cannot be named";
}

impl fmt::Display for BadPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", Self::MESSAGE, Self::HELP)
    }
}

impl std::error::Error for BadPath {}

/// Reads a path such as `.message` or `.a."b.c"`, as the option `event_path` has it.
///
/// # Errors
///
/// [`BadPath`] if it is none, or names the whole of what is received.
pub(crate) fn event_path(text: &str) -> Result<Vec<String>, BadPath> {
    segments(text).filter(|segments| !segments.is_empty()).ok_or(BadPath)
}

/// Splits `.a."b.c"`; `None` if it is no path.
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

#[cfg(test)]
mod tests {
    use super::event_path;

    #[test]
    fn paths_are_split_at_dots_outside_of_quotes() {
        let path = |text| event_path(text).ok().map(|s| s.join("|"));
        assert_eq!(path(".message").as_deref(), Some("message"));
        assert_eq!(path(".a.\"b.c\".d").as_deref(), Some("a|b.c|d"));
        for bad in ["", "message", ".", ".a[0]", ".[0]", "..a", ".a.", ".a b", ".\"a", ".a\"b\""] {
            assert_eq!(path(bad), None, "{bad}");
        }
    }
}
