//! Vector as a process: a file with a checkpoint, an HTTP input, batches, and retries without end.
//!
//! Times are Vector's by a scale: what is a second there is [`Settings::second`] here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::{Notify, mpsc};
use tokio::time::{timeout, timeout_at};

use super::sink::{Answer, Client, Encoded, Protocol};
use super::wire::{Compression, Event, Path, parse_json};
use crate::support::PATIENCE;

/// Events that Vector's memory buffer holds.
const BUFFER: usize = 500;

/// How far requests in flight go up with `concurrency: adaptive` here.
const MOST_IN_FLIGHT: f64 = 12.0;

/// Events of a request to the HTTP input.
const POSTED: usize = 7;

#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub protocol: Protocol,
    pub compression: Compression,
    /// `request.concurrency`: 1, or adaptive.
    pub adaptive: bool,
    pub second: Duration,
    /// `request.timeout_secs`: how long an attempt waits for its answer.
    pub timeout: Duration,
    /// Batches hold up to so many events; how many, is left to chance.
    pub max_events: usize,
    /// Whether a transform leaves only the JSON, without the time of reading.
    pub only_json: bool,
}

/// What Vector did, over all its lives.
#[derive(Debug, Default)]
pub struct Figures {
    pub requests: AtomicU64,
    /// Attempts to send a request, and the events in them.
    pub attempts: AtomicU64,
    pub copies: AtomicU64,
    /// Why attempts failed.
    pub retries: Mutex<BTreeMap<String, u64>>,
    /// Why events were lost.
    pub dropped: Mutex<Vec<String>>,
}

struct Shared {
    settings: Settings,
    to: SocketAddr,
    seed: u64,
    file: Vec<String>,
    /// When the file began to grow, and how long it grows.
    growing: (Instant, Duration),
    /// What is on disk: everything before this line is delivered.
    checkpoint: AtomicUsize,
    input: Mutex<Option<mpsc::Sender<Posted>>>,
    figures: Figures,
    over: AtomicBool,
}

/// The process, and the clients of its HTTP input.
pub struct Vector {
    shared: Arc<Shared>,
    lives: u64,
    life: Option<Runtime>,
    clients: Vec<JoinHandle<()>>,
}

/// A request to the HTTP input; answered once its events are delivered.
struct Posted {
    lines: Vec<String>,
    done: SyncSender<()>,
}

/// Whom to tell that an event is delivered.
enum Ack {
    Line(usize),
    Posted(Arc<(AtomicUsize, SyncSender<()>)>),
}

struct Item {
    event: Event,
    ack: Ack,
}

impl Vector {
    /// Prepares a first life. The file grows to its length within `span`; each of `posts` is what
    /// one client of the HTTP input sends.
    pub fn new(
        settings: Settings,
        to: SocketAddr,
        seed: u64,
        file: Vec<String>,
        posts: Vec<Vec<String>>,
        span: Duration,
    ) -> Self {
        let shared = Arc::new(Shared {
            settings,
            to,
            seed,
            file,
            growing: (Instant::now(), span),
            checkpoint: AtomicUsize::new(0),
            input: Mutex::default(),
            figures: Figures::default(),
            over: AtomicBool::new(false),
        });
        let client = |lines: Vec<String>| {
            let shared = Arc::clone(&shared);
            spawn(move || post_all(&shared, &lines))
        };
        let clients = posts.into_iter().map(client).collect();
        Self { shared, lives: 0, life: None, clients }
    }

    pub fn start(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        self.lives += 1;
        let random = fastrand::Rng::with_seed(self.shared.seed ^ self.lives << 32);
        runtime.spawn(live(Arc::clone(&self.shared), random));
        self.life = Some(runtime);
    }

    /// Ends the life as SIGKILL does: connections break, and what was not delivered is forgotten.
    pub fn kill(&mut self) {
        if let Some(life) = self.life.take() {
            life.shutdown_timeout(PATIENCE);
        }
    }

    /// Tells whether everything is delivered.
    ///
    /// # Panics
    ///
    /// When a batch was dropped.
    pub fn is_done(&self) -> bool {
        let dropped = self.figures().dropped.lock().unwrap().clone();
        assert!(dropped.is_empty(), "Vector dropped a batch: {dropped:?}");
        let read = self.shared.checkpoint.load(SeqCst) == self.shared.file.len();
        read && self.clients.iter().all(JoinHandle::is_finished)
    }

    pub fn figures(&self) -> &Figures {
        &self.shared.figures
    }

