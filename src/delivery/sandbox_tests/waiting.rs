//! `Retry-After` in all its forms.

use super::*;

fn limited(status: u16, times: u64, wait: &Value) -> Value {
    json!([{"match": {"path": "/api/v2/batch"}, "when": {"times": times}, "do": {
        "status": status, "retry_after": wait
    }}])
}

/// Seconds from the first request to the second.
fn gap(trip: &Trip) -> f64 {
    let requests = trip.sandbox.requests();
    let batches: Vec<_> = requests.iter().filter(|r| r.path == "/api/v2/batch").collect();
    batches[1].at.since(batches[0].at)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sent_before_the_seconds_that_were_asked_for_have_passed() {
    for status in [429, 503] {
        for (wait, seconds) in [(json!("0.15"), 0.15), (json!(0.1), 0.1), (json!(1), 1.0)] {
            let trip = Trip::new(limited(status, 1, &wait), &[]).await;
            trip.deliver(crowd(3)).await;
            assert_eq!(trip.rejected(), 0);
            // The sandbox notes whole milliseconds.
            assert!(gap(&trip) > seconds - 0.002, "{wait}: {}", gap(&trip));
        }
    }
}

/// A date has whole seconds: one that lies three ahead lies more than two ahead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sent_before_the_date_that_was_asked_for() {
    let trip = Trip::new(limited(429, 1, &json!("date:2")), &[]).await;
    trip.deliver(crowd(3)).await;
    assert_eq!(trip.rejected(), 0);
    assert!(gap(&trip) > 0.99, "{}", gap(&trip));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_past_date_nonsense_and_nothing_wait_no_longer_than_usual() {
    for status in [429, 503] {
        for wait in [json!("date:-20"), json!("soon"), json!("-1"), json!(""), json!("NaN")] {
            let trip = Trip::new(limited(status, 3, &wait), &[]).await;
            trip.deliver(crowd(3)).await;
            assert_eq!(trip.rejected(), 0, "{status} {wait}");
            assert_eq!(trip.sandbox.people().len(), 3, "{status} {wait}");
        }
        let absent = json!([{"when": {"times": 3}, "do": {"status": status}}]);
        let trip = Trip::new(absent, &[]).await;
        trip.deliver(crowd(3)).await;
        assert_eq!((trip.rejected(), trip.sandbox.people().len()), (0, 3), "{status}");
    }
}

/// That it is cut to five minutes is shown where it is read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_of_a_thousand_million_seconds_is_a_wait() {
    for status in [429, 503] {
        let trip = Trip::new(limited(status, 1, &json!(1_000_000_000)), &[]).await;
        let flow = trip.begin(crowd(3)).await;
        flow.is("waiting", &format!("http_{status}")).await;
        // What comes meanwhile waits too.
        let flow = flow.add(crowd(3)).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        let requests = trip.sandbox.requests();
        assert_eq!(requests.iter().filter(|r| r.path == "/api/v2/batch").count(), 1, "{status}");
        assert!(trip.ended.lock().unwrap().is_empty(), "{status}");
        flow.task.abort();
    }
}

/// However often somebody is asked to wait, no event is given up for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn being_asked_to_wait_is_not_an_attempt() {
    for status in [429, 503] {
        let rule = json!([{"match": {"person": "p-0"}, "when": {"times": 30}, "do": {
            "status": status, "retry_after": 0
        }}]);
        let mut trip = Trip::new(rule, &[]).await;
        trip.config.batch.max_items = 1;
        trip.config.retry.give_up_after = Duration::ZERO;
        trip.deliver(crowd(40)).await;
        assert_eq!((trip.rejected(), trip.sandbox.people().len()), (0, 40), "{status}");
    }
}
