//! A model of Customer.io and of the buffer that watches a delivery through any number of lives.
//!
//! Events of random people meet random answers, failing fetches, other limits, and ends of the
//! process at any moment, at which the last settlements may be lost. Whatever happens, the requests
//! must show that nobody was overtaken, and every event must end.
//!
//! Some people are poisoned: their operations fail until everybody who has nothing to do with them
//! has been served. So somebody who waits for them would wait for ever, which the number of
//! requests shows.
//!
//! A long run: `DELIVERY_MODEL_CASES=20000 cargo test --release --lib -- delivery::tests::model`.

use std::panic::resume_unwind;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use tokio::sync::Notify;

use super::*;
use crate::buffer::{AppendError, BufferStats, LetterId};
use crate::outcome::{LedgerSnapshot, Tally};

/// Number of an operation: its event and its position there.
type Name = (usize, usize);

#[derive(Clone, Debug)]
struct Planned {
    keys: Vec<u64>,
    effect: Effect,
}

/// Keys of those who may be poisoned, and of those who share an operation with them.
const ILL: std::ops::Range<u64> = 7..10;

/// From here on keys of people who come while others are poisoned, one event each. That they are
/// served tells failures of the poisoned from those of the destination.
const FRESH: u64 = 1_000;

/// So many requests at most, after the last random answer, serve all who are not poisoned. In
/// 1,500 runs no more than 173 were needed.
const PATIENCE: usize = 1_000;

/// How every request with a poisoned operation ends, as far as that is concerned.
#[derive(Clone, Copy, Debug)]
enum Poison {
    None,
    /// The request fails.
    Fails,
    /// Its item is to come later.
    Later,
    /// Its item stays unknown.
    Unknown,
}

#[derive(Clone, Debug)]
struct Plan {
    events: Vec<Vec<Planned>>,
    poison: Poison,
    strict: bool,
    seed: u64,
    /// How many requests each life but the last may make, between the changes of its limits.
    lives: Vec<Vec<usize>>,
    /// The same for the last one, which then goes on.
    last: Vec<usize>,
    /// How many requests are answered at random.
    chaos: usize,
    read_ahead: usize,
}

fn plans() -> impl Strategy<Value = Plan> {
    let effect = prop_oneof![
        8 => Just(Effect::Ordinary),
        1 => Just(Effect::Barrier),
        1 => Just(Effect::Merge),
    ];
    let keys = prop_oneof![
        5 => prop::collection::vec(0_u64..7, 1..3),
        1 => prop::collection::vec(ILL, 1..3),
    ];
    let operation = (keys, effect).prop_map(|(keys, effect)| Planned { keys, effect });
    let event = prop_oneof![
        3 => prop::collection::vec(operation.clone(), 1..2),
        1 => prop::collection::vec(operation, 2..4),
    ];
    let poison = prop_oneof![
        Just(Poison::None),
        Just(Poison::Fails),
        Just(Poison::Later),
        Just(Poison::Unknown)
    ];
    let life = || prop::collection::vec(1_usize..20, 1..4);
    (
        prop::collection::vec(event, 1..50),
        poison,
        any::<bool>(),
        any::<u64>(),
        (prop::collection::vec(life(), 0..4), life()),
        0_usize..120,
        prop_oneof![Just(1_usize), 2..10_usize, Just(1000)],
    )
        .prop_map(|(events, poison, strict, seed, (lives, last), chaos, read_ahead)| Plan {
            events,
            poison,
            strict,
            seed,
            lives,
            last,
            chaos,
            read_ahead,
        })
}

/// What the model knows, over all lives.
#[derive(Debug)]
struct World {
    plan: Plan,
    random: fastrand::Rng,
    events: Vec<Arc<Stored>>,
    /// So many of them are planned; the others came while somebody was poisoned.
    arrivals: usize,
    /// First complaint.
    fault: Option<String>,
    /// What happened until then.
    story: Vec<String>,
    requests: usize,
    stop_at: usize,
    /// Whether the poisoned still fail.
    poisoned: bool,
    /// How many requests had been made when the last one came while others were poisoned.
    fresh_at: usize,
    /// Requests while everything but the poison was well, in the last life.
    patience: usize,
    panics: HashMap<Name, usize>,
    /// Pairs that have been in one request, in that order.
    together: HashSet<(Name, Name)>,

