//! Each kind of answer, and what becomes of the operations.

use super::*;

/// A fault of data requests alone.
fn batch(when: Value, effect: Value) -> Value {
    json!([{"match": {"path": "/api/v2/batch"}, "when": when, "do": effect}])
}

async fn trip(faults: Value) -> Trip {
    let mut trip = Trip::new(faults, &["log_body_bytes=1000000"]).await;
    // A hold would be seen by its probes alone.
    trip.config.check_credentials = false;
    trip
}

fn who(operation: &Value) -> &str {
    operation["identifiers"]["id"].as_str().unwrap()
}

/// Whom the dead letters are about, in order of their names.
fn refused(trip: &Trip) -> Vec<String> {
    let mut all: Vec<_> =
        trip.letters().iter().map(|letter| who(&letter["operations"][0]).to_owned()).collect();
    all.sort();
    all
}

fn names(trip: &Trip) -> Vec<String> {
    people(&trip.sandbox).into_keys().collect()
}

#[tokio::test]
async fn success_of_any_kind_delivers_and_what_is_not_understood_is_counted() {
    let recorder = crate::telemetry::recorder::build();
    let shown = recorder.handle();
    let _recorder = metrics::set_default_local_recorder(&recorder);
    let mut unexpected = 0;
    for (status, body, counts) in [
        (200, json!({}), false),
        (200, json!(""), false),
        (200, json!(" \n"), false),
        (200, json!("<html>"), true),
        (200, json!([]), true),
        (201, json!({}), false),
        (202, json!({}), false),
        (204, json!(""), false),
        (226, json!({"id": 7}), false),
        (207, json!({"errors": []}), true),
    ] {
        let trip = trip(batch(json!({}), json!({"status": status, "body": body}))).await;
        // The requests are made in this thread, where the recorder is.
        trip.deliver(crowd(3)).await;
        assert_eq!(trip.rejected(), 0, "{status} {body}");
        assert_eq!(trip.sandbox.requests().len(), 1, "{status} {body}");
        unexpected += u32::from(counts);
        let text = shown.render();
        let line = text.lines().find(|line| line.contains("code=\"unexpected_answer\""));
        let count = line.map_or("0", |line| line.rsplit(' ').next().unwrap());
        assert_eq!(count, unexpected.to_string(), "{status} {body}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_207_rejects_the_listed_item_at_each_position_and_delivers_the_others() {
    for effect in ["items", "items_in_200"] {
        for position in 0..6 {
            let chosen = json!({effect: {"indexes": [position]}});
            let trip = trip(batch(json!({}), chosen)).await;
            trip.deliver(crowd(6)).await;
            let one = format!("p-{position}");
            assert_eq!(refused(&trip), [one.as_str()], "{effect} {position}");
            let mut others: Vec<_> = (0..6).map(|n| format!("p-{n}")).collect();
            others.retain(|name| *name != one);
            assert_eq!(names(&trip), others, "{effect} {position}");
            assert_eq!(trip.sandbox.requests().len(), 1, "{effect} {position}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_207_for_all_rejects_all_and_one_for_none_rejects_none() {
    for (faults, rejected) in [
        (batch(json!({}), json!({"items": {"probability": 1.0}})), 6),
        (batch(json!({}), json!({"items": {"person": "nobody"}})), 0),
    ] {
        let trip = trip(faults).await;
        trip.deliver(crowd(6)).await;
        assert_eq!((trip.rejected(), trip.letters().len()), (rejected, rejected));
        assert_eq!(names(&trip).len(), 6 - rejected);
        assert_eq!(trip.sandbox.requests().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_has_all_words_about_its_item() {
    let errors = json!({"errors": [
        {"batch_index": 1, "reason": "a", "field": "f", "message": "m"},
        {"batch_index": 1, "reason": "b", "field": "g", "message": "n"},
    ]});
    let trip = trip(batch(json!({}), json!({"status": 207, "body": errors}))).await;
    trip.deliver(crowd(3)).await;
    let [letter] = trip.letters().try_into().unwrap();
    assert_eq!(letter["outcome"], "rejected");
    assert_eq!(letter["reason"], "refused");
    assert_eq!((&letter["field"], &letter["message"]), (&json!("f; g"), &json!("m; n")));
    assert_eq!(letter["status"], 207);
    assert_eq!(letter["unknown"], false);
}

/// The valid entry counts; whoever the other one meant is sent again alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_cannot_be_placed_is_never_ignored() {
    for other in [json!({}), json!({"batch_index": 9}), json!({"batch_index": "1"}), json!("x")] {
        let errors = json!({"errors": [{"batch_index": 0, "reason": "invalid"}, other]});
        let answer = json!({"status": 207, "body": errors});
        let trip = trip(batch(json!({"times": 1}), answer)).await;
        trip.deliver(crowd(4)).await;
        assert_eq!(refused(&trip), ["p-0"], "{other}");
        assert_eq!(names(&trip), ["p-1", "p-2", "p-3"], "{other}");
        let alone = trip.batches(200);
        assert!(alone.iter().all(|batch| batch.len() == 1) && alone.len() == 3, "{alone:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_400_that_names_items_sends_the_others_again_at_once_in_one_request() {
    let errors = json!({"errors": [{"batch_index": 2, "reason": "invalid", "field": "name"}]});
    let trip = trip(batch(json!({"times": 1}), json!({"status": 400, "body": errors}))).await;
    trip.deliver(crowd(6)).await;
    assert_eq!(refused(&trip), ["p-2"]);
    let sizes = |status| trip.batches(status).iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!((sizes(400), sizes(200)), (vec![6], vec![5]));
    let order: Vec<_> = trip.batches(200)[0].iter().map(|o| who(o).to_owned()).collect();
    assert_eq!(order, ["p-0", "p-1", "p-3", "p-4", "p-5"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_batch_is_halved_until_the_culprit_stands_alone() {
    for status in [400, 406, 409, 410, 413, 414, 416, 418, 422, 431, 451, 499] {
        let rule = json!([{"match": {"person": "p-11"}, "do": {
            "status": status, "body": {"meta": {"error": "not like this"}}
        }}]);
        let trip = trip(rule).await;
        trip.deliver(crowd(16)).await;
        let [letter] = trip.letters().try_into().unwrap();
        assert_eq!(who(&letter["operations"][0]), "p-11", "{status}");
        let reason = if status == 413 { "too_large" } else { "refused" };
        assert_eq!((&letter["reason"], &letter["status"]), (&json!(reason), &json!(status)));
        assert_eq!(letter["message"], "not like this");
        assert_eq!(names(&trip).len(), 15, "{status}");
        // The whole, and two halves on each of four levels.
        assert!(trip.sandbox.requests().len() <= 9, "{status}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_split_keeps_the_order_of_a_person() {
    // The bad one is of the same person as those before and behind it.
    let bad = |n| {
        stored(
            n,
            json!({"type": "person", "action": "event", "name": "bad", "identifiers": {"id": "p"}}),
        )
    };
    let step = |n: usize| {
        stored(
            n,
            json!({
                "type": "person", "action": "identify", "identifiers": {"id": "p"},
                "attributes": {"step": n}
            }),
        )
    };
    let rule = json!([{"match": {"body_contains": "\"bad\""}, "do": {"status": 400}}]);
    let trip = trip(rule).await;
    trip.deliver((0..16).map(|n| if n == 6 { bad(n) } else { step(n) }).collect()).await;
    assert_eq!(trip.rejected(), 1);
    let accepted: Vec<_> =
        trip.batches(200).iter().flatten().map(|o| o["attributes"]["step"].as_u64()).collect();
    let expected: Vec<_> = (0..16).filter(|n| *n != 6).map(Some).collect();
    assert_eq!(accepted, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_passes_is_tried_again_with_a_count_and_rejects_nobody() {
    for status in [408, 421, 423, 425, 429, 500, 502, 503, 504, 520, 522, 524, 599] {
        let trip = trip(batch(json!({"times": 2}), json!({"status": status}))).await;
        trip.deliver(crowd(4)).await;
        assert_eq!((trip.rejected(), names(&trip).len()), (0, 4), "{status}");
        let requests = trip.sandbox.requests();
        let count = |n: usize| requests[n].headers.get("x-retry-count").map(String::as_str);
        let tries: Vec<_> = (0..requests.len()).map(count).collect();
        // Nobody looked at a request that came too early: it was no attempt.
        let counted = if status == 429 { [None; 3] } else { [None, Some("1"), Some("2")] };
        assert_eq!(tries, counted, "{status}");
    }
}

/// What an operator must mend, by status and reason.
fn holds() -> Vec<(Value, &'static str)> {
    let mut holds = vec![
        (json!({"unauthorized": {}}), "unauthorized"),
        (json!({"redirect": {"location": "https://track-eu.customer.io/x"}}), "redirected"),
    ];
    for (status, code) in [
        (401, "unauthorized"),
        (402, "forbidden"),
        (403, "forbidden"),
        (404, "protocol"),
        (405, "protocol"),
        (407, "proxy"),
        (411, "protocol"),
        (415, "protocol"),
        (426, "protocol"),
        (501, "protocol"),
        (505, "protocol"),
        (300, "redirected"),
        (303, "redirected"),
        (304, "redirected"),
    ] {
        holds.push((json!({"status": status}), code));
    }
    for status in [301, 302, 307, 308] {
        let location = "https://track.customer.io/api/v2/batch";
        let redirect = json!({"redirect": {"status": status, "location": location}});
        holds.push((redirect, "redirected"));
    }
    holds
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_operator_must_mend_holds_delivery_until_it_is_mended() {
    for (effect, code) in holds() {
        // The whole API answers so, probes as well.
        let trip = trip(json!([{"do": effect}])).await;
        let flow = trip.begin(crowd(5)).await;
        flow.is("held", code).await;
        flow.until("a probe", |_| trip.probes() >= 2).await;
        assert_eq!(trip.batches(200).len() + trip.ended.lock().unwrap().len(), 0, "{effect}");
        let data = trip.sandbox.requests().len() - trip.probes();
        assert_eq!(data, 1, "only probes while it is held: {effect}");
        trip.sandbox.set_faults(vec![]);
        flow.end().await;
        assert_eq!((trip.rejected(), names(&trip).len()), (0, 5), "{effect}");
    }
}

/// The region endpoint may answer well while data are refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_are_tried_again_after_a_good_probe() {
    for (effect, _) in holds() {
        let trip = trip(batch(json!({"times": 3}), effect.clone())).await;
        trip.deliver(crowd(5)).await;
        assert_eq!((trip.rejected(), names(&trip).len()), (0, 5), "{effect}");
        assert!(trip.probes() >= 3, "{effect}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirect_is_never_followed() {
    let other = Sandbox::builder().start().await.unwrap();
    for status in [301, 302, 307, 308] {
        let location = format!("{}/api/v2/batch", other.base_url());
        let effect = json!({"redirect": {"status": status, "location": location}});
        let trip = trip(json!([{"when": {"times": 3}, "do": effect}])).await;
        trip.deliver(crowd(2)).await;
        assert_eq!(trip.rejected(), 0);
    }
    assert!(other.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_named_reason_of_an_item_is_tried_again_later() {
    let errors = json!({"errors": [{"batch_index": 1, "reason": "busy"}]});
    let mut trip = trip(batch(json!({"times": 3}), json!({"status": 207, "body": errors}))).await;
    trip.config.retry.item_reasons = vec!["busy".into()];
    trip.config.batch.max_items = 2;
    trip.config.concurrency = 1;
    trip.deliver(crowd(2)).await;
    assert_eq!(trip.rejected(), 0);
    // A fixed answer applies nothing: only what was sent again is there.
    assert_eq!(names(&trip), ["p-1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_that_are_refused_at_the_start_send_nothing() {
    let mut trip = trip(json!([{"when": {"times": 4}, "do": {"unauthorized": {}}}])).await;
    trip.config.check_credentials = true;
    trip.deliver(crowd(5)).await;
    let requests = trip.sandbox.requests();
    let first_data = requests.iter().position(|request| request.method == "POST").unwrap();
    assert_eq!(
        (first_data, requests[first_data].status),
        (5, 200),
        "four refusals, one good probe"
    );
    assert_eq!(trip.rejected(), 0);
}
