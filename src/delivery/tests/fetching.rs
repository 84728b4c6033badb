//! Bodies that are not kept in memory, and come back from the buffer.

use std::sync::Weak;

use super::*;
use crate::buffer::{AppendError, BufferStats, LetterId};
use crate::outcome::{LedgerSnapshot, Tally};

type Trouble = dyn Fn(usize, &[Sequence]) -> Option<String> + Send + Sync;

/// A buffer whose events are copies, so that it shows how many are in memory elsewhere.
pub(super) struct Store {
    events: Arc<MemoryBuffer>,
    /// Whether the fetch of a number fails.
    trouble: Box<Trouble>,
    fetches: AtomicUsize,
    copies: Mutex<Vec<Weak<Stored>>>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

impl Store {
    pub(super) fn of(
        world: &World,
        trouble: impl Fn(usize, &[Sequence]) -> Option<String> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            events: Arc::clone(&world.buffer),
            trouble: Box::new(trouble),
            fetches: AtomicUsize::new(0),
            copies: Mutex::default(),
        })
    }

    fn in_memory(&self) -> usize {
        let mut copies = self.copies.lock().unwrap();
        copies.retain(|copy| copy.strong_count() > 0);
        copies.len()
    }
}

impl Buffer for Store {
    fn append(&self, events: Vec<Stored>) -> BoxFuture<'_, Result<Sequence, AppendError>> {
        self.events.append(events)
    }

    fn read(&self, events: usize, bytes: u64) -> BoxFuture<'_, Vec<(Sequence, Arc<Stored>)>> {
        async move {
            let events = self.events.read(events, bytes).await;
            let copy = |(sequence, stored): (Sequence, Arc<Stored>)| {
                let stored = Arc::new((*stored).clone());
                self.copies.lock().unwrap().push(Arc::downgrade(&stored));
                (sequence, stored)
            };
            events.into_iter().map(copy).collect()
        }
        .boxed()
    }

    fn fetch(&self, events: Vec<Sequence>) -> BoxFuture<'_, Result<Vec<Arc<Stored>>, String>> {
        let number = self.fetches.fetch_add(1, SeqCst);
        match (self.trouble)(number, &events) {
            Some(trouble) => std::future::ready(Err(trouble)).boxed(),
            None => self.events.fetch(events),
        }
    }

    fn settle(&self, events: &[(Sequence, Outcome)]) {
        self.events.settle(events);
    }

    fn record(&self, ended: &Tally) {
        self.events.record(ended);
    }

    fn flush(&self) -> BoxFuture<'_, ()> {
        self.events.flush()
    }

    fn all_lives(&self) -> Option<LedgerSnapshot> {
        None
    }

    fn replayed(&self, letters: Vec<LetterId>) -> BoxFuture<'_, Result<Vec<bool>, String>> {
        self.events.replayed(letters)
    }

    fn close(&self) {
        self.events.close();
    }

    fn stats(&self) -> BufferStats {
        self.events.stats()
    }

    fn durable(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn a_backlog_behind_one_person_is_read_to_its_end_and_hardly_any_of_it_is_in_memory() {
    let open = Arc::new(tokio::sync::Semaphore::new(0));
    let gate = Arc::clone(&open);
    let mut world = World::new(Fake::new(move |_, names| {
        let closed = gate.available_permits() == 0;
        let hot = names.iter().any(|name| name.starts_with('h'));
        if closed && hot { again_at_once() } else { delivered(names) }
    }));
    world.pace.read_ahead = 20;
    world.config.batch.max_items = 50;
    let mut names = vec!["h"; 2_000];
    names.push("z");
    world.put_each(&names).await;
    let store = Store::of(&world, |_, _| None);
    let (_, task) = world.start_on(Arc::<Store>::clone(&store));
    // The last one has been read and delivered: so have been all before it, but for the first.
    until(|| world.ended.lock().unwrap().iter().any(|(sequence, _)| sequence.0 == 2_000)).await;
    assert!(store.in_memory() <= 20, "{}", store.in_memory());
    open.add_permits(1);
    world.finish(task).await;
    assert_eq!(world.counts(), (2_001, 0));
    assert!(store.fetches.load(SeqCst) > 0);
}

#[tokio::test]
async fn events_of_which_only_a_part_must_wait_do_not_stop_the_reading() {
    let open = Arc::new(tokio::sync::Semaphore::new(0));
    let gate = Arc::clone(&open);
    let mut world = World::new(Fake::new(move |_, names| {
        let closed = gate.available_permits() == 0;
        let of = |name: &String| match name.as_str() {
            "h" if closed => Verdict::Later(refusal("busy")),
            _ => Verdict::Delivered,
        };
        Reply::Items(names.iter().map(of).collect())
    }));
    world.pace.read_ahead = 8;
    world.put_each(&["h"]).await;
    let people: Vec<String> = ('A'..='Z').map(String::from).collect();
    for person in &people {
        world.put([&[person.as_str(), "h"][..]]).await;
    }
    world.put_each(&["z"]).await;
    let (_, task) = world.start();
    until(|| world.fake.requests().iter().flatten().any(|name| name == "z")).await;
    open.add_permits(1);
    world.finish(task).await;
    assert_eq!(world.counts(), (28, 0));
}

fn again_at_once() -> Reply {
    Reply::Retry { after: Some(Duration::ZERO), why: "http_503", unknown: false }
}

#[tokio::test]
async fn bodies_that_cannot_be_fetched_are_nobodys_failure_and_come_later() {
    let mut world = World::new(Fake::new(|_, names| match names {
        [name] if name == "=a2" => Reply::Split(refusal("no")),
        _ => delivered(names),
    }));
    // The first three have taken half of the space.
    world.pace.read_ahead = 6;
    world.config.retry.give_up_after = Duration::ZERO;
    world.put_each(&["=a1", "b1", "c1", "=a2", "=a3"]).await;
    let store = Store::of(&world, |n, _| (n < 7).then(|| "the disk is gone".to_owned()));
    let (_, task) = world.start_on(Arc::<Store>::clone(&store));
    world.finish(task).await;
    assert_eq!(world.counts(), (4, 1));
    let letter = &world.letters()[0];
    assert_eq!((&letter["attempts"], &letter["reason"]), (&1.into(), &"refused".into()));
    assert_eq!(letter["operations"], serde_json::json!(["=a2"]));
    assert!(store.fetches.load(SeqCst) > 7);
    let sent = world.fake.sent.lock().unwrap();
    assert!(sent.iter().all(|(_, attempt)| *attempt == 0), "nothing was sent twice");
}

#[tokio::test]
async fn an_event_that_cannot_be_fetched_makes_only_its_own_person_wait() {
    let mut world = World::new(Fake::new(|_, names| delivered(names)));
    // The first half has taken half of the space, so that `z2` has its body in the buffer alone.
    world.pace.read_ahead = 52;
    let all: Vec<String> = ('a'..='z').flat_map(|c| [format!("={c}1"), format!("{c}2")]).collect();
    world.put_each(&all.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let store = Store::of(&world, |_, events| {
        events.contains(&Sequence(51)).then(|| "event 51 is damaged".to_owned())
    });
    let (_, task) = world.start_on(Arc::<Store>::clone(&store));
    until(|| world.counts() == (51, 0)).await;
    assert!(!world.ended.lock().unwrap().iter().any(|(sequence, _)| sequence.0 == 51));
    task.abort();
}
