//! What an answer of Customer.io means: one pure function from status, headers, and body.
//!
//! The table, from the Customer.io Track API's documents and from what its clients have met:
//!
//! | seen | meaning |
//! |---|---|
//! | 2xx without errors | every operation delivered |
//! | 207, or another 2xx, with `errors` | listed operations rejected, the others delivered |
//! | the same, an error that cannot be placed | what is not listed is unknown |
//! | 207 without readable `errors` | everything unknown |
//! | 400 with `batch_index` | nothing was applied: listed rejected, the others sent again at once |
//! | 408, 421, 423, 425, 429, 5xx (configurable) | try again |
//! | 401 · 402, 403 · 407 · 3xx | hold: `unauthorized` · `forbidden` · `proxy` · `redirected` |
//! | 1xx, 404, 405, 411, 415, 426, 501, 505, from 600 on | hold: `protocol` |
//! | any other 4xx, 400, 413 and 422 included | split, until the culprit stands alone |

pub(super) mod items;
mod retry_after;

use std::time::SystemTime;

use http::{HeaderMap, StatusCode, header};

use super::{Hold, Reply};
use crate::config::{CustomerIoConfig, Region, StatusPattern};

pub use retry_after::retry_after;

/// Longest body that is kept of a refused request, in bytes.
const KEPT_BODY: usize = 10_000;

/// What the configuration says about answers.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Statuses that are tried again.
    pub statuses: Vec<StatusPattern>,
    /// Reasons of item errors that are tried again.
    pub item_reasons: Vec<String>,
    /// The base URL, for messages.
    pub endpoint: String,
    /// The configured region, for messages.
    pub region: Region,
}

impl Policy {
    /// Takes the policy from the configuration.
    #[must_use]
    pub fn new(config: &CustomerIoConfig, endpoint: String) -> Self {
        Self {
            statuses: config.retry.statuses.clone(),
            item_reasons: config.retry.item_reasons.clone(),
            endpoint,
            region: config.region,
        }
    }

    /// Tells whether a status is tried again. 501 and 505 are not meant by `5xx`: they say that
    /// whoever answers is no Track API.
    fn retries(&self, status: u16) -> bool {
        self.statuses.iter().any(|pattern| match *pattern {
            StatusPattern::Code(code) => code == status,
            StatusPattern::Class(class) => class == status / 100 && hold_code(status).is_none(),
        })
    }
}

/// Reads an answer to a batch of `items` operations.
#[must_use]
pub fn classify(
    policy: &Policy,
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    items: usize,
    now: SystemTime,
) -> Reply {
    let code = status.as_u16();
    if status.is_success() {
        return Reply::Items(items::accepted(policy, code, body, items));
    }
    if policy.retries(code) {
        let after = headers.get(header::RETRY_AFTER).and_then(|value| retry_after(value, now));
        return Reply::Retry {
            after: after.filter(|_| matches!(code, 429 | 503)),
            why: why(code),
            // Behind a gateway that answers 500, 502, or 504 the batch may have been applied; the
            // other statuses say that it was turned away.
            unknown: code >= 500 && code != 503,
        };
    }
    if let Some(hold) = hold_code(code) {
        return Reply::Hold(Hold { code: hold, message: remedy(policy, status, headers) });
    }
    // Only a 4xx says that nothing was applied.
    if status.is_client_error()
        && let Some(verdicts) = items::refused(policy, code, body, items)
    {
        return Reply::Items(verdicts);
    }
    Reply::Split(items::refusal_of(code, body))
}

/// Returns the hold that a status calls for.
fn hold_code(status: u16) -> Option<&'static str> {
    match status {
        401 => Some("unauthorized"),
        402 | 403 => Some("forbidden"),
        407 => Some("proxy"),
        300..=399 => Some("redirected"),
        100..=199 | 404 | 405 | 411 | 415 | 426 | 501 | 505 | 600.. => Some("protocol"),
        _ => None,
    }
}

