//! What goes wrong when a rule fires.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::kinds::{BadErrors, Items, RateLimit, Redirect, Reset, SlowBody, WholeBatch};
use super::latency::Latency;
use super::unauthorized::Unauthorized;
use crate::sandbox::options::Span;
use crate::sandbox::validate::ItemError;

/// What goes wrong. Several members may be combined, such as `latency` and `status`.
///
/// In v1, and at `/api/v2/entity`, a request is a batch of one for `items` and `items_in_200`;
/// `whole_batch_400` and `bad_errors` leave v1 alone, which has neither.
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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl Effect {
    /// Whether it does nothing to a request in which it finds nothing to choose or to spoil.
    pub(in crate::sandbox) fn is_selective(&self) -> bool {
        self.name().split('+').all(|part| {
            matches!(part, "none" | "items" | "items_in_200" | "whole_batch_400" | "bad_errors")
        })
    }

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