    // This life.
    is_last: bool,
    cursor: usize,
    ended: HashSet<Name>,
    applied: HashSet<Name>,
    notified: HashSet<usize>,
    /// Settled, and perhaps not durable yet.
    volatile: Vec<usize>,

    // Beyond.
    restarts: usize,
    durable: HashSet<usize>,
}

#[derive(Debug)]
struct Model {
    world: Mutex<World>,
    enough: Notify,
    /// There may be something to read.
    more: Notify,
}

fn stored(at: usize, event: &[Planned]) -> Arc<Stored> {
    let operation = |(position, planned): (usize, &Planned)| Operation {
        keys: ConflictKeys(planned.keys.iter().copied().collect()),
        effect: planned.effect,
        body: Bytes::from(format!("[{at},{position}]")),
    };
    let operations = event.iter().enumerate().map(operation).collect();
    Arc::new(Stored { operations, ..super::event(&[]) })
}

impl World {
    fn new(plan: &Plan) -> Self {
        Self {
            arrivals: plan.events.len(),
            plan: plan.clone(),
            random: fastrand::Rng::with_seed(plan.seed),
            events: plan.events.iter().enumerate().map(|(at, event)| stored(at, event)).collect(),
            fault: None,
            story: Vec::new(),
            requests: 0,
            stop_at: usize::MAX,
            poisoned: !matches!(plan.poison, Poison::None),
            fresh_at: 0,
            patience: 0,
            panics: HashMap::new(),
            together: HashSet::new(),
            is_last: false,
            cursor: 0,
            ended: HashSet::new(),
            applied: HashSet::new(),
            notified: HashSet::new(),
            volatile: Vec::new(),
            restarts: 0,
            durable: HashSet::new(),
        }
    }

    fn tell(&mut self, text: impl FnOnce() -> String) {
        if self.fault.is_none() {
            self.story.push(text());
        }
    }

    fn complain(&mut self, text: String) {
        self.fault.get_or_insert(text);
    }

    fn is_settled(&self, event: usize) -> bool {
        self.durable.contains(&event) || self.volatile.contains(&event)
    }

    fn planned(&self, name: Name) -> &Planned {
        &self.plan.events[name.0][name.1]
    }

    /// Returns the operations that share a key with one, in order.
    fn relatives(&self, name: Name) -> Vec<Name> {
        let keys = &self.planned(name).keys;
        let all = self.plan.events.iter().enumerate();
        all.flat_map(|(at, event)| (0..event.len()).map(move |position| (at, position)))
            .filter(|other| self.planned(*other).keys.iter().any(|key| keys.contains(key)))
            .collect()
    }

    fn watch(&mut self, names: &[Name]) {
        for (place, &name) in names.iter().enumerate() {
            let alone = |n: Name| self.plan.strict || self.planned(n).effect != Effect::Ordinary;
            let mut faults = Vec::new();
            if self.ended.contains(&name) || self.is_settled(name.0) {
                faults.push(format!("{name:?} was sent after its end"));
            }
            for other in self.relatives(name) {
                let before = names[..place].contains(&other);
                if before && (alone(name) || alone(other)) {
                    faults.push(format!("{name:?} shares a request with {other:?}"));
                }
                let ended = self.ended.contains(&other) || self.is_settled(other.0);
                if other < name && !ended && !before {
                    faults.push(format!("{name:?} overtakes {other:?}"));
                }
                let applied = self.applied.contains(&other) || self.is_settled(other.0);
                if other > name && applied && !self.together.contains(&(name, other)) {
                    faults.push(format!("{name:?} comes again after {other:?}"));
                }
            }
            for fault in faults {
                self.complain(fault);
            }
            for &before in &names[..place] {
                self.together.insert((before, name));
            }
        }
    }

