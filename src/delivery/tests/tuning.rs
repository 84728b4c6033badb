//! Limits that change while it works.

use super::*;

#[tokio::test]
async fn other_limits_hold_for_what_leaves_from_then_on() {
    let world = World::new(Fake::new(|n, names| match n {
        0 => Reply::Hold(hold("forbidden")),
        _ => delivered(names),
    }));
    *world.fake.probes.lock().unwrap() = vec![Err(hold("unauthorized")); 3];
    world.put_each(&["a1", "b1", "c1", "d1", "e1", "f1", "g1"]).await;
    let (handle, task) = world.start();
    let mut config = world.config.clone();
    config.requests_per_second = 50_000;
    config.batch.max_items = 3;
    handle.retune(Tuning::from(&config));
    world.finish(task).await;
    assert_eq!(handle.status().rate, 50_000.0);
    assert_eq!(world.counts(), (7, 0));
    // Also what had been tried as a whole.
    assert!(world.fake.requests()[1..].iter().all(|names| names.len() <= 3));
}

#[tokio::test]
async fn a_shorter_patience_ends_what_is_failing_now() {
    let later = Verdict::Later(refusal("busy"));
    let world = World::new(Fake::new(move |_, names| {
        let of = |name: &String| if name == "a1" { later.clone() } else { Verdict::Delivered };
        Reply::Items(names.iter().map(of).collect())
    }));
    world.put_each(&["a1", "a2"]).await;
    let (handle, task) = world.start();
    until(|| world.fake.requests().len() > 3).await;
    let mut config = world.config.clone();
    config.retry.give_up_after = Duration::from_millis(1);
    handle.retune(Tuning::from(&config));
    world.finish(task).await;
    assert_eq!(world.counts(), (1, 1));
    assert_eq!(world.letters()[0]["reason"], "expired");
}

#[tokio::test]
async fn a_shorter_longest_back_off_ends_the_waits_that_are_longer() {
    let mut world = World::new(Fake::new(|n, names| match n {
        0 => again("http_503"),
        _ => delivered(names),
    }));
    world.config.retry.initial = Duration::from_secs(1 << 30);
    world.config.retry.max = Duration::from_secs(1 << 30);
    world.put_each(&["a1"]).await;
    let (handle, task) = world.start();
    until(|| handle.status().state == "waiting").await;
    let mut config = world.config.clone();
    config.retry.max = Duration::from_millis(1);
    handle.retune(Tuning::from(&config));
    world.finish(task).await;
    assert_eq!(world.counts(), (1, 0));
}

#[tokio::test]
async fn a_lowered_rate_rises_while_nothing_is_sent() {
    let mut world = World::new(Fake::new(|n, names| match n {
        0 => again("http_429"),
        _ => delivered(names),
    }));
    world.config.requests_per_second = 1_000;
    world.pace.rate_raised_every = Duration::from_millis(50);
    world.put_each(&["a1"]).await;
    let (handle, task) = world.start();
    until(|| handle.status().rate < 1_000.0).await;
    until(|| world.counts() == (1, 0)).await;
    until(|| handle.status().rate == 1_000.0).await;
    assert_eq!(world.fake.requests().len(), 2);
    world.finish(task).await;
}
