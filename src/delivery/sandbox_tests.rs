//! Client and task against the local Track API with its faults.

mod answers;
mod connections;
mod doubles;
mod merges;
mod rotation;
mod secrets;
mod tls;
mod v1;
mod waiting;

use std::collections::BTreeMap;
use std::sync::Mutex;

use bytes::Bytes;
use chrono::DateTime;
use serde_json::{Value, json};

use super::client::Client;
use super::tests::{PATIENCE, config, pace};
use super::*;
use crate::buffer::Stored;
use crate::buffer::memory::MemoryBuffer;
use crate::config::{DeadLettersConfig, DeadLettersFull, Ordering, WhenFull};
use crate::event::Original;
use crate::event::identity::IdInput;
use crate::operation;
use crate::sandbox::workspace::view::PersonView;
use crate::sandbox::{Builder, Options, RunningSandbox, Sandbox};

const PEOPLE: usize = 25;

/// One event with the given operation.
fn stored(number: usize, operation: Value) -> Stored {
    let id_input = IdInput { message_id: format!("m-{number}").into(), ..IdInput::default() };
    let operations =
        operation::prepare(operation.into(), "test", &id_input, &mut Vec::new()).unwrap();
    Stored {
        operations,
        original: Original { raw: Bytes::from_static(b"{}"), assigned: Default::default() },
        id_input,
        received_at: DateTime::UNIX_EPOCH,
        source: "test".into(),
        letter: None,
    }
}

/// Everybody is identified, does something, changes, and does more; some are merged, one is deleted.
fn story() -> Vec<Stored> {
    let mut operations = Vec::new();
    for round in 0..4 {
        for person in 0..PEOPLE {
            let who = json!({"id": format!("u-{person}")});
            operations.push(json!({
                "type": "person", "action": "identify", "identifiers": who,
                "attributes": {"round": round, format!("only_{round}"): true}
            }));
            operations.push(json!({
                "type": "person", "action": "event", "identifiers": who,
                "name": format!("step {round}"), "timestamp": 1_700_000_000 + round
            }));
            if person % 8 == 3 && round == 1 {
                let old = json!({"id": format!("old-{person}")});
                operations.push(json!({
                    "type": "person", "action": "identify", "identifiers": old,
                    "attributes": {"before": person}
                }));
                operations.push(json!({
                    "type": "person", "action": "merge", "primary": who, "secondary": old
                }));
            }
            if person == 5 && round == 2 {
                operations.push(json!({"type": "person", "action": "delete", "identifiers": who}));
            }
        }
    }
    operations.into_iter().enumerate().map(|(n, operation)| stored(n, operation)).collect()
}

/// What matters of a person: nothing that depends on when a request came.
fn essence(person: &PersonView) -> Value {
    let attributes: BTreeMap<_, _> =
        person.attributes.iter().map(|(name, a)| (name, &a.value)).collect();
    let mut events: Vec<_> = person.events.iter().map(|e| (&e.timestamp, &e.name, &e.id)).collect();
    events.sort_by(|a, b| a.2.cmp(b.2));
    json!({"id": person.id, "attributes": attributes, "events": events})
}

fn people(sandbox: &RunningSandbox) -> BTreeMap<String, Value> {
    let key = |person: &PersonView| person.id.clone().unwrap_or_default();
    sandbox.people().iter().map(|person| (key(person), essence(person))).collect()
}

struct Trip {
    sandbox: RunningSandbox,
    config: CustomerIoConfig,
    ended: Arc<Mutex<Vec<Outcome>>>,
    dir: tempfile::TempDir,
}

impl Trip {
    async fn new(faults: Value, switches: &[&str]) -> Self {
        let mut options = Options::default();
        for switch in switches {
            options.set(switch).unwrap();
        }
        Self::to(Sandbox::builder().options(options).faults(rules(faults))).await
    }

    async fn to(sandbox: Builder) -> Self {
        let sandbox = sandbox.environment_id(7).start().await.unwrap();
        let mut config = config();
        config.endpoint = Some(sandbox.base_url().parse().unwrap());
        config.batch.max_items = 20;
        config.check_credentials = true;
        config.merge_settle = Duration::from_millis(1);
        let dir = tempfile::tempdir().unwrap();
        Self { sandbox, config, ended: Arc::default(), dir }
    }

    fn start(&self, buffer: &Arc<MemoryBuffer>) -> (DeliveryHandle, tokio::task::JoinHandle<()>) {
        let letters = DeadLettersConfig {
            dir: "letters".into(),
            max_size: 1 << 30,
            max_age: Duration::from_secs(86_400),
            when_full: DeadLettersFull::Hold,
        };
        let ended = Arc::clone(&self.ended);
        start_paced(
            Arc::<MemoryBuffer>::clone(buffer),
            Arc::new(Client::new(&self.config).unwrap()),
            &self.config,
            Arc::new(DeadLetters::open(self.dir.path(), &letters).unwrap()),
            Arc::new(move |_, outcome: &Outcome| ended.lock().unwrap().push(outcome.clone())),
            pace(),
        )
    }

