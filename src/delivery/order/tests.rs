use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;

const SETTLE: Duration = Duration::from_secs(5);

fn keys(keys: &[u64]) -> ConflictKeys {
    ConflictKeys(keys.iter().copied().collect())
}

struct Desk {
    book: Book<u32>,
    now: Instant,
    next: u32,
}

impl Desk {
    fn new(ordering: Ordering) -> Self {
        // Well after the start, so that no merge waits for deliveries of an earlier life.
        let start = Instant::now();
        Self { book: Book::new(ordering, SETTLE, start), now: start + 2 * SETTLE, next: 0 }
    }

    fn put(&mut self, names: &[u64], effect: Effect) -> Slot {
        self.next += 1;
        self.book.insert(&keys(names), effect, 1, self.next - 1)
    }

    fn ordinary(&mut self, names: &[u64]) -> Slot {
        self.put(names, Effect::Ordinary)
    }

    fn batch(&mut self) -> Vec<Slot> {
        self.batch_of(usize::MAX)
    }

    fn batch_of(&mut self, items: usize) -> Vec<Slot> {
        self.book.wake(self.now);
        let batch = self.book.open();
        let mut taken = Vec::new();
        while taken.len() < items
            && let Some((slot, _)) = self.book.take(batch, usize::MAX, self.now)
        {
            taken.push(slot);
        }
        taken
    }

    fn end(&mut self, slots: &[Slot]) {
        for &slot in slots {
            self.book.end(slot, true, self.now).unwrap();
        }
    }
}

#[test]
fn one_persons_operations_share_a_batch_in_order() {
    let mut desk = Desk::new(Ordering::Batch);
    let slots: Vec<_> = (0..5).map(|_| desk.ordinary(&[1])).collect();
    assert_eq!(desk.batch(), slots);
}

#[test]
fn what_is_under_way_holds_back_its_person_and_nobody_else() {
    let mut desk = Desk::new(Ordering::Batch);
    let first = desk.ordinary(&[1]);
    assert_eq!(desk.batch(), [first]);
    let (second, other) = (desk.ordinary(&[1]), desk.ordinary(&[2]));
    assert_eq!(desk.batch(), [other]);
    desk.end(&[first]);
    assert_eq!(desk.batch(), [second]);
}

#[test]
fn an_operation_waits_for_all_of_its_identities() {
    let mut desk = Desk::new(Ordering::Batch);
    let (a, b) = (desk.ordinary(&[1]), desk.ordinary(&[2]));
    assert_eq!(desk.batch_of(1), [a]);
    assert_eq!(desk.batch_of(1), [b]);
    let both = desk.ordinary(&[1, 2]);
    desk.end(&[a]);
    assert!(desk.batch().is_empty());
    desk.end(&[b]);
    assert_eq!(desk.batch(), [both]);
}

#[test]
fn what_became_ready_for_a_batch_that_has_left_waits() {
    let mut desk = Desk::new(Ordering::Batch);
    let (first, second) = (desk.ordinary(&[1]), desk.ordinary(&[1]));
    assert_eq!(desk.batch_of(1), [first]);
    assert!(desk.batch().is_empty());
    desk.end(&[first]);
    assert_eq!(desk.batch(), [second]);
}

#[test]
fn a_barrier_travels_without_its_keys_and_with_others() {
    for effect in [Effect::Barrier, Effect::Merge] {
        let mut desk = Desk::new(Ordering::Batch);
        let before = desk.ordinary(&[1]);
        let barrier = desk.put(&[1], effect);
        let after = desk.ordinary(&[1]);
        let other = desk.ordinary(&[2]);
        assert_eq!(desk.batch(), [before, other]);
        desk.end(&[before, other]);
        desk.now += SETTLE + Duration::from_millis(1);
        let other = desk.ordinary(&[2]);
        let first = desk.batch();
        let rest = desk.batch();
        let mut both = [first, rest].concat();
        both.sort_unstable();
        let mut expected = vec![barrier, other];
        expected.sort_unstable();
        assert_eq!(both, expected, "{effect:?}");
        assert!(desk.batch().is_empty());
        desk.end(&[barrier]);
        assert_eq!(desk.batch(), [after]);
    }
}

