//! The v1 form: the same people as by batches, one request per operation.

use super::*;
use crate::config::Api;

async fn trip(api: Api, faults: Value) -> Trip {
    let mut trip = Trip::new(faults, &["log_body_bytes=1000000"]).await;
    trip.config.api = api;
    trip.config.check_credentials = false;
    trip
}

/// One operation of every kind that has a form in v1, and some that have none.
fn all_kinds() -> Vec<Stored> {
    let (who, other) = (json!({"id": "u/1 ü"}), json!({"email": "b+c@example.org"}));
    let person = |action: &str, who: &Value, more: Value| {
        let mut operation = json!({"type": "person", "action": action, "identifiers": who});
        operation.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        operation
    };
    let acme = json!({"object_type_id": "1", "object_id": "acme"});
    let operations = [
        person(
            "identify",
            &who,
            json!({"attributes": {"plan": "pro", "seats": 3, "email": "a@example.org"}}),
        ),
        person("identify", &other, json!({"attributes": {"_timestamp": 1_700_000_000}})),
        person(
            "event",
            &who,
            json!({"name": "Bought", "attributes": {"n": [1, null]}, "timestamp": 1_700_000_000}),
        ),
        person("page", &other, json!({"name": "Home", "timestamp": 1_700_000_001})),
        person("event", &json!({"anonymous_id": "anon 1"}), json!({"name": "Looked"})),
        person(
            "add_device",
            &who,
            json!({"device": {"token": "t/1", "platform": "ios", "last_used": 1_700_000_000, "attributes": {"device_os": "17"}}}),
        ),
        person("add_device", &who, json!({"device": {"token": "t 2", "platform": "android"}})),
        person("delete_device", &who, json!({"device": {"token": "t/1"}})),
        json!({"type": "object", "action": "identify", "identifiers": acme, "attributes": {"size": 5},
            "cio_relationships": [{"identifiers": who}]}),
        person("add_relationships", &other, json!({"cio_relationships": [{"identifiers": acme}]})),
        person("identify", &json!({"id": "old"}), json!({"attributes": {"was": "here"}})),
        json!({"type": "person", "action": "merge", "primary": who, "secondary": {"id": "old"}}),
        person("identify", &json!({"id": "gone"}), json!({})),
        person("delete", &json!({"id": "gone"}), json!({})),
        person("identify", &json!({"id": "never"}), json!({})),
        person("suppress", &json!({"id": "never"}), json!({})),
        person("identify", &json!({"id": "again"}), json!({})),
        person("suppress", &json!({"id": "again"}), json!({})),
        person("unsuppress", &json!({"id": "again"}), json!({})),
        person("identify", &json!({"id": "again"}), json!({"attributes": {"back": true}})),
    ];
    operations.into_iter().enumerate().map(|(n, operation)| stored(n, operation)).collect()
}

/// All that is stored of people.
fn content(trip: &Trip) -> Vec<String> {
    let people = trip.sandbox.people();
    let mut all: Vec<_> = people.into_iter().map(|p| p.content().to_string()).collect();
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_operation_leaves_the_same_people_in_both_forms() {
    let (one, two) = (trip(Api::V1, json!([])).await, trip(Api::V2, json!([])).await);
    for trip in [&one, &two] {
        trip.deliver(all_kinds()).await;
        assert_eq!(trip.letters(), Vec::<Value>::new());
    }
    assert_eq!(content(&one), content(&two));
    assert!(content(&one).len() >= 3);
    let requests = one.sandbox.requests();
    assert_eq!(requests.len(), all_kinds().len(), "one request per operation");
    let batches = one.batches(200);
    assert!(batches.len() == 2 && batches.iter().all(|batch| batch.len() == 1), "{batches:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_story_ends_as_in_sequence_whatever_goes_wrong_with_single_requests() {
    let expected = sequential().await;
    for fault in [
        json!({"when": {"probability": 0.1}, "do": {"status": 503}}),
        json!({"when": {"probability": 0.1}, "do": {"status": 429, "retry_after": 0}}),
        json!({"when": {"probability": 0.1}, "do": {"status": 502, "html": true}}),
        json!({"when": {"probability": 0.1}, "do": {"reset": "after_request"}}),
        json!({"when": {"probability": 0.1}, "do": {"reset": "mid_response"}}),
        json!({"when": {"times": 2}, "do": {"unauthorized": {}}}),
        json!({"when": {"times": 2}, "do": {"status": 403}}),
        json!({"when": {"times": 3}, "do": {"status": 404, "body": "<html>"}}),
        json!({"do": {"latency": {"p50": "1ms", "p99": "5ms"}}}),
    ] {
        let trip = trip(Api::V1, json!([fault])).await;
        trip.deliver(story()).await;
        assert_eq!(trip.letters(), Vec::<Value>::new(), "{fault}");
        assert_eq!(people(&trip.sandbox), expected, "{fault}");
        assert!(trip.batches(200).is_empty(), "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_operation_is_a_letter_with_its_words_and_stops_nobody() {
    let trip = trip(Api::V1, json!([])).await;
    let bad = json!({"type": "person", "action": "identify", "identifiers": {"id": "p-1"},
        "attributes": {"email": "no e-mail"}});
    let mut events = vec![stored(100, bad)];
    events.extend(crowd(4));
    trip.deliver(events).await;
    let [letter] = trip.letters().try_into().unwrap();
    assert_eq!((&letter["outcome"], &letter["reason"]), (&json!("rejected"), &json!("refused")));
    assert_eq!((&letter["field"], &letter["status"]), (&json!("email"), &json!(400)));
    assert_eq!(letter["message"], "email is not valid");
    assert_eq!(people(&trip.sandbox).len(), 4);
}

/// A path that is refused for itself would come back for ever if it held delivery.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_is_not_found_is_a_letter_and_holds_nobody() {
    let not_found = json!({"match": {"person": "p-1"}, "do": {"status": 404, "body": {"meta": {"error": "not found"}}}});
    let trip = trip(Api::V1, json!([not_found])).await;
    trip.deliver(crowd(4)).await;
    let [letter] = trip.letters().try_into().unwrap();
    assert_eq!((&letter["status"], &letter["message"]), (&json!(404), &json!("not found")));
    assert_eq!(people(&trip.sandbox).len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_too_large_is_a_letter_that_says_so() {
    let large = json!({"match": {"person": "p-1"}, "do": {"status": 413}});
    let trip = trip(Api::V1, json!([large])).await;
    trip.deliver(crowd(3)).await;
    let [letter] = trip.letters().try_into().unwrap();
    assert_eq!((&letter["reason"], &letter["status"]), (&json!("too_large"), &json!(413)));
}
