//! Fault rules: what goes wrong, for which requests, and when.
//!
//! Rules are tried in order, and the first that fires decides. Everything that is left to chance
//! depends on the seed, the rule's position, and how many requests the rule has matched, so that a
//! run repeats.

pub(super) mod firing;
mod fixed;
mod matching;
pub mod shorthand;

use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::options::Span;
use super::validate::ItemError;

/// A fault rule.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// Which requests; all of the Track API if empty.
    #[serde(rename = "match")]
    pub matches: Match,
    /// When; always if empty.
    pub when: When,
    /// What goes wrong.
    #[serde(rename = "do")]
    pub effect: Effect,
}

/// Which requests a rule is for; every member that is given must fit.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Match {
    /// Path, with `*` for any text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// HTTP method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// An identifier that path or body names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
    /// Text that occurs in the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_contains: Option<String>,
}

/// When a rule fires; every member that is given must hold.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct When {
    /// For this share of the matching requests, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// For every n-th matching request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<u64>,
    /// For the first n matching requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
    /// Not before so long after the rules were set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Span>,
    /// For so long, from `after` on.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasting: Option<Span>,
    /// At most n times.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
}

/// What goes wrong. Several members may be combined, such as `latency` and `status`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Effect {
    /// A fixed answer with this status; nothing is applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Body of the fixed answer: text as it is, anything else as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
    /// Headers of the fixed answer.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub headers: Map<String, Value>,
    /// Whether the body of the fixed answer is an HTML page, as proxies send it.
    #[serde(skip_serializing_if = "is_false")]
    pub html: bool,
    /// `Retry-After` of the fixed answer (429 if no status is given): seconds; `date`, `date:N` for
    /// an HTTP-date two or N seconds ahead (N may be negative); any other text as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Value>,
    /// A token bucket per credential, 429 when it is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// Turns items of a batch into errors of a 207 without applying them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub items: Option<Items>,
    /// As `items`, with status 200.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub items_in_200: Option<Items>,
    /// The error that the chosen items get.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ItemError>,
    /// Applies everything and answers 207 with a body that clients cannot rely on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bad_errors: Option<BadErrors>,
    /// 400 for the whole batch without positions; nothing is applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub whole_batch_400: Option<WholeBatch>,
    /// Slowness.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// A TCP reset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reset: Option<Reset>,
    /// Reads the request and never answers; nothing is applied.
    #[serde(skip_serializing_if = "is_false")]
    pub hang: bool,
    /// Answers one byte at a time, so far apart (`true`: one second).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow_body: Option<SlowBody>,
    /// Closes the connection when it has been idle for so long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub close_idle: Option<Span>,
    /// 401, in a span of time or until another credential is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unauthorized: Option<Unauthorized>,
    /// A redirect; nothing is applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect: Option<Redirect>,
    /// `false` switches de-duplication off for the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicate_id_ignored: Option<bool>,
}

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

/// A fixed or random wait.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Latency {
    /// Half of the waits are shorter.
    pub p50: Span,
    /// 99 of 100 waits are shorter (log-normal); as `p50` for a fixed wait.
    pub p99: Span,
    /// Whether the wait comes after the request was applied rather than before.
    pub after: bool,
}

/// Time between the bytes of a slow body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SlowBody(pub Span);

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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
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
                shown.insert(name.to_owned(), format!("{}ms", span.as_millis()).into());
            }
        }
        if let Some(until) = &self.until {
            shown.insert("until".to_owned(), super::credentials::ending(until).into());
        }
        shown.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RateLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let number = |name: &str| value.get(name).and_then(Value::as_f64);
        let per_second = value.as_f64().or_else(|| number("per_second"));
        match per_second.filter(|rate| *rate > 0.0) {
            Some(rate) => {
                let burst = number("burst").unwrap_or(rate).max(1.0);
                Ok(Self { per_second: rate, burst })
            }
            None => Err(D::Error::custom(
                "rate_limit: expected requests per second, or {\"per_second\", \"burst\"}",
            )),
        }
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

impl<'de> Deserialize<'de> for Latency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Pair {
            p50: Span,
            p99: Option<Span>,
            #[serde(default)]
            after: bool,
        }
        let value = Value::deserialize(deserializer)?;
        let pair: Pair = if value.is_object() {
            serde_json::from_value(value).map_err(D::Error::custom)?
        } else {
            let p50 = serde_json::from_value(value).map_err(D::Error::custom)?;
            Pair { p50, p99: None, after: false }
        };
        Ok(Self { p50: pair.p50, p99: pair.p99.unwrap_or(pair.p50), after: pair.after })
    }
}

impl Latency {
    /// Draws a wait.
    pub(super) fn draw(&self, random: &mut fastrand::Rng) -> Duration {
        let (p50, p99) = (self.p50.0.as_secs_f64(), self.p99.0.as_secs_f64());
        if p99 <= p50 || p50 <= 0.0 {
            return self.p50.0;
        }
        // A log-normal wait: 2.326 is the 99th percentile of the standard normal distribution,
        // which Box and Muller's method draws from two uniform numbers.
        let radius = (-2.0 * (1.0 - random.f64()).ln()).sqrt();
        let normal = radius * (std::f64::consts::TAU * random.f64()).cos();
        let seconds = p50 * ((p99 / p50).ln() / 2.326 * normal).exp();
        Duration::try_from_secs_f64(seconds.min(p99 * 10.0)).unwrap_or(self.p99.0)
    }
}

impl Effect {
    /// Names the effect for the request log and the counters, such as `status_503`.
    #[must_use]
    pub fn name(&self) -> String {
        let mut names: Vec<String> = Vec::new();
        let mut named = |present: bool, name: &str| {
            if present {
                names.push(name.to_owned());
            }
        };
        if let Some(status) = self.status {
            named(true, &format!("status_{status}"));
        }
        named(self.retry_after.is_some(), "retry_after");
        named(self.rate_limit.is_some(), "rate_limit");
        named(self.items.is_some(), "items");
        named(self.items_in_200.is_some(), "items_in_200");
        named(self.bad_errors.is_some(), "bad_errors");
        named(self.whole_batch_400.is_some(), "whole_batch_400");
        named(self.latency.is_some(), "latency");
        match self.reset {
            Some(Reset::Accept) => named(true, "reset_accept"),
            Some(Reset::AfterRequest) => named(true, "reset_after_request"),
            Some(Reset::MidResponse) => named(true, "reset_mid_response"),
            None => {}
        }
        named(self.hang, "hang");
        named(self.slow_body.is_some(), "slow_body");
        named(self.close_idle.is_some(), "close_idle");
        named(self.unauthorized.is_some(), "unauthorized");
        named(self.redirect.is_some(), "redirect");
        named(self.duplicate_id_ignored.is_some(), "duplicate_id_ignored");
        if names.is_empty() { "none".to_owned() } else { names.join("+") }
    }
}
