//! Dead letters that wait in memory.

use std::sync::atomic::AtomicBool;

use super::*;

impl World {
    fn remove_letters(&self) {
        for entry in std::fs::read_dir(self.folder()).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }
}

#[tokio::test]
async fn an_event_is_not_settled_before_an_earlier_one_of_its_people_whose_letter_waits() {
    let verdict = |name: &String| match name.as_str() {
        "a1" | "b1" => Verdict::Rejected(refusal("no")),
        _ => Verdict::Delivered,
    };
    let mut world =
        World::new(Fake::new(move |_, names| Reply::Items(names.iter().map(verdict).collect())));
    world.letters.max_size = 600;
    world.put_each(&["a1"]).await;
    let (_, task) = world.start();
    until(|| world.counts() == (0, 1)).await;
    world.put_each(&["b1", "b2", "b2c1", "c2", "d1"]).await;
    until(|| world.fake.requests().iter().flatten().any(|name| name == "c2")).await;
    until(|| world.counts() == (1, 1)).await;
    assert_eq!(world.buffer.stats().events, 4, "only `d1` has nobody to wait for");
    world.remove_letters();
    world.finish(task).await;
    assert_eq!(world.counts(), (4, 2));
}

#[tokio::test]
async fn nothing_is_sent_while_letters_that_cannot_be_written_fill_their_place() {
    let mut world = World::new(refusing_a());
    world.letters.max_size = 600;
    world.pace.read_ahead = 4;
    world.config.batch.max_items = 2;
    world.put_each(&["a1"]).await;
    let (handle, task) = world.start();
    until(|| world.counts() == (0, 1)).await;
    let names = ["a2"; 40];
    world.put_each(&names).await;
    until(|| handle.status().reason.is_some()).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let sent = world.fake.requests().iter().map(Vec::len).sum::<usize>();
    assert!(sent <= 1 + 4 + 2, "{sent}");
    task.abort();
}

#[tokio::test]
async fn letters_that_wait_count_among_the_bytes_that_are_read_ahead() {
    let mut world = World::new(refusing_a());
    // Room for one letter and a half.
    world.letters.max_size = 600;
    world.pace.read_ahead_bytes = 1;
    world.put_each(&["a1"]).await;
    let (handle, task) = world.start();
    until(|| world.counts() == (0, 1)).await;
    world.put_each(&["a2"]).await;
    until(|| handle.status().reason.is_some()).await;
    world.put_each(&["b1"]).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(world.fake.requests(), [["a1"], ["a2"]], "the letter weighs more than a byte");
    world.remove_letters();
    world.finish(task).await;
    assert_eq!(world.counts(), (1, 2));
}

/// A runtime on which work that may wait for a disk never ends until `held` is dropped.
fn hanging() -> (tokio::runtime::Runtime, std::sync::mpsc::Sender<()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().max_blocking_threads(1).build().unwrap();
    let (held, until) = std::sync::mpsc::channel();
    runtime.spawn_blocking(move || until.recv().is_ok());
    (runtime, held)
}

#[test]
fn a_letter_whose_writing_hangs_keeps_nobody_else_waiting() {
    let (runtime, held) = hanging();
    runtime.block_on(async {
        let world = World::new(refusing_a());
        world.put_each(&["a1", "b1", "a2", "ac1"]).await;
        let (_, task) = world.start();
        until(|| world.counts() == (1, 0)).await;
        world.put_each(&["b2", "d1"]).await;
        until(|| world.counts() == (3, 0)).await;
        assert!(world.letters().is_empty());
        drop(held);
        world.finish(task).await;
        assert_eq!((world.counts(), world.letters().len()), ((3, 3), 3));
    });
}

#[test]
fn who_does_not_wait_for_a_write_that_hangs_lets_no_others_wait_behind_it() {
    let (runtime, held) = hanging();
    runtime.block_on(async {
        let world = World::new(refusing_a());
        let letters = DeadLetters::open(world.dir.path(), &world.letters).unwrap();
        let letter = || vec![crate::delivery::dead_letter::tests::letter("{}")];
        let long = Duration::from_secs(30);
        let unwritten = letters.write_within(letter(), Duration::from_millis(1)).await.unwrap_err();
        assert_eq!(unwritten.error.kind(), std::io::ErrorKind::TimedOut);
        for _ in 0..2 {
            let refused = letters.write_within(letter(), long).now_or_never();
            assert!(matches!(refused, Some(Err(_))), "at once");
        }
        drop(held);
        until(|| !world.letters().is_empty()).await;
        until(|| letters.write_within(letter(), long).now_or_never().is_none()).await;
        letters.write_within(letter(), long).await.unwrap();
        // The one that hung, one for which nobody waited, and the last one.
        assert_eq!(world.letters().len(), 3);
    });
}

#[test]
fn letters_that_abound_since_their_writing_hangs_hold_delivery_visibly() {
    let (runtime, held) = hanging();
    runtime.block_on(async {
        let mut world = World::new(refusing_a());
        world.pace.read_ahead = 4;
        world.config.batch.max_items = 1;
        world.put_each(&["a1", "a2", "a3", "a4", "a5"]).await;
        let (handle, task) = world.start();
        until(|| handle.status().state == "held").await;
        assert_eq!(handle.status().reason.as_deref(), Some("dead_letters"));
        assert_eq!(world.fake.requests().len(), 4, "there is place for so many letters");
        drop(held);
        world.finish(task).await;
        assert_eq!((world.counts(), handle.status().state), ((0, 5), "sending"));
    });
}

