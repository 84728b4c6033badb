//! The arguments of effects.

use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::sandbox::options::Span;

/// A rate: a number of requests per second, or with its own burst.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct RateLimit {
    /// Requests per second.
    pub per_second: f64,
    /// Size of the bucket.
    pub burst: f64,
}

/// Which items of a batch; every member that is given must fit.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Items {
    /// This share of the items, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// The items at these positions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub indexes: Option<Vec<usize>>,
    /// The items that name this identifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
}

/// What is wrong with the body of a 207.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BadErrors {
    /// `batch_index` beyond the batch.
    IndexOutOfRange,
    /// An entry without `batch_index`.
    IndexMissing,
    /// `errors` is an object.
    NotAList,
    /// The JSON ends midway.
    Cut,
    /// No body.
    Empty,
    /// An HTML page.
    Html,
}

/// When a whole batch is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WholeBatch {
    /// If `items` chooses one of its items; always if there is no `items`.
    Chosen,
    /// If one of its items is invalid, or `items` chooses one.
    BadItems,
}

/// When a connection is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reset {
    /// As soon as it is accepted. The rule's `match` does not count: no request was read.
    Accept,
    /// After the request was **applied**: the lost acknowledgement.
    AfterRequest,
    /// Applied too, with half of the answer's body sent.
    MidResponse,
}

/// Time between the bytes of a slow body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SlowBody(pub Span);

/// A redirect.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redirect {
    /// 301, 302, 307, or 308.
    #[serde(default = "temporary")]
    pub status: u16,
    /// `Location`.
    pub location: String,
}

fn temporary() -> u16 {
    307
}

impl<'de> Deserialize<'de> for RateLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Bucket {
            per_second: f64,
            burst: Option<f64>,
        }
        let value = Value::deserialize(deserializer)?;
        let Bucket { per_second, burst } = match value.as_f64() {
            Some(per_second) => Bucket { per_second, burst: None },
            None => serde_json::from_value(value)
                .map_err(|error| D::Error::custom(format_args!("rate_limit: {error}")))?,
        };
        if per_second <= 0.0 || burst.is_some_and(|burst| burst < 1.0) {
            let expected = "rate_limit: expected more than 0 requests per second, and a burst of \
                            at least 1";
            return Err(D::Error::custom(expected));
        }
        Ok(Self { per_second, burst: burst.unwrap_or_else(|| per_second.max(1.0)) })
    }
}

impl Serialize for WholeBatch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Chosen => serializer.serialize_bool(true),
            Self::BadItems => serializer.serialize_str("bad_items"),
        }
    }
}

impl<'de> Deserialize<'de> for WholeBatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Bool(true) => Ok(Self::Chosen),
            Value::String(text) if text == "bad_items" => Ok(Self::BadItems),
            _ => Err(D::Error::custom("whole_batch_400: expected true or \"bad_items\"")),
        }
    }
}

impl<'de> Deserialize<'de> for SlowBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        if value == Value::Bool(true) {
            return Ok(Self(Span(Duration::from_secs(1))));
        }
        serde_json::from_value(value).map(Self).map_err(D::Error::custom)
    }
}