    fn answer(&mut self, names: &[Name]) -> Option<Reply> {
        let calm = self.requests > self.plan.chaos;
        let kind = if calm { 99 } else { self.random.u8(0..20) };
        let refusal = || refusal("no");
        let ill =
            |name: &Name| self.poisoned && self.planned(*name).keys.iter().any(|k| ILL.contains(k));
        let ill: Vec<bool> = names.iter().map(ill).collect();
        let kind = if ill.contains(&true) && (calm || kind > 7) { 100 } else { kind };
        let reply = match kind {
            100 if matches!(self.plan.poison, Poison::Fails) => again("http_500"),
            100 => Reply::Items(
                ill.iter()
                    .map(|ill| match self.plan.poison {
                        _ if !ill && !calm && self.random.bool() => Verdict::Again,
                        _ if !ill => Verdict::Delivered,
                        Poison::Unknown => Verdict::Unknown,
                        _ => Verdict::Later(refusal()),
                    })
                    .collect(),
            ),
            0 => again("http_500"),
            1 => Reply::Retry { after: None, why: "timeout", unknown: true },
            2 => Reply::Retry { after: Some(Duration::ZERO), why: "http_429", unknown: false },
            3 => again("http_429"),
            4 => Reply::Hold(hold("forbidden")),
            5 | 6 => Reply::Split(refusal()),
            7 => Reply::Doubtful(Box::new(again("network"))),
            // Three of one operation would be its end.
            8 if names.iter().all(|name| self.panics.get(name).is_none_or(|n| *n < 2)) => {
                for name in names {
                    *self.panics.entry(*name).or_default() += 1;
                }
                self.applied.extend(names);
                return None;
            }
            99 => Reply::Items(vec![Verdict::Delivered; names.len()]),
            _ => {
                let verdict = |random: &mut fastrand::Rng| match random.u8(0..20) {
                    0 => Verdict::Rejected(refusal()),
                    1 => Verdict::Unknown,
                    2 => Verdict::Again,
                    3..6 => Verdict::Later(refusal()),
                    _ => Verdict::Delivered,
                };
                Reply::Items(names.iter().map(|_| verdict(&mut self.random)).collect())
            }
        };
        match &reply {
            Reply::Items(verdicts) => {
                for (name, verdict) in names.iter().zip(verdicts) {
                    if matches!(verdict, Verdict::Delivered | Verdict::Rejected(_)) {
                        self.ended.insert(*name);
                    }
                    if matches!(verdict, Verdict::Delivered | Verdict::Unknown) {
                        self.applied.insert(*name);
                    }
                }
            }
            Reply::Split(_) if names.len() == 1 => self.ended.extend(names),
            Reply::Retry { unknown: true, .. } | Reply::Doubtful(_) => self.applied.extend(names),
            _ => {}
        }
        if calm && self.is_last {
            self.serve();
        }
        Some(reply)
    }

    /// Lets the poisoned recover once all others have been served, or have waited too long.
    fn serve(&mut self) {
        if !self.poisoned {
            return;
        }
        self.patience += 1;
        let waits = |name: &Name| {
            let Planned { keys, .. } = self.planned(*name);
            let well = !keys.iter().any(|key| ILL.contains(key) || *key >= FRESH);
            well && !self.ended.contains(name) && !self.is_settled(name.0)
        };
        let all = self.plan.events.iter().enumerate();
        let waiting: Vec<Name> = all
            .flat_map(|(at, event)| (0..event.len()).map(move |position| (at, position)))
            .filter(waits)
            .collect();
        self.poisoned = !waiting.is_empty() && self.patience < PATIENCE;
        if !self.poisoned && !waiting.is_empty() {
            self.complain(format!("{waiting:?} wait for people they have nothing to do with"));
        }
    }

    /// Returns what is to be read next, if anything is there; in the end nothing.
    fn next(&mut self, events: usize) -> Option<Vec<(Sequence, Arc<Stored>)>> {
        let mut read = Vec::new();
        while read.len() < events
            && let Some(event) = self.events.get(self.cursor)
        {
            if !self.is_settled(self.cursor) {
                read.push((Sequence(self.cursor as u64), Arc::clone(event)));
            }
            self.cursor += 1;
        }
        if !read.is_empty() || !self.is_last || !self.poisoned {
            return Some(read);
        }
        // One at a time, or for each request: the one before may itself wait with the poisoned.
        let at = self.events.len();
        let fresh = at - self.arrivals;
        if fresh > 0 && !self.is_settled(at - 1) && self.requests == self.fresh_at {
            return None;
        }
        self.fresh_at = self.requests;
        let keys = vec![FRESH + fresh as u64];
        let planned = vec![Planned { keys, effect: Effect::Ordinary }];
        self.events.push(stored(at, &planned));
        self.plan.events.push(planned);
        self.next(events)
    }

    /// Begins the next life: of the settlements that were not durable, only the first are.
    fn restart(&mut self) {
        let kept = self.random.usize(0..=self.volatile.len());
        self.tell(|| format!("restart; {kept} settlements were durable"));
        self.durable.extend(self.volatile.drain(..).take(kept));
        self.restarts += 1;
        self.ended.clear();
        self.applied.clear();
        self.notified.clear();
        self.cursor = 0;
    }
}

