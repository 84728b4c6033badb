//! The sink: filter → map → buffer → deliver behind one type.
//!
//! [`CustomerIoSink`] owns the running stages; [`CustomerIoSink::builder`] begins one. [`SinkHandle`]
//! is what sources, endpoints, and embedding programs hold: it takes [`EventBatch`]es and gives
//! [`Receipt`]s, and shows the state. It installs nothing global: no subscriber, recorder, panic
//! hook, TLS provider, or signal handler.

mod account;
mod append;
mod builder;
mod front;
mod group;
mod notice;
pub(crate) mod parts;
mod reorder;
pub(crate) mod rules;
pub(crate) mod scripts;
mod service;
mod trouble;
mod workers;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};
use futures_util::future::FusedFuture;
use futures_util::{FutureExt, Stream, StreamExt};
use tokio::task::{AbortHandle, JoinHandle};

use self::account::Account;
use self::front::{Front, Width};
use self::notice::Notice;
use self::trouble::Trouble;
use self::workers::Busy;
use crate::buffer::Buffer;
use crate::config::CustomerIoConfig;
use crate::data_dir::DataDir;
use crate::delivery;
#[cfg(feature = "pipeline")]
use crate::delivery::{DeadLetters, Destination};
use crate::outcome::{Ledger, LedgerSnapshot};
use crate::source::PROGRAM;
use crate::source::intake::{Answer, PATIENCE, RoomWait};
use crate::source::received::Received;

pub use crate::buffer::BufferStats;
pub use crate::delivery::{DeliveryHandle, DeliveryStatus};
pub use crate::source::{EventBatch, Incoming, Intake, Origin, Receipt, Refused, Summary};
#[cfg(feature = "cli")]
pub(crate) use builder::BUFFER_DIR;
pub use builder::Builder;
pub(crate) use parts::Parts;
pub(crate) use rules::Rules;
pub use scripts::test_mappings;
pub(crate) use workers::on_mapping_stack;

/// How long a drain waits for the buffer to write what ended last. A disk that works needs a
/// moment; one that hangs must not keep the process from leaving.
const FLUSH_PATIENCE: Duration = Duration::from_secs(5);

/// A running sink.
///
/// ```
/// use std::time::Duration;
///
/// use rudder_customerio::config::CustomerIoConfig;
/// use rudder_customerio::sandbox::Sandbox;
/// use rudder_customerio::sink::CustomerIoSink;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// // A local Customer.io; without an endpoint, events go to the region's.
/// let sandbox = Sandbox::builder().start().await?;
/// let mut customerio = CustomerIoConfig::new("site id", "API key");
/// customerio.endpoint = Some(sandbox.base_url().parse()?);
///
/// let sink = CustomerIoSink::builder(customerio).data_dir(dir.path()).build().await?;
/// let events = [
///     r#"{"type":"identify","userId":"u-1","traits":{"plan":"pro"}}"#,
///     r#"{"type":"track","userId":"u-1","event":"Signed Up"}"#,
/// ];
/// let summary = sink.run(futures_util::stream::iter(events)).await?;
/// assert_eq!((summary.received, summary.delivered), (2, 2));
/// assert_eq!(sandbox.people().len(), 1);
///
/// // What is not delivered within this time is delivered after the next start.
/// assert!(sink.drain(Duration::from_secs(30)).await.is_clean());
/// # sandbox.shutdown().await;
/// # Ok(()) }
/// ```
///
/// # Runtime
///
/// The stages are tasks of the tokio runtime on which the sink is built, which needs its timer and
/// its I/O enabled and may have one thread or many. Mapping has threads of its own and never
/// blocks that runtime. Handles and receipts work on any thread, in any runtime, and without one.
///
/// When that runtime is shut down without a [drain](CustomerIoSink::drain), receipts are refused
/// with [`Refused::Closed`], and what the buffer holds on disk is delivered after the next start.
///
/// # Several sinks
///
/// A process may have several, each with a data directory of its own. Their metrics have the same
/// labels, so counters add up and gauges show the last.
///
/// # Drop
///
/// Dropping it closes its intake; what is inside still goes its way in the background.
#[derive(Debug)]
pub struct CustomerIoSink {
    handle: SinkHandle,
    appender: JoinHandle<()>,
    delivery: JoinHandle<()>,
}

/// Access to a running sink; cheap to clone.
///
/// It is a [`tower_service::Service`] of [`EventBatch`], for a router that is made of those.
#[derive(Clone, Debug)]
pub struct SinkHandle {
    shared: Arc<Shared>,
    /// Where [`tower_service::Service::poll_ready`] of this very handle waits.
    room: RoomWait,
}

