//! The sink as an embedding program sees it.

mod runtimes;
mod streams;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::*;
use crate::buffer::memory::MemoryBuffer;
use crate::buffer::{AppendError, Buffer, LetterId, Sequence, Stored};
use crate::config::{BufferConfig, Config, LoadMode, WhenFull};
use crate::data_dir::DataDir;
use crate::delivery::{Destination, Hold, Reply, Verdict};
use crate::mapping::Mappings;
use crate::outcome::{LedgerSnapshot, Outcome, Tally};
use crate::pipeline::tests::write_small_scripts;

#[derive(Debug, Default)]
pub(super) struct Inbox {
    pub(super) bodies: Mutex<Vec<Bytes>>,
}

impl Destination for Inbox {
    fn send(&self, bodies: Vec<Bytes>, _attempt: u32) -> BoxFuture<'_, Reply> {
        let verdicts = bodies.iter().map(|_| Verdict::Delivered).collect();
        self.bodies.lock().unwrap().extend(bodies);
        std::future::ready(Reply::Items(verdicts)).boxed()
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), Hold>> {
        std::future::ready(Ok(())).boxed()
    }
}

fn config() -> Config {
    let text = "sources: [ { type: stdin } ]\ncustomerio: { site_id: s, api_key: k }";
    Config::parse(text, "test.yaml", LoadMode::Full, &|_| None).unwrap().0
}

pub(super) async fn parts(inbox: &Arc<Inbox>, dir: &std::path::Path) -> Parts {
    write_small_scripts(&dir.join("vrl"));
    let builder = CustomerIoSink::builder(config().customerio.unwrap())
        .mappings(Mappings::read(&dir.join("vrl")).unwrap())
        .data_dir(dir)
        .buffer(BufferConfig::memory())
        .threads(2)
        .destination(inbox.clone());
    builder.parts().await.unwrap()
}

async fn sink(inbox: &Arc<Inbox>, dir: &std::path::Path) -> CustomerIoSink {
    CustomerIoSink::start(parts(inbox, dir).await).unwrap()
}

/// A buffer with faults: its append does something of its own on its thread first, or refuses;
/// its flush may never end.
pub(crate) struct Odd {
    inner: MemoryBuffer,
    first: Box<dyn Fn() + Send + Sync>,
    pub(crate) refusal: Mutex<Option<AppendError>>,
    flush_hangs: bool,
}

impl Odd {
    pub(crate) fn new(first: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        let inner = MemoryBuffer::new(1 << 20, WhenFull::Wait);
        let refusal = Mutex::default();
        Arc::new(Self { inner, first: Box::new(first), refusal, flush_hangs: false })
    }
}

impl std::fmt::Debug for Odd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

impl Buffer for Odd {
    fn append(&self, events: Vec<Stored>) -> BoxFuture<'_, Result<Sequence, AppendError>> {
        async move {
            (self.first)();
            if let Some(refusal) = &*self.refusal.lock().unwrap() {
                return Err(refusal.clone());
            }
            self.inner.append(events).await
        }
        .boxed()
    }
    fn read(&self, events: usize, bytes: u64) -> BoxFuture<'_, Vec<(Sequence, Arc<Stored>)>> {
        self.inner.read(events, bytes)
    }
    fn fetch(&self, events: Vec<Sequence>) -> BoxFuture<'_, Result<Vec<Arc<Stored>>, String>> {
        self.inner.fetch(events)
    }
    fn settle(&self, events: &[(Sequence, Outcome)]) {
        self.inner.settle(events);
    }
    fn record(&self, ended: &Tally) {
        self.inner.record(ended);
    }
    fn flush(&self) -> BoxFuture<'_, ()> {
        if self.flush_hangs { std::future::pending().boxed() } else { self.inner.flush() }
    }
    fn all_lives(&self) -> Option<LedgerSnapshot> {
        self.inner.all_lives()
    }
    fn replayed(&self, letters: Vec<LetterId>) -> BoxFuture<'_, Result<Vec<bool>, String>> {
        self.inner.replayed(letters)
    }
    fn close(&self) {
        self.inner.close();
    }
    fn stats(&self) -> BufferStats {
        let refused = self.refusal.lock().unwrap().as_ref().map(|refusal| format!("{refusal:?}"));
        let stats = self.inner.stats();
        BufferStats { unavailable: refused.or(stats.unavailable.clone()), ..stats }
    }
    fn durable(&self) -> bool {
        false
    }
}

