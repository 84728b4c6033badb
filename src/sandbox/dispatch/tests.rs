//! The worked examples: single requests with their answers, and sequences with what is stored then.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::*;
use crate::sandbox::clock::Clock;
use crate::sandbox::credentials::Credential;
use crate::sandbox::engine::Identity;
use crate::sandbox::operation::Identifier;
use crate::sandbox::options::{Options, Region};

const SINGLE: &str = include_str!("../../../tests/data/track-api.ndjson");
const SEQUENCES: &str = include_str!("../../../tests/data/track-api-sequences.ndjson");
const START: i64 = 1_700_000_000;

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn basic(pair: &str) -> String {
    format!("Basic {}", STANDARD.encode(pair))
}

fn request(method: &str, path: &str, body: &Value) -> Request<Bytes> {
    let bytes = match body {
        Value::Null => Bytes::new(),
        Value::String(raw) => raw.clone().into(),
        body => body.to_string().into(),
    };
    Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", basic("site:apikey12345"))
        .body(bytes)
        .unwrap()
}

fn engine(workspace: &Value) -> Engine {
    let region: Region = serde_json::from_value(workspace["region"].clone()).unwrap_or_default();
    let credential = |pair: &str| Credential { region, ..pair.parse().unwrap() };
    let identity = Identity {
        region,
        environment_id: workspace["environment_id"].as_u64().unwrap_or(1),
        credentials: vec![credential("site:apikey12345"), credential("site~?:key~?>")],
        control_token: None,
    };
    let mut options = serde_json::to_value(Options::default()).unwrap();
    for (name, value) in workspace.as_object().into_iter().flatten() {
        if name != "region" && name != "environment_id" {
            options[name] = value.clone();
        }
    }
    let options = serde_json::from_value(options).unwrap();
    Engine::new(identity, options, 1, Clock::standing(START))
}

fn body(answer: &Answer) -> Value {
    let bytes = answer.response.body();
    if bytes.is_empty() {
        return Value::Null;
    }
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    serde_json::from_str(&text).unwrap_or(Value::String(text))
}

#[test]
fn single_requests_are_answered_as_in_the_examples() {
    let examples = lines(SINGLE);
    assert_eq!(examples.len(), 68);
    for example in examples {
        let name = &example["name"];
        let mut engine = engine(&example["workspace"]);
        if let Some(fault) = example.get("fault") {
            engine.set_faults(vec![serde_json::from_value(fault.clone()).unwrap()]);
        }
        let given = &example["request"];
        let (method, path) = (given["method"].as_str().unwrap(), given["path"].as_str().unwrap());
        let mut request = request(method, path, &given["body"]);
        match given["auth"].as_str() {
            Some("none") => drop(request.headers_mut().remove("authorization")),
            Some("wrong") => {
                let wrong = basic("site:wrong").parse().unwrap();
                request.headers_mut().insert("authorization", wrong);
            }
            _ => {}
        }
        for (name, value) in given["headers"].as_object().into_iter().flatten() {
            let name = http::HeaderName::try_from(name.as_str()).unwrap();
            request.headers_mut().insert(name, value.as_str().unwrap().parse().unwrap());
        }
        let answer = engine.handle(request);
        let expected = &example["response"];
        assert_eq!(json!(answer.response.status().as_u16()), expected["status"], "{name}");
        assert_eq!(body(&answer), expected["body"], "{name}");
        for (header, value) in expected["headers"].as_object().into_iter().flatten() {
            let given = answer.response.headers()[header.as_str()].to_str().unwrap();
            assert_eq!(given, value.as_str().unwrap(), "{name}: {header}");
        }
    }
}

/// A person as the sequences show it: everything that `expected` names, in comparable form.
fn shown(person: &crate::sandbox::workspace::view::PersonView, expected: &Value) -> Value {
    let mut shown = Map::new();
    let ids = [("id", &person.id), ("email", &person.email), ("phone", &person.phone)];
    let ids =
        ids.iter().filter_map(|(name, value)| Some(((*name).to_owned(), json!(value.as_ref()?))));
    shown.insert("ids".to_owned(), Value::Object(ids.collect()));
    if expected.get("attributes").is_some() {
        let values =
            person.attributes.iter().map(|(name, known)| (name.clone(), known.value.clone()));
        shown.insert("attributes".to_owned(), Value::Object(values.collect()));
    }
    if expected.get("devices").is_some() {
        shown.insert("devices".to_owned(), json!(person.devices.keys().collect::<Vec<_>>()));
    }
    if expected.get("relations").is_some() {
        let relations = person.relationships.iter();
        let relations = relations.map(|r| json!([r.object_type_id, r.object_id, r.attributes]));
        shown.insert("relations".to_owned(), relations.collect());
    }
    if expected.get("events").is_some() {
        let events = person.events.iter().map(|event| json!([event.kind, event.name]));
        shown.insert("events".to_owned(), events.collect());
    }
    Value::Object(shown)
}

