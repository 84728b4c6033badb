//! Merges while Customer.io is still busy with what it has accepted.

use super::*;
use crate::sandbox::clock::Clock;

/// Merges after the identifies of both, where each takes 200 ms of the sandbox's clock to be applied.
async fn merged_after(settle: Duration, clock: Clock) -> BTreeMap<String, Value> {
    let mut options = Options::default();
    options.set("apply_delay=200ms").unwrap();
    let mut trip = Trip::to(Sandbox::builder().options(options).clock(clock)).await;
    trip.config.merge_settle = settle;
    let one = |n, id: &str| {
        stored(
            n,
            json!({
                "type": "person", "action": "identify", "identifiers": {"id": id},
                "attributes": {format!("from_{id}"): true}
            }),
        )
    };
    let merge = json!({
        "type": "person", "action": "merge", "primary": {"id": "new"}, "secondary": {"id": "old"}
    });
    trip.deliver(vec![one(0, "old"), one(1, "new"), stored(2, merge)]).await;
    assert_eq!(trip.rejected(), 0);
    // Whatever is still on its way arrives now.
    trip.sandbox.with_engine(|engine| engine.clock().advance(60_000));
    people(&trip.sandbox)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_merge_after_an_identify_waits_until_that_has_settled() {
    let people = merged_after(Duration::from_millis(500), Clock::system()).await;
    assert_eq!(people.keys().collect::<Vec<_>>(), ["new"]);
    assert_eq!(people["new"]["attributes"], json!({"from_new": true, "from_old": true}));
}

/// Why it waits: Customer.io answers 200 and does nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_merge_that_does_not_wait_is_accepted_and_does_nothing() {
    // However long it takes to get there, it is too early.
    let people = merged_after(Duration::ZERO, Clock::standing(1_700_000_000)).await;
    assert_eq!(people.keys().collect::<Vec<_>>(), ["new", "old"]);
}