    async fn deliver(&self, events: Vec<Stored>) {
        self.begin(events).await.end().await;
    }

    /// Starts delivery of events, to which more can be added.
    async fn begin(&self, events: Vec<Stored>) -> Flow {
        let buffer = Arc::new(MemoryBuffer::new(1 << 30, WhenFull::Wait));
        let (handle, task) = self.start(&buffer);
        let flow = Flow { buffer, handle, task, ended: Arc::clone(&self.ended), count: 0 };
        flow.add(events).await
    }

    /// Bodies of the requests that were answered with `status`, in order, as lists of operations.
    fn batches(&self, status: u16) -> Vec<Vec<Value>> {
        let batches = self
            .sandbox
            .requests()
            .into_iter()
            .filter(|request| request.path == "/api/v2/batch" && request.status == status);
        let operations = |body: &str| {
            let body: Value = serde_json::from_str(body).expect("the log keeps whole bodies");
            body["batch"].as_array().unwrap().clone()
        };
        batches.map(|request| operations(&request.body)).collect()
    }

    /// How many requests asked for the region: probes.
    fn probes(&self) -> usize {
        self.sandbox.requests().iter().filter(|request| request.method == "GET").count()
    }

    fn rejected(&self) -> usize {
        self.ended.lock().unwrap().iter().filter(|o| **o != Outcome::Delivered).count()
    }

