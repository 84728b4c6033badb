//! Whatever an event says about consent and integrations: never a panic, and the decision of a
//! plain reading of RudderStack's rules over what `serde_json` reads.

use std::sync::Arc;

use bytes::Bytes;
use fastrand::Rng;
use serde_json::{Map, Value, json};

use super::consent::{Consent, Decided, upstream};
use super::integrations::Integrations;
use super::*;
use crate::config::{ConsentRule, DecideBy, EventListConfig, EventListMode, ModeConfig};
use crate::config::{Strategy, Unknown};
use crate::event::Plan;
use crate::event::decode::decode_as;
use crate::fuzz::{Facts, run};

const WORDS: &[&str] = &[
    "deniedConsentIds",
    "allowedConsentIds",
    "provider",
    "resolutionStrategy",
    "oneTrust",
    "ketch",
    "custom",
    "iubenda",
    "or",
    "and",
    "C0002",
    "C0004",
    "marketing",
    "analytics",
    "",
    "All",
    "Customer IO",
    "Customer.io",
    "context",
    "consentManagement",
    "integrations",
    "type",
];

/// The known cases: what is configured, and the event's `context` and `integrations`.
struct Known {
    configs: Vec<ConsentConfig>,
    consents: Vec<Vec<u8>>,
    integrations: Vec<Vec<u8>>,
    events: Vec<Vec<u8>>,
}

fn known() -> Known {
    let mut known =
        Known { configs: vec![], consents: vec![], integrations: vec![], events: vec![] };
    for line in include_str!("../../tests/data/consent.ndjson").lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let text = |value: &Value| value.to_string().into_bytes();
        let config = serde_json::from_value(case["destination_config"].clone()).unwrap();
        known.configs.push(upstream::read(&config));
        let consent = &case["context"]["consentManagement"];
        known.consents.extend((!consent.is_null()).then(|| text(consent)));
        known.integrations.push(text(&case["integrations"]));
        let (context, integrations) = (&case["context"], &case["integrations"]);
        known.events.push(text(
            &json!({ "type": "track", "context": context, "integrations": integrations }),
        ));
    }
    known
}

/// Rules over the words, so that changed events meet rules that speak of them.
fn config(rng: &mut Rng, known: &[ConsentConfig]) -> ConsentConfig {
    fn ids(rng: &mut Rng) -> Vec<String> {
        const IDS: [&str; 5] = ["C0002", "C0004", "marketing", "analytics", ""];
        (0..rng.usize(0..4)).map(|_| (*rng.choice(IDS.iter()).unwrap()).to_owned()).collect()
    }
    if rng.bool() {
        return rng.choice(known).unwrap().clone();
    }
    let rule = |rng: &mut Rng| {
        let provider = *rng.choice(&["oneTrust", "ketch", "custom", "iubenda", ""]).unwrap();
        let own = *rng.choice(&[None, Some(Strategy::Or), Some(Strategy::And)]).unwrap();
        ConsentRule { provider: provider.to_owned(), consents: ids(rng), resolution_strategy: own }
    };
    ConsentConfig {
        rules: (0..rng.usize(0..4)).map(|_| rule(rng)).collect(),
        onetrust_categories: ids(rng),
        ketch_purposes: ids(rng),
        unknown: Unknown::Deliver,
        decide_by: DecideBy::Denied,
    }
}

/// What an event says about consent.
#[derive(Default)]
struct Record {
    denied: Vec<String>,
    denied_read: bool,
    allowed: Option<Vec<String>>,
    provider: String,
    strategy: String,
    malformed: bool,
}

/// A list of texts, without empty ones; nothing if one element has a wrong type.
fn texts(value: &Value) -> Option<Vec<String>> {
    let items = if value.is_null() { &Vec::new() } else { value.as_array()? };
    let mut texts = Vec::new();
    for item in items {
        if !item.is_null() {
            texts.push(item.as_str()?.to_owned());
        }
    }
    texts.retain(|text| !text.is_empty());
    Some(texts)
}

