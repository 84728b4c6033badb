//! Merges while Customer.io is still busy with what it has accepted.

use std::time::Instant;

use super::*;
use crate::sandbox::clock::Clock;

/// Ten seconds there are one second here.
const FASTER: u32 = 10;

/// Merges right after the identifies of both, where each takes 2 s to be applied.
async fn merged_after(settle: Duration) -> BTreeMap<String, Value> {
    let clock = Clock::standing(1_700_000_000);
    let mut options = Options::default();
    options.set("apply_delay=2s").unwrap();
    let mut trip = Trip::to(Sandbox::builder().options(options).clock(clock.clone())).await;
    trip.config.merge_settle = settle / FASTER;
    let began = Instant::now();
    let time = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let passed = (began.elapsed() * FASTER).as_millis();
            clock.set(1_700_000_000_000 + i64::try_from(passed).unwrap());
        }
    });
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
    time.abort();
    drop(time.await);
    trip.sandbox.with_engine(|engine| engine.clock().advance(60_000));
    people(&trip.sandbox)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_merge_after_an_identify_waits_until_that_has_settled() {
    let people = merged_after(Duration::from_secs(5)).await;
    assert_eq!(people.keys().collect::<Vec<_>>(), ["new"]);
    assert_eq!(people["new"]["attributes"], json!({"from_new": true, "from_old": true}));
}

/// Why it waits: Customer.io answers 200 and does nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_merge_that_does_not_wait_is_accepted_and_does_nothing() {
    let people = merged_after(Duration::ZERO).await;
    assert_eq!(people.keys().collect::<Vec<_>>(), ["new", "old"]);
}
