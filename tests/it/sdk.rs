//! Recorded requests of real RudderStack SDKs end as the right people, events, and objects.

use std::fs;
use std::path::Path;

use base64::Engine;
use serde_json::{Value, json};

use crate::support::{Stack, exchange};

/// Sends every request of a recording as the SDK sent it, and checks the answers.
fn replay(stack: &Stack, recording: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/gateway").join(recording);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let recording: Value = serde_json::from_str(&text).unwrap();
    for request in recording["requests"].as_array().unwrap() {
        let (method, target) =
            (request["method"].as_str().unwrap(), request["target"].as_str().unwrap());
        let mut bytes = format!("{method} {target} HTTP/1.1\r\n").into_bytes();
        for header in request["headers"].as_array().unwrap() {
            let (name, value) = (header[0].as_str().unwrap(), header[1].as_str().unwrap());
            if !name.eq_ignore_ascii_case("connection")
                && !name.eq_ignore_ascii_case("content-length")
            {
                bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
            }
        }
        let body = match (request["raw_body_base64"].as_str(), request["raw_body"].as_str()) {
            (Some(base64), _) => base64::engine::general_purpose::STANDARD.decode(base64).unwrap(),
            (None, Some(text)) => text.as_bytes().to_vec(),
            (None, None) if request["body"].is_null() => Vec::new(),
            (None, None) => request["body"].to_string().into_bytes(),
        };
        bytes.extend_from_slice(
            format!("Content-Length: {}\r\nConnection: close\r\n\r\n", body.len()).as_bytes(),
        );
        bytes.extend_from_slice(&body);
        let answer = exchange(stack.gateway, &bytes).unwrap();
        let wanted = if method == "OPTIONS" { 204 } else { 200 };
        assert_eq!(answer.status, wanted, "{method} {target}: {}", answer.text());
    }
}

#[test]
fn a_node_sdk_run_ends_as_a_person_with_events_and_an_object() {
    let stack = Stack::start("");
    replay(&stack, "node-batch.json");
    let ledger = stack.settled();
    // Its identify has a trait `created_at` that is no Unix time, which Customer.io refuses, alone.
    let ends = (&ledger["received"], &ledger["delivered"], &ledger["rejected"]);
    assert_eq!(ends, (&json!(6), &json!(5), &json!(1)), "{ledger}");
    let letters = fs::read_dir(stack.dir.path().join("data/dead-letters")).unwrap();
    let letter =
        letters.map(|f| fs::read_to_string(f.unwrap().path()).unwrap()).collect::<String>();
    let letter: Value = serde_json::from_str(letter.trim()).unwrap();
    assert_eq!(letter["field"], "attributes.created_at", "{letter}");
    assert_eq!(letter["event"]["type"], "identify");

    assert!(stack.attributes("id", "u-1001").is_some(), "the person exists");
    let events = stack.activities("u-1001", "event");
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["name"], "Order Completed");
    assert_eq!(stack.activities("u-1001", "page").len(), 1);

    let relations = crate::support::http(
        stack.sandbox,
        "GET",
        "/v1/customers/u-1001/relationships",
        &[("Authorization", "Bearer any")],
        b"",
    );
    assert_eq!(relations.json()["cio_relationships"][0]["identifiers"]["object_id"], "acme-inc");
}

#[test]
fn a_retrying_node_sdk_does_not_double_events() {
    let stack = Stack::start("");
    replay(&stack, "node-retries.json");
    let ledger = stack.settled();
    assert_eq!(ledger["received"], 9, "{ledger}");
    assert_eq!(stack.activities("u-1001", "event").len(), 1);
}

#[test]
fn a_browser_sdk_run_ends_as_the_person_after_the_alias() {
    for recording in [
        "browser-default.json",
        "browser-batch.json",
        "browser-beacon.json",
        "browser-cross-origin.json",
    ] {
        let stack = Stack::start("");
        replay(&stack, recording);
        let ledger = stack.settled();
        assert_eq!(
            (&ledger["received"], &ledger["delivered"]),
            (&json!(5), &json!(5)),
            "{recording}: {ledger}"
        );
        let person = stack.attributes("id", "u-2002").expect("the person exists");
        assert!(person["attributes"]["email"].is_string(), "{recording}: {person}");
        assert_eq!(
            stack.activities("u-2002", "event")[0]["name"],
            "Order Completed",
            "{recording}"
        );
    }
}

#[test]
fn what_a_browser_visitor_refused_is_withheld_and_leaves_no_trace() {
    let rules = "consent:\n  rules:\n    - { provider: oneTrust, consents: [ C0004 ] }\n    - { provider: custom, consents: [ marketing ], resolution_strategy: and }\n";
    let mut stack = Stack::start(rules);
    replay(&stack, "browser-consent-onetrust.json");
    replay(&stack, "browser-consent-custom.json");
    let ledger = stack.settled();
    assert_eq!((&ledger["received"], &ledger["withheld"]), (&json!(10), &json!(10)), "{ledger}");
    assert!(
        stack.attributes("id", "u-2002").is_none(),
        "a person was made although consent was refused"
    );

    let metrics = crate::support::get(stack.admin, "/metrics").text();
    assert!(
        metrics.lines().any(|l| l.starts_with("rudder_customerio_events_total")
            && l.contains("outcome=\"withheld\"")
            && l.contains("reason=\"generic_denied\"")
            && l.ends_with(" 10")),
        "{metrics}"
    );
    let status = crate::support::get(stack.admin, "/status").text();
    assert_eq!(stack.run.stop().code(), Some(0));
    for (place, text) in [("metrics", &metrics), ("status", &status), ("log", &stack.run.said())] {
        for marker in ["u-2002", "Order Completed", "acme-inc", "WRITE_KEY_TEST", "key-of-the-test"]
        {
            assert!(!text.contains(marker), "{marker} stands in {place}");
        }
    }
    assert_nothing_under(&stack.dir.path().join("data"), &["u-2002", "acme-inc"]);
}

/// Searches the bytes of every file below a folder.
fn assert_nothing_under(folder: &Path, markers: &[&str]) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.map(Result::unwrap) {
        if entry.path().is_dir() {
            assert_nothing_under(&entry.path(), markers);
            continue;
        }
        let bytes = fs::read(entry.path()).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        for marker in markers {
            assert!(!text.contains(marker), "{marker} stands in {}", entry.path().display());
        }
    }
}

#[test]
fn anonymous_browsing_stays_unattached_until_somebody_is_identified() {
    let stack = Stack::start("");
    replay(&stack, "browser-anonymous.json");
    stack.settled();
    let stats = crate::support::get(stack.sandbox, "/_sandbox/people").text();
    assert!(!stats.contains("b0719985"), "an anonymous visitor became a person: {stats}");
}
