//! Nothing of an event that may not be sent, and no secret, stands anywhere: not in a file, not in the
//! log, not on an endpoint. What may be kept is found by the same search, so that it can fail.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};
use serde_json::{Value, json};

use crate::support::lives::{ADMIN_TOKEN, API_KEY, Lives, SITE_ID};
use crate::support::{binary, get, http};

const WRITE_KEY: &str = "WRITE_KEY_TEST";

/// In every place of an event that can hold text.
fn marked(marker: &str, mut event: Value) -> Value {
    let text = |place: &str| json!(format!("{marker}-{place}"));
    event["userId"] = text("user");
    event["anonymousId"] = text("anonymous");
    event["messageId"] = text("message");
    event["event"] = text("name");
    event["traits"] = json!({"email": format!("{marker}@example.org"), marker: text("trait")});
    event["properties"] = json!({marker: [text("property")]});
    event["context"]["traits"] = json!({"note": text("context")});
    event
}

fn denied() -> Value {
    json!({"consentManagement": {"provider": "oneTrust", "deniedConsentIds": ["C4"]}})
}

/// Requests whose events must leave no trace, each with its marker and status.
fn unwanted() -> Vec<(&'static str, String, u16)> {
    let batch = |event: Value| json!({ "batch": [event] }).to_string();
    let deep = format!(
        "{{\"batch\":[{{\"type\":\"track\",\"event\":\"zz-deep-zz\",\"userId\":\"zz-deep-zz\",\
         \"properties\":{}1{}}}]}}",
        "[".repeat(1_000),
        "]".repeat(1_000)
    );
    let off = json!({"All": true, "Customer IO": false});
    vec![
        (
            "zz-withheld-track-zz",
            batch(marked("zz-withheld-track-zz", json!({"type": "track", "context": denied()}))),
            200,
        ),
        (
            "zz-withheld-identify-zz",
            batch(marked(
                "zz-withheld-identify-zz",
                json!({"type": "identify", "context": denied()}),
            )),
            200,
        ),
        (
            "zz-integrations-zz",
            batch(marked("zz-integrations-zz", json!({"type": "track", "integrations": off}))),
            200,
        ),
        ("zz-unmapped-zz", batch(marked("zz-unmapped-zz", json!({"type": "dance"}))), 200),
        ("zz-untyped-zz", batch(marked("zz-untyped-zz", json!({"type": 7}))), 200),
        ("zz-deep-zz", deep, 200),
        (
            "zz-nobody-zz",
            json!({"batch": [{"type": "track", "event": "zz-nobody-zz"}]}).to_string(),
            400,
        ),
        ("zz-broken-zz", "{\"batch\":[{\"userId\":\"zz-broken-zz\"".to_owned(), 400),
    ]
}

fn secrets() -> Vec<String> {
    let pairs = [format!("{SITE_ID}:{API_KEY}"), format!("{WRITE_KEY}:")];
    let plain = [API_KEY, ADMIN_TOKEN, WRITE_KEY, SITE_ID].map(str::to_owned);
    let coded = pairs.iter().chain(&plain).flat_map(|text| {
        [STANDARD.encode(text), STANDARD_NO_PAD.encode(text), URL_SAFE.encode(text)]
    });
    coded.chain(plain.clone()).collect()
}

/// Everything in which something could stand, with where it is.
#[derive(Default)]
struct Traces(Vec<(String, Vec<u8>)>);

impl Traces {
    fn add(&mut self, place: &str, bytes: impl Into<Vec<u8>>) {
        self.0.push((place.to_owned(), bytes.into()));
    }

    fn add_files(&mut self, when: &str, folder: &Path) {
        for entry in fs::read_dir(folder).expect("list").map(|entry| entry.expect("list")) {
            if entry.path().is_dir() {
                self.add_files(when, &entry.path());
            } else {
                let bytes = fs::read(entry.path()).expect("read");
                self.add(&format!("{when}: {}", entry.path().display()), bytes);
            }
        }
    }

    fn add_endpoints(&mut self, when: &str, lives: &Lives) {
        for path in ["/metrics", "/status", "/readyz", "/livez", "/nowhere"] {
            let answer = lives.ask("GET", path).expect("an answer");
            self.add(&format!("{when}: {path}"), answer.body);
            self.add(&format!("{when}: {path} without token"), get(lives.admin, path).body);
        }
    }

    /// The places in which a text stands.
    fn of(&self, text: &str) -> Vec<&str> {
        let holds = |bytes: &[u8]| memchr::memmem::find(bytes, text.as_bytes()).is_some();
        self.0.iter().filter(|(_, bytes)| holds(bytes)).map(|(place, _)| place.as_str()).collect()
    }
}

fn send(lives: &Lives, body: &str, status: u16) {
    let auth = crate::support::AUTH;
    let answer = http(lives.gateway, "POST", "/v1/batch", &[auth], body.as_bytes());
    assert_eq!(answer.status, status, "{}", answer.text());
}

