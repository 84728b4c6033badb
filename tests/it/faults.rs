//! SIGKILL while Customer.io misbehaves: everything ends as it would without either.

use serde_json::{Value, json};

use crate::kills::{Schedule, kill_under_load};

/// Few kills, since there are many faults.
fn kill_amid(faults: Value) {
    kill_under_load(&Schedule { kills: 4, faults, ..Schedule::default() });
}

#[test]
fn kills_amid_server_errors() {
    kill_amid(json!([
        {"when": {"probability": 0.2}, "do": {"status": 503}},
        {"when": {"probability": 0.1}, "do": {"status": 502, "html": true}},
        {"when": {"probability": 0.1}, "do": {"status": 408, "latency": "5ms"}},
    ]));
}

#[test]
fn kills_amid_rate_limits() {
    kill_amid(json!([
        {"when": {"every": 20, "times": 2}, "do": {"status": 429, "retry_after": 1}},
        {"when": {"every": 30, "times": 1}, "do": {"status": 503, "retry_after": "date"}},
        {"do": {"rate_limit": {"per_second": 150, "burst": 20}}},
    ]));
}

#[test]
fn kills_amid_lost_acknowledgements() {
    kill_amid(json!([
        {"when": {"probability": 0.2}, "do": {"reset": "after_request"}},
        {"when": {"probability": 0.1}, "do": {"reset": "mid_response"}},
        {"when": {"probability": 0.1}, "do": {"reset": "accept"}},
    ]));
}

#[test]
fn kills_amid_items_refused_in_a_207_and_in_a_200() {
    for name in ["items", "items_in_200"] {
        let faults = json!([
            {"when": {"probability": 0.1}, "do": {"status": 500}},
            {"do": {name: {"person": "p0-0"}, "latency": "5ms"}},
        ]);
        let outcast = Some("p0-0");
        kill_under_load(&Schedule { kills: 3, faults, outcast, ..Schedule::default() });
    }
}

#[test]
fn kills_amid_answers_that_cannot_be_read() {
    let kinds = ["index_out_of_range", "index_missing", "not_a_list", "cut", "empty", "html"];
    let rule = |kind| json!({"when": {"probability": 0.08}, "do": {"bad_errors": kind}});
    kill_amid(kinds.into_iter().map(rule).collect());
}

#[test]
fn kills_amid_batches_refused_as_a_whole() {
    kill_amid(json!([{"do": {"whole_batch_400": "bad_items", "latency": "2ms"}}]));
}

#[test]
fn kills_amid_slow_and_hanging_answers() {
    let faults = json!([
        {"when": {"every": 25}, "do": {"hang": true}},
        {"when": {"probability": 0.2}, "do": {"slow_body": "10ms"}},
        {"when": {"probability": 0.2}, "do": {"close_idle": "1ms"}},
        {"do": {"latency": {"p50": "5ms", "p99": "150ms", "after": true}}},
    ]);
    let config = json!({"customerio": {"timeout": "1s"}});
    kill_under_load(&Schedule { kills: 4, faults, config, ..Schedule::default() });
}

#[test]
fn kills_amid_a_refused_key_and_a_redirect() {
    kill_amid(json!([
        {"do": {"unauthorized": {"from": "200ms", "to": "700ms"}}},
        {"when": {"after": "900ms", "for": "200ms"},
            "do": {"redirect": {"location": "https://track-eu.customer.io/"}}},
        {"do": {"latency": "5ms"}},
    ]));
}
