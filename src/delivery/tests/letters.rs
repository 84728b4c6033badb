//! Dead letters that wait in memory.

use super::*;

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
    for entry in std::fs::read_dir(world.folder()).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
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
    for entry in std::fs::read_dir(world.folder()).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    world.finish(task).await;
    assert_eq!(world.counts(), (1, 2));
}
