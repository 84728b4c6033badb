//! What the front half promises, with a walk that does what the element's text says.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use smallvec::SmallVec;

use super::*;
use crate::buffer::memory::MemoryBuffer;
use crate::buffer::{AppendError, BufferStats, LetterId, Sequence, Stored};
use crate::config::WhenFull;
use crate::delivery::{DeadLetter, Unwritten};
use crate::event::Original;
use crate::event::identity::IdInput;
use crate::operation::{ConflictKeys, Effect, Operation, Operations};
use crate::outcome::{LedgerSnapshot, Outcome, OutcomeKind, ReasonCode, Tally};
use crate::sink::rules::Walk;
use crate::source::{EventBatch, Incoming, Origin, Receipt, Refused};
use crate::stage::{Prepared, Walked};

/// Walks by order of the text: `ready`, `drop`, `fail`, `panic`; `meet` waits for another thread.
#[derive(Debug, Default)]
struct Script {
    name: &'static str,
    meeting: Option<Arc<Barrier>>,
    walkers: AtomicU64,
}

struct Walker {
    name: &'static str,
    meeting: Option<Arc<Barrier>>,
}

impl Snapshot for Script {
    type Walk = Walker;

    fn walker(&self) -> Walker {
        self.walkers.fetch_add(1, Ordering::Relaxed);
        Walker { name: self.name, meeting: self.meeting.clone() }
    }

    fn walker_after(&self, _earlier: Walker) -> Walker {
        self.walker()
    }
}

impl Walk for Walker {
    fn walk(&mut self, element: &Incoming, _batch: &EventBatch) -> Walked {
        let text = element.json.clone().unwrap();
        let prepared = |operations| {
            let original = Original { raw: text.clone(), assigned: SmallVec::new() };
            Box::new(Prepared { operations, original, id_input: IdInput::default() })
        };
        match std::str::from_utf8(&text).unwrap().split(' ').next().unwrap() {
            "panic" => panic!("on purpose"),
            "drop" => Walked::Ended(Outcome::Dropped(ReasonCode::ScriptAbort.into())),
            "fail" => {
                let outcome = Outcome::Failed(ReasonCode::ScriptError.into());
                Walked::Failed(outcome, prepared(Operations::new()))
            }
            word => {
                if word == "meet" {
                    self.meeting.as_ref().unwrap().wait();
                }
                let body = Bytes::from(format!("{} {}", self.name, element.position));
                let operation =
                    Operation { keys: ConflictKeys::default(), effect: Effect::Ordinary, body };
                Walked::Ready(prepared(Operations::from_iter([operation])))
            }
        }
    }
}

/// Dead letters that can be broken.
#[derive(Debug, Default)]
struct Drawer {
    broken: Mutex<bool>,
    letters: Mutex<Vec<DeadLetter>>,
}

impl Drawer {
    fn count(&self) -> usize {
        self.letters.lock().unwrap().len()
    }
    fn break_down(&self, broken: bool) {
        *self.broken.lock().unwrap() = broken;
    }
}

impl Letters for Drawer {
    fn write(&self, letters: Vec<DeadLetter>) -> BoxFuture<'_, Result<(), Unwritten>> {
        let broken = *self.broken.lock().unwrap();
        if !broken {
            self.letters.lock().unwrap().extend(letters);
        }
        let result = if broken { Err(std::io::Error::other("no space").into()) } else { Ok(()) };
        std::future::ready(result).boxed()
    }
}

/// Passes everything on, and notes which endings are recorded.
#[derive(Debug)]
struct Noting {
    inner: Arc<dyn Buffer>,
    recorded: Mutex<Tally>,
}

