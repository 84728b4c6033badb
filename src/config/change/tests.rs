//! Every key of the schema is changed once, so that none can be forgotten.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::config::{LoadMode, schema};

/// Each key with two valid values. `(stdin)` marks keys of that type of source; a source without a mark
/// is a gateway.
fn values() -> Vec<(&'static str, Value, Value)> {
    let networks = |text: &str| json!([text]);
    vec![
        ("data_dir", json!("a"), json!("b")),
        ("sources[0].listen", json!("127.0.0.1:1"), json!("127.0.0.1:2")),
        ("sources[0].write_keys[0].key", json!("a"), json!("b")),
        ("sources[0].write_keys[0].name", json!("a"), json!("b")),
        ("sources[0].write_keys[0].source_type", json!("web"), json!("ios")),
        ("sources[0].write_keys[0].enabled", json!(true), json!(false)),
        ("sources[0].ack", json!("buffered"), json!("delivered")),
        ("sources[0].max_body", json!(4096), json!(4097)),
        ("sources[0].trusted_proxies", networks("10.0.0.0/8"), networks("10.0.0.0/9")),
        ("sources[0].tls.cert_file", json!("a"), json!("b")),
        ("sources[0].tls.key_file", json!("a"), json!("b")),
        ("sources[0].tls.client_ca_file", json!("a"), json!("b")),
        ("sources[0](http).listen", json!("127.0.0.1:1"), json!("127.0.0.1:2")),
        ("sources[0](http).token", json!("s3cret-a"), json!("s3cret-b")),
        ("sources[0](http).event_path", json!(".a"), json!(".b")),
        ("sources[0](http).ack", json!("buffered"), json!("delivered")),
        ("sources[0](http).max_body", json!(4096), json!(4097)),
        ("sources[0](http).tls.cert_file", json!("a"), json!("b")),
        ("sources[0](http).tls.key_file", json!("a"), json!("b")),
        ("sources[0](http).tls.client_ca_file", json!("a"), json!("b")),
        ("sources[0](vector).listen", json!("127.0.0.1:1"), json!("127.0.0.1:2")),
        ("sources[0](vector).event_path", json!(".a"), json!(".b")),
        ("sources[0](vector).ack", json!("buffered"), json!("delivered")),
        ("sources[0](vector).max_body", json!(4096), json!(4097)),
        ("sources[0](vector).tls.cert_file", json!("a"), json!("b")),
        ("sources[0](vector).tls.key_file", json!("a"), json!("b")),
        ("sources[0](vector).tls.client_ca_file", json!("a"), json!("b")),
        ("sources[0](stdin).event_path", json!(".a"), json!(".b")),
        ("filter.mode", json!("cloud"), json!({ "web": "device", "default": "cloud" })),
        ("filter.integration_names", json!(["a"]), json!(["b"])),
        ("filter.events.mode", json!("off"), json!("deny")),
        ("filter.events.names", json!(["a"]), json!(["a", "b"])),
        ("consent.rules[0].provider", json!("oneTrust"), json!("custom")),
        ("consent.rules[0].consents", json!(["a"]), json!(["b"])),
        ("consent.rules[0].resolution_strategy", json!("and"), json!("or")),
        ("consent.onetrust_categories", json!([]), json!(["a"])),
        ("consent.ketch_purposes", json!([]), json!(["a"])),
        ("consent.unknown", json!("deliver"), json!("withhold")),
        ("consent.decide_by", json!("denied"), json!("allowed")),
        ("mapping.dir", Value::Null, json!("vrl")),
        ("mapping.watch", json!(true), json!(false)),
        ("mapping.threads", Value::Null, json!(2)),
        ("mapping.settings.device_token_event_name", json!("a"), json!("b")),
        ("mapping.settings.record_object", json!("person"), json!("event")),
        ("buffer.type", json!("memory"), json!("disk")),
        ("buffer.max_size", json!("1 GiB"), json!("2 GiB")),
        ("buffer.when_full", json!("wait"), json!("refuse")),
        ("buffer.on_corruption", json!("stop"), json!("set_aside")),
        ("buffer.read_ahead", json!(1), json!(2)),
        ("customerio.site_id", json!("s3cret-a"), json!("s3cret-b")),
        ("customerio.api_key", json!("s3cret-a"), json!("s3cret-b")),
        ("customerio.region", json!("us"), json!("eu")),
        ("customerio.endpoint", Value::Null, json!("http://127.0.0.1:1")),
        ("customerio.api", json!("v2"), json!("v1")),
        ("customerio.environment_id", json!(1), json!(2)),
        ("customerio.check_credentials", json!(true), json!(false)),
        ("customerio.allow_insecure", json!(true), json!(false)),
        ("customerio.extra_roots", json!(["a"]), json!(["b"])),
        ("customerio.ordering", json!("batch"), json!("strict")),
        ("customerio.merge_settle", json!("1s"), json!("2s")),
        ("customerio.rate_limit.requests_per_second", json!(1), json!(2)),
        ("customerio.rate_limit.burst", json!(1), json!(2)),
        ("customerio.concurrency", json!(1), json!(2)),
        ("customerio.batch.max_bytes", json!(400_000), json!(400_001)),
        ("customerio.batch.max_items", json!(1), json!(2)),
        ("customerio.batch.linger", json!("1s"), json!("2s")),
        ("customerio.connect_timeout", json!("1s"), json!("2s")),
        ("customerio.timeout", json!("40s"), json!("50s")),
        ("customerio.retry.initial", json!("1s"), json!("2s")),
        ("customerio.retry.max", json!("10s"), json!("20s")),
        ("customerio.retry.give_up_after", json!("1h"), json!("2h")),
        ("customerio.retry.statuses", json!([500]), json!(["5xx"])),
        ("customerio.retry.item_reasons", json!(["a"]), json!(["b"])),
        ("dead_letters.dir", json!("a"), json!("b")),
        ("dead_letters.max_size", json!("1 GiB"), json!("2 GiB")),
        ("dead_letters.max_age", json!("1h"), json!("2h")),
        ("dead_letters.when_full", json!("hold"), json!("drop_oldest")),
        ("admin.listen", json!("127.0.0.1:1"), json!("127.0.0.1:2")),
        ("admin.token", json!("s3cret-a"), json!("s3cret-b")),
        ("log.level", json!("info"), json!("warn")),
        ("log.format", json!("text"), json!("json")),
        ("drain_timeout", json!("1s"), json!("2s")),
    ]
}