impl Destination for Model {
    fn send(&self, bodies: Vec<Bytes>, _attempt: u32) -> BoxFuture<'_, Reply> {
        async move {
            let names: Vec<Name> =
                bodies.iter().map(|body| serde_json::from_slice(body).unwrap()).collect();
            let (reply, slow) = {
                let mut world = self.world.lock().unwrap();
                world.requests += 1;
                if world.requests >= world.stop_at {
                    self.enough.notify_one();
                }
                world.watch(&names);
                let reply = world.answer(&names);
                self.more.notify_one();
                world.tell(|| format!("{names:?}: {reply:?}"));
                (reply, world.random.u8(0..4))
            };
            if slow == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            } else if slow == 1 {
                tokio::task::yield_now().await;
            }
            // Not `panic!`, which would speak of it.
            reply.unwrap_or_else(|| resume_unwind(Box::new("a defect")))
        }
        .boxed()
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), Hold>> {
        let mut world = self.world.lock().unwrap();
        let held = world.requests < world.plan.chaos && world.random.bool();
        let answer = if held { Err(hold("forbidden")) } else { Ok(()) };
        std::future::ready(answer).boxed()
    }
}

impl Buffer for Model {
    fn append(&self, _events: Vec<Stored>) -> BoxFuture<'_, Result<Sequence, AppendError>> {
        std::future::ready(Err(AppendError::Closed)).boxed()
    }

    fn read(&self, events: usize, _bytes: u64) -> BoxFuture<'_, Vec<(Sequence, Arc<Stored>)>> {
        async move {
            loop {
                let read = self.world.lock().unwrap().next(events);
                match read {
                    Some(read) => return read,
                    None => self.more.notified().await,
                }
            }
        }
        .boxed()
    }

    fn fetch(&self, events: Vec<Sequence>) -> BoxFuture<'_, Result<Vec<Arc<Stored>>, String>> {
        let mut world = self.world.lock().unwrap();
        let fails = world.requests < world.plan.chaos && world.random.u8(0..8) == 0;
        let mut fetched = Ok(Vec::new());
        for event in events {
            let at = event.0 as usize;
            if world.is_settled(at) {
                world.complain(format!("event {at} is fetched after it was settled"));
            }
            if let Ok(fetched) = &mut fetched {
                fetched.push(Arc::clone(&world.events[at]));
            }
        }
        if fails {
            fetched = Err("the disk is gone".into());
        }
        std::future::ready(fetched).boxed()
    }

    fn settle(&self, events: &[(Sequence, Outcome)]) {
        let mut world = self.world.lock().unwrap();
        for (event, _) in events {
            let at = event.0 as usize;
            if world.is_settled(at) {
                world.complain(format!("event {at} is settled twice"));
            }
            world.volatile.push(at);
            world.tell(|| format!("settled {at}"));
            let operations = world.plan.events[at].len();
            if !(0..operations).all(|position| world.ended.contains(&(at, position))) {
                world.complain(format!("event {at} is settled before its end"));
            }
        }
        self.more.notify_one();
    }

    fn record(&self, _ended: &Tally) {}

    fn flush(&self) -> BoxFuture<'_, ()> {
        std::future::ready(()).boxed()
    }

    fn all_lives(&self) -> Option<LedgerSnapshot> {
        None
    }

    fn replayed(&self, letters: Vec<LetterId>) -> BoxFuture<'_, Result<Vec<bool>, String>> {
        std::future::ready(Ok(vec![false; letters.len()])).boxed()
    }

    fn close(&self) {}

    fn stats(&self) -> BufferStats {
        let world = self.world.lock().unwrap();
        let waits = |event: &usize| world.restarts > 0 && !world.is_settled(*event);
        let waiting = (0..world.events.len()).filter(waits).count();
        BufferStats { events: waiting as u64, ..BufferStats::default() }
    }

    fn durable(&self) -> bool {
        true
    }
}