/// Reads the object as a typed record, member by member in the byte order of the names.
fn record(consent: Option<&Value>) -> Record {
    let mut record = Record::default();
    let members = match consent {
        None | Some(Value::Null) => return record,
        Some(Value::Object(members)) => members,
        Some(_) => return Record { malformed: true, ..record },
    };
    let mut members: Vec<_> = members.iter().collect();
    members.sort_by_key(|(name, _)| name.as_bytes());
    for (name, value) in members {
        let keep = |text: &mut String| {
            if !value.is_null() {
                *text = value.as_str()?.to_owned();
            }
            Some(())
        };
        let read = match name.to_ascii_lowercase().as_str() {
            "deniedconsentids" => texts(value).map(|denied| {
                record.denied = denied;
                record.denied_read = true;
            }),
            "provider" => keep(&mut record.provider),
            "resolutionstrategy" => keep(&mut record.strategy),
            "allowedconsentids" => {
                record.allowed = texts(value);
                Some(())
            }
            _ => Some(()),
        };
        if read.is_none() {
            record.malformed = true;
            break;
        }
    }
    record
}

/// The last usable generic rule for the provider.
fn generic<'c>(config: &'c ConsentConfig, provider: &str) -> Option<&'c ConsentRule> {
    let usable = |rule: &&ConsentRule| rule.consents.iter().any(|id| !id.is_empty());
    let of = |rule: &&ConsentRule| !provider.is_empty() && rule.provider == provider;
    config.rules.iter().rev().filter(usable).find(of)
}

/// The rule that speaks of an event's provider.
struct Speaks {
    ids: Vec<String>,
    /// What `or` is when denied ids decide, and when allowed ones do.
    or: (bool, bool),
    words: (&'static str, &'static str),
}

impl Speaks {
    fn of(config: &ConsentConfig, event: &Record) -> Option<Self> {
        let usable = |ids: &[String]| {
            let ids: Vec<_> = ids.iter().filter(|id| !id.is_empty()).cloned().collect();
            (!ids.is_empty()).then_some(ids)
        };
        let provider = event.provider.as_str();
        if let Some(rule) = generic(config, provider) {
            let (own, asked) = (rule.resolution_strategy, event.strategy == "or");
            let own_or = own == Some(Strategy::Or);
            let by_denied = if provider == "custom" { own_or } else { asked };
            let by_allowed = if own.is_some() { own_or } else { asked };
            let words = ("generic_denied", "generic_allowed");
            return Some(Self { ids: usable(&rule.consents)?, or: (by_denied, by_allowed), words });
        }
        let onetrust = usable(&config.onetrust_categories)
            .filter(|_| matches!(provider, "" | "oneTrust"))
            .map(|ids| (ids, false, ("onetrust_denied", "onetrust_allowed")));
        let ketch = usable(&config.ketch_purposes)
            .filter(|_| matches!(provider, "" | "ketch"))
            .map(|ids| (ids, true, ("ketch_denied", "ketch_allowed")));
        let (ids, or, words) = onetrust.or(ketch)?;
        Some(Self { ids, or: (or, or), words })
    }

    fn denied(&self, event: &Record, or: bool) -> bool {
        let hit = |id: &String| event.denied.contains(id);
        if or { self.ids.iter().all(hit) } else { self.ids.iter().any(hit) }
    }

    /// Whether allowed ids, or without a list of them the denied ones, keep the event back.
    fn refused_by_allowed(&self, event: &Record) -> bool {
        let Some(allowed) = &event.allowed else {
            return self.denied(event, self.or.0) || self.denied(event, self.or.1);
        };
        let granted = |id: &String| allowed.contains(id) && !event.denied.contains(id);
        !if self.or.1 { self.ids.iter().any(granted) } else { self.ids.iter().all(granted) }
    }
}

/// The word for the decision by denied ids.
fn by_denied(config: &ConsentConfig, event: &Record) -> &'static str {
    match (Speaks::of(config, event), event.denied.is_empty()) {
        (_, true) if event.malformed => "event_consent_malformed",
        (_, true) => "no_denied_ids",
        (None, false) => "no_rule_for_provider",
        (Some(rule), false) if rule.denied(event, rule.or.0) => rule.words.0,
        (Some(rule), false) => rule.words.1,
    }
}

