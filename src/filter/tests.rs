use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::config::{ConsentRule, DecideBy, EventListConfig, EventListMode, ModeConfig, Unknown};
use crate::event::decode::decode_as;
use crate::event::{Event, Plan, Spans};

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

/// Collects the events of a recorded session of RudderStack's browser SDK.
fn recorded(session: &str) -> Vec<Event> {
    fn collect(json: &Value, events: &mut Vec<Event>) {
        if json["context"]["consentManagement"].is_object() {
            let raw = Bytes::from(json.to_string());
            let plan = Plan::everything(&["identify", "track", "page"]);
            events.push(decode_as(&raw, &plan, None).unwrap());
        }
        for inner in json.as_object().into_iter().flat_map(|o| o.values()) {
            collect(inner, events);
        }
        json.as_array().into_iter().flatten().for_each(|inner| collect(inner, events));
    }
    let mut events = Vec::new();
    collect(&serde_json::from_str(session).unwrap(), &mut events);
    events
}

#[test]
fn recorded_events_of_the_browser_sdk_are_decided() {
    let custom = include_str!("../../tests/data/gateway/browser-consent-custom.json");
    let onetrust = include_str!("../../tests/data/gateway/browser-consent-onetrust.json");
    let buffered = include_str!("../../tests/data/gateway/browser-preconsent-buffer.json");
    let rule = |provider: &str, id: &str| ConsentRule {
        provider: provider.into(),
        consents: vec![id.into()],
        resolution_strategy: None,
    };
    let config = ConsentConfig {
        rules: vec![rule("custom", "marketing"), rule("oneTrust", "C0004")],
        ..no_rules()
    };
    let withhold = ConsentConfig { unknown: Unknown::Withhold, ..config.clone() };
    for (config, session, denied, unknown, passed) in [
        (&config, custom, 5, 0, 0),
        (&config, onetrust, 5, 0, 0),
        (&config, buffered, 2, 0, 5),
        (&withhold, buffered, 2, 5, 0),
    ] {
        let filter = Filter::new(&filter_config(), config);
        let mut counts = (0, 0, 0);
        for event in recorded(session) {
            match filter.decide(&event, &origin("cloud")) {
                Some(Outcome::Withheld(r)) if r.code == ReasonCode::GenericDenied => counts.0 += 1,
                Some(Outcome::Withheld(r)) if r.code == ReasonCode::ConsentUnknown => counts.1 += 1,
                None => counts.2 += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(counts, (denied, unknown, passed));
    }
}
