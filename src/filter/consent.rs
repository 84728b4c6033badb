//! Consent: may this event of this person go to this destination?
//!
//! The rules are RudderStack's server's (`processor/consent.go`), in this order:
//!
//! 1. The *denied set* is the event's `deniedConsentIds` without empty texts. Empty: deliver.
//! 2. A generic rule for exactly the event's provider decides alone. Strategy: the rule's own for
//!    the provider `custom`, else the event's. `or`: withhold if every id of the rule is denied;
//!    anything else: withhold if any is.
//! 3. The older OneTrust list, for events that name no provider or `oneTrust`: withhold if any of
//!    its categories is denied.
//! 4. The older Ketch list, for events that name no provider or `ketch`: withhold if every one of
//!    its purposes is denied.
//! 5. Deliver: no rule speaks of this provider.
//!
//! Ids and providers are compared as exact texts. Beyond RudderStack there are two options:
//! `unknown: withhold` keeps back what carries no usable answer, and `decide_by: allowed` asks
//! which ids were allowed instead of which were denied, so that undecided ids count as refused. A
//! denial wins over everything else with either option.

mod answer;
mod rules;
#[cfg(feature = "cli")]
pub mod upstream;

use bytes::Bytes;

use self::answer::Answer;
use self::rules::{Rule, Rules};
use super::reader;
use crate::config::{ConsentConfig, DecideBy, Strategy, Unknown};
use crate::outcome::ReasonCode;

/// The consent rules of one destination.
#[derive(Clone, Debug)]
pub struct Consent {
    rules: Rules,
    unknown: Unknown,
    decide_by: DecideBy,
}

/// What decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decided {
    /// The event denies nothing.
    NoDeniedIds,
    /// The event has no list of allowed ids, by which it should be decided.
    NoAllowedIds,
    /// The event's consent object could not be read.
    Malformed,
    /// The generic rule of the event's provider lets it pass.
    GenericAllowed,
    /// The generic rule of the event's provider keeps it back.
    GenericDenied,
    /// The older OneTrust list lets it pass.
    OnetrustAllowed,
    /// The older OneTrust list keeps it back.
    OnetrustDenied,
    /// The older Ketch list lets it pass.
    KetchAllowed,
    /// The older Ketch list keeps it back.
    KetchDenied,
    /// No rule speaks of the event's provider.
    NoRuleForProvider,
    /// There is no usable answer, and such events are kept back.
    Unknown,
}

impl Decided {
    /// Returns why the event is withheld, or `None` if it may pass.
    #[must_use]
    pub const fn refusal(self) -> Option<ReasonCode> {
        match self {
            Self::GenericDenied => Some(ReasonCode::GenericDenied),
            Self::OnetrustDenied => Some(ReasonCode::OnetrustDenied),
            Self::KetchDenied => Some(ReasonCode::KetchDenied),
            Self::Unknown => Some(ReasonCode::ConsentUnknown),
            _ => None,
        }
    }

    /// Returns the word that `map --explain` shows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoDeniedIds => "no_denied_ids",
            Self::NoAllowedIds => "no_allowed_ids",
            Self::Malformed => "event_consent_malformed",
            Self::GenericAllowed => "generic_allowed",
            Self::GenericDenied => "generic_denied",
            Self::OnetrustAllowed => "onetrust_allowed",
            Self::OnetrustDenied => "onetrust_denied",
            Self::KetchAllowed => "ketch_allowed",
            Self::KetchDenied => "ketch_denied",
            Self::NoRuleForProvider => "no_rule_for_provider",
            Self::Unknown => "consent_unknown",
        }
    }
}

/// A decision, and whether the event's consent object was malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What decided.
    pub decided: Decided,
    /// A wrong type stopped the reading of the consent object.
    pub malformed: bool,
}

impl Consent {
    /// Makes the rules from configuration. Ids that are empty texts are dropped, rules without any
    /// id do not exist, and of several rules for one provider the last counts.
    #[must_use]
    pub fn new(config: &ConsentConfig) -> Self {
        Self { rules: Rules::new(config), unknown: config.unknown, decide_by: config.decide_by }
    }

