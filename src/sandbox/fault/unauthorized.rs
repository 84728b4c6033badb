//! Key rotation: 401 for a while, or until the new credential is used.

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Map;

use crate::sandbox::credentials::{self, Shown};
use crate::sandbox::options::Span;

/// Until when requests are refused with 401; `{}` means always.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Unauthorized {
    /// From so long after the rules were set.
    pub from: Option<Span>,
    /// To so long after the rules were set.
    pub to: Option<Span>,
    /// Unless the request brings this `site:key`.
    pub until: Option<String>,
}

impl std::fmt::Debug for Unauthorized {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unauthorized").field("from", &self.from).field("to", &self.to).finish()
    }
}

impl Serialize for Unauthorized {
    /// Shows of the credential no more than the last four characters.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut shown = Map::new();
        for (name, span) in [("from", self.from), ("to", self.to)] {
            if let Some(span) = span {
                shown.insert(name.to_owned(), span.to_string().into());
            }
        }
        if let Some(until) = &self.until {
            shown.insert("until".to_owned(), credentials::ending(until).into());
        }
        shown.serialize(serializer)
    }
}

impl Unauthorized {
    /// Whether a request is refused, so long after the rules were set.
    pub(super) fn refuses(&self, elapsed: i64, shown: Option<&Shown>) -> bool {
        let from = self.from.map_or(0, Span::as_millis);
        let to = self.to.map_or(i64::MAX, Span::as_millis);
        let is_awaited =
            self.until.as_ref().is_some_and(|pair| shown.is_some_and(|shown| shown.is_pair(pair)));
        (from..to).contains(&elapsed) && !is_awaited
    }
}