impl Buffer for Noting {
    fn append(&self, events: Vec<Stored>) -> BoxFuture<'_, Result<Sequence, AppendError>> {
        self.inner.append(events)
    }
    fn append_with(
        &self,
        events: Vec<Stored>,
        ended: Tally,
    ) -> BoxFuture<'_, Result<Sequence, AppendError>> {
        async move {
            let appended = self.inner.append(events).await?;
            self.record(&ended);
            Ok(appended)
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
        self.recorded.lock().unwrap().add(ended);
    }
    fn flush(&self) -> BoxFuture<'_, ()> {
        self.inner.flush()
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
        self.inner.stats()
    }
    fn durable(&self) -> bool {
        self.inner.durable()
    }
}

struct Bench {
    front: Front,
    buffer: Arc<Noting>,
    drawer: Arc<Drawer>,
    rules: Arc<ArcSwap<Script>>,
    position: AtomicU64,
}

const PLENTY: u64 = 1 << 20;

/// Long enough for a batch that finds room, as the tests go.
const MOMENT: Duration = Duration::from_millis(200);

fn event_bytes() -> u64 {
    let mut walker = Walker { name: "old", meeting: None };
    let element = Incoming::new(Ok(Bytes::from_static(b"ready")), 0);
    let Walked::Ready(prepared) = walker.walk(&element, &batch(&["ready"], 0)) else { panic!() };
    let Prepared { operations, original, id_input } = *prepared;
    let received_at = chrono::DateTime::UNIX_EPOCH;
    Stored { operations, original, id_input, received_at, source: "test".into(), letter: None }
        .bytes()
}

fn batch(texts: &[&str], first: u64) -> EventBatch {
    let element = |(text, position): (&&str, u64)| {
        Incoming::new(Ok(Bytes::copy_from_slice(text.as_bytes())), position)
    };
    EventBatch {
        elements: texts.iter().zip(first..).map(element).collect(),
        set_type: None,
        origin: Origin { source: "test".into(), source_type: "web".into() },
        received_at: chrono::DateTime::UNIX_EPOCH,
        client_ip: None,
    }
}

impl Bench {
    fn new(threads: usize, script: Script, buffer: Arc<dyn Buffer>) -> Self {
        Self::with_patience(threads, script, buffer, Duration::from_secs(20))
    }

    fn with_patience(
        threads: usize,
        script: Script,
        buffer: Arc<dyn Buffer>,
        patience: Duration,
    ) -> Self {
        let drawer = Arc::new(Drawer::default());
        let rules = Arc::new(ArcSwap::from_pointee(script));
        let width = Width { threads, budget: 1 << 20, patience };
        let buffer = Arc::new(Noting { inner: buffer, recorded: Mutex::default() });
        let store: Arc<dyn Buffer> = buffer.clone();
        let front = Front::start_with(width, &rules, &store, drawer.clone(), |mut appender| {
            appender.letters_patience = Duration::from_millis(2);
            appender.try_again = Duration::from_millis(1);
            appender
        });
        let position = AtomicU64::default();
        Self { front: front.unwrap(), buffer, drawer, rules, position }
    }

    fn simple(max_bytes: u64, when_full: WhenFull) -> Self {
        let script = Script { name: "old", ..Script::default() };
        Self::new(2, script, Arc::new(MemoryBuffer::new(max_bytes, when_full)))
    }

    /// A buffer that waits, and batches that do so for a moment only.
    fn hasty(max_bytes: u64) -> Self {
        let script = Script { name: "old", ..Script::default() };
        let buffer = Arc::new(MemoryBuffer::new(max_bytes, WhenFull::Wait));
        Self::with_patience(2, script, buffer, MOMENT)
    }

    async fn submit_waiting(&self, texts: &[&str], wait: Duration) -> Receipt {
        let first = self.position.fetch_add(texts.len() as u64, Ordering::Relaxed);
        self.front.intake.submit(batch(texts, first), wait).await.unwrap()
    }

    async fn submit(&self, texts: &[&str]) -> Receipt {
        self.submit_waiting(texts, Duration::from_secs(20)).await
    }

    /// Stores one event for which there is room. It may be late where time is short and the machine
    /// stands still.
    async fn store_one(&self) {
        while self.submit(&["ready"]).await.buffered().await.is_err() {}
    }

