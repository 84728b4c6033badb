//! `consent`.

use serde_json::Value;

use super::context::Context;
use super::declare::{Choice, Form, Sect, choice, section};
use super::form::{Id, List, Nullable};
use super::tree::{Data, Node};
use crate::diagnostic::{Diagnostic, Place};

section! {
    /// Which consent an event needs. Ids are compared exactly, case included.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ConsentConfig {
        /// Rules for RudderStack's `consentManagement`, at most one per provider.
        rules: Vec<ConsentRule> as ForAll<Sect> = "[]",
        /// RudderStack's older `oneTrustCookieCategories`: all of them are needed.
        onetrust_categories: Vec<String> as ForAll<Id> = "[]",
        /// RudderStack's older `ketchConsentPurposes`: one of them is enough.
        ketch_purposes: Vec<String> as ForAll<Id> = "[]",
        /// What happens, while there is a rule, to an event without a usable answer.
        unknown: Unknown as Choice = "deliver",
        /// Which list of the event decides.
        decide_by: DecideBy as Choice = "denied",
    }
    checked by check_rules
}

impl ConsentConfig {
    /// Checks what a file is refused for and a program can write all the same: rules that would be
    /// passed over in silence, so that events of people who refused were sent.
    ///
    /// # Errors
    ///
    /// A diagnostic per such rule.
    pub(crate) fn check(&self) -> Result<(), Vec<Diagnostic>> {
        let mut faults = Vec::new();
        for (index, rule) in self.rules.iter().enumerate() {
            let mut fault = |code: &str, message: String, help: &str| {
                let place =
                    Place { key: Some(format!("consent.rules[{index}]")), ..Place::default() };
                faults.push(Diagnostic::error(code, message).at(place).help(help));
            };
            if let Some(first) = self.earlier(index) {
                fault("duplicate_rule", same_provider(first), ONE_RULE);
            }
            if rule.provider.is_empty() {
                fault("empty_value", "the provider is empty".to_owned(), "name it as events do");
            }
            if rule.consents.iter().all(String::is_empty) {
                fault("empty_list", "the rule names no consent".to_owned(), "name at least one");
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// Returns the first rule for the provider of this one, if it is an earlier one.
    fn earlier(&self, index: usize) -> Option<usize> {
        let rule = self.rules.get(index)?;
        self.rules.iter().take(index).position(|other| other.provider == rule.provider)
    }
}

const ONE_RULE: &str = "join the two rules: each provider has one";

fn same_provider(first: usize) -> String {
    format!("`consent.rules[{first}]` is for the same provider")
}

impl Default for ConsentConfig {
    /// No rule: every event may be sent.
    fn default() -> Self {
        super::Config::default().consent
    }
}

section! {
    /// One rule for RudderStack's `consentManagement`.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ConsentRule {
        /// Consent provider exactly as events name it, such as `oneTrust`, `ketch`, `iubenda`, `custom`.
        provider: String as Id = required,
        /// Consent ids exactly as events name them.
        consents: Vec<String> as List<Id, 1> = required,
        /// How several ids combine. RudderStack reads it for the provider `custom` only; for the others
        /// the event says how. Null: `and`, or what the event says.
        resolution_strategy: Option<Strategy> as Nullable<Choice> = "null",
    }
}

impl ConsentRule {
    /// Makes a rule without a strategy of its own: every id is needed, unless an event of another
    /// provider than `custom` says that one is enough.
    ///
    /// ```
    /// use rudder_customerio::config::{ConsentConfig, ConsentRule};
    ///
    /// let rule = ConsentRule::new("oneTrust", ["C0004"]);
    /// let consent = ConsentConfig { rules: vec![rule], ..ConsentConfig::default() };
    /// assert_eq!(consent.rules[0].consents, ["C0004"]);
    /// ```
    #[must_use]
    pub fn new(
        provider: impl Into<String>,
        consents: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        Self {
            provider: provider.into(),
            consents: consents.into_iter().map(Into::into).collect(),
            resolution_strategy: None,
        }
    }
}

choice! {
    /// How several consent ids combine.
    pub enum Strategy {
        /// Every id is needed.
        And = "and",
        /// One id is enough.
        Or = "or",
    }
}

choice! {
    /// What happens to an event without a usable answer.
    pub enum Unknown {
        /// It is sent all the same, as RudderStack does.
        Deliver = "deliver",
        /// It is kept back.
        Withhold = "withhold",
    }
}

choice! {
    /// Which list of the event decides.
    pub enum DecideBy {
        /// The denied ids, as RudderStack's server does.
        Denied = "denied",
        /// The allowed ids.
        Allowed = "allowed",
    }
}

/// A list that holds for all sources; RudderStack's form by source type is told apart.
pub(super) struct ForAll<F>(std::marker::PhantomData<F>);

impl<T, F: Form<T>> Form<Vec<T>> for ForAll<F> {
    fn decode(node: &Node, cx: &mut Context<'_>) -> Option<Vec<T>> {
        if matches!(node.data, Data::Map(_)) {
            let help = "write one list; it holds for all sources";
            return cx.not_yet(node.at, "a list per source type", help);
        }
        <List<F> as Form<Vec<T>>>::decode(node, cx)
    }

    fn schema() -> Value {
        <List<F> as Form<Vec<T>>>::schema()
    }
}

/// Checks that the rules can take effect as they are written.
fn check_rules(consent: &ConsentConfig, node: &Node, cx: &mut Context<'_>) {
    for (index, rule) in consent.rules.iter().enumerate() {
        if let Some(first) = consent.earlier(index) {
            let fault = Diagnostic::error("duplicate_rule", same_provider(first)).help(ONE_RULE);
            cx.fault(node, &format!("rules[{index}].provider"), fault);
        }
        // RudderStack reads a rule's own strategy for `custom` only; else the event says how.
        let read = rule.provider == "custom" || consent.decide_by == DecideBy::Allowed;
        if rule.resolution_strategy.is_some() && !read {
            let message =
                "the strategy is read for the provider `custom` only; for others the event has it";
            let fault = Diagnostic::warning("strategy_not_read", message)
                .help("leave the key out, or write consent.decide_by: allowed");
            cx.fault(node, &format!("rules[{index}].resolution_strategy"), fault);
        }
    }
    let lists = [&consent.onetrust_categories, &consent.ketch_purposes];
    if !consent.rules.is_empty() || lists.iter().any(|list| !list.is_empty()) {
        return;
    }
    let withhold = (consent.unknown == Unknown::Withhold).then_some(("unknown", "withhold"));
    let allowed = (consent.decide_by == DecideBy::Allowed).then_some(("decide_by", "allowed"));
    for (key, value) in withhold.into_iter().chain(allowed) {
        let message = format!("`{value}` needs a rule: without any, all events are sent");
        let fault = Diagnostic::warning("no_rule", message).help("add a rule to consent.rules");
        cx.fault(node, key, fault);
    }
}
