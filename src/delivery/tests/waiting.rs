//! Who waits for a failing operation, and who does not.

use std::sync::atomic::AtomicBool;

use super::*;

impl World {
    /// Delivers for people who have nothing to do with the others until `condition` comes true:
    /// without successes in between, failures are the destination's.
    pub(super) async fn busy_until(&self, mut condition: impl FnMut(&Self) -> bool) {
        let mut n = 0;
        until(|| {
            n += 1;
            let other = char::from(b'A' + (n % 26) as u8).to_string();
            self.buffer.append(vec![event(&[&other])]).now_or_never().unwrap().unwrap();
            condition(self)
        })
        .await;
    }

    /// Tells whether the events with these places in the buffer have ended.
    pub(super) fn have_ended(&self, places: &[u64]) -> bool {
        let ended = self.ended.lock().unwrap();
        places.iter().all(|place| ended.iter().any(|(sequence, _)| sequence.0 == *place))
    }
}

#[tokio::test]
async fn nobody_leaves_a_poisoned_parcel_from_between_two_who_are_bound() {
    // `p1a2` is of both people, so it comes after `p1` and after `a1`.
    let overtaken = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&overtaken);
    let tries = Mutex::new((0, 0, false));
    let world = World::new(Fake::new(move |_, names| {
        let has = |name: &str| names.iter().any(|n| n == name);
        let (p_tries, a_tries, a_done) = &mut *tries.lock().unwrap();
        if has("p1a2") && !has("a1") && !*a_done {
            seen.store(true, SeqCst);
        }
        if has("p1") {
            // Alone, and suspected, with the ninth; `a1` would have left with the tenth.
            *p_tries += 1;
            if *p_tries <= 12 {
                return again("http_500");
            }
        }
        if has("a1") {
            *a_tries += 1;
            if *a_tries <= 40 {
                return again("http_500");
            }
            *a_done = true;
        }
        delivered(names)
    }));
    world.put_each(&["p1", "a1", "p1a2"]).await;
    let (_, task) = world.start();
    world.busy_until(|world| world.have_ended(&[0, 1, 2])).await;
    world.finish(task).await;
    assert!(!overtaken.load(SeqCst));
}

#[tokio::test]
async fn those_who_travel_with_a_poisoned_one_wait_for_few_requests() {
    let world = World::new(poisoned());
    let names: Vec<String> =
        (0..26).map(|n| if n == 9 { "p1".into() } else { format!("{}1", letter(n)) }).collect();
    world.put_each(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let (_, task) = world.start();
    let bystanders: Vec<u64> = (0..26).filter(|n| *n != 9).collect();
    world.busy_until(|world| world.have_ended(&bystanders)).await;
    let with_the_poison =
        world.fake.requests().iter().filter(|names| names.iter().any(|n| n == "p1")).count();
    // Three failures for each halving, and some more alone.
    assert!(with_the_poison <= 5 * 3 + 15, "{with_the_poison}");
    task.abort();
}

/// Names people by the letters of the alphabet, without `p`.
fn letter(n: u64) -> char {
    let letter = b'a' + n as u8;
    char::from(if letter == b'p' { b'Z' } else { letter })
}

/// Answers an operation named `a1` with a verdict, and delivers the others.
fn but_a1(names: &[String], verdict: &Verdict) -> Reply {
    let of = |name: &String| if name == "a1" { verdict.clone() } else { Verdict::Delivered };
    Reply::Items(names.iter().map(of).collect())
}

#[tokio::test]
async fn an_item_that_is_to_come_later_does_not_hold_the_other_half() {
    let world = World::new(Fake::new(|n, names| match n {
        0 => Reply::Split(refusal("one of you")),
        _ => but_a1(names, &Verdict::Later(refusal("busy"))),
    }));
    world.put_each(&["a1", "b1", "c1", "a2", "d1"]).await;
    let (_, task) = world.start();
    until(|| world.have_ended(&[1, 2, 4])).await;
    assert!(!world.have_ended(&[0]) && !world.have_ended(&[3]));
    task.abort();
}

#[tokio::test]
async fn an_item_that_stays_unknown_does_not_hold_the_others() {
    let world = World::new(Fake::new(|n, names| match n {
        0 => Reply::Items(vec![Verdict::Unknown; names.len()]),
        _ => but_a1(names, &Verdict::Unknown),
    }));
    world.put_each(&["a1", "b1", "c1", "a2", "d1"]).await;
    let (_, task) = world.start();
    until(|| world.have_ended(&[1, 2, 4])).await;
    assert!(!world.have_ended(&[0]) && !world.have_ended(&[3]));
    let requests = world.fake.requests();
    assert!(requests[1..].iter().all(|r| r.len() == 1), "unknown ones go singly: {requests:?}");
    let sent = world.fake.sent.lock().unwrap();
    let b1 = sent.iter().rfind(|(names, _)| names == &["b1"]).unwrap();
    assert!(b1.1 > 0, "it says that it is a retry");
    task.abort();
}

#[tokio::test]
async fn an_item_for_which_a_batch_is_refused_for_now_is_not_sent_with_the_others_again() {
    let world = World::new(Fake::new(|_, names| {
        let of = |name: &String| match name.as_str() {
            "a1" => Verdict::Later(refusal("busy")),
            _ => Verdict::Again,
        };
        if names.iter().any(|n| n == "a1") {
            Reply::Items(names.iter().map(of).collect())
        } else {
            delivered(names)
        }
    }));
    world.put_each(&["b1", "a1", "c1", "a2", "d1"]).await;
    let (_, task) = world.start();
    until(|| world.have_ended(&[0, 2, 4])).await;
    assert!(!world.have_ended(&[1]) && !world.have_ended(&[3]));
    let requests = world.fake.requests();
    assert!(requests.contains(&["b1", "c1", "d1"].map(String::from).to_vec()), "{requests:?}");
    task.abort();
}