    async fn bodies(&self, limit: usize) -> Vec<String> {
        let mut bodies = Vec::new();
        while bodies.len() < limit {
            for (_, stored) in self.buffer.read(limit - bodies.len(), u64::MAX).await {
                bodies.push(String::from_utf8(stored.operations[0].body.to_vec()).unwrap());
            }
        }
        bodies
    }

    fn settle(&self, sequence: u64) {
        self.front.account.settle(Sequence(sequence), &Outcome::Delivered);
        self.buffer.settle(&[(Sequence(sequence), Outcome::Delivered)]);
    }

    fn count(&self, kind: OutcomeKind) -> u64 {
        self.front.ledger.snapshot().total(kind)
    }

    /// The law of the ledger, that it knows exactly what the buffer holds, and that the buffer's
    /// own ledger was told every ending of what was never stored.
    fn check_law(&self) {
        let mut now = self.front.ledger.snapshot();
        assert_eq!(now.gap(), 0);
        assert_eq!(now.buffered, self.buffer.stats().events);
        assert_eq!(now.total(OutcomeKind::Failed), self.drawer.count() as u64);
        now.ended.retain(|(kind, _), _| *kind != OutcomeKind::Delivered);
        assert_eq!(self.buffer.recorded.lock().unwrap().ended, now.ended);
    }
}

#[tokio::test]
async fn every_event_of_a_batch_ends_or_waits_and_is_counted_once() {
    let bench = Bench::simple(PLENTY, WhenFull::Refuse);
    let mut receipt = bench.submit(&["ready", "drop", "fail", "ready"]).await;
    let summary = receipt.buffered().await.unwrap();
    assert_eq!((summary.received, summary.buffered, summary.failed), (4, 2, 1));
    assert_eq!(bench.count(OutcomeKind::Dropped), 1);
    assert_eq!(bench.drawer.count(), 1);
    bench.check_law();
    bench.settle(0);
    bench.settle(1);
    assert_eq!(receipt.settled().await.unwrap().buffered, 0);
    bench.check_law();
}

#[tokio::test]
async fn batches_are_mapped_at_once_and_stored_in_order_of_arrival() {
    // Both threads must be in a walk for either to go on; then the shorter batch is ready first.
    let meeting = Some(Arc::new(Barrier::new(2)));
    let script = Script { name: "old", meeting, ..Script::default() };
    let buffer = Arc::new(MemoryBuffer::new(PLENTY, WhenFull::Wait));
    let bench = Bench::new(2, script, buffer);
    let long: Vec<_> = std::iter::once("meet").chain(std::iter::repeat_n("ready", 300)).collect();
    for _ in 0..5 {
        bench.submit(&long).await;
        bench.submit(&["meet"]).await;
    }
    let bodies = bench.bodies(5 * 302).await;
    let expected: Vec<_> = (0..5 * 302).map(|n| format!("old {n}")).collect();
    assert_eq!(bodies, expected);
}

#[tokio::test]
async fn a_refused_batch_leaves_nothing_behind() {
    let bench = Bench::simple(event_bytes(), WhenFull::Refuse);
    bench.submit(&["ready"]).await.buffered().await.unwrap();
    let refused = bench.submit(&["ready", "fail", "drop"]).await.buffered().await.unwrap_err();
    assert!(matches!(refused, Refused::Full(_)));
    assert_eq!(bench.front.ledger.snapshot().received, 1);
    assert_eq!(bench.drawer.count(), 0);
    bench.check_law();
    assert_eq!(bench.front.intake.bytes_inside(), 0, "the budget came back");
}

#[tokio::test]
async fn a_full_buffer_does_not_refuse_what_needs_no_room() {
    let bench = Bench::simple(event_bytes(), WhenFull::Refuse);
    bench.submit(&["ready"]).await.buffered().await.unwrap();
    let summary = bench.submit(&["drop", "fail"]).await.buffered().await.unwrap();
    assert_eq!(summary.received, 2);
    bench.check_law();
}

