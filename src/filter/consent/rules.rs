//! The configured rules, and which of them speaks of a provider.

use super::Decided;
use crate::config::{ConsentConfig, Strategy};

/// The usable rules of one destination.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    generic: Vec<Generic>,
    onetrust: Vec<Box<str>>,
    ketch: Vec<Box<str>>,
}

#[derive(Clone, Debug)]
struct Generic {
    provider: Box<str>,
    own: Option<Strategy>,
    ids: Vec<Box<str>>,
}

/// The rule that speaks of an event's provider; its ids are never empty.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rule<'r> {
    /// A rule for exactly this provider.
    Generic { own: Option<Strategy>, ids: &'r [Box<str>] },
    /// The older list of OneTrust categories.
    Onetrust(&'r [Box<str>]),
    /// The older list of Ketch purposes.
    Ketch(&'r [Box<str>]),
}

impl Rules {
    pub(super) fn new(config: &ConsentConfig) -> Self {
        let mut generic: Vec<Generic> = Vec::new();
        for rule in &config.rules {
            let ids = usable(&rule.consents);
            if rule.provider.is_empty() || ids.is_empty() {
                continue;
            }
            generic.retain(|earlier| *earlier.provider != *rule.provider);
            generic.push(Generic {
                provider: rule.provider.as_str().into(),
                own: rule.resolution_strategy,
                ids,
            });
        }
        Self {
            generic,
            onetrust: usable(&config.onetrust_categories),
            ketch: usable(&config.ketch_purposes),
        }
    }

    /// Tells whether there is no usable rule at all.
    pub(super) fn is_empty(&self) -> bool {
        self.generic.is_empty() && self.onetrust.is_empty() && self.ketch.is_empty()
    }

    /// Returns the rule that speaks of the provider; an event that names none has an empty text.
    pub(super) fn of(&self, provider: &str) -> Option<Rule<'_>> {
        if let Some(rule) = self.generic.iter().find(|r| *r.provider == *provider) {
            return Some(Rule::Generic { own: rule.own, ids: &rule.ids });
        }
        if !self.onetrust.is_empty() && matches!(provider, "" | "oneTrust") {
            return Some(Rule::Onetrust(&self.onetrust));
        }
        if !self.ketch.is_empty() && matches!(provider, "" | "ketch") {
            return Some(Rule::Ketch(&self.ketch));
        }
        None
    }
}

impl<'r> Rule<'r> {
    pub(super) fn ids(self) -> impl Iterator<Item = &'r str> {
        let (Self::Generic { ids, .. } | Self::Onetrust(ids) | Self::Ketch(ids)) = self;
        ids.iter().map(AsRef::as_ref)
    }

    /// Returns the strategy that neither rule nor event can change.
    pub(super) fn fixed(self) -> Option<Strategy> {
        match self {
            Self::Generic { .. } => None,
            Self::Onetrust(_) => Some(Strategy::And),
            Self::Ketch(_) => Some(Strategy::Or),
        }
    }

    pub(super) fn allowed(self) -> Decided {
        match self {
            Self::Generic { .. } => Decided::GenericAllowed,
            Self::Onetrust(_) => Decided::OnetrustAllowed,
            Self::Ketch(_) => Decided::KetchAllowed,
        }
    }

    pub(super) fn denied(self) -> Decided {
        match self {
            Self::Generic { .. } => Decided::GenericDenied,
            Self::Onetrust(_) => Decided::OnetrustDenied,
            Self::Ketch(_) => Decided::KetchDenied,
        }
    }
}

fn usable(ids: &[String]) -> Vec<Box<str>> {
    ids.iter().filter(|id| !id.is_empty()).map(|id| id.as_str().into()).collect()
}
