use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use bytes::Bytes;
use chrono::DateTime;
use futures_util::FutureExt;

use super::*;
use crate::buffer::Stored;
use crate::buffer::memory::MemoryBuffer;
use crate::config::{
    BatchConfig, DeadLettersConfig, DeadLettersFull, Ordering, Region, RetryConfig, WhenFull,
};
use crate::event::Original;
use crate::operation::{ConflictKeys, Effect, Operation};
use crate::outcome::OutcomeKind;

pub(super) fn config() -> CustomerIoConfig {
    CustomerIoConfig {
        site_id: "site".into(),
        api_key: "key".into(),
        region: Region::Us,
        endpoint: None,
        api: crate::config::Api::V2,
        environment_id: None,
        check_credentials: false,
        allow_insecure: false,
        extra_roots: vec![],
        ordering: Ordering::Batch,
        merge_settle: Duration::from_millis(5),
        requests_per_second: 100_000,
        burst: 100_000,
        concurrency: 4,
        batch: BatchConfig {
            max_bytes: 500_000,
            max_items: 1000,
            linger: Duration::from_millis(1),
        },
        connect_timeout: Duration::from_secs(60),
        timeout: Duration::from_secs(60),
        retry: RetryConfig {
            initial: Duration::from_millis(1),
            max: Duration::from_millis(8),
            give_up_after: Duration::from_secs(3600),
            statuses: [408, 421, 423, 425, 429]
                .map(crate::config::StatusPattern::Code)
                .into_iter()
                .chain([crate::config::StatusPattern::Class(5)])
                .collect(),
            item_reasons: vec![],
        },
    }
}

/// How long a test waits for something that must happen; a limit, not a measure.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn pace() -> Pace {
    Pace {
        probe_first: Duration::from_millis(1),
        probe_longest: Duration::from_millis(4),
        least_asked_wait: Duration::from_millis(1),
        fetch_pause: Duration::from_millis(1),
        dead_letter_pause: Duration::from_millis(1),
        ..Pace::default()
    }
}

/// An event whose operations are named by their people and numbers: every letter is a person, so
/// that `a1b2` is about two. A leading `=` marks a barrier.
pub(super) fn event(operations: &[&str]) -> Stored {
    let operations = operations
        .iter()
        .map(|name| Operation {
            keys: ConflictKeys(
                name.bytes().filter(u8::is_ascii_alphabetic).map(u64::from).collect(),
            ),
            effect: if name.starts_with('=') { Effect::Barrier } else { Effect::Ordinary },
            body: Bytes::from(format!("\"{name}\"")),
        })
        .collect();
    Stored {
        operations,
        original: Original { raw: Bytes::from_static(b"{}"), assigned: Default::default() },
        id_input: Default::default(),
        received_at: DateTime::UNIX_EPOCH,
        source: "test".into(),
        letter: None,
    }
}

type Rule = dyn Fn(usize, &[String]) -> Reply + Send + Sync;

/// A destination that answers by a rule: number of the request (from 0) and names in it.
struct Fake {
    rule: Box<Rule>,
    sent: Mutex<Vec<(Vec<String>, u32)>>,
    probes: Mutex<Vec<Result<(), Hold>>>,
    probed: AtomicUsize,
    /// Each probe waits for a permit, if set.
    slow_probe: Mutex<Option<Arc<tokio::sync::Semaphore>>>,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
}

impl std::fmt::Debug for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fake")
    }
}

impl Fake {
    fn new(rule: impl Fn(usize, &[String]) -> Reply + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            rule: Box::new(rule),
            sent: Mutex::default(),
            probes: Mutex::default(),
            probed: AtomicUsize::new(0),
            slow_probe: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            most_in_flight: AtomicUsize::new(0),
        })
    }

    fn requests(&self) -> Vec<Vec<String>> {
        self.sent.lock().unwrap().iter().map(|(names, _)| names.clone()).collect()
    }
}

