//! Every worked example of RudderStack's own mapping gives the same operations, but where this project decided
//! otherwise.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rudder_customerio::config::Config;
use rudder_customerio::internal::stage::{
    Fill, Filter, Mapping, Operation, STACK_BYTES, Stage, Walked,
};
use rudder_customerio::mapping::{Mappings, Settings};
use rudder_customerio::sink::{EventBatch, Incoming};
use serde_json::{Value, json};

/// Makes the walk that `map` does.
fn stage(settings: &Settings) -> Stage {
    let config = Config::default();
    let mapping = Arc::new(Mapping::load(&Mappings::built_in(), settings).unwrap());
    let filter = Arc::new(Filter::new(&config.filter, &config.consent));
    Stage::new(filter, mapping, Fill::Nothing)
}

/// Walks one event and returns its operations without the event ids that are added.
fn operations(event: &Value, stage: &mut Stage) -> Result<Value, String> {
    let batch = EventBatch::new().source_type("cloud");
    let element = Incoming::from(event);
    match stage.walk(&element, &batch) {
        Walked::Ready(prepared) => {
            let body = |o: &Operation| {
                let mut operation: Value = serde_json::from_slice(&o.body).unwrap();
                operation.as_object_mut().unwrap().remove("id");
                operation
            };
            Ok(prepared.operations.iter().map(body).collect())
        }
        Walked::Ended(outcome) | Walked::Failed(outcome, _) => Err(outcome.kind().to_string()),
    }
}

/// `1` and `1.0` are the same number to Customer.io.
fn normal(value: &Value) -> Value {
    match value {
        Value::Number(n) => n.as_f64().map_or(json!(null), |f| json!(f)),
        Value::Array(items) => items.iter().map(normal).collect(),
        Value::Object(members) => {
            Value::Object(members.iter().map(|(k, v)| (k.clone(), normal(v))).collect())
        }
        other => other.clone(),
    }
}

/// The examples whose error is about RudderStack's configuration: ours is checked at start, not per event.
const OF_THE_CONFIGURATION: [&str; 3] =
    ["config: no siteID", "config: bad datacenter", "record: no connection"];

/// The examples whose result differs from RudderStack's on purpose, each with the decision.
const DECIDED: &[(&str, &str)] = &[
    ("identify: neither user id nor e-mail", "D3: an anonymous id stands in for a missing user id"),
    ("identify: numeric user id", "D5: ids are texts"),
    ("identify: keys with slash and backslash", "D6: trait keys are literal"),
    ("identify: integer-looking keys", "D6: trait keys are literal"),
    ("identify: dotted key next to its prefix", "D6: trait keys are literal"),
    (
        "identify: createdAt in epoch seconds",
        "D9: dates by one grammar; what is no date is left out",
    ),
    ("identify: createdAt not a date", "D9: dates by one grammar; what is no date is left out"),
    (
        "identify: createdAt as a string of seconds",
        "D9: dates by one grammar; what is no date is left out",
    ),
    ("identify: reserved trait name", "D6: trait keys are literal"),
    ("identify: user_properties", "D11: user_properties are merged"),
    ("identify: user id 0 falls back to e-mail", "D5: ids are texts"),
    ("track: anonymous with a long name", "D4: names are cut to 100 bytes"),
    ("track: known person with a long name", "D4: names are cut to 100 bytes"),
    ("track: only traits.id", "D2: an event that can be attributed is delivered"),
    ("track: type in capitals", "D1: the type has no case"),
    ("track: bad timestamp", "D9: dates by one grammar; what is no date is left out"),
    ("page: anonymous, url as name", "D4: names are cut to 100 bytes"),
    ("screen: anonymous long name", "D4: names are cut to 100 bytes"),
    ("screen: top-level name only", "D7: more places for the name of a page or screen"),
    ("alias: numeric", "D5: ids are texts"),
    (
        "group: id of the group taken as person",
        "D10: a group's own id is no person, and its type is never empty",
    ),
    ("group: empty object type", "D10: a group's own id is no person, and its type is never empty"),
    ("record: numeric id", "D13: records take numeric ids and leave out empty dates"),
    ("record: created_at null", "D13: records take numeric ids and leave out empty dates"),
    (
        "identify: anonymous only, with traits",
        "D3: an anonymous id stands in for a missing user id",
    ),
    ("identify: boolean user id is skipped", "D5: ids are texts"),
    (
        "page: name and url missing, url in the page context",
        "D7: more places for the name of a page or screen",
    ),
    ("screen: number as name", "D7: more places for the name of a page or screen"),
    ("track: timestamp in epoch seconds", "D9: dates by one grammar; what is no date is left out"),
    ("track: mapped to destination, external id beats user id", "D5: ids are texts"),
    ("device: event without a name", "D8: no device event without a name"),
    ("alias: numbers as text", "D5: ids are texts"),
];

#[test]
fn the_examples_agree_and_every_difference_is_a_listed_decision() {
    // VRL recurses, so scripts run on large stacks.
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(compare).unwrap();
    thread.join().unwrap();
}

fn compare() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/mapping.ndjson");
    let text = fs::read_to_string(path).unwrap();
    let (mut wrong, mut decided) = (Vec::new(), Vec::new());
    let mut stages: Vec<(Settings, Stage)> = Vec::new();
    for line in text.lines() {
        let example: Value = serde_json::from_str(line).unwrap();
        let name = example["name"].as_str().unwrap();
        if OF_THE_CONFIGURATION.contains(&name) {
            assert!(example["v2"]["error"].is_string(), "{name}");
            continue;
        }
        let mut settings = Settings::default();
        if let Some(event) = example["config"]["deviceTokenEventName"].as_str() {
            settings.device_token_event_name = event.to_owned();
        }
        if let Some(object) = example["connection"]["config"]["destination"]["object"].as_str() {
            settings.record_object = object.to_owned();
        }
        let ours = example["decided"].get("v2");
        let wanted = ours.unwrap_or(&example["v2"]);
        let known = stages.iter().position(|(s, _)| *s == settings).unwrap_or_else(|| {
            stages.push((settings.clone(), stage(&settings)));
            stages.len() - 1
        });
        let got = operations(&example["event"], &mut stages[known].1);
        let same = match (&got, wanted.get("error")) {
            (Ok(got), None) => normal(got) == normal(wanted),
            (Err(_), Some(_)) => true,
            _ => false,
        };
        if !same {
            wrong.push(format!("{name}\n  wanted {wanted}\n  got    {got:?}"));
        }
        if ours.is_some_and(|ours| normal(ours) != normal(&example["v2"])) {
            decided.push(name.to_owned());
        }
    }
    assert!(wrong.is_empty(), "{} examples differ:\n{}", wrong.len(), wrong.join("\n"));
    let listed: Vec<_> = DECIDED.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(decided, listed, "the decided differences");
}