/// Says to the operator what to do.
fn remedy(policy: &Policy, status: StatusCode, headers: &HeaderMap) -> String {
    let url = &policy.endpoint;
    match status.as_u16() {
        401 => format!(
            "{url} refused the credentials ({status}): check `customerio.site_id` and `customerio.api_key`, and `customerio.region`; keys in `${{file:…}}` are read again before each try"
        ),
        402 | 403 => format!(
            "{url} does not let this workspace send ({status}): look at the account's plan and state in Customer.io"
        ),
        407 => format!("a proxy before {url} asks for credentials of its own ({status})"),
        300..=399 => {
            let target =
                headers.get(header::LOCATION).and_then(|value| location(value.to_str().ok()?));
            let other = match policy.region {
                Region::Us => ("track-eu.customer.io", "eu"),
                Region::Eu => ("track.customer.io", "us"),
            };
            match target {
                Some(target) if target.host == other.0 => format!(
                    "{url} redirects to {}: set `customerio.region: {}`",
                    target.shown, other.1
                ),
                Some(target) => format!(
                    "{url} redirects to {} ({status}), which is not followed because requests hold personal data: check `customerio.endpoint`",
                    target.shown
                ),
                None => format!("{url} redirects ({status}): check `customerio.endpoint`"),
            }
        }
        _ => format!(
            "{url} does not answer like the Track API ({status}): check `customerio.endpoint` and proxies in between"
        ),
    }
}

struct Location {
    host: String,
    shown: String,
}

/// Reads where a redirect points; user, query, and fragment are not shown.
fn location(value: &str) -> Option<Location> {
    let uri: http::Uri = value.parse().ok()?;
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    let scheme = uri.scheme_str().map(|s| format!("{s}://")).unwrap_or_default();
    let port = uri.port().map(|p| format!(":{p}")).unwrap_or_default();
    Some(Location { shown: format!("{scheme}{host}{port}{}", uri.path()), host })
}

/// Returns the metric label of a status that is tried again.
fn why(status: u16) -> &'static str {
    match status {
        408 => "http_408",
        421 => "http_421",
        423 => "http_423",
        425 => "http_425",
        429 => "http_429",
        500 => "http_500",
        502 => "http_502",
        503 => "http_503",
        504 => "http_504",
        522 => "http_522",
        524 => "http_524",
        501..=599 => "http_5xx",
        _ => "http_other",
    }
}

/// What happened to a request that got no whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection: name look-up, refused, unreachable.
    Connect,
    /// No connection within `connect_timeout`.
    ConnectTimeout,
    /// TLS refused the server or the server us; the text says how.
    Tls(String),
    /// The connection broke.
    Broken {
        /// Whether the request had been handed over whole.
        sent: bool,
    },
    /// No whole answer within `timeout`.
    Timeout {
        /// Whether the request had been handed over whole.
        sent: bool,
    },
    /// What came was no HTTP.
    Unreadable,
}

impl Failure {
    /// Says what the failure means for a batch. Whatever was handed over may have been applied.
    #[must_use]
    pub fn reply(&self, policy: &Policy) -> Reply {
        let (why, unknown) = match self {
            Self::Connect => ("network", false),
            Self::ConnectTimeout => ("connect_timeout", false),
            Self::Broken { sent } => ("network", *sent),
            Self::Timeout { sent } => ("timeout", *sent),
            Self::Unreadable => ("unreadable", true),
            Self::Tls(text) => return Reply::Hold(self.tls(policy, text)),
        };
        Reply::Retry { after: None, why, unknown }
    }

    fn tls(&self, policy: &Policy, text: &str) -> Hold {
        Hold {
            code: "tls",
            message: format!(
                "no trusted connection to {}: {text}; if a company's proxy re-signs traffic, name its root in `customerio.extra_roots`",
                policy.endpoint
            ),
        }
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
