//! The configurations of stock Vector in `config/vector`, and our side of them.

mod recipe;
mod remap;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use chrono::{DateTime, Utc};
use rudder_customerio::sandbox::{RunningSandbox, Sandbox};
use serde_json::{Value, json};
use vrl::value::Value as Vrl;

use self::recipe::{NAMES, Recipe};
use self::remap::{Event, Flow};
use crate::support::{Running, eventually, free_address, get, http, run_with_input};

const SECRETS: [(&str, &str); 4] = [
    ("HTTP_TOKEN", "token-of-the-test"),
    ("WRITE_KEY", "key-of-the-test"),
    ("CUSTOMERIO_SITE_ID", "site"),
    ("CUSTOMERIO_API_KEY", "key"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

fn parsed(texts: &[&str]) -> Vec<Value> {
    texts.iter().map(|text| serde_json::from_str(text).unwrap()).collect()
}

/// Lines as the source `file` gives them in the legacy namespace.
fn from_file(lines: &[&str]) -> Vec<Event> {
    let mut offset = 0;
    let mut events = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let value = remap::object([
            ("message", (*line).into()),
            ("file", "/var/log/events/one.ndjson".into()),
            ("host", "machine".into()),
            ("offset", offset.into()),
            ("source_type", "file".into()),
            ("timestamp", DateTime::<Utc>::UNIX_EPOCH.into()),
        ]);
        offset += i64::try_from(line.len()).unwrap() + 1;
        events.push(Event { value, metadata: remap::object([]), number });
    }
    events
}

/// A request as the source `http_server` gives it.
fn from_http(path: &str, body: &str) -> Vec<Event> {
    let value = remap::object([
        ("message", body.into()),
        ("path", path.into()),
        ("source_type", "http_server".into()),
        ("timestamp", DateTime::<Utc>::UNIX_EPOCH.into()),
    ]);
    vec![Event { value, metadata: remap::object([]), number: 0 }]
}

/// What came to a sink, as its codec `json` writes it.
fn sent(flow: &Flow, sink: &str) -> Vec<Value> {
    let mut events = Vec::new();
    for event in flow.get(sink).map(Vec::as_slice).unwrap_or_default() {
        assert!(matches!(event.value, Vrl::Object(_)), "an event is an object");
        events.push(remap::json(&event.value));
    }
    events
}

#[test]
fn every_recipe_is_whole_and_knows_only_options_of_its_components() {
    for name in NAMES {
        let recipe = Recipe::load(name, &SECRETS);
        assert_eq!(recipe.unknown_options(), [""; 0], "{name}");
        assert_eq!(recipe.loose_ends(), [""; 0], "{name}");
        for sink in recipe.components().iter().filter(|c| c.section == "sinks") {
            assert_eq!(sink.options["acknowledgements"]["enabled"], true, "{name} {}", sink.name);
            if ["vector", "http"].contains(&sink.kind()) {
                assert_eq!(sink.options["request"]["concurrency"], 1, "{name} {}", sink.name);
            }
        }
        for remap in recipe.components().iter().filter(|c| c.kind() == "remap") {
            let fails_safely = remap.options.get("drop_on_error") == Some(&json!(true))
                && remap.options.get("reroute_dropped") == Some(&json!(true));
            assert!(fails_safely || remap.name == "unreadable", "{name} {}", remap.name);
        }
    }
    let files = fs::read_dir(root().join("config/vector")).unwrap().count();
    assert_eq!(files, NAMES.len(), "every file is tested");
}

#[test]
fn what_is_offered_in_comments_could_be_used_as_it_stands() {
    for name in NAMES {
        let plain = recipe::text(name);
        let text = recipe::with_comments_as_options(&plain);
        let recipe = Recipe::parse(&text, &SECRETS);
        assert_eq!(recipe.unknown_options(), [""; 0], "{name}");
        assert_eq!(name == "sdk", text.trim() == plain.trim(), "{name}");
    }
    let grpc = recipe::with_comments_as_options(&recipe::text("grpc"));
    let grpc = Recipe::parse(&grpc, &SECRETS);
    assert_eq!(grpc.at("/sinks/rudder_customerio/buffer/type"), "disk");
    assert_eq!(grpc.component("input").kind(), "stdin");
}

#[test]
fn options_that_an_older_vector_refuses_are_in_comments_or_say_why_not() {
    let newer = ["keepalive", "retry_strategy", "schema"];
    let mut used = Vec::new();
    for name in NAMES {
        let recipe = Recipe::load(name, &SECRETS);
        for component in recipe.components() {
            let options = component.options.keys().filter(|o| newer.contains(&o.as_str()));
            used.extend(options.map(|option| (name, option.clone())));
            // `true` is all that older versions know beside `false`.
            if (component.section, component.kind()) == ("sinks", "vector") {
                assert_eq!(component.options["compression"], true, "{name}");
            }
            if component.kind() == "http_server" {
                assert_eq!(component.options["auth"].get("strategy"), None, "{name}");
            }
        }
    }
    assert_eq!(used, [("http", "retry_strategy".to_owned())]);
    let reason = recipe::text("http");
    let (reason, _) = reason.split_once("    retry_strategy:").unwrap();
    assert!(reason.lines().rev().take(4).any(|line| line.contains("refuses to start")), "{reason}");
}

#[test]
fn a_misspelt_option_or_a_loose_end_is_found() {
    let text = recipe::text("grpc");
    let with = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        Recipe::parse(&text.replace(from, to), &SECRETS)
    };
    for (from, to, fault) in [
        ("oldest_first", "oldest_frist", "lines: no option `oldest_frist`"),
        ("concurrency:", "concurency:", "rudder_customerio: no option `request.concurency`"),
        ("type: vector", "type: vektor", "rudder_customerio: no component `sinks vektor`"),
        ("data_dir:", "datadir:", "no section `datadir`"),
    ] {
        assert_eq!(with(from, to).unknown_options(), [fault]);
    }
    let loose = with("inputs: [ parse ]", "inputs: [ prase ]").loose_ends();
    assert_eq!(loose, ["nothing gives `prase`", "nothing takes `parse`"]);
}