/// Starts a life.
fn life(model: &Arc<Model>, dir: &Path) -> (DeliveryHandle, tokio::task::JoinHandle<()>) {
    let (strict, read_ahead, max_items) = {
        let mut world = model.world.lock().unwrap();
        (world.plan.strict, world.plan.read_ahead, world.random.usize(1..9))
    };
    let mut config = config();
    config.batch.max_items = max_items;
    config.retry.max = Duration::from_millis(2);
    config.merge_settle = Duration::from_millis(1);
    config.ordering = if strict { Ordering::Strict } else { Ordering::Batch };
    let pace = Pace { read_ahead, forbidden_data: Duration::from_millis(4), ..pace() };
    let letters = DeadLettersConfig {
        dir: "letters".into(),
        max_size: 1 << 30,
        max_age: Duration::from_secs(86_400),
        when_full: DeadLettersFull::Hold,
    };
    let letters = Arc::new(DeadLetters::open(dir, &letters).unwrap());
    let told = Arc::clone(model);
    let on_settled: OnSettled = Arc::new(move |event, _: &Outcome| {
        let mut world = told.world.lock().unwrap();
        if !world.notified.insert(event.0 as usize) {
            world.complain(format!("{event:?} ended twice"));
        }
    });
    let buffer: Arc<dyn Buffer> = Arc::<Model>::clone(model);
    let destination: Arc<dyn Destination> = Arc::<Model>::clone(model);
    start_paced(buffer, destination, &config, letters, on_settled, pace)
}

fn tuning(random: &mut fastrand::Rng) -> Tuning {
    let mut config = config();
    config.batch.max_items = random.usize(1..9);
    config.batch.max_bytes = random.usize(20..200);
    config.batch.linger = Duration::from_millis(random.u64(0..3));
    config.retry.initial = Duration::from_micros(random.u64(100..2_000));
    config.retry.max = Duration::from_millis(random.u64(1..4));
    config.requests_per_second = random.u32(2_000..100_000);
    config.burst = random.u32(1..100);
    Tuning::from(&config)
}

/// Other limits reach a life each time that it has made so many further requests. Returns how it
/// ended, if it did.
async fn retune(
    model: &Model,
    handle: &DeliveryHandle,
    task: &mut tokio::task::JoinHandle<()>,
    requests: &[usize],
) -> Option<Result<(), tokio::task::JoinError>> {
    for requests in requests {
        let stop_at = {
            let mut world = model.world.lock().unwrap();
            world.stop_at = world.requests + requests;
            world.stop_at
        };
        while model.world.lock().unwrap().requests < stop_at {
            tokio::select! {
                ended = &mut *task => return Some(ended),
                () = model.enough.notified() => {}
            }
        }
        handle.retune(tuning(&mut model.world.lock().unwrap().random));
    }
    None
}

async fn watch(plan: Plan) -> Result<(), TestCaseError> {
    let dir = tempfile::tempdir().unwrap();
    let lives = plan.lives.clone();
    let world = Mutex::new(World::new(&plan));
    let model = Arc::new(Model { world, enough: Notify::new(), more: Notify::new() });
    for requests in lives {
        let (handle, mut task) = life(&model, dir.path());
        match retune(&model, &handle, &mut task, &requests).await {
            Some(ended) => ended.unwrap(),
            None => {
                task.abort();
                if let Err(error) = task.await {
                    assert!(error.is_cancelled(), "{error}");
                }
            }
        }
        model.world.lock().unwrap().restart();
    }
    model.world.lock().unwrap().is_last = true;
    let (handle, mut task) = life(&model, dir.path());
    let end = async {
        match retune(&model, &handle, &mut task, &plan.last).await {
            Some(ended) => ended,
            None => (&mut task).await,
        }
    };
    let end = tokio::time::timeout(super::PATIENCE, end).await;
    prop_assert!(end.is_ok(), "somebody starves: {:?}", model.world.lock().unwrap());
    end.unwrap().unwrap();
    let world = model.world.lock().unwrap();
    let fault = world.fault.as_deref().unwrap_or_default();
    prop_assert!(fault.is_empty(), "{fault}: {:#?}", world.story);
    prop_assert!((0..world.events.len()).all(|event| world.is_settled(event)));
    Ok(())
}

#[test]
fn whatever_happens_nobody_is_overtaken_and_everything_ends_once() {
    let cases = std::env::var("DELIVERY_MODEL_CASES").ok().and_then(|n| n.parse().ok());
    let config = ProptestConfig {
        cases: cases.unwrap_or(40),
        failure_persistence: None,
        max_shrink_iters: 300,
        ..ProptestConfig::default()
    };
    proptest!(config, |(plan in plans())| {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(watch(plan))?;
    });
}