#[test]
fn a_delivery_that_is_stopped_does_not_wait_for_a_letter_whose_writing_hangs() {
    let (runtime, held) = hanging();
    runtime.block_on(async {
        let world = World::new(refusing_a());
        world.put_each(&["a1"]).await;
        let (_, task) = world.start();
        until(|| world.fake.requests().len() == 1).await;
        task.abort();
        let ended = tokio::time::timeout(Duration::from_secs(30), task).await.expect("it ends");
        assert!(ended.unwrap_err().is_cancelled());
        assert_eq!(world.buffer.stats().events, 1, "the next life sends it again");
    });
    drop(held);
}

#[tokio::test]
async fn of_letters_that_do_not_all_fit_those_that_do_are_settled() {
    let mut world = World::new(refusing_a());
    world.letters.max_size = 2_000;
    world.put_each(&["a1"; 30]).await;
    let (_, task) = world.start();
    let mut rounds = Vec::new();
    // Between two rounds the folder is full, so that nothing is written while it is emptied.
    until(|| {
        let rejected = world.counts().1;
        if rounds.last().is_none_or(|last| *last < rejected) && rejected > 0 && rejected < 30 {
            rounds.push(rejected);
            world.remove_letters();
        }
        rejected == 30
    })
    .await;
    assert!(rounds.len() > 3, "{rounds:?}");
    world.finish(task).await;
}

#[tokio::test]
async fn delivery_is_held_while_letters_cannot_be_written_and_goes_on_by_itself() {
    let recorder = crate::telemetry::recorder::build();
    let shown = recorder.handle();
    let _recorder = metrics::set_default_local_recorder(&recorder);
    let number = |name: &str, label: &str| {
        let text = shown.render();
        let line = text.lines().find(|l| l.starts_with(name) && l.contains(label))?;
        line.rsplit(' ').next()?.parse::<f64>().ok()
    };
    let held = || number("rudder_customerio_delivery_held", "dead_letters");
    let failures = || number("component_errors_total", "dead_letter").unwrap_or_default();
    let room = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&room);
    let verdict = move |name: &String| match name.as_bytes()[0] {
        b'a' => Verdict::Rejected(refusal("no")),
        _ if seen.load(SeqCst) => Verdict::Delivered,
        _ => Verdict::Rejected(refusal("sent while delivery is held")),
    };
    let mut world =
        World::new(Fake::new(move |_, names| Reply::Items(names.iter().map(&verdict).collect())));
    world.letters.max_size = 600;
    world.put_each(&["a1"]).await;
    let (handle, task) = world.start();
    let is = |state: &str, reason: Option<&str>| {
        let status = handle.status();
        status.state == state && status.reason.as_deref() == reason
    };
    until(|| world.counts() == (0, 1)).await;
    assert!(is("sending", None) && held() != Some(1.0));
    world.put_each(&["a2"]).await;
    until(|| is("held", Some("dead_letters"))).await;
    assert_eq!(held(), Some(1.0));
    world.put_each(&["b1", "c1"]).await;
    let before = failures();
    until(|| failures() >= before + 3.0).await;
    handle.pause();
    until(|| is("paused", None)).await;
    handle.resume();
    until(|| is("held", Some("dead_letters"))).await;
    room.store(true, SeqCst);
    world.remove_letters();
    until(|| world.counts() == (2, 2)).await;
    until(|| is("sending", None)).await;
    assert_eq!(held(), Some(0.0));
    world.finish(task).await;
}

#[tokio::test]
async fn the_operator_ends_a_pause_between_two_writes() {
    let mut world = World::new(refusing_a());
    world.letters.max_size = 600;
    world.pace.dead_letter_pause = Duration::from_secs(3_600);
    world.put_each(&["a1"]).await;
    let (handle, task) = world.start();
    until(|| world.counts() == (0, 1)).await;
    world.put_each(&["a2"]).await;
    until(|| handle.status().state == "held").await;
    world.remove_letters();
    handle.resume();
    world.finish(task).await;
    assert_eq!(world.counts(), (0, 2));
}

#[tokio::test]
async fn letters_past_their_age_are_removed_at_the_start_and_later_while_nothing_is_rejected() {
    let mut world = World::new(Fake::new(|_, names| delivered(names)));
    world.letters.max_age = Duration::from_secs(3_600);
    world.pace.dead_letter_age_check = Duration::from_millis(1);
    std::fs::create_dir(world.folder()).unwrap();
    let old = std::time::SystemTime::now() - Duration::from_secs(7_200);
    let file = |name: &str| {
        let path = world.folder().join(name);
        (std::fs::File::create(&path).unwrap(), path)
    };
    // Looked at in this order.
    let (later, path_of_later) = file("2026-01-01-1.ndjson");
    let (first, path_of_first) = file("2026-01-01-2.ndjson");
    first.set_modified(old).unwrap();
    let (_, task) = world.start();
    until(|| !path_of_first.exists()).await;
    assert!(path_of_later.exists());
    later.set_modified(old).unwrap();
    until(|| !path_of_later.exists()).await;
    world.finish(task).await;
}