    fn letters(&self) -> Vec<Value> {
        let dir = std::fs::read_dir(self.dir.path().join("letters")).unwrap();
        let text: String =
            dir.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A delivery under way.
struct Flow {
    buffer: Arc<MemoryBuffer>,
    handle: DeliveryHandle,
    task: tokio::task::JoinHandle<()>,
    ended: Arc<Mutex<Vec<Outcome>>>,
    count: usize,
}

impl Flow {
    async fn add(mut self, events: Vec<Stored>) -> Self {
        self.count += events.len();
        self.buffer.append(events).await.unwrap();
        self
    }

    /// Waits until something is so.
    async fn until(&self, what: &str, is_so: impl Fn(&DeliveryStatus) -> bool) {
        let wait = async {
            while !is_so(&self.handle.status()) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        assert!(waited.is_ok(), "{what} did not come: {:?}", self.handle.status());
    }

    /// Waits until delivery is in a state for a reason.
    async fn is(&self, state: &str, reason: &str) {
        self.until(reason, |now| now.state == state && now.reason.as_deref() == Some(reason)).await;
    }

    /// Waits until `count` events have ended.
    async fn ended(&self, count: usize) {
        self.until("the end of events", |_| self.ended.lock().unwrap().len() >= count).await;
    }

    /// Waits until everything has ended.
    async fn end(self) {
        self.buffer.close();
        tokio::time::timeout(PATIENCE, self.task).await.expect("it ends").unwrap();
        assert_eq!(self.ended.lock().unwrap().len(), self.count);
        assert_eq!(self.buffer.stats().events, 0);
    }
}

/// When a request is given up whose answer never comes. Every other request has to be answered by
/// then: one that is not would be sent again.
const GIVEN_UP: Duration = Duration::from_secs(2);

/// Tells whether some answers never come, so that somebody has to give them up.
fn is_endless(faults: &Value) -> bool {
    let faults = faults.to_string();
    ["hang", "10m"].iter().any(|endless| faults.contains(endless))
}

fn rules(faults: Value) -> Vec<crate::sandbox::Rule> {
    serde_json::from_value(faults).unwrap()
}

/// So many people, each of whom does one thing.
fn crowd(people: usize) -> Vec<Stored> {
    (0..people).map(|n| did(n, &format!("p-{n}"))).collect()
}

fn did(number: usize, who: &str) -> Stored {
    stored(
        number,
        json!({
            "type": "person", "action": "event", "name": "e", "identifiers": {"id": who},
            "timestamp": 1_700_000_000
        }),
    )
}

/// The people after the story was told one operation at a time, without faults.
async fn sequential() -> BTreeMap<String, Value> {
    let mut trip = Trip::new(json!([]), &[]).await;
    trip.config.ordering = Ordering::Strict;
    trip.config.batch.max_items = 1;
    trip.config.concurrency = 1;
    trip.deliver(story()).await;
    assert_eq!(trip.rejected(), 0);
    people(&trip.sandbox)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_goes_wrong_the_people_are_those_of_the_sequential_story() {
    let expected = sequential().await;
    assert_eq!(expected.len(), PEOPLE);
    let passing = [
        json!([]),
        json!([{"when": {"probability": 0.3}, "do": {"status": 503}}]),
        json!([{"when": {"every": 3}, "do": {"status": 500, "html": true}}]),
        json!([{"when": {"every": 4, "times": 4}, "do": {"retry_after": 0.01}}]),
        json!([{"when": {"every": 4, "times": 4}, "do": {"status": 503, "retry_after": "date:-20"}}]),
        json!([{"when": {"every": 4, "times": 4}, "do": {"retry_after": "soon"}}]),
        json!([{"when": {"times": 3}, "do": {"status": 408}}, {"when": {"times": 3}, "do": {"status": 425}}]),
        json!([{"when": {"every": 2, "times": 6}, "do": {"reset": "after_request"}}]),
        json!([{"when": {"every": 2, "times": 6}, "do": {"reset": "mid_response"}}]),
        json!([{"when": {"every": 2, "times": 3}, "do": {"reset": "accept"}}]),
        json!([{"when": {"every": 3, "times": 2}, "do": {"hang": true}}]),
        json!([{"do": {"latency": {"p50": "1ms", "p99": "10ms"}}}]),
        json!([{"do": {"close_idle": "1ms", "latency": "1ms"}}]),
        json!([{"when": {"times": 6}, "do": {"unauthorized": {}}}]),
        json!([{"when": {"times": 4}, "do": {"redirect": {"location": "https://track-eu.customer.io/"}}}]),
        json!([{"when": {"times": 2}, "do": {"status": 403}}, {"when": {"times": 2}, "do": {"status": 404}}]),
        json!([
            {"when": {"probability": 0.1}, "do": {"reset": "after_request"}},
            {"when": {"probability": 0.1}, "do": {"status": 502}},
            {"when": {"probability": 0.05}, "do": {"bad_errors": "empty"}},
            {"when": {"probability": 0.05}, "do": {"unauthorized": {}}},
            {"when": {"probability": 0.2}, "do": {"latency": "3ms"}},
        ]),
    ];
    let bad = ["index_out_of_range", "index_missing", "not_a_list", "cut", "empty", "html"];
    let bad = bad.map(|kind| json!([{"match": {"path": "/api/v2/batch"}, "when": {"every": 3, "times": 3}, "do": {"bad_errors": kind}}]));
    for faults in passing.into_iter().chain(bad) {
        let mut trip = Trip::new(faults.clone(), &[]).await;
        if is_endless(&faults) {
            trip.config.timeout = GIVEN_UP;
        }
        trip.deliver(story()).await;
        assert_eq!(trip.rejected(), 0, "{faults}");
        assert_eq!(people(&trip.sandbox), expected, "{faults}");
        let applied = !trip.sandbox.stats().faults.is_empty();
        assert_eq!(applied, faults != json!([]), "{faults}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_items_become_letters_and_nobody_else_notices() {
    let mut expected = sequential().await;
    expected.remove("u-7");
    for effect in [
        json!({"items": {"person": "u-7"}}),
        json!({"items_in_200": {"person": "u-7"}}),
        json!({"whole_batch_400": true, "items": {"person": "u-7"}}),
    ] {
        let trip = Trip::new(json!([{"do": effect}]), &[]).await;
        trip.deliver(story()).await;
        // Four rounds of an identify and an event.
        assert_eq!(trip.rejected(), 8, "{effect}");
        let letters = trip.letters();
        assert_eq!(letters.len(), 8);
        for letter in letters {
            assert_eq!(letter["reason"], "refused");
            assert_eq!(letter["operations"][0]["identifiers"], json!({"id": "u-7"}));
            assert!(letter["status"].is_u64());
        }
        let mut people = people(&trip.sandbox);
        people.remove("u-7");
        assert_eq!(people, expected, "{effect}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_invalid_operation_among_a_thousand_is_refused_alone() {
    let faults = json!([{"match": {"path": "/api/v2/batch"}, "do": {
        "whole_batch_400": true, "items": {"person": "bad"}
    }}]);
    let mut trip = Trip::new(faults, &[]).await;
    trip.config.batch.max_items = 1000;
    let who = |n| if n == 700 { "bad".to_owned() } else { format!("p-{n}") };
    let events = (0..1000).map(|n| {
        let who = json!({"id": who(n)});
        stored(n, json!({"type": "person", "action": "identify", "identifiers": who}))
    });
    trip.deliver(events.collect()).await;
    assert_eq!((trip.rejected(), trip.sandbox.people().len()), (1, 999));
    let requests = trip.sandbox.requests().len() - trip.probes();
    assert!(requests <= 21, "{requests}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pinned_workspace_keeps_everything_from_another() {
    let mut trip = Trip::new(json!([]), &[]).await;
    trip.config.environment_id = Some(8);
    let flow = trip.begin(story()).await;
    flow.is("held", "wrong_workspace").await;
    // Some probes later it is still so.
    let probes = trip.probes();
    flow.until("a probe", |_| trip.probes() > probes + 2).await;
    assert!(trip.sandbox.people().is_empty());
    flow.task.abort();
}
