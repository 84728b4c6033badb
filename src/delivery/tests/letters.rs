//! Dead letters that wait in memory.

use super::*;

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
