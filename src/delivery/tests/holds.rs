//! What the metric of holds shows.

use super::*;

#[tokio::test]
async fn what_is_forbidden_is_tried_with_data_although_the_probe_stays_forbidden() {
    let mut world = World::new(Fake::new(|n, names| match n {
        0 | 1 => Reply::Hold(hold("forbidden")),
        _ => delivered(names),
    }));
    *world.fake.probes.lock().unwrap() = vec![Err(hold("forbidden")); 100_000];
    world.pace.forbidden_data = Duration::from_millis(4);
    world.config.batch.max_items = 1;
    world.config.concurrency = 1;
    world.put_each(&["a1", "b1"]).await;
    world.run().await;
    assert_eq!(world.counts(), (2, 0));
}

#[tokio::test]
async fn the_message_of_a_hold_says_when_the_next_try_is() {
    let log = panics::Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _subscriber = tracing::subscriber::set_default(subscriber);
    let world = World::new(Fake::new(|n, names| match n {
        0 => Reply::Hold(hold("unauthorized")),
        _ => delivered(names),
    }));
    world.put_each(&["a1"]).await;
    world.run().await;
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let line = text.lines().find(|line| line.contains("Delivery is held")).unwrap();
    assert!(line.contains("next_try=") && !line.contains("next_try=0ns"), "{line}");
}

#[tokio::test]
async fn an_event_that_is_rejected_is_no_failed_request_besides() {
    let recorder = crate::telemetry::recorder::build();
    let shown = recorder.handle();
    let _recorder = metrics::set_default_local_recorder(&recorder);
    let mut world = World::new(Fake::new(|n, names| match n {
        0 => Reply::Items(names.iter().map(|_| Verdict::Rejected(Refusal::default())).collect()),
        _ => Reply::Split(Refusal::default()),
    }));
    world.config.batch.max_items = 1;
    world.put_each(&["a1", "b1"]).await;
    world.run().await;
    assert_eq!(world.counts(), (0, 2));
    let text = shown.render();
    assert!(!text.contains("request_failed"), "{text}");
}

#[tokio::test]
async fn a_reason_that_another_request_replaces_is_not_shown_for_ever() {
    let recorder = crate::telemetry::recorder::build();
    let shown = recorder.handle();
    let _recorder = metrics::set_default_local_recorder(&recorder);
    // Both are under way at once.
    let mut world = World::new(Fake::new(|n, names| match n {
        0 => Reply::Hold(hold("unauthorized")),
        1 => Reply::Hold(hold("forbidden")),
        _ => delivered(names),
    }));
    world.config.batch.max_items = 1;
    world.put_each(&["a1", "b1"]).await;
    world.run().await;
    let text = shown.render();
    let held: Vec<&str> =
        text.lines().filter(|l| l.starts_with("rudder_customerio_delivery_held{")).collect();
    for reason in ["unauthorized", "forbidden"] {
        assert!(held.iter().any(|line| line.contains(reason)), "{held:?}");
    }
    assert!(held.iter().all(|line| line.ends_with(" 0")), "{held:?}");
}

#[tokio::test]
async fn a_wish_to_try_again_while_a_probe_is_under_way_is_not_forgotten() {
    let mut world = World::new(Fake::new(|n, names| match n {
        0 => Reply::Hold(hold("unauthorized")),
        _ => delivered(names),
    }));
    world.pace.probe_first = Duration::from_secs(3_600);
    world.pace.probe_longest = Duration::from_secs(3_600);
    world.put_each(&["a1"]).await;
    let (handle, task) = world.start();
    until(|| handle.status().state == "held").await;
    // The probe finds the credentials of before.
    let answer = Arc::new(tokio::sync::Semaphore::new(0));
    *world.fake.slow_probe.lock().unwrap() = Some(Arc::clone(&answer));
    *world.fake.probes.lock().unwrap() = vec![Err(hold("unauthorized"))];
    handle.try_again();
    until(|| world.fake.probed.load(SeqCst) == 1).await;
    handle.try_again();
    let mut config = world.config.clone();
    config.requests_per_second = 50_000;
    handle.retune(Tuning::from(&config));
    until(|| handle.status().rate == 50_000.0).await;
    answer.add_permits(2);
    world.finish(task).await;
    assert_eq!(world.counts(), (1, 0));
}