    /// Decides; `raw` is the raw JSON of `context.consentManagement`.
    #[must_use]
    pub fn decide(&self, raw: Option<&Bytes>) -> Verdict {
        let Some(raw) = raw else { return self.judge(&Answer::default()) };
        if let Some(answer) = std::str::from_utf8(raw).ok().and_then(Answer::glance) {
            return self.judge(&answer);
        }
        match reader::value(raw) {
            Some(value) => {
                let answer = Answer::study(&value);
                self.judge(&answer)
            }
            None => self.judge(&Answer { malformed: true, ..Answer::default() }),
        }
    }

    fn judge(&self, answer: &Answer<'_>) -> Verdict {
        let rule = self.rules.of(answer.provider);
        let decided = match self.decide_by {
            DecideBy::Denied => by_denied(answer, rule),
            DecideBy::Allowed => by_allowed(answer, rule),
        };
        let settled = decided.refusal().is_some()
            || self.unknown == Unknown::Deliver
            || self.rules.is_empty()
            || self.is_usable(answer, rule.is_some());
        let decided = if settled { decided } else { Decided::Unknown };
        Verdict { decided, malformed: answer.malformed }
    }

    /// Tells whether the event carries an answer that a rule can use.
    fn is_usable(&self, answer: &Answer<'_>, has_rule: bool) -> bool {
        let unread = answer.malformed && !answer.denied_read;
        let silent =
            answer.denied.is_empty() && answer.allowed.as_ref().is_none_or(|a| a.is_empty());
        let missing = self.decide_by == DecideBy::Allowed && answer.allowed.is_none();
        has_rule && !unread && !silent && !missing
    }
}

fn by_denied(answer: &Answer<'_>, rule: Option<Rule<'_>>) -> Decided {
    if answer.denied.is_empty() {
        return if answer.malformed { Decided::Malformed } else { Decided::NoDeniedIds };
    }
    let Some(rule) = rule else { return Decided::NoRuleForProvider };
    let strategy = match rule {
        Rule::Generic { own, .. } if answer.provider == "custom" => own.unwrap_or(Strategy::And),
        _ => rule.fixed().unwrap_or(answer.strategy),
    };
    if is_denied(answer, rule, strategy) { rule.denied() } else { rule.allowed() }
}

fn by_allowed(answer: &Answer<'_>, rule: Option<Rule<'_>>) -> Decided {
    let strategy = |rule: Rule<'_>| match rule {
        Rule::Generic { own: Some(own), .. } => own,
        _ => rule.fixed().unwrap_or(answer.strategy),
    };
    let Some(allowed) = &answer.allowed else {
        // By whichever strategy a denial counts: nothing was allowed that could outweigh it.
        let denied = |rule| {
            is_denied(answer, rule, strategy(rule))
                || by_denied(answer, Some(rule)).refusal().is_some()
        };
        return match rule {
            Some(rule) if denied(rule) => rule.denied(),
            _ if answer.malformed => Decided::Malformed,
            _ => Decided::NoAllowedIds,
        };
    };
    let Some(rule) = rule else { return Decided::NoRuleForProvider };
    // An id in both lists contradicts itself; a denial wins.
    let granted = |id: &str| allowed.contains(&id) && !answer.denied.contains(&id);
    let passes = match strategy(rule) {
        Strategy::And => rule.ids().all(granted),
        Strategy::Or => rule.ids().any(granted),
    };
    if passes { rule.allowed() } else { rule.denied() }
}

fn is_denied(answer: &Answer<'_>, rule: Rule<'_>, strategy: Strategy) -> bool {
    let denied = |id: &str| answer.denied.contains(&id);
    match strategy {
        Strategy::And => rule.ids().any(denied),
        Strategy::Or => rule.ids().all(denied),
    }
}

#[cfg(test)]
mod tests;