fn batch(first: u64, events: u64) -> EventBatch {
    let event = |n| format!(r#"{{"type":"track","userId":"u","event":"E{n}","messageId":"m{n}"}}"#);
    (first..first + events).map(event).collect()
}

#[tokio::test]
async fn a_stream_is_delivered_in_order_and_accounted_for() {
    let (inbox, dir) = (Arc::new(Inbox::default()), tempfile::tempdir().unwrap());
    let sink = sink(&inbox, dir.path()).await;
    let batches = futures_util::stream::iter((0..50).map(|n| batch(n * 10, 10)));
    let summary = sink.run(batches).await.unwrap();
    assert_eq!((summary.received, summary.delivered), (500, 500));
    let name = |body: &Bytes| {
        let body: serde_json::Value = serde_json::from_slice(body).unwrap();
        body["name"].as_str().unwrap().to_owned()
    };
    let names: Vec<_> = inbox.bodies.lock().unwrap().iter().map(name).collect();
    assert_eq!(names, (0..500).map(|n| format!("E{n}")).collect::<Vec<_>>());
    assert!(sink.drain(Duration::from_secs(20)).await.is_clean());
}

#[tokio::test]
async fn a_pushed_batch_tells_when_it_is_settled() {
    let (inbox, dir) = (Arc::new(Inbox::default()), tempfile::tempdir().unwrap());
    let sink = sink(&inbox, dir.path()).await;
    let handle = sink.handle();
    let receipt = handle.submit(batch(0, 3)).await.unwrap();
    let summary = receipt.settled().await.unwrap();
    assert_eq!((summary.received, summary.buffered, summary.rejected), (3, 0, 0));
    assert_eq!(inbox.bodies.lock().unwrap().len(), 3);
    drop(sink);
    assert_eq!(handle.submit(batch(3, 1)).await.unwrap_err(), Refused::Closed);
}

#[tokio::test]
async fn receipts_of_a_paused_sink_are_refused_when_it_ends() {
    let (inbox, dir) = (Arc::new(Inbox::default()), tempfile::tempdir().unwrap());
    let sink = sink(&inbox, dir.path()).await;
    let handle = sink.handle();
    handle.delivery().pause();
    let mut receipt = handle.submit(batch(0, 2)).await.unwrap();
    assert_eq!(receipt.buffered().await.unwrap().buffered, 2);
    let drained = sink.drain(Duration::from_millis(1)).await;
    assert_eq!((drained.undelivered, drained.is_clean()), (2, false));
    assert_eq!(receipt.settled().await, Err(Refused::Closed));
}

#[tokio::test]
async fn a_panic_between_mapping_and_buffer_is_seen_and_lets_the_drain_end() {
    let (inbox, dir) = (Arc::new(Inbox::default()), tempfile::tempdir().unwrap());
    let mut parts = parts(&inbox, dir.path()).await;
    parts.buffer = Odd::new(|| panic!("on purpose"));
    let sink = CustomerIoSink::start(parts).unwrap();
    let handle = sink.handle();
    assert!(handle.stats().unavailable.is_empty());
    let mut receipt = handle.submit(batch(0, 1)).await.unwrap();
    assert!(receipt.buffered().await.is_err());
    while handle.stats().unavailable.is_empty() {
        tokio::task::yield_now().await;
    }
    let drained = sink.drain(Duration::from_secs(3600)).await;
    assert_eq!((drained.stored, drained.undelivered), (false, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_stored_while_a_drain_gives_up_is_in_its_account() {
    let (inbox, dir) = (Arc::new(Inbox::default()), tempfile::tempdir().unwrap());
    let mut parts = parts(&inbox, dir.path()).await;
    let (inside, entered) = tokio::sync::oneshot::channel();
    let inside = Mutex::new(Some(inside));
    parts.buffer = Odd::new(move || {
        inside.lock().unwrap().take().unwrap().send(()).unwrap();
        std::thread::sleep(Duration::from_millis(50));
    });
    let sink = CustomerIoSink::start(parts).unwrap();
    let handle = sink.handle();
    handle.delivery().pause();
    let receipt = handle.submit(batch(0, 1)).await.unwrap();
    entered.await.unwrap();
    let drained = sink.drain(Duration::ZERO).await;
    assert_eq!((drained.undelivered, drained.ledger.buffered), (1, 1));
    assert_eq!(receipt.settled().await, Err(Refused::Closed));
}

#[tokio::test]
async fn a_disk_that_hangs_does_not_keep_the_process_from_leaving() {
    let (inbox, dir) = (Arc::new(Inbox::default()), tempfile::tempdir().unwrap());
    let mut parts = parts(&inbox, dir.path()).await;
    let mut odd = Odd::new(|| ());
    Arc::get_mut(&mut odd).unwrap().flush_hangs = true;
    parts.buffer = odd;
    let sink = CustomerIoSink::start(parts).unwrap();
    let moment = Duration::from_millis(1);
    assert!(sink.drain_and_flush(std::future::pending(), moment).await.stored);
}

#[tokio::test]
async fn the_data_directory_is_held_until_the_sink_and_its_tasks_are_gone() {
    let (inbox, dir) = (Arc::new(Inbox::default()), tempfile::tempdir().unwrap());
    let sink = sink(&inbox, dir.path()).await;
    let held = DataDir::holder(dir.path()).unwrap().unwrap();
    assert_eq!(held.pid, std::process::id());
    let second = CustomerIoSink::builder(config().customerio.unwrap()).data_dir(dir.path());
    let faults = second.build().await.unwrap_err();
    assert!(faults[0].to_string().contains("in use by process"), "{}", faults[0]);

    let handle = sink.handle();
    handle.delivery().pause();
    handle.submit(batch(0, 1)).await.unwrap().buffered().await.unwrap();
    drop(sink);
    let delivery = handle.delivery().clone();
    drop(handle);
    assert!(DataDir::holder(dir.path()).unwrap().is_some(), "delivery still runs");
    delivery.resume();
    while DataDir::holder(dir.path()).unwrap().is_some() {
        tokio::task::yield_now().await;
    }
    assert_eq!(inbox.bodies.lock().unwrap().len(), 1);
}
