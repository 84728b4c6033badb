use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::config::{ConsentRule, Strategy};

fn rule(provider: &str, ids: &[&str], own: Option<Strategy>) -> ConsentRule {
    ConsentRule {
        provider: provider.to_owned(),
        consents: ids.iter().map(|id| (*id).to_owned()).collect(),
        resolution_strategy: own,
    }
}

fn config(unknown: Unknown, decide_by: DecideBy) -> ConsentConfig {
    ConsentConfig {
        rules: vec![
            rule("custom", &["m", "a"], Some(Strategy::Or)),
            rule("iubenda", &["1", "5"], None),
        ],
        onetrust_categories: vec!["C2".into(), "C4".into()],
        ketch_purposes: vec![],
        unknown,
        decide_by,
    }
}

fn said(config: &ConsentConfig, event: &serde_json::Value) -> &'static str {
    let raw = Bytes::from(event.to_string());
    Consent::new(config).decide(Some(&raw)).decided.as_str()
}

#[test]
fn withhold_asks_for_a_usable_answer_after_any_denial() {
    let deliver = config(Unknown::Deliver, DecideBy::Denied);
    let withhold = config(Unknown::Withhold, DecideBy::Denied);
    for (event, open, closed) in [
        (json!(null), "no_denied_ids", "consent_unknown"),
        (json!([]), "event_consent_malformed", "consent_unknown"),
        (json!({ "deniedConsentIds": "C4" }), "event_consent_malformed", "consent_unknown"),
        (
            json!({ "provider": 5, "allowedConsentIds": ["x"] }),
            "event_consent_malformed",
            "consent_unknown",
        ),
        (json!({ "provider": "oneTrust" }), "no_denied_ids", "consent_unknown"),
        (
            json!({ "provider": "oneTrust", "deniedConsentIds": [], "allowedConsentIds": [""] }),
            "no_denied_ids",
            "consent_unknown",
        ),
        (
            json!({ "provider": "oneTrust", "deniedConsentIds": [], "allowedConsentIds": 7 }),
            "no_denied_ids",
            "consent_unknown",
        ),
        (
            json!({ "provider": "oneTrust", "deniedConsentIds": [], "allowedConsentIds": ["C1"] }),
            "no_denied_ids",
            "no_denied_ids",
        ),
        (
            json!({ "provider": "ketch", "deniedConsentIds": [], "allowedConsentIds": ["C1"] }),
            "no_denied_ids",
            "consent_unknown",
        ),
        (
            json!({ "provider": "ketch", "deniedConsentIds": ["C4"] }),
            "no_rule_for_provider",
            "consent_unknown",
        ),
        (json!({ "deniedConsentIds": ["C9"] }), "onetrust_allowed", "onetrust_allowed"),
        (json!({ "deniedConsentIds": ["C4"] }), "onetrust_denied", "onetrust_denied"),
        // The denied ids were read before the mistake: they are an answer.
        (
            json!({ "deniedConsentIds": ["C9"], "provider": 5 }),
            "onetrust_allowed",
            "onetrust_allowed",
        ),
        (
            json!({ "provider": "custom", "deniedConsentIds": ["m"] }),
            "generic_allowed",
            "generic_allowed",
        ),
    ] {
        assert_eq!(said(&deliver, &event), open, "{event}");
        assert_eq!(said(&withhold, &event), closed, "{event}");
    }
    let none = Consent::new(&withhold).decide(None);
    assert_eq!(none, Verdict { decided: Decided::Unknown, malformed: false });
}

#[test]
fn without_a_usable_rule_nothing_is_unknown() {
    let empty = ConsentConfig {
        rules: vec![rule("custom", &[""], None), rule("", &["a"], None)],
        onetrust_categories: vec![String::new()],
        ..config(Unknown::Withhold, DecideBy::Denied)
    };
    assert_eq!(Consent::new(&empty).decide(None).decided, Decided::NoDeniedIds);
    assert_eq!(
        said(&empty, &json!({ "provider": "custom", "deniedConsentIds": ["a"] })),
        "no_rule_for_provider"
    );
}