#[derive(Debug)]
struct Shared {
    intake: Intake,
    ledger: Arc<Ledger>,
    account: Arc<Account>,
    trouble: Arc<Trouble>,
    busy: Arc<Busy>,
    threads: usize,
    rules: Arc<ArcSwap<Rules>>,
    loaded_at: ArcSwap<DateTime<Utc>>,
    buffer: Arc<dyn Buffer>,
    data_dir: Option<Arc<DataDir>>,
    #[cfg(feature = "pipeline")]
    destination: Arc<dyn Destination>,
    delivery: DeliveryHandle,
    #[cfg(feature = "pipeline")]
    dead_letters: Arc<DeadLetters>,
    /// Appender and delivery, which end after the intake only.
    stages: [AbortHandle; 2],
    notice: Notice,
}

/// Everything that metrics, `/status`, and `/readyz` show of a sink.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SinkStats {
    /// The account of all events of this life of the process.
    pub ledger: LedgerSnapshot,
    /// The account of all lives of the buffer, if it keeps one.
    pub all_lives: Option<LedgerSnapshot>,
    /// Fill level of the buffer.
    pub buffer: BufferStats,
    /// State of the delivery.
    pub delivery: DeliveryStatus,
    /// Working time of all mapping threads together.
    pub mapping_worked: Duration,
    /// Number of mapping threads.
    pub mapping_threads: usize,
    /// Hash of the scripts in force.
    pub script_hash: Arc<str>,
    /// Since when they are in force.
    pub scripts_loaded_at: DateTime<Utc>,
    /// Why new events cannot be accepted; empty when they can.
    pub unavailable: Vec<String>,
}

/// How a drain ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Drained {
    /// Whether everything that had been accepted was mapped and stored. False also when the time
    /// was over before that was known.
    pub stored: bool,
    /// Events that are still in the buffer.
    pub undelivered: u64,
    /// Whether these survive the end of the process.
    pub durable: bool,
    /// What is wrong with the buffer, if so and the next start will not deliver them by itself.
    pub trouble: Option<String>,
    /// The final account.
    pub ledger: LedgerSnapshot,
}

impl Drained {
    /// Tells whether nothing was lost with the process. Events that were never acknowledged are
    /// their senders' and no loss.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.undelivered == 0 || self.durable
    }
}

impl CustomerIoSink {
    /// Begins a sink for a workspace at Customer.io, with defaults for everything else.
    ///
    /// Takes the configuration's section as [`Config`](crate::config::Config) has it, where it may
    /// be missing; [`Builder::build`] refuses that.
    pub fn builder(customerio: impl Into<Option<CustomerIoConfig>>) -> Builder {
        Builder::new(customerio.into())
    }