#[tokio::test]
async fn a_patient_batch_waits_for_room_instead_of_being_refused() {
    let bench = Bench::simple(event_bytes(), WhenFull::Refuse);
    bench.submit(&["ready"]).await.buffered().await.unwrap();
    let mut waiting = bench.submit_waiting(&["ready"], Duration::MAX).await;
    let early = tokio::time::timeout(Duration::from_millis(20), waiting.buffered()).await;
    assert!(early.is_err());
    bench.settle(0);
    waiting.buffered().await.unwrap();
    bench.check_law();
}

#[tokio::test]
async fn a_batch_is_refused_when_its_time_is_over_and_the_buffer_still_full() {
    let bench = Bench::hasty(event_bytes());
    bench.store_one().await;
    let mut late = bench.submit(&["ready"]).await;
    assert!(matches!(late.buffered().await, Err(Refused::Full(_))));
    bench.settle(0);
    bench.store_one().await;
    bench.check_law();
}

#[tokio::test]
async fn a_patient_batch_does_not_hold_others_beyond_their_deadline() {
    let bench = Bench::hasty(event_bytes());
    bench.store_one().await;
    let mut patient = bench.submit_waiting(&["ready"], Duration::MAX).await;
    let mut behind = [bench.submit(&["ready"]).await, bench.submit(&["drop"]).await];
    for receipt in &mut behind {
        assert!(matches!(receipt.buffered().await, Err(Refused::Full(_))));
    }
    bench.settle(0);
    patient.buffered().await.unwrap();
    bench.check_law();
    assert_eq!(bench.front.ledger.snapshot().received, 2, "what was refused is not counted");
}

#[tokio::test]
async fn a_late_batch_is_not_stored_even_if_there_is_room_again() {
    let bench = Bench::hasty(event_bytes());
    bench.store_one().await;
    let mut patient = bench.submit_waiting(&["ready"], Duration::MAX).await;
    let mut late = bench.submit(&["drop"]).await;
    tokio::time::sleep(2 * MOMENT).await;
    bench.settle(0);
    patient.buffered().await.unwrap();
    assert!(matches!(late.buffered().await, Err(Refused::Full(_))));
    assert_eq!(bench.front.ledger.snapshot().received, 2);
}

#[tokio::test]
async fn a_kept_event_keeps_nothing_of_what_it_was_received_with() {
    let bench = Bench::simple(PLENTY, WhenFull::Refuse);
    let body = Bytes::from(b"ready fail drop secret".to_vec());
    let mut whole = batch(&[""; 3], 0);
    for (element, range) in whole.elements.iter_mut().zip([0..5, 6..10, 11..15]) {
        element.json = Ok(body.slice(range));
    }
    bench.front.intake.submit(whole, Duration::ZERO).await.unwrap().buffered().await.unwrap();
    assert_eq!((bench.buffer.stats().events, bench.drawer.count()), (1, 1));
    assert!(body.is_unique(), "the body is held by an event that was kept");
    assert_eq!(bench.buffer.read(1, u64::MAX).await[0].1.original.raw, "ready");
    assert_eq!(bench.drawer.letters.lock().unwrap()[0].original.raw, "fail");
}

#[tokio::test]
async fn a_panic_ends_one_event_and_nothing_else() {
    let bench = Bench::simple(PLENTY, WhenFull::Wait);
    for _ in 0..4 {
        let mut receipt = bench.submit(&["ready", "panic", "ready"]).await;
        let summary = receipt.buffered().await.unwrap();
        assert_eq!((summary.received, summary.buffered, summary.failed), (3, 2, 1));
    }
    let now = bench.front.ledger.snapshot();
    assert_eq!(now.count(OutcomeKind::Failed, ReasonCode::ScriptPanic), 4);
    assert_eq!(bench.drawer.count(), 0, "its consent may not have been asked yet");
    assert_eq!(now.gap(), 0);
}

