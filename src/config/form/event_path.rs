//! Where in what is received an event stands.

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