fn search(format: &str) {
    let mut lives = Lives::new(&json!({
        "log": {"level": "trace", "format": format},
        "customerio": {"timeout": "1s"},
    }));
    let mut traces = Traces::default();
    lives.start();
    assert_eq!(lives.ask("POST", "/pause").expect("pause").status, 200);

    let wanted = marked("zz-wanted-zz", json!({"type": "track"}));
    let failed = json!({"type": "track", "userId": "zz-failed-zz", "messageId": "zz-failed-id-zz"});
    send(&lives, &json!({"batch": [wanted, failed]}).to_string(), 200);
    // Beside one that is kept, too.
    let beside = marked("zz-beside-zz", json!({"type": "track", "context": denied()}));
    let neighbour = marked("zz-neighbour-zz", json!({"type": "identify"}));
    send(&lives, &json!({"batch": [beside, neighbour]}).to_string(), 200);
    for (_, body, status) in unwanted() {
        send(&lives, &body, status);
    }
    // Refused before it is looked at.
    let other = [("Authorization", "Basic enotb3RoZXIta2V5LXp6Og==")];
    let stranger = marked("zz-stranger-zz", json!({"type": "track"}));
    let body = json!({ "batch": [stranger] }).to_string();
    assert_eq!(http(lives.gateway, "POST", "/v1/batch", &other, body.as_bytes()).status, 401);
    http(lives.gateway, "GET", "/v1/track?writeKey=zz-query-key-zz", &[], b"");

    traces.add_endpoints("paused", &lives);
    let status = lives.status();
    assert_eq!(status["ledger"]["withheld"], 3, "{status}");
    assert_eq!(status["ledger"]["filtered"], 2, "{status}");
    assert_eq!(status["ledger"]["malformed"], 2, "{status}");
    traces.add_files("paused", &lives.data());
    traces.add("log of the first life", lives.leave_at_once());
    traces.add_files("between", &lives.data());
    let config = lives.config().display().to_string();
    for (what, args) in [("inspect", vec!["--json"]), ("export", vec![])] {
        let output = binary().args(["-c", &config, "buffer", what]).args(args).output();
        let output = output.expect("run the command");
        assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
        traces.add(what, output.stdout);
        traces.add(&format!("messages of {what}"), output.stderr);
    }

    lives.set_faults(&json!([
        {"when": {"times": 1}, "do": {"status": 503}},
        {"when": {"times": 1}, "do": {"reset": "after_request"}},
        {"when": {"times": 1}, "do": {"bad_errors": "html"}},
    ]));
    lives.start();
    lives.settled();
    traces.add_endpoints("delivered", &lives);
    traces.add_files("delivered", &lives.data());
    let (code, said) = lives.stop();
    assert_eq!(code.code(), Some(0), "{said}");
    traces.add("log of the second life", said);
    traces.add_files("at the end", &lives.data());

    // The search finds what is there: the event that waits, and the letter of the one that failed.
    let places = traces.of("zz-wanted-zz");
    assert!(places.contains(&"export"), "the search finds nothing: {places:?}");
    assert!(places.iter().any(|place| place.starts_with("between: ")), "{places:?}");
    assert!(traces.of("zz-failed-zz").iter().any(|place| place.contains("dead-letters")));

    for (marker, _, _) in unwanted() {
        assert_eq!(traces.of(marker), [""; 0], "{marker}");
    }
    for marker in ["zz-beside-zz", "zz-stranger-zz", "enotb3RoZXIta2V5LXp6", "zz-query-key-zz"] {
        assert_eq!(traces.of(marker), [""; 0], "{marker}");
    }
    for secret in secrets() {
        assert_eq!(traces.of(&secret), [""; 0], "{secret}");
    }
    // What may be stored is still nobody's business elsewhere.
    for marker in ["zz-wanted-zz", "zz-failed-zz", "zz-failed-id-zz", "zz-neighbour-zz"] {
        let public = |place: &&str| {
            !place.contains('/') || place.contains(": /metrics") || place.contains(": /status")
        };
        let places: Vec<_> = traces.of(marker).into_iter().filter(public).collect();
        assert_eq!(
            places.iter().filter(|place| **place != "export").count(),
            0,
            "{marker}: {places:?}"
        );
    }
    // Customer.io got what it may have, and nothing else.
    let people = serde_json::to_string(&lives.sandbox.people()).expect("people");
    assert!(people.contains("zz-wanted-zz") && people.contains("zz-neighbour-zz"), "{people}");
    for (marker, _, _) in unwanted() {
        assert!(!people.contains(marker), "{marker} was delivered");
    }
    assert!(!people.contains("zz-beside-zz"), "{people}");
}

#[test]
fn what_may_not_be_sent_leaves_no_trace_in_files_text_log_and_endpoints() {
    search("text");
}

#[test]
fn what_may_not_be_sent_leaves_no_trace_in_a_log_of_json() {
    search("json");
}
