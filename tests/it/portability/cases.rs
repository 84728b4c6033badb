//! Events to compare: those of the mapping's tests and of the recordings, and awkward ones.

use std::fs;
use std::path::Path;

use rudder_customerio::internal::config::tests_of;
use rudder_customerio::internal::event::Need;
use rudder_customerio::internal::stage::Mapping;
use rudder_customerio::mapping::{Mappings, Settings};
use serde_json::{Map, Value as Json, json};

/// An event and what the mapping is set to.
pub struct Case {
    pub name: String,
    pub event: Json,
    pub settings: Settings,
    /// One of the awkward ones, of which there are many.
    pub is_made_up: bool,
}

const TYPES: [&str; 7] = ["identify", "track", "page", "screen", "group", "alias", "record"];

pub fn all(mapping: &Mapping) -> Vec<Case> {
    let mut cases = of_the_mapping();
    assert!(cases.len() > 100, "the mapping's own tests were not found");
    let before = cases.len();
    recorded(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data"), &mut cases);
    assert!(cases.len() > before + 150, "the recordings were not found");
    awkward(mapping, &mut cases);
    cases
}

pub fn yaml(text: &str) -> Json {
    rudder_customerio::internal::config::parse_yaml(text, "test").unwrap().to_json()
}

fn settings(of: &Json) -> Settings {
    let mut settings = Settings::default();
    if let Some(name) = of["device_token_event_name"].as_str() {
        settings.device_token_event_name = name.to_owned();
    }
    if let Some(object) = of["record_object"].as_str() {
        settings.record_object = object.to_owned();
    }
    settings
}

/// The cases of `vrl/tests/`.
fn of_the_mapping() -> Vec<Case> {
    let mut cases = Vec::new();
    for (file, text) in tests_of(&Mappings::built_in()) {
        for case in yaml(text).as_array().unwrap() {
            let name = format!("{file}: {}", case["name"].as_str().unwrap());
            cases.push(Case {
                name,
                event: case["event"].clone(),
                settings: settings(&case["settings"]),
                is_made_up: false,
            });
        }
    }
    cases
}

/// Every object in the test data that has the `type` of an event.
fn recorded(path: &Path, cases: &mut Vec<Case>) {
    if path.is_dir() {
        let mut paths: Vec<_> = fs::read_dir(path).unwrap().map(|e| e.unwrap().path()).collect();
        paths.sort();
        paths.iter().for_each(|path| recorded(path, cases));
    } else if path.extension().is_some_and(|e| e == "json" || e == "ndjson") {
        let text = fs::read_to_string(path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy();
        for value in serde_json::Deserializer::from_str(&text).into_iter::<Json>() {
            find(&value.unwrap(), &name, &Settings::default(), cases);
        }
    }
}

fn find(value: &Json, name: &str, settings: &Settings, cases: &mut Vec<Case>) {
    match value {
        Json::Object(members) => {
            let kind = members.get("type").and_then(Json::as_str).unwrap_or_default();
            if TYPES.contains(&kind.to_lowercase().as_str()) {
                let (name, settings) = (name.to_owned(), settings.clone());
                cases.push(Case { name, event: value.clone(), settings, is_made_up: false });
                return;
            }
            let mut settings = settings.clone();
            // How the worked examples of RudderStack's mapping name the two settings.
            if let Some(name) = value["config"]["deviceTokenEventName"].as_str() {
                settings.device_token_event_name = name.to_owned();
            }
            if let Some(object) = value["connection"]["config"]["destination"]["object"].as_str() {
                settings.record_object = object.to_owned();
            }
            members.values().for_each(|value| find(value, name, &settings, cases));
        }
        Json::Array(items) => items.iter().for_each(|item| find(item, name, settings, cases)),
        // Bodies of requests, and lines as a source got them.
        Json::String(text) if text.trim_start().starts_with(['{', '[']) => {
            if let Ok(value) = serde_json::from_str(text) {
                find(&value, name, settings, cases);
            }
        }
        _ => {}
    }
}

/// What a member may hold that nobody expects there.
fn odd_values() -> Vec<Json> {
    let texts = [
        "",
        " ",
        "0",
        "u-1",
        "ada@example.org",
        "Zoë@exämple.org",
        "a@😀😀.org",
        "\"a b\"@example.org",
        "a@b",
        "@",
        "Order Completed 😀",
        "\u{0}\u{1f}\u{2028}",
        "e\u{301}",
        "\u{fffd}",
        "iOS",
        "Application Installed",
        "delete",
        "event",
        "person",
        // Dates, nearly dates, and numbers as text.
        "2024-03-01T12:34:56.789Z",
        "2024-02-30T10:00:00Z",
        "2024-03-01",
        "2024",
        "2024-12",
        "2024-03-01T12:34",
        "2024-03-01t24:00:00z",
        "2024-03-01T12:34:56",
        "2024-03-01 12:34:56 UTC",
        "2024-03-01T12:34:56+05:30",
        "2024-06-30T23:59:60Z",
        "1969-12-31T23:59:59.5Z",
        "+275760-09-13T00:00:00.001Z",
        "-000001-01-01",
        "0000-01-01T00:00:00Z",
        "1709296496",
        "1709296496789",
        "99999999999999999999",
        "1e3",
        "-5",
        "Fri Mar 01 2024",
    ];
    let mut values: Vec<Json> = texts.map(Json::from).to_vec();
    values
        .extend(["x".repeat(101), "é".repeat(60), format!("a{}", "😀".repeat(40))].map(Json::from));
    values.push(json!(format!("{}@example.org", "l".repeat(65))));
    values.push(json!(format!("a@{}.org", "😀".repeat(32))));
    values.extend([json!(0), json!(-1), json!(7), json!(1709296496), json!(1709296496789_i64)]);
    values.extend([json!(i64::MAX), json!(i64::MIN), json!(u64::MAX), json!(99999999999_i64)]);
    values.extend([json!(0.0), json!(-0.0), json!(1.5), json!(-0.5), json!(1e21), json!(1e-7)]);
    values.extend([json!(1709296496.789), json!(8.64e15), json!(8.640000000000001e15)]);
    values.extend([json!(null), json!(true), json!(false), json!([]), json!({}), json!(["a", 1])]);
    values.push(json!({ "": 1, "a.b": 2, "a b": null, "$x": [1], "é": { "createdAt": 1 } }));
    values
        .push(json!({ "email": "in@example.org", "id": 5, "createdAt": "2024", "userId": "t-1" }));
    values.push(json!({ "city": "Oslo", "street": null, "zip": 1, "state": { "a": 1 } }));
    values.push(json!([{ "id": "ext@example.org", "identifierType": "email" }]));
    values.push(json!([{ "id": 12.0, "identifierType": "a.b" }, 5]));
    values.push(json!([{ "id": null, "identifierType": 3 }]));
    values
}

/// An ordinary event with all that the scripts look for.
fn full(kind: &str) -> Json {
    json!({
        "type": kind, "userId": "u-1", "anonymousId": "anon-1", "previousId": "p-1", "groupId": "g-1",
        "event": "Order Completed", "name": "Home", "action": "insert", "messageId": "m-1",
        "timestamp": "2024-03-01T12:34:56.789Z", "originalTimestamp": "2024-03-01T12:34:50.000Z",
        "properties": { "url": "https://example.org/", "total": 12.5, "email": "p@example.org" },
        "traits": { "email": "ada@example.org", "plan": "pro", "createdAt": "2021-05-06T07:08:09Z" },
        "context": {
            "traits": { "email": "c@example.org" }, "device": { "token": "t", "type": "iOS" },
            "os": { "name": "iOS" }, "app": { "version": "1" }, "locale": "nb-NO",
        },
        "identifiers": { "id": "r-1", "email": "r@example.org", "name": "Signed Up", "plan": "pro", "created_at": "2024-01-02" },
    })
}

/// An event with hardly anything.
fn bare(kind: &str) -> Json {
    json!({ "type": kind, "anonymousId": "anon-1", "event": "x", "name": "x", "groupId": "g-1", "action": "update" })
}

/// Members that scripts look for inside of what they take as a whole.
const INSIDE: [&str; 11] = [
    "id",
    "cio_id",
    "userId",
    "anonymousId",
    "email",
    "name",
    "createdAt",
    "created_at",
    "action",
    "objectTypeId",
    "address",
];

/// The paths that a script can read, with those on the way to them.
fn paths(need: &Need, at: &[String], found: &mut Vec<Vec<String>>) {
    if !at.is_empty() {
        found.push(at.to_vec());
    }
    if let Need::Some(members) = need {
        for (name, need) in members {
            let mut path = at.to_vec();
            path.push(name.to_string());
            paths(need, &path, found);
        }
    } else if at.last().is_some_and(|name| name == "traits" || name == "identifiers") {
        let inside = |name: &&str| [at, &[(*name).to_owned()]].concat();
        found.extend(INSIDE.iter().map(inside));
    }
}

fn set(event: &mut Json, path: &[String], value: Json) {
    let Some((first, rest)) = path.split_first() else {
        *event = value;
        return;
    };
    if !event.is_object() {
        *event = Json::Object(Map::new());
    }
    set(&mut event[first.as_str()], rest, value);
}

/// Odd values at every place that a script reads, and several at once: a part of them, or all with
/// `PORTABILITY_ALL` in the environment.
fn awkward(mapping: &Mapping, cases: &mut Vec<Case>) {
    let values = odd_values();
    let mut random = fastrand::Rng::with_seed(7);
    let all = std::env::var_os("PORTABILITY_ALL").is_some();
    let record_event = Settings { record_object: "event".to_owned(), ..Settings::default() };
    let device = Settings { device_token_event_name: "x".to_owned(), ..Settings::default() };
    for (kind, need) in mapping.plan().types() {
        let mut places = Vec::new();
        paths(need, &[], &mut places);
        places.retain(|path| *path != ["type"]);
        let settings = [
            Settings::default(),
            if kind == "record" { record_event.clone() } else { device.clone() },
        ];
        let mut add = |event, settings: &Settings| {
            let name = format!("awkward {}", cases.len());
            cases.push(Case { name, event, settings: settings.clone(), is_made_up: true });
        };
        for path in &places {
            for (n, value) in values.iter().enumerate() {
                if !all && random.usize(..4) != 0 {
                    continue;
                }
                let mut event = if n % 2 == 0 { full(kind) } else { bare(kind) };
                set(&mut event, path, value.clone());
                add(event, &settings[random.usize(..2)]);
            }
        }
        for _ in 0..if all { 2000 } else { 200 } {
            let mut event = if random.bool() { full(kind) } else { bare(kind) };
            for _ in 0..random.usize(1..6) {
                set(
                    &mut event,
                    &places[random.usize(..places.len())],
                    values[random.usize(..values.len())].clone(),
                );
            }
            add(event, &settings[random.usize(..2)]);
        }
    }
}
