//! Fault rules: what goes wrong, for which requests, and when.
//!
//! Rules are tried in order, and the first that fires decides. Everything that is left to chance
//! depends on the seed, the rule's position, and how many requests the rule has matched, so that a
//! run repeats.

mod checking;
mod effect;
pub(super) mod firing;
mod fixed;
mod kinds;
mod latency;
pub(super) mod matching;
mod shorthand;
mod unauthorized;

pub use effect::Effect;
pub use kinds::{BadErrors, Items, RateLimit, Redirect, Reset, SlowBody, WholeBatch};
pub use latency::Latency;
pub use unauthorized::Unauthorized;

use serde::{Deserialize, Serialize};

use super::options::Span;

/// A fault rule, as JSON or in the short forms that the command `sandbox --help` lists.
///
/// ```
/// use rudder_customerio::sandbox::Rule;
///
/// let outage: Rule = "503@after=3s,for=30s".parse()?;
/// let one_person: Rule = r#"{"match":{"person":"u-1"},"do":{"status":400}}"#.parse()?;
/// assert!(outage.when.lasting.is_some() && one_person.effect.status == Some(400));
/// # Ok::<(), String>(())
/// ```
///
/// Reading one refuses unknown members, values that are out of range, and effects that exclude each
/// other. A rule whose `do` is empty exempts its requests from the rules behind it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "checking::Unchecked")]
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