#[test]
fn sequences_end_in_the_state_of_the_examples() {
    let examples = lines(SEQUENCES);
    assert_eq!(examples.len(), 25);
    for example in examples {
        let name = &example["name"];
        let mut engine = engine(&example["workspace"]);
        for step in example["steps"].as_array().unwrap() {
            engine.clock().set((START + step["at"].as_i64().unwrap()) * 1000);
            let answer = match step.get("op") {
                Some(op) => engine.handle(request("POST", "/api/v2/entity", op)),
                None => {
                    let text = |name: &str| step[name].as_str().unwrap();
                    engine.handle(request(text("method"), text("path"), &step["body"]))
                }
            };
            let expected = step["status"].as_u64().unwrap_or(200);
            assert_eq!(u64::from(answer.response.status().as_u16()), expected, "{name}");
        }
        let then = &example["then"];
        let now = engine.clock().now();
        let expected = then["people"].as_array().unwrap();
        let people = engine.workspace().people();
        assert_eq!(people.len(), expected.len(), "{name}: {people:?}");
        for expected in expected {
            let matches = people.iter().any(|person| shown(person, expected) == *expected);
            assert!(matches, "{name}: nobody is {expected} in {people:#?}");
        }
        if let Some(objects) = then.get("objects") {
            let all = engine.workspace().objects();
            let shown = all.iter().map(|o| json!([o.type_id, o.object_id, o.attributes]));
            assert_eq!(shown.collect::<Value>(), *objects, "{name}");
        }
        if let Some(unattached) = then.get("unattached") {
            let counts: BTreeMap<_, _> = engine
                .workspace()
                .unattached(now)
                .into_iter()
                .map(|(visitor, events)| (visitor, events.len()))
                .collect();
            assert_eq!(json!(counts), *unattached, "{name}");
        }
        if let Some(activity) = then.get("activity") {
            let kinds: Value =
                engine.workspace().activity().iter().map(|entry| json!(entry.kind)).collect();
            assert_eq!(kinds, *activity, "{name}");
        }
    }
}

fn entity(engine: &mut Engine, op: &Value) -> u16 {
    engine.handle(request("POST", "/api/v2/entity", op)).response.status().as_u16()
}

fn identify(id: &str, attributes: &Value) -> Value {
    json!({"type": "person", "action": "identify", "identifiers": {"id": id}, "attributes": attributes})
}

#[test]
fn answers_carry_the_headers_of_the_real_service() {
    let mut engine = engine(&Value::Null);
    let answer = engine.handle(request("PUT", "/api/v1/customers/u", &json!({})));
    let headers = answer.response.headers();
    assert_eq!(answer.response.body().as_ref(), b"{}\n");
    assert_eq!(headers["content-type"], "application/json; charset=utf-8");
    assert_eq!(headers["cache-control"], "no-cache, no-store, must-revalidate, max-age=0");
    assert_eq!(headers["access-control-allow-origin"], "*");
    assert_eq!(headers["status"], "200 OK");
    assert_eq!(headers["x-sandbox-request"], "1");
}

#[test]
fn sizes_are_checked_per_endpoint() {
    let big = |bytes: usize| Value::String(format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8)));
    for (path, limit) in
        [("/api/v2/batch", 500_000), ("/api/v2/entity", 32_768), ("/api/v1/events", 131_072)]
    {
        let mut engine = engine(&Value::Null);
        let fits = engine.handle(request("POST", path, &big(limit)));
        assert_eq!(fits.response.status(), 400, "{path}");
        let over = engine.handle(request("POST", path, &big(limit + 1)));
        assert_eq!(over.response.status(), 413, "{path}");
    }
}

