//! A key that is rotated in the middle of a stream: nothing lost, order kept, no restart.

use super::*;
use crate::config::Credential;

const REVOKED: &str = r#"[{"do": {"unauthorized": {"until": "site:new"}}}]"#;

/// A trip with a key in a file.
async fn trip() -> Trip {
    let mut trip = Trip::new(json!([]), &["log_body_bytes=1000000"]).await;
    write(&trip, "old");
    trip.config.api_key = Credential::from_file(trip.dir.path().join("key")).unwrap();
    trip
}

/// Replaces the file as `mv` does.
fn write(trip: &Trip, key: &str) {
    let beside = trip.dir.path().join("key-beside");
    std::fs::write(&beside, format!("{key}\n")).unwrap();
    std::fs::rename(beside, trip.dir.path().join("key")).unwrap();
}

fn revoke_old_key(trip: &Trip) {
    trip.sandbox.set_faults(rules(serde_json::from_str(REVOKED).unwrap()));
}

/// Each person's operations as they were accepted, by number of the round.
fn assert_order(trip: &Trip) {
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for operation in trip.batches(200).into_iter().flatten() {
        let Some(round) = operation["attributes"]["round"].as_u64() else { continue };
        let who = operation["identifiers"]["id"].as_str().unwrap().to_owned();
        let before = last.insert(who.clone(), round);
        assert_eq!(round, before.map_or(0, |before| before + 1), "{who}");
    }
    assert_eq!(last.len(), PEOPLE);
    assert!(last.values().all(|round| *round == 3), "{last:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_revoked_first_and_replaced_later_loses_nothing() {
    let trip = trip().await;
    let mut rest = story();
    let second = rest.split_off(rest.len() / 2);
    let half = rest.len();
    let flow = trip.begin(rest).await;
    flow.ended(half).await;
    revoke_old_key(&trip);
    let flow = flow.add(second).await;
    flow.is("held", "unauthorized").await;
    assert_eq!(trip.ended.lock().unwrap().len(), half, "nothing ends by a refused key");
    write(&trip, "new");
    flow.end().await;
    assert_eq!(trip.rejected(), 0);
    assert_eq!(people(&trip.sandbox), sequential().await);
    assert_order(&trip);
}

/// The order of a careful operator: the new key is there before the old one is revoked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_replaced_before_it_is_revoked_does_not_hold_delivery() {
    let trip = trip().await;
    let mut rest = story();
    let second = rest.split_off(rest.len() / 2);
    let half = rest.len();
    let flow = trip.begin(rest).await;
    flow.ended(half).await;
    let probes = trip.probes();
    write(&trip, "new");
    revoke_old_key(&trip);
    flow.add(second).await.end().await;
    assert_eq!(trip.rejected(), 0);
    assert_eq!(people(&trip.sandbox), sequential().await);
    assert_order(&trip);
    assert!(!trip.batches(401).is_empty(), "the old key was tried");
    assert_eq!(trip.probes(), probes, "delivery was held");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_refused_for_a_while_loses_nothing() {
    let trip = trip().await;
    let flow = trip.begin(story()).await;
    flow.ended(20).await;
    trip.sandbox.set_faults(rules(json!([{"when": {"times": 12}, "do": {"unauthorized": {}}}])));
    flow.end().await;
    assert_eq!(trip.rejected(), 0);
    assert_eq!(people(&trip.sandbox), sequential().await);
    assert_order(&trip);
}

/// A file that is gone for a moment, as between two steps of a deployment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_missing_for_a_while_is_waited_for() {
    let trip = trip().await;
    revoke_old_key(&trip);
    std::fs::remove_file(trip.dir.path().join("key")).unwrap();
    let flow = trip.begin(story()).await;
    flow.is("held", "unauthorized").await;
    write(&trip, "new");
    flow.end().await;
    assert_eq!(trip.rejected(), 0);
    assert_eq!(people(&trip.sandbox), sequential().await);
}