    /// Starts all stages on the current runtime.
    ///
    /// # Errors
    ///
    /// When the operating system refuses a thread.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub(crate) fn start(parts: Parts) -> std::io::Result<Self> {
        let Parts { rules, buffer, destination, customerio, dead_letters, threads, .. } = parts;
        let threads = threads.unwrap_or_else(cores).max(1);
        let width = Width { threads, budget: parts.intake_bytes, patience: PATIENCE };
        let rules = Arc::new(ArcSwap::from_pointee(rules));
        let front = Front::start(width, &rules, &buffer, dead_letters.clone())?;
        let account = Arc::clone(&front.account);
        let data_dir = parts.data_dir;
        // Delivery ends last of all tasks, also of a sink that is only dropped. However it ends,
        // nothing settles any more.
        let held = (data_dir.clone(), AbandonAtEnd(Arc::clone(&account)));
        #[cfg(feature = "pipeline")]
        let letters = Arc::clone(&dead_letters);
        let (delivery, task) = delivery::start_paced(
            Arc::clone(&buffer),
            Arc::clone(&destination),
            &customerio,
            dead_letters,
            Arc::new(move |sequence, outcome| {
                let _held = &held;
                account.settle(sequence, outcome);
            }),
            parts.pace,
        );
        let shared = Shared {
            intake: front.intake,
            notice: Notice::start(Arc::clone(&front.ledger)),
            ledger: front.ledger,
            account: front.account,
            trouble: front.trouble,
            busy: front.busy,
            threads,
            rules,
            loaded_at: ArcSwap::from_pointee(Utc::now()),
            buffer,
            data_dir,
            #[cfg(feature = "pipeline")]
            destination,
            delivery,
            #[cfg(feature = "pipeline")]
            dead_letters: letters,
            stages: [front.appender.abort_handle(), task.abort_handle()],
        };
        let handle = SinkHandle { shared: Arc::new(shared), room: RoomWait::default() };
        Ok(Self { handle, appender: front.appender, delivery: task })
    }

    /// Returns access that can be cloned and sent around. Handles do not keep the sink running, but
    /// its data directory taken.
    #[must_use]
    pub fn handle(&self) -> SinkHandle {
        self.handle.clone()
    }

    /// Takes everything from a stream, and returns after the last of its events has ended:
    /// delivered, kept back by a rule, or a dead letter.
    ///
    /// The summary counts the events of this run alone; others may be handed in meanwhile.
    ///
    /// An item is a batch, or whatever makes one, such as one event's text. Single events are
    /// joined on the way to the disk and to Customer.io; batches save some work before that.
    ///
    /// **Order.** Events enter in the stream's order, and no operation overtakes an earlier one of
    /// the same person.
    ///
    /// **Back pressure.** The stream is polled while there is room: in memory
    /// ([`Builder::intake_bytes`]), and behind that in the buffer ([`Builder::buffer`]). An outage
    /// of Customer.io fills the buffer before it stops the stream.
    ///
    /// **Errors of the stream** are its owner's, since only he knows whether to go on: map what
    /// cannot be skipped to the end of the stream.
    ///
    /// ```
    /// # use futures_util::{StreamExt, future::ready, stream};
    /// # async fn example(sink: rudder_customerio::sink::CustomerIoSink) -> Result<(), Box<dyn std::error::Error>> {
    /// # let lines = stream::iter([std::io::Result::Ok(String::new())]);
    /// let mut failure = None;
    /// let events = lines.scan(&mut failure, |failure, line| {
    ///     ready(line.map_err(|error| **failure = Some(error)).ok())
    /// });
    /// let summary = sink.run(events).await?;
    /// if let Some(error) = failure {
    ///     eprintln!("the input broke off after {summary}: {error}");
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Refused::Closed`] at once when the intake is closed or the sink's runtime ends; the
    /// ledger has what was taken before.
    ///
    /// # Cancel safety
    ///
    /// What was taken goes its way when the future is dropped. One item is lost if it waited for
    /// room; so end the stream instead (`take_until`), and drop the future only to end the wait
    /// for delivery. [`SinkHandle::submit_all`] tells the two apart.
    pub async fn run<B: Into<EventBatch>>(
        &self,
        batches: impl Stream<Item = B>,
    ) -> Result<Summary, Refused> {
        self.handle.submit_all(batches).await?.settled().await
    }

    /// Closes the intake, maps and stores what is inside, and delivers until everything is
    /// delivered or `timeout` is over. What is left then stays in the buffer.
    ///
    /// Receipts of what is left are refused with [`Refused::Closed`].
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the sink is as if it were dropped: closed, and still at work.
    pub async fn drain(self, timeout: Duration) -> Drained {
        self.drain_until(tokio::time::sleep(timeout)).await
    }

    /// As [`CustomerIoSink::drain`], with any event as the end of patience, such as a second
    /// signal.
    pub async fn drain_until(self, enough: impl Future<Output = ()>) -> Drained {
        self.drain_and_flush(enough, FLUSH_PATIENCE).await
    }

    async fn drain_and_flush(
        mut self,
        enough: impl Future<Output = ()>,
        flush_patience: Duration,
    ) -> Drained {
        let shared = Arc::clone(&self.handle.shared);
        shared.intake.close();
        let mut stored = false;
        let mut appender = (&mut self.appender).fuse();
        let mut delivery = (&mut self.delivery).fuse();
        let all = async {
            stored = note_panic((&mut appender).await);
            note_panic((&mut delivery).await);
        };
        tokio::select! {
            // An end that is there already counts before an end of patience.
            biased;
            () = all => {}
            () = enough => {}
        }
        shared.stages.iter().for_each(AbortHandle::abort);
        // A stage may be in the midst of its work; what it does until it stops is to be seen below.
        if !appender.is_terminated() {
            stored = note_panic(appender.await);
        }
        if !delivery.is_terminated() {
            note_panic(delivery.await);
        }
        shared.account.abandon();
        // What was delivered is not to be sent again after the next start.
        if tokio::time::timeout(flush_patience, shared.buffer.flush()).await.is_err() {
            tracing::warn!(
                "The buffer could not write in time what ended last; these events are sent again, \
                 with the same ids, after the next start.",
            );
            // Its drop would wait for the same write.
            std::mem::forget(Arc::clone(&shared.buffer));
        }
        shared.notice.tell();
        let (stats, durable) = (shared.buffer.stats(), shared.buffer.durable());
        // A ledger of all lives is kept where events should survive.
        let kept = durable || shared.buffer.all_lives().is_none();
        let trouble = stats.unavailable.filter(|_| stats.damaged || !kept);
        Drained {
            stored,
            undelivered: stats.events,
            durable,
            trouble,
            ledger: shared.ledger.snapshot(),
        }
    }
}

impl Drop for CustomerIoSink {
    fn drop(&mut self) {
        self.handle.shared.intake.close();
    }
}

impl SinkHandle {
    /// Hands in a batch, or whatever makes one, waiting for room as long as it takes.
    ///
    /// Batches enter in the order of the calls. When this returns, the events are in memory alone;
    /// [`Receipt::buffered`] tells when they are safe, and [`Receipt::settled`] when they have
    /// ended. Nothing needs to be awaited before the next call.
    ///
    /// ```
    /// # use rudder_customerio::sink::{EventBatch, Refused, SinkHandle};
    /// # async fn example(handle: SinkHandle) -> Result<(), Refused> {
    /// let event = EventBatch::from(r#"{"type":"page","userId":"u-1","name":"Home"}"#).source("shop");
    /// let receipt = handle.submit(event).await?;
    /// let summary = receipt.settled().await?;
    /// assert_eq!(summary.received, 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Refused::Closed`] when the sink is closed.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped before it answers, the batch was not taken.
    pub async fn submit(&self, batch: impl Into<EventBatch>) -> Result<Receipt, Refused> {
        let (answer, receipt) = Answer::pair();
        self.enter(batch.into(), answer).await?;
        Ok(receipt)
    }

    /// Hands in everything from a stream, in order, and returns one receipt for all of it.
    ///
    /// This is [`CustomerIoSink::run`] up to the end of the stream. Unlike a run, it leaves to its
    /// caller how long the delivery is waited for:
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use futures_util::{Stream, StreamExt};
    /// # use rudder_customerio::sink::{CustomerIoSink, Refused};
    /// # async fn example(sink: CustomerIoSink, events: impl Stream<Item = String>, stop: impl Future<Output = ()>) -> Result<(), Refused> {
    /// let receipt = sink.handle().submit_all(events.take_until(stop)).await?;
    /// match tokio::time::timeout(Duration::from_secs(30), receipt.settled()).await {
    ///     Ok(summary) => println!("{}", summary?),
    ///     Err(_) => println!("what is left is delivered after the next start"),
    /// }
    /// sink.drain(Duration::ZERO).await;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Refused::Closed`] at once when the intake is closed or the sink's runtime ends.
    ///
    /// # Cancel safety
    ///
    /// As [`CustomerIoSink::run`].
    pub async fn submit_all<B: Into<EventBatch>>(
        &self,
        batches: impl Stream<Item = B>,
    ) -> Result<Receipt, Refused> {
        let receipt = Receipt::empty();
        // Stands for the batches to come, so that the receipt is not settled in between.
        let more = receipt.answer();
        let mut batches = std::pin::pin!(batches);
        loop {
            let next = tokio::select! {
                biased;
                refused = receipt.refused() => return Err(refused),
                () = self.shared.intake.closed() => return Err(Refused::Closed),
                next = batches.next() => next,
            };
            let Some(batch) = next else { break };
            self.enter(batch.into(), receipt.answer()).await?;
        }
        drop(more.accept(Summary::default()));
        Ok(receipt)
    }

    async fn enter(&self, batch: EventBatch, answer: Answer) -> Result<(), Refused> {
        let answer = answer.counting(Received::new(&batch, PROGRAM));
        self.shared.intake.enter(batch, answer, Duration::MAX).await
    }

    /// As [`SinkHandle::submit`], for one who was told that there is room.
    fn submit_now(&self, batch: EventBatch) -> Result<Receipt, Refused> {
        let (answer, receipt) = Answer::pair();
        let answer = answer.counting(Received::new(&batch, PROGRAM));
        self.shared.intake.enter_now(batch, answer)?;
        Ok(receipt)
    }

    /// Returns the door for sources, which can also limit their wait.
    #[must_use]
    pub fn intake(&self) -> &Intake {
        &self.shared.intake
    }

    /// Returns the account of all events.
    #[must_use]
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.shared.ledger
    }

    /// Returns what is in force now.
    #[cfg(feature = "pipeline")]
    pub(crate) fn rules(&self) -> Arc<Rules> {
        self.shared.rules.load_full()
    }

    /// Puts other rules in force. Batches whose mapping has begun keep the old ones.
    ///
    /// Each mapping thread takes a worker of [`Mapping::prepare`](crate::mapping::Mapping::prepare);
    /// for what is not prepared, its next batch waits while it compiles.
    pub(crate) fn put_in_force(&self, rules: Rules) {
        let scripts = Arc::clone(&rules.mapping);
        let old = self.shared.rules.swap(Arc::new(rules));
        if !Arc::ptr_eq(&old.mapping, &scripts) {
            self.shared.loaded_at.store(Arc::new(Utc::now()));
        }
    }

    /// Returns how many threads map.
    pub(crate) fn mapping_threads(&self) -> usize {
        self.shared.threads
    }

    /// Returns the control of the delivery.
    #[must_use]
    pub fn delivery(&self) -> &DeliveryHandle {
        &self.shared.delivery
    }

    /// Returns the writer of dead letters.
    #[cfg(feature = "pipeline")]
    pub(crate) fn dead_letters(&self) -> &Arc<DeadLetters> {
        &self.shared.dead_letters
    }

    /// Returns where events wait.
    #[must_use]
    #[cfg(feature = "pipeline")]
    pub(crate) fn buffer(&self) -> &Arc<dyn Buffer> {
        &self.shared.buffer
    }

    /// Returns where events are sent to.
    #[must_use]
    #[cfg(feature = "pipeline")]
    pub(crate) fn destination(&self) -> &Arc<dyn Destination> {
        &self.shared.destination
    }

    /// Returns the directory in which everything is stored, if the sink was built with one.
    #[must_use]
    pub fn data_dir(&self) -> Option<&Path> {
        self.shared.data_dir.as_deref().map(DataDir::path)
    }

    /// Returns the hold on that directory.
    #[cfg(feature = "pipeline")]
    pub(crate) fn held_dir(&self) -> Option<&Arc<DataDir>> {
        self.shared.data_dir.as_ref()
    }

    /// Tells whether what waits in the buffer survives the end of the process.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.shared.buffer.durable()
    }

    /// Returns why new events cannot be accepted; empty when they can.
    #[must_use]
    pub fn unavailable(&self) -> Vec<String> {
        self.unavailable_with(&self.shared.buffer.stats())
    }

    fn unavailable_with(&self, buffer: &BufferStats) -> Vec<String> {
        let shared = &*self.shared;
        let closing = shared.intake.is_closed();
        let broken = !closing && shared.stages.iter().any(AbortHandle::is_finished);
        let reasons = [
            closing.then(|| "shutting down".to_owned()),
            buffer.unavailable.clone(),
            shared.trouble.recent(),
            broken.then(|| "a stage has ended unexpectedly; restart the process".to_owned()),
        ];
        reasons.into_iter().flatten().collect()
    }

    /// Returns what metrics and endpoints show.
    #[must_use]
    pub fn stats(&self) -> SinkStats {
        let shared = &*self.shared;
        let buffer = shared.buffer.stats();
        let damaged = buffer.damaged;
        SinkStats {
            ledger: shared.ledger.snapshot(),
            all_lives: shared.buffer.all_lives(),
            unavailable: self.unavailable_with(&buffer),
            buffer,
            delivery: with_damage(shared.delivery.status(), damaged),
            mapping_worked: shared.busy.total(),
            mapping_threads: shared.threads,
            script_hash: Arc::from(shared.rules.load().mapping.hash()),
            scripts_loaded_at: **shared.loaded_at.load(),
        }
    }
}