/// The type of the source that a mark names, and the path without it.
fn unmarked(path: &str) -> (&'static str, String) {
    let kinds = ["http", "vector", "stdin"];
    let marked = kinds.into_iter().find(|kind| path.contains(&format!("({kind})")));
    let kind = marked.unwrap_or("rudderstack");
    (kind, path.replace(&format!("({kind})"), ""))
}

/// A document with one value in it, and with what must stand beside that value.
fn document(path: &str, value: &Value) -> Config {
    let (kind, path) = unmarked(path);
    let mut document = json!({
        "sources": [ { "type": kind } ],
        "customerio": { "site_id": "s", "api_key": "k" },
    });
    if path.contains("write_keys") {
        document["sources"][0]["write_keys"] = json!([ { "key": "k" } ]);
    }
    if path.contains(".tls.") {
        document["sources"][0]["tls"] = json!({ "cert_file": "c", "key_file": "k" });
    }
    if path == "buffer.type" {
        // Its default depends on the type.
        document["buffer"]["max_size"] = json!("1 GiB");
    }
    if path.contains("rules") {
        document["consent"]["rules"] = json!([ { "provider": "custom", "consents": ["c"] } ]);
    }
    let mut place = &mut document;
    for step in path.split(['.', '[']) {
        place = match step.strip_suffix(']') {
            Some(index) => &mut place[index.parse::<usize>().unwrap()],
            None => &mut place[step],
        };
    }
    *place = value.clone();
    match Config::parse(&document.to_string(), "c.yaml", LoadMode::Full, &|_| None) {
        Ok((config, _)) => config,
        Err(faults) => panic!("{path}: {faults:?}"),
    }
}

