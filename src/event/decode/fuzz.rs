//! Whatever is received: never a panic, and the same event that `serde_json` reads.

use fastrand::Rng;
use vrl::value::ObjectMap;

use super::tests::prune;
use super::*;
use crate::event::Span;
use crate::event::at_path::at_path;
use crate::event::ids;
use crate::event::split::{Shape, Unsplit, split};
use crate::fuzz::{Facts, run};

/// Names and texts that the envelope, the gateway's body, and the plan below know.
const WORDS: &[&str] = &[
    "type",
    "context",
    "consentManagement",
    "messageId",
    "event",
    "userId",
    "anonymousId",
    "timestamp",
    "sentAt",
    "request_ip",
    "integrations",
    "batch",
    "traits",
    "properties",
    "track",
    "identify",
    "screen",
    "a",
    "",
    "é",
];

/// The recorded events, and requests with such events.
fn seeds() -> Vec<Vec<u8>> {
    fn collect(json: &serde_json::Value, seeds: &mut Vec<Vec<u8>>) {
        if json["type"].is_string() || json["batch"].is_array() {
            seeds.push(json.to_string().into_bytes());
        }
        json.as_object().into_iter().flat_map(|o| o.values()).for_each(|j| collect(j, seeds));
        json.as_array().into_iter().flatten().for_each(|j| collect(j, seeds));
    }
    let mut seeds = Vec::new();
    for line in include_str!("../../../tests/data/mapping.ndjson").lines() {
        collect(&serde_json::from_str(line).unwrap(), &mut seeds);
    }
    for session in [
        include_str!("../../../tests/data/gateway/browser-consent-custom.json"),
        include_str!("../../../tests/data/gateway/node-batch.json"),
    ] {
        collect(&serde_json::from_str(session).unwrap(), &mut seeds);
    }
    assert!(seeds.len() > 50, "{}", seeds.len());
    seeds
}

fn plan() -> Plan {
    let some = |names: &[&str]| {
        Need::Some(names.iter().map(|name| (Box::from(*name), Need::All)).collect())
    };
    let context = Need::Some(vec![("context".into(), some(&["consentManagement", "a", "ip"]))]);
    Plan::new(vec![
        ("track".into(), some(&["type", "event", "properties", "a"]).union(&context)),
        ("identify".into(), some(&["traits", "userId", "", "é"])),
        ("page".into(), Need::All),
    ])
}

/// How `value` must end, as far as the text alone decides.
fn expected(facts: &Facts) -> Result<(), ReasonCode> {
    match facts {
        Facts { json: None, .. } | Facts { finite: false, .. } => Err(ReasonCode::InvalidJson),
        Facts { depth, .. } if *depth > MAX_DEPTH => Err(ReasonCode::TooDeep),
        _ => Ok(()),
    }
}

fn read(raw: &Bytes, span: Option<Span>) -> Option<Value> {
    span.map(|span| value(&span.of(raw)).unwrap())
}

fn check_event(raw: &Bytes, facts: &Facts, plan: &Plan, set_type: Option<&str>) {
    let ours = decode_as(raw, plan, set_type);
    let is_object = facts.json.as_ref().is_some_and(|json| json.trim_start().starts_with('{'));
    let code = match expected(facts) {
        Err(ReasonCode::TooDeep) if !is_object => Some(ReasonCode::NotAnEvent),
        Ok(()) if !is_object => Some(ReasonCode::NotAnEvent),
        other => other.err(),
    };
    if let Some(code) = code {
        return assert_eq!(ours.unwrap_err().code, code);
    }
    let Some(Value::Object(mut theirs)) = facts.read::<Value>() else {
        // One level deeper than `serde_json` reads.
        return assert!(!ours.is_err_and(|reason| reason.code != ReasonCode::InvalidType));
    };
    let get = |name: &str| theirs.get(name).cloned();
    let text = get("type").and_then(|value| Some(value.to_str()?.to_lowercase()));
    let Some(type_name) = set_type.map(str::to_lowercase).or(text) else {
        return assert_eq!(ours.unwrap_err().code, ReasonCode::InvalidType);
    };
    let ours = ours.unwrap();
    assert_eq!(&ours.raw, raw);
    assert_eq!(*ours.type_name, *type_name);
    assert_eq!(ours.index, plan.find(&type_name));
    let spans = &ours.spans;
    for (name, span) in [
        ("type", spans.type_),
        ("messageId", spans.message_id),
        ("event", spans.event),
        ("name", spans.name),
        ("userId", spans.user_id),
        ("anonymousId", spans.anonymous_id),
        ("originalTimestamp", spans.original_timestamp),
        ("timestamp", spans.timestamp),
        ("sentAt", spans.sent_at),
        ("receivedAt", spans.received_at),
        ("request_ip", spans.request_ip),
        ("integrations", spans.integrations),
    ] {
        assert_eq!(read(raw, span), get(name), "{name}");
        let text = get(name).and_then(|value| Some(value.to_str()?.to_owned()));
        assert_eq!(text_of(raw, span).as_deref(), text.as_deref(), "{name}");
    }
    let consent = get("context").and_then(|c| c.as_object()?.get("consentManagement").cloned());
    assert_eq!(read(raw, spans.consent), consent);
    check_original(&ours, &theirs);
    if let Some(text) = set_type {
        theirs.insert("type".into(), Value::from(text.to_lowercase()));
    }
    // What stands before `type` may be built for another type's script, too.
    let need = plan.need_of(ours.index);
    assert_eq!(prune(ours.body, need), prune(Value::Object(theirs), need));
}