impl Destination for Fake {
    fn send(&self, bodies: Vec<Bytes>, attempt: u32) -> BoxFuture<'_, Reply> {
        async move {
            let flying = self.in_flight.fetch_add(1, SeqCst) + 1;
            self.most_in_flight.fetch_max(flying, SeqCst);
            let names: Vec<String> = bodies
                .iter()
                .map(|b| String::from_utf8_lossy(b).trim_matches('"').to_owned())
                .collect();
            let number = {
                let mut sent = self.sent.lock().unwrap();
                sent.push((names.clone(), attempt));
                sent.len() - 1
            };
            let reply = (self.rule)(number, &names);
            if number % 3 == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            self.in_flight.fetch_sub(1, SeqCst);
            reply
        }
        .boxed()
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), Hold>> {
        async move {
            self.probed.fetch_add(1, SeqCst);
            let slow = self.slow_probe.lock().unwrap().clone();
            if let Some(slow) = slow {
                slow.acquire().await.unwrap().forget();
            }
            let mut probes = self.probes.lock().unwrap();
            if probes.is_empty() { Ok(()) } else { probes.remove(0) }
        }
        .boxed()
    }
}

fn delivered(names: &[String]) -> Reply {
    Reply::Items(vec![Verdict::Delivered; names.len()])
}

fn refusal(message: &str) -> Refusal {
    Refusal { message: Some(message.into()), status: Some(400), ..Refusal::default() }
}

fn again(why: &'static str) -> Reply {
    Reply::Retry { after: None, why, unknown: false }
}

fn hold(code: &'static str) -> Hold {
    Hold { code, message: "mend it".into() }
}

/// A delivery in a folder of its own.
struct World {
    dir: tempfile::TempDir,
    config: CustomerIoConfig,
    pace: Pace,
    letters: DeadLettersConfig,
    buffer: Arc<MemoryBuffer>,
    fake: Arc<Fake>,
    ended: Arc<Mutex<Vec<(Sequence, Outcome)>>>,
}

impl World {
    fn new(fake: Arc<Fake>) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            config: config(),
            pace: pace(),
            letters: DeadLettersConfig {
                dir: "letters".into(),
                max_size: 1 << 30,
                max_age: Duration::from_secs(86_400),
                when_full: DeadLettersFull::Hold,
            },
            buffer: Arc::new(MemoryBuffer::new(1 << 30, WhenFull::Wait)),
            fake,
            ended: Arc::default(),
        }
    }

    async fn put<'a>(&self, events: impl IntoIterator<Item = &'a [&'a str]>) {
        self.buffer.append(events.into_iter().map(event).collect()).await.unwrap();
    }

    async fn put_each(&self, names: &[&str]) {
        self.put(names.iter().map(std::slice::from_ref)).await;
    }

    fn start(&self) -> (DeliveryHandle, tokio::task::JoinHandle<()>) {
        self.start_on(Arc::<MemoryBuffer>::clone(&self.buffer))
    }

    fn start_on(&self, buffer: Arc<dyn Buffer>) -> (DeliveryHandle, tokio::task::JoinHandle<()>) {
        self.start_between(buffer, Arc::<Fake>::clone(&self.fake))
    }

    fn start_between(
        &self,
        buffer: Arc<dyn Buffer>,
        destination: Arc<dyn Destination>,
    ) -> (DeliveryHandle, tokio::task::JoinHandle<()>) {
        let letters = Arc::new(DeadLetters::open(self.dir.path(), &self.letters).unwrap());
        let (ended, dir) = (Arc::clone(&self.ended), self.folder());
        let on_settled: OnSettled = Arc::new(move |sequence, outcome: &Outcome| {
            if outcome.kind() == OutcomeKind::Rejected {
                assert!(!lines(&dir).is_empty(), "settled before its letter was written");
            }
            ended.lock().unwrap().push((sequence, outcome.clone()));
        });
        start_paced(buffer, destination, &self.config, letters, on_settled, self.pace.clone())
    }

    async fn finish(&self, task: tokio::task::JoinHandle<()>) {
        self.buffer.close();
        tokio::time::timeout(PATIENCE, task).await.expect("it ends").unwrap();
        assert_eq!(self.buffer.stats().events, 0, "everything is settled");
    }

    async fn run(&self) {
        let (_, task) = self.start();
        self.finish(task).await;
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("letters")
    }

    fn letters(&self) -> Vec<serde_json::Value> {
        lines(&self.folder())
    }

    fn counts(&self) -> (usize, usize) {
        let ended = self.ended.lock().unwrap();
        let unique: HashSet<_> = ended.iter().map(|(s, _)| *s).collect();
        assert_eq!(unique.len(), ended.len(), "an event ended twice");
        let delivered = ended.iter().filter(|(_, o)| *o == Outcome::Delivered).count();
        (delivered, ended.len() - delivered)
    }
}