#[tokio::test]
async fn a_reload_reaches_later_batches_and_makes_each_thread_one_new_walk() {
    let bench = Bench::simple(PLENTY, WhenFull::Wait);
    bench.submit(&["ready"]).await.buffered().await.unwrap();
    bench.rules.store(Arc::new(Script { name: "new", ..Script::default() }));
    for _ in 0..10 {
        bench.submit(&["ready"]).await.buffered().await.unwrap();
    }
    let bodies = bench.bodies(11).await;
    assert_eq!(bodies[0], "old 0");
    assert!(bodies[1..].iter().all(|body| body.starts_with("new")), "{bodies:?}");
    assert!(bench.rules.load().walkers.load(Ordering::Relaxed) <= 2);
}

#[tokio::test]
async fn failing_dead_letters_refuse_the_batch_and_count_what_cannot_be_taken_back() {
    let bench = Bench::simple(PLENTY, WhenFull::Wait);
    bench.drawer.break_down(true);
    let refused = bench.submit(&["ready", "fail", "drop"]).await.buffered().await.unwrap_err();
    assert_eq!(refused, Refused::Unavailable);
    let received = bench.front.ledger.snapshot().received;
    assert_eq!(received, 2, "the buffer has one event, and counts the one that ended beside it");
    bench.check_law();
    assert!(bench.front.trouble.recent().is_some());

    // Known to be broken: now nothing is stored before the letters are.
    let refused = bench.submit(&["ready", "fail"]).await.buffered().await.unwrap_err();
    assert_eq!(refused, Refused::Unavailable);
    assert_eq!(bench.buffer.stats().events, 1);
    bench.submit(&["ready"]).await.buffered().await.unwrap();

    bench.drawer.break_down(false);
    bench.submit(&["ready", "fail"]).await.buffered().await.unwrap();
    assert_eq!((bench.buffer.stats().events, bench.drawer.count()), (3, 1));
    assert!(bench.front.trouble.recent().is_none());
    bench.check_law();
}

#[tokio::test]
async fn letters_that_were_written_before_a_refusal_are_recorded() {
    let bench = Bench::simple(event_bytes(), WhenFull::Refuse);
    bench.submit(&["ready"]).await.buffered().await.unwrap();
    bench.front.trouble.failed(&std::io::Error::other("no space"));
    let refused = bench.submit(&["ready", "fail", "drop"]).await.buffered().await.unwrap_err();
    assert!(matches!(refused, Refused::Full(_)));
    assert_eq!((bench.drawer.count(), bench.count(OutcomeKind::Failed)), (1, 1));
    assert_eq!(bench.count(OutcomeKind::Dropped), 0, "the sender sends it again");
    bench.check_law();
}

#[tokio::test]
async fn events_of_an_earlier_life_settle_beside_new_ones() {
    let buffer = Arc::new(MemoryBuffer::new(PLENTY, WhenFull::Refuse));
    let earlier = Bench::new(1, Script { name: "old", ..Script::default() }, buffer.clone());
    earlier.submit(&["ready"; 3]).await.buffered().await.unwrap();
    earlier.settle(0);

    let bench = Bench::new(1, Script { name: "new", ..Script::default() }, buffer);
    bench.check_law();
    assert_eq!(bench.front.ledger.snapshot().recovered, 2);
    bench.settle(2);
    let mut receipt = bench.submit(&["ready", "drop"]).await;
    receipt.buffered().await.unwrap();
    bench.settle(3);
    receipt.settled().await.unwrap();
    bench.check_law();
    bench.settle(1);
    bench.check_law();
    let now = bench.front.ledger.snapshot();
    assert_eq!((now.total(OutcomeKind::Delivered), now.buffered), (3, 0));
}