/// What is kept of an event is one line, which says the same and which others can read.
fn check_original(event: &Event, theirs: &ObjectMap) {
    let mut original = event.original();
    original.assigned.push(("messageId", Value::from("m\n\u{2028}")));
    let mut expected = theirs.clone();
    expected.extend(original.assigned.iter().map(|(name, value)| ((*name).into(), value.clone())));
    let expected = Value::Object(expected);
    assert_eq!(original.to_value().unwrap(), expected);
    let line = original.to_json();
    assert!(!line.contains(&b'\n') && !line.contains(&b'\r'));
    assert_eq!(serde_json::from_slice::<Value>(&line).unwrap(), expected);
}

fn check_split(raw: &Bytes, facts: &Facts, shape: Shape) {
    let ours = split(raw, shape);
    if facts.json.is_none() {
        return assert_eq!(ours, Err(Unsplit::InvalidJson));
    }
    let Some(body) = facts.read::<Value>() else {
        return assert_ne!(ours, Err(Unsplit::InvalidJson));
    };
    let events = match (shape, body) {
        (Shape::Single, body) => vec![body],
        (Shape::Batch, Value::Object(mut body)) => match body.remove("batch") {
            Some(Value::Array(events)) => events,
            Some(Value::Null) | None => Vec::new(),
            Some(event) => vec![event],
        },
        (Shape::Batch, _) => Vec::new(),
    };
    let has = |event: &ObjectMap, id: &str| match event.get(id) {
        None | Some(Value::Null) => false,
        Some(id) => id.to_str().is_none_or(|text| !ids::clean(text).is_empty()),
    };
    let bad = events.iter().find_map(|event| match event.as_object() {
        None => Some(Unsplit::NotAnObject),
        Some(event) if !has(event, "userId") && !has(event, "anonymousId") => Some(Unsplit::NoIds),
        Some(_) => None,
    });
    match bad.or(events.is_empty().then_some(Unsplit::Empty)) {
        Some(why) => assert_eq!(ours, Err(why)),
        None => {
            let ours: Vec<_> = ours.unwrap().iter().map(|event| value(event).unwrap()).collect();
            assert_eq!(ours, events);
        }
    }
}

fn is_text_of_an_object(value: &Value) -> bool {
    value.to_str().is_some_and(|text| text.trim_ascii_start().starts_with('{'))
}

fn check_path(raw: &Bytes, facts: &Facts, path: &[String]) {
    let ours = at_path(raw, path);
    if facts.json.is_none() {
        return assert_eq!(ours.unwrap_err().code, ReasonCode::InvalidJson);
    }
    let Some(body) = facts.read::<Value>() else {
        return assert!(!ours.is_err_and(|reason| reason.code != ReasonCode::NoEventAtPath));
    };
    let found = path.iter().try_fold(&body, |value, name| value.as_object()?.get(name.as_str()));
    match found {
        Some(object @ Value::Object(_)) => assert_eq!(value(&ours.unwrap()).unwrap(), *object),
        Some(other) if is_text_of_an_object(other) => {
            assert_eq!(std::str::from_utf8(&ours.unwrap()).ok(), other.to_str());
        }
        _ => assert_eq!(ours.unwrap_err().code, ReasonCode::NoEventAtPath),
    }
}

#[test]
fn whatever_is_received_is_read_as_by_serde() {
    let seeds = seeds();
    let plans = [plan(), Plan::everything(&["track", "identify"])];
    run(&seeds, WORDS, |rng: &mut Rng, input| {
        let raw = Bytes::copy_from_slice(input);
        let facts = Facts::of(input);
        let whole = value(&raw);
        assert_eq!(whole.as_ref().map(|_| ()).map_err(|reason| reason.code), expected(&facts));
        if let Some(theirs) = facts.read::<Value>() {
            assert_eq!(whole.unwrap(), theirs);
        }
        let set_type = *rng.choice(&[None, None, None, Some("identify"), Some("Alias")]).unwrap();
        check_event(&raw, &facts, rng.choice(&plans).unwrap(), set_type);
        let shape = if rng.bool() { Shape::Batch } else { Shape::Single };
        check_split(&raw, &facts, shape);
        let path: Vec<_> =
            (0..rng.usize(0..3)).map(|_| (*rng.choice(WORDS).unwrap()).to_owned()).collect();
        check_path(&raw, &facts, &path);
    });
}
