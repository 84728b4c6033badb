//! Switches for behaviour of Customer.io that is a workspace setting, or that nobody has documented.
//!
//! The strict side is the default, because a sandbox should find faults.

mod choices;
mod known;
mod region;
mod span;

pub use choices::{BatchOrder, EventValues, NestedValues, NumericIds, RegionMismatch, UlidRule};
pub use known::Known;
pub use region::Region;
pub use span::Span;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The switches of a sandbox.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// What an EU credential meets on the US host.
    pub region_mismatch: RegionMismatch,
    /// Where `region_mismatch: redirect` points to; the real host of the other region if absent.
    pub other_region_url: Option<String>,
    /// Status for a request that is too large: 413 or 400.
    pub oversize_status: u16,
    /// Whether gzip bodies are taken.
    pub accept_gzip: bool,
    /// What an event `id` that is no ULID meets.
    pub ulid: UlidRule,
    /// What a numeric identifier meets.
    pub numeric_ids: NumericIds,
    /// Whether the value limit holds for nested values.
    pub nested_values: NestedValues,
    /// Whether the value limit holds for event attributes.
    pub event_values: EventValues,
    /// Status for a batch without one valid item: 207 or 400.
    pub all_invalid: u16,
    /// Order of application within a batch.
    pub batch_order: BatchOrder,
    /// Whether an id-only and an e-mail-only person are merged when an identify names both.
    pub auto_merge: bool,
    /// Whether an event for an unknown id or e-mail creates a bare person.
    pub events_create_people: bool,
    /// The object types that exist.
    pub object_types: Known,
    /// The manual segments that exist.
    pub segments: Known,
    /// Whether `phone` is an identifier of the workspace.
    pub phone: bool,
    /// Whether events are de-duplicated by `id`.
    pub dedupe: bool,
    /// How long an accepted operation waits before it shows.
    pub apply_delay: Span,
    /// Upper bound of a seeded random wait that is added to `apply_delay`.
    pub apply_jitter: Span,
    /// How many connections may be open; further ones are closed at once.
    pub max_connections: usize,
    /// How many requests the log keeps.
    pub log_requests: usize,
    /// How many bytes of each body the log keeps.
    pub log_body_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            region_mismatch: RegionMismatch::default(),
            other_region_url: None,
            oversize_status: 413,
            accept_gzip: false,
            ulid: UlidRule::default(),
            numeric_ids: NumericIds::default(),
            nested_values: NestedValues::default(),
            event_values: EventValues::default(),
            all_invalid: 207,
            batch_order: BatchOrder::default(),
            auto_merge: true,
            events_create_people: true,
            object_types: Known::default(),
            segments: Known::default(),
            phone: false,
            dedupe: true,
            apply_delay: Span::default(),
            apply_jitter: Span::default(),
            max_connections: 900,
            log_requests: 10_000,
            log_body_bytes: 8192,
        }
    }
}

impl Options {
    /// Sets one switch from `name=value`, as the command line gives it.
    ///
    /// # Errors
    ///
    /// A text that names the switch when it does not exist or does not take the value.
    pub fn set(&mut self, assignment: &str) -> Result<(), String> {
        let (name, text) = assignment
            .split_once('=')
            .ok_or_else(|| format!("`{assignment}` is no switch, expected NAME=VALUE"))?;
        let value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
        let mut all = serde_json::to_value(&*self).map_err(|error| error.to_string())?;
        let members = all.as_object_mut().ok_or("switches are no object")?;
        if !members.contains_key(name) {
            let names: Vec<_> = members.keys().map(String::as_str).collect();
            return Err(format!("unknown switch `{name}`, known are {}", names.join(", ")));
        }
        members.insert(name.to_owned(), value);
        let next: Self =
            serde_json::from_value(all).map_err(|error| format!("switch `{name}`: {error}"))?;
        if !matches!(next.oversize_status, 400 | 413) {
            return Err("switch `oversize_status`: expected 413 or 400".to_owned());
        }
        if !matches!(next.all_invalid, 207 | 400) {
            return Err("switch `all_invalid`: expected 207 or 400".to_owned());
        }
        *self = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn switches_are_set_by_name() {
        let mut options = Options::default();
        for assignment in
            ["ulid=ignore", "auto_merge=false", "object_types=1,2", "apply_delay=2s", "segments=7"]
        {
            options.set(assignment).unwrap();
        }
        assert_eq!(options.ulid, UlidRule::Ignore);
        assert!(!options.auto_merge);
        assert!(options.object_types.has("2") && !options.object_types.has("3"));
        assert!(options.segments.has("7") && !options.segments.has("8"));
        assert_eq!(options.apply_delay.0, Duration::from_secs(2));
    }

    #[test]
    fn wrong_switches_are_refused_by_name() {
        let mut options = Options::default();
        assert!(options.set("ulids=ignore").unwrap_err().contains("`ulids`"));
        assert!(options.set("ulid=maybe").unwrap_err().contains("`ulid`"));
        assert!(options.set("oversize_status=500").unwrap_err().contains("413 or 400"));
        assert_eq!(options, Options::default());
    }
}
