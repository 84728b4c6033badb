//! Switches for behaviour of Customer.io that is a workspace setting, or that nobody has documented.
//!
//! The strict side is the default, because a sandbox should find faults.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// A region of Customer.io.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Region {
    /// `track.customer.io`.
    #[default]
    Us,
    /// `track-eu.customer.io`.
    Eu,
}

impl Region {
    /// Returns the base URL of the region's Track API.
    #[must_use]
    pub fn url(self) -> &'static str {
        match self {
            Self::Us => "https://track.customer.io",
            Self::Eu => "https://track-eu.customer.io",
        }
    }

    /// Returns `us` or `eu`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Us => "us",
            Self::Eu => "eu",
        }
    }
}

impl std::str::FromStr for Region {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "us" => Ok(Self::Us),
            "eu" => Ok(Self::Eu),
            _ => Err(format!("unknown region `{text}`, expected `us` or `eu`")),
        }
    }
}

/// What happens to a request with an EU credential on the US host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegionMismatch {
    /// Accepted, and flagged in the request log.
    #[default]
    Proxy,
    /// 307 to the other region.
    Redirect,
    /// 401.
    Fail,
}

/// What happens to an event `id` that is no ULID.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UlidRule {
    /// The operation is refused.
    #[default]
    Strict,
    /// The event is taken without de-duplication.
    Ignore,
}

/// What happens to an identifier that is a JSON number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NumericIds {
    /// The operation is refused.
    #[default]
    Refuse,
    /// The number is taken as text.
    Accept,
}

/// Whether the limit of 1000 bytes holds for attribute values that are objects or arrays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NestedValues {
    /// It does not.
    #[default]
    Free,
    /// Their compact JSON counts.
    Encoded,
}

/// Whether the limit of 1000 bytes holds for the values of event attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventValues {
    /// It does not.
    #[default]
    Free,
    /// It does.
    Limited,
}

/// The order in which the items of a batch are applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchOrder {
    /// As they stand.
    #[default]
    Array,
    /// By chance (seeded): shows who relies on order.
    Shuffle,
}

/// The ids that exist beforehand in the workspace: `any`, or a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Known {
    /// Every id exists.
    #[default]
    Any,
    /// Only these exist.
    Only(BTreeSet<String>),
}

impl Known {
    /// Tells whether the id exists.
    #[must_use]
    pub fn has(&self, id: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(ids) => ids.contains(id),
        }
    }
}

impl Serialize for Known {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Any => serializer.serialize_str("any"),
            Self::Only(ids) => ids.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Known {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ids: Vec<String> = match Value::deserialize(deserializer)? {
            Value::String(text) if text == "any" => return Ok(Self::Any),
            Value::String(text) => text.split(',').map(|id| id.trim().to_owned()).collect(),
            Value::Number(number) => vec![number.to_string()],
            Value::Array(items) => items
                .iter()
                .map(|item| match item {
                    Value::String(text) => Ok(text.clone()),
                    Value::Number(number) => Ok(number.to_string()),
                    _ => Err(D::Error::custom("ids must be texts")),
                })
                .collect::<Result<_, _>>()?,
            _ => return Err(D::Error::custom("expected `any` or a list of ids")),
        };
        Ok(Self::Only(ids.into_iter().collect()))
    }
}

/// A length of time: `200ms`, `3s`, `5m`, `1h`, or a number of milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// Whole milliseconds.
    #[must_use]
    pub fn as_millis(self) -> i64 {
        i64::try_from(self.0.as_millis()).unwrap_or(i64::MAX)
    }
}

impl std::str::FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no length of time, expected such as `200ms` or `3s`");
        let text_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at_checked(text_end).ok_or_else(wrong)?;
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let seconds = match unit.trim() {
            "ms" | "" => number / 1000.0,
            "s" => number,
            "m" => number * 60.0,
            "h" => number * 3600.0,
            _ => return Err(wrong()),
        };
        Duration::try_from_secs_f64(seconds).map(Self).map_err(|_| wrong())
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}ms", self.0.as_millis()))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => text.parse().map_err(D::Error::custom),
            Value::Number(number) => number.to_string().parse().map_err(D::Error::custom),
            _ => Err(D::Error::custom("expected a length of time such as `200ms` or `3s`")),
        }
    }
}

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

    #[test]
    fn lengths_of_time_have_units() {
        for (text, millis) in [("200ms", 200), ("3s", 3000), ("1.5m", 90_000), ("40", 40)] {
            assert_eq!(text.parse::<Span>().unwrap().as_millis(), millis, "{text}");
        }
        assert!("3 days".parse::<Span>().is_err());
        assert!("-1s".parse::<Span>().is_err());
    }
}
