//! Answers after which it stays open whether an earlier try was applied.

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