    /// Where the file is read from by the next life, and its length.
    pub fn place(&self) -> (usize, usize) {
        (self.shared.checkpoint.load(SeqCst), self.shared.file.len())
    }
}

impl Drop for Vector {
    fn drop(&mut self) {
        self.shared.over.store(true, SeqCst);
        self.kill();
        for client in self.clients.drain(..) {
            drop(client.join());
        }
    }
}

/// A client of the HTTP input: one request after the other, each until it is answered.
fn post_all(shared: &Shared, lines: &[String]) {
    let requests = lines.chunks(POSTED);
    let pause = shared.growing.1 / u32::try_from(requests.len().max(1)).unwrap_or(u32::MAX);
    for request in requests {
        loop {
            let (done, answer) = sync_channel(1);
            let input = shared.input.lock().unwrap().clone();
            let posted = Posted { lines: request.to_vec(), done };
            let sent = input.is_some_and(|input| input.blocking_send(posted).is_ok());
            if sent && answer.recv().is_ok() {
                break;
            }
            if shared.over.load(SeqCst) {
                return;
            }
            sleep(Duration::from_millis(3));
        }
        sleep(pause / 2);
    }
}

async fn live(shared: Arc<Shared>, mut random: fastrand::Rng) {
    let client = Arc::new(Client::new(shared.settings.protocol, shared.to));
    let health = Arc::clone(&client);
    // Not a gate: whatever comes of it, events are sent.
    tokio::spawn(async move { health.health_check().await });
    let (to_sink, items) = mpsc::channel(BUFFER);
    let (input, posted) = mpsc::channel(4);
    *shared.input.lock().unwrap() = Some(input);
    let finalizer = Arc::new(Finalizer::new(shared.checkpoint.load(SeqCst)));
    tokio::spawn(read_file(Arc::clone(&shared), to_sink.clone(), random.fork()));
    tokio::spawn(take_posts(Arc::clone(&shared), posted, to_sink, random.fork()));
    tokio::spawn(write_checkpoints(Arc::clone(&shared), Arc::clone(&finalizer)));
    send_batches(shared, items, client, finalizer, random).await;
}

/// Reads from the checkpoint on.
async fn read_file(shared: Arc<Shared>, sink: mpsc::Sender<Item>, mut random: fastrand::Rng) {
    let mut next = shared.checkpoint.load(SeqCst);
    let (begun, span) = shared.growing;
    while let Some(line) = shared.file.get(next) {
        let due = span.mul_f64(next as f64 / shared.file.len() as f64);
        if let Some(wait) = due.checked_sub(begun.elapsed()) {
            tokio::time::sleep(wait).await;
        }
        let item = Item { event: event(&shared, line, &mut random), ack: Ack::Line(next) };
        if sink.send(item).await.is_err() {
            return;
        }
        next += 1;
    }
}

async fn take_posts(
    shared: Arc<Shared>,
    mut posted: mpsc::Receiver<Posted>,
    sink: mpsc::Sender<Item>,
    mut random: fastrand::Rng,
) {
    while let Some(Posted { lines, done }) = posted.recv().await {
        let group = Arc::new((AtomicUsize::new(lines.len()), done));
        for line in lines {
            let ack = Ack::Posted(Arc::clone(&group));
            let item = Item { event: event(&shared, &line, &mut random), ack };
            if sink.send(item).await.is_err() {
                return;
            }
        }
    }
}

/// An event as the source and the transform make it.
fn event(shared: &Shared, line: &str, random: &mut fastrand::Rng) -> Event {
    let mut root = parse_json(line);
    if !shared.settings.only_json {
        let now = chrono::Utc::now().to_rfc3339();
        let added: [(&str, Value); 3] = [
            ("host", "vm".into()),
            ("source_type", "file".into()),
            ("timestamp", json!({ "$timestamp": now })),
        ];
        let members = root.as_object_mut().expect("an event is an object");
        for (name, value) in added {
            members.entry(name).or_insert(value);
        }
    }
    let id = uuid::Builder::from_random_bytes(random.u128(..).to_be_bytes()).into_uuid();
    Event { root, source_event_id: id.into_bytes() }
}

async fn write_checkpoints(shared: Arc<Shared>, finalizer: Arc<Finalizer>) {
    loop {
        tokio::time::sleep(shared.settings.second).await;
        shared.checkpoint.store(finalizer.delivered(), SeqCst);
    }
}

/// Moves over lines in their order.
struct Finalizer(Mutex<(usize, BTreeSet<usize>)>);