#[test]
fn every_vrl_text_compiles_with_the_functions_of_stock_vector() {
    for name in NAMES {
        let recipe = Recipe::load(name, &SECRETS);
        let mut count = 0;
        for component in recipe.components() {
            for (place, text) in remap::programs(&component) {
                if let Err(why) = remap::compile(&text) {
                    panic!("{name} {place}: {why}");
                }
                count += 1;
            }
        }
        assert!(count > 1, "{name}");
    }
    for unknown in ["range(0, 1)", "for_each([1]) -> |_, v| {\n  break\n}", "%x = nothing(.)"] {
        assert!(remap::compile(unknown).is_err(), "{unknown}");
    }
}

#[test]
fn the_direct_recipe_has_the_scripts_of_the_mapping() {
    let recipe = Recipe::load("direct", &SECRETS);
    let list = remap::yaml(&read("vrl/mapping.yaml"));
    let list = list.as_object().unwrap();
    for (kind, files) in list {
        let files = files.as_array().unwrap().iter();
        let wanted: Vec<String> = files.map(|f| format!("vrl/{}", f.as_str().unwrap())).collect();
        let component = recipe.component(kind);
        assert_eq!(component.texts("files"), wanted, "{kind}");
        assert_eq!(component.texts("inputs"), [format!("by_type.{kind}")]);
    }
    let routes = recipe.component("by_type").options["route"].as_object().unwrap();
    assert_eq!(routes.keys().collect::<Vec<_>>(), list.keys().collect::<Vec<_>>());
    let batch = recipe.at("/sinks/customerio/batch");
    assert!(batch["max_bytes"].as_u64() < Some(500_000), "{batch}");
    assert!(batch["max_events"].as_u64() <= Some(1000), "{batch}");
}