/// Key paths of a schema that have more than one possible value.
fn keys(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    let options = |schema: &Value| -> Vec<Value> {
        let all = ["anyOf", "oneOf"].iter().filter_map(|word| schema[*word].as_array());
        all.flatten().cloned().collect()
    };
    let options = options(schema);
    let has_keys = |schema: &Value| schema["properties"].is_object();
    if let Some(properties) = schema["properties"].as_object() {
        let kind = schema["properties"]["type"]["const"].as_str();
        let mark = match kind {
            None | Some("rudderstack") => String::new(),
            Some(kind) => format!("({kind})"),
        };
        for (key, value) in properties {
            let dot = if path.is_empty() { "" } else { "." };
            keys(value, &format!("{path}{mark}{dot}{key}"), found);
        }
    } else if let Some(section) = options.iter().find(|option| has_keys(option)) {
        let sources = schema["oneOf"].is_array();
        for option in options.iter().filter(|option| sources || *option == section) {
            keys(option, path, found);
        }
    } else if has_keys(&schema["items"]) || schema["items"]["oneOf"].is_array() {
        keys(&schema["items"], &format!("{path}[0]"), found);
    } else if schema.get("const").is_none() && schema["type"] != "null" {
        found.insert(path.to_owned());
    }
}

fn schema_keys() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    keys(&schema(), "", &mut found);
    found
}

#[test]
fn a_change_of_any_key_of_the_schema_is_reported_and_only_live_ones_take_effect() {
    let all = schema_keys();
    assert!(all.len() > 50 && all.contains("customerio.batch.max_bytes"), "{all:?}");
    for key in all {
        let values = values();
        let Some((_, one, other)) = values.iter().find(|(path, _, _)| *path == key) else {
            panic!("`{key}` is new: give it two values here, and say whether it is live");
        };
        let (one, other) = (document(&key, one), document(&key, other));
        let (_, path) = unmarked(&key);
        let changes = Changes::between(&one, &one, &other);
        let expected = vec![path.clone()];
        let in_force = one.with_live_keys_of(&other);
        if is_live(&path) {
            assert_eq!((&changes.applied, &changes.needs_restart), (&expected, &vec![]));
            assert_eq!(differences(&in_force, &other), Vec::<String>::new(), "{path}");
        } else {
            assert_eq!((&changes.applied, &changes.needs_restart), (&vec![], &expected));
            assert_eq!(differences(&in_force, &one), Vec::<String>::new(), "{path}");
        }
        assert_eq!(Changes::between(&one, &one, &one), Changes::default(), "{path}");
    }
}

#[test]
fn every_live_key_exists() {
    let all = schema_keys();
    for live in LIVE {
        assert!(all.iter().any(|key| key.starts_with(live)), "{live}");
    }
}

#[test]
fn live_keys_are_compared_with_what_is_in_force_and_others_with_the_start() {
    let config = |level: &str, format: &str| {
        let text = format!("{{ log: {{ level: {level}, format: {format} }} }}");
        Config::parse(&text, "c.yaml", LoadMode::WithoutSecrets, &|_| None).unwrap().0
    };
    let (started, read) = (config("info", "text"), config("debug", "json"));
    let in_force = started.with_live_keys_of(&read);
    let again = Changes::between(&started, &in_force, &read);
    assert_eq!(again.applied, Vec::<String>::new());
    assert_eq!(again.needs_restart, ["log.format"]);
    let back = Changes::between(&started, &in_force, &started);
    assert_eq!(back.applied, ["log.level"]);
    assert_eq!(back.needs_restart, Vec::<String>::new());
}

#[test]
fn another_number_or_type_of_elements_is_told_at_the_list_or_the_element() {
    let config = |sources: Value| {
        let text = json!({ "sources": sources }).to_string();
        Config::parse(&text, "c.yaml", LoadMode::WithoutSecrets, &|_| None).unwrap().0
    };
    let one = config(json!([{ "type": "stdin" }]));
    let two = config(json!([{ "type": "stdin" }, { "type": "rudderstack" }]));
    let gateway = config(json!([{ "type": "rudderstack" }]));
    assert_eq!(differences(&one, &two), ["sources"]);
    assert_eq!(differences(&one, &gateway), ["sources[0].type"]);
}

#[test]
fn changes_name_keys_and_never_show_values() {
    let (one, other) =
        (document("admin.token", &json!("s3cret-a")), document("admin.token", &json!("s3cret-b")));
    let shown = format!("{:?}", Changes::between(&one, &one, &other));
    assert!(shown.contains("admin.token") && !shown.contains("s3cret"), "{shown}");
}