#[test]
fn other_encodings_are_refused_unless_gzip_is_switched_on() {
    use std::io::Write as _;
    let mut zip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    zip.write_all(br#"{"batch":[]}"#).unwrap();
    let zipped = Bytes::from(zip.finish().unwrap());
    for (switches, status) in [(json!({}), 415), (json!({"accept_gzip": true}), 200)] {
        let mut engine = engine(&switches);
        let mut request = request("POST", "/api/v2/batch", &Value::Null);
        *request.body_mut() = zipped.clone();
        request.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
        assert_eq!(engine.handle(request).response.status().as_u16(), status);
    }
}

#[test]
fn a_credential_of_the_other_region_meets_what_the_switch_says() {
    for (mismatch, status) in [("proxy", 200), ("redirect", 307), ("fail", 401)] {
        let mut engine = engine(&json!({"region_mismatch": mismatch}));
        engine.identity.credentials[0].region = Region::Eu;
        assert_eq!(entity(&mut engine, &identify("u", &json!({}))), status, "{mismatch}");
        let region = engine.handle(request("GET", "/api/v1/accounts/region", &Value::Null));
        assert_eq!(body(&region)["region"], "eu", "{mismatch}");
        let note = engine.requests()[0].note.clone();
        assert_eq!(note.is_some(), mismatch == "proxy");
    }
    let mut engine = engine(&json!({"region": "eu"}));
    engine.identity.credentials[0].region = Region::Us;
    assert_eq!(entity(&mut engine, &identify("u", &json!({}))), 401);
}

#[test]
fn repeated_members_count_once_and_the_last_wins() {
    let mut engine = engine(&Value::Null);
    let item = r#"{"type":"person","action":"identify","identifiers":{"id":"a"},"identifiers":{"id":"b"}}"#;
    let raw = Value::String(format!(r#"{{"batch":7,"batch":[{item}]}}"#));
    let answer = engine.handle(request("POST", "/api/v2/batch", &raw));
    assert_eq!(answer.response.status(), 200);
    assert_eq!(engine.workspace().people()[0].id.as_deref(), Some("b"));
}

#[test]
fn values_keep_their_types() {
    let mut engine = engine(&Value::Null);
    let text = r#"{"b":true,"f":0.1,"i":9007199254740993,"n":{"a":[1]},"t":"42","z":1.0}"#;
    entity(&mut engine, &identify("u", &serde_json::from_str(text).unwrap()));
    let person = engine.workspace().people().remove(0);
    let values: Map<_, _> =
        person.attributes.into_iter().map(|(name, known)| (name, known.value)).collect();
    assert_eq!(Value::Object(values).to_string(), text);
}

#[test]
fn all_items_invalid_is_400_by_switch() {
    let mut engine = engine(&json!({"all_invalid": 400}));
    let answer = engine.handle(request("POST", "/api/v2/batch", &json!({"batch": [7]})));
    assert_eq!(answer.response.status(), 400);
    assert_eq!(body(&answer)["errors"][0]["batch_index"], 0);
}

#[test]
fn a_delay_lets_a_quick_merge_do_nothing() {
    let mut engine = engine(&json!({"apply_delay": "2s"}));
    entity(&mut engine, &identify("a", &json!({})));
    entity(&mut engine, &identify("b", &json!({})));
    assert!(engine.workspace().people().is_empty());
    let merge = json!({"type": "person", "action": "merge", "primary": {"id": "a"}, "secondary": {"id": "b"}});
    assert_eq!(entity(&mut engine, &merge), 200);
    engine.clock().advance(2000);
    assert_eq!(engine.workspace().people().len(), 2);
    assert_eq!(engine.workspace().activity()[0].kind.name(), "merge_ignored");
    assert_eq!(entity(&mut engine, &merge), 200);
    assert_eq!(engine.workspace().people().len(), 1);
}

#[test]
fn jitter_keeps_the_order_of_each_person() {
    let mut engine = engine(&json!({"apply_jitter": "5s"}));
    for value in 0..20 {
        entity(&mut engine, &identify("a", &json!({"v": value})));
    }
    engine.clock().advance(5000);
    let person = engine.workspace().person(&Identifier::Id("a".into())).unwrap();
    assert_eq!(person.attribute("v"), Some(&json!(19)));
}

#[test]
fn shuffled_batches_repeat_with_the_seed() {
    let run = || {
        let mut engine = engine(&json!({"batch_order": "shuffle"}));
        let items: Vec<_> = (0..30).map(|v| identify("a", &json!({"v": v}))).collect();
        engine.handle(request("POST", "/api/v2/batch", &json!({"batch": items})));
        engine.workspace().people()[0].attribute("v").unwrap().clone()
    };
    assert_eq!(run(), run());
}

#[test]
fn chosen_items_get_errors_and_are_not_applied() {
    let batch = json!({"batch": (0..4).map(|n| identify(&format!("u-{n}"), &json!({}))).collect::<Vec<_>>()});
    for (effect, status) in [
        (json!({"items": {"indexes": [1, 3]}}), 207),
        (json!({"items": {"person": "u-1"}}), 207),
        (json!({"items": {"probability": 1.0}}), 207),
        (json!({"items_in_200": {"indexes": [0]}}), 200),
        (json!({"items": {"person": "u-9"}}), 200),
    ] {
        let mut engine = engine(&Value::Null);
        engine.set_faults(vec![serde_json::from_value(json!({"do": effect})).unwrap()]);
        let answer = engine.handle(request("POST", "/api/v2/batch", &batch));
        assert_eq!(answer.response.status().as_u16(), status, "{effect}");
        let refused = body(&answer)["errors"].as_array().map_or(0, Vec::len);
        assert_eq!(engine.workspace().people().len(), 4 - refused, "{effect}");
    }
}

#[test]
fn a_whole_batch_is_refused_for_one_bad_item_by_choice() {
    let good = identify("u-1", &json!({}));
    for (effect, items, status) in [
        (json!({"whole_batch_400": "bad_items"}), json!([good, 7]), 400),
        (json!({"whole_batch_400": "bad_items"}), json!([good]), 200),
        (json!({"whole_batch_400": true, "items": {"person": "u-2"}}), json!([good]), 200),
        (json!({"whole_batch_400": true, "items": {"person": "u-1"}}), json!([good]), 400),
    ] {
        let mut engine = engine(&Value::Null);
        engine.set_faults(vec![serde_json::from_value(json!({"do": effect})).unwrap()]);
        let answer = engine.handle(request("POST", "/api/v2/batch", &json!({"batch": items})));
        assert_eq!(answer.response.status().as_u16(), status, "{effect}");
        assert_eq!(engine.workspace().people().len(), usize::from(status == 200), "{effect}");
    }
}

#[test]
fn dedupe_can_be_switched_off_by_a_rule() {
    let event = json!({"type": "person", "action": "event", "identifiers": {"id": "u"}, "name": "x", "id": "01HQX05C4NJXDYF2MRBF6GKJE6"});
    let mut engine = engine(&Value::Null);
    let rule = json!({"when": {"every": 2}, "do": {"duplicate_id_ignored": false}});
    engine.set_faults(vec![serde_json::from_value(rule).unwrap()]);
    for _ in 0..3 {
        entity(&mut engine, &event);
    }
    assert_eq!(engine.workspace().people()[0].events.len(), 2);
}

#[test]
fn keys_rotate() {
    let mut engine = engine(&Value::Null);
    engine.identity.credentials.clear();
    let rule = json!({"do": {"unauthorized": {"until": "site~?:key~?>"}}});
    engine.set_faults(vec![serde_json::from_value(rule).unwrap()]);
    assert_eq!(entity(&mut engine, &identify("u", &json!({}))), 401);
    let mut request = request("POST", "/api/v2/entity", &identify("u", &json!({})));
    request.headers_mut().insert("authorization", basic("site~?:key~?>").parse().unwrap());
    assert_eq!(engine.handle(request).response.status(), 200);

    let rule = json!({"do": {"unauthorized": {"from": "1s", "to": "2s"}}});
    engine.set_faults(vec![serde_json::from_value(rule).unwrap()]);
    let mut at = |millis| {
        engine.clock().set(START * 1000 + millis);
        entity(&mut engine, &identify("u", &json!({})))
    };
    assert_eq!([at(0), at(1000), at(2000)], [200, 401, 200]);
}

#[test]
fn faults_are_logged_and_counted_with_what_was_applied() {
    let mut engine = engine(&Value::Null);
    let rules = json!([
        {"when": {"first": 1}, "do": {"status": 503}},
        {"when": {"first": 1}, "do": {"reset": "after_request"}},
        {"do": {"items": {"indexes": [0]}}},
    ]);
    engine.set_faults(serde_json::from_value(rules).unwrap());
    let batch = json!({"batch": [identify("a", &json!({})), identify("b", &json!({}))]});
    let endings: Vec<Ending> = (0..3)
        .map(|_| engine.handle(request("POST", "/api/v2/batch", &batch)).wire.ending)
        .collect();
    assert_eq!(endings, [Ending::Whole, Ending::Reset, Ending::Whole]);
    let faults: Vec<Value> = engine.requests().iter().map(|record| json!(record.fault)).collect();
    assert_eq!(
        json!(faults),
        json!([
            {"rule": 0, "name": "status_503", "applied": "no"},
            {"rule": 1, "name": "reset_after_request", "applied": "yes"},
            {"rule": 2, "name": "items", "applied": "items"},
        ])
    );
    let stats = engine.stats();
    assert_eq!(stats.faults["status_503"], 1);
    assert_eq!((stats.requests, stats.accepted, stats.refused), (3, 3, 1));
}

#[test]
fn a_rule_that_chose_nothing_is_no_fault() {
    let mut engine = engine(&Value::Null);
    let rules = json!([{"do": {"items": {"person": "u-9"}, "whole_batch_400": true}}]);
    engine.set_faults(serde_json::from_value(rules).unwrap());
    let batch = json!({"batch": [identify("a", &json!({}))]});
    assert_eq!(engine.handle(request("POST", "/api/v2/batch", &batch)).response.status(), 200);
    assert!(engine.requests()[0].fault.is_none());
    assert!(engine.stats().faults.is_empty());
}

#[test]
fn runs_repeat_with_the_seed() {
    let run = |seed: u64| {
        let mut engine = engine(&Value::Null);
        engine.seed = seed;
        let rules = json!([
            {"when": {"probability": 0.2}, "do": {"status": 500}},
            {"when": {"probability": 0.3}, "do": {"items": {"probability": 0.5}}},
            {"do": {"latency": {"p50": "20ms", "p99": "200ms"}}},
        ]);
        engine.set_faults(serde_json::from_value(rules).unwrap());
        let items: Vec<_> = (0..5).map(|n| identify(&format!("u-{n}"), &json!({}))).collect();
        let batch = json!({"batch": items});
        let run = (0..50).map(|_| {
            let answer = engine.handle(request("POST", "/api/v2/batch", &batch));
            (answer.response.status().as_u16(), body(&answer).to_string(), answer.wire.delay)
        });
        run.collect::<Vec<_>>()
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}

#[test]
fn the_log_is_bounded_and_knows_no_key() {
    let mut engine = engine(&json!({"log_requests": 3, "log_body_bytes": 10}));
    for n in 0..5 {
        entity(&mut engine, &identify(&format!("u-{n}"), &json!({})));
    }
    let requests = engine.requests();
    let numbers: Vec<_> = requests.iter().map(|record| record.number).collect();
    assert_eq!(numbers, [3, 4, 5]);
    let text = serde_json::to_string(&requests).unwrap();
    assert!(!text.contains("apikey") && !text.contains(&STANDARD.encode("site:apikey12345")));
    assert_eq!(requests[0].credential.as_deref(), Some("…2345"));
    assert_eq!(requests[0].body.len(), 10);
}

#[test]
fn a_record_keeps_no_more_than_a_thousand_refused_items() {
    let mut engine = engine(&Value::Null);
    let batch = json!({"batch": vec![7; 2000]});
    engine.handle(request("POST", "/api/v2/batch", &batch));
    let record = engine.requests().remove(0);
    assert_eq!((record.items, record.errors.len()), (2000, 1000));
    assert_eq!(engine.stats().refused, 2000);
}

#[test]
fn a_snapshot_brings_everything_back() {
    let mut engine = engine(&Value::Null);
    for example in lines(SEQUENCES) {
        for step in example["steps"].as_array().unwrap() {
            engine.clock().advance(1000);
            entity(&mut engine, &step["op"]);
        }
    }
    let snapshot = engine.snapshot().unwrap();
    let people = json!(engine.workspace().people());
    let mut other = self::engine(&Value::Null);
    other.clock().set(engine.clock().now_millis());
    other.restore(&snapshot).unwrap();
    assert_eq!(json!(other.workspace().people()), people);
    // What was found by id before is found again, and what was seen is still seen.
    for engine in [&mut engine, &mut other] {
        entity(engine, &identify("u-1", &json!({"again": 1})));
        let event = json!({"type": "person", "action": "event", "identifiers": {"id": "u-1"}, "name": "x", "id": "01HQX05C4NJXDYF2MRBF6GKJE6"});
        entity(engine, &event);
    }
    assert_eq!(json!(other.workspace().people()), json!(engine.workspace().people()));
    assert!(other.restore(br#"{"version":2}"#).is_err());
}

#[test]
fn control_reads_and_resets() {
    let mut engine = engine(&Value::Null);
    let event = json!({"type": "person", "action": "event", "identifiers": {"anonymous_id": "anon-1"}, "name": "x"});
    entity(&mut engine, &event);
    entity(&mut engine, &identify("u-1", &json!({"email": "ada@example.org"})));
    entity(&mut engine, &identify("u-2", &json!({"_update": true})));
    let mut call = |method: &str, path: &str, given: Value| {
        let answer = engine.handle(request(method, path, &given));
        (answer.response.status().as_u16(), body(&answer))
    };
    assert_eq!(call("GET", "/_sandbox/people?q=ADA%40", Value::Null).1[0]["id"], "u-1");
    assert_eq!(call("GET", "/_sandbox/people/000000000001", Value::Null).0, 200);
    assert_eq!(call("GET", "/_sandbox/people/0", Value::Null).0, 404);
    assert_eq!(call("GET", "/_sandbox/anonymous/anon-1", Value::Null).1[0]["name"], "x");
    assert_eq!(call("GET", "/_sandbox/events?since=0", Value::Null).1[0]["event"]["name"], "x");
    let activity = call("GET", "/_sandbox/activity", Value::Null).1;
    assert_eq!(activity[0]["kind"], "update_only_no_match");
    assert_eq!(
        call("GET", "/_sandbox/requests?status=200", Value::Null).1.as_array().unwrap().len(),
        3
    );
    assert_eq!(call("GET", "/_sandbox/requests/2", Value::Null).1["accepted"], 1);
    let rules = json!([{"do": {"unauthorized": {"until": "site:longsecretkey"}}}]);
    assert_eq!(call("PUT", "/_sandbox/faults", rules).0, 200);
    let shown = call("GET", "/_sandbox/faults", Value::Null).1;
    assert_eq!(shown[0]["do"]["unauthorized"]["until"], "…tkey");
    let (status, error) = call("PUT", "/_sandbox/faults", json!([{"do": {"statsu": 1}}]));
    assert_eq!(status, 400);
    assert!(error["meta"]["error"].as_str().unwrap().contains("statsu"));
    assert_eq!(call("PUT", "/_sandbox/faults", json!([])).0, 200);
    assert_eq!(call("POST", "/_sandbox/clock", json!({"set": 5})).1["now"], 5);
    assert_eq!(call("POST", "/_sandbox/clock", json!({"advance": "5m"})).1["now"], 305);
    let state = call("GET", "/_sandbox/state", Value::Null).1;
    assert_eq!(call("POST", "/_sandbox/reset", Value::Null).0, 200);
    assert_eq!(call("GET", "/_sandbox/stats", Value::Null).1["workspace"]["people"], 0);
    assert_eq!(call("PUT", "/_sandbox/state", state).0, 200);
    assert_eq!(call("GET", "/_sandbox/stats", Value::Null).1["workspace"]["people"], 1);
}

#[test]
fn events_are_shown_in_the_order_of_application_with_whose_they_are() {
    let mut engine = engine(&Value::Null);
    let event = |who: Value, name: &str, at: i64| json!({"type": "person", "action": "event", "identifiers": who, "name": name, "timestamp": at});
    // The visitor's event moves to the person later; its place in the order stays.
    entity(&mut engine, &event(json!({"anonymous_id": "anon-1"}), "first", START + 9));
    entity(&mut engine, &event(json!({"id": "u-1"}), "second", START + 5));
    entity(&mut engine, &event(json!({"id": "u-2"}), "third", START + 1));
    let joined = json!({"anonymous_id": "anon-1", "email": "ada@example.org"});
    entity(&mut engine, &identify("u-1", &joined));
    entity(&mut engine, &event(json!({"id": "u-1"}), "fourth", START));
    entity(&mut engine, &event(json!({"anonymous_id": "anon-2"}), "fifth", START));
    let mut events = |query: &str| {
        let path = format!("/_sandbox/events{query}");
        let shown = body(&engine.handle(request("GET", &path, &Value::Null)));
        let brief = |shown: &Value| {
            json!([
                shown["sequence"],
                shown["event"]["name"],
                shown["person"]["id"],
                shown["person"]["anonymous_ids"]
            ])
        };
        shown.as_array().unwrap().iter().map(brief).collect::<Vec<_>>()
    };
    let ada = |sequence, name| json!([sequence, name, "u-1", ["anon-1"]]);
    let all = [
        ada(1, "first"),
        ada(2, "second"),
        json!([3, "third", "u-2", []]),
        ada(4, "fourth"),
        json!([5, "fifth", null, null]),
    ];
    assert_eq!(events(""), all);
    assert_eq!(events("?since=1&limit=2"), all[1..3]);
    assert_eq!(events("?since=5"), [] as [Value; 0]);
}

#[test]
fn people_and_requests_are_read_page_by_page() {
    let mut engine = engine(&Value::Null);
    for n in 0..5 {
        entity(&mut engine, &identify(&format!("u-{n}"), &json!({})));
    }
    let mut ids = |path: &str, name: &str| {
        let shown = body(&engine.handle(request("GET", path, &Value::Null)));
        shown.as_array().unwrap().iter().map(|one| one[name].clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids("/_sandbox/people?limit=2", "id"), ["u-0", "u-1"]);
    assert_eq!(ids("/_sandbox/people?limit=2&after=000000000002", "id"), ["u-2", "u-3"]);
    assert_eq!(ids("/_sandbox/people?after=000000000005", "id"), [""; 0]);
    assert_eq!(ids("/_sandbox/requests?since=2&limit=2", "number"), [3, 4]);
}

#[test]
fn control_from_elsewhere_needs_the_token() {
    let mut engine = engine(&Value::Null);
    let ask = |token: Option<&str>, engine: &mut Engine| {
        let mut request = request("GET", "/_sandbox/stats", &Value::Null);
        request.extensions_mut().insert(crate::sandbox::request::FromElsewhere);
        if let Some(token) = token {
            let header = format!("Bearer {token}").parse().unwrap();
            request.headers_mut().insert("authorization", header);
        }
        engine.handle(request).response.status().as_u16()
    };
    assert_eq!(ask(Some("anything"), &mut engine), 403);
    engine.identity.control_token = Some("secret".to_owned().into());
    assert_eq!(ask(None, &mut engine), 403);
    assert_eq!(ask(Some("wrong"), &mut engine), 403);
    assert_eq!(ask(Some("secret"), &mut engine), 200);
}

#[test]
fn the_app_api_shows_text_and_events_with_types() {
    let mut engine = engine(&Value::Null);
    let attributes = json!({"email": "ada@example.org", "n": 42, "unsubscribed": "TRUE"});
    entity(&mut engine, &identify("u-1", &attributes));
    let page = json!({"type": "person", "action": "page", "identifiers": {"id": "u-1"}, "name": "/p", "attributes": {"n": 42}});
    entity(&mut engine, &page);
    let object = json!({"type": "object", "action": "identify", "identifiers": {"object_type_id": "1", "object_id": "acme"}, "attributes": {"seats": 5}, "cio_relationships": [{"identifiers": {"id": "u-1"}}]});
    entity(&mut engine, &object);
    let mut get = |path: &str| {
        let mut request = request("GET", path, &Value::Null);
        request.headers_mut().insert("authorization", "Bearer any".parse().unwrap());
        let answer = engine.handle(request);
        (answer.response.status().as_u16(), body(&answer))
    };
    let customer = get("/v1/customers/ada%40example.org/attributes?id_type=email").1;
    assert_eq!(customer["customer"]["attributes"]["n"], "42");
    assert_eq!(customer["customer"]["unsubscribed"], true);
    let activities = get("/v1/customers/u-1/activities?type=page").1;
    assert_eq!(activities["activities"][0]["data"]["n"], 42);
    assert!(activities["activities"][0].get("name").is_none());
    let relationships = get("/v1/customers/u-1/relationships").1;
    assert_eq!(relationships["cio_relationships"][0]["identifiers"]["object_id"], "acme");
    assert_eq!(get("/v1/objects/1/acme/attributes").1["object"]["attributes"]["seats"], "5");
    assert_eq!(get("/v1/customers/nobody/attributes").0, 404);
}
