//! The values of switches that are neither yes nor no.

use serde::{Deserialize, Serialize};

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