#[test]
fn by_allowed_ids_undecided_ones_are_refused() {
    let by_allowed = config(Unknown::Deliver, DecideBy::Allowed);
    for (event, word) in [
        // Or of the rule itself; the event's strategy is the second choice.
        (
            json!({ "provider": "custom", "allowedConsentIds": ["a"], "resolutionStrategy": "and" }),
            "generic_allowed",
        ),
        (json!({ "provider": "custom", "allowedConsentIds": ["x"] }), "generic_denied"),
        (json!({ "provider": "iubenda", "allowedConsentIds": ["1"] }), "generic_denied"),
        (
            json!({ "provider": "iubenda", "allowedConsentIds": ["1"], "resolutionStrategy": "or" }),
            "generic_allowed",
        ),
        (json!({ "provider": "iubenda", "allowedConsentIds": ["5", "1"] }), "generic_allowed"),
        (json!({ "allowedConsentIds": ["C2", "C4"] }), "onetrust_allowed"),
        (json!({ "allowedConsentIds": ["C2"], "resolutionStrategy": "or" }), "onetrust_denied"),
        (json!({ "allowedConsentIds": [], "deniedConsentIds": [] }), "onetrust_denied"),
        (json!({ "provider": "ketch", "allowedConsentIds": [] }), "no_rule_for_provider"),
        // A denial wins, with a list of allowed ids and without one.
        (
            json!({ "allowedConsentIds": ["C2", "C4"], "deniedConsentIds": ["C4"] }),
            "onetrust_denied",
        ),
        (json!({ "deniedConsentIds": ["C4"] }), "onetrust_denied"),
        (json!({ "deniedConsentIds": ["C9"] }), "no_allowed_ids"),
        (json!({ "allowedConsentIds": ["C2", 4] }), "no_allowed_ids"),
        (json!(5), "event_consent_malformed"),
    ] {
        assert_eq!(said(&by_allowed, &event), word, "{event}");
    }
    let withhold = config(Unknown::Withhold, DecideBy::Allowed);
    for event in [
        json!({ "deniedConsentIds": ["C9"] }),
        json!({}),
        json!({ "provider": "ketch", "allowedConsentIds": ["a"] }),
    ] {
        assert_eq!(said(&withhold, &event), "consent_unknown", "{event}");
    }
}

#[test]
fn without_allowed_ids_a_denial_counts_by_either_strategy() {
    let rules = ConsentConfig {
        rules: vec![rule("custom", &["m", "a"], None), rule("p", &["m", "a"], Some(Strategy::And))],
        ..config(Unknown::Deliver, DecideBy::Allowed)
    };
    for provider in ["custom", "p"] {
        let event = json!({
            "provider": provider, "deniedConsentIds": ["m"], "resolutionStrategy": "or",
        });
        assert_eq!(said(&rules, &event), "generic_denied", "{provider}");
    }
}

#[test]
fn by_allowed_ids_ketch_needs_one_purpose() {
    let ketch = ConsentConfig {
        onetrust_categories: vec![],
        ketch_purposes: vec!["p".into(), "q".into()],
        ..config(Unknown::Deliver, DecideBy::Allowed)
    };
    assert_eq!(said(&ketch, &json!({ "allowedConsentIds": ["q"] })), "ketch_allowed");
    assert_eq!(
        said(&ketch, &json!({ "provider": "ketch", "allowedConsentIds": ["r"] })),
        "ketch_denied"
    );
}