#[test]
fn scripts_see_in_vector_the_settings_that_they_see_with_us() {
    let recipe = Recipe::load("direct", &SECRETS);
    let flow = remap::flow(&recipe, "lines", from_file(&PECULIAR));
    let annotated = remap::yaml(&read("config/rudder-customerio.yaml"));
    for event in &flow["by_type.track"] {
        let seen = remap::json(&event.metadata);
        assert_eq!(seen["customerio"], annotated["mapping"]["settings"]);
    }
    assert_eq!(flow["by_type.track"].len(), 2);
}

#[test]
fn init_writes_the_recipes_where_their_paths_are_right() {
    let dir = tempfile::tempdir().unwrap();
    let output = run_with_input(&["init", dir.path().to_str().unwrap()], b"");
    assert_eq!(output.status.code(), Some(0));
    for name in NAMES {
        let path = dir.path().join(format!("config/vector/{name}.yaml"));
        assert_eq!(fs::read_to_string(path).unwrap(), recipe::text(name));
        for component in Recipe::load(name, &SECRETS).components() {
            for file in component.texts("files") {
                assert!(dir.path().join(&file).is_file(), "{file}");
            }
        }
    }
    assert!(dir.path().join("config/behind-vector.yaml").is_file());
}

/// Our side of the recipes.
fn our_side() -> Value {
    remap::yaml(&read("config/behind-vector.yaml"))
}

#[test]
fn both_sides_name_the_same_ports_and_the_same_token() {
    let ours = our_side();
    let source = |kind: &str| {
        let all = ours["sources"].as_array().unwrap();
        all.iter().find(|s| s["type"] == kind).unwrap().clone()
    };
    for name in ["grpc", "sdk"] {
        let recipe = Recipe::load(name, &SECRETS);
        assert_eq!(*recipe.at("/sinks/rudder_customerio/address"), source("vector")["listen"]);
    }
    let recipe = Recipe::load("http", &SECRETS);
    let listen = source("http")["listen"].as_str().unwrap().to_owned();
    let sink = recipe.component("rudder_customerio");
    assert_eq!(sink.text("uri"), Some(&*format!("http://{listen}/")));
    assert_eq!(source("http")["token"], "${env:HTTP_TOKEN}");
    assert!(recipe::text("http").contains("token: \"${HTTP_TOKEN}\""));
    for name in ["grpc", "http", "sdk"] {
        let recipe = Recipe::load(name, &SECRETS);
        let bytes = recipe.at("/sinks/rudder_customerio/batch/max_bytes").as_u64().unwrap();
        // Vector's bound is an estimate, and one event may come on top of it.
        assert!(2 * bytes < source("vector")["max_body"].as_u64().unwrap(), "{name}");
    }
}

#[test]
fn our_side_is_valid() {
    let config = root().join("config/behind-vector.yaml");
    let dir = tempfile::tempdir().unwrap();
    let output = crate::support::binary()
        .args(["-c", config.to_str().unwrap(), "validate"])
        .current_dir(dir.path())
        .envs(SECRETS)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(!said.contains("warning"), "{said}");
}

#[test]
fn a_variable_is_taken_as_vector_takes_it() {
    let with = |text| recipe::interpolate(text, &BTreeMap::from([("A", "1")]));
    assert_eq!(with("x: \"${A}-${B:-2}\" # ${A:-3}"), "x: \"1-2\" # 1");
    for text in ["# ${B}", "r'^a$'", "price: $5"] {
        assert!(std::panic::catch_unwind(|| with(text)).is_err(), "{text}");
    }
}