fn lines(dir: &Path) -> Vec<serde_json::Value> {
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let text: String = files.iter().map(|f| std::fs::read_to_string(f).unwrap()).collect();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn until(mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("it comes true");
}

#[tokio::test]
async fn what_waits_leaves_in_one_batch_in_order() {
    let world = World::new(Fake::new(|_, names| delivered(names)));
    world.put_each(&["a1", "b1", "a2", "c1"]).await;
    world.run().await;
    assert_eq!(world.fake.requests(), [["a1", "b1", "a2", "c1"]]);
    assert_eq!(world.counts(), (4, 0));
    assert!(world.letters().is_empty());
}

#[tokio::test]
async fn batches_keep_to_bytes_and_count() {
    let mut world = World::new(Fake::new(|_, names| delivered(names)));
    world.config.batch.max_items = 3;
    world.put_each(&["a1", "b1", "c1", "d1", "e1", "f1", "g1"]).await;
    world.run().await;
    assert!(world.fake.requests().iter().all(|r| r.len() <= 3));
    // `{"batch":["a1","b1"]}` has 21 bytes.
    let mut world = World::new(Fake::new(|_, names| delivered(names)));
    world.config.batch.max_bytes = 21;
    world.put_each(&["a1", "b1", "c1", "d1"]).await;
    world.run().await;
    assert_eq!(world.fake.requests(), [["a1", "b1"], ["c1", "d1"]]);
}

#[tokio::test]
async fn a_barrier_has_its_own_request_among_its_person() {
    let world = World::new(Fake::new(|_, names| delivered(names)));
    world.put_each(&["a1", "=a2", "a3"]).await;
    world.run().await;
    assert_eq!(world.fake.requests(), [["a1"], ["=a2"], ["a3"]]);
}

#[tokio::test]
async fn a_rejected_item_becomes_a_letter_and_the_others_are_delivered() {
    let world = World::new(Fake::new(|_, names| {
        Reply::Items(
            names
                .iter()
                .map(|n| match n.as_str() {
                    "b1" => Verdict::Rejected(Refusal {
                        reason: Some("invalid".into()),
                        field: Some("f".into()),
                        message: Some("m".into()),
                        status: Some(207),
                    }),
                    _ => Verdict::Delivered,
                })
                .collect(),
        )
    }));
    world.put_each(&["a1", "b1", "b2"]).await;
    world.run().await;
    assert_eq!(world.counts(), (2, 1));
    let letter = &world.letters()[0];
    assert_eq!(letter["reason"], "refused");
    assert_eq!(letter["detail"], "invalid");
    assert_eq!((&letter["field"], &letter["message"]), (&"f".into(), &"m".into()));
    assert_eq!((letter["status"].as_u64(), letter["attempts"].as_u64()), (Some(207), Some(1)));
    assert_eq!(letter["operations"], serde_json::json!(["b1"]));
}

#[tokio::test]
async fn an_event_is_rejected_once_if_any_of_its_operations_is() {
    let world = World::new(Fake::new(|_, names| {
        Reply::Items(
            names
                .iter()
                .map(|n| match n.as_str() {
                    "a1" | "b1" => Verdict::Rejected(refusal(n)),
                    _ => Verdict::Delivered,
                })
                .collect(),
        )
    }));
    world.put([&["a1", "b1", "c1"][..], &["d1", "e1"][..]]).await;
    world.run().await;
    assert_eq!(world.counts(), (1, 1));
    assert_eq!(world.letters().len(), 1);
    assert_eq!(world.letters()[0]["message"], "a1");
}

#[tokio::test]
async fn one_bad_operation_among_a_thousand_is_found_with_21_requests() {
    for bad in [0, 499, 500, 999] {
        let world = World::new(Fake::new(move |_, names| {
            if names.contains(&format!("x{bad}")) {
                Reply::Split(refusal("malformed"))
            } else {
                delivered(names)
            }
        }));
        let names: Vec<String> = (0..1000).map(|n| format!("x{n}")).collect();
        world.put_each(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
        world.run().await;
        assert_eq!(world.counts(), (999, 1));
        assert!(world.fake.requests().len() <= 21, "{}", world.fake.requests().len());
        assert_eq!(world.letters()[0]["message"], "malformed");
        // All are of one person: those that passed must have passed in order.
        let passed: Vec<usize> = world
            .fake
            .requests()
            .iter()
            .filter(|r| !r.contains(&format!("x{bad}")))
            .flatten()
            .map(|n| n.trim_start_matches('x').parse().unwrap())
            .collect();
        assert!(passed.is_sorted() && passed.len() == 999);
    }
}

#[tokio::test]
async fn a_single_operation_that_is_too_large_says_so() {
    let world = World::new(Fake::new(|_, _| {
        Reply::Split(Refusal { status: Some(413), ..Refusal::default() })
    }));
    world.put_each(&["a1"]).await;
    world.run().await;
    assert_eq!(world.letters()[0]["reason"], "too_large");
}

#[tokio::test]
async fn batches_refused_for_their_size_lower_the_limit() {
    let mut world = World::new(Fake::new(|_, names| {
        if names.len() > 50 { Reply::Split(refusal("too many")) } else { delivered(names) }
    }));
    world.config.concurrency = 1;
    world.config.batch.max_items = 100;
    let names: Vec<String> = (0..1000).map(|n| format!("x{n}")).collect();
    world.put_each(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    world.run().await;
    assert_eq!(world.counts(), (1000, 0));
    let refused = world.fake.requests().iter().filter(|r| r.len() > 50).count();
    assert_eq!(refused, 3);
}

#[tokio::test]
async fn a_failed_batch_goes_again_whole_with_its_count() {
    let world = World::new(Fake::new(|n, names| match n {
        0 => Reply::Retry { after: None, why: "timeout", unknown: true },
        1 => Reply::Retry { after: Some(Duration::ZERO), why: "http_503", unknown: false },
        2 => again("http_429"),
        _ => delivered(names),
    }));
    world.put_each(&["a1", "a2", "b1"]).await;
    world.run().await;
    let sent = world.fake.sent.lock().unwrap().clone();
    let attempts: Vec<u32> = sent.iter().map(|(_, attempt)| *attempt).collect();
    assert_eq!(attempts, [0, 1, 1, 1], "being asked to wait is no attempt");
    assert!(sent.iter().all(|(names, _)| names == &["a1", "a2", "b1"]));
    assert_eq!(world.counts(), (3, 0));
}

#[tokio::test]
async fn a_letter_does_not_count_the_requests_that_came_too_early() {
    let world = World::new(Fake::new(|n, _| match n {
        0 => again("http_429"),
        1 => Reply::Retry { after: Some(Duration::ZERO), why: "http_429", unknown: false },
        2 => Reply::Retry { after: Some(Duration::ZERO), why: "http_503", unknown: false },
        3 => again("http_503"),
        _ => Reply::Split(refusal("no")),
    }));
    world.put_each(&["a1"]).await;
    world.run().await;
    assert_eq!(world.letters()[0]["attempts"], 2);
    assert_eq!(world.fake.sent.lock().unwrap().last().unwrap().1, 1);
}

#[tokio::test]
async fn unknown_items_go_again_singly_and_the_letter_says_unknown() {
    let world = World::new(Fake::new(|n, names| match (n, names) {
        (0, _) => Reply::Items(vec![Verdict::Delivered, Verdict::Unknown, Verdict::Unknown]),
        (_, [name]) if name == "c1" => Reply::Split(refusal("no")),
        _ => delivered(names),
    }));
    world.put_each(&["a1", "b1", "c1"]).await;
    world.run().await;
    assert_eq!(world.fake.requests()[1..], [["b1"], ["c1"]]);
    assert_eq!(world.counts(), (2, 1));
    assert_eq!(world.letters()[0]["unknown"], true);
    assert_eq!(world.letters()[0]["attempts"], 2);
}

#[tokio::test]
async fn a_single_operation_that_stays_unknown_backs_off_and_ends() {
    let world = World::new(Fake::new(|n, names| match n {
        0..4 => Reply::Items(vec![Verdict::Unknown]),
        _ => delivered(names),
    }));
    world.put_each(&["a1"]).await;
    world.run().await;
    assert_eq!(world.fake.requests().len(), 5);
    assert_eq!(world.counts(), (1, 0));
}

#[tokio::test]
async fn items_of_a_refused_request_that_were_not_named_go_again_together() {
    let world = World::new(Fake::new(|n, names| match n {
        0 => Reply::Items(vec![Verdict::Again, Verdict::Rejected(refusal("b")), Verdict::Again]),
        _ => delivered(names),
    }));
    world.put_each(&["a1", "b1", "c1"]).await;
    world.run().await;
    assert_eq!(world.fake.requests()[1], ["a1", "c1"]);
    assert_eq!(world.counts(), (2, 1));
}

#[tokio::test]
async fn an_item_refused_for_a_passing_reason_goes_again_later() {
    let world = World::new(Fake::new(|n, names| match n {
        0..3 => {
            let later = Verdict::Later(refusal("busy"));
            let of = |name: &String| if name == "a1" { later.clone() } else { Verdict::Delivered };
            Reply::Items(names.iter().map(of).collect())
        }
        _ => delivered(names),
    }));
    world.put_each(&["a1", "b1"]).await;
    world.run().await;
    assert_eq!(world.fake.requests()[1..], [["a1"], ["a1"], ["a1"]]);
    assert_eq!(world.counts(), (2, 0));
}

#[tokio::test]
async fn a_hold_keeps_everything_and_goes_on_by_itself() {
    let fake = Fake::new(|n, names| match n {
        0 | 1 => Reply::Hold(hold("unauthorized")),
        _ => delivered(names),
    });
    *fake.probes.lock().unwrap() =
        vec![Err(hold("unauthorized")), Err(hold("unreachable")), Ok(()), Err(hold("tls"))];
    let world = World::new(fake);
    world.put_each(&["a1", "b1"]).await;
    world.run().await;
    assert_eq!(world.fake.requests(), [["a1", "b1"], ["a1", "b1"], ["a1", "b1"]]);
    assert_eq!(world.fake.probed.load(SeqCst), 5);
    assert_eq!(world.counts(), (2, 0));
}

#[tokio::test]
async fn a_held_delivery_says_so_and_resume_probes_at_once() {
    let fake = Fake::new(|n, names| match n {
        0 => Reply::Hold(hold("forbidden")),
        _ => delivered(names),
    });
    let mut world = World::new(fake);
    world.pace.probe_first = Duration::from_secs(3600);
    world.pace.probe_longest = Duration::from_secs(3600);
    world.put_each(&["a1"]).await;
    let (handle, task) = world.start();
    until(|| handle.status().state == "held").await;
    assert_eq!(handle.status().reason.as_deref(), Some("forbidden"));
    assert!(handle.status().since.is_some());
    handle.resume();
    world.finish(task).await;
    assert_eq!(world.counts(), (1, 0));
}

#[tokio::test]
async fn a_wrong_workspace_is_held_before_anything_is_sent() {
    let fake = Fake::new(|_, names| delivered(names));
    *fake.probes.lock().unwrap() = vec![Err(hold("unreachable")), Err(hold("wrong_workspace"))];
    let mut world = World::new(fake);
    world.pace.probe_first = Duration::from_millis(1);
    world.config.environment_id = Some(7);
    world.put_each(&["a1"]).await;
    let (_, task) = world.start();
    until(|| world.fake.probed.load(SeqCst) >= 2).await;
    world.finish(task).await;
    assert_eq!(world.fake.probed.load(SeqCst), 3, "nothing was sent before the third");
    assert_eq!(world.counts(), (1, 0));
}

#[tokio::test]
async fn credentials_that_cannot_be_checked_do_not_stop_the_start() {
    let fake = Fake::new(|_, names| delivered(names));
    *fake.probes.lock().unwrap() = vec![Err(hold("unreachable")); 1000];
    let mut world = World::new(fake);
    world.config.check_credentials = true;
    world.put_each(&["a1"]).await;
    world.run().await;
    assert_eq!(world.fake.probed.load(SeqCst), 1);
    assert_eq!(world.counts(), (1, 0));
}

#[tokio::test]
async fn a_pause_sends_nothing_until_resumed() {
    let world = World::new(Fake::new(|_, names| delivered(names)));
    let (handle, task) = world.start();
    handle.pause();
    until(|| handle.status().state == "paused").await;
    world.put_each(&["a1"]).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(world.fake.requests().is_empty());
    handle.resume();
    world.finish(task).await;
    assert_eq!(world.counts(), (1, 0));
}

/// Answers well, but never to requests with `p` in them.
fn poisoned() -> Arc<Fake> {
    Fake::new(|_, names| {
        if names.iter().any(|n| n.starts_with('p')) { again("http_500") } else { delivered(names) }
    })
}

#[tokio::test]
async fn a_poisoned_batch_is_split_and_the_culprit_expires_alone() {
    let mut world = World::new(poisoned());
    world.config.retry.give_up_after = Duration::from_millis(30);
    world.put_each(&["a1", "b1", "p1", "c1"]).await;
    let (_, task) = world.start();
    // Others have to succeed meanwhile, or else it is an outage.
    for n in 0.. {
        if world.counts().1 == 1 {
            break;
        }
        assert!(n < 20_000, "it never expires");
        let other = char::from(b'A' + (n % 26) as u8).to_string();
        world.put_each(&[other.as_str()]).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    world.finish(task).await;
    let letters = world.letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0]["reason"], "expired");
    assert_eq!(letters[0]["operations"], serde_json::json!(["p1"]));
    let delivered: HashSet<String> = world.fake.requests().into_iter().flatten().collect();
    assert!(["a1", "b1", "c1"].iter().all(|n| delivered.contains(*n)));
}

#[tokio::test]
async fn a_poisoned_operation_makes_only_its_own_person_wait() {
    let world = World::new(poisoned());
    // They are in one batch with the culprit, and one stands behind it in its lane.
    world.put_each(&["a1", "p1", "b1", "p2", "c1"]).await;
    let (_, task) = world.start();
    let mut n = 0;
    until(|| {
        // Not a bystander of the batch: what shows that the destination works.
        n += 1;
        let other = char::from(b'A' + (n % 26) as u8).to_string();
        world.buffer.append(vec![event(&[&other])]).now_or_never().unwrap().unwrap();
        let ended: HashSet<u64> = world.ended.lock().unwrap().iter().map(|(s, _)| s.0).collect();
        [0, 2, 4].iter().all(|s| ended.contains(s))
    })
    .await;
    let ended: HashSet<u64> = world.ended.lock().unwrap().iter().map(|(s, _)| s.0).collect();
    assert!(!ended.contains(&1) && !ended.contains(&3));
    task.abort();
}

#[tokio::test]
async fn a_poisoned_operation_does_not_keep_the_rest_of_the_only_batch() {
    let world = World::new(poisoned());
    // Nobody else is there to show that the destination works, and more of the same people wait.
    world.put_each(&["a1", "b1", "p1", "c1", "d1", "e1", "a2", "b2", "p2", "c2"]).await;
    let (_, task) = world.start();
    until(|| world.counts().0 == 8).await;
    let ended: HashSet<u64> = world.ended.lock().unwrap().iter().map(|(s, _)| s.0).collect();
    assert!(!ended.contains(&2) && !ended.contains(&8));
    task.abort();
}

#[tokio::test]
async fn a_poisoned_operation_keeps_nobody_else_wherever_it_stands_in_the_only_batch() {
    for seed in 0..100 {
        let mut random = fastrand::Rng::with_seed(seed);
        let names: Vec<String> = (0..random.usize(2..16))
            .map(|n| format!("{}{n}", random.choice(["a", "b", "c", "p"]).unwrap()))
            .collect();
        let world = World::new(poisoned());
        let texts: Vec<_> = names.iter().map(String::as_str).collect();
        world.put_each(&texts).await;
        let (_, task) = world.start();
        let others = names.iter().filter(|name| !name.starts_with('p')).count();
        // Told if it is in vain.
        eprintln!("seed {seed}: {names:?}");
        until(|| world.counts().0 == others).await;
        task.abort();
    }
}

/// Without a share of their own, retries that are always due would leave no request for others.
#[tokio::test]
async fn many_poisoned_operations_leave_most_requests_to_the_others() {
    let poisoned = |name: &String| name.as_bytes()[0].is_ascii_lowercase();
    let mut world = World::new(Fake::new(move |_, names| {
        if names.iter().any(poisoned) { again("http_500") } else { delivered(names) }
    }));
    (world.config.concurrency, world.config.batch.max_items) = (1, 1);
    (world.config.retry.initial, world.config.retry.max) = (Duration::ZERO, Duration::ZERO);
    let bad: Vec<String> = ('a'..='z').map(String::from).collect();
    let good: Vec<String> =
        (0..400).map(|n| format!("{}{n}", ('A'..='Z').nth(n % 26).unwrap())).collect();
    world.put_each(&bad.iter().chain(&good).map(String::as_str).collect::<Vec<_>>()).await;
    let (_, task) = world.start();
    until(|| world.counts().0 == good.len()).await;
    task.abort();
    // Three failures make a suspect; until then old and new take turns.
    let until_suspects = 2 * 3 * bad.len();
    let requests = world.fake.requests().len();
    assert!(requests <= until_suspects + good.len() * 4 / 3 + 20, "{requests} requests");
}

/// Never answers a request with `h` in it, and all others at once.
#[derive(Debug, Default)]
struct Hanging;

impl Destination for Hanging {
    fn send(&self, bodies: Vec<Bytes>, _attempt: u32) -> BoxFuture<'_, Reply> {
        async move {
            if bodies.iter().any(|body| body.starts_with(b"\"h")) {
                std::future::pending::<()>().await;
            }
            Reply::Items(vec![Verdict::Delivered; bodies.len()])
        }
        .boxed()
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), Hold>> {
        async { Ok(()) }.boxed()
    }
}

#[tokio::test]
async fn without_linger_a_batch_leaves_although_a_request_is_under_way() {
    let mut world = World::new(Fake::new(|_, names| delivered(names)));
    world.config.batch.linger = Duration::ZERO;
    let (_, task) =
        world.start_between(Arc::<MemoryBuffer>::clone(&world.buffer), Arc::new(Hanging));
    world.put_each(&["h1"]).await;
    // Read together they would travel together.
    until(|| world.buffer.read(1, 1).now_or_never().is_none()).await;
    world.put_each(&["a1"]).await;
    until(|| world.counts().0 == 1).await;
    task.abort();
}

#[tokio::test]
async fn an_outage_of_any_length_gives_nothing_up() {
    let mut world =
        World::new(Fake::new(|n, names| if n < 60 { again("http_503") } else { delivered(names) }));
    world.config.retry.give_up_after = Duration::from_millis(1);
    world.config.batch.max_items = 2;
    world.put_each(&["a1", "b1", "c1", "d1", "e1", "f1"]).await;
    world.run().await;
    assert_eq!(world.counts(), (6, 0));
}

/// Refuses the operations whose name begins with an `a`.
fn refusing_a() -> Arc<Fake> {
    let verdict = |name: &String| match name.as_bytes()[0] {
        b'a' => Verdict::Rejected(refusal("no")),
        _ => Verdict::Delivered,
    };
    Fake::new(move |_, names| Reply::Items(names.iter().map(verdict).collect()))
}

#[tokio::test]
async fn letters_that_cannot_be_written_keep_their_events() {
    let mut world = World::new(refusing_a());
    // Room for one letter and a half.
    world.letters.max_size = 600;
    world.put_each(&["a1"]).await;
    let (handle, task) = world.start();
    until(|| world.counts() == (0, 1)).await;
    world.put_each(&["a2", "b1"]).await;
    until(|| world.counts() == (1, 1)).await;
    until(|| handle.status().reason.is_some()).await;
    assert_eq!(world.buffer.stats().events, 1);
    for entry in std::fs::read_dir(world.folder()).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    world.finish(task).await;
    assert_eq!(world.counts(), (1, 2));
    assert_eq!(world.letters().len(), 1);
}

#[tokio::test]
async fn no_more_requests_are_under_way_than_allowed() {
    let mut world = World::new(Fake::new(|_, names| delivered(names)));
    world.config.concurrency = 3;
    world.config.batch.max_items = 1;
    let names: Vec<String> =
        (0..200).map(|n| format!("{}", char::from(b'a' + (n % 20) as u8))).collect();
    world.put_each(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    world.run().await;
    assert_eq!(world.counts(), (200, 0));
    assert!(world.fake.most_in_flight.load(SeqCst) <= 3);
}

#[tokio::test]
async fn a_hot_person_does_not_stop_the_others() {
    let mut world = World::new(Fake::new(|n, names| {
        if n < 20 && names.iter().any(|n| n.starts_with('h')) {
            again("http_500")
        } else {
            delivered(names)
        }
    }));
    // The window is full of one person's operations before the others' come.
    world.pace.read_ahead = 10;
    world.config.batch.max_items = 2;
    let mut names = vec!["h"; 50];
    names.extend(["a", "b", "c"]);
    world.put_each(&names).await;
    world.run().await;
    let requests = world.fake.requests();
    let at = |name: &str| requests.iter().position(|r| r.iter().any(|n| n == name)).unwrap();
    let last_hot = requests.iter().rposition(|r| r.iter().any(|n| n == "h")).unwrap();
    assert!(at("a") < last_hot && at("c") < last_hot);
    assert_eq!(world.counts(), (53, 0));
}

#[tokio::test]
async fn aborting_the_task_leaves_what_was_not_settled_in_the_buffer() {
    let world = World::new(Fake::new(|_, _| again("http_503")));
    world.put_each(&["a1", "b1"]).await;
    let (_, task) = world.start();
    until(|| !world.fake.requests().is_empty()).await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert_eq!(world.buffer.stats().events, 2);
    assert_eq!(world.counts(), (0, 0));
}

/// Reads the people of an operation and its number for each.
fn people(name: &str) -> Vec<(char, usize)> {
    let mut people: Vec<(char, usize)> = Vec::new();
    for c in name.chars() {
        match (c.to_digit(10), people.last_mut()) {
            (Some(digit), Some((_, number))) => *number = *number * 10 + digit as usize,
            _ => people.push((c, 0)),
        }
    }
    people
}

/// Whatever the answers, at any moment a request holds only operations whose person's earlier ones
/// have all had their last word, or stand before them in the same request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answers_make_anybody_overtake_and_everything_ends() {
    for seed in 0..40 {
        let random = Mutex::new(fastrand::Rng::with_seed(seed));
        let done: Mutex<HashSet<(char, usize)>> = Mutex::default();
        let strict = seed % 4 == 3;
        let fake = Fake::new(move |n, names| {
            let mut random = random.lock().unwrap();
            let mut done = done.lock().unwrap();
            let mut before: HashMap<char, Vec<usize>> = HashMap::new();
            for name in names {
                for (person, number) in people(name) {
                    let here = before.entry(person).or_default();
                    for earlier in 0..number {
                        assert!(
                            done.contains(&(person, earlier)) || here.contains(&earlier),
                            "{person}{earlier} was overtaken by {name} in request {n}"
                        );
                    }
                    assert!(!strict || here.is_empty());
                    here.push(number);
                }
            }
            let reply = match random.u8(0..12) {
                _ if n > 400 => delivered(names),
                0 => again("http_500"),
                1 => Reply::Retry { after: None, why: "timeout", unknown: true },
                2 => Reply::Retry { after: Some(Duration::ZERO), why: "http_429", unknown: false },
                3 => Reply::Hold(hold("forbidden")),
                4 => Reply::Split(refusal("no")),
                _ => Reply::Items(
                    names
                        .iter()
                        .map(|_| match random.u8(0..20) {
                            0 => Verdict::Rejected(refusal("no")),
                            1 => Verdict::Unknown,
                            2 => Verdict::Again,
                            // Often, since then a parcel is parted.
                            3..8 => Verdict::Later(refusal("busy")),
                            _ => Verdict::Delivered,
                        })
                        .collect(),
                ),
            };
            match &reply {
                Reply::Items(verdicts) => {
                    for (name, verdict) in names.iter().zip(verdicts) {
                        if matches!(verdict, Verdict::Delivered | Verdict::Rejected(_)) {
                            for part in people(name) {
                                assert!(done.insert(part), "{name} was sent after its end");
                            }
                        }
                    }
                }
                Reply::Split(_) if names.len() == 1 => {
                    done.extend(people(&names[0]));
                }
                _ => {}
            }
            reply
        });
        let mut world = World::new(fake);
        world.config.batch.max_items = 7;
        world.config.retry.max = Duration::from_millis(4);
        world.pace.read_ahead = 40;
        if strict {
            world.config.ordering = Ordering::Strict;
        }
        let mut numbers = [0; 12];
        let mut plan = fastrand::Rng::with_seed(seed);
        let mut events = Vec::new();
        for _ in 0..150 {
            let mut operations = Vec::new();
            for _ in 0..plan.usize(1..3) {
                let (one, two) = (plan.usize(0..12), plan.usize(0..24));
                let mut name = String::new();
                for person in if two < 12 && two != one { vec![one, two] } else { vec![one] } {
                    name.push_str(&format!(
                        "{}{}",
                        char::from(b'a' + person as u8),
                        numbers[person]
                    ));
                    numbers[person] += 1;
                }
                operations.push(name);
            }
            let names: Vec<&str> = operations.iter().map(String::as_str).collect();
            events.push(event(&names));
        }
        world.buffer.append(events).await.unwrap();
        world.run().await;
        let (delivered, rejected) = world.counts();
        assert_eq!(delivered + rejected, 150);
        let letters = world.letters();
        assert_eq!(letters.len(), rejected);
        assert!(letters.iter().all(|letter| letter["reason"] == "refused"));
    }
}

mod doubt;
mod fetching;
mod holds;
mod letters;
mod model;
mod panics;
mod tuning;
mod waiting;