#[test]
fn a_lone_surrogate_reads_as_the_replacement_character() {
    let replaced = ConsentConfig {
        onetrust_categories: vec!["\u{fffd}x".into()],
        ..config(Unknown::Deliver, DecideBy::Denied)
    };
    let raw = Bytes::from_static(br#"{"deniedConsentIds":["\ud800x"]}"#);
    let verdict = Consent::new(&replaced).decide(Some(&raw));
    assert_eq!(verdict, Verdict { decided: Decided::OnetrustDenied, malformed: false });
}

#[test]
fn bytes_that_are_no_json_count_as_malformed() {
    let consent = Consent::new(&config(Unknown::Deliver, DecideBy::Denied));
    for raw in [&b"{"[..], b"", b"\0", b"\xff"] {
        assert!(consent.decide(Some(&Bytes::from_static(raw))).malformed);
    }
}

fn ids() -> impl proptest::strategy::Strategy<Value = Vec<String>> {
    proptest::collection::vec("[abc]", 0..4)
}

proptest! {
    /// The decision is a function of the set of denied ids: order and repeats change nothing.
    #[test]
    fn order_and_repeats_of_denied_ids_change_nothing(denied in ids(), own in ids(), or in any::<bool>()) {
        let config = ConsentConfig {
            rules: vec![ConsentRule { provider: "p".into(), consents: own.clone(), resolution_strategy: None }],
            ..config(Unknown::Deliver, DecideBy::Denied)
        };
        let strategy = if or { "or" } else { "and" };
        let event = |denied: &[String]| json!({ "provider": "p", "deniedConsentIds": denied, "resolutionStrategy": strategy });
        let mut twice: Vec<String> = denied.iter().rev().cloned().collect();
        twice.extend(denied.iter().cloned());
        let word = said(&config, &event(&denied));
        prop_assert_eq!(word, said(&config, &event(&twice)));
        // And the plain statement of the rule.
        let hit = |id: &String| denied.contains(id);
        let expected = if denied.is_empty() { "no_denied_ids" }
            else if own.is_empty() { "no_rule_for_provider" }
            else if or && own.iter().all(hit) || !or && own.iter().any(hit) { "generic_denied" }
            else { "generic_allowed" };
        prop_assert_eq!(word, expected);
    }
}

/// One row of RudderStack's decision table, spelled out on plain lists.
fn by_the_table(
    denied: &[String],
    provider: &str,
    event_or: bool,
    generic: Option<(&[String], bool)>,
    onetrust: &[String],
    ketch: &[String],
) -> &'static str {
    let hit = |id: &String| denied.contains(id);
    let any = |ids: &[String]| ids.iter().any(hit);
    let all = |ids: &[String]| ids.iter().all(hit);
    if denied.is_empty() {
        return "no_denied_ids";
    }
    match (generic, provider) {
        (Some((ids, own_or)), provider) => {
            let or = if provider == "custom" { own_or } else { event_or };
            if or && all(ids) || !or && any(ids) { "generic_denied" } else { "generic_allowed" }
        }
        (None, "" | "oneTrust") if !onetrust.is_empty() => {
            if any(onetrust) {
                "onetrust_denied"
            } else {
                "onetrust_allowed"
            }
        }
        (None, "" | "ketch") if !ketch.is_empty() => {
            if all(ketch) {
                "ketch_denied"
            } else {
                "ketch_allowed"
            }
        }
        _ => "no_rule_for_provider",
    }
}

proptest! {
    #[test]
    fn every_combination_follows_the_decision_table(
        denied in ids(), onetrust in ids(), ketch in ids(), generic in ids(),
        provider in "(|oneTrust|ketch|custom|iubenda|other)",
        own_or in any::<bool>(), event_or in any::<bool>(), applies in any::<bool>(),
    ) {
        let mut rules = vec![rule("else", &["a"], Some(Strategy::Or))];
        if applies {
            let own = Some(if own_or { Strategy::Or } else { Strategy::And });
            rules.push(ConsentRule { provider: provider.clone(), consents: generic.clone(), resolution_strategy: own });
        }
        let config = ConsentConfig {
            rules,
            onetrust_categories: onetrust.clone(),
            ketch_purposes: ketch.clone(),
            unknown: Unknown::Deliver,
            decide_by: DecideBy::Denied,
        };
        let event = json!({
            "deniedConsentIds": denied, "provider": provider,
            "resolutionStrategy": if event_or { "or" } else { "any" },
        });
        let usable = applies && !provider.is_empty() && !generic.is_empty();
        let generic = usable.then_some((&generic[..], own_or));
        prop_assert_eq!(
            said(&config, &event),
            by_the_table(&denied, &provider, event_or, generic, &onetrust, &ketch)
        );
    }
}