#[test]
fn the_readme_has_a_command_for_each_recipe_and_the_variables_that_it_needs() {
    let readme = read("README.md");
    let part = readme.split("### Or put it behind a pipeline").nth(1).unwrap();
    let part = part.split("\n### ").next().unwrap();
    let exports: Vec<_> = part.lines().filter_map(|line| line.strip_prefix("export ")).collect();
    let words = exports.iter().flat_map(|line| line.split(' '));
    let set: Vec<_> = words.filter_map(|word| word.split_once('=')).collect();
    for name in NAMES {
        assert!(part.contains(&format!("vector --config config/vector/{name}.yaml`")), "{name}");
        let recipe = Recipe::load(name, &set);
        assert_eq!(recipe.at("/data_dir"), "$(mktemp", "{name} keeps nothing of another try");
    }
    assert!(part.contains("rudder-customerio -c config/behind-vector.yaml run"));
    let sandbox = our_side()["customerio"]["endpoint"].as_str().unwrap().to_owned();
    assert!(part.contains(&format!("`CUSTOMERIO_URL={sandbox} vector ")));
}

/// Events that Vector could mistake for its own.
const PECULIAR: [&str; 3] = [
    r#"{"type":"track","messageId":"m-1","userId":"u-1","event":"A","host":"of the event","message":"m","file":7,"timestamp":null,"metadata":{"dropped":1}}"#,
    r#"{"type":"track","messageId":"m-2","userId":"u-1","event":"B","offset":"x","timestamp":"2024-03-01T12:34:56.789Z","properties":{"":1,"a.b":9007199254740993,"n":-0.5,"é":[{}, []]}}"#,
    r#"{"type":"page","messageId":"m-3","anonymousId":"a-1","name":"no time of its own"}"#,
];

#[test]
fn what_reaches_us_from_files_is_the_json_of_the_lines() {
    let samples = read("config/sample-events.ndjson");
    let mut given = lines(&samples);
    given.extend(PECULIAR);
    for name in ["grpc", "http"] {
        let recipe = Recipe::load(name, &SECRETS);
        let flow = remap::flow(&recipe, "lines", from_file(&given));
        assert_eq!(sent(&flow, "rudder_customerio"), parsed(&given), "{name}");
        assert_eq!(sent(&flow, "unreadable_lines"), [Value::Null; 0], "{name}");
    }
}

