//! Consent rules, as RudderStack's server reads them.

use serde_json::{Map, Value};

use super::settings::{Settings, is_reference, one_for};
use super::{Notes, label};
use crate::config::{ConsentConfig, ConsentRule, Strategy};
use crate::filter::consent::upstream;

const GENERIC: &str = "consentManagement";
const ONETRUST: (&str, &str) = ("oneTrustCookieCategories", "oneTrustCookieCategory");
const KETCH: (&str, &str) = ("ketchConsentPurposes", "purpose");

/// Reads the rules of a destination for the source types that count.
///
/// # Errors
///
/// They differ by source type, and none was chosen.
pub fn read(
    config: &Map<String, Value>,
    types: &[String],
    notes: &mut Notes,
) -> Result<ConsentConfig, String> {
    let mut flat = Map::new();
    for name in [GENERIC, ONETRUST.0, KETCH.0] {
        if let Some(value) = one_for(config, name, types, notes)? {
            flat.insert(name.to_owned(), value.clone());
        }
    }
    let mut consent = upstream::read(&Value::Object(flat.clone()).into());
    note_generic(flat.get(GENERIC), &consent, notes);
    note_older(flat.get(ONETRUST.0), ONETRUST, consent.onetrust_categories.len(), notes);
    note_older(flat.get(KETCH.0), KETCH, consent.ketch_purposes.len(), notes);
    consent.rules = rules(consent.rules, notes);
    clean(&mut consent.onetrust_categories, ONETRUST.0, notes);
    clean(&mut consent.ketch_purposes, KETCH.0, notes);
    Ok(consent)
}

/// Tells what RudderStack's server does not heed of the generic rules.
fn note_generic(value: Option<&Value>, consent: &ConsentConfig, notes: &mut Notes) {
    let items = match value {
        None => return,
        Some(Value::Array(items)) => items,
        Some(_) => {
            return notes.add(GENERIC, "no list, so that RudderStack's server ignores it too");
        }
    };
    let id =
        |item: &Value| item.get("consent").and_then(Value::as_str).is_some_and(|t| !t.is_empty());
    let ids = |rule: &Value| rule.get("consents").and_then(Value::as_array).cloned();
    let meant = items.iter().filter(|rule| ids(rule).is_some_and(|ids| ids.iter().any(id))).count();
    if consent.rules.len() < meant {
        notes.add(
            GENERIC,
            format!(
                "{} of its {meant} rules are heeded by RudderStack's server and written here: one wrong \
                 type makes it ignore all rules, a rule needs a provider, and of two for one provider \
                 the last counts",
                consent.rules.len(),
            ),
        );
    }
    let strategy =
        |rule: &Value| rule.get("resolutionStrategy").and_then(Value::as_str).map(str::to_owned);
    if items.iter().filter_map(strategy).any(|s| !matches!(s.as_str(), "" | "and" | "or")) {
        notes
            .add(GENERIC, "a strategy that is neither and nor or counts as and, as in RudderStack");
    }
}

/// Tells what RudderStack's server does not heed of an older list.
fn note_older(value: Option<&Value>, (name, key): (&str, &str), read: usize, notes: &mut Notes) {
    let empty = |item: &&Value| item.get(key).and_then(Value::as_str) == Some("");
    let means = match value {
        None => return,
        Some(Value::Array(items)) if items.iter().filter(|i| !empty(i)).count() <= read => return,
        Some(Value::Array(_)) => "entries without an id are ignored, as by RudderStack's server",
        Some(_) => "no list, so that RudderStack's server ignores it too",
    };
    notes.add(name, means);
}

/// Makes rules of ours, which are stricter about how they are written.
fn rules(read: Vec<ConsentRule>, notes: &mut Notes) -> Vec<ConsentRule> {
    let mut rules: Vec<ConsentRule> = Vec::new();
    for mut rule in read {
        let mut provider = vec![rule.provider];
        clean(&mut provider, GENERIC, notes);
        clean(&mut rule.consents, GENERIC, notes);
        let Some(provider) = provider.pop() else { continue };
        rule.provider = provider;
        if rule.provider != "custom" && rule.resolution_strategy.take().is_some() {
            notes.add(
                format!("resolutionStrategy of {}", label(&rule.provider)),
                "left out: for providers other than custom the event says how ids combine",
            );
        }
        if !rule.consents.is_empty() {
            rules.retain(|earlier| earlier.provider != rule.provider);
            rules.push(rule);
        }
    }
    rules
}

/// Takes blanks off ids, and ids out that cannot be written.
fn clean(ids: &mut Vec<String>, name: &str, notes: &mut Notes) {
    for id in ids.iter_mut() {
        let trimmed = id.trim();
        if trimmed.len() < id.len() {
            notes.add(
                name,
                "blanks at the ends of ids and providers are taken off; RudderStack's server compares them \
                 too, so that such an id never matched there, and does here",
            );
            *id = trimmed.to_owned();
        }
    }
    ids.retain(|id| {
        if is_reference(id) {
            notes.add(
                name,
                "an id or provider that holds ${…} cannot be written here: what it refuses IS SENT",
            );
        }
        !id.is_empty() && !is_reference(id)
    });
}

impl Settings {
    /// Takes over how browser SDKs are told to combine ids, which stands beside the destinations.
    pub fn with_strategies(mut self, document: &Value, notes: &mut Notes) -> Self {
        let providers = document.pointer("/consentManagementMetadata/providers");
        let providers = providers.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        for told in providers {
            let text = |name: &str| told.get(name).and_then(Value::as_str);
            let strategy = match (text("provider"), text("resolutionStrategy")) {
                (Some("oneTrust"), Some("or")) => Strategy::Or,
                (Some("ketch"), Some("and")) => Strategy::And,
                _ => continue,
            };
            let mut rules = self.consent.rules.iter_mut();
            if let Some(rule) = rules.find(|rule| Some(&*rule.provider) == text("provider")) {
                rule.resolution_strategy = Some(strategy);
                notes.add(
                    format!("consentManagementMetadata of {}", label(&rule.provider)),
                    "written as the rule's resolution_strategy, for browsers that ask this program's \
                     /sourceConfig; events of other SDKs say themselves how ids combine",
                );
            }
        }
        self
    }
}
