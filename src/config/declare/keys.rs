//! The keys of a section while it is read.

use super::{Form, from_default};
use crate::config::context::Context;
use crate::config::tree::{Data, Node};

/// The keys of a section while it is read.
pub(in crate::config) struct Keys<'a> {
    node: &'a Node,
    known: Vec<&'static str>,
}

impl<'a> Keys<'a> {
    pub(in crate::config) fn new(node: &'a Node) -> Self {
        Self { node, known: Vec::new() }
    }

    /// The section's node.
    pub(in crate::config) fn node(&self) -> &'a Node {
        self.node
    }

    /// Marks a key as known that is read elsewhere.
    pub(in crate::config) fn skip(&mut self, key: &'static str) {
        self.known.push(key);
    }

    /// Reads one key, or its default (`None`: the key is required).
    pub(in crate::config) fn take<T, F: Form<T>>(
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
    pub(in crate::config) fn finish(&self, refused: &[(&str, &str)], cx: &mut Context<'_>) {
        for entry in self.node.entries() {
            if self.known.contains(&entry.key.as_str()) {
                continue;
            }
            match refused.iter().find(|(key, _)| *key == entry.key) {
                Some((key, help)) => {
                    let message = match self.node.get("type").map(|node| &node.data) {
                        Some(Data::Text(kind)) => {
                            format!("`type: {kind}` has no key `{key}`")
                        }
                        _ => format!("there is no key `{key}` here"),
                    };
                    cx.below_key(key, |cx| {
                        cx.error::<()>(entry.key_at, "unknown_key", message, help);
                    });
                }
                None => cx.unknown_key(&entry.key, entry.key_at, &self.known),
            }
        }
    }
}
