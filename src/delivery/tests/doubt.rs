//! Answers after which it stays open whether an earlier try was applied.

use super::fetching::Store;
use super::*;

#[tokio::test]
async fn a_letter_says_unknown_when_a_try_before_the_refusal_was_handed_over() {
    for doubtful in [true, false] {
        let world = World::new(Fake::new(move |_, _| {
            let refused = Reply::Split(refusal("no"));
            if doubtful { Reply::Doubtful(Box::new(refused)) } else { refused }
        }));
        world.put_each(&["a1"]).await;
        world.run().await;
        assert_eq!(world.letters()[0]["unknown"], doubtful);
    }
}

#[tokio::test]
async fn a_letter_says_unknown_if_an_earlier_life_may_have_sent_its_event() {
    let world = World::new(refusing_a());
    world.put_each(&["a1", "a2"]).await;
    let (_, task) = world.start_on(Store::of(&world, |_, _| None));
    until(|| world.counts() == (0, 2)).await;
    world.put_each(&["a3"]).await;
    world.finish(task).await;
    let letters = world.letters();
    let unknown: Vec<_> = letters.iter().map(|letter| letter["unknown"].as_bool()).collect();
    assert_eq!(unknown, [true, true, false].map(Some));
}

#[tokio::test]
async fn no_earlier_life_has_sent_what_a_buffer_in_memory_holds() {
    let world = World::new(refusing_a());
    world.put_each(&["a1"]).await;
    world.run().await;
    assert_eq!(world.letters()[0]["unknown"], false);
}