#[test]
fn a_merge_waits_after_its_peoples_last_delivery() {
    let mut desk = Desk::new(Ordering::Batch);
    let identify = desk.ordinary(&[1]);
    assert_eq!(desk.batch(), [identify]);
    let merge = desk.put(&[1, 2], Effect::Merge);
    desk.end(&[identify]);
    assert!(desk.batch().is_empty());
    let due = desk.book.next_due().unwrap();
    assert!(due >= desk.now + SETTLE);
    let other = desk.ordinary(&[3]);
    assert_eq!(desk.batch(), [other], "others do not wait");
    desk.now = due;
    assert_eq!(desk.batch(), [merge]);
}

#[test]
fn a_merge_of_people_long_settled_does_not_wait() {
    let mut desk = Desk::new(Ordering::Batch);
    let merge = desk.put(&[1, 2], Effect::Merge);
    assert_eq!(desk.batch(), [merge]);
}

#[test]
fn strict_ordering_sends_one_operation_per_person() {
    let mut desk = Desk::new(Ordering::Strict);
    let (a, b, c) = (desk.ordinary(&[1]), desk.ordinary(&[1]), desk.ordinary(&[2]));
    assert_eq!(desk.batch(), [a, c]);
    desk.end(&[a]);
    assert_eq!(desk.batch(), [b]);
}

#[test]
fn keys_that_are_repeated_or_unsorted_do_no_harm() {
    let mut desk = Desk::new(Ordering::Batch);
    let (a, b) = (desk.ordinary(&[9, 1, 9]), desk.ordinary(&[1, 1]));
    assert_eq!(desk.batch(), [a, b]);
    desk.end(&[a, b]);
    assert!(desk.book.is_empty());
}

#[test]
fn what_does_not_fit_is_not_overtaken() {
    let mut desk = Desk::new(Ordering::Batch);
    let large = desk.book.insert(&keys(&[1]), Effect::Ordinary, 100, 0);
    desk.book.insert(&keys(&[2]), Effect::Ordinary, 1, 1);
    let batch = desk.book.open();
    assert_eq!(desk.book.take(batch, 99, desk.now), None);
    assert_eq!(desk.book.take(batch, 100, desk.now), Some((large, 100)));
}

#[test]
fn the_counts_follow_what_is_ready_parked_and_under_way() {
    let mut desk = Desk::new(Ordering::Batch);
    let first = desk.ordinary(&[1]);
    desk.ordinary(&[1]);
    desk.ordinary(&[2]);
    assert_eq!((desk.book.len(), desk.book.parked(), desk.book.ready()), (3, 1, (2, 2)));
    let all = desk.batch();
    assert_eq!(all[0], first);
    assert_eq!((desk.book.len(), desk.book.parked(), desk.book.ready()), (3, 0, (0, 0)));
    desk.end(&all);
    assert!(desk.book.is_empty() && desk.book.lanes.is_empty());
}

/// A million steps in the time of a test: with any search through a hot person's queue this would
/// take minutes.
#[test]
fn a_hot_person_costs_no_more_than_others() {
    let mut desk = Desk::new(Ordering::Strict);
    for _ in 0..50_000 {
        desk.ordinary(&[1]);
        desk.ordinary(&[1, 2]);
    }
    for expected in 0..100_000 {
        let batch = desk.batch();
        assert_eq!(desk.book.get(batch[0]), Some(&expected));
        desk.end(&batch);
    }
}

/// What a million waiting operations cost: 56 MB for those of the same people (56 bytes each). A key of one's own adds 26 MB of lanes and 36 MB of the map (2^21 places
/// of 17 bytes): 121 MB when nobody shares anything but the person they wait for.
#[test]
fn what_waits_is_small() {
    assert!(size_of::<Option<Entry<crate::delivery::progress::Load>>>() <= 56);
    assert!(size_of::<lanes::Lane>() <= 24);
}