impl Default for SinkStats {
    fn default() -> Self {
        Self {
            ledger: LedgerSnapshot::default(),
            all_lives: None,
            buffer: BufferStats::default(),
            delivery: DeliveryStatus::default(),
            mapping_worked: Duration::ZERO,
            mapping_threads: 1,
            script_hash: Arc::from(""),
            scripts_loaded_at: DateTime::UNIX_EPOCH,
            unavailable: Vec::new(),
        }
    }
}

/// Ends the wait of all receipts.
struct AbandonAtEnd(Arc<Account>);

impl Drop for AbandonAtEnd {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// Delivery that has nothing to send since the buffer cannot be read is held.
fn with_damage(status: DeliveryStatus, damaged: bool) -> DeliveryStatus {
    if damaged && status.state == "sending" {
        return DeliveryStatus {
            state: "held",
            reason: Some("buffer_damaged".to_owned()),
            ..status
        };
    }
    status
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Tells whether a stage ended by itself; a panic is logged.
fn note_panic(end: Result<(), tokio::task::JoinError>) -> bool {
    if end.as_ref().is_err_and(tokio::task::JoinError::is_panic) {
        crate::telemetry::error("panic", "sink");
        tracing::error!("A stage of the sink panicked; what it had not finished is not settled.");
    }
    end.is_ok()
}

#[cfg(test)]
pub(crate) mod tests;
