use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::config::{DecideBy, EventListConfig, EventListMode, ModeConfig, Unknown};
use crate::event::{Event, Spans};

fn filter_config() -> FilterConfig {
    FilterConfig {
        mode: ModeConfig {
            default: Mode::Cloud,
            by_source_type: vec![("web".into(), Mode::Device)],
        },
        integration_names: vec!["Customer IO".into()],
        events: EventListConfig { mode: EventListMode::Deny, names: vec!["Heartbeat".into()] },
    }
}

fn no_rules() -> ConsentConfig {
    ConsentConfig {
        rules: vec![],
        onetrust_categories: vec![],
        ketch_purposes: vec![],
        unknown: Unknown::Deliver,
        decide_by: DecideBy::Denied,
    }
}

fn origin(source_type: &str) -> Origin {
    Origin { source: Arc::from("test"), source_type: Arc::from(source_type) }
}

/// Lays out the members that the filter reads, as the decoder would find them.
fn event(name: Option<&Value>, integrations: Option<&Value>, consent: Option<&Value>) -> Event {
    let mut raw = String::new();
    let mut place = |value: Option<&Value>| {
        let start = u32::try_from(raw.len()).unwrap();
        raw.push_str(&value?.to_string());
        Some(Span { start, end: u32::try_from(raw.len()).unwrap() })
    };
    let spans = Spans {
        event: place(name),
        integrations: place(integrations),
        consent: place(consent),
        ..Spans::default()
    };
    Event {
        raw: Bytes::from(raw),
        spans,
        index: None,
        type_name: Arc::from("track"),
        body: vrl::value::Value::Null,
        assigned: smallvec::SmallVec::new(),
    }
}

#[test]
fn the_first_refusal_in_order_names_its_rule() {
    let consent = ConsentConfig { onetrust_categories: vec!["C4".into()], ..no_rules() };
    let filter = Filter::new(&filter_config(), &consent);
    let refused = event(
        Some(&json!("Heartbeat")),
        Some(&json!({ "All": false })),
        Some(&json!({ "deniedConsentIds": ["C4"] })),
    );
    let (outcome, said) = filter.explain(&refused, &origin("web"));
    assert_eq!(outcome, Some(Outcome::Filtered(ReasonCode::DeviceMode.into())));
    assert_eq!(
        said,
        Explanation {
            mode: "device",
            event_list: "on_deny_list",
            integrations: "all_false",
            consent: "onetrust_denied",
        }
    );
    let cloud = origin("cloud");
    let decide = |event: &Event| filter.decide(event, &cloud);
    assert_eq!(decide(&refused), Some(Outcome::Filtered(ReasonCode::EventList.into())));
    let refused = event(
        Some(&json!("x")),
        Some(&json!({ "All": false })),
        Some(&json!({ "deniedConsentIds": ["C4"] })),
    );
    assert_eq!(decide(&refused), Some(Outcome::Filtered(ReasonCode::Integrations.into())));
    let refused = event(None, None, Some(&json!({ "deniedConsentIds": ["C4"] })));
    assert_eq!(decide(&refused), Some(Outcome::Withheld(ReasonCode::OnetrustDenied.into())));
    assert_eq!(decide(&event(None, None, None)), None);
}

#[test]
fn every_known_case_of_rudderstacks_server_is_decided_as_there() {
    let cases = include_str!("../../tests/data/consent.ndjson");
    let mut seen = 0;
    for line in cases.lines().filter(|l| !l.trim().is_empty()) {
        seen += 1;
        let case: Value = serde_json::from_str(line).unwrap();
        let config = serde_json::from_value(case["destination_config"].clone()).unwrap();
        let filter = Filter::new(&filter_config(), &consent::upstream::read(&config));
        let event = event(
            None,
            case.get("integrations"),
            case["context"].as_object().and_then(|c| c.get("consentManagement")),
        );
        let (outcome, said) = filter.explain(&event, &origin("cloud"));
        assert_eq!(outcome, filter.decide(&event, &origin("cloud")));
        assert_eq!(outcome.is_none(), case["deliver"].as_bool().unwrap(), "{line}");
        let reason = match outcome {
            Some(Outcome::Filtered(reason)) => {
                assert_eq!(reason.code, ReasonCode::Integrations, "{line}");
                "integrations_filtered"
            }
            Some(Outcome::Withheld(reason)) => {
                assert_eq!(reason.code.as_str(), said.consent, "{line}");
                said.consent
            }
            Some(other) => panic!("{other:?}: {line}"),
            None => said.consent,
        };
        let reason =
            if reason == "no_rule_for_provider" { "no_rule_for_destination" } else { reason };
        assert_eq!(reason, case["reason"].as_str().unwrap(), "{line}");
    }
    assert_eq!(seen, 58);
}
