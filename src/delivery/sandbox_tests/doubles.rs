//! What may have been applied already is sent again, with the same ids, and nothing else is.

use super::*;

/// Events that are stored after one request was applied without a good answer, among three.
async fn stored_after(effect: &Value, dedupe: &str) -> usize {
    let rule = json!([{"match": {"path": "/api/v2/batch"}, "when": {"times": 1}, "do": effect}]);
    let mut trip = Trip::new(rule, &[dedupe]).await;
    trip.config.batch.max_items = 10;
    if is_endless(effect) {
        trip.config.timeout = GIVEN_UP;
    }
    trip.deliver(crowd(30)).await;
    assert_eq!(trip.rejected(), 0, "{effect}");
    let stats = trip.sandbox.stats().faults;
    assert!(!stats.is_empty(), "{effect} did not happen");
    trip.sandbox.people().iter().map(|person| person.events.len()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_acknowledgement_doubles_nothing_thanks_to_the_ids() {
    for effect in lost() {
        assert_eq!(stored_after(&effect, "dedupe=true").await, 30, "{effect}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_deduplication_exactly_the_unknown_ones_double() {
    for effect in lost() {
        assert_eq!(stored_after(&effect, "dedupe=false").await, 40, "{effect}");
    }
}

/// Whatever leaves ten applied operations unknown.
fn lost() -> Vec<Value> {
    vec![
        json!({"reset": "after_request"}),
        json!({"reset": "mid_response"}),
        json!({"latency": {"p50": "10m", "after": true}}),
        json!({"bad_errors": "empty"}),
        json!({"bad_errors": "cut"}),
        json!({"bad_errors": "html"}),
        json!({"bad_errors": "not_a_list"}),
        json!({"bad_errors": "index_missing"}),
        json!({"bad_errors": "index_out_of_range"}),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_applied_is_sent_once_more_and_doubles_nothing() {
    for effect in [
        json!({"hang": true}),
        json!({"status": 503}),
        json!({"status": 429}),
        json!({"unauthorized": {}}),
        json!({"redirect": {"location": "https://track-eu.customer.io/"}}),
    ] {
        assert_eq!(stored_after(&effect, "dedupe=false").await, 30, "{effect}");
    }
}

/// Without positions it is not known which of them were taken, so each goes alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_cannot_be_placed_is_followed_by_each_operation_alone() {
    for kind in ["index_missing", "index_out_of_range", "not_a_list", "cut", "empty", "html"] {
        let rule = json!([{
            "match": {"path": "/api/v2/batch"}, "when": {"times": 1}, "do": {"bad_errors": kind}
        }]);
        let trip = Trip::new(rule, &["log_body_bytes=1000000"]).await;
        trip.deliver(crowd(5)).await;
        let sizes = |status| trip.batches(status).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!((sizes(207), sizes(200)), (vec![5], vec![1; 5]), "{kind}");
        assert_eq!(trip.rejected(), 0, "{kind}");
    }
}