impl Finalizer {
    fn new(next: usize) -> Self {
        Self(Mutex::new((next, BTreeSet::new())))
    }

    fn deliver(&self, line: usize) {
        let (next, ahead) = &mut *self.0.lock().unwrap();
        ahead.insert(line);
        while ahead.remove(next) {
            *next += 1;
        }
    }

    fn delivered(&self) -> usize {
        self.0.lock().unwrap().0
    }
}

async fn send_batches(
    shared: Arc<Shared>,
    mut items: mpsc::Receiver<Item>,
    client: Arc<Client>,
    finalizer: Arc<Finalizer>,
    mut random: fastrand::Rng,
) {
    let settings = shared.settings;
    let limit = Arc::new(Limit::new(settings.adaptive));
    let path = Path { source_id: "in", source_type: "file", upstream: "rudder" };
    while let Some(first) = items.recv().await {
        let most = random.usize(1..=settings.max_events);
        let until = tokio::time::Instant::now() + settings.second;
        let mut batch = vec![first];
        while batch.len() < most {
            let Ok(Some(item)) = timeout_at(until, items.recv()).await else { break };
            batch.push(item);
        }
        let (events, acks): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|item| (item.event, item.ack)).unzip();
        let request = settings.protocol.encode(&events, path, settings.compression, shared.to);
        limit.enter().await;
        tokio::spawn(
            Sending {
                shared: Arc::clone(&shared),
                client: Arc::clone(&client),
                finalizer: Arc::clone(&finalizer),
                limit: Arc::clone(&limit),
                random: random.fork(),
                request,
                acks,
            }
            .until_delivered(),
        );
    }
}

/// One request on its way.
struct Sending {
    shared: Arc<Shared>,
    client: Arc<Client>,
    finalizer: Arc<Finalizer>,
    limit: Arc<Limit>,
    random: fastrand::Rng,
    request: Encoded,
    acks: Vec<Ack>,
}

impl Sending {
    async fn until_delivered(mut self) {
        let figures = &self.shared.figures;
        figures.requests.fetch_add(1, SeqCst);
        let second = self.shared.settings.second;
        let (mut wait, mut next) = (1, 2);
        loop {
            figures.attempts.fetch_add(1, SeqCst);
            figures.copies.fetch_add(self.acks.len() as u64, SeqCst);
            let answer =
                timeout(self.shared.settings.timeout, self.client.send(&self.request)).await;
            match answer.unwrap_or_else(|_| Answer::Retry("timeout".to_owned())) {
                Answer::Delivered => break,
                Answer::Dropped(text) => {
                    figures.dropped.lock().unwrap().push(text);
                    return;
                }
                Answer::Retry(text) => {
                    *figures.retries.lock().unwrap().entry(text).or_default() += 1;
                }
            }
            self.limit.failed();
            let longest = second.min(Duration::from_secs(1)) * wait.min(30);
            tokio::time::sleep(longest.mul_f64(self.random.f64())).await;
            (wait, next) = (next, wait + next);
        }
        for ack in self.acks {
            match ack {
                Ack::Line(line) => self.finalizer.deliver(line),
                Ack::Posted(group) => {
                    let (left, done) = &*group;
                    if left.fetch_sub(1, SeqCst) == 1 {
                        // The client may be gone.
                        done.try_send(()).ok();
                    }
                }
            }
        }
        self.limit.succeeded();
    }
}

/// How many requests may be in flight: one, or more the longer nothing fails.
struct Limit {
    adaptive: bool,
    state: Mutex<(f64, f64)>,
    free: Notify,
}

impl Limit {
    fn new(adaptive: bool) -> Self {
        Self { adaptive, state: Mutex::new((1.0, 0.0)), free: Notify::new() }
    }

    async fn enter(&self) {
        loop {
            {
                let (limit, inside) = &mut *self.state.lock().unwrap();
                if *inside < limit.floor() {
                    *inside += 1.0;
                    return;
                }
            }
            self.free.notified().await;
        }
    }

    fn succeeded(&self) {
        let (limit, inside) = &mut *self.state.lock().unwrap();
        *inside -= 1.0;
        if self.adaptive {
            *limit = (*limit + 1.0 / *limit).min(MOST_IN_FLIGHT);
        }
        self.free.notify_one();
    }

    fn failed(&self) {
        let (limit, _) = &mut *self.state.lock().unwrap();
        *limit = (*limit * 0.9).max(1.0);
    }
}