#[tokio::test]
async fn dead_letters_that_recover_in_time_are_not_noticed_by_the_sender() {
    let bench = Bench::simple(PLENTY, WhenFull::Wait);
    bench.drawer.break_down(true);
    let mut receipt = bench.submit_waiting(&["fail"], Duration::MAX).await;
    let early = tokio::time::timeout(Duration::from_millis(20), receipt.buffered()).await;
    assert!(early.is_err());
    bench.drawer.break_down(false);
    assert_eq!(receipt.buffered().await.unwrap().failed, 1);
    bench.check_law();
}

#[tokio::test]
async fn closing_stores_what_is_inside_and_then_closes_the_buffer() {
    let bench = Bench::simple(PLENTY, WhenFull::Wait);
    let mut receipts = Vec::new();
    for _ in 0..50 {
        receipts.push(bench.submit(&["ready", "drop"]).await);
    }
    bench.front.intake.close();
    bench.front.appender.await.unwrap();
    for mut receipt in receipts {
        receipt.buffered().now_or_never().unwrap().unwrap();
    }
    assert_eq!(bench.buffer.append(Vec::new()).await, Err(AppendError::Closed));
    assert_eq!(bench.buffer.stats().events, 50);
}

/// Notes how appends come, and answers the first only when told.
#[derive(Debug)]
struct Slow {
    inner: MemoryBuffer,
    appends: Mutex<Vec<usize>>,
    go: tokio::sync::Semaphore,
}

impl Buffer for Slow {
    fn append(&self, events: Vec<Stored>) -> BoxFuture<'_, Result<Sequence, AppendError>> {
        self.appends.lock().unwrap().push(events.len());
        async {
            self.go.acquire().await.unwrap().forget();
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
        self.inner.flush()
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
        self.inner.stats()
    }
    fn durable(&self) -> bool {
        false
    }
}

fn slow(max_bytes: u64) -> Arc<Slow> {
    let inner = MemoryBuffer::new(max_bytes, WhenFull::Refuse);
    Arc::new(Slow { inner, appends: Mutex::default(), go: tokio::sync::Semaphore::new(0) })
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn what_was_mapped_during_an_append_is_stored_by_one_further_append() {
    let buffer = slow(PLENTY);
    let script = Script { name: "old", ..Script::default() };
    let bench = Bench::new(2, script, buffer.clone());
    let mut receipts = vec![bench.submit(&["ready"]).await];
    until(|| buffer.appends.lock().unwrap().len() == 1).await;
    for _ in 0..10 {
        receipts.push(bench.submit(&["ready"]).await);
    }
    let busy = Arc::clone(&bench.front.busy);
    let worked = move || busy.batches() == 11;
    until(worked).await;
    buffer.go.add_permits(2);
    for mut receipt in receipts {
        receipt.buffered().await.unwrap();
    }
    assert_eq!(*buffer.appends.lock().unwrap(), [1, 10]);
    bench.check_law();
}

#[tokio::test]
async fn batches_that_came_while_a_full_buffer_was_asked_are_refused_with_the_first() {
    let buffer = slow(event_bytes());
    let script = Script { name: "old", ..Script::default() };
    let bench = Bench::new(1, script, buffer.clone());
    buffer.go.add_permits(1);
    bench.submit(&["ready"]).await.buffered().await.unwrap();
    let mut first = bench.submit(&["ready"]).await;
    until(|| buffer.appends.lock().unwrap().len() == 2).await;
    let mut second = bench.submit(&["ready"]).await;
    let mut needs_nothing = bench.submit(&["drop"]).await;
    let busy = Arc::clone(&bench.front.busy);
    until(move || busy.batches() == 4).await;
    buffer.go.add_permits(1);
    assert!(matches!(first.buffered().await, Err(Refused::Full(_))));
    assert!(matches!(second.buffered().await, Err(Refused::Full(_))));
    needs_nothing.buffered().await.unwrap();
    assert_eq!(buffer.appends.lock().unwrap().len(), 2, "the second was not tried");
    bench.check_law();
}