/// Asks with every option, and compares with the plain reading.
fn check_consent(config: &ConsentConfig, raw: Option<&Bytes>, consent: Option<&Value>) {
    let ask = |unknown, decide_by| {
        Consent::new(&ConsentConfig { unknown, decide_by, ..config.clone() }).decide(raw)
    };
    let event = record(consent);
    let verdict = ask(Unknown::Deliver, DecideBy::Denied);
    let word = by_denied(config, &event);
    assert_eq!((verdict.decided.as_str(), verdict.malformed), (word, event.malformed));

    let rule = Speaks::of(config, &event);
    let refused = rule.as_ref().is_some_and(|rule| rule.refused_by_allowed(&event));
    let verdict = ask(Unknown::Deliver, DecideBy::Allowed);
    assert_eq!(verdict.decided.refusal().is_some(), refused, "by allowed ids");

    let usable = |ids: &[String]| ids.iter().any(|id| !id.is_empty());
    let any_rule = config.rules.iter().any(|rule| generic(config, &rule.provider).is_some())
        || usable(&config.onetrust_categories)
        || usable(&config.ketch_purposes);
    let silent = event.denied.is_empty() && event.allowed.as_ref().is_none_or(Vec::is_empty);
    let answered = rule.is_some() && !silent && (event.denied_read || !event.malformed);
    for (decide_by, answered) in
        [(DecideBy::Denied, answered), (DecideBy::Allowed, answered && event.allowed.is_some())]
    {
        let open = ask(Unknown::Deliver, decide_by).decided;
        let settled = open.refusal().is_some() || !any_rule || answered;
        let expected = if settled { open } else { Decided::Unknown };
        assert_eq!(ask(Unknown::Withhold, decide_by).decided, expected, "{decide_by:?}");
    }
}

/// The rules of `integrations` over the names, the first of which that says anything decides.
fn passes(integrations: Option<&Value>, names: &[String]) -> bool {
    let empty = Map::new();
    let members = match integrations {
        None => &empty,
        Some(Value::Object(members)) => members,
        Some(_) => return false,
    };
    let Some(all) = members.get("All").map_or(Some(true), Value::as_bool) else { return false };
    let says = |name: &String| match members.get(name)? {
        Value::Bool(on) => Some(*on),
        Value::Object(_) => Some(true),
        _ => None,
    };
    names.iter().find_map(says).unwrap_or(all)
}

fn names() -> Vec<String> {
    vec!["Customer IO".to_owned(), "Customer.io".to_owned()]
}

#[test]
fn consent_is_decided_as_a_plain_reading_decides_it() {
    let known = known();
    run(&known.consents, WORDS, |rng, input| {
        let config = config(rng, &known.configs);
        let raw = Bytes::copy_from_slice(input);
        match Facts::of(input).read::<Value>() {
            Some(consent) => check_consent(&config, Some(&raw), Some(&consent)),
            // The decoder refuses such an event; yet the answer must not be a panic.
            None => drop(Consent::new(&config).decide(Some(&raw))),
        }
        if let Some(config) = Facts::of(input).read() {
            drop(upstream::read(&config));
        }
    });
}

#[test]
fn integrations_are_decided_as_a_plain_reading_decides_them() {
    let known = known();
    let rule = Integrations::new(&names());
    run(&known.integrations, WORDS, |_, input| {
        let verdict = rule.decide(Some(&Bytes::copy_from_slice(input)));
        if let Some(value) = Facts::of(input).read::<Value>() {
            assert_eq!(verdict.said.passes(), passes(Some(&value), &names()));
        }
    });
}

#[test]
fn no_event_passes_whose_consent_or_integrations_refuse_it() {
    let known = known();
    let plan = Plan::everything(&["track"]);
    let origin = Origin { source: Arc::from("test"), source_type: Arc::from("cloud") };
    let filter_config = FilterConfig {
        mode: ModeConfig { default: Mode::Cloud, by_source_type: vec![] },
        integration_names: names(),
        events: EventListConfig { mode: EventListMode::Deny, names: vec![] },
    };
    run(&known.events, WORDS, |rng, input| {
        let config = config(rng, &known.configs);
        let facts = Facts::of(input);
        let event = decode_as(&Bytes::copy_from_slice(input), &plan, Some("track"));
        let (Ok(event), Some(value)) = (event, facts.read::<Value>()) else { return };
        let consent = value["context"].as_object().and_then(|c| c.get("consentManagement"));
        let raw = event.spans.consent.map(|span| span.of(&event.raw));
        assert_eq!(raw.is_some(), consent.is_some());
        check_consent(&config, raw.as_ref(), consent);
        let filter = Filter::new(&filter_config, &config);
        let refused = by_denied(&config, &record(consent)).ends_with("_denied")
            || !passes(value.get("integrations"), &names());
        assert_eq!(filter.decide(&event, &origin).is_some(), refused);
    });
}
