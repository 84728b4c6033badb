//! Connections that do not come about, or break.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_there_yet_is_waited_for() {
    let mut trip = Trip::new(json!([]), &[]).await;
    // A port at which nobody listens for now. No connection takes it meanwhile, as may happen on
    // 127.0.0.1, which is the only address of its kind elsewhere.
    let host = if cfg!(target_os = "linux") { "127.20.0.1:0" } else { "127.0.0.1:0" };
    let gone = tokio::net::TcpListener::bind(host).await.unwrap();
    let address = gone.local_addr().unwrap();
    drop(gone);
    trip.config.endpoint = Some(format!("http://{address}").parse().unwrap());
    trip.config.check_credentials = false;
    let flow = trip.begin(crowd(5)).await;
    flow.is("waiting", "network").await;
    let late = Sandbox::builder().bind(address.to_string()).start().await.unwrap();
    flow.end().await;
    assert_eq!((trip.rejected(), late.people().len()), (0, 5));
    let requests = late.requests();
    assert_eq!(requests.len(), 1, "nothing had been sent before");
    assert!(requests[0].headers.contains_key("x-retry-count"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_does_not_exist_rejects_nobody() {
    let mut trip = Trip::new(json!([]), &[]).await;
    trip.config.endpoint = Some("https://track.customerio.invalid".parse().unwrap());
    // Some resolvers take their time to say no.
    trip.config.connect_timeout = Duration::from_millis(200);
    trip.config.check_credentials = false;
    let flow = trip.begin(crowd(5)).await;
    flow.until("a wait", |now| {
        now.state == "waiting"
            && matches!(now.reason.as_deref(), Some("network" | "connect_timeout"))
    })
    .await;
    assert!(trip.ended.lock().unwrap().is_empty());
    flow.task.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_reset_when_it_opens_was_not_sent_to() {
    let rule = json!([{"when": {"times": 3}, "do": {"reset": "accept"}}]);
    let mut trip = Trip::new(rule, &["dedupe=false"]).await;
    trip.config.check_credentials = false;
    trip.deliver(crowd(5)).await;
    let events: usize = trip.sandbox.people().iter().map(|person| person.events.len()).sum();
    assert_eq!((trip.rejected(), events), (0, 5));
}

/// Between two batches the server closes; each finds a new connection, and nothing is counted as
/// a failure.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_was_closed_while_idle_is_replaced_without_a_failure() {
    let mut trip = Trip::new(json!([{"do": {"close_idle": "1ms"}}]), &["dedupe=false"]).await;
    trip.config.check_credentials = false;
    let mut flow = trip.begin(vec![]).await;
    for round in 1..=10 {
        flow = flow.add(crowd(5)).await;
        flow.ended(5 * round).await;
        // A request that meets the close on its way is one that failed.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    flow.end().await;
    assert_eq!(trip.rejected(), 0);
    let requests = trip.sandbox.requests();
    assert!(requests.iter().all(|request| !request.headers.contains_key("x-retry-count")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_trickles_is_read_to_its_end() {
    let rule = json!([{"match": {"path": "/api/v2/batch"}, "do": {
        "items": {"indexes": [1]}, "error": {"reason": "r", "field": "f", "message": "m"},
        "slow_body": "1ms"
    }}]);
    let trip = Trip::new(rule, &[]).await;
    trip.deliver(crowd(5)).await;
    assert_eq!((trip.rejected(), trip.sandbox.people().len()), (1, 4));
}

/// Longer than `timeout` it must not take: then nobody knows what became of the request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_trickles_for_too_long_leaves_the_request_unknown() {
    let rule = json!([{
        "match": {"path": "/api/v2/batch"}, "when": {"times": 1}, "do": {"slow_body": "10m"}
    }]);
    let mut trip = Trip::new(rule, &["dedupe=false"]).await;
    trip.config.timeout = GIVEN_UP;
    trip.deliver(crowd(5)).await;
    let events: usize = trip.sandbox.people().iter().map(|person| person.events.len()).sum();
    assert_eq!((trip.rejected(), events), (0, 10));
}
