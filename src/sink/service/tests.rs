//! The service by its protocol: ready, call, answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Wake, Waker};

use super::*;
use crate::sink::tests::{Inbox, parts};
use crate::sink::{CustomerIoSink, Parts};
use crate::source::Summary;

/// Counts how often a task would be looked at again.
#[derive(Default)]
struct Wakes(AtomicU64);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Wakes {
    fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

const BUDGET: usize = 2000;

fn event(name: &str, bytes: usize) -> EventBatch {
    let padding = " ".repeat(bytes);
    EventBatch::from(format!(r#"{{"type":"track","userId":"u","event":"{name}"{padding}}}"#))
}

/// A sink that takes no batch in until it is [released](Gate::release).
struct Gate {
    sink: CustomerIoSink,
    inbox: Arc<Inbox>,
    held: Arc<std::sync::Mutex<()>>,
    _dir: tempfile::TempDir,
}

async fn small(dir: &tempfile::TempDir, inbox: &Arc<Inbox>) -> Parts {
    Parts { intake_bytes: BUDGET, ..parts(inbox, dir.path()).await }
}

async fn open() -> Gate {
    let (inbox, dir) = (Arc::new(Inbox::default()), tempfile::tempdir().unwrap());
    let held = Arc::new(std::sync::Mutex::new(()));
    let gate = Arc::clone(&held);
    let mut parts = small(&dir, &inbox).await;
    parts.buffer = crate::sink::tests::Odd::new(move || drop(gate.lock().unwrap()));
    Gate { sink: CustomerIoSink::start(parts).unwrap(), inbox, held, _dir: dir }
}

impl Gate {
    fn names(&self) -> Vec<String> {
        let name = |body: &bytes::Bytes| {
            let body: serde_json::Value = serde_json::from_slice(body).unwrap();
            body["name"].as_str().unwrap().to_owned()
        };
        self.inbox.bodies.lock().unwrap().iter().map(name).collect()
    }
}

fn is_ready(handle: &mut SinkHandle) -> Poll<Result<(), Refused>> {
    handle.poll_ready(&mut Context::from_waker(Waker::noop()))
}

/// Calls after readiness, as the protocol demands.
fn send(handle: &mut SinkHandle, batch: EventBatch) -> Receipt {
    assert_eq!(is_ready(handle), Poll::Ready(Ok(())));
    handle.call(batch).now_or_never().unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_sink_is_not_ready_until_there_is_room_and_wakes_who_asked() {
    let gate = open().await;
    let mut handle = gate.sink.handle();
    let shut = gate.held.lock().unwrap();
    let receipt = send(&mut handle, event("first", BUDGET));
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    let mut cx = Context::from_waker(&waker);
    assert!(handle.poll_ready(&mut cx).is_pending());
    assert!(is_ready(&mut handle.clone()).is_pending(), "a clone asks for itself");
    assert_eq!(wakes.count(), 0);
    drop(shut);
    assert_eq!(receipt.settled().await.unwrap().delivered, 1);
    while wakes.count() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(handle.poll_ready(&mut cx), Poll::Ready(Ok(())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_ready_or_asked_once_keeps_no_room_from_others() {
    let gate = open().await;
    let (mut idle, mut other) = (gate.sink.handle(), gate.sink.handle());
    assert_eq!(is_ready(&mut idle), Poll::Ready(Ok(())));
    let shut = gate.held.lock().unwrap();
    // The whole budget, though another was told that there is room.
    let first = send(&mut other, event("first", BUDGET));
    assert!(is_ready(&mut idle.clone()).is_pending());
    assert!(is_ready(&mut other).is_pending());
    drop(shut);
    first.settled().await.unwrap();
    // And again, while those others never look again.
    let second = other.submit(event("second", BUDGET)).await.unwrap();
    assert_eq!(second.settled().await.unwrap().delivered, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promise_is_kept_once_and_what_is_beyond_the_bound_is_owed() {
    let gate = open().await;
    let (mut first, mut second) = (gate.sink.handle(), gate.sink.handle());
    assert_eq!(is_ready(&mut second), Poll::Ready(Ok(())));
    let shut = gate.held.lock().unwrap();
    let mut receipts = vec![send(&mut first, event("first", BUDGET))];
    receipts.push(second.call(event("second", BUDGET)).now_or_never().unwrap().unwrap());
    assert!(second.call(event("third", 1)).now_or_never().is_none(), "one call per promise");
    assert!(is_ready(&mut first).is_pending());
    drop(shut);
    for receipt in receipts {
        receipt.settled().await.unwrap();
    }
    // Nothing is owed any more: a batch of the whole budget finds room.
    let last = first.submit(event("last", BUDGET)).await.unwrap();
    last.settled().await.unwrap();
    assert_eq!(gate.names(), ["first", "second", "last"]);
    while first.intake().bytes_inside() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn calls_enter_in_order_whichever_future_is_polled_first() {
    let gate = open().await;
    let mut handle = gate.sink.handle();
    let calls: Vec<_> = ["first", "second", "third"]
        .into_iter()
        .map(|name| {
            assert_eq!(is_ready(&mut handle), Poll::Ready(Ok(())));
            handle.call(event(name, 1))
        })
        .collect();
    for call in calls.into_iter().rev() {
        call.await.unwrap().settled().await.unwrap();
    }
    assert_eq!(gate.names(), ["first", "second", "third"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_future_loses_nothing_that_was_taken_and_leaves_the_line() {
    let gate = open().await;
    let mut handle = gate.sink.handle();
    let shut = gate.held.lock().unwrap();
    assert_eq!(is_ready(&mut handle), Poll::Ready(Ok(())));
    drop(handle.call(event("taken", BUDGET)));
    let mut waiting = handle.call(event("not taken", BUDGET));
    assert!((&mut waiting).now_or_never().is_none());
    drop(waiting);
    drop(shut);
    let last = handle.submit(event("last", BUDGET)).await.unwrap().settled().await;
    assert_eq!(last, Ok(Summary { received: 1, delivered: 1, ..Summary::default() }));
    assert_eq!(gate.names(), ["taken", "last"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_sink_is_an_error_for_those_who_wait_and_those_who_come() {
    let gate = open().await;
    let mut handle = gate.sink.handle();
    let mut ready = gate.sink.handle();
    assert_eq!(is_ready(&mut ready), Poll::Ready(Ok(())));
    let shut = gate.held.lock().unwrap();
    let _first = send(&mut handle, event("first", BUDGET));
    let mut waiting = handle.call(event("second", BUDGET));
    assert!((&mut waiting).now_or_never().is_none());
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    assert!(handle.poll_ready(&mut Context::from_waker(&waker)).is_pending());
    handle.intake().close();
    assert!(wakes.count() > 0);
    assert_eq!(is_ready(&mut handle), Poll::Ready(Err(Refused::Closed)));
    assert_eq!(waiting.now_or_never().unwrap().unwrap_err(), Refused::Closed);
    assert_eq!(ready.call(event("third", 1)).now_or_never().unwrap().unwrap_err(), Refused::Closed);
    drop(shut);
    let drained = gate.sink.drain(std::time::Duration::from_secs(60)).await;
    assert_eq!((drained.stored, drained.undelivered), (true, 0));
    assert_eq!(gate.inbox.bodies.lock().unwrap().len(), 1);
}

#[test]
fn handle_and_future_can_be_sent_and_shared() {
    fn check<S>()
    where
        S: Service<EventBatch, Error = Refused> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
        S::Error: std::error::Error + Send + Sync + 'static,
    {
    }
    check::<SinkHandle>();
}