#[test]
fn an_event_without_an_id_keeps_the_one_it_gets_and_shares_it_with_no_other() {
    let event = r#"{"type":"track","userId":"u-1","event":"A"}"#;
    let given = [event, event, r#"{"messageId":"","type":"track"}"#];
    for name in ["grpc", "http", "direct"] {
        let recipe = Recipe::load(name, &SECRETS);
        let ids = || -> Vec<String> {
            let flow = remap::flow(&recipe, "lines", from_file(&given));
            let id = |e: &Event| remap::json(&e.value)["messageId"].as_str().unwrap().to_owned();
            flow["parse"].iter().map(id).collect()
        };
        let first = ids();
        assert_eq!(first, ids(), "{name}: read again");
        assert!(first.iter().all(|id| id.len() == 64), "{first:?}");
        assert!(first[0] != first[1] && first[1] != first[2], "{name}: {first:?}");
    }
}

#[test]
fn a_line_that_cannot_be_read_is_reported_by_its_place_alone() {
    let given = [r#"{"type":"track","userId":"u-1"#, "\"secret text\"", "[1,2]", "", "{}"];
    for name in ["grpc", "http", "direct"] {
        let recipe = Recipe::load(name, &SECRETS);
        let flow = remap::flow(&recipe, "lines", from_file(&given));
        assert_eq!(flow["parse"].len(), 1, "{name}: an empty object is an object");
        let told = sent(&flow, "unreadable_lines");
        assert_eq!(told.len(), 4, "{name}");
        assert_eq!(told[1]["offset"], given[0].len() + 1);
        for line in told {
            let line = line.to_string();
            assert!(line.contains("one.ndjson") && line.contains("reason"), "{line}");
            assert!(!line.contains("u-1") && !line.contains("secret"), "{line}");
        }
    }
}

#[test]
fn requests_of_sdks_become_their_events() {
    let recipe = Recipe::load("sdk", &SECRETS);
    let events = parsed(&PECULIAR);
    let flow = |path: &str, body: &Value| {
        let flow = remap::flow(&recipe, "requests", from_http(path, &body.to_string()));
        (sent(&flow, "rudder_customerio"), sent(&flow, "unreadable_requests"))
    };
    let batch = json!({ "batch": events, "sentAt": "2024-03-01T12:34:56.789Z" });
    assert_eq!(flow("/v1/batch", &batch), (events.clone(), vec![]));
    assert_eq!(flow("/v1/import", &batch), (events.clone(), vec![]));

    // The path names the type, whatever the event says.
    let mut single = events[0].clone();
    single["batch"] = json!([{ "mine": true }]);
    let mut wanted = single.clone();
    wanted["type"] = json!("screen");
    assert_eq!(flow("/v1/screen", &single), (vec![wanted], vec![]));

    let anonymous = json!({ "batch": [{ "type": "page" }, { "type": "page" }] });
    let (first, _) = flow("/v1/batch", &anonymous);
    assert_eq!(first, flow("/v1/batch", &anonymous).0, "sent again");
    assert_ne!(first[0]["messageId"], first[1]["messageId"]);

    for body in [json!({ "batch": 1 }), json!([]), json!({ "batch": [{}, "secret"] })] {
        let (taken, told) = flow("/v1/batch", &body);
        assert!(taken.is_empty() && told.len() == 1, "{taken:?} {told:?}");
        assert_eq!(told[0]["path"], "/v1/batch");
        assert!(!told[0].to_string().contains("secret"), "{told:?}");
    }
}

/// What `map` says of each event, with the consent of our side of the recipes.
fn by_ourselves(events: &[Value]) -> Vec<Value> {
    let config = root().join("config/behind-vector.yaml");
    let args = ["-c", config.to_str().unwrap(), "map", "--api", "v2", "-"];
    let input: String = events.iter().map(|event| format!("{event}\n")).collect();
    let output = run_with_input(&args, input.as_bytes());
    parsed(&lines(std::str::from_utf8(&output.stdout).unwrap()))
}

/// The events that came to a sink, by the number of their line.
fn by_number(flow: &Flow, sink: &str) -> BTreeMap<usize, Value> {
    flow[sink].iter().map(|event| (event.number, remap::json(&event.value))).collect()
}

/// Sends events as Vector's sink `http` does, and demands that each batch is accepted whole.
fn post(recipe: &Recipe, sink: &str, sandbox: &RunningSandbox, events: &[Value]) {
    let sink = recipe.component(sink);
    let text = |pointer: &str| {
        let value = sink.options.get(pointer.split('.').next().unwrap()).unwrap();
        let value = pointer.split_once('.').map_or(value, |(_, member)| &value[member]);
        value.as_str().unwrap().to_owned()
    };
    let credentials = format!("{}:{}", text("auth.user"), text("auth.password"));
    let credentials = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, credentials);
    let headers =
        [("Content-Type", "application/json"), ("Authorization", &*format!("Basic {credentials}"))];
    let uri = text("uri");
    let path = uri.strip_prefix(&sandbox.base_url()).unwrap();
    let most = usize::try_from(sink.options["batch"]["max_events"].as_u64().unwrap()).unwrap();
    for batch in events.chunks(most) {
        let list = Value::from(batch).to_string();
        let body = text("payload_prefix") + &list + &text("payload_suffix");
        let answer = http(sandbox.addr(), "POST", path, &headers, body.as_bytes());
        assert_eq!((answer.status, answer.text().trim()), (200, "{}"));
    }
}

/// What a sandbox holds, without what depends on the run.
fn content(sandbox: &RunningSandbox) -> Value {
    let people = sandbox.people();
    let name = |cio_id: &String| {
        let person = people.iter().find(|p| p.cio_id == *cio_id);
        person.map(|p| json!([p.id, p.email]))
    };
    let mut all: Vec<String> = people.iter().map(|p| p.content().to_string()).collect();
    all.sort();
    let objects = sandbox.objects().into_iter().map(|object| {
        let people: Vec<_> = object.people.keys().map(name).collect();
        json!([object.type_id, object.object_id, object.attributes, people])
    });
    let mut visitors = BTreeMap::new();
    for (visitor, events) in sandbox.anonymous() {
        let ids: Vec<_> = events.into_iter().map(|event| (event.name, event.id)).collect();
        visitors.insert(visitor, ids);
    }
    json!({ "people": all, "objects": objects.collect::<Vec<_>>(), "visitors": visitors })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vector_alone_gives_customer_io_the_same_people() {
    let direct = Sandbox::builder().start().await.unwrap();
    let ours = Sandbox::builder().start().await.unwrap();
    let samples = read("config/sample-events.ndjson");
    let given = lines(&samples);

    let url = direct.base_url();
    let mut variables = SECRETS.to_vec();
    variables.push(("CUSTOMERIO_URL", &url));
    let recipe = Recipe::load("direct", &variables);
    let flow = remap::flow(&recipe, "lines", from_file(&given));
    post(&recipe, "customerio", &direct, &sent(&flow, "customerio"));

    let url = ours.base_url();
    variables.push(("CUSTOMERIO_URL", &url));
    let recipe = Recipe::load("direct", &variables);
    let requests = by_ourselves(&parsed(&given));
    let operations = requests.iter().filter_map(|line| line.pointer("/requests/0/body/batch/0"));
    let operations: Vec<Value> = operations.cloned().collect();
    assert!(operations.len() > 15, "{requests:?}");
    post(&recipe, "customerio", &ours, &operations);

    assert_eq!(content(&direct), content(&ours));
    assert!(direct.people().len() > 2);
}

/// Events on which a mapping has something to decide, and some for the ids.
fn worked_examples() -> Vec<Value> {
    let examples = parsed(&lines(&read("tests/data/mapping.ndjson")));
    let mut events: Vec<Value> = examples.into_iter().map(|e| e["event"].clone()).collect();
    events.extend(parsed(&PECULIAR));
    events.extend([
        json!({ "type": "Track", "event": "Ordre \u{e9}\u{1f600}", "userId": 1.5, "messageId": "m-4", "originalTimestamp": "2024-03-01T12:34:56.789+02:00" }),
        json!({ "type": "PAGE", "name": "n", "userId": 100, "anonymousId": "a-2", "messageId": "x".repeat(300), "timestamp": "2024-03-01T12:34:56Z" }),
        json!({ "type": "screen", "event": 2, "name": "n", "anonymousId": "anon-\u{e9}", "messageId": "m-5", "originalTimestamp": "1969-12-31T00:00:00Z" }),
        json!({ "type": "track", "event": "too large", "userId": "u-1", "messageId": "m-6", "properties": { "a": "x".repeat(33_000) } }),
        json!({ "type": "track", "event": "denied", "userId": "u-1", "messageId": "m-7", "context": { "consentManagement": { "provider": "oneTrust", "deniedConsentIds": ["C0001", "C0004"] } } }),
        json!({ "type": "track", "event": "not for us", "userId": "u-1", "messageId": "m-8", "integrations": { "All": true, "Customer IO": false } }),
        json!({ "type": "track", "event": "for nobody", "userId": "u-1", "messageId": "m-9", "integrations": { "All": false } }),
        json!({ "type": "track", "event": "for us", "userId": "u-1", "messageId": "m-10", "integrations": { "All": false, "Customer IO": { "a": 1 } } }),
        json!({ "type": "heartbeat", "userId": "u-1", "messageId": "m-11" }),
        json!({ "userId": "u-1", "messageId": "m-12" }),
    ]);
    events
}

#[test]
fn vector_alone_maps_as_we_do_under_the_same_ids_and_loses_nothing_on_the_way() {
    let events = worked_examples();
    let texts: Vec<String> = events.iter().map(Value::to_string).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let recipe = Recipe::load("direct", &SECRETS);
    let flow = remap::flow(&recipe, "lines", from_file(&texts));
    // With the ids that the recipe gives, since `map` gives none.
    let events: Vec<Value> = flow["parse"].iter().map(|event| remap::json(&event.value)).collect();
    assert_eq!(events.len(), texts.len());
    let operations = by_number(&flow, "customerio");
    let letters = by_number(&flow, "dead_letters");
    let (mut wrong, mut with_id, mut ended) = (Vec::new(), 0, BTreeMap::new());
    for (number, line) in by_ourselves(&events).iter().enumerate() {
        let operation = operations.get(&number);
        let wanted = line.pointer("/requests/0/body/batch/0");
        with_id += usize::from(wanted.is_some_and(|o| o.get("id").is_some()));
        let stored = !matches!(
            line["reason"].as_str().unwrap_or_default(),
            "" | "integrations" | "generic_denied"
        );
        if operation != wanted || letters.contains_key(&number) != stored {
            wrong.push(format!("{}\n  {line}\n  {operation:?}", texts[number]));
        }
        *ended.entry(line["outcome"].as_str().unwrap().to_owned()).or_insert(0) += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(with_id > 20 && ended.len() > 4, "{with_id} {ended:?}");
    let told = |letter: &Value| letter.pointer("/metadata/dropped/message").cloned();
    assert!(letters.values().filter_map(told).count() > 10, "{letters:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_side_takes_what_vector_posts() {
    let sandbox = Sandbox::builder().start().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (grpc, listen, admin) = (free_address(), free_address(), free_address());
    let mut config = read("config/behind-vector.yaml");
    for (from, to) in [
        ("./data", dir.path().join("data").display().to_string()),
        ("127.0.0.1:6000", grpc.to_string()),
        ("127.0.0.1:8081", listen.to_string()),
        ("http://127.0.0.1:8090", sandbox.base_url()),
        ("region: us", "region: us\n  merge_settle: 10ms".to_owned()),
    ] {
        assert!(config.contains(from), "{from}");
        config = config.replace(from, &to);
    }
    config += &format!("\nadmin: {{ listen: \"{admin}\" }}\n");
    let path = dir.path().join("config.yaml");
    fs::write(&path, config).unwrap();
    let mut command = crate::support::binary();
    command.args(["run", "-c", path.to_str().unwrap()]).envs(SECRETS);
    let mut run = Running::spawn(command);
    eventually("the pipeline is ready", || {
        std::net::TcpStream::connect(admin).is_ok() && get(admin, "/readyz").status == 200
    });

    let samples = read("config/sample-events.ndjson");
    let url = format!("http://{listen}/");
    let mut variables = SECRETS.to_vec();
    variables.push(("RUDDER_CUSTOMERIO_URL", &url));
    let recipe = Recipe::load("http", &variables);
    let flow = remap::flow(&recipe, "lines", from_file(&lines(&samples)));
    let events = sent(&flow, "rudder_customerio");
    // As the capture of a real Vector with these options: NDJSON without an end.
    let body = events.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
    let body = zstd::encode_all(body.as_bytes(), 0).unwrap();
    let sink = recipe.component("rudder_customerio");
    assert_eq!((sink.text("compression"), sink.text("uri")), (Some("zstd"), Some(&*url)));
    let token = recipe.at("/sinks/rudder_customerio/auth/token").as_str().unwrap();
    let bearer = format!("Bearer {token}");
    let headers = [
        ("content-type", "application/x-ndjson"),
        ("content-encoding", "zstd"),
        ("authorization", &*bearer),
    ];
    let answer = http(listen, "POST", "/", &headers, &body);
    assert_eq!(answer.status, 200, "{}", run.said());

    let ledger = || get(admin, "/status").json()["ledger"].clone();
    eventually("everything is settled", || ledger()["buffered"] == 0);
    let ledger = ledger();
    assert_eq!(ledger["received"], events.len(), "{ledger}");
    assert_eq!(ledger["withheld"], 2, "{ledger}");
    assert!(sandbox.people().len() > 2, "{}", run.said());
    assert!(run.stop().success(), "{}", run.said());
}