#[test]
fn a_book_that_has_become_empty_gives_its_memory_back() {
    let mut desk = Desk::new(Ordering::Batch);
    for n in 0..KEPT as u64 + 1 {
        desk.ordinary(&[1, 1000 + n]);
    }
    let all = desk.batch();
    assert_eq!(all.len(), KEPT + 1);
    desk.end(&all);
    assert_eq!(desk.book.entries.len(), 0);
    let next = desk.ordinary(&[1]);
    assert_eq!(desk.batch(), [next]);
}

#[derive(Clone, Debug)]
struct Planned {
    keys: Vec<u64>,
    effect: Effect,
}

fn planned() -> impl Strategy<Value = Planned> {
    let effect = prop_oneof![
        8 => Just(Effect::Ordinary),
        1 => Just(Effect::Barrier),
        1 => Just(Effect::Merge)
    ];
    (prop::collection::vec(0_u64..6, 0..4), effect)
        .prop_map(|(keys, effect)| Planned { keys, effect })
}

proptest! {
    /// Whatever arrives, however batches are cut and answered: nobody overtakes an earlier
    /// operation that shares a key, barriers travel without their keys, and all come through.
    #[test]
    fn nothing_overtakes_and_everything_ends(
        plan in prop::collection::vec(planned(), 1..60),
        strict: bool,
        seed: u64,
    ) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut desk = Desk::new(if strict { Ordering::Strict } else { Ordering::Batch });
        let mut unended: HashSet<usize> = (0..plan.len()).collect();
        let mut flights: Vec<Vec<(Slot, usize)>> = Vec::new();
        let mut number: HashMap<Slot, usize> = HashMap::new();
        let mut last_delivery: HashMap<u64, Instant> = HashMap::new();
        let (mut arrived, mut turns) = (0, 0);
        while !unended.is_empty() {
            turns += 1;
            prop_assert!(turns < 10_000, "somebody starves");
            desk.now += Duration::from_millis(random.u64(0..4000));
            if arrived < plan.len() && random.bool() {
                let slot = desk.put(&plan[arrived].keys, plan[arrived].effect);
                number.insert(slot, arrived);
                arrived += 1;
            }
            if random.bool() {
                let taken = desk.batch_of(random.usize(1..5));
                let batch: Vec<_> = taken.iter().map(|slot| (*slot, number[slot])).collect();
                for (place, &(_, n)) in batch.iter().enumerate() {
                    let alone = strict || plan[n].effect != Effect::Ordinary;
                    for earlier in unended.iter().copied().filter(|e| *e < n) {
                        let shares = plan[n].keys.iter().any(|k| plan[earlier].keys.contains(k));
                        let before = batch[..place].iter().any(|(_, b)| *b == earlier);
                        prop_assert!(!shares || (before && !alone), "{n} overtakes {earlier}");
                    }
                    for &(_, b) in &batch[..place] {
                        let shares = plan[n].keys.iter().any(|k| plan[b].keys.contains(k));
                        let exclusive = alone || plan[b].effect != Effect::Ordinary;
                        prop_assert!(!shares || !exclusive, "{n} shares a batch with {b}");
                    }
                    if plan[n].effect == Effect::Merge {
                        for at in plan[n].keys.iter().filter_map(|k| last_delivery.get(k)) {
                            prop_assert!(desk.now >= *at + SETTLE, "{n} merges too early");
                        }
                    }
                }
                if !batch.is_empty() {
                    flights.push(batch);
                }
            }
            if !flights.is_empty() && random.bool() {
                // Some of a batch end now, the others with a later answer.
                let at = random.usize(0..flights.len());
                let end = random.usize(1..=flights[at].len());
                for (slot, n) in flights[at].drain(..end) {
                    let delivered = random.bool();
                    prop_assert_eq!(desk.book.end(slot, delivered, desk.now), Some(n as u32));
                    unended.remove(&n);
                    if delivered {
                        for key in &plan[n].keys {
                            last_delivery.insert(*key, desk.now);
                        }
                    }
                }
                flights.retain(|flight| !flight.is_empty());
            }
        }
        prop_assert!(desk.book.is_empty() && desk.book.lanes.is_empty());
        prop_assert_eq!(desk.book.ready(), (0, 0));
    }
}
