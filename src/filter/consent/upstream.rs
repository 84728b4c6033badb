//! RudderStack's own form of a destination's consent rules, read as leniently as its server does.
//!
//! The form has three keys: `consentManagement` (a list of `{provider, resolutionStrategy?,
//! consents: [{consent}]}`), `oneTrustCookieCategories` (a list of `{oneTrustCookieCategory}`), and
//! `ketchConsentPurposes` (a list of `{purpose}`). One wrong type anywhere in `consentManagement`
//! discards all of its rules; the two older lists skip bad items one by one. The form that is keyed
//! by source type is ignored, as the server ignores it.

use vrl::value::Value;

use crate::config::{ConsentConfig, ConsentRule, DecideBy, Strategy, Unknown};

/// Reads a destination's configuration into rules that decide as RudderStack's server would.
///
/// Of several usable rules for one provider only the last is kept. Nothing is an error here: what
/// the server does not understand holds no rule.
#[must_use]
pub fn read(destination_config: &Value) -> ConsentConfig {
    let member = |name: &str| destination_config.as_object().and_then(|config| config.get(name));
    ConsentConfig {
        rules: member("consentManagement").and_then(generic).unwrap_or_default(),
        onetrust_categories: older(member("oneTrustCookieCategories"), "oneTrustCookieCategory"),
        ketch_purposes: older(member("ketchConsentPurposes"), "purpose"),
        unknown: Unknown::Deliver,
        decide_by: DecideBy::Denied,
    }
}

/// Reads the generic rules; `None` when a wrong type discards them all.
fn generic(value: &Value) -> Option<Vec<ConsentRule>> {
    let mut rules: Vec<ConsentRule> = Vec::new();
    for item in list(value)? {
        let rule = rule(item)?;
        if !rule.provider.is_empty() && !rule.consents.is_empty() {
            rules.retain(|earlier| earlier.provider != rule.provider);
            rules.push(rule);
        }
    }
    Some(rules)
}

fn rule(item: &Value) -> Option<ConsentRule> {
    let (mut provider, mut strategy, mut consents) = ("", "", Vec::new());
    visit(item, |name, value| {
        if name.eq_ignore_ascii_case("provider") {
            text(value, &mut provider)?;
        } else if name.eq_ignore_ascii_case("resolutionStrategy") {
            text(value, &mut strategy)?;
        } else if name.eq_ignore_ascii_case("consents") {
            consents = list(value)?.iter().map(consent).collect::<Option<_>>()?;
        }
        Some(())
    })?;
    consents.retain(|id: &String| !id.is_empty());
    Some(ConsentRule {
        provider: provider.to_owned(),
        consents,
        resolution_strategy: match strategy {
            "" => None,
            "or" => Some(Strategy::Or),
            _ => Some(Strategy::And),
        },
    })
}

fn consent(item: &Value) -> Option<String> {
    let mut id = "";
    visit(item, |name, value| {
        if name.eq_ignore_ascii_case("consent") { text(value, &mut id) } else { Some(()) }
    })?;
    Some(id.to_owned())
}

/// Visits the members of an object in byte order of their names; `null` has none.
fn visit<'a>(value: &'a Value, mut f: impl FnMut(&'a str, &'a Value) -> Option<()>) -> Option<()> {
    match value {
        Value::Null => Some(()),
        Value::Object(object) => object.iter().try_for_each(|(name, value)| f(name, value)),
        _ => None,
    }
}

fn list(value: &Value) -> Option<&[Value]> {
    match value {
        Value::Null => Some(&[]),
        value => value.as_array(),
    }
}

/// Takes over a text; `null` leaves what was there.
fn text<'a>(value: &'a Value, into: &mut &'a str) -> Option<()> {
    if !value.is_null() {
        *into = value.to_str()?;
    }
    Some(())
}

fn older(value: Option<&Value>, key: &str) -> Vec<String> {
    let items = value.and_then(Value::as_array).unwrap_or_default();
    let id = |item: &Value| Some(item.as_object()?.get(key)?.to_str()?.to_owned());
    items.iter().filter_map(id).filter(|id| !id.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rules(config: serde_json::Value) -> ConsentConfig {
        read(&serde_json::from_value(config).unwrap())
    }

    #[test]
    fn the_three_keys_are_read() {
        let config = rules(json!({
            "consentManagement": [
                { "provider": "custom", "resolutionStrategy": "or", "consents": [{ "consent": "a" }, { "consent": "" }] },
                { "PROVIDER": "ketch", "Consents": [{ "CONSENT": " b " }, null, {}] },
                null,
            ],
            "oneTrustCookieCategories": [{ "oneTrustCookieCategory": "C1" }, { "OneTrustCookieCategory": "C2" }],
            "ketchConsentPurposes": [{ "purpose": "p" }, 7, { "purpose": null }],
        }));
        assert_eq!(
            config.rules,
            vec![
                ConsentRule {
                    provider: "custom".into(),
                    consents: vec!["a".into()],
                    resolution_strategy: Some(Strategy::Or),
                },
                ConsentRule {
                    provider: "ketch".into(),
                    consents: vec![" b ".into()],
                    resolution_strategy: None,
                },
            ]
        );
        assert_eq!(config.onetrust_categories, ["C1"]);
        assert_eq!(config.ketch_purposes, ["p"]);
    }

    #[test]
    fn one_wrong_type_discards_every_generic_rule_and_no_older_list() {
        let good = json!({ "provider": "a", "consents": [{ "consent": "x" }] });
        for bad in [
            json!([good, 7]),
            json!([good, { "provider": 1 }]),
            json!([good, { "resolutionStrategy": false }]),
            json!([good, { "consents": {} }]),
            json!([good, { "consents": ["x"] }]),
            json!([good, { "consents": [{ "consent": 1 }] }]),
            json!({ "web": [good] }),
            json!("x"),
        ] {
            let config = rules(json!({
                "consentManagement": bad, "oneTrustCookieCategories": [{ "oneTrustCookieCategory": "C1" }],
            }));
            assert_eq!(config.rules, vec![]);
            assert_eq!(config.onetrust_categories, ["C1"]);
        }
        assert_eq!(rules(json!({ "consentManagement": [good, { "x": 1 }] })).rules.len(), 1);
        assert_eq!(rules(json!(null)).rules, vec![]);
    }

    #[test]
    fn a_later_usable_rule_replaces_an_earlier_one() {
        let rule = |id: &str| json!({ "provider": "a", "consents": [{ "consent": id }] });
        let config = rules(json!({ "consentManagement": [rule("x"), rule("y"), rule("")] }));
        assert_eq!(config.rules.len(), 1);
        assert_eq!(config.rules[0].consents, ["y"]);
    }
}
